//! Resizing by weighted sums of neighbours, first along rows, then across them, on `[planes, height, width, channels]`.

use crate::cpu::copy::Source;
use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::cpu::simd::multiversion;
use crate::device::Taps;
use crate::ops::InterpolateMode;
use crate::storage::Stored;
use crate::{OpContext, TensorError};

/// Rows that are kept, resized along the row, for the output rows that follow.
const KEPT_ROWS: usize = 8;

/// For every output position along one axis, which inputs it is made of.
pub(crate) struct Axis {
    /// Where the taps of each output start; one more at the end.
    starts: Vec<u32>,
    indices: Vec<u32>,
    weights: Vec<f32>,
    /// Taps per output, when it is the same for all.
    uniform: Option<usize>,
    identity: bool,
}

impl Axis {
    /// Upper bound of the memory of [`Axis::new`].
    pub(crate) fn bytes(from: usize, to: usize, mode: InterpolateMode) -> usize {
        let taps = match mode {
            InterpolateMode::Bilinear => 2 * to,
            InterpolateMode::Bicubic => 4 * to,
            // Windows overlap by at most one on each side.
            _ => from + 2 * to,
        };
        taps * 8 + (to + 1) * 4
    }

    /// Any mode but lanczos. Positions are computed in single precision, as PyTorch does for float32.
    pub(crate) fn new(from: usize, to: usize, mode: InterpolateMode) -> Axis {
        let mut axis =
            Axis { starts: vec![0], indices: Vec::new(), weights: Vec::new(), uniform: None, identity: from == to };
        let scale = from as f32 / to as f32;
        let last = from - 1;
        for place in 0..to {
            let centre = scale * (place as f32 + 0.5) - 0.5;
            match mode {
                InterpolateMode::Bilinear => {
                    let centre = centre.max(0.0);
                    let low = (centre as usize).min(last);
                    let part = (centre - low as f32).clamp(0.0, 1.0);
                    axis.push(low, 1.0 - part);
                    axis.push((low + 1).min(last), part);
                }
                InterpolateMode::Bicubic => {
                    let floor = centre.floor();
                    for (tap, weight) in cubic_weights(centre - floor).into_iter().enumerate() {
                        let index = floor as i64 - 1 + tap as i64;
                        axis.push(index.clamp(0, last as i64) as usize, weight);
                    }
                }
                InterpolateMode::Nearest | InterpolateMode::NearestExact => {
                    axis.push(Self::nearest_index(from, to, mode, place), 1.0);
                }
                _ => {
                    let (low, high) = (place * from / to, ((place + 1) * from).div_ceil(to));
                    for index in low..high {
                        axis.push(index, 1.0 / (high - low) as f32);
                    }
                }
            }
            axis.starts.push(axis.indices.len() as u32);
        }
        axis.uniform = match mode {
            InterpolateMode::Bilinear => Some(2),
            InterpolateMode::Bicubic => Some(4),
            _ => None,
        };
        axis
    }

    /// For the nearest modes: one input for each output.
    pub(crate) fn indices(from: usize, to: usize, mode: InterpolateMode) -> Vec<u32> {
        (0..to).map(|place| Self::nearest_index(from, to, mode, place) as u32).collect()
    }

    fn nearest_index(from: usize, to: usize, mode: InterpolateMode, place: usize) -> usize {
        let scale = from as f32 / to as f32;
        let shift = if mode == InterpolateMode::NearestExact { 0.5 } else { 0.0 };
        if from == to { place } else { (((place as f32 + shift) * scale).floor() as usize).min(from - 1) }
    }

    /// The same for a GPU.
    pub(crate) fn table(&self) -> Taps<'_> {
        Taps { starts: &self.starts, indices: &self.indices, weights: &self.weights }
    }

    fn push(&mut self, index: usize, weight: f32) {
        self.indices.push(index as u32);
        self.weights.push(weight);
    }

    fn taps(&self, place: usize) -> impl Iterator<Item = (usize, f32)> {
        let range = self.starts[place] as usize..self.starts[place + 1] as usize;
        self.indices[range.clone()].iter().map(|index| *index as usize).zip(self.weights[range].iter().copied())
    }

    fn outputs(&self) -> usize {
        self.starts.len() - 1
    }
}

/// Keys' cubic with a = −0.75, for a point `part` of the way between the second and the third of four taps.
fn cubic_weights(part: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part)]
}

/// Height, width, interleaved channels of the source.
type Size = (usize, usize, usize);

/// Every output row is the weighted sum of some input rows, each resized along the row. A task remembers the last few.
pub(crate) fn resample(
    op: &'static str,
    input: &Input<'_>,
    (height, width, channels): Size,
    rows: &Axis,
    columns: &Axis,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (source_row, row) = (width * channels, columns.outputs() * channels);
    let per_output = (rows.indices.len() / rows.outputs()).max(1);
    fill_rows(op, out, row, per_output, cx, &|first, targets| {
        let mut scratch = vec![0.0f32; source_row];
        let mut kept: Vec<(usize, Vec<f32>)> = vec![(usize::MAX, vec![0.0f32; row]); KEPT_ROWS];
        for (index, target) in targets.chunks_exact_mut(row).enumerate() {
            let (plane, y) = ((first + index) / rows.outputs(), (first + index) % rows.outputs());
            for (tap, (source_y, weight)) in rows.taps(y).enumerate() {
                let wanted = plane * height + source_y;
                let (have, resized) = &mut kept[wanted % KEPT_ROWS];
                if *have != wanted {
                    let source = input.block(wanted * source_row, source_row, &mut scratch);
                    resize_row(source, columns, channels, resized);
                    *have = wanted;
                }
                accumulate(target, resized, weight, tap == 0);
            }
            if cx.is_cancelled() {
                return;
            }
        }
    })
}

