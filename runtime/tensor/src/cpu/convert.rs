//! Between stored element types and the two types that arithmetic is done in: f32 for floats, i64 for the rest.

use crate::cpu::BLOCK;
use crate::cpu::reader::{Reader, read};
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
                let convert: fn(&[$compute], &mut [$type]) = $convert;
                convert(block, out);
            }
        })+
    };
}

fn each<C: Copy, T>(source: &[C], target: &mut [T], convert: impl Fn(C) -> T) {
    for (target, value) in target.iter_mut().zip(source) {
        *target = convert(*value);
    }
}
store!(f32:
    f16 => |block, out| out.convert_from_f32_slice(block),
    bf16 => |block, out| each(block, out, bf16::from_f32),
    u8 => |block, out| each(block, out, |v| v as u8),
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
