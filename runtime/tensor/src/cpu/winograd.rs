//! Convolutions of 3×3 by Winograd's method F(4×4, 3×3): 4×4 outputs take 36 multiplications per pair of channels instead
//! of 144.
//!
//! The points are 0, ±3/4, ±3/2 and ∞. With them the rounding error of random data is about twice that of adding up the
//! products one by one (with the usual 0, ±1, ±2, ∞ four times); tests hold it to that. What is not finite in the input
//! would spread over a tile, so the caller computes again in another way when any output is not finite.
//!
//! A task transforms some input channels of its weights at a time and multiplies them at once with the transformed
//! pictures, so transformed weights never leave the cache, and workspace does not grow with them.

use super::gemm::{Kernel, MOST_COLUMNS, Matrix, MatrixType, Panels, Right, multiply};
use super::simd::multiversion;
use super::transpose::transpose;
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Output pixels along one side of a tile, and input pixels under it.
const TILE: usize = 4;
const WINDOW: usize = 6;
/// Products per tile.
const PRODUCTS: usize = WINDOW * WINDOW;
/// Weights of a pair of channels.
const TAPS: usize = 9;
/// Channels that are transformed at once.
const LANES: usize = 16;
/// Tiles of one task, at most, and input channels that it takes at a time.
const BLOCK: usize = 98;
const STEPS: usize = 64;
/// Numbers of transformed input that exist at a time, about.
const INPUT_NUMBERS: usize = 4 << 20;

/// One convolution of stride 1 with weights `[outputs, inputs, 3, 3]`, over dense channels-last pictures.
pub(crate) struct Winograd<'a, T> {
    pub(crate) op: &'static str,
    /// `[B, height, width, inputs]`
    pub(crate) input: &'a [f32],
    pub(crate) size: [usize; 3],
    pub(crate) padding: [usize; 2],
    pub(crate) weight: &'a [T],
    /// Height, width, channels.
    pub(crate) output: [usize; 3],
    pub(crate) bias: Option<&'a [f32]>,
}

/// The result, of which each task writes its own pixels and channels.
#[derive(Clone, Copy)]
struct Target(*mut f32, usize);
// SAFETY: tasks write to disjoint parts while `run` holds the only reference.
#[allow(unsafe_code)]
unsafe impl Send for Target {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

/// Numbers for `LANES` channels of some pixels.
type Pixels<const N: usize> = [[f32; LANES]; N];

impl<T: MatrixType> Winograd<'_, T> {
    /// Whether tiles are enough to be worth it.
    pub(crate) fn pays([batch, height, width]: [usize; 3], inputs: usize) -> bool {
        inputs >= 16 && batch * height.div_ceil(TILE) * width.div_ceil(TILE) >= 9
    }

    fn across(&self) -> [usize; 2] {
        [self.output[0].div_ceil(TILE), self.output[1].div_ceil(TILE)]
    }

    fn tiles(&self) -> usize {
        let pictures = self.input.len() / (self.size[0] * self.size[1] * self.size[2]);
        pictures * self.across()[0] * self.across()[1]
    }

    /// Tiles of one block, and blocks that exist at a time.
    fn blocks(&self) -> (usize, usize) {
        let tiles = self.tiles();
        let block = tiles.div_ceil(tiles.div_ceil(BLOCK));
        let numbers = PRODUCTS * block * self.row();
        (block, (INPUT_NUMBERS / numbers).clamp(1, tiles.div_ceil(block)))
    }

    /// From one tile's channels to the next one's.
    fn row(&self) -> usize {
        self.size[2].next_multiple_of(LANES) + LANES
    }

    pub(crate) fn workspace_bytes(&self) -> usize {
        let (block, at_once) = self.blocks();
        let input = PRODUCTS * block * self.row() * at_once;
        let task = MOST_COLUMNS * (PRODUCTS * (block + STEPS) + TAPS * STEPS);
        (input + task * rayon::current_num_threads()) * size_of::<f32>()
    }

