//! Winograd's products in vector registers. A task transforms some input channels of its weights at a time and multiplies them
//! at once with the transformed pictures, so transformed weights never leave the cache, and workspace does not grow with them.

use super::transform::{finish_products, transform_pixels};
use super::{LANES, PRODUCTS, STEPS, TILE, Target, Weights, Winograd, apart, make_room};
use crate::cpu::gemm::{Kernel, MOST_COLUMNS, Matrix, MatrixType, Panels, Right, multiply};
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tiles of one task, at most.
const BLOCK: usize = 98;
/// Numbers of transformed input that exist at a time, about.
const INPUT_NUMBERS: usize = 4 << 20;

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    /// `[products, tiles, step]`, each product [`apart`] from the next.
    products: Vec<f32>,
    weights: Weights,
}

impl<T: MatrixType> Winograd<'_, T> {
    /// Tiles of one block, and blocks that exist at a time.
    fn blocks(&self) -> (usize, usize) {
        let tiles = self.tiles();
        let block = tiles.div_ceil(tiles.div_ceil(BLOCK));
        let numbers = PRODUCTS * apart(block * self.row());
        (block, (INPUT_NUMBERS / numbers).clamp(1, tiles.div_ceil(block)))
    }

    /// From one tile's channels to the next one's.
    fn row(&self) -> usize {
        self.size[2].next_multiple_of(LANES) + LANES
    }

    pub(super) fn panels_bytes(&self) -> usize {
        let (block, at_once) = self.blocks();
        let input = PRODUCTS * apart(block * self.row()) * at_once;
        let task = PRODUCTS * apart(MOST_COLUMNS * block) + Weights::MOST_NUMBERS;
        (input + task * rayon::current_num_threads()) * size_of::<f32>()
    }

    pub(super) fn run_panels(&self, target: Target, cx: &OpContext) -> Result<bool, TensorError> {
        let (block, at_once) = self.blocks();
        let (tiles, numbers) = (self.tiles(), PRODUCTS * apart(block * self.row()));
        let panels = Panels { inner: self.size[2], columns: self.output[2] };
        let mut transformed = scratch(numbers * at_once);
        let finite = AtomicBool::new(true);
        for first in (0..tiles).step_by(block * at_once) {
            transformed.par_chunks_mut(numbers).enumerate().try_for_each(|(index, out)| {
                cx.check(self.op)?;
                let first = first + index * block;
                for tile in first..(first + block).min(tiles) {
                    // `[products, tiles of the block, channels]`
                    let out = &mut out[(tile - first) * self.row()..];
                    transform_pixels(self.input, &self.places(tile), self.size[2], out, apart(block * self.row()));
                }
                Ok(())
            })?;
            let blocks = (tiles - first).div_ceil(block).min(at_once);
            (0..blocks * panels.count()).into_par_iter().try_for_each_init(Scratch::default, |scratch, index| {
                cx.check(self.op)?;
                let (index, panel) = (index / panels.count(), index % panels.count());
                let range = first + index * block..(first + (index + 1) * block).min(tiles);
                let input = &transformed[index * numbers..][..numbers];
                if !self.task(range, block, input, (panels, panel), scratch, target, cx)? {
                    finite.store(false, Ordering::Relaxed);
                }
                Ok(())
            })?;
        }
        Ok(finite.into_inner())
    }

    /// The pixels of some tiles and the channels of one panel. False when something is not finite.
    #[allow(clippy::too_many_arguments)]
    fn task(
        &self,
        tiles: std::ops::Range<usize>,
        block: usize,
        input: &[f32],
        (panels, panel): (Panels, usize),
        scratch: &mut Scratch,
        target: Target,
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let (width, step) = (panels.width(panel).0, panels.step(panel));
        let count = tiles.len();
        make_room(&mut scratch.products, PRODUCTS * apart(count * step));
        let first_output = panel * Kernel::get().columns;
        for start in (0..self.size[2]).step_by(STEPS) {
            cx.check(self.op)?;
            let steps = STEPS.min(self.size[2] - start);
            self.transform_weights((first_output, width, step), (start, steps), &mut scratch.weights);
            let sizes = Panels { inner: steps, columns: step };
            for product in 0..PRODUCTS {
                if product < width {
                    self.ask_for_weights(first_output + product, step, start + STEPS);
                }
                let a = Matrix {
                    values: &input[product * apart(block * self.row()) + start..],
                    rows: count,
                    columns: steps,
                    row_stride: self.row(),
                    column_stride: 1,
                };
                let b = Right::Packed(sizes, &scratch.weights.products[product * apart(STEPS * step)..][..steps * step]);
                let c = &mut scratch.products[product * apart(count * step)..][..count * step];
                multiply(a, b, c, step, start > 0);
            }
        }
        let mut finite = true;
        for (index, tile) in tiles.enumerate() {
            for lane in (0..width).step_by(LANES) {
                let mut values = [[0.0; LANES]; TILE * TILE];
                finish_products(&scratch.products[index * step + lane..], apart(count * step), step - lane, &mut values);
                finite &= self.store(tile, first_output + lane, LANES.min(width - lane), &values, target);
            }
        }
        Ok(finite)
    }
}
