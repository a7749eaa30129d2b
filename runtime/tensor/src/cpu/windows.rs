//! Columns of windows added up to pictures.

use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};
use std::ops::Range;

/// How windows lay over a plane; height first.
pub(crate) struct Folding {
    pub(crate) op: &'static str,
    pub(crate) size: [usize; 2],
    pub(crate) window: [usize; 2],
    /// Windows along each axis.
    pub(crate) counts: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

impl Folding {
    /// `input` is `[planes, window height, window width, windows along height, along width]`, `out` `[planes, H, W]`.
    pub(crate) fn run(&self, input: &[f32], out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let [height, width] = self.size;
        let cost = self.window[0].saturating_mul(self.window[1]);
        fill_rows(self.op, out, width.max(1), cost, cx, &|first, lines| {
            for (index, line) in lines.chunks_exact_mut(width).enumerate() {
                let (plane, y) = ((first + index) / height, (first + index) % height);
                line.fill(0.0);
                for tap_y in 0..self.window[0] {
                    // The window whose element `tap_y` lies on this line.
                    let from = (y + self.padding[0]).checked_sub(tap_y * self.dilation[0]);
                    let Some(from) = from.filter(|from| from.is_multiple_of(self.stride[0])) else { continue };
                    let row = from / self.stride[0];
                    if row < self.counts[0] {
                        self.add_row(&input[self.rows(plane, tap_y, row)..], line);
                    }
                    if cx.is_cancelled() {
                        return;
                    }
                }
            }
        })
    }

    fn rows(&self, plane: usize, tap_y: usize, row: usize) -> usize {
        ((plane * self.window[0] + tap_y) * self.window[1] * self.counts[0] + row) * self.counts[1]
    }

    /// Adds what lies on one line for each element of a window's row.
    fn add_row(&self, input: &[f32], line: &mut [f32]) {
        let step = self.counts[0] * self.counts[1];
        for tap_x in 0..self.window[1] {
            let shift = tap_x * self.dilation[1];
            let values = &input[tap_x * step..];
            for column in self.visible(shift) {
                line[column * self.stride[1] + shift - self.padding[1]] += values[column];
            }
        }
    }

    /// The windows whose element that stands `shift` pixels from their left lies inside of the picture.
    fn visible(&self, shift: usize) -> Range<usize> {
        let first = self.padding[1].saturating_sub(shift).div_ceil(self.stride[1]);
        let last = (self.size[1] + self.padding[1]).saturating_sub(shift).div_ceil(self.stride[1]);
        first..last.min(self.counts[1]).max(first)
    }
}
