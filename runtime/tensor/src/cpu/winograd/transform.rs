//! The transforms: 36 numbers of the pixels under a tile, of nine weights, and back to sixteen pixels; sixteen channels side by
//! side.

use super::{LANES, PRODUCTS, Pixels, STEPS, TAPS, TILE, WINDOW};
use crate::cpu::simd::multiversion;

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
    pub(super) fn transform_pixels<>(
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
    pub(super) fn transform_taps<>(lines: &[f32], step: usize, out: &mut [f32]) where {} {
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
    pub(super) fn finish_products<>(
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
