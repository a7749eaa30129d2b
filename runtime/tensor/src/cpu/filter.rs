//! One-dimensional correlations along and across rows of `[planes, height, width, channels]`.

use crate::cpu::copy::border;
use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::cpu::simd::multiversion;
use crate::ops::PadMode;
use crate::{OpContext, TensorError};

/// Results that are summed up at once, in registers.
const LANES: usize = 64;
/// Columns that are filtered across many rows before the next ones, so that the rows stay in the cache.
const TILE: usize = 1024;

/// Height, width, interleaved channels.
type Size = (usize, usize, usize);

/// Filters every row of `input` into `out`.
pub(crate) fn along_rows(
    op: &'static str,
    input: &Input<'_>,
    (_, width, channels): Size,
    kernel: &[f32],
    mode: PadMode,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (radius, row) = (kernel.len() / 2, width * channels);
    fill_rows(op, out, row, kernel.len(), cx, &|first, rows| {
        let mut padded = vec![0.0f32; (width + 2 * radius) * channels];
        let mut scratch = vec![0.0f32; row];
        for (index, target) in rows.chunks_exact_mut(row).enumerate() {
            let source = input.block((first + index) * row, row, &mut scratch);
            let middle = radius * channels;
            padded[middle..middle + row].copy_from_slice(source);
            for place in (0..radius).chain(radius + width..width + 2 * radius) {
                if let Some(inside) = border(mode, place as isize - radius as isize, width) {
                    let from = middle + inside * channels;
                    padded.copy_within(from..from + channels, place * channels);
                }
            }
            correlate_row(&padded, channels, kernel, target);
        }
    })
}

/// Filters every column of `source` into `out`.
pub(crate) fn across_rows(
    op: &'static str,
    source: &[f32],
    (height, width, channels): Size,
    kernel: &[f32],
    mode: PadMode,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (radius, row) = (kernel.len() / 2, width * channels);
    // Several rows at once, or the cache is filled anew for each.
    let cost = (kernel.len() / 16).max(1);
    fill_rows(op, out, row, cost, cx, &|first, rows| {
        let zeros = [0.0f32; TILE];
        let mut taps: Vec<&[f32]> = Vec::with_capacity(kernel.len());
        for tile in (0..row).step_by(TILE) {
            let width = TILE.min(row - tile);
            for (index, target) in rows.chunks_exact_mut(row).enumerate() {
                let (plane, y) = ((first + index) / height, (first + index) % height);
                taps.clear();
                taps.extend((0..kernel.len()).map(|tap| {
                    match border(mode, (y + tap) as isize - radius as isize, height) {
                        Some(inside) => &source[(plane * height + inside) * row + tile..][..width],
                        None => &zeros[..width],
                    }
                }));
                correlate_rows(&taps, kernel, &mut target[tile..tile + width]);
            }
        }
    })
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
