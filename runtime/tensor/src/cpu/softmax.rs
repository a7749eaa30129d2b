//! Softmax of rows.

use crate::cpu::simd::{fold_lanes, map1, multiversion};
use crate::cpu::{BLOCK, fill_rows, math};
use crate::{OpContext, TensorError};

/// Softmax of every row.
pub(crate) fn softmax(
    op: &'static str,
    input: &[f32],
    row: usize,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill_rows(op, out, row, 8, cx, &|first, rows| {
        for (index, out) in rows.chunks_exact_mut(row).enumerate() {
            let values = &input[(first + index) * row..][..row];
            let largest = maximum(values);
            let mut sum = 0.0f64;
            for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                map1(values, out, move |v: f32| math::exp(v - largest));
                sum += total(out);
            }
            let scale = (1.0 / sum) as f32;
            scale_by(out, scale);
        }
    })
}

/// The largest value; not-a-number is passed over.
fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 32];
    fold_lanes(&mut lanes, values, |a, v: f32| if v > a { v } else { a });
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum, of at most some thousand values.
fn total(values: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 32];
    fold_lanes(&mut lanes, values, |a, v: f32| a + v);
    lanes.into_iter().map(f64::from).sum()
}

multiversion! {
    /// Multiplies every value.
    fn scale_by<>(values: &mut [f32], scale: f32) where {} {
        for value in values {
            *value *= scale;
        }
    }
}
