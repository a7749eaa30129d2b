//! Convolutions as products of matrices: rows are output pixels, columns output channels, and what is summed up are the
//! elements of the window, channels first (implicit GEMM).

use super::buffer::DeviceBuffer;
use super::gemm::{Gemm, Operands, bias_view};
use super::gpu::GpuJob;
use super::launch::{View, Walk, number, padded};
use crate::device::TapAxis;
use crate::shape::Layout;
use crate::{DType, OpContext, Tensor, TensorError};

/// Inputs with as many channels are brought into channels-last order first, if they are not: each of their elements is read
/// several times, and only so next to its neighbours.
const WORTH_REORDERING: usize = 8;

/// Positions in an image have to stay below this, so that kernels can compute them in 32 bits.
const MAX_POSITION: i128 = 1 << 31;

impl TapAxis {
    /// Whether the window under output position i is input position i alone, if it has one element.
    fn is_identity(&self) -> bool {
        self.step == 1 && self.shift == 0 && self.divide == 1
    }

    /// Whether every position that comes up has room in 32 bits.
    fn is_narrow(&self, length: usize, output: usize, taps: usize) -> bool {
        let reach = |count: usize, step: isize| count as i128 * step.unsigned_abs() as i128;
        let most = reach(output, self.step) + reach(taps, self.tap_step) + self.shift.unsigned_abs() as i128;
        most < MAX_POSITION && (length as i128) < MAX_POSITION && (self.divide as i128) < MAX_POSITION
    }
}

impl GpuJob {
    /// `weight` is `[groups,out/groups,in/groups,h,w]`. Memory besides the result: the weight once more, unless its windows
    /// have one element or its channels lie together; the input once more, unless it lies channels-last. A weight that is in
    /// this machine's memory stays on the GPU as kernels read it, instead of as it is.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn convolve(
        &self,
        op: &'static str,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        axes: [TapAxis; 2],
        (layout, dtype): (Layout, DType),
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let [images, all_columns, height, width] = [0, 1, 2, 3].map(|dim| layout.lengths()[dim]);
        let [groups, columns, channels, taps_y, taps_x] = [0, 1, 2, 3, 4].map(|dim| weight.dims()[dim]);
        let lengths = [input.dims()[2], input.dims()[3]];
        if channels == 0 || input.elements() == 0 {
            return Ok(None);
        }
        let narrow = [0, 1]
            .iter()
            .all(|axis| axes[*axis].is_narrow(lengths[*axis], [height, width][*axis], [taps_y, taps_x][*axis]));
        if !narrow {
            return Ok(None);
        }
        let (input, weight) = (&channels_last(input, channels, cx)?, &self.windows_together(op, weight, cx)?);
        let (strides, weight_strides) = (input.strides(), weight.strides());
        let each = |value: fn(&TapAxis) -> isize| [value(&axes[0]) as i64, value(&axes[1]) as i64];
        let gemm = Gemm {
            a: View::new(0, input.dtype(), input.layout.offset, strides),
            b: View::new(0, weight.dtype(), weight.layout.offset, &[weight_strides[2], weight_strides[1]]),
            bias: bias_view(bias, columns),
            batch_lengths: padded(&[groups]),
            a_batch: padded(&[if groups > 1 { strides[1] * channels as isize } else { 0 }]),
            b_batch: padded(&[if groups > 1 { weight_strides[0] } else { 0 }]),
            out_row: all_columns as i64,
            out_batch: columns as i64,
            channels: channels as i64,
            lengths: lengths.map(|length| length as i64),
            taps: [taps_y as i64, taps_x as i64],
            outputs: [height as i64, width as i64],
            step: each(|axis| axis.step),
            tap_step: each(|axis| axis.tap_step),
            shift: each(|axis| axis.shift),
            divide: each(|axis| axis.divide),
            rows: (images * height * width) as i64,
            columns: columns as i64,
            inner: (channels * taps_y * taps_x) as i64,
            batch_rank: 1,
            dtype: number(dtype),
            ..Gemm::default()
        };
        let pointwise = taps_y * taps_x == 1 && lengths == [height, width] && axes.iter().all(TapAxis::is_identity);
        let pixels = Walk::new(&[images, height, width], &[&[strides[0], strides[2], strides[3]]]);
        let (gemm, gathered) = match (pointwise, pixels.strides[0].as_slice()) {
            // Every pixel is a row as it lies.
            (true, [] | [_]) => {
                let step = pixels.strides[0].first().copied().unwrap_or_default();
                (Gemm { a: View::new(0, input.dtype(), input.layout.offset, &[step, strides[1]]), ..gemm }, false)
            }
            _ => (gemm, true),
        };
        self.product(op, Operands { left: input, right: weight, bias }, gemm, gathered, (layout, dtype), cx)
    }

    /// `[groups,out,in,h,w]` as `[groups,out,h·w·in]`: a view, if one stride leads through each window; else a copy, which is
    /// kept with the weight.
    fn windows_together(&self, op: &'static str, weight: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        let ordered = weight.permute(&[0, 1, 3, 4, 2], cx)?;
        let [groups, outputs] = [ordered.dims()[0] as i64, ordered.dims()[1] as i64];
        let window: usize = ordered.dims()[2..].iter().product();
        let shape = [groups, outputs, window as i64];
        if Walk::new(&ordered.dims()[2..], &[&ordered.strides()[2..]]).lengths.len() <= 1 {
            return ordered.reshape(&shape, cx);
        }
        let is_here = |buffer: &DeviceBuffer| buffer.belongs_to(&self.gpu.0, None);
        if let Some(kept) = weight.storage.arranged(&weight.layout, is_here) {
            let layout = Layout::contiguous(*ordered.lengths_shape());
            return self.tensor(op, layout, weight.dtype(), kept, cx)?.reshape(&shape, cx);
        }
        let ordered = ordered.contiguous(cx)?;
        weight.storage.keep_arranged(&weight.layout, self.resident(op, &ordered, cx)?, is_here);
        ordered.reshape(&shape, cx)
    }
}

/// `[B,C,H,W]` with its channels next to each other in memory, where that is worth a copy. `channels` are those of a group.
fn channels_last(input: &Tensor, channels: usize, cx: &OpContext) -> Result<Tensor, TensorError> {
    if input.strides()[1] == 1 || !channels.is_multiple_of(WORTH_REORDERING) {
        return Ok(input.clone());
    }
    input.permute(&[0, 2, 3, 1], cx)?.contiguous(cx)?.permute(&[0, 3, 1, 2], cx)
}
