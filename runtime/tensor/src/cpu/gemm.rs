//! Products of matrices: the microkernels are those of the crate `matrixmultiply`; here is how the work is cut into pieces.
//!
//! Pieces depend on sizes alone, so a result does not depend on the number of threads.

use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Multiplications that a piece holds about, between two looks at the flag that cancels.
const PIECE: usize = 1 << 26;
/// Rows below which a piece would spend its time on packing the other matrix.
const FEW_ROWS: usize = 64;

/// Part of a slice seen as a matrix. Strides count elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Dense and row-major.
    pub(crate) fn dense(values: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        Matrix { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Matrix<'a> {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// `rows` rows from `first` on.
    pub(crate) fn rows_from(self, first: usize, rows: usize) -> Matrix<'a> {
        Matrix { values: &self.values[(first * self.row_stride).min(self.values.len())..], rows, ..self }
    }

    fn assert_inside(&self) {
        if self.rows > 0 && self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < self.values.len(), "a matrix reaches beyond its slice");
        }
    }
}

/// Writes `a · b` over rows of `out` that are `stride` apart, or adds it to what is there. On this thread.
#[allow(unsafe_code)]
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], stride: usize, add: bool) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    a.assert_inside();
    b.assert_inside();
    assert!(b.rows == inner && columns <= stride && (rows - 1) * stride + columns <= out.len());
    // SAFETY: every element that the sizes and strides address lies inside its slice, as asserted; `out` is borrowed
    // mutably, hence apart from the others, and its rows do not overlap.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            1.0,
            a.values.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.values.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            if add { 1.0 } else { 0.0 },
            out.as_mut_ptr(),
            stride as isize,
            1,
        );
    }
}

/// `out[i] (+)= a(i) · b(i)` for a batch of row-major results that lie one after the other.
pub(crate) fn multiply_batch<'a>(
    op: &'static str,
    (rows, inner, columns): (usize, usize, usize),
    operands: &(dyn Fn(usize) -> (Matrix<'a>, Matrix<'a>) + Sync),
    out: &mut [f32],
    add: bool,
    cx: &OpContext,
) -> Result<(), TensorError> {
    if out.is_empty() {
        return Ok(());
    }
    let piece = piece_rows(rows, inner, columns);
    out.par_chunks_mut(rows * columns).enumerate().try_for_each(|(index, out)| {
        let (a, b) = operands(index);
        out.par_chunks_mut(piece * columns).enumerate().try_for_each(|(part, out)| {
            cx.check(op)?;
            multiply(a.rows_from(part * piece, out.len() / columns), b, out, columns, add);
            Ok(())
        })
    })?;
    cx.check(op)
}

fn piece_rows(rows: usize, inner: usize, columns: usize) -> usize {
    let wanted = (PIECE / (inner * columns).max(1)).clamp(FEW_ROWS, 1024).next_multiple_of(16);
    if rows > wanted {
        return wanted;
    }
    // Two halves of what would be one piece, if they are worth it.
    if rows * inner * columns > PIECE / 64 && rows > 16 { rows.div_ceil(2).next_multiple_of(8) } else { rows.max(1) }
}
