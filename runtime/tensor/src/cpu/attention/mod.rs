//! Attention in tiles: blocks of queries against blocks of keys, with the softmax carried along.
//!
//! Everything lies turned around: a panel of queries is the right side of the first product, whose result (keys × queries)
//! is at once the right side of the second (values × queries). So neither keys nor values have to be rearranged, and the
//! softmax works on as many queries at once as a panel has. Where there is a matrix unit, keys and values are split for it once.

mod soften;

use crate::cpu::elementwise::Input;
use crate::cpu::gemm::{
    Kernel, LINE_STEPS, Line, Lines, MOST_COLUMNS, Matrix, MatrixType, Panels, ROW, Right, Rows as _, Tiles, Tiling,
    can_split, multiply, multiply_split, split_chunk, split_steps,
};
use crate::cpu::reader::Reader;
use crate::cpu::transpose::transpose;
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;
use soften::{State, scale_row, soften, soften_split};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Panels of queries that a task works on, and the keys that it takes at a time. The matrix unit is fed from the second-level
/// cache: it takes more of both to be worth it, and of wide heads fewer keys.
const PANELS: usize = 4;
const SPLIT_PANELS: usize = 8;
const KEYS: usize = 256;
const SPLIT_KEYS: usize = 512;
const WIDE_KEYS: usize = 128;
const WIDE: usize = 128;
/// Queries are scaled and weights computed, in float32.
const QUERY_PARTS: usize = <f32 as MatrixType>::PARTS;
/// Bytes of keys and values that are split at a time, about.
const SPLIT_BYTES: usize = 8 << 20;

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
    /// Heads, of the whole batch.
    pub(crate) batch: usize,
    /// How many bfloat16 make up a number of key and value; see [`MatrixType::PARTS`].
    pub(crate) parts: usize,
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
    /// The panels of queries, and the weights of a panel, split.
    query_lines: Vec<Lines>,
    weight_lines: Lines,
    /// The mask of a panel, as read and turned around.
    mask: Vec<f32>,
    turned: Vec<f32>,
    states: Vec<State>,
}

/// Keys and values of some heads, split: values turned around.
struct Heads<'a> {
    attention: &'a Attention<'a>,
    first: usize,
    lines: &'a [Line],
}

/// Those of one head.
#[derive(Clone, Copy)]
struct Head<'a> {
    keys: Tiling,
    values: Tiling,
    lines: &'a [Line],
}

impl<'a> Heads<'a> {
    fn of(&self, batch: usize) -> Head<'a> {
        let [keys, values] = self.attention.tilings();
        let size = keys.lines() + values.lines();
        Head { keys, values, lines: &self.lines[(batch - self.first) * size..][..size] }
    }
}

impl Head<'_> {
    /// Scores of `count` keys from `start` on, a multiple of 32, for a panel of queries.
    fn score(
        &self,
        unit: &Tiles,
        start: usize,
        count: usize,
        queries: (Tiling, &Lines),
        step: usize,
        scores: &mut [f32],
    ) {
        let keys = Tiling { length: count, ..self.keys };
        let from = self.keys.start(start / MOST_COLUMNS);
        let columns = (queries.0, queries.1.get());
        multiply_split(unit, (keys, &self.lines[from..]), 0, columns, (scores, step), false);
    }

    /// Adds the values of keys from `start` on, each times its weight for a panel of queries.
    fn add_values(&self, unit: &Tiles, start: usize, weights: (Tiling, &Lines), step: usize, result: &mut [f32]) {
        let values = (self.values, &self.lines[self.keys.lines()..]);
        multiply_split(unit, values, start, (weights.0, weights.1.get()), (result, step), true);
    }
}

