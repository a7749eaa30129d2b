//! Folds elements together: along rows where the reduced dimensions are innermost, across rows where they are not.
//!
//! Pieces have fixed sizes, so a result does not depend on the number of threads.

use crate::cpu::convert::Compute;
use crate::cpu::reader::Reader;
use crate::cpu::simd::{fold_each, fold_lanes};
use crate::cpu::{BLOCK, fill_rows};
use crate::storage::Buffer;
use crate::{OpContext, TensorError};

/// Elements that are folded into one partial result.
const PART: usize = 64 * BLOCK;
/// Fewer reduced elements than this are folded across, whatever the strides.
const FEW: usize = 16;
/// Shorter kept runs than this are not worth folding across.
const SHORT: usize = 32;

/// What to fold. Both parts address the same buffer; `reduced` counts from offset 0.
pub(crate) struct Reduction<'a> {
    pub(crate) op: &'static str,
    pub(crate) buffer: &'a Buffer,
    pub(crate) kept: Reader,
    pub(crate) reduced: Dims,
    /// True when the innermost dimension in memory is one that stays.
    pub(crate) innermost_kept: bool,
    pub(crate) cx: &'a OpContext,
}

/// Lengths and strides of the reduced dimensions.
pub(crate) type Dims = Vec<(usize, isize)>;

/// A way to fold values of C into an accumulator A, and to make a result O of it.
pub(crate) trait Fold: Copy + Sync {
    type Value: Compute;
    type Accumulator: Copy + Send + Sync;
    type Output: Send;
    fn start(self) -> Self::Accumulator;
    fn step(self, accumulator: Self::Accumulator, value: Self::Value) -> Self::Accumulator;
    fn merge(self, a: Self::Accumulator, b: Self::Accumulator) -> Self::Accumulator;
    fn finish(self, accumulator: Self::Accumulator) -> Self::Output;
}

impl Reduction<'_> {
    /// Writes one result per kept element.
    pub(crate) fn run<F: Fold>(&self, fold: F, out: &mut [F::Output]) -> Result<(), TensorError> {
        let count: usize = self.reduced.iter().map(|(length, _)| length).product();
        let (kept_run, kept_stride) = self.kept.innermost();
        let long_rows = self.innermost_kept && kept_run >= SHORT && kept_stride.unsigned_abs() == 1;
        if count < FEW || long_rows {
            // Whole blocks per piece, however much is folded into each.
            return fill_rows(self.op, out, BLOCK, count, self.cx, &|first, chunk| {
                for (index, piece) in chunk.chunks_mut(BLOCK).enumerate() {
                    self.across(fold, count, (first + index) * BLOCK, piece);
                }
            });
        }
        let parts = count.div_ceil(PART);
        let mut partial = vec![fold.start(); out.len() * parts];
        fill_rows(self.op, &mut partial, 1, count.min(PART), self.cx, &|first, chunk| {
            for (index, out) in chunk.iter_mut().enumerate() {
                let (kept, part) = ((first + index) / parts, (first + index) % parts);
                *out = self.along(fold, kept, part * PART, PART.min(count - part * PART));
            }
        })?;
        for (out, parts) in out.iter_mut().zip(partial.chunks_exact(parts)) {
            *out = fold.finish(parts.iter().fold(fold.start(), |a, b| fold.merge(a, *b)));
        }
        Ok(())
    }

    /// Folds `length` reduced elements from `from` on, for one kept element.
    fn along<F: Fold>(&self, fold: F, kept: usize, from: usize, length: usize) -> F::Accumulator {
        let reader = Reader::of_dims(self.kept.locate(kept) as usize, self.reduced.iter().copied());
        let mut lanes = [fold.start(); 32];
        let mut scratch = [F::Value::default(); BLOCK];
        let mut done = 0;
        while done < length {
            let count = BLOCK.min(length - done);
            let block = block(self.buffer, &reader, from + done, &mut scratch[..count]);
            fold_lanes(&mut lanes, block, |a, v| fold.step(a, v));
            done += count;
        }
        lanes.into_iter().fold(fold.start(), |a, b| fold.merge(a, b))
    }

    /// Folds row by row, for at most a block of kept elements from `start` on.
    fn across<F: Fold>(&self, fold: F, count: usize, start: usize, out: &mut [F::Output]) {
        let rows = Reader::of_dims(0, self.reduced.iter().copied());
        let mut scratch = [F::Value::default(); BLOCK];
        let mut accumulators = [fold.start(); BLOCK];
        let accumulators = &mut accumulators[..out.len()];
        for row in 0..count {
            if self.cx.is_cancelled() {
                return;
            }
            let kept = self.kept.moved(rows.locate(row));
            let block = block(self.buffer, &kept, start, &mut scratch[..accumulators.len()]);
            fold_each(accumulators, block, |a, v| fold.step(a, v));
        }
        for (out, accumulator) in out.iter_mut().zip(accumulators) {
            *out = fold.finish(*accumulator);
        }
    }
}

