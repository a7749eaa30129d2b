//! The Lanczos filter of Pillow (10 to 12) on 8 bits, to the bit: fixed-point weights, first along rows, then across them, each rounded
//! to a byte. (A library does it faster on one core, but took longer to compile than everything else here together.)

use crate::cpu::convert::truncated_byte;
use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::cpu::simd::multiversion;
use crate::cpu::transpose::transpose;
use crate::storage::scratch;
use crate::{OpContext, TensorError};

/// Fraction bits of a weight: 32, less those of a byte, less two for weights beyond 1.
const PRECISION: u32 = 22;
const ROUNDING: i32 = 1 << (PRECISION - 1);
/// The filter's reach, in pixels of the smaller image.
const REACH: f64 = 3.0;
/// Numbers of a row that are weighed together.
const LANES: usize = 64;
/// Rows that are narrowed side by side, each in a lane of its own.
const ROWS: usize = 16;

/// Height and width.
type Size = (usize, usize);

/// Bytes of workspace that [`lanczos`] needs.
pub(crate) fn workspace(from: Size, to: Size, channels: usize) -> usize {
    let narrowed = from.0.saturating_mul(to.1);
    // For each thread: some rows as floats, twice, as bytes, and narrowed.
    let rows = ROWS.saturating_mul(9 * from.1 + to.1).saturating_mul(rayon::current_num_threads());
    narrowed.saturating_add(rows).saturating_mul(channels).saturating_add(table_bytes(from, to))
}

/// Bytes of the weights of both axes.
pub(crate) fn table_bytes(from: Size, to: Size) -> usize {
    28 * (from.0 + from.1) + 44 * (to.0 + to.1)
}

/// Whether the last channel is taken as alpha. Without resizing, nothing is multiplied by it.
pub(crate) fn has_alpha(from: Size, to: Size, channels: usize) -> bool {
    from != to && matches!(channels, 2 | 4)
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
    let has_alpha = has_alpha(from, to, channels);
    let mut narrowed = vec![0u8; from.0 * target_row];
    for (index, image) in out.chunks_exact_mut(to.0 * target_row).enumerate() {
        let start = index * from.0 * row;
        fill_rows(op, &mut narrowed, ROWS * target_row, 12, cx, &|first, targets| {
            let mut strip = Strip::new(row, target_row, channels, has_alpha);
            for (index, targets) in targets.chunks_mut(ROWS * target_row).enumerate() {
                strip.narrow(input, start + (first + index) * ROWS * row, &columns, targets);
            }
        })?;
        fill_rows(op, image, target_row, 6, cx, &|first, targets| {
            let mut bytes = vec![0u8; target_row];
            for (index, target) in targets.chunks_exact_mut(target_row).enumerate() {
                let bytes = if from.0 == to.0 {
                    &narrowed[(first + index) * target_row..][..target_row]
                } else {
                    let (low, weights) = rows.of(first + index);
                    weigh_rows(&narrowed[low * target_row..], weights, &mut bytes);
                    &bytes
                };
                if !has_alpha {
                    to_floats(bytes, target);
                    continue;
                }
                for (pixel, bytes) in target.chunks_exact_mut(channels).zip(bytes.chunks_exact(channels)) {
                    for (channel, value) in pixel.iter_mut().enumerate() {
                        *value = f32::from(divided_by_alpha(bytes, channel)) / 255.0;
                    }
                }
            }
        })?;
    }
    Ok(())
}

/// Some rows on their way from floats to narrowed bytes.
struct Strip {
    row: usize,
    target_row: usize,
    channels: usize,
    has_alpha: bool,
    lines: Vec<f32>,
    /// A pixel's channel of every row, then the next.
    turned: Vec<f32>,
    bytes: Vec<u8>,
    narrow: Vec<u8>,
}

impl Strip {
    fn new(row: usize, target_row: usize, channels: usize, has_alpha: bool) -> Strip {
        // Where there are fewer rows than lanes, the others are narrowed too.
        let (lines, turned) = (scratch(ROWS * row), vec![0.0; ROWS * row]);
        let (bytes, narrow) = (vec![0; ROWS * row], vec![0; ROWS * target_row]);
        Strip { row, target_row, channels, has_alpha, lines, turned, bytes, narrow }
    }

    /// As many rows as `targets` has, from element `start` of the input on.
    fn narrow(&mut self, input: &Input<'_>, start: usize, columns: &Weights, targets: &mut [u8]) {
        let rows = targets.len() / self.target_row;
        let lines = input.block(start, rows * self.row, &mut self.lines);
        transpose(lines, self.row, (rows, self.row), &mut self.turned, ROWS);
        to_bytes(&self.turned, &mut self.bytes);
        if self.has_alpha {
            self.bytes.chunks_exact_mut(self.channels * ROWS).for_each(multiply_alpha);
        }
        let narrow = if self.row == self.target_row {
            &self.bytes
        } else {
            weigh_lanes(&self.bytes, columns, self.channels, &mut self.narrow);
            &self.narrow
        };
        // So few numbers at a time that all their rows stay in the cache.
        for (block, narrow) in narrow.chunks(LANES * ROWS).enumerate() {
            for (index, target) in targets.chunks_exact_mut(self.target_row).enumerate() {
                let target = &mut target[block * LANES..][..narrow.len() / ROWS];
                target.iter_mut().zip(narrow.as_chunks::<ROWS>().0).for_each(|(target, lanes)| *target = lanes[index]);
            }
        }
    }
}

multiversion! {
    fn to_bytes<>(values: &[f32], out: &mut [u8]) where {} {
        for (byte, value) in out.iter_mut().zip(values) {
            *byte = truncated_byte(255.0 * *value);
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
pub(crate) struct Weights {
    pub(crate) firsts: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    pub(crate) weights: Vec<i32>,
}

impl Weights {
    pub(crate) fn new(from: usize, to: usize) -> Weights {
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
}

multiversion! {
    /// Narrows one row in each lane.
    fn weigh_lanes<>(turned: &[u8], columns: &Weights, channels: usize, out: &mut [u8]) where {} {
        let (source, out) = (turned.as_chunks::<ROWS>().0, out.as_chunks_mut::<ROWS>().0);
        for (place, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let (low, weights) = columns.of(place);
            for (channel, target) in pixel.iter_mut().enumerate() {
                let mut sums = [ROUNDING; ROWS];
                for (tap, weight) in weights.iter().enumerate() {
                    for (sum, value) in sums.iter_mut().zip(&source[(low + tap) * channels + channel]) {
                        *sum = sum.wrapping_add(i32::from(*value) * *weight);
                    }
                }
                *target = sums.map(to_byte);
            }
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

/// Colours times alpha, rounded: the lanes of every colour, and of alpha.
fn multiply_alpha(pixel: &mut [u8]) {
    let lanes = pixel.as_chunks_mut::<ROWS>().0;
    if let Some((alpha, colours)) = lanes.split_last_mut() {
        for (colour, alpha) in colours.iter_mut().flat_map(|colour| colour.iter_mut().zip(alpha.iter())) {
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
