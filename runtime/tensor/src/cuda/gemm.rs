//! Products of matrices: which kernel computes one, and in which tiles.
//!
//! NVIDIA's library takes what suits it, where it is installed (`cublaslt`). Of the rest, operands that are both float16, or
//! both bfloat16, are multiplied on tensor cores, everything else in float32. Sums are float32 everywhere.

use super::buffer::DeviceBuffer;
use super::compile::{GEMM, GEMM_TENSOR_CORES, Source};
use super::cublaslt::Problem;
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, Walk, grid_of, number, padded};
use crate::shape::{Layout, MAX_RANK};
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;
use std::sync::Arc;

/// `Arguments` of `gemm.cuh`. The operands' views have no pointers until a kernel starts.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Gemm {
    pub(super) out: u64,
    pub(super) a: View,
    pub(super) b: View,
    pub(super) bias: View,
    pub(super) batch_lengths: [i64; MAX_RANK],
    pub(super) a_batch: [i64; MAX_RANK],
    pub(super) b_batch: [i64; MAX_RANK],
    pub(super) out_row: i64,
    pub(super) out_batch: i64,
    pub(super) channels: i64,
    pub(super) lengths: [i64; 2],
    pub(super) taps: [i64; 2],
    pub(super) outputs: [i64; 2],
    pub(super) step: [i64; 2],
    pub(super) tap_step: [i64; 2],
    pub(super) shift: [i64; 2],
    pub(super) divide: [i64; 2],
    pub(super) rows: i64,
    pub(super) columns: i64,
    pub(super) inner: i64,
    pub(super) batch_rank: i32,
    pub(super) dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Gemm {}

/// The most numbers that a result is summed up from: kernels count them in 32 bits.
const MAX_INNER: i64 = 1 << 30;

/// Rows and columns of the results of one block: see `gemm.cu`, and `gemm_tensor_cores.cu`, which has both.
const TILE: i64 = 64;
const LARGE_TILE: i64 = 128;

/// Elements of 16 bits that tensor cores' kernels read at once.
const VECTOR: i64 = 8;

/// What the choice of a kernel depends on.
#[derive(Debug, Clone, Copy)]
struct Abilities {
    capability: (u32, u32),
    multiprocessors: u32,
}

/// Which kernel, compiled how, over how many blocks of how many threads.
struct Plan {
    source: Source,
    defines: Vec<(&'static str, &'static str)>,
    grid: (u32, u32, u32),
    threads: u32,
}

impl Gemm {
    /// The same with the addresses of left, right and perhaps bias, and of the result.
    fn at(mut self, pointers: &[u64], target: u64) -> Gemm {
        self.out = target;
        for (view, pointer) in [&mut self.a, &mut self.b, &mut self.bias].into_iter().zip(pointers) {
            view.data = *pointer;
        }
        self
    }

    /// The blocks of tiles of a size, if a grid has room for them.
    fn grid(&self, tile: i64) -> Option<(u32, u32, u32)> {
        let batch: i64 = self.batch_lengths[..self.batch_rank as usize].iter().product();
        let tiles = |length: i64| (length as u64).div_ceil(tile as u64);
        let blocks = (batch as u64).checked_mul(tiles(self.rows))?.checked_mul(tiles(self.columns))?;
        grid_of(usize::try_from(blocks).ok()?)
    }

    /// True when neighbours in the inner dimension (of a convolution, channels) are neighbours in memory and vectors of
    /// them start at multiples of their size.
    fn left_in_vectors(&self, convolution: bool) -> bool {
        let (along, length, others) = match convolution {
            true => (self.a.strides[1], self.channels, [self.a.strides[0], self.a.strides[2], self.a.strides[3]]),
            false => (self.a.strides[1], self.inner, [self.a.strides[0], 0, 0]),
        };
        in_vectors(&self.a, along, length, &others) && all_aligned(&self.a_batch)
    }

    fn right_by_rows(&self) -> bool {
        self.b.strides[1].abs() == 1 && self.columns > 1
    }

    fn right_in_vectors(&self) -> bool {
        let [down, across] = [self.b.strides[0], self.b.strides[1]];
        let fit = match self.right_by_rows() {
            true => in_vectors(&self.b, across, self.columns, &[down]),
            false => in_vectors(&self.b, down, self.inner, &[across]),
        };
        fit && all_aligned(&self.b_batch)
    }

