//! What each elementwise operation does to a block.

use crate::cpu::math;
use crate::cpu::simd::{fold_lanes, map1, map2};
use crate::ops::{Activation, BinaryOp, UnaryOp};

/// Floating-point results of one operand.
#[inline(never)]
pub(crate) fn unary_float(op: UnaryOp, x: &[f32], out: &mut [f32]) {
    match op {
        UnaryOp::Abs => map1(x, out, f32::abs),
        UnaryOp::Neg => map1(x, out, |v: f32| -v),
        UnaryOp::Sign => map1(x, out, |v: f32| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v * 0.0
            }
        }),
        UnaryOp::Exp => map1(x, out, math::exp),
        UnaryOp::Log => map1(x, out, math::ln),
        UnaryOp::Sqrt => map1(x, out, f32::sqrt),
        UnaryOp::Rsqrt => map1(x, out, |v: f32| 1.0 / v.sqrt()),
        UnaryOp::Reciprocal => map1(x, out, |v: f32| 1.0 / v),
        UnaryOp::Square => map1(x, out, |v: f32| v * v),
        UnaryOp::Sin => of_angles(x, out, math::sin, f32::sin),
        UnaryOp::Cos => of_angles(x, out, math::cos, f32::cos),
        UnaryOp::Tan => map1(x, out, f32::tan),
        UnaryOp::Tanh => map1(x, out, math::tanh),
        UnaryOp::Sigmoid => map1(x, out, math::sigmoid),
        UnaryOp::Silu => map1(x, out, math::silu),
        UnaryOp::Relu => map1(x, out, |v: f32| if v < 0.0 { 0.0 } else { v }),
        UnaryOp::Gelu => map1(x, out, math::gelu),
        UnaryOp::Floor => map1(x, out, f32::floor),
        UnaryOp::Ceil => map1(x, out, f32::ceil),
        UnaryOp::Round => map1(x, out, f32::round_ties_even),
        UnaryOp::Trunc => map1(x, out, f32::trunc),
        UnaryOp::LogicalNot => map1(x, out, |v: f32| f32::from(u8::from(v == 0.0))),
    }
}

/// Results of activations; `p` is their parameter.
#[inline(never)]
pub(crate) fn activation(op: Activation, p: f32, x: &[f32], out: &mut [f32]) {
    match op {
        Activation::LeakyRelu => map1(x, out, move |v: f32| if v < 0.0 { v * p } else { v }),
        Activation::Elu => map1(x, out, move |v: f32| if v < 0.0 { p * v.exp_m1() } else { v }),
        Activation::Softplus => map1(x, out, move |v: f32| softplus(v * p, v, p)),
        Activation::Mish => map1(x, out, |v: f32| v * math::tanh(softplus(v, v, 1.0))),
        Activation::QuickGelu => map1(x, out, |v: f32| v * math::sigmoid(1.702 * v)),
        Activation::GeluTanh => map1(x, out, |v: f32| {
            let inner = 0.797_884_6 * (v + 0.044_715 * v * v * v);
            0.5 * v * (1.0 + math::tanh(inner))
        }),
        Activation::Erf => map1(x, out, math::erf),
        Activation::Expm1 => map1(x, out, f32::exp_m1),
        Activation::Log1p => map1(x, out, f32::ln_1p),
        Activation::Log2 => map1(x, out, f32::log2),
        Activation::HardSwish => map1(x, out, |v: f32| v * (v + 3.0).clamp(0.0, 6.0) / 6.0),
    }
}

/// `near` of every angle, and `any` of those that are too large for it.
#[inline(always)]
fn of_angles(x: &[f32], out: &mut [f32], near: impl Fn(f32) -> f32, any: impl Fn(f32) -> f32) {
    map1(x, out, near);
    let is_far = |angle: f32| angle.abs() > math::LARGEST_ANGLE;
    let mut far = [false; 32];
    fold_lanes(&mut far, x, |far, angle: f32| far | is_far(angle));
    if far.contains(&true) {
        x.iter().zip(out).filter(|(angle, _)| is_far(**angle)).for_each(|(angle, out)| *out = any(*angle));
    }
}

/// ln(1 + e^scaled) / p; linear beyond 20, as in PyTorch.
fn softplus(scaled: f32, x: f32, p: f32) -> f32 {
    if scaled > 20.0 { x } else { scaled.exp().ln_1p() / p }
}

