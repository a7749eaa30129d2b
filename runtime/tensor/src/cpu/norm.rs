//! Normalisation of rows and of groups of channels, and softmax of rows.

use crate::cpu::simd::{ask_for, fold_lanes, map1, map2, map3, multiply_add, multiversion};
use crate::cpu::{BLOCK, fill_rows, math};
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// What is multiplied and added after normalisation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) weight: Option<&'a [f32]>,
    pub(crate) bias: Option<&'a [f32]>,
}

impl Affine<'_> {
    /// What a channel is multiplied by, and what is added then.
    fn of(&self, channel: usize) -> (f32, f32) {
        (self.weight.map_or(1.0, |weight| weight[channel]), self.bias.map_or(0.0, |bias| bias[channel]))
    }
}

/// Values whose sums fit well into float32.
const SUMMED: usize = 1024;
/// So many sums grow side by side that none has to wait for the one before.
const LANES: usize = 64;
/// Elements ahead of those that are summed up that are asked for.
const AHEAD: usize = 512;

/// Sums of the distances from `centre` and of their squares.
fn moments(values: &[f32], centre: f32) -> (f64, f64) {
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
fn statistics(values: &[f32], eps: f64) -> (f32, f32) {
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

/// Rows normalised each for itself.
pub(crate) struct RowNorm {
    pub(crate) op: &'static str,
    pub(crate) row: usize,
    pub(crate) eps: f64,
    /// Only by the root of the mean square.
    pub(crate) rms: bool,
}

impl RowNorm {
    pub(crate) fn run(
        &self,
        input: &[f32],
        affine: Affine<'_>,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        fill_rows(self.op, out, self.row, 2, cx, &|first, rows| {
            for (index, out) in rows.chunks_exact_mut(self.row).enumerate() {
                let values = &input[(first + index) * self.row..][..self.row];
                let (mean, scale) = if self.rms {
                    let square = moments(values, 0.0).1 / self.row as f64;
                    (0.0, (1.0 / (square + self.eps).sqrt()) as f32)
                } else {
                    statistics(values, self.eps)
                };
                match (affine.weight, affine.bias) {
                    (None, None) => map1(values, out, move |v: f32| (v - mean) * scale),
                    (Some(weight), None) => map2(values, weight, out, move |v: f32, w: f32| (v - mean) * scale * w),
                    (None, Some(bias)) => map2(values, bias, out, move |v: f32, b: f32| (v - mean) * scale + b),
                    (Some(weight), Some(bias)) => {
                        map3(values, weight, bias, out, move |v: f32, w: f32, b: f32| (v - mean) * scale * w + b);
                    }
                }
            }
        })
    }
}

/// Groups of channels, in dense memory.
pub(crate) struct Groups {
    pub(crate) op: &'static str,
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    /// Pixels.
    pub(crate) inner: usize,
    /// `[B, pixels, channels]` instead of `[B, channels, pixels]`.
    pub(crate) channels_last: bool,
    pub(crate) eps: f64,
}

/// Pixels summed up by one task, channels last.
const PIXELS: usize = 512;
/// Pixels whose sums are in float32 at first.
const PIXELS_SUMMED: usize = 64;

