//! Functions that the compiler can vectorise, to about two units in the last place (where it says nothing else).

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// eˣ.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these bounds the result is infinite or zero anyway.
    let x = x.clamp(-104.0, 89.0);
    // Adding 1.5·2²³ leaves the nearest integer in the low bits, and vectorises where a conversion does not.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x * LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // e^r for |r| ≤ ln 2 / 2: Cephes' minimax polynomial.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // Times 2^n in two steps, since 2^n alone may be out of range where the product is not.
    let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// eˣ for x that is zero or less (or not a number): what is below 10⁻³⁷ is zero.
#[inline(always)]
pub(crate) fn exp_below(x: f32) -> f32 {
    const LOWEST: f32 = -86.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x * LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let scaled = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    let scaled = if x < LOWEST { 0.0 } else { scaled };
    if x.is_nan() { x } else { scaled }
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let series = ((62.0 / 2835.0 * square - 17.0 / 315.0) * square + 2.0 / 15.0) * square - 1.0 / 3.0;
    let small = x + x * square * series;
    let large = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x.abs() < 0.25 { small } else { large }
}

/// x·Φ(x), the exact form, to 2·10⁻⁷·|x|.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// The error function by Abramowitz and Stegun 7.1.26: off by at most 2·10⁻⁷.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * magnitude);
    let p = (((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6;
    (1.0 - p * t * exp(-magnitude * magnitude)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everywhere() -> impl Iterator<Item = f32> {
        (-120_000..120_000).map(|step| step as f32 / 1000.0).chain([1e-30, -1e-30, 1e-3, 1e30, -1e30])
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
            close(exp_below(-x.abs()), if x.abs() > 86.0 { 0.0 } else { (-wide.abs()).exp() }, 0.0);
            close(sigmoid(x), 1.0 / (1.0 + (-wide).exp()), 1e-38);
            close(tanh(x), wide.tanh(), 0.0);
        }
    }

    #[test]
    fn limits_are_kept() {
        assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY), exp(0.0)), (f32::INFINITY, 0.0, 1.0));
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
        assert_eq!((gelu(50.0), gelu(-50.0)), (50.0, 0.0));
        for function in [exp, sigmoid, tanh, gelu] {
            assert!(function(f32::NAN).is_nan());
        }
    }
}
