//! Arithmetic on the lanes of a warp. A function is chosen once, when a module is loaded.

use crate::Lanes;
use crate::approximate::{self, flushed};

/// Computes `out` of three operands for the lanes of a mask; what an operation does not need is ignored.
pub(crate) type Function = fn(&mut Lanes, &Lanes, &Lanes, &Lanes, u32);

macro_rules! lanes {
    (|$a:ident, $b:ident, $c:ident| $body:expr) => {{
        #[allow(unused_variables)]
        fn run(out: &mut Lanes, x: &Lanes, y: &Lanes, z: &Lanes, mask: u32) {
            for lane in 0..crate::WARP {
                if mask >> lane & 1 == 1 {
                    let ($a, $b, $c) = (x[lane], y[lane], z[lane]);
                    out[lane] = $body;
                }
            }
        }
        run as Function
    }};
}

/// `$body` with T the unsigned and S the signed type of a name; `$signed` tells which of both was meant.
macro_rules! integers {
    ($name:expr, $body:ident) => {
        match $name {
            "u16" | "b16" => $body!(u16, u16, i16),
            "s16" => $body!(i16, u16, i16),
            "u32" | "b32" => $body!(u32, u32, i32),
            "s32" => $body!(i32, u32, i32),
            "u64" | "b64" => $body!(u64, u64, i64),
            "s64" => $body!(i64, u64, i64),
            _ => None,
        }
    };
}

pub(crate) fn f32_of(value: u64) -> f32 {
    f32::from_bits(value as u32)
}

pub(crate) fn of_f32(value: f32) -> u64 {
    u64::from(value.to_bits())
}

fn f64_of(value: u64) -> f64 {
    f64::from_bits(value)
}

/// The function of an opcode such as `add.s32`, split at its dots, and how many operands it reads.
pub(crate) fn select(parts: &[&str]) -> Option<(Function, usize)> {
    let (name, kind) = (*parts.first()?, *parts.last()?);
    match kind {
        "f32" => float32(name, parts),
        "f64" => float64(name),
        "pred" | "b32" | "b16" | "b64" if bits(name).is_some() => bits(name),
        _ => integer(name, parts, kind),
    }
}

fn bits(name: &str) -> Option<(Function, usize)> {
    Some(match name {
        "and" => (lanes!(|a, b, c| a & b), 2),
        "or" => (lanes!(|a, b, c| a | b), 2),
        "xor" => (lanes!(|a, b, c| a ^ b), 2),
        _ => return None,
    })
}

