//! Products of what lies under windows of pictures, on the matrix unit: tiles are read where the pixels lie, a pixel for each row.
//! Nothing is gathered, and a pixel is split once for each task that sees it, not for each place of the window. A dense matrix is
//! a picture whose window is one pixel.

use super::amx::{self, Ahead, Block, LeftTiles, Tiles};
use super::part::near_chunks;
use super::split::{Line, Lines, Pairs, Tiling, numbers};
use super::{Packed, Right, Start, can_split};
use crate::cpu::convert::Store;
use crate::ops::workspace;
use crate::storage::{scratch, unfilled_vec};
use crate::{OpContext, TensorError};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of pixels, and of sums, that a task works on at a time: both stay in the second-level cache.
const PIXEL_BYTES: usize = 768 << 10;
const SUM_BYTES: usize = 512 << 10;
/// Tasks there should be at least for each thread.
const TASKS: usize = 2;
/// Results side by side at most: a task has the sums of a whole line.
const WIDEST: usize = 4096;
/// Lines from one line of a window to the next at most: a task splits those between, too.
const FARTHEST: usize = 4;

/// Lines of pictures that are split when a task needs them.
pub(crate) trait SplitLines: Sync {
    /// Writes some channels, whole chunks, of all pixels of a line of a picture: for each pixel and chunk a line of each part.
    /// False when something is not finite.
    fn split(&self, picture: usize, line: usize, channels: Range<usize>, out: &mut [Line]) -> bool;
}

/// Where the pixels come from.
#[derive(Clone, Copy)]
pub(crate) enum Pixels<'a> {
    /// All numbers, of one part.
    InPlace(&'a [bf16]),
    Split(&'a dyn SplitLines),
}

/// Pictures, and the windows whose pixels are multiplied.
#[derive(Clone, Copy)]
pub(crate) struct TiledWindows {
    /// How many bfloat16 make up a number; see [`super::MatrixType::PARTS`].
    pub(crate) parts: usize,
    /// A multiple of [`amx::STEPS`].
    pub(crate) channels: usize,
    /// Height and width of a picture.
    pub(crate) size: [usize; 2],
    /// Pictures, and height and width of the results. Windows that complete the last tile of a line lie inside, too.
    pub(crate) output: [usize; 3],
    /// Height and width of a window, in pixels that count.
    pub(crate) window: [usize; 2],
    /// Pixels from one window to the next; and from one pixel of a window to the next.
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

/// How the work is cut.
struct Cut {
    /// Lines of results of a task.
    lines: usize,
    /// Chunks of channels that are multiplied at a time.
    near: usize,
}

/// What a task computes: lines of results of one picture.
struct Task<'a, O> {
    picture: usize,
    lines: Range<usize>,
    out: &'a mut [O],
}

/// Some channels of the pixels of a task.
struct View<'a> {
    numbers: &'a [bf16],
    /// The line of the picture that is the first one there; numbers of a pixel, and those before the channels meant.
    line: usize,
    pixel: usize,
    offset: usize,
}

impl TiledWindows {
    /// Whether so many results side by side, of so many channels, can be multiplied so without much waste, if the lines of a window
    /// are so far apart.
    pub(crate) fn fits(width: usize, channels: usize, dilation: usize) -> bool {
        let waste = width.next_multiple_of(amx::TILE) - width;
        let whole = channels.is_multiple_of(amx::STEPS) && channels > 0;
        can_split() && width <= WIDEST && 4 * waste <= width && whole && dilation <= FARTHEST
    }

    /// Windows of a line, with those that complete its last tile.
    pub(crate) fn line(width: usize) -> usize {
        width.next_multiple_of(amx::TILE)
    }

    /// Pixels that a picture needs along an axis, so that all windows lie inside.
    pub(crate) fn span(output: usize, window: usize, stride: usize, dilation: usize) -> usize {
        let (last, inside) = (output.saturating_sub(1), window.saturating_sub(1));
        last.saturating_mul(stride).saturating_add(inside.saturating_mul(dilation)).saturating_add(1)
    }

