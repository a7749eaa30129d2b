//! The Lanczos filter of Pillow (10 to 12) on 8 bits, to the bit: fixed-point weights, first along rows, then across them, each rounded
//! to a byte. (A library does it faster on one core, but took longer to compile than everything else here together.)

use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::cpu::simd::multiversion;
use crate::{OpContext, TensorError};

/// Fraction bits of a weight: 32, less those of a byte, less two for weights beyond 1.
const PRECISION: u32 = 22;
const ROUNDING: i32 = 1 << (PRECISION - 1);
/// The filter's reach, in pixels of the smaller image.
const REACH: f64 = 3.0;
const LANES: usize = 64;

/// Height and width.
type Size = (usize, usize);

/// Bytes of workspace that [`lanczos`] needs.
pub(crate) fn workspace(from: Size, to: Size, channels: usize) -> usize {
    let pixels = [from.0 * from.1, from.0 * to.1, to.0 * to.1].into_iter().fold(0, usize::saturating_add);
    let tables = [(from.0, to.0), (from.1, to.1)].map(|(from, to)| 28 * from + 44 * to);
    pixels.saturating_mul(channels).saturating_add(tables[0] + tables[1])
}

/// Resizes images of interleaved channels, one after the other. Two and four channels have alpha last.
pub(crate) fn lanczos(
    op: &'static str,
    input: &Input<'_>,
    from: Size,
    to: Size,
    channels: usize,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (row, target_row) = (from.1 * channels, to.1 * channels);
    let (columns, rows) = (Weights::new(from.1, to.1), Weights::new(from.0, to.0));
    let has_alpha = from != to && matches!(channels, 2 | 4);
    let mut bytes = vec![0u8; from.0 * row];
    let mut narrowed = vec![0u8; if from.1 == to.1 { 0 } else { from.0 * target_row }];
    let mut resized = vec![0u8; if from.0 == to.0 { 0 } else { to.0 * target_row }];
    for (index, image) in out.chunks_exact_mut(to.0 * target_row).enumerate() {
        let start = index * bytes.len();
        fill_rows(op, &mut bytes, row, 1, cx, &|first, rows| {
            let mut scratch = vec![0.0f32; rows.len()];
            let values = input.block(start + first * row, rows.len(), &mut scratch);
            to_bytes(values, rows);
            if has_alpha {
                rows.chunks_exact_mut(channels).for_each(multiply_alpha);
            }
        })?;
        fill_rows(op, &mut narrowed, target_row, 6, cx, &|first, targets| {
            for (index, target) in targets.chunks_exact_mut(target_row).enumerate() {
                let source = &bytes[(first + index) * row..][..row];
                columns.along_row(source, channels, target);
            }
        })?;
        let between = if narrowed.is_empty() { &bytes } else { &narrowed };
        fill_rows(op, &mut resized, target_row, 6, cx, &|first, targets| {
            for (index, target) in targets.chunks_exact_mut(target_row).enumerate() {
                let (low, weights) = rows.of(first + index);
                weigh_rows(&between[low * target_row..], weights, target);
            }
        })?;
        let result = if resized.is_empty() { between } else { &resized };
        fill_rows(op, image, target_row, 1, cx, &|first, rows| {
            let bytes = &result[first * target_row..][..rows.len()];
            if !has_alpha {
                return to_floats(bytes, rows);
            }
            for (pixel, bytes) in rows.chunks_exact_mut(channels).zip(bytes.chunks_exact(channels)) {
                for (channel, value) in pixel.iter_mut().enumerate() {
                    *value = f32::from(divided_by_alpha(bytes, channel)) / 255.0;
                }
            }
        })?;
    }
    Ok(())
}

multiversion! {
    fn to_bytes<>(values: &[f32], out: &mut [u8]) where {} {
        for (byte, value) in out.iter_mut().zip(values) {
            *byte = (255.0 * *value) as u8;
        }
    }
}

multiversion! {
    fn to_floats<>(bytes: &[u8], out: &mut [f32]) where {} {
        for (value, byte) in out.iter_mut().zip(bytes) {
            *value = f32::from(*byte) / 255.0;
        }
    }
}

