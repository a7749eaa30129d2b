//! Products of matrices: a kernel in vector registers ([`kernel`]) with one operand rearranged into panels for it ([`pack`]); on
//! processors that have one, a matrix unit ([`amx`]) for numbers that are taken apart for it ([`mod@split`]), which also reads pixels
//! under windows where they lie ([`windows`]); and here how the work is cut into pieces.
//!
//! How the steps of a sum are cut depends on sizes alone, so a result does not depend on the number of threads.

mod amx;
mod few;
mod kernel;
mod pack;
mod part;
mod split;
mod stored;
mod windows;

pub(crate) use self::split::{Line, LineBlock, Lines, Tiling, split, split_chunk, split_run, split_steps};
pub(crate) use amx::{STEPS as LINE_STEPS, Tiles};
pub(crate) use few::{ConvertedRows, turned_packed};
pub(crate) use kernel::{Kernel, MOST_COLUMNS};
pub(crate) use pack::{Packed, Panels};
pub(crate) use part::{multiply, multiply_split};
pub(crate) use stored::{product_stored, storing_pays};
pub(crate) use windows::{Pixels, SplitLines, TiledWindows, product_in_place};

use crate::cpu::convert::Load;
use crate::cpu::transpose::transpose;
use crate::{DType, OpContext, TensorError};
use part::{Part, Target, multiply_part};
use rayon::prelude::*;

/// Steps of the sum that are taken at a time, so that a block of rows stays in the second-level cache.
const STEPS: usize = 384;
/// From one gathered row to the next: unlike most lengths of rows, no multiple of what caches repeat at.
pub(crate) const ROW: usize = SPLIT_STEPS + 16;
const SPLIT_STEPS: usize = 512;
/// Rows of one piece, about; and multiplications that it should be worth at least. The matrix unit is faster.
const ROWS_OF_BLOCK: usize = 112;
const PIECE: usize = 1 << 22;
const SPLIT_PIECE: usize = 1 << 24;
/// Pieces there should be at least for each thread, so that threads finish together.
const PIECES: usize = 8;
const SPLIT_PIECES: usize = 4;

/// A stored type that products can be made of.
pub(crate) trait MatrixType: Load<f32> + Sync {
    /// How many bfloat16 make up a number; see [`mod@split`].
    const PARTS: usize;

    /// The values themselves, if they need no conversion.
    fn as_floats(values: &[Self]) -> Option<&[f32]> {
        let _ = values;
        None
    }
}
impl MatrixType for f32 {
    const PARTS: usize = 3;

    fn as_floats(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }
}
impl MatrixType for half::f16 {
    const PARTS: usize = 2;
}
impl MatrixType for half::bf16 {
    const PARTS: usize = 1;
}
impl MatrixType for crate::float8::F8E4M3 {
    const PARTS: usize = 1;
}
impl MatrixType for crate::float8::F8E5M2 {
    const PARTS: usize = 1;
}

/// [`MatrixType::PARTS`] of a tensor's numbers, which may be widened to float32.
pub(crate) fn parts_of(dtype: DType) -> usize {
    match dtype {
        DType::Float16 => <half::f16 as MatrixType>::PARTS,
        DType::Bfloat16 => <half::bf16 as MatrixType>::PARTS,
        DType::Float8E4m3 => crate::float8::F8E4M3::PARTS,
        DType::Float8E5m2 => crate::float8::F8E5M2::PARTS,
        _ => f32::PARTS,
    }
}

/// Whether products should be made by the matrix unit: of so many rows, steps and columns.
pub(crate) fn splitting_pays(rows: usize, inner: usize, columns: usize) -> bool {
    const ROWS: usize = 48;
    const INNER: std::ops::Range<usize> = 16..1 << 15;
    rows >= ROWS && columns >= amx::TILE && INNER.contains(&inner) && can_split()
}

/// Whether there is a matrix unit, beside a kernel whose panels are as wide as its blocks.
pub(crate) fn can_split() -> bool {
    let kernel = Kernel::get();
    amx::available() && (kernel.columns, kernel.narrow) == (amx::BLOCK, amx::TILE)
}

