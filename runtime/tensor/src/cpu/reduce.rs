//! Folds elements together: along rows where the reduced dimensions are innermost, across rows where they are not.
//!
//! Pieces have fixed sizes, so a result does not depend on the number of threads.

use crate::cpu::convert::Compute;
use crate::cpu::reader::Reader;
use crate::cpu::simd::{fold_each, fold_lanes};
use crate::cpu::{BLOCK, fill, fill_rows};
use crate::storage::Buffer;
use crate::{OpContext, TensorError};

/// Elements that are folded into one partial result.
const PART: usize = 64 * BLOCK;
/// Fewer reduced elements than this are folded across, whatever the strides.
const FEW: usize = 16;
/// Shorter kept runs than this are not worth folding across.
const SHORT: usize = 32;

/// What to fold. Both readers address the same buffer; `reduced` counts from offset 0.
pub(crate) struct Reduction<'a> {
    pub(crate) op: &'static str,
    pub(crate) buffer: &'a Buffer,
    pub(crate) kept: Reader,
    pub(crate) reduced: Dims,
    /// True when the innermost dimension in memory is one that stays.
    pub(crate) innermost_kept: bool,
}

/// Lengths and strides of the reduced dimensions.
pub(crate) type Dims = Vec<(usize, isize)>;

/// A way to fold values of C into an accumulator A, and to make a result O of it.
pub(crate) struct Fold<A, S, M, F> {
    pub(crate) start: A,
    pub(crate) step: S,
    pub(crate) merge: M,
    pub(crate) finish: F,
}

impl Reduction<'_> {
    /// Writes one result per kept element.
    pub(crate) fn run<C, A, O, S, M, F>(
        &self,
        fold: &Fold<A, S, M, F>,
        out: &mut [O],
        cx: &OpContext,
    ) -> Result<(), TensorError>
    where
        C: Compute,
        A: Copy + Send + Sync,
        O: Send,
        S: Fn(A, C) -> A + Sync + Copy,
        M: Fn(A, A) -> A + Sync,
        F: Fn(A) -> O + Sync,
    {
        let count: usize = self.reduced.iter().map(|(length, _)| length).product();
        let (kept_run, kept_stride) = self.kept.innermost();
        if count < FEW || (self.innermost_kept && kept_run >= SHORT && kept_stride.unsigned_abs() == 1) {
            return self.across::<C, A, O, S, M, F>(fold, count, out, cx);
        }
        let parts = count.div_ceil(PART);
        if parts == 1 {
            return fill_rows(self.op, out, 1, count, cx, |first, chunk| {
                for (index, out) in chunk.iter_mut().enumerate() {
                    *out = (fold.finish)(self.along::<C, A, S, M, F>(fold, first + index, 0, count));
                }
            });
        }
        let mut partial = vec![fold.start; out.len() * parts];
        fill_rows(self.op, &mut partial, 1, PART, cx, |first, chunk| {
            for (index, out) in chunk.iter_mut().enumerate() {
                let (kept, part) = ((first + index) / parts, (first + index) % parts);
                let length = PART.min(count - part * PART);
                *out = self.along::<C, A, S, M, F>(fold, kept, part * PART, length);
            }
        })?;
        for (out, parts) in out.iter_mut().zip(partial.chunks_exact(parts)) {
            *out = (fold.finish)(parts.iter().copied().fold(fold.start, &fold.merge));
        }
        Ok(())
    }

    /// Folds `length` reduced elements from `from` on, for one kept element.
    fn along<C, A, S, M, F>(&self, fold: &Fold<A, S, M, F>, kept: usize, from: usize, length: usize) -> A
    where
        C: Compute,
        A: Copy,
        S: Fn(A, C) -> A + Copy,
        M: Fn(A, A) -> A,
    {
        let reader = Reader::of_dims(self.kept.locate(kept) as usize, self.reduced.iter().copied());
        let mut lanes = [fold.start; 16];
        let mut scratch = [C::default(); BLOCK];
        let mut done = 0;
        while done < length {
            let count = BLOCK.min(length - done);
            let block = match (C::view(self.buffer), reader.contiguous(from + done, count)) {
                (Some(values), Some(range)) => &values[range],
                _ => {
                    C::read(self.buffer, &reader, from + done, &mut scratch[..count]);
                    &scratch[..count]
                }
            };
            fold_lanes(&mut lanes, block, fold.step);
            done += count;
        }
        lanes.into_iter().reduce(&fold.merge).unwrap_or(fold.start)
    }

    /// Folds row by row, a block of kept elements at a time.
    fn across<C, A, O, S, M, F>(
        &self,
        fold: &Fold<A, S, M, F>,
        count: usize,
        out: &mut [O],
        cx: &OpContext,
    ) -> Result<(), TensorError>
    where
        C: Compute,
        A: Copy + Send + Sync,
        O: Send,
        S: Fn(A, C) -> A + Sync + Copy,
        F: Fn(A) -> O + Sync,
        M: Sync,
    {
        let rows = Reader::of_dims(0, self.reduced.iter().copied());
        let work = |start: usize, chunk: &mut [O]| {
            let mut scratch = [C::default(); BLOCK];
            let mut accumulators = [fold.start; BLOCK];
            for (index, piece) in chunk.chunks_mut(BLOCK).enumerate() {
                let (at, length) = (start + index * BLOCK, piece.len());
                accumulators[..length].fill(fold.start);
                for row in 0..count {
                    if cx.is_cancelled() {
                        return;
                    }
                    let kept = self.kept.moved(rows.locate(row));
                    let block = match (C::view(self.buffer), kept.contiguous(at, length)) {
                        (Some(values), Some(range)) => &values[range],
                        _ => {
                            C::read(self.buffer, &kept, at, &mut scratch[..length]);
                            &scratch[..length]
                        }
                    };
                    fold_each(&mut accumulators[..length], block, fold.step);
                }
                for (out, accumulator) in piece.iter_mut().zip(&accumulators) {
                    *out = (fold.finish)(*accumulator);
                }
            }
        };
        // Whole blocks per piece, however much is folded into each.
        if count < FEW {
            fill(self.op, out, cx, work)
        } else {
            fill_rows(self.op, out, BLOCK, count, cx, |first, chunk| {
                work(first * BLOCK, chunk);
            })
        }
    }
}
