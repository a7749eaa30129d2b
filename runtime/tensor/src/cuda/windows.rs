//! Windows over planes: pooling and folding.

use super::compile::WINDOWS;
use super::gpu::GpuJob;
use super::launch::{Start, View, number};
use crate::cpu::pool::{Pool, Window};
use crate::cpu::windows::Folding;
use crate::shape::Layout;
use crate::{OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `windows.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Windows {
    out: u64,
    source: View,
    elements: u64,
    size: [i64; 2],
    counts: [i64; 2],
    window: [i64; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
    count_padding: i32,
    dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Windows {}

fn wide(values: [usize; 2]) -> [i64; 2] {
    values.map(|value| value as i64)
}

impl GpuJob {
    pub(super) fn pool(
        &self,
        source: &Tensor,
        window: &Window,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        if self.too_long(shape.elements(), &window.window) {
            return Ok(None);
        }
        let (work, count_padding) = match window.pool {
            Pool::Max => ("LARGEST", false),
            Pool::Mean { count_padding } => ("MEAN", count_padding),
        };
        let defines = [("WORK", work)];
        let start = Start::over(window.op, WINDOWS, &defines, shape.elements());
        let dtype = source.dtype();
        self.make(&start, (&[source], &[]), (Layout::contiguous(shape), dtype), cx, |views, _, out| Windows {
            out,
            source: views[0],
            elements: shape.elements() as u64,
            size: wide(window.size),
            counts: wide(window.output),
            window: wide(window.window),
            stride: wide(window.stride),
            padding: wide(window.padding),
            dilation: [1, 1],
            count_padding: i32::from(count_padding),
            dtype: number(dtype),
        })
    }

    pub(super) fn fold(
        &self,
        source: &Tensor,
        folding: &Folding,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        if self.too_long(shape.elements(), &folding.window) {
            return Ok(None);
        }
        let start = Start::over(folding.op, WINDOWS, &[("WORK", "FOLD")], shape.elements());
        let dtype = source.dtype();
        self.make(&start, (&[source], &[]), (Layout::contiguous(shape), dtype), cx, |views, _, out| Windows {
            out,
            source: views[0],
            elements: shape.elements() as u64,
            size: wide(folding.size),
            counts: wide(folding.counts),
            window: wide(folding.window),
            stride: wide(folding.stride),
            padding: wide(folding.padding),
            dilation: wide(folding.dilation),
            count_padding: 0,
            dtype: number(dtype),
        })
    }
}
