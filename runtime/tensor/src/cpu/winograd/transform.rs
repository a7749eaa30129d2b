//! The transforms: 36 numbers of the pixels under a tile, of nine weights, and back to sixteen pixels; sixteen channels side by
//! side.

use super::{LANES, Pixels, Places, STEPS, TAPS, TILE, WINDOW, apart};
use crate::cpu::simd::multiversion;

/// Row of what six columns became. (Arrays here are written out: the compiler clears those that loops fill.)
#[inline(always)]
fn row_of<const M: usize>(columns: &[Pixels<M>; WINDOW], row: usize) -> Pixels<WINDOW> {
    let [a, b, c, d, e, f] = columns;
    [a[row], b[row], c[row], d[row], e[row], f[row]]
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

/// The pixels of one column under a tile, transformed.
#[inline(always)]
fn column_of_pixels(plane: &[f32], pixels: &Places, (first, left): (usize, usize), column: usize) -> Pixels<WINDOW> {
    let at = |row: usize| pixels[row * WINDOW + column];
    let [a, b, c, d, e, f] = [at(0), at(1), at(2), at(3), at(4), at(5)];
    let value = |at: Option<usize>| at.map_or([0.0; LANES], |at| lanes(plane, at + first, left));
    input_line(&[value(a), value(b), value(c), value(d), value(e), value(f)])
}

multiversion! {
    /// All channels of the 36 pixels of a tile; the products are `distance` apart, and each has room for whole lanes.
    pub(super) fn transform_pixels<>(
        plane: &[f32],
        pixels: &Places,
        channels: usize,
        out: &mut [f32],
        distance: usize,
    ) where {} {
        for first in (0..channels).step_by(LANES) {
            let lanes = (first, channels - first);
            let columns = [
                column_of_pixels(plane, pixels, lanes, 0),
                column_of_pixels(plane, pixels, lanes, 1),
                column_of_pixels(plane, pixels, lanes, 2),
                column_of_pixels(plane, pixels, lanes, 3),
                column_of_pixels(plane, pixels, lanes, 4),
                column_of_pixels(plane, pixels, lanes, 5),
            ];
            for row in 0..WINDOW {
                for (column, value) in input_line(&row_of(&columns, row)).iter().enumerate() {
                    let to = (row * WINDOW + column) * distance + first;
                    if let Some(out) = out[to..].first_chunk_mut::<LANES>() {
                        *out = *value;
                    }
                }
            }
        }
    }
}

/// One column of the nine weights, transformed.
#[inline(always)]
fn column_of_taps(taps: &[f32], step: usize, lane: usize, column: usize) -> Pixels<WINDOW> {
    let value = |row: usize| lanes(taps, (row * 3 + column) * step + lane, step - lane);
    weight_line(&[value(0), value(1), value(2)])
}

multiversion! {
    /// `[channels, taps, step]` to `[products, STEPS, step]`, each product [`apart`] from the next.
    pub(super) fn transform_taps<>(lines: &[f32], step: usize, out: &mut [f32]) where {} {
        for (channel, taps) in lines.chunks_exact(TAPS * step).enumerate() {
            for lane in (0..step).step_by(LANES) {
                let (a, b) = (column_of_taps(taps, step, lane, 0), column_of_taps(taps, step, lane, 1));
                let c = column_of_taps(taps, step, lane, 2);
                for row in 0..WINDOW {
                    for (column, value) in weight_line(&[a[row], b[row], c[row]]).iter().enumerate() {
                        let to = (row * WINDOW + column) * apart(STEPS * step) + channel * step + lane;
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

/// One column of products, on their way to pixels.
#[inline(always)]
fn column_of_products(products: &[f32], distance: usize, left: usize, column: usize) -> Pixels<TILE> {
    let value = |row: usize| lanes(products, (row * WINDOW + column) * distance, left);
    output_line(&[value(0), value(1), value(2), value(3), value(4), value(5)])
}

multiversion! {
    /// The sixteen pixels of 36 products, which are `distance` apart, for up to `LANES` of `left` channels.
    pub(super) fn finish_products<>(
        products: &[f32],
        distance: usize,
        left: usize,
        out: &mut Pixels<{ TILE * TILE }>,
    ) where {} {
        let columns = [
            column_of_products(products, distance, left, 0),
            column_of_products(products, distance, left, 1),
            column_of_products(products, distance, left, 2),
            column_of_products(products, distance, left, 3),
            column_of_products(products, distance, left, 4),
            column_of_products(products, distance, left, 5),
        ];
        for row in 0..TILE {
            out[row * TILE..][..TILE].copy_from_slice(&output_line(&row_of(&columns, row)));
        }
    }
}