/// For every output along one axis, the first input it is made of and the weights from there on.
struct Weights {
    firsts: Vec<u32>,
    starts: Vec<u32>,
    weights: Vec<i32>,
}

impl Weights {
    fn new(from: usize, to: usize) -> Weights {
        let mut result = Weights { firsts: Vec::with_capacity(to), starts: vec![0], weights: Vec::new() };
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = REACH * stretch;
        let mut exact = Vec::new();
        for place in 0..to {
            let centre = (place as f64 + 0.5) * scale;
            let low = (centre - reach + 0.5).max(0.0) as usize;
            let high = ((centre + reach + 0.5) as usize).min(from);
            exact.clear();
            exact.extend((low..high).map(|index| kernel((index as f64 - centre + 0.5) / stretch)));
            let sum: f64 = exact.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
            result.weights.extend(exact.iter().map(fixed));
            result.firsts.push(low as u32);
            result.starts.push(result.weights.len() as u32);
        }
        result
    }

    fn of(&self, place: usize) -> (usize, &[i32]) {
        let range = self.starts[place] as usize..self.starts[place + 1] as usize;
        (self.firsts[place] as usize, &self.weights[range])
    }

    fn along_row(&self, source: &[u8], channels: usize, target: &mut [u8]) {
        match channels {
            1 => self.along_row_of::<1>(source, target),
            2 => self.along_row_of::<2>(source, target),
            3 => self.along_row_of::<3>(source, target),
            4 => self.along_row_of::<4>(source, target),
            _ => {
                for (index, target) in target.iter_mut().enumerate() {
                    let (low, weights) = self.of(index / channels);
                    let values = source[low * channels + index % channels..].iter().step_by(channels);
                    let sum = values.zip(weights).fold(ROUNDING, |sum, (v, w)| sum.wrapping_add(i32::from(*v) * w));
                    *target = to_byte(sum);
                }
            }
        }
    }

    fn along_row_of<const C: usize>(&self, source: &[u8], target: &mut [u8]) {
        let (source, target) = (source.as_chunks::<C>().0, target.as_chunks_mut::<C>().0);
        for (place, target) in target.iter_mut().enumerate() {
            let (low, weights) = self.of(place);
            let mut sums = [ROUNDING; C];
            for (pixel, weight) in source[low..][..weights.len()].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(*value) * *weight);
                }
            }
            *target = sums.map(to_byte);
        }
    }
}

multiversion! {
    /// `out[i] = Σ weights[t] · rows[t · out.len() + i]`
    fn weigh_rows<>(rows: &[u8], weights: &[i32], out: &mut [u8]) where {} {
        let row = out.len();
        for (block, target) in out.chunks_mut(LANES).enumerate() {
            let start = block * LANES;
            let mut sums = [ROUNDING; LANES];
            let sums = &mut sums[..target.len()];
            for (tap, weight) in weights.iter().enumerate() {
                let values = &rows[tap * row + start..][..sums.len()];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = sum.wrapping_add(i32::from(*value) * *weight);
                }
            }
            for (target, sum) in target.iter_mut().zip(sums) {
                *target = to_byte(*sum);
            }
        }
    }
}

#[inline(always)]
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// sinc(x) · sinc(x/3), zero beyond the reach.
fn kernel(x: f64) -> f64 {
    let sinc = |x: f64| {
        let angle = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { angle.sin() / angle }
    };
    if (-REACH..REACH).contains(&x) { sinc(x) * sinc(x / REACH) } else { 0.0 }
}

/// Colours times alpha, rounded.
fn multiply_alpha(pixel: &mut [u8]) {
    if let Some((alpha, colours)) = pixel.split_last_mut() {
        for colour in colours {
            let product = u32::from(*colour) * u32::from(*alpha) + 128;
            *colour = ((product + (product >> 8)) >> 8) as u8;
        }
    }
}

/// A colour divided by alpha, truncated; as it is where alpha is 0 or full, and alpha itself.
fn divided_by_alpha(pixel: &[u8], channel: usize) -> u8 {
    match pixel.split_last() {
        Some((alpha, colours)) if channel < colours.len() && !matches!(*alpha, 0 | 255) => {
            (255 * u32::from(colours[channel]) / u32::from(*alpha)).min(255) as u8
        }
        _ => pixel[channel],
    }
}
