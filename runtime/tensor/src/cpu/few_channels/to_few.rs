//! To a few channels: neighbouring pixels of a plane side by side in registers, since channels would leave most of them empty.

use super::FewChannels;
use crate::cpu::gemm::MatrixType;
use crate::cpu::simd::{multiply_add, multiversion};
use crate::{OpContext, TensorError};

/// Output channels that are computed together, and pixels of a row.
pub(super) const CHANNELS: usize = 4;
const PIXELS: usize = 64;
/// Rows that are computed together, so that those of the input are copied little more than once.
const ROWS: usize = 8;
/// The most output channels that are worth it, and the largest window along a row.
const MOST_CHANNELS: usize = 8;
const MOST_TAPS: usize = 16;

pub(super) fn pays(window: [usize; 2], inputs: usize, outputs: usize) -> bool {
    outputs <= MOST_CHANNELS && inputs >= 16 && window[1] <= MOST_TAPS
}

impl<T: MatrixType> FewChannels<'_, T> {
    pub(super) fn run_to_few(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let [height, width, outputs] = self.output;
        let weight = self.grouped_weight::<CHANNELS>();
        let row = width * outputs;
        crate::cpu::fill_rows(self.op, out, ROWS * row, self.weight.len(), cx, &|first, out| {
            for (index, mut out) in out.chunks_mut(ROWS * row).enumerate() {
                let mut at = (first + index) * ROWS;
                while !out.is_empty() {
                    // Rows of one picture.
                    let count = (out.len() / row).min(height - at % height);
                    let (rows, rest) = out.split_at_mut(count * row);
                    self.rows(at / height, at % height, &weight, rows);
                    (out, at) = (rest, at + count);
                }
            }
        })
    }

    /// Fills rows of a picture from `y` on, [`ROWS`] at most.
    fn rows(&self, picture: usize, y: usize, weight: &[[f32; CHANNELS]], out: &mut [f32]) {
        let [_, width, outputs] = self.output;
        let (row, each) = (width * outputs, self.weight.len() / outputs);
        for (group, weight) in weight.chunks_exact(each).enumerate() {
            for x in (0..width).step_by(PIXELS) {
                let mut sums = [[[0.0f32; PIXELS]; CHANNELS]; ROWS];
                self.sum(picture, [y, x], weight, &mut sums[..out.len() / row]);
                for (out, sums) in out.chunks_exact_mut(row).zip(&sums) {
                    self.store(group * CHANNELS, sums, &mut out[x * outputs..]);
                }
            }
        }
    }

    /// The sums of [`PIXELS`] pixels from `[y, x]` on, of some rows; those behind a row are of no use.
    fn sum(
        &self,
        picture: usize,
        [y, x]: [usize; 2],
        weight: &[[f32; CHANNELS]],
        sums: &mut [[[f32; PIXELS]; CHANNELS]],
    ) {
        let [height, width, channels] = self.size;
        let [rows, columns] = self.window;
        // Pixels that lie under the windows, in rows: some before and behind them are zeros.
        let mut lines = vec![[0.0f32; PIXELS + MOST_TAPS]; sums.len() + rows - 1];
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
            let weight = &weight[channel * rows * columns..][..rows * columns];
            for (sums, lines) in sums.iter_mut().zip(lines.windows(rows)) {
                add_rows(lines, weight, sums);
            }
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
