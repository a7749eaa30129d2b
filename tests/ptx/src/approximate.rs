//! Functions that hardware only approximates, as far from the truth as the PTX ISA lets them be: no test may rely on more. Which way
//! an answer is off depends on the argument alone, so runs repeat.

/// 2 to the power of `x`: at most 2⁻²² of the result away, which is two units in its last place.
pub(crate) fn exp2(x: f32) -> f32 {
    let exact = f64::from(x).exp2() as f32;
    // What the ISA lists by itself is exact.
    if x == 0.0 || x.is_subnormal() { 1.0 } else { off(exact, x, 2) }
}

/// The logarithm to base 2: between 1/2 and 2 at most 2⁻²² away, elsewhere 2⁻²² of the result.
pub(crate) fn log2(x: f32) -> f32 {
    let exact = f64::from(x).log2() as f32;
    if 0.5 < x && x < 2.0 { exact + f32::exp2(-22.0).copysign(off(1.0, x, 1) - 1.0) } else { off(exact, x, 2) }
}

/// 1 / x: at most one unit in the last place away.
pub(crate) fn reciprocal(x: f32) -> f32 {
    off(1.0 / x, x, 1)
}

/// a / b: at most two units in the last place away; zero for divisors beyond 2¹²⁶.
pub(crate) fn quotient(a: f32, b: f32) -> f32 {
    if b.is_finite() && b.abs() > f32::exp2(126.0) && a.is_finite() { 0.0 } else { off(a / b, a, 2) }
}

/// Zero, with its sign, in place of what is too small for a normal number.
pub(crate) fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

/// A number so many units in the last place away. Zeros, infinities and what is no number stay.
fn off(exact: f32, argument: f32, units: u32) -> f32 {
    if exact == 0.0 || !exact.is_finite() {
        return exact;
    }
    let up = argument.to_bits().wrapping_mul(0x9e37_79b1) >> 31 == 1;
    (0..units).fold(exact, |value, _| if up { value.next_up() } else { value.next_down() })
}
