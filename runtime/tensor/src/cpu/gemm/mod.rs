//! Products of matrices: a kernel in registers ([`kernel`]), one operand rearranged into panels for it ([`pack`]), and here
//! how the work is cut into pieces.
//!
//! How the steps of a sum are cut depends on sizes alone, so a result does not depend on the number of threads.

mod kernel;
mod pack;

pub(crate) use kernel::{Kernel, MOST_COLUMNS, MOST_ROWS, Tile};
pub(crate) use pack::Panels;

use crate::cpu::convert::Load;
use crate::cpu::simd::multiply_add;
use crate::cpu::transpose::transpose;
use crate::ops::workspace;
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Steps of the sum that are taken at a time, so that a block of rows stays in the second-level cache.
const STEPS: usize = 384;
/// Rows of one piece, about; and multiplications that it should be worth at least.
const BLOCK_ROWS: usize = 112;
const PIECE: usize = 1 << 22;
/// Panels from which on it pays to gather the rows of the left matrix.
const WORTH_GATHERING: usize = 6;
/// Pieces there should be at least for each thread, so that threads finish together.
const PIECES: usize = 8;
/// Rows up to which the right matrix is read where it lies, and up to which it is read row by row.
const FEW_ROWS: usize = 96;
const VERY_FEW_ROWS: usize = 3;
/// Rows up to which it may pay to compute the transposed result.
const TURNED_ROWS: usize = 160;

/// A stored type that products can be made of.
pub(crate) trait MatrixType: Load<f32> + Sync {
    /// The values themselves, if they need no conversion.
    fn as_floats(values: &[Self]) -> Option<&[f32]> {
        let _ = values;
        None
    }
}
impl MatrixType for f32 {
    fn as_floats(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }
}
impl MatrixType for half::f16 {}
impl MatrixType for half::bf16 {}
impl MatrixType for crate::float8::F8E4M3 {}
impl MatrixType for crate::float8::F8E5M2 {}

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

/// The left side of a product.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    Plain(Matrix<'a>),
    /// So many rows, of so many steps.
    Gathered(&'a dyn Rows, usize, usize),
}

impl Left<'_> {
    fn rows(&self) -> usize {
        match self {
            Left::Plain(matrix) => matrix.rows,
            Left::Gathered(_, rows, _) => *rows,
        }
    }

    fn inner(&self) -> usize {
        match self {
            Left::Plain(matrix) => matrix.columns,
            Left::Gathered(_, _, inner) => *inner,
        }
    }
}

