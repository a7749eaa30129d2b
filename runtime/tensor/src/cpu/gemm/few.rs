//! Products with few rows, which take no longer than reading the right side: it is read where it lies.

use super::pack::FillPanel;
use super::{Kernel, Left, Matrix, MatrixType, Packed, Panels, ROW, Rows, Start, can_split, product_packed};
use crate::cpu::simd::multiply_add;
use crate::cpu::transpose::transpose;
use crate::ops::workspace;
use crate::storage::scratch;
use crate::{OpContext, TensorError};

/// Rows up to which the right matrix is read where it lies, and up to which it is read row by row.
const FEW_ROWS: usize = 96;
const VERY_FEW_ROWS: usize = 3;
/// Rows up to which it may pay to compute the transposed result.
const TURNED_ROWS: usize = 160;
const TURNED_SPLIT_ROWS: usize = 512;

pub(super) fn reads_in_place<T: MatrixType>(rows: usize, b: &Matrix<'_, T>) -> bool {
    rows <= FEW_ROWS
        && b.column_stride == 1
        && T::as_floats(b.values).is_some()
        && (b.columns.is_multiple_of(Kernel::get().narrow))
        && b.columns >= Kernel::get().narrow
}

pub(super) fn by_rows<T: MatrixType>(rows: usize, b: &Matrix<'_, T>) -> bool {
    rows <= VERY_FEW_ROWS && b.row_stride == 1 && b.rows >= 16
}

/// Whether rearranging `b`, whose steps are neighbours, would take longer than rearranging `a` and the result.
pub(super) fn turns_around<T>(rows: usize, b: &Matrix<'_, T>) -> bool {
    rows <= if can_split() { TURNED_SPLIT_ROWS } else { TURNED_ROWS } && b.row_stride == 1 && b.columns >= 2 * rows
}

/// As [`super::product`], by way of the transposed result: bᵀ is read where it lies, and aᵀ, which is small, is rearranged.
pub(super) fn turned_product(
    op: &'static str,
    (a, parts): (Matrix<'_>, usize),
    b: Left<'_>,
    out: &mut [f32],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    let turned = a.transposed();
    let sizes = Panels { inner: turned.rows, columns: turned.columns };
    turned.assert_inside();
    let fill = |panel: usize, out: &mut [f32]| sizes.pack_panel(panel, turned, out);
    let columns = b.rows();
    turned_packed(op, (sizes, parts, &fill), b, (out, columns), from, cx)
}

/// `out = from + (left · right)ᵀ`, with a right side of numbers of so many parts that `fill` writes; rows of `out` are
/// `stride` apart. Workspace: the right side, and the result once more.
pub(crate) fn turned_packed(
    op: &'static str,
    (sizes, parts, fill): (Panels, usize, FillPanel<'_>),
    left: Left<'_>,
    (out, stride): (&mut [f32], usize),
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (rows, columns) = (sizes.columns, left.rows());
    let _workspace = workspace(op, rows.saturating_mul(columns).saturating_mul(size_of::<f32>()), cx)?;
    let mut turned = scratch(rows * columns);
    let packed = Packed::new(op, columns, (sizes, parts), fill, cx)?;
    product_packed(op, left, packed.right(), (&mut turned, rows), Start::Nothing, cx)?;
    crate::cpu::fill_rows(op, out, stride, 1, cx, &|first, out| {
        let count = out.len() / stride;
        let mut lines = scratch(count * columns);
        transpose(&turned[first..], rows, (columns, count), &mut lines, columns);
        for (line, out) in lines.chunks_exact(columns).zip(out.chunks_exact_mut(stride)) {
            let out = &mut out[..columns];
            match from {
                Start::Nothing => out.copy_from_slice(line),
                Start::There => out.iter_mut().zip(line).for_each(|(out, line)| *out += line),
                Start::Row(row) => {
                    out.iter_mut().zip(line).zip(row).for_each(|((out, line), row)| *out = line + row);
                }
            }
        }
    })
}

/// The rows of a left side that are converted as they are gathered.
pub(crate) struct ConvertedRows<'a, T>(pub(crate) Matrix<'a, T>);

impl<T: MatrixType> ConvertedRows<'_, T> {
    /// They themselves, if they need no conversion.
    pub(crate) fn left(&self) -> Left<'_> {
        let Matrix { values, rows, columns, row_stride, column_stride } = self.0;
        match T::as_floats(values) {
            Some(values) => Left::plain(Matrix { values, rows, columns, row_stride, column_stride }),
            None => Left::gathered(self, rows, columns).of_parts(T::PARTS),
        }
    }
}

impl<T: MatrixType> Rows for ConvertedRows<'_, T> {
    fn gather(&self, first: usize, start: usize, inner: usize, out: &mut [f32]) {
        for (row, out) in out.chunks_exact_mut(ROW).enumerate() {
            let from = (first + row) * self.0.row_stride + start;
            T::load_slice(&self.0.values[from..from + inner], &mut out[..inner]);
        }
    }
}

/// For a handful of rows and columns whose numbers are neighbours: each result is a sum of products by itself.
pub(super) fn dot_products<T: MatrixType>(
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
