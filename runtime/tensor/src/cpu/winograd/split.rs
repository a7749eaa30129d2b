//! Winograd's products by a matrix unit: each of the 36 is one product of all tiles at hand and all channels at hand, so that
//! every number that was transformed and split is read once or twice only. Not for few tiles, where split weights would be far more
//! than all else.

use super::transform::{finish_products, transform_pixels};
use super::{LANES, PRODUCTS, Places, STEPS, TILE, Target, Weights, Winograd, apart};
use crate::cpu::gemm::{
    LINE_STEPS, LineBlock, Lines, MOST_COLUMNS, MatrixType, Panels, Tiles, Tiling, can_split, multiply_split,
    split_chunk, split_steps,
};
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of transformed input, and of transformed weights, that exist at a time, about: more input where not all weights do, which
/// are transformed again for each.
const INPUT_BYTES: usize = 10 << 20;
const MOST_INPUT_BYTES: usize = 32 << 20;
const WEIGHT_BYTES: usize = 32 << 20;
/// Tiles that are taken at once at least, if there are as many: the fewer, the more often weights are transformed.
const LEAST_TILES: usize = 128;
/// Tiles from which on a matrix unit pays.
const FEWEST_TILES: usize = 100;
/// Tiles whose pixels are transformed together.
const GROUP: usize = 32;
/// From one tile's channels to the next one's while they are split: no multiple of what caches repeat at.
const ROW: usize = LINE_STEPS + LANES;
const PARTS: usize = <f32 as MatrixType>::PARTS;

