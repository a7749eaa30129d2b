//! One-dimensional correlations along and across rows of `[planes, height, width, channels]`.

use crate::cpu::copy::border;
use crate::cpu::elementwise::Input;
use crate::cpu::simd::multiversion;
use crate::ops::PadMode;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Results that are summed up at once, in registers.
const LANES: usize = 64;
/// Height, width, interleaved channels.
type Size = (usize, usize, usize);

/// A filter along rows, then across them.
pub(crate) struct Separable<'a> {
    pub(crate) size: Size,
    pub(crate) kernel_y: &'a [f32],
    pub(crate) kernel_x: &'a [f32],
    pub(crate) border: PadMode,
}

impl Separable<'_> {
    /// Rows of results that are made one after the other. Rows above and below them are filtered along once more by the
    /// neighbours: an eighth more work at most.
    fn strip(&self) -> usize {
        const ROWS: usize = 32;
        (8 * (self.kernel_y.len() - 1)).max(ROWS)
    }

    /// Bytes of workspace that each thread takes.
    pub(crate) fn workspace(&self) -> usize {
        let (_, width, channels) = self.size;
        let padded = (width + self.kernel_x.len()) * channels;
        (padded + (self.kernel_y.len() + 1) * width * channels) * size_of::<f32>()
    }

    /// Filters `input` into `out`.
    pub(crate) fn run(
        &self,
        op: &'static str,
        input: &Input<'_>,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let (height, width, channels) = self.size;
        let row = width * channels;
        // Strips end where planes do.
        let planes = out.chunks_mut(height * row).enumerate();
        let strips: Vec<(usize, usize, &mut [f32])> = planes
            .flat_map(|(plane, rows)| {
                let strips = rows.chunks_mut(self.strip() * row).enumerate();
                strips.map(move |(index, rows)| (plane * height, index * self.strip(), rows))
            })
            .collect();
        strips
            .into_par_iter()
            .try_for_each(|(plane, first, rows)| self.run_strip(op, input, plane, first, rows, cx))?;
        cx.check(op)
    }

    /// `plane` is the number of its first row among all.
    fn run_strip(
        &self,
        op: &'static str,
        input: &Input<'_>,
        plane: usize,
        first: usize,
        rows: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let (height, width, channels) = self.size;
        let (row, taps) = (width * channels, self.kernel_y.len());
        let mut along = AlongRows::new(self.kernel_x, width, channels, self.border);
        // Filtered rows, each in the place of its number modulo the taps; those beyond the border are rows inside, or zeros.
        let mut ring = vec![0.0f32; taps * row];
        let mut fill = |ring: &mut [f32], number: usize| {
            let place = &mut ring[number % taps * row..][..row];
            match border(self.border, number as isize - (taps / 2) as isize, height) {
                Some(inside) => along.filter(input, (plane + inside) * row, place),
                None => place.fill(0.0),
            }
        };
        (first..first + taps - 1).for_each(|number| fill(&mut ring, number));
        for (index, target) in rows.chunks_exact_mut(row).enumerate() {
            if index % ROWS_PER_CHECK == 0 {
                cx.check(op)?;
            }
            let number = first + index;
            fill(&mut ring, number + taps - 1);
            let lines: Vec<&[f32]> =
                (number..number + taps).map(|number| &ring[number % taps * row..][..row]).collect();
            correlate_rows(&lines, self.kernel_y, target);
        }
        Ok(())
    }
}

const ROWS_PER_CHECK: usize = 16;

/// Filters single rows.
struct AlongRows<'a> {
    kernel: &'a [f32],
    width: usize,
    channels: usize,
    border: PadMode,
    padded: Vec<f32>,
    scratch: Vec<f32>,
}

impl AlongRows<'_> {
    fn new(kernel: &[f32], width: usize, channels: usize, border: PadMode) -> AlongRows<'_> {
        let padded = vec![0.0; (width + kernel.len() - 1) * channels];
        AlongRows { kernel, width, channels, border, padded, scratch: vec![0.0; width * channels] }
    }

    fn filter(&mut self, input: &Input<'_>, start: usize, target: &mut [f32]) {
        let (radius, row, channels) = (self.kernel.len() / 2, self.width * self.channels, self.channels);
        let source = input.block(start, row, &mut self.scratch);
        let middle = radius * channels;
        self.padded[middle..middle + row].copy_from_slice(source);
        for place in (0..radius).chain(radius + self.width..self.width + 2 * radius) {
            if let Some(inside) = border(self.border, place as isize - radius as isize, self.width) {
                let from = middle + inside * channels;
                self.padded.copy_within(from..from + channels, place * channels);
            }
        }
        correlate_row(&self.padded, channels, self.kernel, target);
    }
}

multiversion! {
    /// `out[i] = Σ kernel[t] · padded[i + t·step]`
    fn correlate_row<>(padded: &[f32], step: usize, kernel: &[f32], out: &mut [f32]) where {} {
        for (block, target) in out.chunks_mut(LANES).enumerate() {
            let start = block * LANES;
            if target.len() == LANES {
                let mut sums = [0.0f32; LANES];
                for (tap, weight) in kernel.iter().enumerate() {
                    let values = &padded[start + tap * step..][..LANES];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += *weight * *value;
                    }
                }
                target.copy_from_slice(&sums);
            } else {
                for (index, target) in target.iter_mut().enumerate() {
                    let taps = kernel.iter().enumerate();
                    *target = taps.fold(0.0, |sum, (tap, weight)| sum + weight * padded[start + index + tap * step]);
                }
            }
        }
    }
}

multiversion! {
    /// `out[i] = Σ kernel[t] · rows[t][i]`
    fn correlate_rows<>(rows: &[&[f32]], kernel: &[f32], out: &mut [f32]) where {} {
        for (block, target) in out.chunks_mut(LANES).enumerate() {
            let start = block * LANES;
            if target.len() == LANES {
                let mut sums = [0.0f32; LANES];
                for (row, weight) in rows.iter().zip(kernel) {
                    let values = &row[start..][..LANES];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += *weight * *value;
                    }
                }
                target.copy_from_slice(&sums);
            } else {
                for (index, target) in target.iter_mut().enumerate() {
                    let taps = rows.iter().zip(kernel);
                    *target = taps.fold(0.0, |sum, (row, weight)| sum + weight * row[start + index]);
                }
            }
        }
    }
}
