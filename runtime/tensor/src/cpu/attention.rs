//! Attention in tiles: blocks of queries against blocks of keys, with the softmax carried along.
//!
//! Everything lies turned around: a panel of queries is the right side of the first product, whose result (keys × queries)
//! is at once the right side of the second (values × queries). So neither keys nor values have to be rearranged, and the
//! softmax works on as many queries at once as a panel has.

use crate::cpu::elementwise::Input;
use crate::cpu::gemm::{Kernel, MOST_COLUMNS, Matrix, Panels, Right, multiply};
use crate::cpu::math;
use crate::cpu::reader::Reader;
use crate::cpu::simd::multiversion;
use crate::cpu::transpose::transpose;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Panels of queries that a task works on, and the keys that it takes at a time.
const PANELS: usize = 4;
const KEYS: usize = 256;

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
    /// Panels of queries, `[width, panel]` each, times the scale.
    queries: Vec<f32>,
    /// Results so far, `[value width, panel]` each.
    results: Vec<f32>,
    /// `[keys, panel]`
    scores: Vec<f32>,
    /// The mask of a panel, as read and turned around.
    mask: Vec<f32>,
    turned: Vec<f32>,
    states: Vec<State>,
}

/// Of each query of a panel: the largest score so far, and the sum of the weights relative to it.
#[derive(Clone, Copy)]
struct State {
    largest: [f32; MOST_COLUMNS],
    sums: [f32; MOST_COLUMNS],
}

