//! Convolutions of 3×3 by Winograd's method F(4×4, 3×3): 4×4 outputs take 36 multiplications per pair of channels instead
//! of 144.
//!
//! The points are 0, ±3/4, ±3/2 and ∞. With them the rounding error of random data is about twice that of adding up the
//! products one by one (with the usual 0, ±1, ±2, ∞ four times); tests hold it to that. What is not finite in the input
//! would spread over a tile, so the caller computes again in another way when any output is not finite.
//!
//! The 36 products of matrices are made in vector registers ([`panels`]) or by a matrix unit ([`split`]).

mod panels;
mod split;
mod transform;

use super::gemm::{MOST_COLUMNS, MatrixType};
use super::simd::ask_for;
use super::transpose::transpose;
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use transform::transform_taps;

/// Output pixels along one side of a tile, and input pixels under it.
const TILE: usize = 4;
const WINDOW: usize = 6;
/// Products per tile.
const PRODUCTS: usize = WINDOW * WINDOW;
/// Weights of a pair of channels.
const TAPS: usize = 9;
/// Channels that are transformed at once.
const LANES: usize = 16;
/// Input channels that are taken at a time.
const STEPS: usize = 64;

/// From the beginning of one product's numbers to the next one's: further than there are numbers, by a line of the cache. The 36
/// are written side by side, and caches have few places for lines that are a multiple of 4 KiB apart.
const fn apart(numbers: usize) -> usize {
    numbers + LANES
}

/// Numbers for `LANES` channels of some pixels.
type Pixels<const N: usize> = [[f32; LANES]; N];

/// Where the pixels under a tile begin, if they exist.
type Places = [Option<usize>; PRODUCTS];

/// One convolution of stride 1 with weights `[outputs, inputs, 3, 3]`, over dense channels-last pictures.
pub(crate) struct Winograd<'a, T> {
    pub(crate) op: &'static str,
    /// `[B, height, width, inputs]`
    pub(crate) input: &'a [f32],
    pub(crate) batch: usize,
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

/// Weights of some channels on their way.
#[derive(Default)]
struct Weights {
    /// `[products, STEPS, step]`, each product [`apart`] from the next.
    products: Vec<f32>,
    /// `[STEPS, taps, step]`, and before they are turned around.
    lines: Vec<f32>,
    converted: Vec<f32>,
}

impl Weights {
    /// Numbers that it has at most.
    const MOST_NUMBERS: usize = PRODUCTS * apart(MOST_COLUMNS * STEPS) + 2 * TAPS * MOST_COLUMNS * STEPS;
}

/// Makes room for numbers that are written before they are read.
fn make_room(numbers: &mut Vec<f32>, count: usize) {
    if numbers.len() < count {
        *numbers = scratch(count);
    }
}

impl<T: MatrixType> Winograd<'_, T> {
    /// Whether tiles are enough to be worth it.
    pub(crate) fn pays([batch, height, width]: [usize; 3], inputs: usize) -> bool {
        inputs >= 16 && batch * height.div_ceil(TILE) * width.div_ceil(TILE) >= 9
    }

    pub(crate) fn workspace_bytes(&self) -> usize {
        if self.splits() { self.split_bytes() } else { self.panels_bytes() }
    }

    /// Writes all of `out`, `[B, height, width, channels]`. False when something is not finite, and to be computed again.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<bool, TensorError> {
        let target = Target(out.as_mut_ptr(), out.len());
        let finite = if self.splits() { self.run_split(target, cx)? } else { self.run_panels(target, cx)? };
        cx.check(self.op)?;
        Ok(finite)
    }

    fn across(&self) -> [usize; 2] {
        [self.output[0].div_ceil(TILE), self.output[1].div_ceil(TILE)]
    }

    fn tiles(&self) -> usize {
        self.batch * self.across()[0] * self.across()[1]
    }

    /// Picture, and the upper left output pixel of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [rows, columns] = self.across();
        [tile / (rows * columns), tile / columns % rows * TILE, tile % columns * TILE]
    }

    /// Where the pixels under a tile have their first channel in the input.
    fn places(&self, tile: usize) -> Places {
        let [picture, top, left] = self.place(tile);
        let [height, width, channels] = self.size;
        std::array::from_fn(|place| {
            let y = (top + place / WINDOW).checked_sub(self.padding[0]).filter(|y| *y < height)?;
            let x = (left + place % WINDOW).checked_sub(self.padding[1]).filter(|x| *x < width)?;
            Some(((picture * height + y) * width + x) * channels)
        })
    }

    /// Fills `weights.products` for `width` outputs, of `step` in a row, and `steps` input channels from `start` on.
    fn transform_weights(
        &self,
        (first_output, width, step): (usize, usize, usize),
        (start, steps): (usize, usize),
        weights: &mut Weights,
    ) {
        make_room(&mut weights.products, PRODUCTS * apart(STEPS * step));
        make_room(&mut weights.lines, TAPS * STEPS * step);
        let row = self.size[2] * TAPS;
        let columns = steps * TAPS;
        let from = first_output * row + start * TAPS;
        let lines = &mut weights.lines;
        if width < step {
            lines.fill(0.0);
        }
        match T::as_floats(self.weight) {
            Some(weight) => transpose(&weight[from..], row, (width, columns), lines, step),
            None => {
                make_room(&mut weights.converted, step * TAPS * STEPS);
                for (output, line) in weights.converted.chunks_exact_mut(TAPS * STEPS).take(width).enumerate() {
                    T::load_slice(&self.weight[from + output * row..][..columns], &mut line[..columns]);
                }
                transpose(&weights.converted, TAPS * STEPS, (width, columns), lines, step);
            }
        }
        transform_taps(&lines[..columns * step], step, &mut weights.products);
    }

    /// Asks for the weights of one output channel, which may not exist, and of input channels from `start` on.
    fn ask_for_weights(&self, output: usize, start: usize) {
        let from = self.weight.as_ptr().wrapping_add((output * self.size[2] + start) * TAPS);
        ask_for(from, STEPS.min(self.size[2] - start) * TAPS);
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