    fn taps(&self) -> usize {
        self.window[0] * self.window[1]
    }

    fn chunks(&self) -> usize {
        self.channels / amx::STEPS
    }

    /// Tiles of a line of results.
    fn across(&self) -> usize {
        self.output[2].div_ceil(amx::TILE)
    }

    /// Lines of a picture under some lines of results.
    fn under(&self, lines: &Range<usize>) -> Range<usize> {
        let first = lines.start * self.stride[0];
        first..first + Self::span(lines.len(), self.window[0], self.stride[0], self.dilation[0])
    }

    fn assert_inside(&self, pixels: Pixels<'_>) {
        for axis in [0, 1] {
            let output = [self.output[1], Self::line(self.output[2])][axis];
            let window = self.window[axis];
            assert!(Self::span(output, window, self.stride[axis], self.dilation[axis]) <= self.size[axis]);
        }
        assert!(
            Self::fits(self.output[2], self.channels, self.dilation[0])
                && (1..=3).contains(&self.parts)
                && self.taps() > 0
        );
        if let Pixels::InPlace(numbers) = pixels {
            assert!(self.parts == 1 && self.output[0] == 1);
            assert!(numbers.len() / self.channels >= self.size[0] * self.size[1]);
        }
    }

    fn cut(&self, right: Tiling) -> Cut {
        let chunks = self.chunks();
        let near = near_chunks(right).min(chunks);
        let near = chunks.div_ceil(chunks.div_ceil(near));
        let pixels = self.stride[0] * self.size[1] * near * self.parts * size_of::<Line>();
        let sums = if near < chunks { right.length } else { amx::BLOCK };
        let sums = sums * self.across() * amx::TILE * size_of::<f32>();
        let most = (PIXEL_BYTES / pixels).min(SUM_BYTES / sums);
        let all = self.output[0] * self.output[1];
        let most = most.min(all.div_ceil(TASKS * rayon::current_num_threads())).clamp(1, self.output[1]);
        Cut { lines: self.output[1].div_ceil(self.output[1].div_ceil(most)), near }
    }

    /// Bytes that all threads need together.
    pub(crate) fn workspace_bytes(&self, right: Tiling, pixels: Pixels<'_>) -> usize {
        let cut = self.cut(right);
        let panels = if cut.near < self.chunks() { right.blocks() } else { 1 };
        let sums = cut.lines * self.across() * amx::TILE * amx::BLOCK * panels * size_of::<f32>();
        let lines = match pixels {
            Pixels::InPlace(_) => 0,
            Pixels::Split(_) => self.under(&(0..cut.lines)).len() * self.size[1] * cut.near * self.parts,
        };
        sums.saturating_add(Lines::bytes(lines)).saturating_mul(rayon::current_num_threads())
    }

    /// `out = from + windows · right`, dense rows: a row for each window, whose steps are its pixels, the channels of each
    /// neighbours. False when pixels are not finite, which matters unless both sides have one part; so must the right side be. Then
    /// `out` holds anything.
    pub(crate) fn product<O: Store<f32>>(
        &self,
        op: &'static str,
        pixels: Pixels<'_>,
        (right, lines): (Tiling, &[Line]),
        out: &mut [O],
        from: Start<'_>,
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        self.assert_inside(pixels);
        let [pictures, height, width] = self.output;
        assert!(right.inner == self.taps() * self.channels && right.lines() <= lines.len() && right.length > 0);
        assert!(out.len() == pictures * height * width * right.length);
        if let Start::Row(values) = from {
            assert!(values.len() >= right.length);
        }
        let cut = self.cut(right);
        let line = width * right.length;
        let finite = AtomicBool::new(true);
        out.par_chunks_mut(height * line).enumerate().try_for_each(|(picture, out)| {
            out.par_chunks_mut(cut.lines * line).enumerate().try_for_each(|(index, out)| {
                cx.check(op)?;
                let first = index * cut.lines;
                let task = Task { picture, lines: first..first + out.len() / line, out };
                if !self.task(task, pixels, cut.near, (right, lines), from) {
                    finite.store(false, Ordering::Relaxed);
                }
                Ok(())
            })
        })?;
        cx.check(op)?;
        Ok(finite.into_inner())
    }

