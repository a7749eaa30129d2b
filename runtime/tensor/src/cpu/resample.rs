//! Resizing by weighted sums of neighbours, along rows and across them, on `[planes, height, width, channels]`. Where there are
//! fewer rows afterwards, they are summed up first; else they are resized along the row first.

use crate::cpu::copy::Source;
use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::cpu::simd::{map1, map2, multiply_add, multiversion};
use crate::cpu::transpose::transpose;
use crate::device::Taps;
use crate::ops::InterpolateMode;
use crate::storage::{Stored, scratch};
use crate::{OpContext, TensorError};

/// Rows that are resized along the row side by side, each in a lane of its own.
const LANES: usize = 16;
/// Rows that are kept, resized along the row. Those of an output row and the next overlap by at most four.
const KEPT_ROWS: usize = 2 * LANES;
/// Output rows of one task at least, if there are enough.
const TOGETHER: usize = 64;
/// Elements of a row that are summed up over rows while they are in the nearest cache.
const PIECE: usize = 1024;

/// For every output position along one axis, which inputs it is made of.
pub(crate) struct Axis {
    /// Where the taps of each output start; one more at the end.
    starts: Vec<u32>,
    indices: Vec<u32>,
    weights: Vec<f32>,
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
        let mut axis = Axis { starts: vec![0], indices: Vec::new(), weights: Vec::new(), identity: from == to };
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

/// Bytes that [`resample`] needs for each thread.
pub(crate) fn workspace_of_thread((_, width, channels): Size, columns: &Axis) -> usize {
    let (source_row, row) = (width * channels, columns.outputs() * channels);
    (2 * LANES).saturating_mul(source_row).saturating_add((LANES + KEPT_ROWS).saturating_mul(row)).saturating_mul(4)
}

/// Every output row is the weighted sum of some input rows, resized along the row.
pub(crate) fn resample(
    op: &'static str,
    input: &Input<'_>,
    (height, width, channels): Size,
    rows: &Axis,
    columns: &Axis,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let row = columns.outputs() * channels;
    let per_output = (rows.indices.len() / rows.outputs()).max(1);
    // Every task resizes the rows around its own once more, and some more than it needs.
    let block = (out.len() / row).div_ceil(8 * rayon::current_num_threads()).clamp(1, TOGETHER);
    fill_rows(op, out, block * row, per_output, cx, &|first, targets| {
        let first = first * block;
        let wanted = |line: usize| {
            let plane = line / rows.outputs() * height;
            rows.taps(line % rows.outputs()).map(move |(source_y, weight)| (plane + source_y, weight))
        };
        let lines = first..first + targets.len() / row;
        let mut along = Along::new(columns, channels, width * channels);
        if rows.outputs() < height {
            let mut sums = scratch(LANES * width * channels);
            for (target, lines) in targets.chunks_mut(LANES * row).zip(lines.clone().step_by(LANES)) {
                let count = target.len() / row;
                for (line, sum) in (lines..lines + count).zip(sums.chunks_exact_mut(width * channels)) {
                    sum_rows(input, || wanted(line), sum);
                }
                along.resize(&sums[..count * width * channels], target);
                if cx.is_cancelled() {
                    return;
                }
            }
            return;
        }
        let mut needed: Vec<usize> = Vec::new();
        for (source, _) in lines.clone().flat_map(wanted) {
            if needed.last().is_none_or(|last| *last < source) {
                needed.push(source);
            }
        }
        let mut resized = Resized::new(input, needed, along);
        for (line, target) in lines.zip(targets.chunks_exact_mut(row)) {
            for (tap, (source, weight)) in wanted(line).enumerate() {
                accumulate(target, resized.row(source), weight, tap == 0);
            }
            if cx.is_cancelled() {
                return;
            }
        }
    })
}

/// The weighted sum of whole rows, two of them in one pass: most sums have no more.
fn sum_rows<T: Iterator<Item = (usize, f32)>>(input: &Input<'_>, taps: impl Fn() -> T, sum: &mut [f32]) {
    let mut scratch = [[0.0; PIECE]; 2];
    let row = sum.len();
    for (piece, sum) in sum.chunks_mut(PIECE).enumerate() {
        let length = sum.len();
        let [first_scratch, second_scratch] = &mut scratch;
        let mut taps = taps().map(|(source, weight)| (source * row + piece * PIECE, weight));
        let Some((first, weight)) = taps.next() else { continue };
        let values = input.block(first, length, first_scratch);
        if let Some((second, second_weight)) = taps.next() {
            let others = input.block(second, length, second_scratch);
            map2(values, others, sum, move |value: f32, other: f32| multiply_add(second_weight, other, weight * value));
        } else {
            map1(values, sum, move |value: f32| weight * value);
        }
        for (source, weight) in taps {
            accumulate(sum, input.block(source, length, &mut scratch[0]), weight, false);
        }
    }
}

/// Resizes some rows at a time along the row.
struct Along<'a> {
    columns: &'a Axis,
    channels: usize,
    source_row: usize,
    row: usize,
    /// A pixel's channel of every row, then the next.
    turned: Vec<f32>,
    narrow: Vec<f32>,
}

