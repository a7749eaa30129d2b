//! Operations that only move elements: contiguous, cat, repeat, paste, pad.

use crate::cpu::reader::{Reader, read};
use crate::cpu::transpose::transpose;
use crate::cpu::{fill, fill_rows};
use crate::ops::PadMode;
use crate::shape::MAX_RANK;
use crate::storage::Stored;
use crate::{OpContext, TensorError};

/// A typed operand.
pub(crate) struct Source<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) reader: Reader,
}

impl<T: Stored> Source<'_, T> {
    pub(crate) fn read(&self, start: usize, out: &mut [T]) {
        if let Some(range) = self.reader.contiguous(start, out.len()) {
            return out.copy_from_slice(&self.values[range]);
        }
        read(self.values, &self.reader, start, out, |source, target| target.copy_from_slice(source), |value| value);
    }
}

/// Row-major copy of floats, the faster where the innermost matrices lie turned around.
pub(crate) fn copy_turned(
    op: &'static str,
    source: &Source<'_, f32>,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let Some((rows, columns, stride)) = source.reader.turned() else { return copy(op, source, out, cx) };
    fill_rows(op, out, columns, 1, cx, &|first, mut chunk| {
        let mut row = first;
        while !chunk.is_empty() {
            let count = (rows - row % rows).min(chunk.len() / columns);
            let (piece, rest) = chunk.split_at_mut(count * columns);
            let from = source.reader.matrix(row / rows) + row % rows;
            transpose(&source.values[from..], stride, (columns, count), piece, columns);
            chunk = rest;
            row += count;
        }
    })
}

/// Row-major copy.
pub(crate) fn copy<T: Stored>(
    op: &'static str,
    source: &Source<'_, T>,
    out: &mut [T],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill(op, out, cx, &|start, chunk| source.read(start, chunk))
}

/// One operand of [`cat`]: `length` is what each outer index takes from it.
pub(crate) struct Segment<'a, T> {
    pub(crate) source: Source<'a, T>,
    pub(crate) length: usize,
    /// Sum of the lengths before it.
    pub(crate) before: usize,
}

/// For each outer index, the segments one after the other. `total` is the sum of their lengths; none is empty.
pub(crate) fn cat<T: Stored>(
    op: &'static str,
    segments: &[Segment<'_, T>],
    total: usize,
    out: &mut [T],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill(op, out, cx, &|start, mut chunk| {
        let (mut outer, within) = (start / total, start % total);
        let mut index = segments.partition_point(|segment| segment.before + segment.length <= within);
        let mut skip = within - segments[index].before;
        while !chunk.is_empty() {
            let segment = &segments[index];
            let count = (segment.length - skip).min(chunk.len());
            let (piece, rest) = chunk.split_at_mut(count);
            segment.source.read(outer * segment.length + skip, piece);
            chunk = rest;
            skip = 0;
            index += 1;
            if index == segments.len() {
                index = 0;
                outer += 1;
            }
        }
    })
}

/// Coordinates over the outer dimensions of a row-major walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outer {
    pub(crate) lengths: [usize; MAX_RANK],
    pub(crate) rank: usize,
}

impl Outer {
    /// The row of a source of other `lengths` that belongs to row `index` of the result. `inside` takes a dimension and a
    /// coordinate of the result to the coordinate in the source, or to `None` where there is no such row.
    fn source_row(
        &self,
        index: usize,
        lengths: &[usize],
        inside: impl Fn(usize, usize) -> Option<usize>,
    ) -> Option<usize> {
        let (mut rest, mut row, mut step) = (index, 0, 1);
        for dim in (0..self.rank).rev() {
            row += inside(dim, rest % self.lengths[dim])? * step;
            rest /= self.lengths[dim];
            step *= lengths[dim];
        }
        Some(row)
    }
}

