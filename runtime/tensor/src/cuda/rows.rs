//! Softmax and norms: one block for each row.

use super::compile::ROWS;
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, grid_of, number};
use crate::device::{RowNorm, Rows};
use crate::shape::Layout;
use crate::{OpContext, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `rows.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Arguments {
    source: u64,
    out: u64,
    weight: View,
    bias: View,
    minor: i64,
    major_stride: i64,
    minor_stride: i64,
    outer: i64,
    inner: i64,
    outer_stride: i64,
    inner_stride: i64,
    offset: i64,
    eps: f64,
    dtype: i32,
    out_dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Arguments {}

impl GpuJob {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn rows(
        &self,
        op: &'static str,
        source: &Tensor,
        layout: Layout,
        rows: Rows,
        norm: RowNorm,
        parameters: [Option<&Tensor>; 2],
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = layout.shape.elements();
        let Some(grid) = grid_of(rows.count) else { return Ok(None) };
        if elements == 0 {
            return Ok(None);
        }
        let dtype = source.dtype();
        let mut dense = Vec::new();
        for parameter in parameters {
            dense.push(parameter.map(|tensor| tensor.contiguous(cx)).transpose()?);
        }
        let mut residents = vec![self.resident(op, source, cx)?];
        for parameter in dense.iter().flatten() {
            residents.push(self.resident(op, parameter, cx)?);
        }
        let mut out = self.allocate(op, elements * dtype.size())?;
        let (defines, eps): (&[_], f64) = match norm {
            RowNorm::Softmax => (&[("MODE", "SOFTMAX")], 0.0),
            RowNorm::Layer(eps) => (&[("MODE", "LAYER")], eps),
            RowNorm::Group(eps) => (&[("MODE", "LAYER"), ("BY_RUN", "1")], eps),
            RowNorm::RootMeanSquare(eps) => (&[("MODE", "RMS")], eps),
        };
        let start = Start { op, source: ROWS, defines, grid, threads: THREADS };
        let reads: Vec<_> = residents.iter().map(|buffer| &**buffer).collect();
        self.start(&start, &reads, &mut out, |pointers, target| {
            let mut pointers = pointers.iter().copied();
            let source_pointer = pointers.next().unwrap_or_default();
            let mut view = |parameter: &Option<Tensor>| match parameter {
                Some(tensor) => {
                    View::new(pointers.next().unwrap_or_default(), tensor.dtype(), tensor.layout.offset, &[])
                }
                None => View::default(),
            };
            Arguments {
                source: source_pointer,
                out: target,
                weight: view(&dense[0]),
                bias: view(&dense[1]),
                minor: rows.minor as i64,
                major_stride: rows.major_stride as i64,
                minor_stride: rows.minor_stride as i64,
                outer: rows.outer as i64,
                inner: rows.inner as i64,
                outer_stride: rows.outer_stride as i64,
                inner_stride: rows.inner_stride as i64,
                offset: source.layout.offset as i64,
                eps,
                dtype: number(dtype),
                out_dtype: number(dtype),
            }
        })?;
        self.tensor(op, layout, dtype, out, cx).map(Some)
    }
}