impl<'a> Along<'a> {
    fn new(columns: &'a Axis, channels: usize, source_row: usize) -> Along<'a> {
        let row = columns.outputs() * channels;
        let lanes = if columns.identity { 0 } else { LANES };
        let (turned, narrow) = (scratch(lanes * source_row), scratch(lanes * row));
        Along { columns, channels, source_row, row, turned, narrow }
    }

    /// At most as many rows as there are lanes. Where there are fewer, what happens to be in the others is weighed too.
    fn resize(&mut self, source: &[f32], target: &mut [f32]) {
        let rows = target.len() / self.row;
        if self.columns.identity {
            return target.copy_from_slice(&source[..target.len()]);
        }
        transpose(source, self.source_row, (rows, self.source_row), &mut self.turned, LANES);
        weigh(&self.turned, self.columns, self.channels, &mut self.narrow);
        transpose(&self.narrow, LANES, (self.row, rows), target, self.row);
    }
}

/// Source rows, resized along the row when they are asked for, some at a time.
struct Resized<'a> {
    input: &'a Input<'a>,
    along: Along<'a>,
    /// In the order in which they are asked for, but for the last few, which are asked for again.
    needed: Vec<usize>,
    /// How many of these are resized.
    ready: usize,
    /// The last of them, each in the place of its number.
    kept: Vec<f32>,
    lines: Vec<f32>,
}

impl<'a> Resized<'a> {
    fn new(input: &'a Input<'a>, needed: Vec<usize>, along: Along<'a>) -> Resized<'a> {
        let (kept, lines) = (scratch(KEPT_ROWS * along.row), scratch(LANES * along.source_row));
        Resized { input, along, needed, ready: 0, kept, lines }
    }

    fn row(&mut self, source: usize) -> &[f32] {
        let row = self.along.row;
        let place = self.needed.partition_point(|needed| *needed < source);
        while self.ready <= place {
            self.resize_some(row);
        }
        &self.kept[place % KEPT_ROWS * row..][..row]
    }

    fn resize_some(&mut self, row: usize) {
        let rows = &self.needed[self.ready..(self.ready + LANES).min(self.needed.len())];
        let target = &mut self.kept[self.ready % KEPT_ROWS * row..][..rows.len() * row];
        self.ready += rows.len();
        let source_row = self.along.source_row;
        let source = if rows[rows.len() - 1] - rows[0] + 1 == rows.len() {
            self.input.block(rows[0] * source_row, rows.len() * source_row, &mut self.lines)
        } else {
            for (line, row) in self.lines.chunks_exact_mut(source_row).zip(rows) {
                self.input.read(row * source_row, line);
            }
            &self.lines
        };
        self.along.resize(source, target);
    }
}

multiversion! {
    /// Resizes one row in each lane.
    fn weigh<>(turned: &[f32], axis: &Axis, channels: usize, out: &mut [f32]) where {} {
        let (source, out) = (turned.as_chunks::<LANES>().0, out.as_chunks_mut::<LANES>().0);
        for (pixel, range) in out.chunks_exact_mut(channels).zip(axis.starts.windows(2)) {
            let range = range[0] as usize..range[1] as usize;
            let taps = axis.indices[range.clone()].iter().zip(&axis.weights[range]);
            for (channel, sums) in pixel.iter_mut().enumerate() {
                let mut own = [0.0f32; LANES];
                for (index, weight) in taps.clone() {
                    for (sum, value) in own.iter_mut().zip(&source[*index as usize * channels + channel]) {
                        *sum = multiply_add(*weight, *value, *sum);
                    }
                }
                *sums = own;
            }
        }
    }
}

multiversion! {
    fn accumulate<>(target: &mut [f32], row: &[f32], weight: f32, first: bool) where {} {
        if first {
            for (target, value) in target.iter_mut().zip(row) {
                *target = weight * *value;
            }
        } else {
            for (target, value) in target.iter_mut().zip(row) {
                *target = multiply_add(weight, *value, *target);
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