/// The right side of a product: where it lies, or in panels.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// The columns of a row are neighbours.
    Plain(Matrix<'a>),
    Packed(Panels, &'a [f32]),
}

impl Right<'_> {
    /// Where a panel begins at step `start`, and from one step to the next.
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
        }
    }

    fn sizes(&self) -> Panels {
        match self {
            Right::Plain(matrix) => Panels { inner: matrix.rows, columns: matrix.columns },
            Right::Packed(panels, _) => *panels,
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
    /// Writes it to rows of so many columns, where there are no products.
    pub(crate) fn fill(self, out: &mut [f32], columns: usize) {
        match self {
            Start::Nothing => out.fill(0.0),
            Start::There => {}
            Start::Row(row) => out.chunks_exact_mut(columns).for_each(|out| out.copy_from_slice(row)),
        }
    }
}

/// Rows of floats that are `stride` apart and that several threads write to, each its own part.
#[derive(Clone, Copy)]
struct Target {
    values: *mut f32,
    length: usize,
    stride: usize,
}
// SAFETY: `product` hands disjoint rectangles of it to its tasks, while it holds the only reference.
#[allow(unsafe_code)]
unsafe impl Send for Target {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

/// `out (+)= a · b` on this thread; rows of `out` are `stride` apart.
pub(crate) fn multiply(a: Matrix<'_>, b: Right<'_>, out: &mut [f32], stride: usize, add: bool) {
    let part = Part { first_row: 0, rows: a.rows, first_panel: 0, panels: b.sizes().count() };
    let target = Target { values: out.as_mut_ptr(), length: out.len(), stride };
    multiply_part(Left::Plain(a), b, part, target, if add { Start::There } else { Start::Nothing });
}

/// What one task computes of a product.
#[derive(Clone, Copy)]
struct Part {
    first_row: usize,
    rows: usize,
    first_panel: usize,
    panels: usize,
}

/// From one gathered row to the next: unlike most lengths of rows, no multiple of what caches repeat at.
pub(crate) const ROW: usize = STEPS + 16;

/// Computes one part of `out = from + a · b`.
#[allow(unsafe_code)]
fn multiply_part(a: Left<'_>, b: Right<'_>, part: Part, out: Target, from: Start<'_>) {
    let (kernel, sizes) = (Kernel::get(), b.sizes());
    if part.rows == 0 || sizes.columns == 0 {
        return;
    }
    assert!(part.first_row + part.rows <= a.rows() && part.first_panel + part.panels <= sizes.count());
    assert!(a.inner() == sizes.inner && sizes.columns <= out.stride);
    assert!((part.first_row + part.rows - 1) * out.stride + sizes.columns <= out.length);
    b.assert_inside();
    // Rows that are used often are worth gathering: where they lie, they may push each other out of the cache.
    let plain = match a {
        Left::Plain(matrix) if part.panels < WORTH_GATHERING => Some(matrix),
        _ => None,
    };
    if let Left::Plain(matrix) = a {
        matrix.assert_inside();
    }
    let mut gathered = scratch(if plain.is_some() { 0 } else { part.rows * ROW });
    if let Start::Row(values) = from {
        assert!(values.len() >= sizes.columns);
        let first = part.first_panel * kernel.columns;
        let values = &values[first..(first + part.panels * kernel.columns).min(sizes.columns)];
        for row in part.first_row..part.first_row + part.rows {
            // SAFETY: the asserts above keep the columns of these panels in every row of this part inside `out`, and this
            // part of it is this call's alone.
            unsafe {
                let to = out.values.wrapping_add(row * out.stride + first);
                std::slice::from_raw_parts_mut(to, values.len()).copy_from_slice(values);
            }
        }
    }
    let add = !matches!(from, Start::Nothing);
    // As equal as can be, so that no tile has only a row or two.
    let tiles = part.rows.div_ceil(kernel.rows);
    let each = part.rows.div_ceil(tiles);
    let mut edge = [0.0f32; MOST_ROWS * MOST_COLUMNS];
    for start in (0..sizes.inner.max(1)).step_by(STEPS) {
        let inner = STEPS.min(sizes.inner - start);
        let (a_from, a_row, a_step) = match (a, plain) {
            (_, Some(matrix)) => {
                let from = part.first_row * matrix.row_stride + start * matrix.column_stride;
                (matrix.values.as_ptr().wrapping_add(from), matrix.row_stride, matrix.column_stride)
            }
            (Left::Plain(matrix), None) => {
                matrix.gather(part.first_row, start, inner, &mut gathered);
                (gathered.as_ptr(), ROW, 1)
            }
            (Left::Gathered(rows, ..), None) => {
                rows.gather(part.first_row, start, inner, &mut gathered);
                (gathered.as_ptr(), ROW, 1)
            }
        };
        for panel in part.first_panel..part.first_panel + part.panels {
            let ((width, narrow), first) = (sizes.width(panel), panel * kernel.columns);
            let full = width == sizes.step(panel);
            let (b, b_step) = b.panel(panel, start);
            for row in (0..part.rows).step_by(each) {
                let rows = each.min(part.rows - row);
                let c = out.values.wrapping_add((part.first_row + row) * out.stride + first);
                let tile = Tile {
                    inner,
                    a: a_from.wrapping_add(row * a_row),
                    a_row,
                    a_step,
                    b,
                    b_step,
                    c: if full { c } else { edge.as_mut_ptr() },
                    c_row: if full { out.stride } else { MOST_COLUMNS },
                    add: full && (add || start > 0),
                };
                // SAFETY: the asserts above keep every element of `a`, `b` and of this part of `out` inside its slice;
                // gathered rows have room for all steps; panels hold all their columns, and a panel that the matrix
                // does not fill goes through `edge`, which has room for the largest tile. The part of `out` is this
                // call's alone.
                unsafe {
                    kernel.multiply(&tile, rows, narrow);
                    if !full {
                        for (index, edge) in edge.chunks_exact(MOST_COLUMNS).take(rows).enumerate() {
                            let c = std::slice::from_raw_parts_mut(c.wrapping_add(index * out.stride), width);
                            for (c, value) in c.iter_mut().zip(edge) {
                                *c = if add || start > 0 { *c + *value } else { *value };
                            }
                        }
                    }
                }
            }
        }
    }
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

fn reads_in_place<T: MatrixType>(rows: usize, b: &Matrix<'_, T>) -> bool {
    rows <= FEW_ROWS
        && b.column_stride == 1
        && T::as_floats(b.values).is_some()
        && (b.columns.is_multiple_of(Kernel::get().narrow))
        && b.columns >= Kernel::get().narrow
}

fn by_rows<T: MatrixType>(rows: usize, b: &Matrix<'_, T>) -> bool {
    rows <= VERY_FEW_ROWS && b.row_stride == 1 && b.rows >= 16
}

/// `out = from + a · b` in parallel; `out` is row-major. Workspace: `b` once more in float32, for more than a few rows.
pub(crate) fn product<T: MatrixType>(
    op: &'static str,
    a: Matrix<'_>,
    b: Matrix<'_, T>,
    out: &mut [f32],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    if out.is_empty() {
        return Ok(());
    }
    if by_rows(a.rows, &b) {
        return dot_products(op, a, b, out, from, cx);
    }
    if let (true, Some(values)) = (reads_in_place(a.rows, &b), T::as_floats(b.values)) {
        let (rows, columns, row_stride, column_stride) = (b.rows, b.columns, b.row_stride, b.column_stride);
        let b = Right::Plain(Matrix { values, rows, columns, row_stride, column_stride });
        return product_packed(op, Left::Plain(a), b, (out, columns), from, cx);
    }
    if let (true, Some(values)) = (turns_around(a.rows, &b), T::as_floats(b.values)) {
        let (rows, columns, row_stride, column_stride) = (b.rows, b.columns, b.row_stride, b.column_stride);
        return turned_product(op, a, Matrix { values, rows, columns, row_stride, column_stride }, out, from, cx);
    }
    b.assert_inside();
    let panels = Panels { inner: b.rows, columns: b.columns };
    let _workspace = workspace(op, panels.numbers().saturating_mul(size_of::<f32>()), cx)?;
    let mut packed = scratch(panels.numbers());
    panels.pack(op, b, &mut packed, cx)?;
    product_packed(op, Left::Plain(a), Right::Packed(panels, &packed), (out, b.columns), from, cx)
}

/// Whether rearranging `b`, whose steps are neighbours, would take longer than rearranging `a` and the result.
fn turns_around<T>(rows: usize, b: &Matrix<'_, T>) -> bool {
    rows <= TURNED_ROWS && b.row_stride == 1 && b.columns >= 2 * rows
}

/// As [`product`], by way of the transposed result: bᵀ is read where it lies, and aᵀ, which is small, is rearranged.
/// Workspace: `a` and the result once more.
fn turned_product(
    op: &'static str,
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    a.assert_inside();
    b.assert_inside();
    let (rows, columns) = (a.rows, b.columns);
    let panels = Panels { inner: a.columns, columns: rows };
    let numbers = panels.numbers().saturating_add(rows.saturating_mul(columns));
    let _workspace = workspace(op, numbers.saturating_mul(size_of::<f32>()), cx)?;
    let (mut packed, mut turned) = (scratch(panels.numbers()), scratch(rows * columns));
    panels.pack(op, a.transposed(), &mut packed, cx)?;
    let left = Left::Plain(b.transposed());
    product_packed(op, left, Right::Packed(panels, &packed), (&mut turned, rows), Start::Nothing, cx)?;
    let turned = Matrix::dense(&turned, columns, rows).transposed();
    crate::cpu::fill_rows(op, out, columns, 1, cx, &|first, out| {
        let count = out.len() / columns;
        match from {
            Start::Nothing => transpose(&turned.values[first..], rows, (columns, count), out, columns),
            _ => {
                let mut lines = scratch(out.len());
                transpose(&turned.values[first..], rows, (columns, count), &mut lines, columns);
                from.fill(out, columns);
                out.iter_mut().zip(&lines).for_each(|(out, line)| *out += line);
            }
        }
    })
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
    let (kernel, sizes) = (Kernel::get(), b.sizes());
    let blocks = a.rows().div_ceil(BLOCK_ROWS).max(1);
    let block = a.rows().div_ceil(blocks).next_multiple_of(kernel.rows);
    let blocks = a.rows().div_ceil(block).max(1);
    // Panels per piece: few enough that there are pieces for all, many enough that each is worth a task.
    let worth = PIECE.div_ceil((block * sizes.inner * kernel.columns).max(1));
    let pieces = PIECES * rayon::current_num_threads();
    let each = sizes.count().div_ceil(pieces.div_ceil(blocks)).max(worth).min(sizes.count()).max(1);
    let across = sizes.count().div_ceil(each);
    let target = Target { values: out.as_mut_ptr(), length: out.len(), stride };
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

/// For a handful of rows and columns whose numbers are neighbours: each result is a sum of products by itself.
fn dot_products<T: MatrixType>(
    op: &'static str,
    a: Matrix<'_>,
    b: Matrix<'_, T>,
    out: &mut [f32],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    b.assert_inside();
    let inner = a.columns;
    let left: Vec<f32> = (0..a.rows)
        .flat_map(|row| (0..inner).map(move |step| a.values[row * a.row_stride + step * a.column_stride]))
        .collect();
    for (row, out) in out.chunks_exact_mut(b.columns).enumerate() {
        let left = &left[row * inner..][..inner];
        crate::cpu::fill_rows(op, out, 1, inner, cx, &|first, out| {
            for (index, out) in out.iter_mut().enumerate() {
                let b = b.columns_from(first + index, 1);
                let mut sum = match from {
                    Start::Nothing => 0.0,
                    Start::There => *out,
                    Start::Row(row) => row[first + index],
                };
                let mut scratch = [0.0f32; crate::cpu::BLOCK];
                for (left, b) in left.chunks(scratch.len()).zip(b.values[..inner].chunks(crate::cpu::BLOCK)) {
                    let right = match T::as_floats(b) {
                        Some(values) => values,
                        None => {
                            T::load_slice(b, &mut scratch[..b.len()]);
                            &scratch[..b.len()]
                        }
                    };
                    sum += dot(left, right);
                }
                *out = sum;
            }
        })?;
    }
    Ok(())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    add_dot(a, b, &mut sum);
    sum
}

crate::cpu::simd::multiversion! {
    fn add_dot<>(a: &[f32], b: &[f32], sum: &mut f32) where {} {
        let mut lanes = [0.0f32; 64];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
        for (a, b) in a.iter().zip(b) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane = multiply_add(*a, *b, *lane);
            }
        }
        let mut few = [0.0f32; 8];
        for lanes in lanes.as_chunks::<8>().0 {
            few.iter_mut().zip(lanes).for_each(|(few, lane)| *few += lane);
        }
        *sum += few.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>();
    }
}
