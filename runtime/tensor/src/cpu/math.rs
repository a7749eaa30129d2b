//! Functions that the compiler can vectorise, to about two units in the last place (where it says nothing else).

use super::simd::multiply_add as fma;
use std::f32::consts::{FRAC_2_PI, LN_2, LOG2_E};

/// ln 2 in two parts, the first with few enough bits that n times it is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// log₂ e, less what float32 keeps of it.
const LOG2_E_LOW: f32 = 1.925_963e-8;
/// Adding 1.5·2²³ leaves the nearest integer in the low bits, and vectorises where a conversion does not.
const SHIFT: f32 = 12_582_912.0;
/// The same with 127 more: the low bits are those of the exponent of 2ⁿ.
const SHIFT_TO_POWER: f32 = SHIFT + 127.0;

/// c₀ + c₁·x + c₂·x² + …
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    coefficients.into_iter().rev().reduce(|sum, next| fma(sum, x, next)).unwrap_or(0.0)
}

/// (2ʳ - 1) / r for |r| ≤ ½: a minimax polynomial, off by 10⁻⁸.
#[inline(always)]
fn exp2_slope(r: f32) -> f32 {
    polynomial([LN_2, 0.240_226_5, 0.055_503_57, 9.618_031e-3, 1.339_086_7e-3, 1.546_973_2e-4], r)
}

/// 2ⁿ of [`SHIFT_TO_POWER`] + n, for n from -126 on; zero for -127, infinite for 128.
#[inline(always)]
fn power(shifted: f32) -> f32 {
    f32::from_bits(shifted.to_bits() << 23)
}

/// eˣ as p · 2ⁿ, the second number being [`SHIFT_TO_POWER`] + n. For |x| below a million.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    let shifted = fma(x, LOG2_E, SHIFT_TO_POWER);
    let n = shifted - SHIFT_TO_POWER;
    let r = fma(x, LOG2_E_LOW, fma(x, LOG2_E, -n));
    (fma(exp2_slope(r), r, 1.0), shifted)
}

/// eˣ.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is infinite or zero anyway.
    let (p, shifted) = exp_parts(x.clamp(-104.0, 89.0));
    // Times 2^n in two steps, since 2^n alone may be out of range where the product is not.
    let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT_TO_POWER.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// eˣ for x that is zero or less (or not a number): what is below 10⁻³⁷ is zero.
#[inline(always)]
pub(crate) fn exp_below(x: f32) -> f32 {
    // From here on 2ⁿ is below what a float32 with all its digits can be, and its bits are zero. What is not a number stays.
    const LOWEST: f32 = -88.0;
    let (p, shifted) = exp_parts(if x < LOWEST { LOWEST } else { x });
    p * power(shifted)
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// 1 + e⁻ˣ; infinite where that is above 2·10³⁸.
#[inline(always)]
fn one_and_exp_of_negative(x: f32) -> f32 {
    // From 17 on it is one, below -88.4 the power is infinite; a clamp keeps what is not a number.
    let (p, shifted) = exp_parts(-x.clamp(-89.0, 87.0));
    fma(p, power(shifted), 1.0)
}

/// 1 / (1 + e⁻ˣ). What is below 5·10⁻³⁹ is zero.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / one_and_exp_of_negative(x)
}

/// x / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / one_and_exp_of_negative(x)
}

/// The hyperbolic tangent: e / (e + 2) where e is e²ˣ - 1, which loses no digits near zero.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    const TWICE_LOG2_E: f32 = 2.0 * LOG2_E;
    // From ten on it is one. What is not a number stays.
    let magnitude = if x.abs() > 10.0 { 10.0 } else { x.abs() };
    let shifted = fma(magnitude, TWICE_LOG2_E, SHIFT_TO_POWER);
    let r = fma(magnitude, TWICE_LOG2_E, SHIFT_TO_POWER - shifted);
    let power = power(shifted);
    let e = fma(exp2_slope(r) * r, power, power - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// x·Φ(x), the exact form, to 4·10⁻⁸·|x|, or 10⁻⁵ of it where it is small.
///
/// That is the larger of x and 0, less |x|·Φ(-|x|): no digits are lost on either side.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let magnitude = x.abs();
    // log₂(2·Φ(-x)) / x, a minimax polynomial up to 5.6. From there on Φ is less than float32 adds to one.
    let slope = polynomial(
        [
            -1.151_108_5,
            -0.459_172_65,
            -0.052_615_26,
            7.238_426_5e-3,
            -2.621_395_5e-4,
            -1.438_595_8e-4,
            3.479_227e-5,
            -3.507_662_8e-6,
            1.395_628_8e-7,
        ],
        magnitude,
    );
    let shifted = fma(slope, magnitude, SHIFT_TO_POWER - 1.0);
    let r = fma(slope, magnitude, SHIFT_TO_POWER - 1.0 - shifted);
    let tail = fma(exp2_slope(r), r, 1.0) * (magnitude * power(shifted));
    let tail = if magnitude < 5.6 { tail } else { 0.0 };
    fma(0.5, x, 0.5 * magnitude) - tail
}

