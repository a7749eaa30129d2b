//! Generators of random numbers: PyTorch's of the CPU, and Philox.
#![allow(clippy::excessive_precision)] // Constants stand as they were published.

use crate::cpu::simd::{map1, multiversion};
use crate::{OpContext, TensorError};
use std::f32::consts::TAU;

const STATE: usize = 624;
const SHIFTED: usize = 397;

/// MT19937.
pub(crate) struct MersenneTwister {
    state: [u32; STATE],
    next: usize,
}

impl MersenneTwister {
    /// Of a seed, PyTorch uses the lower half.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = [seed as u32; STATE];
        for index in 1..STATE {
            let before = state[index - 1];
            state[index] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(index as u32);
        }
        MersenneTwister { state, next: STATE }
    }

    /// So many of the next numbers at most, and at least one, before what makes them even.
    fn some(&mut self, most: usize) -> &[u32] {
        if self.next == STATE {
            turn(&mut self.state);
            self.next = 0;
        }
        let start = self.next;
        self.next = start.saturating_add(most).min(STATE);
        &self.state[start..self.next]
    }

    fn next_u32(&mut self) -> u32 {
        temper(self.some(1)[0])
    }

    /// 24 bits.
    fn uniform(&mut self) -> f32 {
        unit(self.next_u32())
    }

    /// 53 bits.
    fn uniform_double(&mut self) -> f64 {
        let (high, low) = (u64::from(self.next_u32()), u64::from(self.next_u32()));
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }
}

multiversion! {
    /// The next state. The loops depend on what is far enough away to run over many numbers at a time.
    fn turn<>(state: &mut [u32; STATE]) where {} {
        for index in 0..STATE - SHIFTED {
            state[index] = state[index + SHIFTED] ^ twist(state[index], state[index + 1]);
        }
        for index in STATE - SHIFTED..STATE - 1 {
            state[index] = state[index + SHIFTED - STATE] ^ twist(state[index], state[index + 1]);
        }
        state[STATE - 1] = state[SHIFTED - 1] ^ twist(state[STATE - 1], state[0]);
    }
}

#[inline(always)]
fn twist(high: u32, low: u32) -> u32 {
    let joined = (high & 0x8000_0000) | (low & 0x7fff_ffff);
    let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
    (joined >> 1) ^ odd
}

#[inline(always)]
fn temper(mut y: u32) -> u32 {
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    y ^ (y >> 18)
}

#[inline(always)]
fn unit(bits: u32) -> f32 {
    (bits & 0x00ff_ffff) as f32 / (1 << 24) as f32
}

/// Numbers between two looks at the flag that cancels.
const PIECE: usize = 1 << 16;

pub(crate) fn uniform_like_pytorch(
    op: &'static str,
    generator: &mut MersenneTwister,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    for piece in out.chunks_mut(PIECE) {
        cx.check(op)?;
        let mut rest = piece;
        while !rest.is_empty() {
            let bits = generator.some(rest.len());
            let (own, others) = rest.split_at_mut(bits.len());
            map1(bits, own, |bits: u32| unit(temper(bits)));
            rest = others;
        }
    }
    Ok(())
}

/// Numbers that PyTorch turns from uniform into normal together.
const LANES: usize = 16;

pub(crate) fn normal_like_pytorch(
    op: &'static str,
    generator: &mut MersenneTwister,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    if out.len() < LANES {
        few_normals(generator, out);
        return cx.check(op);
    }
    uniform_like_pytorch(op, generator, out, cx)?;
    for piece in out.chunks_mut(PIECE) {
        cx.check(op)?;
        box_muller(piece.as_chunks_mut().0);
    }
    // What is left over is drawn again, together with some before it, to make a whole lot.
    if !out.len().is_multiple_of(LANES)
        && let Some(last) = out.last_chunk_mut::<LANES>()
    {
        last.iter_mut().for_each(|out| *out = generator.uniform());
        box_muller(std::slice::from_mut(last));
    }
    Ok(())
}

/// Fewer than a lot are made in double precision, two of each pair of draws.
fn few_normals(generator: &mut MersenneTwister, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        let (first, second) = (generator.uniform_double(), generator.uniform_double());
        let radius = (-2.0 * (-second).ln_1p()).sqrt();
        let angle = std::f64::consts::TAU * first;
        pair[0] = (radius * angle.cos()) as f32;
        if let Some(out) = pair.get_mut(1) {
            *out = (radius * angle.sin()) as f32;
        }
    }
}

multiversion! {
    /// The first half of each lot gives the radii, the second the angles.
    fn box_muller<>(lots: &mut [[f32; LANES]]) where {} {
        for lot in lots {
            let (first, second) = lot.split_at_mut(LANES / 2);
            for (first, second) in first.iter_mut().zip(second) {
                let radius = (-2.0 * cephes_log(1.0 - *first)).sqrt();
                let (sine, cosine) = cephes_sin_cos(TAU * *second);
                *first = radius * cosine;
                *second = radius * sine;
            }
        }
    }
}

