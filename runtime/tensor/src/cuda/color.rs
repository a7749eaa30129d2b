//! Colours in other coordinates.

use super::compile::COLOR;
use super::gpu::GpuJob;
use super::launch::{Start, View, number};
use crate::shape::Layout;
use crate::{OpContext, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `color.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Recolor {
    out: u64,
    source: View,
    pixels: u64,
    dtype: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Recolor {}

impl GpuJob {
    pub(super) fn recolor(
        &self,
        op: &'static str,
        source: &Tensor,
        pixel: &str,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let pixels = source.elements() / 3;
        let defines = [("PIXEL", pixel)];
        let start = Start::over(op, COLOR, &defines, pixels);
        let layout = Layout::contiguous(*source.lengths_shape());
        self.make(&start, (&[source], &[]), (layout, source.dtype()), cx, |views, _, out| Recolor {
            out,
            source: views[0],
            pixels: pixels as u64,
            dtype: number(source.dtype()).into(),
        })
    }
}
