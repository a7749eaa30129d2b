//! Folds over dimensions.

use super::compile::REDUCE;
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, Walk, grid_of, number, padded};
use crate::shape::{Layout, MAX_RANK};
use crate::{DType, OpContext, ReduceOp, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// More elements than this are folded by a block, fewer by a warp.
const FOR_A_BLOCK: usize = 1024;

/// `Arguments` of `reduce.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Reduce {
    out: u64,
    source: View,
    results: u64,
    elements: u64,
    divisor: f64,
    kept_lengths: [i64; MAX_RANK],
    kept_strides: [i64; MAX_RANK],
    lengths: [i64; MAX_RANK],
    strides: [i64; MAX_RANK],
    kept_rank: i64,
    rank: i64,
    dtype: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Reduce {}

/// What a fold is in CUDA C. Sums of floats are kept in double precision, as on the CPU.
pub(super) fn defines(op: ReduceOp, floats: bool, by_blocks: bool) -> Vec<(&'static str, &'static str)> {
    let value = if floats { "float" } else { "i64" };
    let wide = if floats { "double" } else { "i64" };
    let (fold, start, step, join, finish) = match op {
        ReduceOp::Sum if floats => (wide, "0", "a + v", "a + b", "a"),
        ReduceOp::Sum => (wide, "0", "sum(a, v)", "sum(a, b)", "a"),
        ReduceOp::Mean => (wide, "0", "a + v", "a + b", "a / x.divisor"),
        ReduceOp::Prod if floats => (wide, "1", "a * v", "a * b", "a"),
        ReduceOp::Prod => (wide, "1", "product(a, v)", "product(a, b)", "a"),
        ReduceOp::Amin if floats => {
            (value, "INFINITY", "((v < a || v != v) ? v : a)", "((b < a || b != b) ? b : a)", "a")
        }
        ReduceOp::Amax if floats => {
            (value, "-INFINITY", "((v > a || v != v) ? v : a)", "((b > a || b != b) ? b : a)", "a")
        }
        ReduceOp::Amin => (value, "0x7fffffffffffffffLL", "(v < a ? v : a)", "(b < a ? b : a)", "a"),
        ReduceOp::Amax => (value, "(-0x7fffffffffffffffLL - 1)", "(v > a ? v : a)", "(b > a ? b : a)", "a"),
        ReduceOp::Any => ("int", "0", "(a | (v != 0))", "(a | b)", "a"),
        ReduceOp::All => ("int", "1", "(a & (v != 0))", "(a & b)", "a"),
    };
    vec![
        ("VALUE", value),
        ("FOLD", fold),
        ("START", start),
        ("STEP(a, v)", step),
        ("JOIN(a, b)", join),
        ("FINISH(a)", finish),
        ("SHARE", if by_blocks { "256" } else { "32" }),
    ]
}

impl GpuJob {
    pub(super) fn reduce(
        &self,
        op: &'static str,
        (source, layout): (&Tensor, Layout),
        reduced: &[bool],
        shape: Shape,
        fold: ReduceOp,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let results = shape.elements();
        if results == 0 || source.elements() == 0 {
            return Ok(None);
        }
        let floats = source.dtype().is_float();
        let dtype = match fold {
            ReduceOp::Any | ReduceOp::All => DType::Boolean,
            _ if floats => DType::Float32,
            _ => DType::Int64,
        };
        let part = |wanted: bool| {
            let dims = (0..layout.shape.rank()).filter(|dim| reduced[*dim] == wanted);
            let (lengths, strides): (Vec<usize>, Vec<isize>) =
                dims.map(|dim| (layout.lengths()[dim], layout.strides()[dim])).unzip();
            Walk::new(&lengths, &[&strides])
        };
        let (kept, folded) = (part(false), part(true));
        let elements: usize = folded.lengths.iter().product();
        let by_blocks = elements > FOR_A_BLOCK;
        let blocks = if by_blocks { results } else { results.div_ceil(8) };
        let Some(grid) = grid_of(blocks) else { return Ok(None) };
        let resident = self.resident(op, source, cx)?;
        let mut out = self.allocate(op, results * dtype.size())?;
        let start = Start { op, source: REDUCE, defines: &defines(fold, floats, by_blocks), grid, threads: THREADS };
        self.start(&start, &[&resident], &mut out, |pointers, target| Reduce {
            out: target,
            source: View::new(pointers[0], source.dtype(), layout.offset, &[]),
            results: results as u64,
            elements: elements as u64,
            divisor: elements as f64,
            kept_lengths: padded(&kept.lengths),
            kept_strides: padded(&kept.strides[0]),
            lengths: padded(&folded.lengths),
            strides: padded(&folded.strides[0]),
            kept_rank: kept.lengths.len() as i64,
            rank: folded.lengths.len() as i64,
            dtype: number(dtype).into(),
        })?;
        self.tensor(op, Layout::contiguous(shape), dtype, out, cx).map(Some)
    }
}