impl Attention<'_> {
    fn key_block(&self) -> usize {
        KEYS.min(self.keys)
    }

    pub(crate) fn workspace_bytes(&self) -> usize {
        let block = self.key_block() * if self.mask.is_some() { 3 } else { 1 };
        let one = (PANELS * (self.width + self.value_width) + block).saturating_mul(MOST_COLUMNS * size_of::<f32>());
        one.saturating_mul(rayon::current_num_threads())
    }

    /// Writes all of `out`.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let head = self.queries * self.value_width;
        let block = PANELS * Kernel::get().columns;
        out.par_chunks_mut(head).enumerate().try_for_each(|(batch, out)| {
            out.par_chunks_mut(block * self.value_width)
                .enumerate()
                .try_for_each_init(Scratch::default, |scratch, (index, out)| {
                    self.block(batch, index * block, scratch, out, cx)
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
        let panels = Panels { inner: self.width, columns: rows };
        let results = Panels { inner: self.value_width, columns: rows };
        scratch.queries.resize(panels.numbers(), 0.0);
        scratch.results.clear();
        scratch.results.resize(results.numbers(), 0.0);
        scratch.scores.resize(self.key_block() * MOST_COLUMNS, 0.0);
        let state = State { largest: [f32::NEG_INFINITY; MOST_COLUMNS], sums: [0.0; MOST_COLUMNS] };
        scratch.states.clear();
        scratch.states.resize(panels.count(), state);
        let query = self.query.matrix(batch, first, rows, self.width).transposed();
        for panel in 0..panels.count() {
            let packed = &mut scratch.queries[panels.start(panel)..][..panels.step(panel) * self.width];
            panels.pack_panel(panel, query, packed);
            packed.iter_mut().for_each(|value| *value *= self.scale);
        }
        let visible = if self.causal { self.keys.min(first + rows) } else { self.keys };
        for start in (0..visible).step_by(self.key_block()) {
            cx.check(self.op)?;
            let count = self.key_block().min(visible - start);
            let key = self.key.matrix(batch, start, count, self.width);
            let value = self.value.matrix(batch, start, count, self.value_width).transposed();
            for panel in 0..panels.count() {
                let step = panels.step(panel);
                let query = &scratch.queries[panels.start(panel)..];
                let scores = &mut scratch.scores[..count * step];
                let sizes = Panels { inner: self.width, columns: step };
                multiply(key, Right::Packed(sizes, query), scores, step, false);
                let queries = first + panel * Kernel::get().columns..first + rows;
                self.hide(batch, queries, start, step, (&mut scratch.mask, &mut scratch.turned), scores);
                let result = &mut scratch.results[results.start(panel)..][..step * self.value_width];
                soften(scores, step, &mut scratch.states[panel], result);
                let sizes = Panels { inner: count, columns: step };
                multiply(value, Right::Packed(sizes, scores), result, step, true);
            }
        }
        for panel in 0..panels.count() {
            let ((width, _), step) = (panels.width(panel), panels.step(panel));
            let result = &mut scratch.results[results.start(panel)..][..step * self.value_width];
            let sums = scratch.states[panel].sums;
            // A query that saw nothing answers zeros.
            let factors = sums.map(|sum| if sum == 0.0 { 0.0 } else { 1.0 / sum });
            result.chunks_exact_mut(step).for_each(|row| scale_row(row, &factors));
            let out = &mut out[panel * Kernel::get().columns * self.value_width..];
            transpose(result, step, (self.value_width, width), out, self.value_width);
        }
        Ok(())
    }

    /// Hides from the queries of a panel, which begin and end as `queries`, what they may not see of the keys from `start`
    /// on.
    fn hide(
        &self,
        batch: usize,
        queries: std::ops::Range<usize>,
        start: usize,
        step: usize,
        (mask, turned): (&mut Vec<f32>, &mut Vec<f32>),
        scores: &mut [f32],
    ) {
        let count = scores.len() / step;
        if self.causal {
            for (key, scores) in scores.chunks_exact_mut(step).enumerate() {
                let hidden = (start + key).saturating_sub(queries.start).min(step);
                scores[..hidden].fill(f32::NEG_INFINITY);
            }
        }
        let Some(own) = &self.mask else { return };
        let width = step.min(queries.len());
        mask.resize(step * count, 0.0);
        turned.resize(step * count, 0.0);
        for (row, line) in mask.chunks_exact_mut(count).take(width).enumerate() {
            let at = (batch * self.queries + queries.start + row) * self.keys + start;
            let mut scratch = [0.0f32; KEYS];
            line.copy_from_slice(own.input.block(at, count, &mut scratch));
        }
        transpose(mask, count, (width, count), turned, step);
        for (scores, mask) in scores.chunks_exact_mut(step).zip(turned.chunks_exact(step)) {
            for (score, mask) in scores[..width].iter_mut().zip(mask) {
                *score = match own.boolean {
                    true if *mask == 0.0 => f32::NEG_INFINITY,
                    true => *score,
                    false => *score + *mask,
                };
            }
        }
    }
}

multiversion! {
    /// Turns scores into weights relative to the largest seen so far, and brings what was summed up before to the same
    /// scale.
    fn soften<>(scores: &mut [f32], step: usize, state: &mut State, result: &mut [f32]) where {} {
        match step {
            32 => soften_panel::<32>(scores, state, result),
            16 => soften_panel::<16>(scores, state, result),
            8 => soften_panel::<8>(scores, state, result),
            _ => soften_panel::<4>(scores, state, result),
        }
    }
}

#[inline(always)]
fn soften_panel<const N: usize>(scores: &mut [f32], state: &mut State, result: &mut [f32]) {
    let (scores, result) = (scores.as_chunks_mut::<N>().0, result.as_chunks_mut::<N>().0);
    let before: [f32; N] = std::array::from_fn(|lane| state.largest[lane]);
    let mut now = before;
    raise(scores, &mut now);
    // While a query has seen nothing, any reference will do.
    let reference = now.map(|largest| if largest == f32::NEG_INFINITY { 0.0 } else { largest });
    if now != before {
        let mut factors = [0.0f32; N];
        for (lane, factor) in factors.iter_mut().enumerate() {
            *factor = math::exp(before[lane] - reference[lane]);
        }
        result.iter_mut().for_each(|row| scale_row(row, &factors));
        state.sums.iter_mut().zip(&factors).for_each(|(sum, factor)| *sum *= factor);
    }
    let mut sums = [0.0f32; N];
    weigh(scores, &reference, &mut sums);
    state.sums.iter_mut().zip(&sums).for_each(|(sum, part)| *sum += part);
    state.largest[..N].copy_from_slice(&now);
}

#[inline(always)]
fn scale_row(row: &mut [f32], factors: &[f32]) {
    row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
}

#[inline(always)]
fn raise<const N: usize>(scores: &[[f32; N]], largest: &mut [f32; N]) {
    for row in scores {
        for (largest, score) in largest.iter_mut().zip(row) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
}

#[inline(always)]
fn weigh<const N: usize>(scores: &mut [[f32; N]], reference: &[f32; N], sums: &mut [f32; N]) {
    for row in scores {
        for ((score, reference), sum) in row.iter_mut().zip(reference).zip(sums.iter_mut()) {
            *score = math::exp_below(*score - *reference);
            *sum += *score;
        }
    }
}