    /// Writes all of `out`, `[B, height, width, channels]`. False when something is not finite, and to be computed again.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<bool, TensorError> {
        let (block, at_once) = self.blocks();
        let (tiles, numbers) = (self.tiles(), PRODUCTS * block * self.row());
        let panels = Panels { inner: self.size[2], columns: self.output[2] };
        let mut transformed = scratch(numbers * at_once);
        let target = Target(out.as_mut_ptr(), out.len());
        let finite = AtomicBool::new(true);
        for first in (0..tiles).step_by(block * at_once) {
            transformed.par_chunks_mut(numbers).enumerate().try_for_each(|(index, out)| {
                cx.check(self.op)?;
                let first = first + index * block;
                (first..(first + block).min(tiles))
                    .for_each(|tile| self.transform_input(tile, tile - first, block, out));
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
        cx.check(self.op)?;
        Ok(finite.into_inner())
    }

    /// Picture, and the upper left output pixel of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [rows, columns] = self.across();
        [tile / (rows * columns), tile / columns % rows * TILE, tile % columns * TILE]
    }

    /// Writes the 36 numbers of each channel, `[products, tiles of the block, channels]`.
    fn transform_input(&self, tile: usize, index: usize, block: usize, out: &mut [f32]) {
        let [picture, top, left] = self.place(tile);
        let [height, width, channels] = self.size;
        let plane = &self.input[picture * height * width * channels..][..height * width * channels];
        let pixels: [Option<usize>; PRODUCTS] = std::array::from_fn(|place| {
            let y = (top + place / WINDOW).checked_sub(self.padding[0]).filter(|y| *y < height)?;
            let x = (left + place % WINDOW).checked_sub(self.padding[1]).filter(|x| *x < width)?;
            Some((y * width + x) * channels)
        });
        transform_pixels(plane, &pixels, channels, &mut out[index * self.row()..], block * self.row());
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
        scratch.products.resize(PRODUCTS * count * step, 0.0);
        scratch.weights.resize(PRODUCTS * STEPS * step, 0.0);
        scratch.lines.resize(TAPS * STEPS * step, 0.0);
        let first_output = panel * Kernel::get().columns;
        for start in (0..self.size[2]).step_by(STEPS) {
            cx.check(self.op)?;
            let steps = STEPS.min(self.size[2] - start);
            self.transform_weights(first_output, width, start, steps, step, scratch);
            let sizes = Panels { inner: steps, columns: step };
            for product in 0..PRODUCTS {
                let a = Matrix {
                    values: &input[product * block * self.row() + start..],
                    rows: count,
                    columns: steps,
                    row_stride: self.row(),
                    column_stride: 1,
                };
                let b = Right::Packed(sizes, &scratch.weights[product * STEPS * step..][..steps * step]);
                let c = &mut scratch.products[product * count * step..][..count * step];
                multiply(a, b, c, step, start > 0);
            }
        }
        let mut finite = true;
        for (index, tile) in tiles.enumerate() {
            for lane in (0..width).step_by(LANES) {
                let mut values = [[0.0; LANES]; TILE * TILE];
                finish_products(&scratch.products[index * step + lane..], count * step, step - lane, &mut values);
                finite &= self.store(tile, first_output + lane, LANES.min(width - lane), &values, target);
            }
        }
        Ok(finite)
    }

    /// Fills `scratch.weights` with `[products, STEPS, step]` for `steps` input channels from `start` on.
    fn transform_weights(
        &self,
        first_output: usize,
        width: usize,
        start: usize,
        steps: usize,
        step: usize,
        scratch: &mut Scratch,
    ) {
        let row = self.size[2] * TAPS;
        let columns = steps * TAPS;
        let from = first_output * row + start * TAPS;
        let lines = &mut scratch.lines;
        if width < step {
            lines.fill(0.0);
        }
        match T::as_floats(self.weight) {
            Some(weight) => transpose(&weight[from..], row, (width, columns), lines, step),
            None => {
                scratch.converted.resize(MOST_COLUMNS * TAPS * STEPS, 0.0);
                for (output, line) in scratch.converted.chunks_exact_mut(TAPS * STEPS).take(width).enumerate() {
                    T::load_slice(&self.weight[from + output * row..][..columns], &mut line[..columns]);
                }
                transpose(&scratch.converted, TAPS * STEPS, (width, columns), lines, step);
            }
        }
        transform_taps(&lines[..columns * step], step, &mut scratch.weights);
    }

    /// Writes the pixels of a tile that exist. False when one is not finite.
    #[allow(unsafe_code)]
    fn store(&self, tile: usize, first: usize, count: usize, values: &Pixels<{ TILE * TILE }>, target: Target) -> bool {
        let [picture, top, left] = self.place(tile);
        let [height, width, channels] = self.output;
        let mut bias = [0.0f32; LANES];
        if let Some(values) = self.bias {
            bias[..count].copy_from_slice(&values[first..first + count]);
        }
        let mut odd = [0.0f32; LANES];
        for y in 0..TILE.min(height - top) {
            for x in 0..TILE.min(width - left) {
                let at = ((picture * height + top + y) * width + left + x) * channels + first;
                assert!(at + count <= target.1);
                // SAFETY: inside the result, as asserted; no other task has this tile and these channels.
                let out = unsafe { std::slice::from_raw_parts_mut(target.0.wrapping_add(at), count) };
                let value = &values[y * TILE + x];
                for (((out, value), bias), odd) in out.iter_mut().zip(value).zip(&bias).zip(&mut odd) {
                    *out = value + bias;
                    *odd += *out * 0.0;
                }
            }
        }
        odd[..count].iter().all(|odd| *odd == 0.0)
    }
}

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    /// `[products, tiles, step]`
    products: Vec<f32>,
    /// `[products, STEPS, step]`
    weights: Vec<f32>,
    /// `[STEPS, taps, step]`, and before they are turned around.
    lines: Vec<f32>,
    converted: Vec<f32>,
}

