//! Attention in tiles: blocks of queries against blocks of keys, with the softmax carried along.

use crate::cpu::elementwise::Input;
use crate::cpu::gemm::{Matrix, multiply};
use crate::cpu::math;
use crate::cpu::norm::{maximum, scale_by, total};
use crate::cpu::reader::Reader;
use crate::cpu::simd::multiversion;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Queries and keys of one tile.
const QUERIES: usize = 64;
const KEYS: usize = 512;

/// The rows of all heads, each row dense.
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: Reader,
    pub(crate) stride: usize,
}

impl Rows<'_> {
    fn matrix(&self, batch: usize, first: usize, rows: usize, columns: usize) -> Matrix<'_> {
        let from = self.batch.locate(batch) as usize + first * self.stride;
        let values = &self.values[from.min(self.values.len())..];
        Matrix { values, rows, columns, row_stride: self.stride, column_stride: 1 }
    }
}

/// Added to the scores, or true where they count; of the scores' shape.
pub(crate) struct Mask<'a> {
    pub(crate) input: Input<'a>,
    pub(crate) boolean: bool,
}

pub(crate) struct Attention<'a> {
    pub(crate) op: &'static str,
    pub(crate) query: Rows<'a>,
    pub(crate) key: Rows<'a>,
    pub(crate) value: Rows<'a>,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    pub(crate) value_width: usize,
    pub(crate) mask: Option<Mask<'a>>,
    pub(crate) causal: bool,
    pub(crate) scale: f32,
}

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    mask: Vec<f32>,
    /// Of each query of the block: the largest score so far, and the sum of what it was divided by.
    largest: Vec<f32>,
    sums: Vec<f64>,
}

impl Attention<'_> {
    fn key_block(&self) -> usize {
        KEYS.min(self.keys)
    }

    pub(crate) fn workspace_bytes(&self) -> usize {
        let one = (QUERIES + 1) * self.key_block() * size_of::<f32>() + QUERIES * 12;
        one.saturating_mul(rayon::current_num_threads())
    }

    /// `out` holds zeros.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let head = self.queries * self.value_width;
        out.par_chunks_mut(head).enumerate().try_for_each(|(batch, out)| {
            out.par_chunks_mut(QUERIES * self.value_width)
                .enumerate()
                .try_for_each_init(Scratch::default, |scratch, (block, out)| {
                    self.block(batch, block * QUERIES, scratch, out, cx)
                })
        })?;
        cx.check(self.op)
    }

    /// The queries from `first` on that `out` has room for.
    fn block(
        &self,
        batch: usize,
        first: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let rows = out.len() / self.value_width;
        let query = self.query.matrix(batch, first, rows, self.width);
        scratch.scores.resize(QUERIES * self.key_block(), 0.0);
        scratch.mask.resize(self.key_block(), 0.0);
        scratch.largest.clear();
        scratch.largest.resize(rows, f32::NEG_INFINITY);
        scratch.sums.clear();
        scratch.sums.resize(rows, 0.0);
        let visible = if self.causal { self.keys.min(first + rows) } else { self.keys };
        for start in (0..visible).step_by(self.key_block()) {
            cx.check(self.op)?;
            let count = self.key_block().min(visible - start);
            let key = self.key.matrix(batch, start, count, self.width);
            let scores = &mut scratch.scores[..rows * count];
            multiply(query, key.transposed(), scores, count, false);
            for (row, scores) in scores.chunks_exact_mut(count).enumerate() {
                self.mask_row(batch, first + row, start, &mut scratch.mask[..count], scores);
                let out = &mut out[row * self.value_width..][..self.value_width];
                soften(scores, &mut scratch.largest[row], &mut scratch.sums[row], out);
            }
            let value = self.value.matrix(batch, start, count, self.value_width);
            multiply(Matrix::dense(scores, rows, count), value, out, self.value_width, true);
        }
        for (out, sum) in out.chunks_exact_mut(self.value_width).zip(&scratch.sums) {
            if *sum != 0.0 {
                scale_by(out, (1.0 / sum) as f32);
            }
        }
        Ok(())
    }

    /// Scales the scores of one query and hides what it may not see.
    fn mask_row(&self, batch: usize, query: usize, start: usize, scratch: &mut [f32], scores: &mut [f32]) {
        scale_by(scores, self.scale);
        if self.causal {
            let seen = (query + 1).saturating_sub(start).min(scores.len());
            scores[seen..].fill(f32::NEG_INFINITY);
        }
        let Some(mask) = &self.mask else { return };
        let at = (batch * self.queries + query) * self.keys + start;
        let mut done = 0;
        while done < scores.len() {
            let count = scratch.len().min(scores.len() - done);
            let block = mask.input.block(at + done, count, scratch);
            if mask.boolean {
                hide(&mut scores[done..done + count], block)
            } else {
                add(&mut scores[done..done + count], block)
            }
            done += count;
        }
    }
}

/// Turns scores into weights relative to the largest seen so far, and brings what was summed up before to the same scale.
fn soften(scores: &mut [f32], largest: &mut f32, sum: &mut f64, out: &mut [f32]) {
    let before = *largest;
    let now = maximum(scores).max(before);
    if now == f32::NEG_INFINITY {
        // Nothing to be seen yet; not-a-number stays what it is.
        for score in scores.iter_mut() {
            *score = if score.is_nan() { f32::NAN } else { 0.0 };
        }
        *sum += total(scores);
        return;
    }
    exponentials(scores, now);
    if before != now && before != f32::NEG_INFINITY {
        let factor = math::exp(before - now);
        scale_by(out, factor);
        *sum *= f64::from(factor);
    }
    *largest = now;
    *sum += total(scores);
}

multiversion! {
    fn exponentials<>(scores: &mut [f32], largest: f32) where {} {
        for score in scores {
            *score = math::exp(*score - largest);
        }
    }
}

multiversion! {
    fn hide<>(scores: &mut [f32], mask: &[f32]) where {} {
        for (score, mask) in scores.iter_mut().zip(mask) {
            *score = if *mask != 0.0 { *score } else { f32::NEG_INFINITY };
        }
    }
}

multiversion! {
    fn add<>(scores: &mut [f32], mask: &[f32]) where {} {
        for (score, mask) in scores.iter_mut().zip(mask) {
            *score += *mask;
        }
    }
}