/// Integer results of one operand, for the operations that keep integers.
#[inline(never)]
pub(crate) fn unary_int(op: UnaryOp, x: &[i64], out: &mut [i64]) {
    match op {
        UnaryOp::Abs => map1(x, out, i64::wrapping_abs),
        UnaryOp::Neg => map1(x, out, i64::wrapping_neg),
        UnaryOp::Sign => map1(x, out, i64::signum),
        UnaryOp::Square => map1(x, out, |v: i64| v.wrapping_mul(v)),
        UnaryOp::Relu => map1(x, out, |v: i64| v.max(0)),
        // Rounding an integer changes nothing; the others compute in floats.
        _ => out.copy_from_slice(x),
    }
}

/// Floating-point results of two operands.
#[inline(never)]
pub(crate) fn binary_float(op: BinaryOp, a: &[f32], b: &[f32], out: &mut [f32]) {
    match op {
        BinaryOp::Add => map2(a, b, out, |a: f32, b: f32| a + b),
        BinaryOp::Sub => map2(a, b, out, |a: f32, b: f32| a - b),
        BinaryOp::Mul => map2(a, b, out, |a: f32, b: f32| a * b),
        BinaryOp::Div => map2(a, b, out, |a: f32, b: f32| a / b),
        BinaryOp::Pow => map2(a, b, out, f32::powf),
        BinaryOp::Fmod => map2(a, b, out, |a: f32, b: f32| a % b),
        BinaryOp::Remainder => map2(a, b, out, remainder_float),
        BinaryOp::Minimum => map2(a, b, out, |a: f32, b: f32| if a < b || a.is_nan() { a } else { b }),
        BinaryOp::Maximum => map2(a, b, out, |a: f32, b: f32| if a > b || a.is_nan() { a } else { b }),
        BinaryOp::Atan2 => map2(a, b, out, f32::atan2),
        _ => out.fill(0.0),
    }
}

/// Integer results of two operands. Overflow wraps. A division by zero answers 0 (PyTorch raises an error there).
#[inline(never)]
pub(crate) fn binary_int(op: BinaryOp, a: &[i64], b: &[i64], out: &mut [i64]) {
    match op {
        BinaryOp::Add => map2(a, b, out, i64::wrapping_add),
        BinaryOp::Sub => map2(a, b, out, i64::wrapping_sub),
        BinaryOp::Mul => map2(a, b, out, i64::wrapping_mul),
        BinaryOp::Pow => map2(a, b, out, pow_int),
        BinaryOp::Fmod => map2(a, b, out, |a: i64, b: i64| a.checked_rem(b).unwrap_or(0)),
        BinaryOp::Remainder => map2(a, b, out, remainder_int),
        BinaryOp::Minimum => map2(a, b, out, |a: i64, b: i64| a.min(b)),
        BinaryOp::Maximum => map2(a, b, out, |a: i64, b: i64| a.max(b)),
        _ => out.fill(0),
    }
}

/// A number that can be compared and tested.
pub(crate) trait Number: Copy + PartialOrd + Default {}
impl Number for f32 {}
impl Number for i64 {}

/// Boolean results of two operands. Not-a-number counts as true in logic.
#[inline(never)]
pub(crate) fn predicate<C: Number>(op: BinaryOp, a: &[C], b: &[C], out: &mut [bool]) {
    let zero = C::default();
    match op {
        BinaryOp::Eq => map2(a, b, out, |a: C, b: C| a == b),
        BinaryOp::Ne => map2(a, b, out, |a: C, b: C| a != b),
        BinaryOp::Lt => map2(a, b, out, |a: C, b: C| a < b),
        BinaryOp::Le => map2(a, b, out, |a: C, b: C| a <= b),
        BinaryOp::Gt => map2(a, b, out, |a: C, b: C| a > b),
        BinaryOp::Ge => map2(a, b, out, |a: C, b: C| a >= b),
        BinaryOp::LogicalAnd => map2(a, b, out, move |a: C, b: C| (a != zero) & (b != zero)),
        BinaryOp::LogicalOr => map2(a, b, out, move |a: C, b: C| (a != zero) | (b != zero)),
        BinaryOp::LogicalXor => map2(a, b, out, move |a: C, b: C| (a != zero) ^ (b != zero)),
        _ => out.fill(false),
    }
}

/// The remainder that has the sign of the divisor, as Python's `%`.
fn remainder_float(a: f32, b: f32) -> f32 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

fn remainder_int(a: i64, b: i64) -> i64 {
    let rest = a.checked_rem(b).unwrap_or(0);
    if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
}

fn pow_int(base: i64, exponent: i64) -> i64 {
    match (base, exponent) {
        (1, _) => 1,
        (-1, exponent) => {
            if exponent % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, exponent) if exponent < 0 => 0,
        (base, exponent) => {
            let (mut result, mut square, mut rest) = (1i64, base, exponent);
            while rest > 0 {
                if rest & 1 == 1 {
                    result = result.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                rest >>= 1;
            }
            result
        }
    }
}