/// Part of a slice seen as a matrix. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, T = f32> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Dense and row-major.
    pub(crate) fn dense(values: &'a [T], rows: usize, columns: usize) -> Self {
        Matrix { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// `columns` columns from `first` on.
    fn columns_from(self, first: usize, columns: usize) -> Self {
        Matrix { values: &self.values[(first * self.column_stride).min(self.values.len())..], columns, ..self }
    }

    pub(crate) fn assert_inside(&self) {
        if self.rows > 0 && self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < self.values.len(), "a matrix reaches beyond its slice");
        }
    }
}

/// Rows that are made up on the way, some steps at a time.
pub(crate) trait Rows: Sync {
    /// Writes `inner` steps from `start` on of the rows from `first` on: rows of `out` are [`ROW`] apart.
    fn gather(&self, first: usize, start: usize, inner: usize, out: &mut [f32]);
}

impl Rows for Matrix<'_> {
    fn gather(&self, first: usize, start: usize, inner: usize, out: &mut [f32]) {
        if self.row_stride == 1 && self.column_stride > 1 {
            let from = &self.values[first + start * self.column_stride..];
            return transpose(from, self.column_stride, (inner, out.len() / ROW), out, ROW);
        }
        for (row, out) in out.chunks_exact_mut(ROW).enumerate() {
            let from = (first + row) * self.row_stride + start * self.column_stride;
            if self.column_stride == 1 {
                out[..inner].copy_from_slice(&self.values[from..from + inner]);
            } else {
                // Not `step_by`: the distance of an expanded dimension is zero.
                for (step, out) in out[..inner].iter_mut().enumerate() {
                    *out = self.values[from + step * self.column_stride];
                }
            }
        }
    }
}

/// The left side of a product.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    rows: LeftRows<'a>,
    /// As [`MatrixType::PARTS`].
    parts: usize,
}

