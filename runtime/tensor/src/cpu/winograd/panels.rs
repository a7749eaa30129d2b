//! Winograd's products in vector registers. A task transforms some input channels of its weights at a time and multiplies them
//! at once with the transformed pictures, so transformed weights never leave the cache, and workspace does not grow with them.

use super::transform::{finish_products, transform_pixels};
use super::{LANES, PRODUCTS, STEPS, TILE, Target, Weights, Winograd, apart, make_room};
use crate::cpu::gemm::{Kernel, MOST_COLUMNS, Matrix, MatrixType, Panels, Right, multiply};
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tiles of one task, at most.
const BLOCK: usize = 98;
/// Numbers of transformed input that exist at a time, about.
const INPUT_NUMBERS: usize = 4 << 20;

/// Bytes of products that a task adds up side by side, about: of so many panels, which share what they read of the input, while
/// that is in the cache.
const PRODUCT_BYTES: usize = 600 << 10;
/// Tasks for each thread, at least, if there are as many panels.
const TASKS: usize = 4;

/// From one tile's channels to the next one's: no multiple of what caches repeat at.
const ROW: usize = STEPS + LANES;

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    /// Of each panel `[products, tiles, step]`, each product [`apart`] from the next.
    products: Vec<f32>,
    weights: Weights,
}

