//! Products of matrices, and convolutions as such.

use super::buffer::DeviceBuffer;
use super::compile::GEMM;
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, Walk, number, padded};
use crate::device::TapAxis;
use crate::shape::{Layout, MAX_RANK};
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;
use std::sync::Arc;

/// Rows and columns of the results of one block, see `gemm.cu`.
const TILE: usize = 64;

/// `Arguments` of `gemm.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Gemm {
    out: u64,
    a: View,
    b: View,
    bias: View,
    batch_lengths: [i64; MAX_RANK],
    a_batch: [i64; MAX_RANK],
    b_batch: [i64; MAX_RANK],
    out_row: i64,
    out_batch: i64,
    channels: i64,
    lengths: [i64; 2],
    taps: [i64; 2],
    outputs: [i64; 2],
    step: [i64; 2],
    tap_step: [i64; 2],
    shift: [i64; 2],
    divide: [i64; 2],
    rows: i64,
    columns: i64,
    inner: i64,
    batch_rank: i32,
    dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Gemm {}

/// Blocks of a product, if a grid has room for them.
fn blocks(batch: usize, rows: usize, columns: usize) -> Option<u32> {
    let blocks = batch.checked_mul(rows.div_ceil(TILE))?.checked_mul(columns.div_ceil(TILE))?;
    u32::try_from(blocks).ok().filter(|blocks| (1..1 << 31).contains(blocks))
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
        let batch = left_layout.lengths()[..at].iter().product();
        let Some(blocks) = blocks(batch, rows, columns) else { return Ok(None) };
        // With nothing to multiply there may be no operand to read.
        if inner == 0 {
            return Ok(None);
        }
        let (left_strides, right_strides) = (left_layout.strides(), right_layout.strides());
        let walk = Walk::new(&left_layout.lengths()[..at], &[&left_strides[..at], &right_strides[..at]]);
        let mut residents = vec![self.resident(op, left, cx)?, self.resident(op, right, cx)?];
        residents.extend(bias.map(|bias| self.resident(op, bias, cx)).transpose()?);
        let mut out = self.allocate(op, shape.elements() * dtype.size())?;
        let by_rows: &[_] = if right_strides[at + 1].abs() == 1 { &[("RIGHT_BY_ROWS", "1")] } else { &[] };
        let start = Start { op, source: GEMM, defines: by_rows, grid: (blocks, 1, 1), threads: THREADS };
        self.start_gemm(&start, &residents, &mut out, |pointers, target| Gemm {
            out: target,
            a: View::new(pointers[0], left.dtype(), left_layout.offset, &left_strides[at..]),
            b: View::new(pointers[1], right.dtype(), right_layout.offset, &right_strides[at..]),
            bias: bias_view(bias, pointers, 0),
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
        })?;
        self.tensor(op, Layout::contiguous(shape), dtype, out, cx).map(Some)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn convolve(
        &self,
        op: &'static str,
        input: &Tensor,
        (weight, weight_layout): (&Tensor, Layout),
        bias: Option<&Tensor>,
        axes: [TapAxis; 2],
        (layout, dtype): (Layout, DType),
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let [images, all_columns, height, width] = [0, 1, 2, 3].map(|dim| layout.lengths()[dim]);
        let [groups, columns, channels, taps_y, taps_x] = [0, 1, 2, 3, 4].map(|dim| weight_layout.lengths()[dim]);
        let rows = images * height * width;
        let Some(blocks) = blocks(groups, rows, columns) else { return Ok(None) };
        if channels == 0 || input.elements() == 0 {
            return Ok(None);
        }
        let mut residents = vec![self.resident(op, input, cx)?, self.resident(op, weight, cx)?];
        residents.extend(bias.map(|bias| self.resident(op, bias, cx)).transpose()?);
        let mut out = self.allocate(op, rows * all_columns * dtype.size())?;
        let start =
            Start { op, source: GEMM, defines: &[("CONVOLUTION", "1")], grid: (blocks, 1, 1), threads: THREADS };
        let each = |value: fn(&TapAxis) -> isize| [value(&axes[0]) as i64, value(&axes[1]) as i64];
        let (strides, weight_strides) = (input.layout.strides(), weight_layout.strides());
        self.start_gemm(&start, &residents, &mut out, |pointers, target| Gemm {
            out: target,
            a: View::new(pointers[0], input.dtype(), input.layout.offset, strides),
            b: View::new(pointers[1], weight.dtype(), weight_layout.offset, &weight_strides[1..]),
            bias: bias_view(bias, pointers, columns),
            batch_lengths: padded(&[groups]),
            a_batch: padded(&[strides[1] * channels as isize]),
            b_batch: padded(&weight_strides[..1]),
            out_row: all_columns as i64,
            out_batch: columns as i64,
            channels: channels as i64,
            lengths: [input.dims()[2] as i64, input.dims()[3] as i64],
            taps: [taps_y as i64, taps_x as i64],
            outputs: [height as i64, width as i64],
            step: each(|axis| axis.step),
            tap_step: each(|axis| axis.tap_step),
            shift: each(|axis| axis.shift),
            divide: each(|axis| axis.divide),
            rows: rows as i64,
            columns: columns as i64,
            inner: (channels * taps_y * taps_x) as i64,
            batch_rank: 1,
            dtype: number(dtype),
        })?;
        self.tensor(op, layout, dtype, out, cx).map(Some)
    }

    fn start_gemm(
        &self,
        start: &Start<'_>,
        residents: &[Arc<DeviceBuffer>],
        out: &mut DeviceBuffer,
        arguments: impl FnOnce(&[u64], u64) -> Gemm,
    ) -> Result<(), TensorError> {
        let reads: Vec<_> = residents.iter().map(|buffer| &**buffer).collect();
        self.start(start, &reads, out, arguments)
    }
}

/// One number per column; those of the next matrix of a batch begin `step` later.
fn bias_view(bias: Option<&Tensor>, pointers: &[u64], step: usize) -> View {
    match (bias, pointers.get(2)) {
        (Some(bias), Some(pointer)) => {
            let stride = bias.layout.strides()[0];
            View::new(*pointer, bias.dtype(), bias.layout.offset, &[stride, step as isize * stride])
        }
        _ => View::default(),
    }
}
