//! Numbers as sums of bfloat16, so that the matrix unit ([`super::amx`]) multiplies them without loss.
//!
//! A float32 has 24 significant bits, a bfloat16 has 8 and the same exponents. So a float32 is exactly the sum of three, a
//! float16 of two, and bfloat16 and the types of 8 bits are one. A product of two sums is the sum of the products of their
//! parts; those whose factors lie further down than a float32 reaches (2⁻²⁴ of the product) are left out: of nine products of
//! two float32, six remain. All of them are exact, and added up in float32. (G. Henry, P. Tang, A. Heinecke: Leveraging the
//! bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations, 2019.)
//!
//! Parts are cut off, not rounded: then all have the sign of the number, and none can overflow. What is not finite can't be
//! split; whoever splits is told so.

use super::amx::{BLOCK, STEPS, TILE};
use crate::cpu::simd::multiversion;
use crate::storage::scratch;

/// One row of a tile: 32 numbers, two in a word, the first one in its lower half.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line([u32; TILE]);

impl Line {
    pub(crate) const ZERO: Line = Line([0; TILE]);
}

/// A block of a tiling that is being written.
pub(crate) type LineBlock<'a> = &'a mut [Line];

/// The most parts that a number has.
const MOST_PARTS: usize = 3;

/// The products of parts that make up a product, in an order that changes one side at a time.
#[derive(Debug)]
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))] // Nothing else multiplies them.
pub(crate) struct Pairs {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) order: &'static [(usize, usize)],
}

impl Pairs {
    /// For numbers of so many parts, 1 to 3.
    pub(super) fn of(left: usize, right: usize) -> &'static Pairs {
        const fn pairs(left: usize, right: usize, order: &'static [(usize, usize)]) -> Pairs {
            Pairs { left, right, order }
        }
        static ALL: [Pairs; 9] = [
            pairs(1, 1, &[(0, 0)]),
            pairs(1, 2, &[(0, 0), (0, 1)]),
            pairs(1, 3, &[(0, 0), (0, 2), (0, 1)]),
            pairs(2, 1, &[(0, 0), (1, 0)]),
            pairs(2, 2, &[(0, 0), (0, 1), (1, 1), (1, 0)]),
            pairs(2, 3, &[(0, 0), (0, 2), (0, 1), (1, 1), (1, 0)]),
            pairs(3, 1, &[(0, 0), (1, 0), (2, 0)]),
            pairs(3, 2, &[(0, 0), (0, 1), (1, 1), (1, 0), (2, 0)]),
            pairs(3, 3, &[(0, 0), (0, 2), (0, 1), (1, 1), (1, 0), (2, 0)]),
        ];
        &ALL[(left.clamp(1, MOST_PARTS) - 1) * MOST_PARTS + right.clamp(1, MOST_PARTS) - 1]
    }
}

/// How one side of a product is cut: into blocks of 32 rows of the left side, or columns of the right one; the last has one
/// tile of 16 if that is enough. A block is one chunk after the other, of 32 steps each; a chunk is one part after the other; a
/// part is a tile or two. Rows, columns and steps that are missing are zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiling {
    /// Rows of the left side, or columns of the right one.
    pub(crate) length: usize,
    pub(crate) inner: usize,
    /// Parts of each number, 1 to 3.
    pub(crate) parts: usize,
}

impl Tiling {
    pub(crate) fn blocks(self) -> usize {
        self.length.div_ceil(BLOCK)
    }

    /// Rows or columns of a block.
    pub(crate) fn width(self, block: usize) -> usize {
        BLOCK.min(self.length - block * BLOCK)
    }

    pub(crate) fn tiles(self, block: usize) -> usize {
        self.width(block).div_ceil(TILE)
    }

    pub(crate) fn chunks(self) -> usize {
        self.inner.div_ceil(STEPS)
    }

    /// Lines of one chunk of a block.
    pub(crate) fn chunk(self, block: usize) -> usize {
        self.parts * self.tiles(block) * TILE
    }

    /// Where a block begins.
    pub(crate) fn start(self, block: usize) -> usize {
        block * self.chunks() * self.parts * BLOCK
    }