impl<T: MatrixType> Winograd<'_, T> {
    /// Tiles of one block, and blocks that exist at a time.
    fn blocks(&self) -> (usize, usize) {
        let tiles = self.tiles();
        let block = tiles.div_ceil(tiles.div_ceil(BLOCK));
        let numbers = self.numbers_of_block(block);
        (block, (INPUT_NUMBERS / numbers).clamp(1, tiles.div_ceil(block)))
    }

    /// Numbers of so many tiles of transformed input, `[chunks of STEPS channels, products, tiles, ROW]`: what is multiplied at a
    /// time lies together.
    fn numbers_of_block(&self, tiles: usize) -> usize {
        self.size[2].div_ceil(STEPS) * PRODUCTS * apart(tiles * ROW)
    }

    /// Panels of output channels of one task, which has one of so many blocks.
    fn panels_of_task(&self, panels: Panels, block: usize, blocks: usize) -> usize {
        let most = PRODUCT_BYTES / (numbers_of_panel(block) * size_of::<f32>());
        most.min(panels.count() * blocks / (TASKS * rayon::current_num_threads())).max(1)
    }

    pub(super) fn panels_bytes(&self) -> usize {
        let (block, at_once) = self.blocks();
        let input = self.numbers_of_block(block) * at_once;
        let panels = self.panels_of_task(self.panels(), block, at_once);
        let task = panels * numbers_of_panel(block) + Weights::MOST_NUMBERS;
        (input + task * rayon::current_num_threads()) * size_of::<f32>()
    }

    fn panels(&self) -> Panels {
        Panels { inner: self.size[2], columns: self.output[2] }
    }

    pub(super) fn run_panels(&self, target: Target, cx: &OpContext) -> Result<bool, TensorError> {
        let (block, at_once) = self.blocks();
        let (tiles, numbers, distance) = (self.tiles(), self.numbers_of_block(block), apart(block * ROW));
        let panels = self.panels();
        let mut transformed = scratch(numbers * at_once);
        let finite = AtomicBool::new(true);
        for first in (0..tiles).step_by(block * at_once) {
            transformed.par_chunks_mut(numbers).enumerate().try_for_each(|(index, out)| {
                cx.check(self.op)?;
                let first = first + index * block;
                for tile in first..(first + block).min(tiles) {
                    let places = self.places(tile);
                    for (start, out) in (0..self.size[2]).step_by(STEPS).zip(out.chunks_exact_mut(PRODUCTS * distance))
                    {
                        let channels = STEPS.min(self.size[2] - start);
                        let out = &mut out[(tile - first) * ROW..];
                        transform_pixels(&self.input[start..], &places, channels, out, distance);
                    }
                }
                Ok(())
            })?;
            let blocks = (tiles - first).div_ceil(block).min(at_once);
            let of_task = self.panels_of_task(panels, block, blocks);
            let tasks = panels.count().div_ceil(of_task);
            (0..blocks * tasks).into_par_iter().try_for_each_init(Scratch::default, |scratch, index| {
                let (index, panel) = (index / tasks, index % tasks * of_task);
                let own = panel..(panel + of_task).min(panels.count());
                let range = first + index * block..(first + (index + 1) * block).min(tiles);
                let input = &transformed[index * numbers..][..numbers];
                if !self.task(range, block, input, (panels, own), scratch, target, cx)? {
                    finite.store(false, Ordering::Relaxed);
                }
                Ok(())
            })?;
        }
        Ok(finite.into_inner())
    }

    /// The pixels of some tiles and the channels of some panels. False when something is not finite.
    #[allow(clippy::too_many_arguments)]
    fn task(
        &self,
        tiles: Range<usize>,
        block: usize,
        input: &[f32],
        (panels, own): (Panels, Range<usize>),
        scratch: &mut Scratch,
        target: Target,
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let Scratch { products, weights } = scratch;
        let (numbers, rows) = (numbers_of_panel(tiles.len()), tiles.len());
        make_room(products, own.len() * numbers);
        for start in (0..self.size[2]).step_by(STEPS) {
            let input = &input[start / STEPS * PRODUCTS * apart(block * ROW)..];
            for (panel, products) in own.clone().zip(products.chunks_exact_mut(numbers)) {
                cx.check(self.op)?;
                let next = match (panel + 1 < own.end, start + STEPS < self.size[2]) {
                    (true, _) => (panel + 1, start),
                    (false, true) => (own.start, start + STEPS),
                    (false, false) => (own.end, 0),
                };
                self.add_products((panels, panel), (input, rows, block), (start, next), weights, products);
            }
        }
        let mut finite = true;
        for (panel, products) in own.zip(products.chunks_exact(numbers)) {
            let (width, step) = (panels.width(panel).0, panels.step(panel));
            let first_output = panel * Kernel::get().columns;
            for (index, tile) in tiles.clone().enumerate() {
                for lane in (0..width).step_by(LANES) {
                    let mut values = [[0.0; LANES]; TILE * TILE];
                    finish_products(&products[index * step + lane..], apart(rows * step), step - lane, &mut values);
                    finite &= self.store(tile, first_output + lane, LANES.min(width - lane), &values, target);
                }
            }
        }
        Ok(finite)
    }

    /// Adds what input channels from `start` on are to the products of one panel; the first of them set these. `next` are panel
    /// and input channel of the weights that come after these.
    fn add_products(
        &self,
        (panels, panel): (Panels, usize),
        (input, rows, block): (&[f32], usize, usize),
        (start, next): (usize, (usize, usize)),
        weights: &mut Weights,
        products: &mut [f32],
    ) {
        let (width, step) = (panels.width(panel).0, panels.step(panel));
        let (first_output, next_output) = (panel * Kernel::get().columns, next.0 * Kernel::get().columns);
        let steps = STEPS.min(self.size[2] - start);
        self.transform_weights((first_output, width, step), (start, steps), weights);
        let sizes = Panels { inner: steps, columns: step };
        for product in 0..PRODUCTS {
            if product < width {
                self.ask_for_weights(next_output + product, next.1);
            }
            let a = Matrix {
                values: &input[product * apart(block * ROW)..],
                rows,
                columns: steps,
                row_stride: ROW,
                column_stride: 1,
            };
            let b = Right::Packed(sizes, &weights.products[product * apart(STEPS * step)..][..steps * step]);
            let c = &mut products[product * apart(rows * step)..][..rows * step];
            multiply(a, b, c, step, start > 0);
        }
    }
}

/// Of so many tiles.
fn numbers_of_panel(tiles: usize) -> usize {
    PRODUCTS * apart(MOST_COLUMNS * tiles)
}