    fn task<O: Store<f32>>(
        &self,
        task: Task<'_, O>,
        pixels: Pixels<'_>,
        near: usize,
        (right, lines): (Tiling, &[Line]),
        from: Start<'_>,
    ) -> bool {
        let Some(unit) = Tiles::new() else { return false };
        let chunks = self.chunks();
        let under = self.under(&task.lines);
        // Sums of a panel lie beside each other.
        let one = task.lines.len() * self.across() * amx::TILE * amx::BLOCK;
        let panels = if near < chunks { right.blocks() } else { 1 };
        let mut sums = scratch(one * panels);
        let mut split = Lines::default();
        let mut stored = unfilled_vec::<O>(amx::TILE * amx::BLOCK).unwrap_or_default();
        let mut finite = true;
        for start in (0..chunks).step_by(near) {
            let near = near.min(chunks - start);
            let view = match pixels {
                Pixels::InPlace(numbers) => View { numbers, line: 0, pixel: self.channels, offset: start * amx::STEPS },
                Pixels::Split(source) => {
                    let pixel = near * self.parts;
                    split.make_room(under.len() * self.size[1] * pixel);
                    let channels = start * amx::STEPS..(start + near) * amx::STEPS;
                    let out = split.get_mut().chunks_exact_mut(self.size[1] * pixel);
                    for (line, out) in under.clone().zip(out) {
                        finite &= source.split(task.picture, line, channels.clone(), out);
                    }
                    View { numbers: numbers(split.get()), line: under.start, pixel: pixel * amx::STEPS, offset: 0 }
                }
            };
            for panel in 0..right.blocks() {
                let sums = &mut sums[if panels > 1 { panel * one } else { 0 }..][..one];
                let weights = |panel: usize, tap: usize| {
                    let from = right.start(panel) + (tap * chunks + start) * right.chunk(panel);
                    &lines[from..][..near * right.chunk(panel)]
                };
                for tap in 0..self.taps() {
                    let next = if tap + 1 < self.taps() { (panel, tap + 1) } else { (panel + 1, 0) };
                    let ahead = if next.0 < right.blocks() { weights(next.0, next.1) } else { &[] };
                    let b = (weights(panel, tap), ahead);
                    let (add, last) = (start > 0 || tap > 0, start + near == chunks && tap + 1 == self.taps());
                    self.multiply(&unit, (&view, &task.lines, tap), (right, panel, b), (sums, add), |tile, sums| {
                        if last {
                            self.finish(tile, sums, (right, panel), &mut stored, task.out, from);
                        }
                    });
                }
            }
        }
        finite
    }