fn integer(name: &str, parts: &[&str], kind: &str) -> Option<(Function, usize)> {
    let has = |part: &str| parts.contains(&part);
    macro_rules! choose {
        ($t:ty, $u:ty, $s:ty) => {
            Some(match name {
                "add" => (lanes!(|a, b, c| (a as $t).wrapping_add(b as $t) as u64), 2),
                "sub" => (lanes!(|a, b, c| (a as $t).wrapping_sub(b as $t) as u64), 2),
                "mul" if has("wide") => (lanes!(|a, b, c| ((a as $t) as i128 * (b as $t) as i128) as u64), 2),
                "mul" if has("hi") => {
                    (lanes!(|a, b, c| (((a as $t) as i128).wrapping_mul((b as $t) as i128) >> <$t>::BITS) as u64), 2)
                }
                "mul" => (lanes!(|a, b, c| (a as $t).wrapping_mul(b as $t) as u64), 2),
                "mad" if has("wide") => {
                    (lanes!(|a, b, c| (((a as $t) as i128 * (b as $t) as i128) as u64).wrapping_add(c)), 3)
                }
                "mad" if has("hi") => (
                    lanes!(|a, b, c| {
                        let high = (((a as $t) as i128).wrapping_mul((b as $t) as i128) >> <$t>::BITS) as $t;
                        high.wrapping_add(c as $t) as u64
                    }),
                    3,
                ),
                "mad" => (lanes!(|a, b, c| (a as $t).wrapping_mul(b as $t).wrapping_add(c as $t) as u64), 3),
                // The hardware answers all ones for a division by zero.
                "div" => (lanes!(|a, b, c| (a as $t).checked_div(b as $t).unwrap_or(!0) as u64), 2),
                "rem" => (lanes!(|a, b, c| (a as $t).checked_rem(b as $t).unwrap_or(a as $t) as u64), 2),
                "min" => (lanes!(|a, b, c| (a as $t).min(b as $t) as u64), 2),
                "max" => (lanes!(|a, b, c| (a as $t).max(b as $t) as u64), 2),
                "abs" => (lanes!(|a, b, c| (a as $s).wrapping_abs() as u64), 1),
                "neg" => (lanes!(|a, b, c| (a as $s).wrapping_neg() as u64), 1),
                "not" => (lanes!(|a, b, c| !(a as $u) as u64), 1),
                "cnot" => (lanes!(|a, b, c| u64::from(a as $u == 0)), 1),
                "shl" => {
                    (lanes!(|a, b, c| if b as u32 >= <$u>::BITS { 0 } else { ((a as $u) << (b as u32)) as u64 }), 2)
                }
                "shr" => (
                    lanes!(|a, b, c| {
                        let by = b as u32;
                        if by >= <$t>::BITS {
                            ((a as $t) >> (<$t>::BITS - 1) >> 1.min(by)) as u64
                        } else {
                            ((a as $t) >> by) as u64
                        }
                    }),
                    2,
                ),
                "popc" => (lanes!(|a, b, c| u64::from((a as $u).count_ones())), 1),
                "clz" => (lanes!(|a, b, c| u64::from((a as $u).leading_zeros())), 1),
                "brev" => (lanes!(|a, b, c| (a as $u).reverse_bits() as u64), 1),
                "bfe" => (lanes!(|a, b, c| extract(a as $t as i128, <$t>::BITS, <$t>::MIN != 0, b, c)), 3),
                "prmt" => (lanes!(|a, b, c| permute(a, b, c)), 3),
                "shf" if has("l") => (lanes!(|a, b, c| funnel_left(a, b, c as u32 & 31)), 3),
                "shf" if has("r") && has("wrap") => (lanes!(|a, b, c| funnel_right(a, b, c as u32 & 31)), 3),
                "shf" if has("r") => (lanes!(|a, b, c| funnel_right(a, b, (c as u32).min(32))), 3),
                _ => return None,
            })
        };
    }
    integers!(kind, choose)
}

fn joined(low: u64, high: u64) -> u64 {
    (high << 32) | (low & 0xffff_ffff)
}

fn funnel_left(low: u64, high: u64, by: u32) -> u64 {
    (joined(low, high) << by) >> 32
}

fn funnel_right(low: u64, high: u64, by: u32) -> u64 {
    (joined(low, high) >> by) & 0xffff_ffff
}

fn extract(value: i128, width: u32, signed: bool, position: u64, length: u64) -> u64 {
    let (position, length) = (position as u32 & 0xff, length as u32 & 0xff);
    if length == 0 {
        return 0;
    }
    let position = position.min(width);
    let length = length.min(width);
    let shifted = value >> position;
    let kept = shifted & ((1i128 << length) - 1);
    let negative = signed && (value >> (position + length - 1).min(width - 1)) & 1 == 1;
    (if negative { kept | -(1i128 << length) } else { kept }) as u64
}

/// Picks four bytes out of eight.
fn permute(a: u64, b: u64, selector: u64) -> u64 {
    let bytes = joined(a, b).to_le_bytes();
    let mut out = [0u8; 8];
    for (index, out) in out[..4].iter_mut().enumerate() {
        let choice = (selector >> (4 * index)) as usize;
        let byte = bytes[choice & 7];
        *out = if choice & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
    }
    u64::from_le_bytes(out)
}

/// The smaller one, or the one that is a number.
fn least(a: f32, b: f32) -> f32 {
    if a.is_nan() || (b < a) || (a == b && b.is_sign_negative()) { if b.is_nan() { a } else { b } } else { a }
}

fn most(a: f32, b: f32) -> f32 {
    -least(-a, -b)
}

