//! Reads any layout in its row-major order, in the largest steps that its strides allow.

use crate::shape::{Layout, MAX_RANK};
use std::ops::Range;

/// Room for a repeated tensor, whose dimensions count twice.
const MAX_DIMS: usize = 2 * MAX_RANK;

/// A layout with neighbouring dimensions joined where memory allows. Positions are row-major indices of the layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    lengths: [usize; MAX_DIMS],
    strides: [isize; MAX_DIMS],
    rank: usize,
    offset: usize,
}

/// A rectangle of elements: `rows` rows of `columns`, each with its step in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rectangle {
    pub(crate) offset: usize,
    pub(crate) rows: usize,
    pub(crate) row_stride: isize,
    pub(crate) columns: usize,
    pub(crate) column_stride: isize,
}

impl Reader {
    pub(crate) fn new(layout: &Layout) -> Reader {
        let dims = layout.lengths().iter().copied().zip(layout.strides().iter().copied());
        Reader::of_dims(layout.offset, dims)
    }

    /// From lengths and strides, outermost first; at most twice the rank of a tensor.
    pub(crate) fn of_dims(offset: usize, dims: impl Iterator<Item = (usize, isize)>) -> Reader {
        let mut reader = Reader { lengths: [1; MAX_DIMS], strides: [1; MAX_DIMS], rank: 0, offset };
        for (length, stride) in dims.filter(|(length, _)| *length != 1) {
            let last = reader.rank.wrapping_sub(1);
            if reader.rank > 0 && reader.strides[last] == stride.wrapping_mul(length as isize) {
                reader.lengths[last] *= length;
                reader.strides[last] = stride;
            } else {
                reader.lengths[reader.rank] = length;
                reader.strides[reader.rank] = stride;
                reader.rank += 1;
            }
        }
        reader.rank = reader.rank.max(1);
        reader
    }

    /// Where `length` elements from `start` lie, if they are neighbours in memory.
    pub(crate) fn contiguous(&self, start: usize, length: usize) -> Option<Range<usize>> {
        if self.rank == 1 && (self.strides[0] == 1 || self.lengths[0] == 1) {
            let from = self.offset + start;
            return Some(from..from + length);
        }
        None
    }

    /// Length and stride of the innermost joined dimension.
    pub(crate) fn innermost(&self) -> (usize, isize) {
        (self.lengths[self.rank - 1], self.strides[self.rank - 1])
    }

    /// When the innermost two dimensions are a matrix that lies turned around in memory: its rows, its columns, and the
    /// distance of columns. Those of one row are far apart then, those of one column neighbours.
    pub(crate) fn turned(&self) -> Option<(usize, usize, usize)> {
        const WORTHWHILE: usize = 8;
        let last = self.rank.checked_sub(2)?;
        let (rows, columns, stride) = (self.lengths[last], self.lengths[last + 1], self.strides[last + 1]);
        let usable = self.strides[last] == 1 && stride > 0 && rows >= WORTHWHILE && columns >= WORTHWHILE;
        usable.then_some((rows, columns, stride as usize))
    }

    /// Offset of the matrix of [`Reader::turned`] with this number.
    pub(crate) fn matrix(&self, index: usize) -> usize {
        self.at(self.rank - 2, index) as usize
    }

    /// Offset in memory of one element. For a reader of steps from elsewhere it may be negative.
    pub(crate) fn locate(&self, position: usize) -> isize {
        self.at(self.rank, position)
    }

    /// The same steps from `distance` further on.
    pub(crate) fn moved(&self, distance: isize) -> Reader {
        Reader { offset: (self.offset as isize + distance) as usize, ..*self }
    }

    /// Offset of the element at `position` among the first `rank` dimensions.
    fn at(&self, rank: usize, position: usize) -> isize {
        let mut rest = position;
        let mut offset = self.offset as isize;
        for dim in (0..rank).rev() {
            let length = self.lengths[dim];
            offset += (rest % length) as isize * self.strides[dim];
            rest /= length;
        }
        offset
    }