/// The natural logarithm of a number from 2⁻²⁴ to 1, rounded at every step as PyTorch's vectorised code does.
#[inline(always)]
fn cephes_log(x: f32) -> f32 {
    const P: [f32; 9] = [
        7.037_683_629_2e-2,
        -1.151_461_031_0e-1,
        1.167_699_874_0e-1,
        -1.242_014_084_6e-1,
        1.424_932_278_7e-1,
        -1.666_805_766_5e-1,
        2.000_071_476_5e-1,
        -2.499_999_399_3e-1,
        3.333_333_117_4e-1,
    ];
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut exponent = ((bits >> 23) as i32 - 0x7f) as f32 + 1.0;
    let mut m = f32::from_bits(bits & 0x807f_ffff | 0x3f00_0000);
    let small = m < std::f32::consts::FRAC_1_SQRT_2;
    let own = m;
    m -= 1.0;
    if small {
        exponent -= 1.0;
        m += own;
    }
    let z = m * m;
    let mut y = P[0];
    for p in &P[1..] {
        y = y.mul_add(m, *p);
    }
    y *= m;
    y = y.mul_add(z, exponent * -2.121_944_40e-4);
    y = (-z).mul_add(0.5, y);
    m += y;
    exponent.mul_add(0.693_359_375, m)
}

/// Sine and cosine of an angle from 0 to 2π, rounded at every step as PyTorch's vectorised code does.
#[inline(always)]
fn cephes_sin_cos(x: f32) -> (f32, f32) {
    let octant = ((x * 1.273_239_544_735_16) as i32 + 1) & !1;
    let y = octant as f32;
    let flip_sine = octant & 4 != 0;
    let flip_cosine = !(octant - 2) & 4 != 0;
    let swapped = octant & 2 != 0;
    let r = y.mul_add(-0.785_156_25, x);
    let r = y.mul_add(-2.418_756_484_985_351_6e-4, r);
    let r = y.mul_add(-3.774_894_977_445_941e-8, r);
    let z = r * r;
    let c = 2.443_315_711_809_948e-5f32.mul_add(z, -1.388_731_625_493_765e-3).mul_add(z, 4.166_664_568_298_827e-2) * z;
    let cosine = c.mul_add(z, -0.5 * z) + 1.0;
    let s = (-1.951_529_589_1e-4f32).mul_add(z, 8.332_160_873_6e-3).mul_add(z, -1.666_665_461_1e-1) * z;
    let sine = s.mul_add(r, r);
    let (sine, cosine) = if swapped { (cosine, sine) } else { (sine, cosine) };
    (if flip_sine { -sine } else { sine }, if flip_cosine { -cosine } else { cosine })
}

/// Philox 4×32-10: four numbers for each value of a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Philox {
    key: [u32; 2],
}

impl Philox {
    pub(crate) fn new(seed: u64) -> Self {
        Philox { key: [seed as u32, (seed >> 32) as u32] }
    }

    fn block(&self, counter: u64) -> [u32; 4] {
        self.rounds([counter as u32, (counter >> 32) as u32, 0, 0])
    }

    fn rounds(&self, mut c: [u32; 4]) -> [u32; 4] {
        let mut key = self.key;
        let product = |a: u32, b: u32| {
            let product = u64::from(a) * u64::from(b);
            ((product >> 32) as u32, product as u32)
        };
        for _ in 0..10 {
            let (high0, low0) = product(0xd251_1f53, c[0]);
            let (high1, low1) = product(0xcd9e_8d57, c[2]);
            c = [high1 ^ c[1] ^ key[0], low1, high0 ^ c[3] ^ key[1], low0];
            key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        }
        c
    }

    /// Numbers from 0 to 1 at the places from `start` on.
    pub(crate) fn uniform(&self, start: usize, out: &mut [f32]) {
        self.each(start, out, |block, lane| unit(block[lane]));
    }

    /// Normal numbers at the places from `start` on.
    pub(crate) fn normal(&self, start: usize, out: &mut [f32]) {
        self.each(start, out, |block, lane| {
            let pair = lane & !1;
            let radius = (-2.0 * (1.0 - unit(block[pair])).ln()).sqrt();
            let (sine, cosine) = (TAU * unit(block[pair + 1])).sin_cos();
            radius * if lane == pair { cosine } else { sine }
        });
    }

    fn each(&self, start: usize, out: &mut [f32], number: impl Fn(&[u32; 4], usize) -> f32) {
        let mut block = self.block(start as u64 / 4);
        for (index, out) in out.iter_mut().enumerate() {
            let place = start + index;
            if place.is_multiple_of(4) {
                block = self.block(place as u64 / 4);
            }
            *out = number(&block, place % 4);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_numbers() {
        let zero = Philox { key: [0, 0] }.rounds([0; 4]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { key: [u32::MAX; 2] }.rounds([u32::MAX; 4]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn the_twister_gives_the_published_numbers() {
        let mut twister = MersenneTwister::new(5489);
        assert_eq!(twister.next_u32(), 3_499_211_612);
        let last = (2..=10_000).map(|_| twister.next_u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn many_numbers_at_a_time_are_those_that_come_one_by_one() {
        let cx = OpContext::new(crate::Budget::root(1 << 20));
        let (mut many, mut single) = (MersenneTwister::new(7), MersenneTwister::new(7));
        for count in [1, 623, 1, 5, 2000] {
            let mut out = vec![0.0; count];
            uniform_like_pytorch("rand", &mut many, &mut out, &cx).unwrap();
            assert!(out.iter().all(|number| *number == single.uniform()), "{count}");
        }
    }
}
