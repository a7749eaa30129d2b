//! Between stored element types and the two types that arithmetic is done in: f32 for floats, i64 for the rest.

use crate::cpu::BLOCK;
use crate::cpu::reader::{Reader, read};
use crate::cpu::simd::{map1, to_halves};
use crate::float8::{F8E4M3, F8E5M2};
use crate::storage::{Buffer, Stored, with_buffer};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A stored type that can be read as the computed type C.
pub(crate) trait Load<C>: Stored {
    fn load(self) -> C;
    fn load_slice(source: &[Self], target: &mut [C]) {
        for (target, value) in target.iter_mut().zip(source) {
            *target = value.load();
        }
    }
}

/// A stored type that results of the computed type C can be written to.
pub(crate) trait Store<C>: Stored {
    /// Lets `compute` write a block of results and stores it over `out`, which is at most [`BLOCK`] long.
    fn with_block(out: &mut [Self], compute: impl FnOnce(&mut [C]));
    /// Stores as many results as `out` has room for.
    fn store_slice(results: &[C], out: &mut [Self]);
}

/// f32 or i64.
pub(crate) trait Compute: Stored {
    fn of_scalar(value: f64) -> Self;
    /// Reads elements of any type.
    fn read(buffer: &Buffer, reader: &Reader, start: usize, out: &mut [Self]);
}

macro_rules! compute {
    ($type:ty) => {
        impl Compute for $type {
            fn of_scalar(value: f64) -> Self {
                value as $type
            }
            fn read(buffer: &Buffer, reader: &Reader, start: usize, out: &mut [Self]) {
                with_buffer!(buffer, values => read(values, reader, start, out, Load::load_slice, Load::load));
            }
        }
    };
}
compute!(f32);
compute!(i64);

macro_rules! load {
    ($compute:ty: $($type:ty => $convert:expr),+ $(,)?) => {
        $(impl Load<$compute> for $type {
            fn load(self) -> $compute {
                let convert: fn($type) -> $compute = $convert;
                convert(self)
            }
        })+
    };
}
load!(f32: f32 => |v| v, bf16 => bf16::to_f32, u8 => f32::from, i32 => |v| v as f32, i64 => |v| v as f32,
    bool => |v| f32::from(u8::from(v)), F8E4M3 => F8E4M3::to_f32, F8E5M2 => F8E5M2::to_f32);
load!(i64: f32 => |v| v as i64, f16 => |v| v.to_f32() as i64, bf16 => |v| v.to_f32() as i64, u8 => i64::from,
    i32 => i64::from, i64 => |v| v, bool => i64::from, F8E4M3 => |v| v.to_f32() as i64, F8E5M2 => |v| v.to_f32() as i64);

impl Load<f32> for f16 {
    fn load(self) -> f32 {
        self.to_f32()
    }
    fn load_slice(source: &[Self], target: &mut [f32]) {
        source.convert_to_f32_slice(target);
    }
}

macro_rules! store_same {
    ($($type:ty),+) => {
        $(impl Store<$type> for $type {
            fn with_block(out: &mut [Self], compute: impl FnOnce(&mut [$type])) {
                compute(out);
            }
            fn store_slice(results: &[$type], out: &mut [Self]) {
                out.copy_from_slice(results);
            }
        })+
    };
}
store_same!(f32, i64, bool);

/// Integers narrower than the computed type wrap, as PyTorch's do; floats saturate on their way to integers.
macro_rules! store {
    ($compute:ty: $($type:ty => $convert:expr),+ $(,)?) => {
        $(impl Store<$compute> for $type {
            fn with_block(out: &mut [Self], compute: impl FnOnce(&mut [$compute])) {
                let mut block = [<$compute>::default(); BLOCK];
                let block = &mut block[..out.len()];
                compute(block);
                Self::store_slice(block, out);
            }
            fn store_slice(results: &[$compute], out: &mut [Self]) {
                let convert: fn(&[$compute], &mut [$type]) = $convert;
                convert(results, out);
            }
        })+
    };
}

/// The integer below, cut to 0..255; 0 for not-a-number. What `as u8` answers, but many at a time.
#[inline(always)]
pub(crate) fn truncated_byte(value: f32) -> u8 {
    // Adding 2²³ leaves the nearest integer in the low bits.
    const SHIFT: f32 = 8_388_608.0;
    let cut = if value > 0.0 { value } else { 0.0 };
    let cut = if cut < 255.0 { cut } else { 255.0 };
    let nearest = cut + SHIFT;
    let below = if nearest - SHIFT > cut { 1 } else { 0 };
    (nearest.to_bits() - below) as u8
}

