//! Products of matrices by `gemm`, `faer` and `matrixmultiply`.

use std::num::NonZeroUsize;

use anyhow::Result;
use faer::{Accum, MatMut, MatRef, Par};
use half::f16;
use vivarium_tensor::DType;

use crate::THREADS;
use crate::case::{Case, Kind};
use crate::side::Side;

/// A product whose operands are row-major, the right one as it is or transposed.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    k: usize,
    n: usize,
    /// The right operand lies as `[n,k]`.
    transposed: bool,
}

impl Product {
    /// From one row or column of the right operand to the next.
    fn right_strides(self) -> (isize, isize) {
        if self.transposed { (1, self.k as isize) } else { (self.n as isize, 1) }
    }

    /// All three lie within their memory, which the library does not check.
    fn check<T>(self, left: &[T], right: &[T], result: &[T]) {
        let Product { m, k, n, .. } = self;
        assert_eq!((left.len(), right.len(), result.len()), (m * k, k * n, m * n));
    }
}

/// All that multiply such a product.
pub(crate) fn sides(case: &Case) -> Vec<Side<'_>> {
    let product = match case.kind {
        Kind::Matmul { m, k, n } => Product { m, k, n, transposed: false },
        Kind::Linear { m, k, n } => Product { m, k, n, transposed: true },
        _ => return Vec::new(),
    };
    let elements = product.m * product.n;
    let (left, right) = (case.input(0), case.input(1));
    match case.dtype {
        DType::Float32 => vec![
            Side::filling("gemm", elements, move |result| by_gemm(product, left, right, result), |value| value),
            Side::filling("faer", elements, move |result| by_faer(product, left, right, result), |value| value),
            Side::filling(
                "matrixmultiply",
                elements,
                move |result| by_matrixmultiply(product, left, right, result),
                |value| value,
            ),
        ],
        DType::Float16 => {
            let halves = |numbers: &[f32]| numbers.iter().map(|number| f16::from_f32(*number)).collect::<Vec<_>>();
            let (left, right) = (halves(left), halves(right));
            let work = move |result: &mut [f16]| by_gemm(product, &left, &right, result);
            vec![Side::filling("gemm", elements, work, f16::to_f32)]
        }
        _ => Vec::new(),
    }
}

/// Of a type that has a one and a zero, and that `gemm` knows: float32 or float16.
fn by_gemm<T: From<i8> + Copy + 'static>(product: Product, left: &[T], right: &[T], result: &mut [T]) -> Result<()> {
    product.check(left, right, result);
    let (row, column) = product.right_strides();
    let Product { m, k, n, .. } = product;
    let (one, zero) = (T::from(1), T::from(0));
    let threads = gemm::Parallelism::Rayon(THREADS);
    // SAFETY: lengths are checked above, the result overlaps neither operand, and `T` is a type that gemm has a kernel for.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            result.as_mut_ptr(),
            1,
            n as isize,
            false,
            left.as_ptr(),
            1,
            k as isize,
            right.as_ptr(),
            column,
            row,
            zero,
            one,
            false,
            false,
            false,
            threads,
        );
    }
    Ok(())
}

fn by_faer(product: Product, left: &[f32], right: &[f32], result: &mut [f32]) -> Result<()> {
    let Product { m, k, n, transposed } = product;
    let right = match transposed {
        true => MatRef::from_column_major_slice(right, k, n),
        false => MatRef::from_row_major_slice(right, k, n),
    };
    let (left, result) = (MatRef::from_row_major_slice(left, m, k), MatMut::from_row_major_slice_mut(result, m, n));
    let threads = NonZeroUsize::new(THREADS).map_or(Par::Seq, Par::Rayon);
    faer::linalg::matmul::matmul(result, Accum::Replace, left, right, 1.0, threads);
    Ok(())
}

fn by_matrixmultiply(product: Product, left: &[f32], right: &[f32], result: &mut [f32]) -> Result<()> {
    product.check(left, right, result);
    let (row, column) = product.right_strides();
    let Product { m, k, n, .. } = product;
    // SAFETY: lengths are checked above, and the result overlaps neither operand.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            left.as_ptr(),
            k as isize,
            1,
            right.as_ptr(),
            row,
            column,
            0.0,
            result.as_mut_ptr(),
            n as isize,
            1,
        );
    }
    Ok(())
}