/// Applies a one-dimensional transform from N numbers to M first to columns, then to rows.
#[inline(always)]
fn both_ways<const N: usize, const M: usize>(
    value: impl Fn(usize, usize) -> [f32; LANES],
    transform: impl Fn(&Pixels<N>) -> Pixels<M>,
) -> [Pixels<M>; M] {
    let mut half = [[[0.0; LANES]; N]; M];
    for column in 0..N {
        // Not `from_fn`, which may stay a call.
        let mut line = [[0.0; LANES]; N];
        for (row, line) in line.iter_mut().enumerate() {
            *line = value(row, column);
        }
        for (half, value) in half.iter_mut().zip(transform(&line)) {
            half[column] = value;
        }
    }
    let mut whole = [[[0.0; LANES]; M]; M];
    for (whole, half) in whole.iter_mut().zip(&half) {
        *whole = transform(half);
    }
    whole
}

/// Up to `LANES` numbers from `from` on, of the `left` there are; zeros behind them.
#[inline(always)]
fn lanes(values: &[f32], from: usize, left: usize) -> [f32; LANES] {
    match values[from..].first_chunk::<LANES>() {
        Some(lanes) if left >= LANES => *lanes,
        _ => {
            let mut lanes = [0.0; LANES];
            lanes[..left.min(LANES)].copy_from_slice(&values[from..][..left.min(LANES)]);
            lanes
        }
    }
}

#[inline(always)]
fn each<const N: usize>(f: impl Fn(usize) -> [f32; N]) -> [[f32; LANES]; N] {
    let mut out = [[0.0; LANES]; N];
    for lane in 0..LANES {
        for (out, value) in out.iter_mut().zip(f(lane)) {
            out[lane] = value;
        }
    }
    out
}

/// The points: ±P, ±Q, besides 0 and infinity.
const P: f32 = 0.75;
const Q: f32 = 1.5;

#[inline(always)]
fn input_line(d: &Pixels<6>) -> Pixels<6> {
    each(|l| {
        let [d0, d1, d2, d3, d4, d5] = [d[0][l], d[1][l], d[2][l], d[3][l], d[4][l], d[5][l]];
        let (even_p, odd_p) = (d4 - Q * Q * d2, P * (d3 - Q * Q * d1));
        let (even_q, odd_q) = (d4 - P * P * d2, Q * (d3 - P * P * d1));
        let far = |a: f32, b: f32, c: f32| P * P * Q * Q * a - (P * P + Q * Q) * b + c;
        [far(d0, d2, d4), even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, far(d1, d3, d5)]
    })
}

