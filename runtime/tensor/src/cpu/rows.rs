//! Rows sorted, searched and summed up.

use crate::cpu::convert::Compute;
use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};
use rayon::prelude::*;
use std::cmp::Ordering;

/// f32 or i64, in the order that sorting uses: not-a-number behind all numbers.
pub(crate) trait Ordered: Compute + PartialOrd {
    fn order(&self, other: &Self) -> Ordering {
        let odd = |value: &Self| value.partial_cmp(value).is_none();
        self.partial_cmp(other).unwrap_or_else(|| odd(self).cmp(&odd(other)))
    }
}
impl Ordered for f32 {}
impl Ordered for i64 {}

/// Which elements of each row are kept.
pub(crate) struct Sorting {
    pub(crate) op: &'static str,
    pub(crate) row: usize,
    pub(crate) kept: usize,
    pub(crate) descending: bool,
}

/// Writes the best `kept` elements of each row, best first, and their places.
pub(crate) fn sort<C: Ordered>(
    sorting: &Sorting,
    input: &[C],
    values: &mut [C],
    indices: &mut [i64],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let Sorting { op, row, kept, descending } = *sorting;
    if values.is_empty() {
        return cx.check(op);
    }
    // Places make the order total, so that unstable sorting gives a stable result.
    let order = move |a: &(C, u32), b: &(C, u32)| {
        let order = if descending { b.0.order(&a.0) } else { a.0.order(&b.0) };
        order.then(a.1.cmp(&b.1))
    };
    let rows = values.par_chunks_mut(kept).zip(indices.par_chunks_mut(kept)).zip(input.par_chunks(row));
    rows.try_for_each_init(Vec::new, |scratch, ((values, indices), input)| {
        cx.check(op)?;
        scratch.clear();
        scratch.extend(input.iter().copied().zip(0u32..));
        if kept < row {
            scratch.select_nth_unstable_by(kept - 1, order);
        }
        scratch[..kept].sort_unstable_by(order);
        for ((value, index), (kept, place)) in values.iter_mut().zip(indices).zip(scratch.iter()) {
            (*value, *index) = (*kept, i64::from(*place));
        }
        Ok(())
    })?;
    cx.check(op)
}

/// Writes where the largest or smallest element of each row is.
pub(crate) fn best<C: Ordered>(
    op: &'static str,
    input: &[C],
    row: usize,
    smallest: bool,
    out: &mut [i64],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill_rows(op, out, 1, row, cx, &|first, out| {
        for (index, out) in out.iter_mut().enumerate() {
            let values = &input[(first + index) * row..][..row];
            let odd = |value: &C| value.partial_cmp(value).is_none();
            let mut best = 0;
            for (place, value) in values.iter().enumerate() {
                let better = if smallest { *value < values[best] } else { *value > values[best] };
                if (better || odd(value)) && !odd(&values[best]) {
                    best = place;
                }
            }
            *out = best as i64;
        }
    })
}

/// The sums of each element and those before it in its row. They wrap.
pub(crate) fn cumulate(
    op: &'static str,
    input: &[i64],
    row: usize,
    out: &mut [i64],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill_rows(op, out, row.max(1), 1, cx, &|first, rows| {
        for (index, out) in rows.chunks_exact_mut(row).enumerate() {
            let mut sum = 0i64;
            for (out, value) in out.iter_mut().zip(&input[(first + index) * row..]) {
                sum = sum.wrapping_add(*value);
                *out = sum;
            }
        }
    })
}

/// What `step` makes of each element and those before it in its row, from `start` on, in double precision.
pub(crate) fn cumulate_floats(
    op: &'static str,
    input: &[f32],
    row: usize,
    out: &mut [f32],
    cx: &OpContext,
    (start, step): (f64, impl Fn(f64, f64) -> f64 + Copy + Sync),
) -> Result<(), TensorError> {
    // Each step waits for the one before, so that several rows take no longer than one.
    const TOGETHER: usize = 4;
    fill_rows(op, out, row.max(1), 1, cx, &|first, rows| {
        let mut number = first;
        let mut groups = rows.chunks_exact_mut(TOGETHER * row);
        for group in &mut groups {
            cumulate_together::<TOGETHER>(&input[number * row..], row, group, start, step);
            number += TOGETHER;
        }
        for out in groups.into_remainder().chunks_exact_mut(row) {
            cumulate_together::<1>(&input[number * row..], row, out, start, step);
            number += 1;
        }
    })
}

fn cumulate_together<const N: usize>(
    input: &[f32],
    row: usize,
    out: &mut [f32],
    start: f64,
    step: impl Fn(f64, f64) -> f64,
) {
    let mut so_far = [start; N];
    let inputs: [&[f32]; N] = std::array::from_fn(|index| &input[index * row..][..row]);
    let mut rest = out;
    let mut outs: [&mut [f32]; N] = std::array::from_fn(|_| {
        let (own, others) = std::mem::take(&mut rest).split_at_mut(row);
        rest = others;
        own
    });
    for place in 0..row {
        for ((so_far, input), out) in so_far.iter_mut().zip(&inputs).zip(&mut outs) {
            *so_far = step(*so_far, f64::from(input[place]));
            out[place] = *so_far as f32;
        }
    }
}

/// Counts what of each row falls into each of `bins` even parts of `min`..=`max`; `out` is zero.
pub(crate) fn histogram(
    op: &'static str,
    input: &[f32],
    row: usize,
    (bins, min, max): (usize, f64, f64),
    out: &mut [i64],
    cx: &OpContext,
) -> Result<(), TensorError> {
    const PIECE: usize = 1 << 16;
    fill_rows(op, out, bins, (row / bins).max(1), cx, &|first, rows| {
        for (index, out) in rows.chunks_exact_mut(bins).enumerate() {
            for piece in input[(first + index) * row..][..row].chunks(PIECE) {
                for value in piece.iter().map(|value| f64::from(*value)).filter(|value| (min..=max).contains(value)) {
                    let part = ((value - min) / (max - min) * bins as f64) as usize;
                    out[part.min(bins - 1)] += 1;
                }
                if cx.is_cancelled() {
                    return;
                }
            }
        }
    })
}