    /// How a GPU computes it; `None` when a grid has no room for it.
    fn plan(&self, dtypes: [DType; 2], convolution: bool, abilities: Abilities) -> Option<Plan> {
        let mut defines = Vec::new();
        defines.extend(convolution.then_some(("CONVOLUTION", "1")));
        defines.extend(self.right_by_rows().then_some(("RIGHT_BY_ROWS", "1")));
        if !suits_tensor_cores(&dtypes, abilities.capability) {
            return Some(Plan { source: GEMM, defines, grid: self.grid(TILE)?, threads: THREADS });
        }
        defines.extend((dtypes[0] == DType::Bfloat16).then_some(("BRAIN", "1")));
        let flag = |set: bool| if set { "1" } else { "0" };
        defines.push(("A_WHOLE", flag(self.left_in_vectors(convolution))));
        defines.push(("B_WHOLE", flag(self.right_in_vectors())));
        // Large tiles read less from memory; but every multiprocessor should have one.
        let (tile, grid) = match self.grid(LARGE_TILE).filter(|(blocks, ..)| *blocks >= abilities.multiprocessors) {
            Some(grid) => ("128", grid),
            None => ("64", self.grid(TILE)?),
        };
        defines.push(("TILE", tile));
        let threads = if tile == "128" { 256 } else { 128 };
        Some(Plan { source: GEMM_TENSOR_CORES, defines, grid, threads })
    }
}

/// Whether tensor cores multiply operands of these types: all float16, or, from sm_80 on, all bfloat16.
pub(super) fn suits_tensor_cores(dtypes: &[DType], capability: (u32, u32)) -> bool {
    let all = |dtype: DType| dtypes.iter().all(|other| *other == dtype);
    all(DType::Float16) || all(DType::Bfloat16) && capability >= (8, 0)
}

/// Whether `length` elements of 16 bits with a step of `along` can be read in vectors, when other dimensions step by `others`.
pub(super) fn in_vectors(view: &View, along: i64, length: i64, others: &[i64]) -> bool {
    along == 1 && length % VECTOR == 0 && view.offset % VECTOR == 0 && all_aligned(others)
}

pub(super) fn all_aligned(strides: &[i64]) -> bool {
    strides.iter().all(|stride| stride % VECTOR == 0)
}

/// What is multiplied, and added to each row.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) left: &'a Tensor,
    pub(super) right: &'a Tensor,
    pub(super) bias: Option<&'a Tensor>,
}

impl GpuJob {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn multiply(
        &self,
        op: &'static str,
        (left, left_layout): (&Tensor, Layout),
        (right, right_layout): (&Tensor, Layout),
        bias: Option<&Tensor>,
        shape: Shape,
        dtype: DType,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let at = left_layout.shape.rank() - 2;
        let (rows, inner) = (left_layout.lengths()[at], left_layout.lengths()[at + 1]);
        let columns = right_layout.lengths()[at + 1];
        let (left_strides, right_strides) = (left_layout.strides(), right_layout.strides());
        let walk = Walk::new(&left_layout.lengths()[..at], &[&left_strides[..at], &right_strides[..at]]);
        let gemm = Gemm {
            a: View::new(0, left.dtype(), left_layout.offset, &left_strides[at..]),
            b: View::new(0, right.dtype(), right_layout.offset, &right_strides[at..]),
            bias: bias_view(bias, 0),
            batch_lengths: padded(&walk.lengths),
            a_batch: padded(&walk.strides[0]),
            b_batch: padded(&walk.strides[1]),
            out_row: columns as i64,
            out_batch: (rows * columns) as i64,
            rows: rows as i64,
            columns: columns as i64,
            inner: inner as i64,
            batch_rank: walk.lengths.len() as i32,
            dtype: number(dtype),
            ..Gemm::default()
        };
        self.product(op, Operands { left, right, bias }, gemm, false, (Layout::contiguous(shape), dtype), cx)
    }

