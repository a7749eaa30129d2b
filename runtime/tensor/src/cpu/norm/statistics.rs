//! Means and variances, in one pass: float32 over few numbers, float64 over these sums.

use super::{Groups, Statistics};
use crate::cpu::simd::{ask_for, multiply_add, multiversion};
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Values whose sums fit well into float32.
const SUMMED: usize = 1024;
/// So many sums grow side by side that none has to wait for the one before.
const LANES: usize = 64;
/// Elements ahead of those that are summed up that are asked for.
pub(super) const AHEAD: usize = 512;

/// Sums of the distances from `centre` and of their squares.
pub(super) fn moments(values: &[f32], centre: f32) -> (f64, f64) {
    let (mut sum, mut squares) = (0.0, 0.0);
    values.chunks(SUMMED).for_each(|values| add_distances(values, centre, &mut sum, &mut squares));
    if squares.is_finite() {
        return (sum, squares);
    }
    // The squares of large numbers leave the range of float32.
    values
        .iter()
        .map(|value| f64::from(*value) - f64::from(centre))
        .fold((0.0, 0.0), |(sum, squares), distance| (sum + distance, squares + distance * distance))
}

multiversion! {
    fn add_distances<>(values: &[f32], centre: f32, sum: &mut f64, squares: &mut f64) where {} {
        let (mut sums, mut products) = ([0.0f32; LANES], [0.0f32; LANES]);
        let (whole, rest) = values.as_chunks::<LANES>();
        for values in whole {
            ask_for(values.as_ptr().wrapping_add(AHEAD), LANES);
            for ((value, sum), product) in values.iter().zip(&mut sums).zip(&mut products) {
                let distance = value - centre;
                *sum += distance;
                *product = multiply_add(distance, distance, *product);
            }
        }
        for ((value, sum), product) in rest.iter().zip(&mut sums).zip(&mut products) {
            let distance = value - centre;
            *sum += distance;
            *product = multiply_add(distance, distance, *product);
        }
        *sum += total_of(&sums);
        *squares += total_of(&products);
    }
}

/// The sum, pair by pair.
#[inline(always)]
fn total_of(lanes: &[f32; LANES]) -> f64 {
    let mut few = [0.0f64; 8];
    for lanes in lanes.as_chunks::<16>().0 {
        let (first, second) = lanes.split_at(8);
        for ((few, first), second) in few.iter_mut().zip(first).zip(second) {
            *few += f64::from(first + second);
        }
    }
    let pair = |at: usize| few[at] + few[at + 4];
    (pair(0) + pair(2)) + (pair(1) + pair(3))
}

/// Mean, and 1 / √(variance + eps).
pub(super) fn statistics(values: &[f32], eps: f64) -> Statistics {
    let count = values.len() as f64;
    // Around the first value, so that a large mean does not swallow a small variance.
    let centre = values[0];
    let (sum, squares) = moments(values, centre);
    let off = sum / count;
    let variance = (squares / count - off * off).max(0.0);
    // `max` forgets not-a-number, the sum does not.
    let variance = if squares.is_finite() { variance } else { f64::NAN };
    ((off + f64::from(centre)) as f32, (1.0 / (variance + eps).sqrt()) as f32)
}

/// Pixels summed up by one task, channels last.
const PIXELS: usize = 512;
/// Pixels whose sums are in float32 at first.
const PIXELS_SUMMED: usize = 64;

impl Groups {
    /// Statistics of each group of each picture, channels first.
    pub(super) fn channels_first(
        &self,
        op: &'static str,
        input: &[f32],
        eps: f64,
        cx: &OpContext,
    ) -> Result<Vec<Statistics>, TensorError> {
        let row = self.inner * self.size();
        let each = |values: &[f32]| {
            cx.check(op)?;
            Ok(statistics(values, eps))
        };
        input.par_chunks(row).map(each).collect()
    }

    /// Statistics of each group of each picture, channels last.
    pub(super) fn channels_last(
        &self,
        op: &'static str,
        input: &[f32],
        eps: f64,
        cx: &OpContext,
    ) -> Result<Vec<Statistics>, TensorError> {
        let per_group = self.size();
        let mut result = Vec::with_capacity(self.batch * self.groups);
        for picture in input.chunks(self.inner * self.channels) {
            let centre: Vec<f32> = (0..self.groups).flat_map(|g| vec![picture[g * per_group]; per_group]).collect();
            let each = |pixels: &[f32]| {
                cx.check(op)?;
                let mut sums = vec![0.0f64; 2 * self.channels];
                let mut few = vec![0.0f32; 2 * self.channels];
                for pixels in pixels.chunks(PIXELS_SUMMED * self.channels) {
                    add_pixels(pixels, &centre, &mut few, &mut sums);
                }
                Ok(sums)
            };
            let parts = picture.par_chunks(PIXELS * self.channels).map(each).collect::<Result<Vec<_>, _>>()?;
            let count = (self.inner * per_group) as f64;
            for group in 0..self.groups {
                let (mut sum, mut squares) = (0.0, 0.0);
                for part in &parts {
                    sum += part[group * per_group..][..per_group].iter().sum::<f64>();
                    squares += part[self.channels + group * per_group..][..per_group].iter().sum::<f64>();
                }
                let off = sum / count;
                let variance = squares / count - off * off;
                let variance = if variance < 0.0 { 0.0 } else { variance };
                let mean = f64::from(centre[group * per_group]) + off;
                result.push((mean as f32, (1.0 / (variance + eps).sqrt()) as f32));
            }
        }
        Ok(result)
    }
}

multiversion! {
    /// Adds each channel's distances from the centre to the first half of `sums`, their squares to the second. They are summed
    /// up in `few` before, unless squares of large numbers leave the range of float32.
    fn add_pixels<>(pixels: &[f32], centre: &[f32], few: &mut [f32], sums: &mut [f64]) where {} {
        few.fill(0.0);
        let (first, second) = few.split_at_mut(centre.len());
        for pixel in pixels.chunks_exact(centre.len()) {
            ask_for(pixel.as_ptr().wrapping_add(AHEAD), pixel.len());
            for (((value, centre), sum), square) in pixel.iter().zip(centre).zip(&mut *first).zip(&mut *second) {
                let distance = value - centre;
                *sum += distance;
                *square = multiply_add(distance, distance, *square);
            }
        }
        if few.iter().all(|sum| sum.is_finite()) {
            for (sum, few) in sums.iter_mut().zip(few) {
                *sum += f64::from(*few);
            }
            return;
        }
        let (first, second) = sums.split_at_mut(centre.len());
        for pixel in pixels.chunks_exact(centre.len()) {
            for (((value, centre), sum), square) in pixel.iter().zip(centre).zip(&mut *first).zip(&mut *second) {
                let distance = f64::from(*value) - f64::from(*centre);
                *sum += distance;
                *square += distance * distance;
            }
        }
    }
}