fn block<'s, C: Compute>(buffer: &'s Buffer, reader: &Reader, start: usize, scratch: &'s mut [C]) -> &'s [C] {
    match (C::view(buffer), reader.contiguous(start, scratch.len())) {
        (Some(values), Some(range)) => &values[range],
        _ => {
            C::read(buffer, reader, start, scratch);
            scratch
        }
    }
}

/// Sum and product in double precision. `scale` is what a sum is divided by.
#[derive(Clone, Copy)]
pub(crate) struct FloatFold {
    pub(crate) product: bool,
    pub(crate) divisor: f64,
}

impl Fold for FloatFold {
    type Value = f32;
    type Accumulator = f64;
    type Output = f32;
    fn start(self) -> f64 {
        if self.product { 1.0 } else { 0.0 }
    }
    #[inline(always)]
    fn step(self, a: f64, v: f32) -> f64 {
        self.merge(a, f64::from(v))
    }
    #[inline(always)]
    fn merge(self, a: f64, b: f64) -> f64 {
        if self.product { a * b } else { a + b }
    }
    fn finish(self, a: f64) -> f32 {
        (a / self.divisor) as f32
    }
}

/// Sum and product of integers, which wrap.
#[derive(Clone, Copy)]
pub(crate) struct IntegerFold {
    pub(crate) product: bool,
}

impl Fold for IntegerFold {
    type Value = i64;
    type Accumulator = i64;
    type Output = i64;
    fn start(self) -> i64 {
        i64::from(self.product)
    }
    #[inline(always)]
    fn step(self, a: i64, v: i64) -> i64 {
        if self.product { a.wrapping_mul(v) } else { a.wrapping_add(v) }
    }
    fn merge(self, a: i64, b: i64) -> i64 {
        self.step(a, b)
    }
    fn finish(self, a: i64) -> i64 {
        a
    }
}

/// The smallest or the largest. Not-a-number wins.
#[derive(Clone, Copy)]
pub(crate) struct Extreme<C> {
    pub(crate) largest: bool,
    /// What every value replaces.
    pub(crate) start: C,
}

impl<C: Compute + PartialOrd> Fold for Extreme<C> {
    type Value = C;
    type Accumulator = C;
    type Output = C;
    fn start(self) -> C {
        self.start
    }
    #[inline(always)]
    #[allow(clippy::eq_op)] // Only not-a-number differs from itself.
    fn step(self, a: C, v: C) -> C {
        let better = if self.largest { v > a } else { v < a };
        if better | (v != v) { v } else { a }
    }
    fn merge(self, a: C, b: C) -> C {
        self.step(a, b)
    }
    fn finish(self, a: C) -> C {
        a
    }
}

/// Whether any, or all, are not zero.
#[derive(Clone, Copy)]
pub(crate) struct Quantify<C> {
    pub(crate) all: bool,
    pub(crate) zero: C,
}

impl<C: Compute> Fold for Quantify<C> {
    type Value = C;
    type Accumulator = bool;
    type Output = bool;
    fn start(self) -> bool {
        self.all
    }
    #[inline(always)]
    fn step(self, a: bool, v: C) -> bool {
        self.merge(a, v != self.zero)
    }
    #[inline(always)]
    fn merge(self, a: bool, b: bool) -> bool {
        if self.all { a & b } else { a | b }
    }
    fn finish(self, a: bool) -> bool {
        a
    }
}
