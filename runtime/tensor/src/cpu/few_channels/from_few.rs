//! From few channels: a window is a few dozen numbers, and the output is what has to be written. Some pixels of some output
//! channels at a time, in registers.

use super::FewChannels;
use crate::cpu::gemm::MatrixType;
use crate::cpu::simd::{has_most_registers, multiply_add, multiversion};
use crate::{OpContext, TensorError};

/// Output channels that are computed together, and pixels of a row.
pub(super) const CHANNELS: usize = 32;
const PIXELS: usize = 6;
/// The most numbers of a window that are worth it.
const LARGEST_WINDOW: usize = 100;

/// The weights of these channels for one number of the window. A register never takes two lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Together([f32; CHANNELS]);

/// Where there are fewer registers, or narrower ones, a product of matrices is as fast.
pub(super) fn pays(window: [usize; 2], inputs: usize, outputs: usize) -> bool {
    has_most_registers()
        && window[0].saturating_mul(window[1]).saturating_mul(inputs) <= LARGEST_WINDOW
        && outputs >= CHANNELS / 2
}

impl<T> FewChannels<'_, T> {
    /// Pixels of a line of input pixels.
    fn line_length(&self) -> usize {
        self.output[1].next_multiple_of(PIXELS) + self.window[1] - 1
    }

    /// What one thread keeps of the input.
    pub(super) fn bytes_of_lines(&self) -> usize {
        (self.size[2] * self.window[0]).saturating_mul(self.line_length()).saturating_mul(size_of::<f32>())
    }
}

impl<T: MatrixType> FewChannels<'_, T> {
    pub(super) fn run_from_few(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let [height, width, outputs] = self.output;
        let inner = self.weight.len() / outputs;
        let weight: Vec<_> = self.grouped_weight::<CHANNELS>().into_iter().map(Together).collect();
        crate::cpu::fill_rows(self.op, out, width * outputs, inner, cx, &|first, out| {
            let mut lines = Lines::new(self);
            for (index, out) in out.chunks_exact_mut(width * outputs).enumerate() {
                lines.gather(self, (first + index) / height, (first + index) % height);
                for (group, weight) in weight.chunks_exact(inner).enumerate() {
                    let channels = group * CHANNELS..outputs.min((group + 1) * CHANNELS);
                    let mut start = [0.0; CHANNELS];
                    if let Some(bias) = self.bias {
                        start[..channels.len()].copy_from_slice(&bias[channels.clone()]);
                    }
                    let out = &mut out[channels.start..];
                    row_of_group(&lines.values, &lines.offsets, weight, &start, out, outputs, channels.len());
                }
            }
        })
    }
}

/// The rows of input pixels that lie under the windows of a row of output pixels.
struct Lines {
    /// `[channels, window height, pixels]`, with the zeros around the input and some behind.
    values: Vec<f32>,
    length: usize,
    /// Where the first output pixel has each number of its window.
    offsets: Vec<usize>,
}

impl Lines {
    fn new<T>(convolution: &FewChannels<'_, T>) -> Lines {
        let [rows, columns] = convolution.window;
        let length = convolution.line_length();
        let lines = convolution.size[2] * rows;
        let offsets = (0..lines * columns).map(|at| at / columns * length + at % columns).collect();
        Lines { values: vec![0.0; lines * length], length, offsets }
    }

    fn gather<T>(&mut self, convolution: &FewChannels<'_, T>, picture: usize, y: usize) {
        let ([height, width, channels], [rows, _]) = (convolution.size, convolution.window);
        let [above, left] = convolution.padding;
        let left = left.min(self.length);
        let count = width.min(self.length - left);
        for (index, line) in self.values.chunks_exact_mut(self.length).enumerate() {
            let (channel, row) = (index / rows, index % rows);
            match (y + row).checked_sub(above).filter(|source| *source < height) {
                Some(source) => {
                    let at = ((picture * channels + channel) * height + source) * width;
                    line[left..left + count].copy_from_slice(&convolution.input[at..at + count]);
                }
                None => line.fill(0.0),
            }
        }
    }
}

multiversion! {
    /// A row of output pixels, `outputs` apart from each other, of so many channels.
    fn row_of_group<>(
        lines: &[f32],
        offsets: &[usize],
        weight: &[Together],
        start: &[f32; CHANNELS],
        out: &mut [f32],
        outputs: usize,
        channels: usize,
    ) where {} {
        for (index, out) in out.chunks_mut(PIXELS * outputs).enumerate() {
            let sums = sums_of_pixels(&lines[index * PIXELS..], offsets, weight, start);
            for (out, sums) in out.chunks_mut(outputs).zip(&sums) {
                match out.first_chunk_mut() {
                    Some(out) if channels == CHANNELS => *out = *sums,
                    _ => out.iter_mut().zip(&sums[..channels]).for_each(|(out, sum)| *out = *sum),
                }
            }
        }
    }
}

#[inline(always)]
fn sums_of_pixels(
    lines: &[f32],
    offsets: &[usize],
    weight: &[Together],
    start: &[f32; CHANNELS],
) -> [[f32; CHANNELS]; PIXELS] {
    let mut sums = [*start; PIXELS];
    for (offset, Together(weight)) in offsets.iter().zip(weight) {
        let pixels = &lines[*offset..*offset + PIXELS];
        for (sums, pixel) in sums.iter_mut().zip(pixels) {
            for (sum, weight) in sums.iter_mut().zip(weight) {
                *sum = multiply_add(*pixel, *weight, *sum);
            }
        }
    }
    sums
}