fn float32(name: &str, parts: &[&str]) -> Option<(Function, usize)> {
    let nan = parts.contains(&"NaN");
    let sat = parts.contains(&"sat");
    let rounding = ["rz", "rm", "rp"].into_iter().find(|mode| parts.contains(mode));
    macro_rules! op {
        ($count:expr, |$a:ident, $b:ident, $c:ident| $body:expr) => {
            (
                lanes!(|x, y, z| {
                    let ($a, $b, $c) = (f32_of(x), f32_of(y), f32_of(z));
                    of_f32($body)
                }),
                $count,
            )
        };
    }
    if let Some(mode) = rounding {
        return directed(name, mode);
    }
    if parts.contains(&"approx") && parts.contains(&"ftz") {
        return Some(match name {
            "ex2" => op!(1, |a, b, c| flushed(approximate::exp2(flushed(a)))),
            "lg2" => op!(1, |a, b, c| flushed(approximate::log2(flushed(a)))),
            "rcp" => op!(1, |a, b, c| flushed(approximate::reciprocal(flushed(a)))),
            "div" => op!(2, |a, b, c| flushed(approximate::quotient(flushed(a), flushed(b)))),
            _ => return None,
        });
    }
    if parts.contains(&"approx") {
        return Some(match name {
            "ex2" => op!(1, |a, b, c| approximate::exp2(a)),
            "lg2" => op!(1, |a, b, c| approximate::log2(a)),
            "rcp" => op!(1, |a, b, c| approximate::reciprocal(a)),
            "div" => op!(2, |a, b, c| approximate::quotient(a, b)),
            _ => return None,
        });
    }
    Some(match name {
        "add" if sat => op!(2, |a, b, c| saturated(a + b)),
        "mul" if sat => op!(2, |a, b, c| saturated(a * b)),
        "fma" if sat => op!(3, |a, b, c| saturated(a.mul_add(b, c))),
        _ if sat => return None,
        "add" => op!(2, |a, b, c| a + b),
        "sub" => op!(2, |a, b, c| a - b),
        "mul" => op!(2, |a, b, c| a * b),
        "fma" | "mad" => op!(3, |a, b, c| a.mul_add(b, c)),
        "div" => op!(2, |a, b, c| a / b),
        "min" if nan => op!(2, |a, b, c| if a.is_nan() || b.is_nan() { f32::NAN } else { least(a, b) }),
        "max" if nan => op!(2, |a, b, c| if a.is_nan() || b.is_nan() { f32::NAN } else { most(a, b) }),
        "min" => op!(2, |a, b, c| least(a, b)),
        "max" => op!(2, |a, b, c| most(a, b)),
        "abs" => op!(1, |a, b, c| a.abs()),
        "neg" => op!(1, |a, b, c| -a),
        "sqrt" => op!(1, |a, b, c| a.sqrt()),
        "rcp" => op!(1, |a, b, c| 1.0 / a),
        "copysign" => op!(2, |a, b, c| b.copysign(a)),
        _ => return None,
    })
}

fn saturated(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

/// Arithmetic that rounds in one direction. The sum is rounded to double precision on the way, which no test notices.
fn directed(name: &str, mode: &str) -> Option<(Function, usize)> {
    macro_rules! op {
        ($round:ident) => {{
            match name {
                "add" => (lanes!(|a, b, c| of_f32($round(wide(a) + wide(b)))), 2),
                "sub" => (lanes!(|a, b, c| of_f32($round(wide(a) - wide(b)))), 2),
                "mul" => (lanes!(|a, b, c| of_f32($round(wide(a) * wide(b)))), 2),
                "fma" => (lanes!(|a, b, c| of_f32($round(wide(a).mul_add(wide(b), wide(c))))), 3),
                _ => return None,
            }
        }};
    }
    Some(match mode {
        "rz" => op!(toward_zero),
        "rm" => op!(downward),
        _ => op!(upward),
    })
}

fn wide(value: u64) -> f64 {
    f64::from(f32_of(value))
}

pub(crate) fn toward_zero(value: f64) -> f32 {
    if value > 0.0 { downward(value) } else { upward(value) }
}

fn downward(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) > value { near.next_down() } else { near }
}

fn upward(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}

fn float64(name: &str) -> Option<(Function, usize)> {
    macro_rules! op {
        ($count:expr, |$a:ident, $b:ident, $c:ident| $body:expr) => {
            (
                lanes!(|x, y, z| {
                    let ($a, $b, $c) = (f64_of(x), f64_of(y), f64_of(z));
                    f64::to_bits($body)
                }),
                $count,
            )
        };
    }
    Some(match name {
        "add" => op!(2, |a, b, c| a + b),
        "sub" => op!(2, |a, b, c| a - b),
        "mul" => op!(2, |a, b, c| a * b),
        "fma" | "mad" => op!(3, |a, b, c| a.mul_add(b, c)),
        "div" => op!(2, |a, b, c| a / b),
        "min" => op!(2, |a, b, c| a.min(b)),
        "max" => op!(2, |a, b, c| a.max(b)),
        "abs" => op!(1, |a, b, c| a.abs()),
        "neg" => op!(1, |a, b, c| -a),
        "sqrt" => op!(1, |a, b, c| a.sqrt()),
        "rcp" => op!(1, |a, b, c| 1.0 / a),
        _ => return None,
    })
}