    /// Visits `length` elements from `start` in order, as rectangles. All must exist.
    pub(crate) fn visit(&self, start: usize, length: usize, mut visit: impl FnMut(Rectangle)) {
        if length == 0 {
            return;
        }
        let (inner, column_stride) = self.innermost();
        if self.rank == 1 {
            let offset = (self.offset as isize + start as isize * column_stride) as usize;
            return visit(Rectangle { offset, rows: 1, row_stride: 0, columns: length, column_stride });
        }
        let (middle, row_stride) = (self.lengths[self.rank - 2], self.strides[self.rank - 2]);
        let (mut position, end) = (start, start + length);
        while position < end {
            let column = position % inner;
            let row = position / inner;
            let base = self.at(self.rank - 1, row);
            let offset = (base + column as isize * column_stride) as usize;
            let left = end - position;
            let (rows, columns) = if column != 0 || left < inner {
                (1, left.min(inner - column))
            } else {
                ((middle - row % middle).min(left / inner), inner)
            };
            visit(Rectangle { offset, rows, row_stride, columns, column_stride });
            position += rows * columns;
        }
    }
}

/// Columns up to which a rectangle is walked column by column.
const NARROW: usize = 8;

/// Copies `out.len()` elements from `start` on, converted by `convert` (whole slices where memory allows).
pub(crate) fn read<T: Copy, U>(
    values: &[T],
    reader: &Reader,
    start: usize,
    out: &mut [U],
    convert_slice: impl Fn(&[T], &mut [U]),
    convert: impl Fn(T) -> U,
) {
    let mut filled = 0;
    reader.visit(start, out.len(), |rectangle| {
        let count = rectangle.rows * rectangle.columns;
        let target = &mut out[filled..filled + count];
        filled += count;
        read_rectangle(values, &rectangle, target, &convert_slice, &convert);
    });
}

fn read_rectangle<T: Copy, U>(
    values: &[T],
    rectangle: &Rectangle,
    out: &mut [U],
    convert_slice: impl Fn(&[T], &mut [U]),
    convert: impl Fn(T) -> U,
) {
    let Rectangle { offset, rows, row_stride, columns, column_stride } = *rectangle;
    if row_stride == 1 && rows > columns {
        // Planes side by side, or one number for each channel: what pictures are.
        match columns {
            2 => return interleave::<2, _, _>(values, offset, column_stride, out, convert),
            3 => return interleave::<3, _, _>(values, offset, column_stride, out, convert),
            4 => return interleave::<4, _, _>(values, offset, column_stride, out, convert),
            _ => {}
        }
    }
    if columns <= NARROW && rows > columns {
        for column in 0..columns {
            let from = (offset as isize + column as isize * column_stride) as usize;
            let source = strided(values, from, row_stride, rows);
            for (target, value) in out[column..].iter_mut().step_by(columns).zip(source) {
                *target = convert(value);
            }
        }
        return;
    }
    for (row, target) in out.chunks_exact_mut(columns).enumerate() {
        let from = (offset as isize + row as isize * row_stride) as usize;
        if column_stride == 1 {
            convert_slice(&values[from..from + columns], target);
        } else {
            for (target, value) in target.iter_mut().zip(strided(values, from, column_stride, columns)) {
                *target = convert(value);
            }
        }
    }
}

/// One element of each of `N` runs after the other.
fn interleave<const N: usize, T: Copy, U>(
    values: &[T],
    offset: usize,
    column_stride: isize,
    out: &mut [U],
    convert: impl Fn(T) -> U,
) {
    let rows = out.len() / N;
    let columns: [&[T]; N] = std::array::from_fn(|column| {
        let from = (offset as isize + column as isize * column_stride) as usize;
        &values[from..from + rows]
    });
    for (row, target) in out.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        for (target, column) in target.iter_mut().zip(columns) {
            *target = convert(column[row]);
        }
    }
}

fn strided<T: Copy>(values: &[T], from: usize, stride: isize, count: usize) -> impl Iterator<Item = T> {
    // One slice and one direction for all, so that the loop around stays simple.
    let step = stride.unsigned_abs();
    let span = step * (count - 1);
    let (low, backwards) = if stride < 0 { (from - span, true) } else { (from, false) };
    let slice = &values[low..=low + span];
    let last = span;
    (0..count).map(move |index| slice[if backwards { last - index * step } else { index * step }])
}
