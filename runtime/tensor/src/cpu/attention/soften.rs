//! The softmax of attention, a block of keys at a time: `[keys, queries of a panel]`.

use crate::cpu::gemm::{LINE_STEPS, Line, MOST_COLUMNS, MatrixType, split};
use crate::cpu::math;
use crate::cpu::simd::{fold_lanes, multiversion};

/// Queries that share a tile of the matrix unit, and parts of a weight there.
const LANES: usize = 16;
const PARTS: usize = <f32 as MatrixType>::PARTS;

/// Of each query of a panel: the largest score so far, and the sum of the weights relative to it.
#[derive(Clone, Copy)]
pub(super) struct State {
    largest: [f32; MOST_COLUMNS],
    pub(super) sums: [f32; MOST_COLUMNS],
}

impl State {
    /// Of queries that have seen nothing.
    pub(super) fn new() -> State {
        State { largest: [f32::NEG_INFINITY; MOST_COLUMNS], sums: [0.0; MOST_COLUMNS] }
    }
}

multiversion! {
    /// Turns scores into weights relative to the largest seen so far, and brings what was summed up before to the same
    /// scale.
    pub(super) fn soften<>(scores: &mut [f32], step: usize, state: &mut State, result: &mut [f32]) where {} {
        match step {
            32 => soften_panel::<32>(scores, state, result),
            16 => soften_panel::<16>(scores, state, result),
            8 => soften_panel::<8>(scores, state, result),
            _ => soften_panel::<4>(scores, state, result),
        }
    }
}

multiversion! {
    /// As [`soften`], with weights split for a matrix unit; scores are left as they were.
    pub(super) fn soften_split<>(
        scores: &[f32],
        step: usize,
        state: &mut State,
        result: &mut [f32],
        lines: &mut [Line],
    ) where {} {
        match step {
            32 => split_panel::<32>(scores, state, result, lines),
            _ => split_panel::<16>(scores, state, result, lines),
        }
    }
}

#[inline(always)]
fn soften_panel<const N: usize>(scores: &mut [f32], state: &mut State, result: &mut [f32]) {
    let scores = scores.as_chunks_mut::<N>().0;
    let reference = begin::<N>(scores, state, result);
    let mut sums = [0.0f32; N];
    weigh(scores, &reference, &mut sums);
    state.sums.iter_mut().zip(&sums).for_each(|(sum, part)| *sum += part);
}

#[inline(always)]
fn split_panel<const N: usize>(scores: &[f32], state: &mut State, result: &mut [f32], lines: &mut [Line]) {
    let scores = scores.as_chunks::<N>().0;
    let reference = begin::<N>(scores, state, result);
    let mut sums = [0.0f32; N];
    let tiles = N / LANES;
    let (whole, rest) = scores.as_chunks::<LINE_STEPS>();
    let mut chunks = lines.chunks_exact_mut(PARTS * tiles * LANES);
    for (scores, lines) in whole.iter().zip(&mut chunks) {
        split_chunk(scores, &reference, &mut sums, lines);
    }
    if let (false, Some(lines)) = (rest.is_empty(), chunks.next()) {
        // What is missing weighs nothing.
        let mut last = [[f32::NEG_INFINITY; N]; LINE_STEPS];
        last[..rest.len()].copy_from_slice(rest);
        split_chunk(&last, &reference, &mut sums, lines);
    }
    state.sums.iter_mut().zip(&sums).for_each(|(sum, part)| *sum += part);
}

#[inline(always)]
fn split_chunk<const N: usize>(
    scores: &[[f32; N]; LINE_STEPS],
    reference: &[f32; N],
    sums: &mut [f32; N],
    lines: &mut [Line],
) {
    let tiles = N / LANES;
    for (pair, rows) in scores.as_chunks::<2>().0.iter().enumerate() {
        for tile in 0..tiles {
            let mut weights = [[0.0f32; LANES]; 2];
            for (weights, row) in weights.iter_mut().zip(rows) {
                for (lane, weight) in weights.iter_mut().enumerate() {
                    let column = tile * LANES + lane;
                    *weight = math::exp_below(row[column] - reference[column]);
                    sums[column] += *weight;
                }
            }
            let [low, high] = weights;
            split(low, high, PARTS, |part, line| lines[(part * tiles + tile) * LANES + pair] = line);
        }
    }
}

/// Raises the largest scores to those of a block and brings what was summed up to the same scale; answers what weights are
/// relative to.
#[inline(always)]
fn begin<const N: usize>(scores: &[[f32; N]], state: &mut State, result: &mut [f32]) -> [f32; N] {
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
        for row in result.as_chunks_mut::<N>().0 {
            scale_row(row, &factors);
            // Each row by itself: else the compiler gathers and scatters columns of many.
            std::hint::black_box(());
        }
        state.sums.iter_mut().zip(&factors).for_each(|(sum, factor)| *sum *= factor);
    }
    state.largest[..N].copy_from_slice(&now);
    reference
}

#[inline(always)]
pub(super) fn scale_row(row: &mut [f32], factors: &[f32]) {
    row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
}

#[inline(always)]
fn raise<const N: usize>(scores: &[[f32; N]], largest: &mut [f32; N]) {
    let larger = |largest: f32, score: f32| if score > largest { score } else { largest };
    let mut lanes: [f32; 32] = std::array::from_fn(|lane| largest[lane % N]);
    fold_lanes(&mut lanes, scores.as_flattened(), larger);
    lanes.iter().enumerate().for_each(|(lane, score)| largest[lane % N] = larger(largest[lane % N], *score));
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