/// The comparison of `setp`; answers 0 or 1.
pub(crate) fn comparison(compare: &str, kind: &str) -> Option<Function> {
    if kind == "f32" || kind == "f64" {
        return float_comparison(compare, kind == "f64");
    }
    macro_rules! choose {
        ($t:ty, $u:ty, $s:ty) => {
            Some(match compare {
                "eq" => lanes!(|a, b, c| u64::from(a as $t == b as $t)),
                "ne" => lanes!(|a, b, c| u64::from(a as $t != b as $t)),
                "lt" => lanes!(|a, b, c| u64::from((a as $t) < b as $t)),
                "le" => lanes!(|a, b, c| u64::from(a as $t <= b as $t)),
                "gt" => lanes!(|a, b, c| u64::from(a as $t > b as $t)),
                "ge" => lanes!(|a, b, c| u64::from(a as $t >= b as $t)),
                "lo" => lanes!(|a, b, c| u64::from((a as $u) < b as $u)),
                "ls" => lanes!(|a, b, c| u64::from(a as $u <= b as $u)),
                "hi" => lanes!(|a, b, c| u64::from(a as $u > b as $u)),
                "hs" => lanes!(|a, b, c| u64::from(a as $u >= b as $u)),
                _ => return None,
            })
        };
    }
    integers!(kind, choose)
}

fn float_comparison(compare: &str, wide: bool) -> Option<Function> {
    macro_rules! op {
        (|$a:ident, $b:ident| $body:expr) => {
            if wide {
                lanes!(|x, y, z| {
                    let ($a, $b) = (f64_of(x), f64_of(y));
                    u64::from($body)
                })
            } else {
                lanes!(|x, y, z| {
                    let ($a, $b) = (f32_of(x), f32_of(y));
                    u64::from($body)
                })
            }
        };
    }
    #[allow(clippy::nonminimal_bool, clippy::neg_cmp_op_on_partial_ord)] // The `u` forms are true for not-a-number.
    Some(match compare {
        "eq" => op!(|a, b| a == b),
        "ne" => op!(|a, b| a != b && !a.is_nan() && !b.is_nan()),
        "lt" => op!(|a, b| a < b),
        "le" => op!(|a, b| a <= b),
        "gt" => op!(|a, b| a > b),
        "ge" => op!(|a, b| a >= b),
        "equ" => op!(|a, b| a == b || a.is_nan() || b.is_nan()),
        "neu" => op!(|a, b| a != b),
        "ltu" => op!(|a, b| !(a >= b)),
        "leu" => op!(|a, b| !(a > b)),
        "gtu" => op!(|a, b| !(a <= b)),
        "geu" => op!(|a, b| !(a < b)),
        "num" => op!(|a, b| !a.is_nan() && !b.is_nan()),
        "nan" => op!(|a, b| a.is_nan() || b.is_nan()),
        _ => return None,
    })
}

/// `bfi`, with its four operands.
pub(crate) fn insert(value: u64, into: u64, position: u64, length: u64, width: u32) -> u64 {
    let (position, length) = ((position as u32 & 0xff).min(width), (length as u32 & 0xff).min(width));
    let mask = ((((1u128 << length) - 1) << position) & ((1u128 << width) - 1)) as u64;
    (into & !mask) | (((u128::from(value) << position) as u64) & mask)
}

/// `lop3`: any function of three bits.
pub(crate) fn logic(a: u64, b: u64, c: u64, table: u8) -> u64 {
    let mut out = 0;
    for row in 0..8u8 {
        if table >> row & 1 == 1 {
            let pick = |value: u64, bit: u8| if row >> bit & 1 == 1 { value } else { !value };
            out |= pick(a, 2) & pick(b, 1) & pick(c, 0);
        }
    }
    out & 0xffff_ffff
}