/// Where [`paste`] writes. Dimensions behind the last that `source` does not fill are joined into `inner`.
pub(crate) struct PasteGeometry {
    /// Outer dimensions of the result.
    pub(crate) outer: Outer,
    /// Lengths of `source` and where it starts, along the outer dimensions and then the row's dimension.
    pub(crate) source: [usize; MAX_RANK],
    pub(crate) offsets: [usize; MAX_RANK],
    /// Length of the row's dimension in the result.
    pub(crate) row: usize,
    pub(crate) inner: usize,
}

/// `base` with `source` written over it.
pub(crate) fn paste<T: Stored>(
    op: &'static str,
    base: &Source<'_, T>,
    source: &Source<'_, T>,
    geometry: &PasteGeometry,
    out: &mut [T],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let rank = geometry.outer.rank;
    let row = geometry.row * geometry.inner;
    let left = geometry.offsets[rank] * geometry.inner;
    let middle = geometry.source[rank] * geometry.inner;
    fill_rows(op, out, row, 1, cx, &|first, rows| {
        for (index, target) in rows.chunks_exact_mut(row).enumerate() {
            let index = first + index;
            let inside = |dim: usize, coordinate: usize| {
                let inside = coordinate.checked_sub(geometry.offsets[dim]);
                inside.filter(|coordinate| *coordinate < geometry.source[dim])
            };
            let source_row = geometry.outer.source_row(index, &geometry.source, inside);
            let Some(source_row) = source_row else {
                base.read(index * row, target);
                continue;
            };
            base.read(index * row, &mut target[..left]);
            source.read(source_row * middle, &mut target[left..left + middle]);
            base.read(index * row + left + middle, &mut target[left + middle..]);
        }
    })
}

/// How [`pad`] grows. Dimensions behind the last padded one are joined into `inner`.
pub(crate) struct PadGeometry {
    /// Outer dimensions of the result.
    pub(crate) outer: Outer,
    /// Lengths of the source along the outer dimensions and then the row's dimension.
    pub(crate) source: [usize; MAX_RANK],
    pub(crate) before: [usize; MAX_RANK],
    /// Length of the row's dimension in the result.
    pub(crate) row: usize,
    pub(crate) inner: usize,
    pub(crate) mode: PadMode,
}

/// The element of a line of `length` that stands at `position` of the padded line, or `None` for the constant.
pub(crate) fn border(mode: PadMode, position: isize, length: usize) -> Option<usize> {
    let last = length as isize - 1;
    if (0..=last).contains(&position) {
        return Some(position as usize);
    }
    let inside = match mode {
        PadMode::Constant => return None,
        PadMode::Replicate => position.clamp(0, last),
        PadMode::Circular => position.rem_euclid(length as isize),
        PadMode::Reflect => {
            let period = (2 * last).max(1);
            let place = position.rem_euclid(period);
            if place > last { period - place } else { place }
        }
    };
    Some(inside as usize)
}

/// `source` with a border.
pub(crate) fn pad<T: Stored>(
    op: &'static str,
    source: &Source<'_, T>,
    geometry: &PadGeometry,
    value: T,
    out: &mut [T],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (rank, inner) = (geometry.outer.rank, geometry.inner);
    let row = geometry.row * inner;
    let (before, length) = (geometry.before[rank], geometry.source[rank]);
    fill_rows(op, out, row, 1, cx, &|first, rows| {
        for (index, target) in rows.chunks_exact_mut(row).enumerate() {
            let inside = |dim: usize, coordinate: usize| {
                let position = coordinate as isize - geometry.before[dim] as isize;
                border(geometry.mode, position, geometry.source[dim])
            };
            let source_row = geometry.outer.source_row(first + index, &geometry.source, inside);
            let Some(source_row) = source_row else {
                target.fill(value);
                continue;
            };
            let middle = before * inner..(before + length) * inner;
            source.read(source_row * length * inner, &mut target[middle.clone()]);
            for place in (0..before).chain(before + length..geometry.row) {
                let to = place * inner;
                match border(geometry.mode, place as isize - before as isize, length) {
                    None => target[to..to + inner].fill(value),
                    Some(inside) => {
                        let from = middle.start + inside * inner;
                        target.copy_within(from..from + inner, to);
                    }
                }
            }
        }
    })
}