impl<T: MatrixType> Winograd<'_, T> {
    pub(super) fn splits(&self) -> bool {
        can_split() && self.size[2] >= LINE_STEPS && self.output[2] >= LANES && self.tiles() >= FEWEST_TILES
    }

    /// Tiles that are taken at once: pieces for all threads, and as even as can be.
    fn tiles_at_once(&self) -> usize {
        let pieces = GROUP * rayon::current_num_threads();
        let all_weights = self.panels_at_once() * MOST_COLUMNS >= self.output[2];
        let bytes = if all_weights { INPUT_BYTES } else { MOST_INPUT_BYTES };
        let most = bytes / (PRODUCTS * self.size[2] * PARTS * size_of::<half::bf16>());
        let most = (most / pieces * pieces).max(LEAST_TILES);
        let tiles = self.tiles();
        tiles.div_ceil(tiles.div_ceil(most)).next_multiple_of(pieces).min(tiles)
    }

    /// Panels of output channels that are taken at once.
    fn panels_at_once(&self) -> usize {
        let one = Tiling { length: MOST_COLUMNS, inner: self.size[2], parts: PARTS };
        let most = (WEIGHT_BYTES / (PRODUCTS * Lines::bytes(one.lines()))).max(1);
        let panels = self.output[2].div_ceil(MOST_COLUMNS);
        panels.div_ceil(panels.div_ceil(most))
    }

    fn input_tiling(&self) -> Tiling {
        Tiling { length: self.tiles_at_once(), inner: self.size[2], parts: PARTS }
    }

    /// Of the output channels of some panels from `first` on.
    fn weight_tiling(&self, first: usize) -> Tiling {
        let length = (self.output[2] - first * MOST_COLUMNS).min(self.panels_at_once() * MOST_COLUMNS);
        Tiling { length, inner: self.size[2], parts: PARTS }
    }

    pub(super) fn split_bytes(&self) -> usize {
        let (input, weight) = (self.input_tiling(), self.weight_tiling(0));
        let shared = PRODUCTS * (Lines::bytes(input.lines()) + Lines::bytes(weight.lines()));
        let products = PRODUCTS * numbers(input.length, weight.length) * size_of::<f32>();
        let task = PRODUCTS * apart(GROUP * ROW) + Weights::MOST_NUMBERS;
        shared + products + task * rayon::current_num_threads() * size_of::<f32>()
    }

    pub(super) fn run_split(&self, target: Target, cx: &OpContext) -> Result<bool, TensorError> {
        let (tiles, at_once, panels) = (self.tiles(), self.tiles_at_once(), self.output[2].div_ceil(MOST_COLUMNS));
        let whole = self.weight_tiling(0);
        let mut input = Lines::new(PRODUCTS * self.input_tiling().lines());
        let mut weight = Lines::new(PRODUCTS * whole.lines());
        let mut products = scratch(PRODUCTS * numbers(at_once, whole.length));
        let groups: Vec<usize> = (0..panels).step_by(self.panels_at_once()).collect();
        let mut finite = true;
        for first in (0..tiles).step_by(at_once) {
            let rows = Tiling { length: at_once.min(tiles - first), ..self.input_tiling() };
            finite &= self.split_input(first, rows, &mut input, cx)?;
            for panel in &groups {
                let columns = self.weight_tiling(*panel);
                if first == 0 || groups.len() > 1 {
                    finite &= self.split_weights(*panel, columns, &mut weight, cx)?;
                }
                if !finite {
                    return Ok(false);
                }
                let size = numbers(rows.length, columns.length);
                products[..PRODUCTS * size].par_chunks_mut(size).enumerate().try_for_each(|(product, out)| {
                    cx.check(self.op)?;
                    let Some(unit) = Tiles::new() else { return Ok(()) };
                    let left = (rows, &input.get()[product * rows.lines()..][..rows.lines()]);
                    let right = &weight.get()[product * columns.lines()..][..columns.lines()];
                    // A panel after the other, in whole tiles: so sums go where they belong at once.
                    let panels = out.chunks_mut(numbers(rows.length, MOST_COLUMNS));
                    for (panel, out) in panels.enumerate() {
                        let step = columns.tiles(panel) * LANES;
                        let right = (Tiling { length: step, ..columns }, &right[columns.start(panel)..]);
                        multiply_split(&unit, left, 0, right, (out, step), false);
                    }
                    Ok(())
                })?;
                finite &= self.finish(first, *panel, (rows.length, columns), &products, target, cx)?;
            }
        }
        Ok(finite)
    }

    /// Transforms and splits tiles from `first` on. False when something is not finite.
    fn split_input(&self, first: usize, rows: Tiling, out: &mut Lines, cx: &OpContext) -> Result<bool, TensorError> {
        let finite = AtomicBool::new(true);
        let mut blocks = by_block(out, rows);
        blocks.par_iter_mut().enumerate().try_for_each_init(
            || scratch(PRODUCTS * apart(GROUP * ROW)),
            |numbers, (block, out)| {
                cx.check(self.op)?;
                let first = first + block * GROUP;
                let places: Vec<Places> = (first..first + rows.width(block)).map(|tile| self.places(tile)).collect();
                for start in (0..self.size[2]).step_by(LINE_STEPS) {
                    let channels = LINE_STEPS.min(self.size[2] - start);
                    for (tile, places) in places.iter().enumerate() {
                        let out = &mut numbers[tile * ROW..];
                        transform_pixels(&self.input[start..], places, channels, out, apart(GROUP * ROW));
                    }
                    let from = start / LINE_STEPS * rows.chunk(block);
                    for (numbers, out) in numbers.chunks_exact(apart(GROUP * ROW)).zip(out.iter_mut()) {
                        let out = &mut out[from..][..rows.chunk(block)];
                        if !split_chunk(numbers, ROW, [places.len(), channels, PARTS], out) {
                            finite.store(false, Ordering::Relaxed);
                        }
                    }
                }
                Ok(())
            },
        )?;
        Ok(finite.into_inner())
    }

    /// Transforms and splits the weights of the output channels of some panels. False when something is not finite.
    fn split_weights(
        &self,
        first: usize,
        columns: Tiling,
        out: &mut Lines,
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let finite = AtomicBool::new(true);
        let panels = Panels { inner: columns.inner, columns: columns.length };
        let mut blocks = by_block(out, columns);
        blocks.par_iter_mut().enumerate().try_for_each_init(Weights::default, |weights, (panel, out)| {
            let (width, step) = (columns.width(panel), panels.step(panel));
            let outputs = ((first + panel) * MOST_COLUMNS, width, step);
            for start in (0..self.size[2]).step_by(STEPS) {
                cx.check(self.op)?;
                let steps = STEPS.min(self.size[2] - start);
                self.transform_weights(outputs, (start, steps), weights);
                let from = start / LINE_STEPS * columns.chunk(panel);
                for (numbers, out) in weights.products.chunks_exact(apart(STEPS * step)).zip(out.iter_mut()) {
                    if !split_steps(numbers, step, steps, (columns.tiles(panel), PARTS), &mut out[from..]) {
                        finite.store(false, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        })?;
        Ok(finite.into_inner())
    }

    /// The pixels of tiles from `first` on and of the channels of panels from `panel` on. False when something is not finite.
    fn finish(
        &self,
        first: usize,
        panel: usize,
        (tiles, columns): (usize, Tiling),
        products: &[f32],
        target: Target,
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let finite = AtomicBool::new(true);
        let (all, one) = (numbers(tiles, columns.length), numbers(tiles, MOST_COLUMNS));
        (0..tiles).into_par_iter().with_min_len(GROUP / 4).try_for_each(|tile| {
            cx.check(self.op)?;
            for own in 0..columns.blocks() {
                let (width, step) = (columns.width(own), columns.tiles(own) * LANES);
                for lane in (0..width).step_by(LANES) {
                    let mut values = [[0.0; LANES]; TILE * TILE];
                    finish_products(&products[own * one + tile * step + lane..], all, step - lane, &mut values);
                    let channel = (panel + own) * MOST_COLUMNS + lane;
                    if !self.store(first + tile, channel, LANES.min(width - lane), &values, target) {
                        finite.store(false, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        })?;
        Ok(finite.into_inner())
    }
}

/// Numbers of one product of so many tiles and channels, in whole tiles of the matrix unit.
fn numbers(tiles: usize, channels: usize) -> usize {
    tiles.next_multiple_of(LANES) * channels.next_multiple_of(LANES)
}

/// Room for 36 tilings, one after the other, as the 36 pieces of each block.
fn by_block(lines: &mut Lines, tiling: Tiling) -> Vec<Vec<LineBlock<'_>>> {
    let mut blocks: Vec<Vec<LineBlock<'_>>> = (0..tiling.blocks()).map(|_| Vec::with_capacity(PRODUCTS)).collect();
    let mut rest = lines.get_mut();
    for _ in 0..PRODUCTS {
        for (block, pieces) in blocks.iter_mut().enumerate() {
            let (piece, behind) = rest.split_at_mut(tiling.chunks() * tiling.chunk(block));
            pieces.push(piece);
            rest = behind;
        }
    }
    blocks
}