    pub(crate) fn lines(self) -> usize {
        match self.blocks() {
            0 => 0,
            count => {
                let last = self.chunks().saturating_mul(self.chunk(count - 1));
                (count - 1).saturating_mul(self.chunks() * self.parts * BLOCK).saturating_add(last)
            }
        }
    }
}

/// Room for lines, filled with anything.
#[derive(Default)]
pub(crate) struct Lines(Vec<f32>);

impl Lines {
    pub(crate) fn new(lines: usize) -> Lines {
        Lines(scratch((lines + 1).saturating_mul(TILE)))
    }

    /// Bytes that so many take.
    pub(crate) fn bytes(lines: usize) -> usize {
        lines.saturating_add(1).saturating_mul(size_of::<Line>())
    }

    /// Makes room for as many, if there is less. What is there is lost.
    pub(crate) fn make_room(&mut self, lines: usize) {
        if self.0.len() < (lines + 1) * TILE {
            *self = Lines::new(lines);
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn get(&self) -> &[Line] {
        // SAFETY: a line is sixteen words of any bits, as sixteen floats are.
        unsafe { self.0.align_to::<Line>().1 }
    }

    #[allow(unsafe_code)]
    pub(crate) fn get_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above.
        unsafe { self.0.align_to_mut::<Line>().1 }
    }
}

/// The numbers of lines, one after the other.
#[allow(unsafe_code)]
pub(crate) fn numbers(lines: &[Line]) -> &[half::bf16] {
    // SAFETY: any bits are a bfloat16, which has no more alignment than a line.
    unsafe { lines.align_to().1 }
}

const UPPER: u32 = 0xFFFF_0000;
const SIGN: u32 = 1 << 31;
const INFINITE: u32 = 0x7F80_0000;

/// Calls `write` with each of so many parts of 32 numbers: of one in the lower half of a word, of its neighbour in the upper.
#[inline(always)]
pub(crate) fn split(mut low: [f32; TILE], mut high: [f32; TILE], parts: usize, mut write: impl FnMut(usize, Line)) {
    for part in 0..parts {
        let mut line = Line([0; TILE]);
        for ((word, low), high) in line.0.iter_mut().zip(&mut low).zip(&mut high) {
            let (low_bits, high_bits) = (low.to_bits(), high.to_bits());
            *word = low_bits >> 16 | high_bits & UPPER;
            *low -= f32::from_bits(low_bits & UPPER);
            *high -= f32::from_bits(high_bits & UPPER);
        }
        write(part, line);
    }
}

/// The largest bits without a sign so far: those of infinity or above where something is not finite.
#[inline(always)]
fn raise(most: &mut [u32; TILE], values: &[f32; TILE]) {
    for (most, value) in most.iter_mut().zip(values) {
        *most = (*most).max(value.to_bits() & !SIGN);
    }
}

/// [`split`], and the numbers' share in what is largest so far.
#[inline(always)]
fn split_noting(
    most: &mut [u32; TILE],
    (low, high): ([f32; TILE], [f32; TILE]),
    parts: usize,
    write: impl FnMut(usize, Line),
) {
    raise(most, &low);
    raise(most, &high);
    split(low, high, parts, write);
}

/// Whether all that was noted is.
#[inline(always)]
fn are_finite(most: &[u32; TILE]) -> bool {
    most.iter().all(|bits| *bits < INFINITE)
}

/// The first of each pair of neighbours, and the second.
#[inline(always)]
fn pairs_of(values: &[f32; STEPS]) -> ([f32; TILE], [f32; TILE]) {
    let (mut low, mut high) = ([0.0; TILE], [0.0; TILE]);
    for ((low, high), pair) in low.iter_mut().zip(&mut high).zip(values.as_chunks::<2>().0) {
        [*low, *high] = *pair;
    }
    (low, high)
}

/// Splits the rows of the left side, which are `stride` apart, into all of a tiling. False when something is not finite; then
/// the lines are of no use.
pub(crate) fn split_rows(values: &[f32], stride: usize, tiling: Tiling, out: &mut [Line]) -> bool {
    let mut finite = true;
    let mut out = &mut out[..tiling.lines()];
    for first in (0..tiling.length).step_by(BLOCK) {
        let rows = BLOCK.min(tiling.length - first);
        for step in (0..tiling.inner).step_by(STEPS) {
            let (chunk, rest) = out.split_at_mut(tiling.chunk(first / BLOCK));
            out = rest;
            let steps = STEPS.min(tiling.inner - step);
            finite &= split_chunk(&values[first * stride + step..], stride, [rows, steps, tiling.parts], chunk);
        }
    }
    finite
}

/// Splits one chunk of one block of the left side: of some rows, steps and parts. False as in [`split_rows`].
pub(crate) fn split_chunk(values: &[f32], stride: usize, sizes: [usize; 3], out: &mut [Line]) -> bool {
    let mut finite = true;
    split_tiles(values, stride, sizes, out, &mut finite);
    finite
}

multiversion! {
    /// A tile is written as a whole before the next.
    fn split_tiles<>(
        values: &[f32],
        stride: usize,
        sizes: [usize; 3],
        out: &mut [Line],
        finite: &mut bool,
    ) where {} {
        let [rows, steps, parts] = sizes;
        let tiles = rows.div_ceil(TILE);
        let mut most = [0; TILE];
        for row in 0..tiles * TILE {
            let (mut low, mut high) = ([0.0f32; TILE], [0.0f32; TILE]);
            if row < rows {
                let line = &values[row * stride..][..steps];
                let mut whole = [0.0f32; STEPS];
                let line: &[f32; STEPS] = match line.as_array() {
                    Some(line) => line,
                    None => {
                        whole[..steps].copy_from_slice(line);
                        &whole
                    }
                };
                (low, high) = pairs_of(line);
            }
            split_noting(&mut most, (low, high), parts, |part, line| {
                out[(part * tiles + row / TILE) * TILE + row % TILE] = line;
            });
        }
        *finite = are_finite(&most);
    }
}

/// Splits numbers that lie in chunks of 32: into a line for each part of each chunk. False as in [`split_rows`].
pub(crate) fn split_run(values: &[f32], parts: usize, out: &mut [Line]) -> bool {
    let mut finite = true;
    split_chunks(values, parts, out, &mut finite);
    finite
}

multiversion! {
    fn split_chunks<>(values: &[f32], parts: usize, out: &mut [Line], finite: &mut bool) where {} {
        let mut most = [0; TILE];
        for (values, out) in values.as_chunks::<STEPS>().0.iter().zip(out.chunks_exact_mut(parts)) {
            split_noting(&mut most, pairs_of(values), parts, |part, line| out[part] = line);
        }
        *finite = are_finite(&most);
    }
}

/// Splits steps of one block of the right side: rows of `values` are steps, `stride` apart, and hold the columns of the block's
/// tiles, whole ones. False when something is not finite; then the lines are of no use.
pub(crate) fn split_steps(
    values: &[f32],
    stride: usize,
    steps: usize,
    (tiles, parts): (usize, usize),
    out: &mut [Line],
) -> bool {
    let mut finite = true;
    split_all_steps(values, stride, steps, (tiles, parts), out, &mut finite);
    finite
}

multiversion! {
    fn split_all_steps<>(
        values: &[f32],
        stride: usize,
        steps: usize,
        sizes: (usize, usize),
        out: &mut [Line],
        finite: &mut bool,
    ) where {} {
        let (tiles, parts) = sizes;
        let mut most = [0; TILE];
        for pair in 0..steps.next_multiple_of(STEPS) / 2 {
            let (chunk, place) = (pair / TILE, pair % TILE);
            for tile in 0..tiles {
                let columns = |step: usize| match values.get(step * stride + tile * TILE..) {
                    Some(rest) if step < steps => *rest.first_chunk::<TILE>().unwrap_or(&[0.0; TILE]),
                    _ => [0.0; TILE],
                };
                split_noting(&mut most, (columns(2 * pair), columns(2 * pair + 1)), parts, |part, line| {
                    out[((chunk * parts + part) * tiles + tile) * TILE + place] = line;
                });
            }
        }
        *finite = are_finite(&most);
    }
}

/// Puts steps of one block of the right side together again, as rows of the columns of whole tiles.
pub(crate) fn join_steps(lines: &[Line], steps: usize, (tiles, parts): (usize, usize), out: &mut [f32]) {
    for (step, out) in out.chunks_exact_mut(tiles * TILE).take(steps).enumerate() {
        for (column, out) in out.iter_mut().enumerate() {
            let part = |part: usize| {
                let at = ((step / STEPS * parts + part) * tiles + column / TILE) * TILE + step % STEPS / 2;
                let word = lines[at].0[column % TILE];
                f32::from_bits(if step.is_multiple_of(2) { word << 16 } else { word & UPPER })
            };
            // The small ones first: then every sum is exact.
            *out = (0..parts).rev().map(part).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u32
        };
        // All signs and significands, exponents that leave room for the smallest part.
        (0..count).map(|_| f32::from_bits(next() << 31 | (next() % 200 + 40) << 23 | next() & 0x7F_FFFF)).collect()
    }

    #[test]
    fn parts_of_steps_add_up_to_the_number() {
        let (steps, tiles) = (45, 2);
        let exact = numbers(steps * tiles * TILE);
        let half: Vec<f32> = (0..exact.len()).map(|at| half::f16::from_bits(at as u16).to_f32()).collect();
        let short: Vec<f32> = exact.iter().map(|value| f32::from_bits(value.to_bits() & UPPER)).collect();
        for (parts, values) in [(3, exact), (2, half), (1, short)] {
            let tiling = Tiling { length: tiles * TILE, inner: steps, parts };
            let mut lines = Lines::new(tiling.lines());
            assert!(split_steps(&values, tiles * TILE, steps, (tiles, parts), lines.get_mut()));
            let mut joined = vec![0.0; values.len()];
            join_steps(lines.get(), steps, (tiles, parts), &mut joined);
            assert_eq!(joined, values);
        }
    }

    #[test]
    fn rows_are_split_as_steps_are() {
        let (length, inner, parts) = (45, 70, 3);
        let values = numbers(length * inner);
        let tiling = Tiling { length, inner, parts };
        let mut lines = Lines::new(tiling.lines());
        assert!(split_rows(&values, inner, tiling, lines.get_mut()));
        for (at, value) in values.iter().enumerate() {
            let (row, step) = (at / inner, at % inner);
            let (block, chunk) = (row / BLOCK, step / STEPS);
            let part = |part: usize| {
                let from = tiling.start(block) + chunk * tiling.chunk(block) + part * tiling.tiles(block) * TILE;
                let word = lines.get()[from + row % BLOCK].0[step % STEPS / 2];
                f32::from_bits(if step % 2 == 0 { word << 16 } else { word & UPPER })
            };
            assert_eq!((0..parts).rev().map(part).sum::<f32>(), *value);
        }
    }

    #[test]
    fn what_is_not_finite_is_told() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = numbers(16 * 16);
            values[77] = odd;
            let tiling = Tiling { length: 16, inner: 16, parts: 3 };
            let mut lines = Lines::new(tiling.lines());
            assert!(!split_rows(&values, 16, tiling, lines.get_mut()));
            assert!(!split_steps(&values, 16, 16, (1, 3), lines.get_mut()));
        }
    }

    #[test]
    fn every_pair_that_float32_can_tell_is_multiplied_once() {
        // Significant bits behind the first that the number has, for each part.
        for (left, right) in (1..=3).flat_map(|left| (1..=3).map(move |right| (left, right))) {
            let pairs = Pairs::of(left, right);
            assert_eq!((pairs.left, pairs.right), (left, right));
            for pair in (0..left).flat_map(|a| (0..right).map(move |b| (a, b))) {
                let count = pairs.order.iter().filter(|other| **other == pair).count();
                assert_eq!(count, usize::from(8 * (pair.0 + pair.1) < 24), "{pair:?} of {left} and {right}");
            }
        }
    }
}
