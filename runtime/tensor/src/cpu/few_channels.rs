//! Convolutions to a few channels, like the last one of a picture decoder: neighbouring pixels of a plane side by side in
//! registers, since channels would leave most of them empty.

use super::gemm::MatrixType;
use super::simd::{multiply_add, multiversion};
use crate::{OpContext, TensorError};

/// Output channels that are computed together, and pixels of a row.
const CHANNELS: usize = 4;
const PIXELS: usize = 64;
/// The most output channels that are worth it, and the largest window along a row.
const MOST_CHANNELS: usize = 8;
const MOST_TAPS: usize = 16;

/// One dense convolution of stride 1 over planes.
pub(crate) struct ToFewChannels<'a, T> {
    pub(crate) op: &'static str,
    /// `[B, channels, height, width]`
    pub(crate) input: &'a [f32],
    /// Height, width, channels of the input.
    pub(crate) size: [usize; 3],
    /// `[outputs, channels, window height, window width]`
    pub(crate) weight: &'a [T],
    pub(crate) window: [usize; 2],
    pub(crate) padding: [usize; 2],
    /// Height, width, channels of the output.
    pub(crate) output: [usize; 3],
    pub(crate) bias: Option<&'a [f32]>,
}

impl<T: MatrixType> ToFewChannels<'_, T> {
    pub(crate) fn pays(window: [usize; 2], inputs: usize, outputs: usize) -> bool {
        outputs <= MOST_CHANNELS && inputs >= 16 && window[1] <= MOST_TAPS
    }

    /// The weight once more.
    pub(crate) fn workspace_bytes(&self) -> usize {
        self.weight.len() / self.output[2] * self.output[2].next_multiple_of(CHANNELS) * size_of::<f32>()
    }

    /// Fills `out`: `[B, height, width, outputs]`.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let [height, width, outputs] = self.output;
        let each = self.weight.len() / outputs;
        // `[groups of outputs, channels, window height, window width, outputs of a group]`
        let mut weight = vec![[0.0f32; CHANNELS]; each * outputs.div_ceil(CHANNELS)];
        for (output, values) in self.weight.chunks_exact(each).enumerate() {
            for (index, value) in values.iter().enumerate() {
                weight[output / CHANNELS * each + index][output % CHANNELS] = value.load();
            }
        }
        let cost = each * outputs;
        super::fill_rows(self.op, out, width * outputs, cost, cx, &|first, out| {
            for (index, out) in out.chunks_exact_mut(width * outputs).enumerate() {
                let (picture, y) = ((first + index) / height, (first + index) % height);
                for (group, weight) in weight.chunks_exact(each).enumerate() {
                    for x in (0..width).step_by(PIXELS) {
                        let mut sums = [[0.0f32; PIXELS]; CHANNELS];
                        self.sum(picture, [y, x], weight, &mut sums);
                        self.store(group * CHANNELS, &sums, &mut out[x * outputs..]);
                    }
                }
            }
        })
    }

    /// The sums of [`PIXELS`] pixels from `[y, x]` on; those behind the row are of no use.
    fn sum(
        &self,
        picture: usize,
        [y, x]: [usize; 2],
        weight: &[[f32; CHANNELS]],
        sums: &mut [[f32; PIXELS]; CHANNELS],
    ) {
        let [height, width, channels] = self.size;
        let [rows, columns] = self.window;
        // Pixels that lie under the windows, in rows: some before and behind them are zeros.
        let mut lines = vec![[0.0f32; PIXELS + MOST_TAPS]; rows];
        let wanted = PIXELS + columns - 1;
        let before = self.padding[1].saturating_sub(x).min(wanted);
        let from = (x + before).saturating_sub(self.padding[1]).min(width);
        let count = (width - from).min(wanted - before);
        for channel in 0..channels {
            for (row, line) in lines.iter_mut().enumerate() {
                let Some(source) = (y + row).checked_sub(self.padding[0]).filter(|source| *source < height) else {
                    continue;
                };
                let at = ((picture * channels + channel) * height + source) * width + from;
                line[before..before + count].copy_from_slice(&self.input[at..at + count]);
            }
            add_rows(&lines, &weight[channel * rows * columns..][..rows * columns], sums);
        }
    }

    fn store(&self, first: usize, sums: &[[f32; PIXELS]; CHANNELS], out: &mut [f32]) {
        let outputs = self.output[2];
        for (pixel, out) in out.chunks_exact_mut(outputs).take(PIXELS).enumerate() {
            for (channel, out) in out[first..].iter_mut().take(CHANNELS).enumerate() {
                *out = sums[channel][pixel] + self.bias.map_or(0.0, |bias| bias[first + channel]);
            }
        }
    }
}

multiversion! {
    /// Adds pixels times weights, a row after the other, for each channel.
    fn add_rows<>(
        lines: &[[f32; PIXELS + MOST_TAPS]],
        weight: &[[f32; CHANNELS]],
        sums: &mut [[f32; PIXELS]; CHANNELS],
    ) where {} {
        let mut own = *sums;
        for (line, weight) in lines.iter().zip(weight.chunks_exact(weight.len() / lines.len())) {
            for (tap, weight) in weight.iter().enumerate() {
                let Some(pixels) = line[tap..].first_chunk::<PIXELS>() else { return };
                for (sums, weight) in own.iter_mut().zip(weight) {
                    for (sum, pixel) in sums.iter_mut().zip(pixels) {
                        *sum = multiply_add(*pixel, *weight, *sum);
                    }
                }
            }
        }
        *sums = own;
    }
}