#[inline(always)]
fn weight_line(w: &Pixels<3>) -> Pixels<6> {
    // The divisors of the interpolation, one for each point.
    const ZERO: f32 = 1.0 / (P * P * Q * Q);
    const AT_P: f32 = 1.0 / (2.0 * P * P * (P * P - Q * Q));
    const AT_Q: f32 = 1.0 / (2.0 * Q * Q * (Q * Q - P * P));
    each(|l| {
        let [w0, w1, w2] = [w[0][l], w[1][l], w[2][l]];
        let (even_p, odd_p) = (AT_P * (w0 + P * P * w2), AT_P * P * w1);
        let (even_q, odd_q) = (AT_Q * (w0 + Q * Q * w2), AT_Q * Q * w1);
        [ZERO * w0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, w2]
    })
}

#[inline(always)]
fn output_line(m: &Pixels<6>) -> Pixels<4> {
    each(|l| {
        let (sum_p, difference_p) = (m[1][l] + m[2][l], P * (m[1][l] - m[2][l]));
        let (sum_q, difference_q) = (m[3][l] + m[4][l], Q * (m[3][l] - m[4][l]));
        [
            m[0][l] + sum_p + sum_q,
            difference_p + difference_q,
            P * P * sum_p + Q * Q * sum_q,
            P * P * difference_p + Q * Q * difference_q + m[5][l],
        ]
    })
}

multiversion! {
    /// All channels of the 36 pixels of a tile; the products are `distance` apart, and each has room for whole lanes.
    fn transform_pixels<>(
        plane: &[f32],
        pixels: &[Option<usize>; PRODUCTS],
        channels: usize,
        out: &mut [f32],
        distance: usize,
    ) where {} {
        for first in (0..channels).step_by(LANES) {
            let value = |row: usize, column: usize| match pixels[row * WINDOW + column] {
                Some(at) => lanes(plane, at + first, channels - first),
                None => [0.0; LANES],
            };
            for (row, line) in both_ways::<WINDOW, WINDOW>(value, input_line).iter().enumerate() {
                for (column, value) in line.iter().enumerate() {
                    let to = (row * WINDOW + column) * distance + first;
                    if let Some(out) = out[to..].first_chunk_mut::<LANES>() {
                        *out = *value;
                    }
                }
            }
        }
    }
}

multiversion! {
    /// `[channels, taps, step]` to `[products, STEPS, step]`.
    fn transform_taps<>(lines: &[f32], step: usize, out: &mut [f32]) where {} {
        for (channel, taps) in lines.chunks_exact(TAPS * step).enumerate() {
            for lane in (0..step).step_by(LANES) {
                let value = |row: usize, column: usize| lanes(taps, (row * 3 + column) * step + lane, step - lane);
                for (row, line) in both_ways::<3, WINDOW>(value, weight_line).iter().enumerate() {
                    for (column, value) in line.iter().enumerate() {
                        let to = ((row * WINDOW + column) * STEPS + channel) * step + lane;
                        match out[to..].first_chunk_mut::<LANES>() {
                            Some(out) if step - lane >= LANES => *out = *value,
                            _ => out[to..to + step - lane].copy_from_slice(&value[..step - lane]),
                        }
                    }
                }
            }
        }
    }
}

multiversion! {
    /// The sixteen pixels of 36 products, which are `distance` apart, for up to `LANES` of `left` channels.
    fn finish_products<>(
        products: &[f32],
        distance: usize,
        left: usize,
        out: &mut Pixels<{ TILE * TILE }>,
    ) where {} {
        let value = |row: usize, column: usize| lanes(products, (row * WINDOW + column) * distance, left);
        for (row, line) in both_ways::<WINDOW, TILE>(value, output_line).iter().enumerate() {
            out[row * TILE..][..TILE].copy_from_slice(line);
        }
    }
}