/// The error function by Abramowitz and Stegun 7.1.26: off by at most 2·10⁻⁷.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / fma(0.327_591_1, magnitude, 1.0);
    let p = fma(fma(fma(fma(1.061_405_4, t, -1.453_152), t, 1.421_413_7), t, -0.284_496_74), t, 0.254_829_6);
    (1.0 - p * t * exp_below(-magnitude * magnitude)).copysign(x)
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Numbers that are too small for an exponent of their own get one.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    // x = m · 2ᵉ with m between √½ and √2.
    let exponent = bits.wrapping_sub(0x3f35_04f3) >> 23;
    let m = f32::from_bits(bits.wrapping_sub(exponent << 23) as u32) - 1.0;
    let e = exponent as f32 - if tiny { 23.0 } else { 0.0 };
    // Cephes' minimax polynomial of ln(1 + m).
    let p = fma(7.037_683_6e-2, m, -1.151_461e-1);
    let p = fma(p, m, 1.167_699_9e-1);
    let p = fma(p, m, -1.242_014_1e-1);
    let p = fma(p, m, 1.424_932_3e-1);
    let p = fma(p, m, -1.666_805_8e-1);
    let p = fma(p, m, 2.000_071_4e-1);
    let p = fma(p, m, -2.499_999_4e-1);
    let p = fma(p, m, 3.333_333e-1);
    let square = m * m;
    let y = fma(p * m, square, e * LN2_LOW);
    let result = fma(e, LN2_HIGH, fma(-0.5, square, y) + m);
    let result = if x < f32::INFINITY { result } else { x };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x < 0.0 { f32::NAN } else { result }
}

/// Beyond this, [`sin`] and [`cos`] lose digits.
pub(crate) const LARGEST_ANGLE: f32 = 20_000.0;

/// The sine of at most [`LARGEST_ANGLE`], to 10⁻⁷.
#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    turned(x, 0)
}

/// The cosine of at most [`LARGEST_ANGLE`], to 10⁻⁷.
#[inline(always)]
pub(crate) fn cos(x: f32) -> f32 {
    turned(x, 1)
}

/// The sine, so many quarters of a turn further.
#[inline(always)]
fn turned(x: f32, quarters: u32) -> f32 {
    // π/2 in three parts.
    const PARTS: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];
    let shifted = fma(x, FRAC_2_PI, SHIFT);
    let n = shifted - SHIFT;
    let r = fma(n, -PARTS[2], fma(n, -PARTS[1], fma(n, -PARTS[0], x)));
    let square = r * r;
    // Cephes' minimax polynomials between -π/4 and π/4.
    let sine = fma(fma(-1.951_529_6e-4, square, 8.332_161e-3), square, -1.666_665_5e-1);
    let sine = fma(sine * square, r, r);
    let cosine = fma(fma(2.443_315_7e-5, square, -1.388_731_6e-3), square, 4.166_664_6e-2);
    let cosine = fma(cosine * square, square, fma(-0.5, square, 1.0));
    let quarter = shifted.to_bits().wrapping_add(quarters);
    let result = if quarter & 1 == 1 { cosine } else { sine };
    f32::from_bits(result.to_bits() ^ (quarter & 2) << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everywhere() -> impl Iterator<Item = f32> {
        (-120_000..120_000).map(|step| step as f32 / 1000.0).chain([1e-30, -1e-30, 1e-3, 1e30, -1e30])
    }

    /// Φ(x): the series of its integral from zero, and the continued fraction of its tail.
    fn normal_below(x: f64) -> f64 {
        let magnitude = x.abs();
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let tail = if magnitude < 3.0 {
            let series = (1..60).rev().fold(1.0, |sum, k| 1.0 + sum * x * x / f64::from(2 * k + 1));
            0.5 - density * magnitude * series
        } else {
            density / (1..60).rev().fold(magnitude, |rest, k| magnitude + f64::from(k) / rest)
        };
        if x < 0.0 { tail } else { 1.0 - tail }
    }

    #[test]
    fn functions_are_as_good_as_single_precision_allows() {
        for x in everywhere() {
            let wide = f64::from(x);
            let close = |got: f32, wanted: f64, slack: f64| {
                let tolerance = 5e-7 * wanted.abs() + slack;
                let same = f64::from(got) == f64::from(wanted as f32);
                assert!(same || (f64::from(got) - wanted).abs() <= tolerance, "at {x}: {got}, expected {wanted}");
            };
            close(exp(x), wide.exp(), 3e-45);
            close(exp_below(-x.abs()), (-wide.abs()).exp(), 1.2e-38);
            close(sigmoid(x), 1.0 / (1.0 + (-wide).exp()), 1e-38);
            close(silu(x), wide / (1.0 + (-wide).exp()), 1e-36);
            close(tanh(x), wide.tanh(), 0.0);
            close(gelu(x), wide * normal_below(wide), 5e-8 * wide.abs());
            close(ln(x.abs()), wide.abs().ln(), 1e-7);
            close(ln(x.abs() * 1e-30), (f64::from(x.abs() * 1e-30)).ln(), 1e-7);
            let angle = if x.abs() < 1e30 { 100.0 * x } else { 0.0 };
            close(sin(angle), f64::from(angle).sin(), 1.5e-7);
            close(cos(angle), f64::from(angle).cos(), 1.5e-7);
        }
    }

    #[test]
    fn limits_are_kept() {
        assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(0.0)), (f32::INFINITY, 0.0, 1.0));
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
        assert_eq!((gelu(50.0), gelu(-50.0), gelu(f32::INFINITY)), (50.0, 0.0, f32::INFINITY));
        assert_eq!((silu(f32::INFINITY), silu(-1e30)), (f32::INFINITY, 0.0));
        assert!(gelu(f32::NEG_INFINITY).is_nan() && silu(f32::NEG_INFINITY).is_nan(), "-∞ · 0, as in PyTorch");
        assert_eq!(
            (ln(f32::INFINITY), ln(0.0), ln(-0.0), ln(1.0)),
            (f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0)
        );
        assert!(ln(-1.0).is_nan() && ln(f32::NEG_INFINITY).is_nan());
        for function in [exp, exp_below, sigmoid, silu, tanh, gelu, erf, ln, sin, cos] {
            assert!(function(f32::NAN).is_nan());
        }
    }
}