    /// Computes a product whose result fills `layout`; nothing has a length of zero but perhaps `inner`.
    pub(super) fn product(
        &self,
        op: &'static str,
        operands: Operands<'_>,
        gemm: Gemm,
        convolution: bool,
        (layout, dtype): (Layout, DType),
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let Operands { left, right, bias } = operands;
        // With nothing to multiply there may be no operand to read.
        if gemm.inner == 0 || gemm.inner > MAX_INNER {
            return Ok(None);
        }
        let abilities =
            Abilities { capability: self.gpu.0.info.capability, multiprocessors: self.gpu.0.multiprocessors };
        let Some(plan) = gemm.plan([left.dtype(), right.dtype()], convolution, abilities) else { return Ok(None) };
        let mut residents = vec![self.resident(op, left, cx)?, self.resident(op, right, cx)?];
        residents.extend(bias.map(|bias| self.resident(op, bias, cx)).transpose()?);
        let reads: Vec<&DeviceBuffer> = residents.iter().map(Arc::as_ref).collect();
        let mut out = self.allocate(op, layout.shape.elements() * dtype.size())?;
        let (types, result) = ([left.dtype(), right.dtype()], (bias.is_some(), dtype));
        let library = self.gpu.0.cublaslt.as_ref().filter(|_| !convolution);
        let suited = library.zip(Problem::of(&gemm, types, result, abilities.capability));
        if let Some((library, problem)) = suited
            && self.multiply_by_cublaslt(op, (library, &problem), &gemm, &reads, &mut out)?
        {
            return self.tensor(op, layout, dtype, out, cx).map(Some);
        }
        let Plan { source, defines, grid, threads } = plan;
        let start = Start { op, source, defines: &defines, grid, threads };
        self.start(&start, &reads, &mut out, |pointers, target| gemm.at(pointers, target))?;
        self.tensor(op, layout, dtype, out, cx).map(Some)
    }
}

/// One number per column; those of the next matrix of a batch begin `step` later.
pub(super) fn bias_view(bias: Option<&Tensor>, step: usize) -> View {
    bias.map_or_else(View::default, |bias| {
        let stride = bias.layout.strides()[0];
        View::new(0, bias.dtype(), bias.layout.offset, &[stride, step as isize * stride])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Abilities = Abilities { capability: (8, 9), multiprocessors: 128 };
    const TURING: Abilities = Abilities { capability: (7, 5), multiprocessors: 40 };

    /// `[rows, inner] · [columns, inner]ᵀ`, both dense.
    fn linear(rows: usize, columns: usize, inner: usize) -> Gemm {
        let stride = inner as isize;
        Gemm {
            a: View::new(0, DType::Float16, 0, &[stride, 1]),
            b: View::new(0, DType::Float16, 0, &[1, stride]),
            rows: rows as i64,
            columns: columns as i64,
            inner: inner as i64,
            ..Gemm::default()
        }
    }

    fn kernel(gemm: Gemm, dtypes: [DType; 2], abilities: Abilities) -> (Source, String) {
        let Some(plan) = gemm.plan(dtypes, false, abilities) else { panic!("no kernel") };
        let defines: Vec<String> = plan.defines.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (plan.source, defines.join(" "))
    }

    #[test]
    fn tensor_cores_multiply_what_both_operands_and_the_gpu_allow() {
        use DType::{Bfloat16, Float8E4m3, Float16, Float32};
        let source = |dtypes, abilities| kernel(linear(64, 64, 64), dtypes, abilities).0;
        assert_eq!(source([Float16, Float16], TURING), GEMM_TENSOR_CORES);
        assert_eq!(source([Bfloat16, Bfloat16], ADA), GEMM_TENSOR_CORES);
        assert_eq!(source([Bfloat16, Bfloat16], TURING), GEMM);
        for mixed in [[Float32, Float32], [Float32, Float16], [Float16, Bfloat16], [Float8E4m3, Float8E4m3]] {
            assert_eq!(source(mixed, ADA), GEMM, "{mixed:?}");
        }
    }

    #[test]
    fn vectors_are_read_only_where_they_are_aligned_and_large_tiles_where_there_are_enough() {
        let halves = |gemm| kernel(gemm, [DType::Float16; 2], ADA).1;
        assert_eq!(halves(linear(8192, 320, 320)), "A_WHOLE=1 B_WHOLE=1 TILE=128");
        assert_eq!(halves(linear(512, 320, 320)), "A_WHOLE=1 B_WHOLE=1 TILE=64");
        assert_eq!(halves(linear(512, 320, 321)), "A_WHOLE=0 B_WHOLE=0 TILE=64");
        let mut shifted = linear(512, 320, 320);
        shifted.a.offset = 4;
        shifted.b_batch[0] = 12;
        assert_eq!(halves(shifted), "A_WHOLE=0 B_WHOLE=0 TILE=64");
        let by_rows = Gemm { b: View::new(0, DType::Float16, 0, &[320, 1]), ..linear(512, 320, 77) };
        assert_eq!(halves(by_rows), "RIGHT_BY_ROWS=1 A_WHOLE=0 B_WHOLE=1 TILE=64");
    }
}