multiversion! {
    fn accumulate<>(target: &mut [f32], row: &[f32], weight: f32, first: bool) where {} {
        if first {
            for (target, value) in target.iter_mut().zip(row) {
                *target = weight * *value;
            }
        } else {
            for (target, value) in target.iter_mut().zip(row) {
                *target += weight * *value;
            }
        }
    }
}

fn resize_row(source: &[f32], axis: &Axis, channels: usize, out: &mut [f32]) {
    if axis.identity {
        return out.copy_from_slice(source);
    }
    match (axis.uniform, channels) {
        (Some(2), 1) => resize_uniform::<2, 1>(source, axis, out),
        (Some(2), 3) => resize_uniform::<2, 3>(source, axis, out),
        (Some(2), 4) => resize_uniform::<2, 4>(source, axis, out),
        (Some(4), 1) => resize_uniform::<4, 1>(source, axis, out),
        (Some(4), 3) => resize_uniform::<4, 3>(source, axis, out),
        (Some(4), 4) => resize_uniform::<4, 4>(source, axis, out),
        (_, 1) => resize_windows::<1>(source, axis, out),
        (_, 3) => resize_windows::<3>(source, axis, out),
        (_, 4) => resize_windows::<4>(source, axis, out),
        _ => resize_any(source, axis, channels, out),
    }
}

/// T taps for every output, C channels.
fn resize_uniform<const T: usize, const C: usize>(source: &[f32], axis: &Axis, out: &mut [f32]) {
    let (indices, weights) = (axis.indices.as_chunks::<T>().0, axis.weights.as_chunks::<T>().0);
    let (source, out) = (source.as_chunks::<C>().0, out.as_chunks_mut::<C>().0);
    for ((target, indices), weights) in out.iter_mut().zip(indices).zip(weights) {
        let mut sums = [0.0f32; C];
        for (index, weight) in indices.iter().zip(weights) {
            for (sum, value) in sums.iter_mut().zip(&source[*index as usize]) {
                *sum += *weight * *value;
            }
        }
        *target = sums;
    }
}

/// Any number of taps that are neighbours with equal weights, as `area` has them; C channels.
fn resize_windows<const C: usize>(source: &[f32], axis: &Axis, out: &mut [f32]) {
    let (source, out) = (source.as_chunks::<C>().0, out.as_chunks_mut::<C>().0);
    for (target, range) in out.iter_mut().zip(axis.starts.windows(2)) {
        let (start, end) = (range[0] as usize, range[1] as usize);
        let first = axis.indices[start] as usize;
        let mut sums = [0.0f32; C];
        for pixel in &source[first..first + end - start] {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += *value;
            }
        }
        *target = sums.map(|sum| sum * axis.weights[start]);
    }
}

fn resize_any(source: &[f32], axis: &Axis, channels: usize, out: &mut [f32]) {
    for (place, target) in out.chunks_exact_mut(channels).enumerate() {
        target.fill(0.0);
        for (index, weight) in axis.taps(place) {
            let pixel = &source[index * channels..][..channels];
            for (sum, value) in target.iter_mut().zip(pixel) {
                *sum += weight * *value;
            }
        }
    }
}

/// Picks one pixel for each.
pub(crate) fn nearest<T: Stored>(
    op: &'static str,
    source: &Source<'_, T>,
    (height, width, channels): Size,
    rows: &[u32],
    columns: &[u32],
    out: &mut [T],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (source_row, row) = (width * channels, columns.len() * channels);
    fill_rows(op, out, row.max(1), 1, cx, &|first, targets| {
        let mut line = vec![T::default(); source_row];
        let mut have = usize::MAX;
        for (index, target) in targets.chunks_exact_mut(row).enumerate() {
            let (plane, y) = ((first + index) / rows.len(), (first + index) % rows.len());
            let wanted = plane * height + rows[y] as usize;
            if have != wanted {
                source.read(wanted * source_row, &mut line);
                have = wanted;
            }
            match channels {
                1 => pick::<T, 1>(&line, columns, target),
                3 => pick::<T, 3>(&line, columns, target),
                4 => pick::<T, 4>(&line, columns, target),
                _ => {
                    for (target, index) in target.chunks_exact_mut(channels).zip(columns) {
                        target.copy_from_slice(&line[*index as usize * channels..][..channels]);
                    }
                }
            }
        }
    })
}

fn pick<T: Copy, const C: usize>(line: &[T], columns: &[u32], target: &mut [T]) {
    let line = line.as_chunks::<C>().0;
    for (target, index) in target.as_chunks_mut::<C>().0.iter_mut().zip(columns) {
        *target = line[*index as usize];
    }
}