#[derive(Clone, Copy)]
enum LeftRows<'a> {
    Plain(Matrix<'a>),
    /// So many rows, of so many steps.
    Gathered(&'a dyn Rows, usize, usize),
}

impl<'a> Left<'a> {
    pub(crate) fn plain(matrix: Matrix<'a>) -> Self {
        Left { rows: LeftRows::Plain(matrix), parts: f32::PARTS }
    }

    pub(crate) fn gathered(by: &'a dyn Rows, rows: usize, inner: usize) -> Self {
        Left { rows: LeftRows::Gathered(by, rows, inner), parts: f32::PARTS }
    }

    /// Promises that bfloat16 numbers, so many for each, make up the numbers.
    pub(crate) fn of_parts(self, parts: usize) -> Self {
        Left { parts, ..self }
    }

    fn rows(&self) -> usize {
        match self.rows {
            LeftRows::Plain(matrix) => matrix.rows,
            LeftRows::Gathered(_, rows, _) => rows,
        }
    }

    fn inner(&self) -> usize {
        match self.rows {
            LeftRows::Plain(matrix) => matrix.columns,
            LeftRows::Gathered(_, _, inner) => inner,
        }
    }
}

/// The right side of a product: where it lies, in panels, or split.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// The columns of a row are neighbours.
    Plain(Matrix<'a>),
    Packed(Panels, &'a [f32]),
    Split(Tiling, &'a [Line]),
}

impl Right<'_> {
    /// Where a panel begins at step `start`, and from one step to the next; of numbers that were not split.
    fn panel(&self, panel: usize, start: usize) -> (*const f32, usize) {
        match self {
            Right::Plain(matrix) => {
                let from = start * matrix.row_stride + panel * Kernel::get().columns;
                (matrix.values.as_ptr().wrapping_add(from), matrix.row_stride)
            }
            Right::Packed(panels, values) => {
                let step = panels.step(panel);
                (values.as_ptr().wrapping_add(panels.start(panel) + start * step), step)
            }
            Right::Split(..) => (std::ptr::null(), 0),
        }
    }

    /// The kernel reads whole panels: all of them must exist.
    fn assert_inside(&self) {
        match self {
            Right::Plain(matrix) => {
                matrix.assert_inside();
                assert!(matrix.column_stride == 1 && matrix.columns.is_multiple_of(Kernel::get().narrow));
            }
            Right::Packed(panels, values) => assert!(panels.numbers() <= values.len()),
            Right::Split(tiling, lines) => assert!(tiling.lines() <= lines.len()),
        }
    }

    fn sizes(&self) -> Panels {
        match self {
            Right::Plain(matrix) => Panels { inner: matrix.rows, columns: matrix.columns },
            Right::Packed(panels, _) => *panels,
            Right::Split(tiling, _) => Panels { inner: tiling.inner, columns: tiling.length },
        }
    }
}

/// What products are added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing: they are written over what is there.
    Nothing,
    /// What is there.
    There,
    /// A number for each column, the same for every row: written over what is there, while it is in the cache.
    Row(&'a [f32]),
}

impl Start<'_> {
    fn adding(add: bool) -> Self {
        if add { Start::There } else { Start::Nothing }
    }

    /// Writes it to rows of so many columns, where there are no products.
    pub(crate) fn fill(self, out: &mut [f32], columns: usize) {
        match self {
            Start::Nothing => out.fill(0.0),
            Start::There => {}
            Start::Row(row) => out.chunks_exact_mut(columns).for_each(|out| out.copy_from_slice(row)),
        }
    }
}

/// `out = from + a · b` in parallel; `out` is row-major, and numbers of `a` have so many parts. Workspace: `b` once more in
/// float32, or split into half as much again, for more than a few rows.
pub(crate) fn product<T: MatrixType>(
    op: &'static str,
    (a, parts): (Matrix<'_>, usize),
    b: Matrix<'_, T>,
    out: &mut [f32],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    if out.is_empty() {
        return Ok(());
    }
    if few::by_rows(a.rows, &b) {
        return few::dot_products(op, a, b, out, from, cx);
    }
    let left = Left::plain(a).of_parts(parts);
    if let (true, Some(values)) = (few::reads_in_place(a.rows, &b), T::as_floats(b.values)) {
        let (rows, columns, row_stride, column_stride) = (b.rows, b.columns, b.row_stride, b.column_stride);
        let b = Right::Plain(Matrix { values, rows, columns, row_stride, column_stride });
        return product_packed(op, left, b, (out, columns), from, cx);
    }
    if few::turns_around(a.rows, &b) {
        b.assert_inside();
        let b = ConvertedRows(b.transposed());
        return few::turned_product(op, (a, parts), b.left(), out, from, cx);
    }
    let packed = Packed::of_matrix(op, a.rows, b, cx)?;
    product_packed(op, left, packed.right(), (out, b.columns), from, cx)
}

/// Rows of one piece with a matrix unit: as many as stay in the second-level cache, but enough pieces for all threads.
fn split_rows_at_once(left: &Left<'_>) -> usize {
    const BYTES: usize = 512 << 10;
    let most = BYTES / (left.inner().clamp(1, SPLIT_STEPS) * left.parts * size_of::<half::bf16>());
    most.min(left.rows().div_ceil(2 * rayon::current_num_threads())).max(amx::BLOCK)
}

/// As [`product`], with a right side that the kernel can read; rows of `out` are `stride` apart.
pub(crate) fn product_packed(
    op: &'static str,
    a: Left<'_>,
    b: Right<'_>,
    (out, stride): (&mut [f32], usize),
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (block, worth, unit, pieces) = match b {
        Right::Split(..) => (split_rows_at_once(&a), SPLIT_PIECE, amx::BLOCK, SPLIT_PIECES),
        _ => (ROWS_OF_BLOCK, PIECE, Kernel::get().rows, PIECES),
    };
    let sizes = b.sizes();
    let blocks = a.rows().div_ceil(block).max(1);
    let block = a.rows().div_ceil(blocks).next_multiple_of(unit);
    let blocks = a.rows().div_ceil(block).max(1);
    // Panels per piece: few enough that there are pieces for all, many enough that each is worth a task.
    let worth = worth.div_ceil((block * sizes.inner * Kernel::get().columns).max(1));
    let pieces = pieces * rayon::current_num_threads();
    let each = sizes.count().div_ceil(pieces.div_ceil(blocks)).max(worth).min(sizes.count()).max(1);
    let across = sizes.count().div_ceil(each);
    let target = Target::new(out, stride);
    let piece = |index: usize| {
        cx.check(op)?;
        let (first_row, first_panel) = (index / across * block, index % across * each);
        let (rows, panels) = (block.min(a.rows() - first_row), each.min(sizes.count() - first_panel));
        multiply_part(a, b, Part { first_row, rows, first_panel, panels }, target, from);
        Ok(())
    };
    if blocks * across == 1 {
        piece(0)?
    } else {
        (0..blocks * across).into_par_iter().try_for_each(piece)?
    }
    cx.check(op)
}