    /// Some chunks of one place of the windows of a task, times one panel; `done` is told of each tile and its sums, while they
    /// are in the cache.
    fn multiply(
        &self,
        unit: &Tiles,
        (view, lines, tap): (&View<'_>, &Range<usize>, usize),
        (right, panel, (b, ahead)): (Tiling, usize, (&[Line], &[Line])),
        (sums, add): (&mut [f32], bool),
        mut done: impl FnMut(usize, &mut [f32]),
    ) {
        let width = right.tiles(panel) * amx::TILE;
        let pairs = Pairs::of(self.parts, right.parts);
        let chunks = b.len() / right.chunk(panel);
        let row = self.stride[1] * view.pixel;
        let count = lines.len() * self.across();
        let place = (tap / self.window[1] * self.dilation[0], tap % self.window[1] * self.dilation[1]);
        let pixels = |tile: usize| {
            let (x, y) = (tile % self.across() * amx::TILE, lines.start + tile / self.across());
            let line = y * self.stride[0] + place.0 - view.line;
            let from = (line * self.size[1] + x * self.stride[1] + place.1) * view.pixel + view.offset;
            // From the first number of the first row to the last one of the last row.
            view.numbers[from..][..(amx::TILE - 1) * row + chunks * self.parts * amx::STEPS].as_ptr().cast::<Line>()
        };
        let ahead = Ahead::new(ahead, count.div_ceil(2), chunks * pairs.order.len());
        for tile in (0..count).step_by(2) {
            let (ahead, ahead_each) = ahead.of(tile / 2);
            let row_tiles = 2.min(count - tile);
            let c = &mut sums[tile * amx::TILE * width..][..row_tiles * amx::TILE * width];
            let job = Block {
                a: LeftTiles {
                    tiles: [pixels(tile), pixels(tile + row_tiles - 1)],
                    row: row * size_of::<bf16>(),
                    part: size_of::<Line>(),
                    chunk: pairs.left * size_of::<Line>(),
                },
                b: b.as_ptr(),
                chunks,
                row_tiles,
                column_tiles: right.tiles(panel),
                pairs,
                c: c.as_mut_ptr(),
                c_row: width,
                add,
                ahead,
                ahead_each,
            };
            // SAFETY: both tiles' slices reach from their first row to the end of their last one; `b` holds all chunks, and `c`
            // whole tiles.
            #[allow(unsafe_code)]
            unsafe {
                unit.multiply(&job)
            };
            let sums = c.chunks_exact_mut(amx::TILE * width);
            sums.enumerate().for_each(|(next, sums)| done(tile + next, sums));
        }
    }

    /// Stores the sums of one tile of a task, with what they begin with, where they belong.
    fn finish<O: Store<f32>>(
        &self,
        tile: usize,
        sums: &mut [f32],
        (right, panel): (Tiling, usize),
        stored: &mut [O],
        out: &mut [O],
        from: Start<'_>,
    ) {
        let (first, width, step) = (panel * amx::BLOCK, right.width(panel), right.tiles(panel) * amx::TILE);
        if let Start::Row(row) = from {
            add_row(sums, step, &row[first..first + width]);
        }
        let stored = &mut stored[..sums.len()];
        O::store_slice(sums, stored);
        let (line, x) = (tile / self.across(), tile % self.across() * amx::TILE);
        let rows = amx::TILE.min(self.output[2] - x);
        let out = &mut out[(line * self.output[2] + x) * right.length..][..rows * right.length];
        for (stored, out) in stored.chunks_exact(step).zip(out.chunks_exact_mut(right.length)) {
            move_row(&stored[..width], &mut out[first..first + width]);
        }
    }
}

/// Mostly of a length that the compiler knows.
fn move_row<O: Copy>(from: &[O], to: &mut [O]) {
    match (from.as_array::<{ amx::BLOCK }>(), to.as_mut_array::<{ amx::BLOCK }>()) {
        (Some(from), Some(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// `out = from + a · b` for as many rows of `a` as can be multiplied where they lie; answers how many. Rows of `a` are dense.
pub(crate) fn product_in_place<O: Store<f32>>(
    op: &'static str,
    a: &[bf16],
    b: &Packed,
    out: &mut [O],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<usize, TensorError> {
    let Right::Split(tiling, lines) = b.right() else { return Ok(0) };
    let channels = tiling.inner;
    if tiling.parts > 1 || !TiledWindows::fits(amx::TILE, channels, 1) {
        return Ok(0);
    }
    let size = [a.len() / channels / amx::TILE, amx::TILE];
    let rows = size[0] * size[1];
    if rows == 0 {
        return Ok(0);
    }
    let (output, once) = ([1, size[0], size[1]], [1, 1]);
    let windows = TiledWindows { parts: 1, channels, size, output, window: once, stride: once, dilation: once };
    let pixels = Pixels::InPlace(a);
    let _workspace = workspace(op, windows.workspace_bytes(tiling, pixels), cx)?;
    windows.product(op, pixels, (tiling, lines), &mut out[..rows * tiling.length], from, cx)?;
    Ok(rows)
}

crate::cpu::simd::multiversion! {
    fn add_row<>(sums: &mut [f32], step: usize, row: &[f32]) where {} {
        for sums in sums.chunks_exact_mut(step) {
            sums.iter_mut().zip(row).for_each(|(sum, row)| *sum += *row);
        }
    }
}