/// The bits of the nearest float16, halves to the even one. Plain integers, so that many are converted at a time.
#[inline(always)]
fn half_bits(value: f32) -> u16 {
    const INFINITY: u32 = 0x7F80_0000;
    /// 2¹⁶, from which on everything is infinite.
    const TOO_LARGE: u32 = 0x4780_0000;
    /// 2⁻¹⁴, below which float16 has fewer digits.
    const NORMAL: u32 = 0x3880_0000;
    /// One half: added to a small number, the sum's last digit is that of the smallest float16.
    const HALF: u32 = 0x3F00_0000;
    /// From the exponent's bias of 127 to that of 15, and nearly half of a last digit.
    const REBIAS: u32 = 0xC800_0FFF;
    let bits = value.to_bits();
    let size = bits & 0x7FFF_FFFF;
    let small = (f32::from_bits(size) + f32::from_bits(HALF)).to_bits().wrapping_sub(HALF);
    let normal = size.wrapping_add(REBIAS).wrapping_add(size >> 13 & 1) >> 13;
    // Not-a-number stays so, with what fits of its digits.
    let special = if size > INFINITY { 0x7E00 | (size >> 13 & 0x3FF) } else { 0x7C00 };
    let finite = if size < NORMAL { small } else { normal };
    let found = if size < TOO_LARGE { finite } else { special };
    (bits >> 16 & 0x8000 | found) as u16
}

/// What the processor does not convert by itself is converted by [`half_bits`], which answers the same.
fn to_float16(values: &[f32], out: &mut [f16]) {
    let done = to_halves(values, out);
    map1(&values[done..], &mut out[done..], |value: f32| f16::from_bits(half_bits(value)));
}

fn each<C: Copy, T>(source: &[C], target: &mut [T], convert: impl Fn(C) -> T) {
    for (target, value) in target.iter_mut().zip(source) {
        *target = convert(*value);
    }
}
store!(f32:
    f16 => to_float16,
    bf16 => |block, out| map1(block, out, bf16::from_f32),
    u8 => |block, out| map1(block, out, truncated_byte),
    i32 => |block, out| each(block, out, |v| v as i32),
    i64 => |block, out| each(block, out, |v| v as i64),
    bool => |block, out| each(block, out, |v| v != 0.0),
    F8E4M3 => |block, out| each(block, out, F8E4M3::from_f32),
    F8E5M2 => |block, out| each(block, out, F8E5M2::from_f32),
);
store!(i64:
    f32 => |block, out| each(block, out, |v| v as f32),
    f16 => |block, out| each(block, out, |v| f16::from_f32(v as f32)),
    bf16 => |block, out| each(block, out, |v| bf16::from_f32(v as f32)),
    u8 => |block, out| each(block, out, |v| v as u8),
    i32 => |block, out| each(block, out, |v| v as i32),
    bool => |block, out| each(block, out, |v| v != 0),
    F8E4M3 => |block, out| each(block, out, |v| F8E4M3::from_f32(v as f32)),
    F8E5M2 => |block, out| each(block, out, |v| F8E5M2::from_f32(v as f32)),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_a_cast() {
        let many = (-300..70_000).map(|step| step as f32 / 256.0);
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 254.999_98, 255.0, 1e30, -0.0, f32::MIN_POSITIVE];
        for value in many.chain(odd) {
            assert_eq!(truncated_byte(value), value as u8, "{value}");
        }
    }

    /// Every float16, its neighbours in float32, and the points half-way to the next.
    #[test]
    fn halves_are_the_nearest() {
        let check = |value: f32| {
            let wanted = f16::from_f32(value);
            let mut many = [f16::ZERO; 17];
            to_float16(&[value; 17], &mut many);
            for own in [f16::from_bits(half_bits(value)), many[0], many[16]] {
                let same = own.to_bits() == wanted.to_bits() || own.is_nan() && wanted.is_nan();
                assert!(same, "{value:e}: {own} {wanted}");
            }
        };
        for half in 0..=u16::MAX {
            let bits = f16::from_bits(half).to_f32().to_bits();
            for near in [0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF] {
                check(f32::from_bits(bits.wrapping_add(near)));
            }
        }
        for step in 0..200_000u32 {
            check(f32::from_bits(step * 21_474));
        }
        check(f32::MIN_POSITIVE);
    }
}
