//! Matrices of floats turned around, in squares that fit in registers.

/// Rows and columns of a square.
const SIDE: usize = 8;
/// Columns of the source that are taken at a time, or rows.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 32;

/// Writes `source` (`rows` rows that are `source_stride` apart, of `columns` numbers) to `target` with rows and columns
/// exchanged; rows of `target` are `target_stride` apart.
pub(crate) fn transpose(
    source: &[f32],
    source_stride: usize,
    (rows, columns): (usize, usize),
    target: &mut [f32],
    target_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        (rows - 1) * source_stride + columns <= source.len() && (columns - 1) * target_stride + rows <= target.len()
    );
    let whole_rows = rows / SIDE * SIDE;
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::simd::has_wide() {
        let whole_columns = columns / SIDE * SIDE;
        // SAFETY: the processor has AVX2; the assertion above keeps all rows and columns inside both slices.
        #[allow(unsafe_code)]
        unsafe {
            squares(source.as_ptr(), source_stride, (whole_rows, whole_columns), target.as_mut_ptr(), target_stride)
        };
        each(source, source_stride, whole_rows..rows, 0..columns, target, target_stride);
        return each(source, source_stride, 0..whole_rows, whole_columns..columns, target, target_stride);
    }
    for row in (0..whole_rows).step_by(SIDE) {
        each(source, source_stride, row..row + SIDE, 0..columns, target, target_stride);
    }
    each(source, source_stride, whole_rows..rows, 0..columns, target, target_stride);
}

fn each(
    source: &[f32],
    source_stride: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    target: &mut [f32],
    target_stride: usize,
) {
    for column in columns {
        for row in rows.clone() {
            target[column * target_stride + row] = source[row * source_stride + column];
        }
    }
}

/// # Safety
/// The processor has AVX2, and all rows and columns (multiples of [`SIDE`]) lie in live memory at their strides.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
unsafe fn squares(
    source: *const f32,
    source_stride: usize,
    (rows, columns): (usize, usize),
    target: *mut f32,
    target_stride: usize,
) {
    let turn = |row: usize, column: usize| {
        // SAFETY: eight rows of eight numbers each, on both sides, which the caller vouches for.
        unsafe {
            let source = source.add(row * source_stride + column);
            square(source, source_stride, target.add(column * target_stride + row), target_stride);
        }
    };
    // Along the rows of the side where rows are farther apart: what lies in the same lines of the cache is done in one go, as
    // such rows may push each other out.
    if source_stride > target_stride {
        for block in (0..columns).step_by(BLOCK) {
            for row in (0..rows).step_by(SIDE) {
                for column in (block..(block + BLOCK).min(columns)).step_by(SIDE) {
                    turn(row, column);
                }
            }
        }
    } else {
        for block in (0..rows).step_by(BLOCK) {
            for column in (0..columns).step_by(SIDE) {
                for row in (block..(block + BLOCK).min(rows)).step_by(SIDE) {
                    turn(row, column);
                }
            }
        }
    }
}

/// # Safety
/// The processor has AVX2, and eight rows of eight numbers lie in live memory at their strides on both sides.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
unsafe fn square(source: *const f32, source_stride: usize, target: *mut f32, target_stride: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps,
        _mm256_unpacklo_ps,
    };
    // SAFETY: as the caller vouches for.
    unsafe {
        let line = |index: usize| _mm256_loadu_ps(source.add(index * source_stride));
        let low = |at: usize| _mm256_unpacklo_ps(line(at), line(at + 1));
        let high = |at: usize| _mm256_unpackhi_ps(line(at), line(at + 1));
        let (l0, l2, l4, l6) = (low(0), low(2), low(4), low(6));
        let (h0, h2, h4, h6) = (high(0), high(2), high(4), high(6));
        let left = [
            _mm256_shuffle_ps::<0x44>(l0, l2),
            _mm256_shuffle_ps::<0xEE>(l0, l2),
            _mm256_shuffle_ps::<0x44>(h0, h2),
            _mm256_shuffle_ps::<0xEE>(h0, h2),
        ];
        let right = [
            _mm256_shuffle_ps::<0x44>(l4, l6),
            _mm256_shuffle_ps::<0xEE>(l4, l6),
            _mm256_shuffle_ps::<0x44>(h4, h6),
            _mm256_shuffle_ps::<0xEE>(h4, h6),
        ];
        for (index, (left, right)) in left.into_iter().zip(right).enumerate() {
            let to = target.add(index * target_stride);
            _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(left, right));
            _mm256_storeu_ps(to.add(4 * target_stride), _mm256_permute2f128_ps::<0x31>(left, right));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_number_changes_sides() {
        for (rows, columns) in [(1, 1), (8, 8), (17, 9), (5, 40), (40, 5), (24, 32), (0, 3)] {
            let (source_stride, target_stride) = (columns + 3, rows + 2);
            let source: Vec<f32> = (0..rows * source_stride).map(|value| value as f32).collect();
            let mut target = vec![-1.0; columns * target_stride];
            transpose(&source, source_stride, (rows, columns), &mut target, target_stride);
            for (place, value) in target.iter().enumerate() {
                let (column, row) = (place / target_stride, place % target_stride);
                let wanted = if row < rows { (row * source_stride + column) as f32 } else { -1.0 };
                assert_eq!(*value, wanted, "{rows}×{columns} at {row}, {column}");
            }
        }
    }
}