impl Groups {
    pub(crate) fn run(
        &self,
        input: &[f32],
        affine: Affine<'_>,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        if !self.channels_last && self.batch * self.groups >= rayon::current_num_threads() {
            return self.each_at_once(input, affine, out, cx);
        }
        let statistics = if self.channels_last { self.sums_last(input, cx)? } else { self.rows(input, cx)? };
        let per_group = self.channels / self.groups;
        // Times and plus, for each channel of each picture.
        let (mut scales, mut shifts) = (Vec::new(), Vec::new());
        for (index, (mean, scale)) in statistics.iter().enumerate() {
            for channel in index % self.groups * per_group..(index % self.groups + 1) * per_group {
                let (weight, bias) = affine.of(channel);
                scales.push(scale * weight);
                shifts.push((*mean, bias));
            }
        }
        if self.channels_last {
            let means: Vec<f32> = shifts.iter().map(|shift| shift.0).collect();
            let biases: Vec<f32> = shifts.iter().map(|shift| shift.1).collect();
            return fill_rows(self.op, out, self.channels, 2, cx, &|first, rows| {
                for (index, out) in rows.chunks_exact_mut(self.channels).enumerate() {
                    let at = (first + index) / self.inner * self.channels;
                    let values = &input[(first + index) * self.channels..][..self.channels];
                    apply(values, &means[at..], &scales[at..], &biases[at..], out);
                }
            });
        }
        fill_rows(self.op, out, self.inner, 2, cx, &|first, rows| {
            for (index, out) in rows.chunks_exact_mut(self.inner).enumerate() {
                let values = &input[(first + index) * self.inner..][..self.inner];
                let (scale, (mean, bias)) = (scales[first + index], shifts[first + index]);
                map1(values, out, move |v: f32| (v - mean) * scale + bias);
            }
        })
    }

    /// Every group by itself, while it is in the cache, channels first.
    fn each_at_once(
        &self,
        input: &[f32],
        affine: Affine<'_>,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let per_group = self.channels / self.groups;
        let row = self.inner * per_group;
        fill_rows(self.op, out, row, 4, cx, &|first, rows| {
            for (index, out) in rows.chunks_exact_mut(row).enumerate() {
                let values = &input[(first + index) * row..][..row];
                let (mean, scale) = statistics(values, self.eps);
                let channels = values.chunks_exact(self.inner).zip(out.chunks_exact_mut(self.inner));
                for (channel, (values, out)) in channels.enumerate() {
                    let (weight, bias) = affine.of((first + index) % self.groups * per_group + channel);
                    let scale = scale * weight;
                    map1(values, out, move |v: f32| (v - mean) * scale + bias);
                }
            }
        })
    }

    /// Statistics of each group of each picture, channels first.
    fn rows(&self, input: &[f32], cx: &OpContext) -> Result<Vec<(f32, f32)>, TensorError> {
        let row = self.inner * self.channels / self.groups;
        let each = |values: &[f32]| {
            cx.check(self.op)?;
            Ok(statistics(values, self.eps))
        };
        input.par_chunks(row).map(each).collect()
    }

    /// Statistics of each group of each picture, channels last.
    fn sums_last(&self, input: &[f32], cx: &OpContext) -> Result<Vec<(f32, f32)>, TensorError> {
        let per_group = self.channels / self.groups;
        let mut result = Vec::with_capacity(self.batch * self.groups);
        for picture in input.chunks(self.inner * self.channels) {
            let centre: Vec<f32> = (0..self.groups).flat_map(|g| vec![picture[g * per_group]; per_group]).collect();
            let each = |pixels: &[f32]| {
                cx.check(self.op)?;
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
                result.push((mean as f32, (1.0 / (variance + self.eps).sqrt()) as f32));
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

multiversion! {
    fn apply<>(values: &[f32], means: &[f32], scales: &[f32], biases: &[f32], out: &mut [f32]) where {} {
        ask_for(values.as_ptr().wrapping_add(AHEAD), values.len());
        for ((((out, value), mean), scale), bias) in out.iter_mut().zip(values).zip(means).zip(scales).zip(biases) {
            *out = (value - mean) * scale + bias;
        }
    }
}

/// Softmax of every row.
pub(crate) fn softmax(
    op: &'static str,
    input: &[f32],
    row: usize,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill_rows(op, out, row, 8, cx, &|first, rows| {
        for (index, out) in rows.chunks_exact_mut(row).enumerate() {
            let values = &input[(first + index) * row..][..row];
            let largest = maximum(values);
            let mut sum = 0.0f64;
            for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                map1(values, out, move |v: f32| math::exp(v - largest));
                sum += total(out);
            }
            let scale = (1.0 / sum) as f32;
            scale_by(out, scale);
        }
    })
}

/// The largest value; not-a-number is passed over.
pub(crate) fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 32];
    fold_lanes(&mut lanes, values, |a, v: f32| if v > a { v } else { a });
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum, of at most some thousand values.
pub(crate) fn total(values: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 32];
    fold_lanes(&mut lanes, values, |a, v: f32| a + v);
    lanes.into_iter().map(f64::from).sum()
}

multiversion! {
    /// Multiplies every value.
    pub(crate) fn scale_by<>(values: &mut [f32], scale: f32) where {} {
        for value in values {
            *value *= scale;
        }
    }
}
