//! Pixels at places that a grid names, and such grids.

use super::compile::SAMPLE;
use super::gpu::GpuJob;
use super::launch::{Start, View, number};
use crate::ops::{SampleBorder, SampleMode};
use crate::shape::{Layout, Order};
use crate::{OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `sample.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sample {
    out: u64,
    source: View,
    grid: View,
    items: u64,
    channels: i64,
    height: i64,
    width: i64,
    grid_height: i64,
    grid_width: i64,
    align_corners: i32,
    dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Sample {}

impl GpuJob {
    pub(super) fn grid_sample(
        &self,
        op: &'static str,
        [source, grid]: [&Tensor; 2],
        (mode, border): (SampleMode, SampleBorder),
        align_corners: bool,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let mode = match mode {
            SampleMode::Nearest => "NEAREST",
            SampleMode::Bilinear => "BILINEAR",
            SampleMode::Bicubic => "BICUBIC",
        };
        let border = match border {
            SampleBorder::Zeros => "ZEROS",
            SampleBorder::Border => "EDGE",
            SampleBorder::Reflection => "REFLECTION",
        };
        let defines = [("WORK", "SAMPLE"), ("MODE", mode), ("BORDER", border)];
        let start = Start::over(op, SAMPLE, &defines, shape.elements());
        let layout = Layout::dense_in_order(shape, Order::CHANNELS_LAST.dims());
        self.make(&start, (&[source, grid], &[]), (layout, source.dtype()), cx, |views, _, out| Sample {
            out,
            source: views[0],
            grid: views[1],
            items: shape.elements() as u64,
            channels: source.dims()[1] as i64,
            height: source.dims()[2] as i64,
            width: source.dims()[3] as i64,
            grid_height: shape.lengths()[2] as i64,
            grid_width: shape.lengths()[3] as i64,
            align_corners: i32::from(align_corners),
            dtype: number(source.dtype()),
        })
    }

    pub(super) fn affine_grid(
        &self,
        op: &'static str,
        matrices: &Tensor,
        align_corners: bool,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let places = shape.elements() / 2;
        let start = Start::over(op, SAMPLE, &[("WORK", "AFFINE")], places);
        let layout = Layout::contiguous(shape);
        self.make(&start, (&[matrices], &[]), (layout, matrices.dtype()), cx, |views, _, out| Sample {
            out,
            source: views[0],
            items: places as u64,
            grid_height: shape.lengths()[1] as i64,
            grid_width: shape.lengths()[2] as i64,
            align_corners: i32::from(align_corners),
            dtype: number(matrices.dtype()),
            ..Sample::default()
        })
    }
}