impl Attention<'_> {
    /// How keys and values of a head are split.
    fn tilings(&self) -> [Tiling; 2] {
        let parts = self.parts;
        let keys = Tiling { length: self.keys, inner: self.width, parts };
        [keys, Tiling { length: self.value_width, inner: self.keys, parts }]
    }

    fn splits(&self) -> bool {
        can_split() && self.queries >= 16 && self.keys >= 16 && self.width > 0
    }

    /// Heads whose keys and values are split at a time.
    fn heads_at_once(&self) -> usize {
        let [keys, values] = self.tilings();
        (SPLIT_BYTES / Lines::bytes(keys.lines().saturating_add(values.lines()))).max(1)
    }

    fn key_block(&self) -> usize {
        self.keys.min(match self.splits() {
            false => KEYS,
            true if self.width.max(self.value_width) > WIDE => WIDE_KEYS,
            true => SPLIT_KEYS,
        })
    }

    fn panels(&self) -> usize {
        if self.splits() { SPLIT_PANELS } else { PANELS }
    }

    pub(crate) fn workspace_bytes(&self) -> usize {
        let block = self.key_block() * if self.mask.is_some() { 3 } else { 1 };
        let one =
            (self.panels() * (self.width + self.value_width) + block).saturating_mul(MOST_COLUMNS * size_of::<f32>());
        let threads = one.saturating_mul(rayon::current_num_threads());
        if !self.splits() {
            return threads;
        }
        // Lines are half as long again as what they are made of, and steps come in whole chunks.
        let [keys, values] = self.tilings();
        let head = Lines::bytes(keys.lines().saturating_add(values.lines()));
        let heads = self.heads_at_once().min(self.batch).saturating_mul(head);
        threads.saturating_mul(3).saturating_add(heads)
    }

    /// Writes all of `out`.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        if !(self.splits() && self.run_split(out, cx)?) {
            self.run_heads((out, 0), None, cx)?;
        }
        cx.check(self.op)
    }

    /// With a matrix unit. False when something is not finite, and to be computed again.
    fn run_split(&self, out: &mut [f32], cx: &OpContext) -> Result<bool, TensorError> {
        let at_once = self.heads_at_once();
        let mut lines = Lines::default();
        for (index, out) in out.chunks_mut(at_once * self.queries * self.value_width).enumerate() {
            let first = index * at_once;
            let count = out.len() / (self.queries * self.value_width);
            if !self.split_heads(first, count, &mut lines, cx)? {
                return Ok(false);
            }
            let heads = Heads { attention: self, first, lines: lines.get() };
            if !self.run_heads((out, first), Some(&heads), cx)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Splits keys and values of `count` heads from `first` on. False when something is not finite.
    fn split_heads(&self, first: usize, count: usize, lines: &mut Lines, cx: &OpContext) -> Result<bool, TensorError> {
        let [keys, values] = self.tilings();
        let size = keys.lines() + values.lines();
        lines.make_room(size * count);
        let finite = AtomicBool::new(true);
        lines.get_mut()[..size * count].par_chunks_mut(size).enumerate().try_for_each(|(index, out)| {
            let (key_lines, value_lines) = out.split_at_mut(keys.lines());
            let key = self.key.matrix(first + index, 0, self.keys, self.width);
            let value = self.value.matrix(first + index, 0, self.keys, self.value_width).transposed();
            for (matrix, tiling, lines) in [(key, keys, key_lines), (value, values, value_lines)] {
                let blocks = lines.par_chunks_mut(tiling.chunks() * tiling.chunk(0));
                blocks.enumerate().try_for_each(|(block, lines)| {
                    cx.check(self.op)?;
                    if !split_block(matrix, tiling, block, lines) {
                        finite.store(false, Ordering::Relaxed);
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        Ok(finite.into_inner())
    }

    /// All heads from `first` on that `out` has room for. False when a query was to be split and is not finite.
    fn run_heads(
        &self,
        (out, first): (&mut [f32], usize),
        heads: Option<&Heads<'_>>,
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let head = self.queries * self.value_width;
        let block = self.panels() * Kernel::get().columns;
        let finite = AtomicBool::new(true);
        out.par_chunks_mut(head).enumerate().try_for_each(|(index, out)| {
            let batch = first + index;
            out.par_chunks_mut(block * self.value_width).enumerate().try_for_each_init(
                Scratch::default,
                |scratch, (index, out)| {
                    let head = heads.map(|heads| heads.of(batch));
                    if !self.block((batch, head), index * block, scratch, out, cx)? {
                        finite.store(false, Ordering::Relaxed);
                    }
                    Ok(())
                },
            )
        })?;
        Ok(finite.into_inner())
    }

    /// The queries from `first` on that `out` has room for. False when they were to be split and are not finite.
    fn block(
        &self,
        (batch, head): (usize, Option<Head<'_>>),
        first: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let rows = out.len() / self.value_width;
        let panels = Panels { inner: self.width, columns: rows };
        // Whole tiles of a matrix unit.
        let results = Panels { inner: self.value_width.next_multiple_of(16), columns: rows };
        scratch.queries.resize(panels.numbers(), 0.0);
        scratch.results.clear();
        scratch.results.resize(results.numbers(), 0.0);
        scratch.scores.resize(self.key_block().next_multiple_of(16) * MOST_COLUMNS, 0.0);
        scratch.states.clear();
        scratch.states.resize(panels.count(), State::new());
        let query = self.query.matrix(batch, first, rows, self.width).transposed();
        for panel in 0..panels.count() {
            let packed = &mut scratch.queries[panels.start(panel)..][..panels.step(panel) * self.width];
            panels.pack_panel(panel, query, packed);
            packed.iter_mut().for_each(|value| *value *= self.scale);
        }
        if head.is_some() && !self.split_queries(panels, scratch) {
            return Ok(false);
        }
        let head = head.and_then(|head| Some((head, Tiles::new()?)));
        // In whole blocks, as they were split; what is too much is hidden.
        let visible = (first + rows).next_multiple_of(MOST_COLUMNS);
        let visible = if self.causal { self.keys.min(visible) } else { self.keys };
        for start in (0..visible).step_by(self.key_block()) {
            cx.check(self.op)?;
            let count = self.key_block().min(visible - start);
            let key = self.key.matrix(batch, start, count, self.width);
            let value = self.value.matrix(batch, start, count, self.value_width).transposed();
            for panel in 0..panels.count() {
                let step = panels.step(panel);
                let scores = &mut scratch.scores[..];
                match &head {
                    Some((head, unit)) => {
                        let query = Tiling { length: step, inner: self.width, parts: QUERY_PARTS };
                        head.score(unit, start, count, (query, &scratch.query_lines[panel]), step, scores);
                    }
                    None => {
                        let sizes = Panels { inner: self.width, columns: step };
                        let query = Right::Packed(sizes, &scratch.queries[panels.start(panel)..]);
                        multiply(key, query, &mut scores[..count * step], step, false);
                    }
                }
                let scores = &mut scores[..count * step];
                let queries = first + panel * Kernel::get().columns..first + rows;
                self.hide(batch, queries, start, step, (&mut scratch.mask, &mut scratch.turned), scores);
                let result = &mut scratch.results[results.start(panel)..][..step * results.inner];
                let state = &mut scratch.states[panel];
                match &head {
                    Some((head, unit)) => {
                        let weight = Tiling { length: step, inner: count, parts: QUERY_PARTS };
                        scratch.weight_lines.make_room(weight.lines());
                        soften_split(scores, step, state, result, scratch.weight_lines.get_mut());
                        head.add_values(unit, start, (weight, &scratch.weight_lines), step, result);
                    }
                    None => {
                        soften(scores, step, state, result);
                        let sizes = Panels { inner: count, columns: step };
                        let result = &mut result[..step * self.value_width];
                        multiply(value, Right::Packed(sizes, scores), result, step, true);
                    }
                }
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
        Ok(true)
    }

    /// Splits all panels of queries. False when something is not finite.
    fn split_queries(&self, panels: Panels, scratch: &mut Scratch) -> bool {
        scratch.query_lines.resize_with(panels.count(), Lines::default);
        let mut finite = true;
        for (panel, lines) in scratch.query_lines.iter_mut().enumerate() {
            let step = panels.step(panel);
            let tiling = Tiling { length: step, inner: self.width, parts: QUERY_PARTS };
            lines.make_room(tiling.lines());
            let query = &scratch.queries[panels.start(panel)..];
            finite &= split_steps(query, step, self.width, (tiling.tiles(0), QUERY_PARTS), lines.get_mut());
        }
        finite
    }

    /// Hides from the queries of a panel, which begin and end as `queries`, what they may not see of the keys from `start`
    /// on.
    fn hide(
        &self,
        batch: usize,
        queries: Range<usize>,
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
            let mut scratch = [0.0f32; SPLIT_KEYS];
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

/// Splits one block of rows of a matrix. False when something is not finite.
fn split_block(matrix: Matrix<'_>, tiling: Tiling, block: usize, out: &mut [Line]) -> bool {
    const AT_ONCE: usize = 8 * LINE_STEPS;
    let rows = tiling.width(block);
    let mut gathered = scratch(rows * ROW);
    let mut finite = true;
    for start in (0..tiling.inner).step_by(AT_ONCE) {
        let inner = AT_ONCE.min(tiling.inner - start);
        matrix.gather(block * MOST_COLUMNS, start, inner, &mut gathered);
        for step in (0..inner).step_by(LINE_STEPS) {
            let sizes = [rows, LINE_STEPS.min(inner - step), tiling.parts];
            let out = &mut out[(start + step) / LINE_STEPS * tiling.chunk(block)..][..tiling.chunk(block)];
            finite &= split_chunk(&gathered[step..], ROW, sizes, out);
        }
    }
    finite
}
