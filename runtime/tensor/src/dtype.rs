//! Element types, and the rule by which two of them meet.

use crate::float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use std::fmt;

/// The type of a tensor's elements. Booleans take one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    Float32,
    /// IEEE half precision; computed with in single precision.
    Float16,
    /// The upper half of a single; computed with in single precision.
    Bfloat16,
    /// Unsigned 8 bits.
    Uint8,
    /// Signed 32 bits.
    Int32,
    /// Signed 64 bits.
    Int64,
    /// True or false.
    Boolean,
    /// 8 bits, of which 4 are the exponent, up to 448; only stored, computed with in single precision.
    Float8E4m3,
    /// 8 bits, of which 5 are the exponent, up to 57344; only stored, computed with in single precision.
    Float8E5m2,
}

impl DType {
    /// All types, in the order of the node interface.
    pub const ALL: [DType; 9] = [
        DType::Float32,
        DType::Float16,
        DType::Bfloat16,
        DType::Uint8,
        DType::Int32,
        DType::Int64,
        DType::Boolean,
        DType::Float8E4m3,
        DType::Float8E5m2,
    ];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::Float32 | DType::Int32 => 4,
            DType::Float16 | DType::Bfloat16 => 2,
            DType::Uint8 | DType::Boolean | DType::Float8E4m3 | DType::Float8E5m2 => 1,
            DType::Int64 => 8,
        }
    }

    /// True for the floating-point types.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::Float32 | DType::Float16 | DType::Bfloat16) || self.is_float8()
    }

    /// True for the two floats of 8 bits.
    pub const fn is_float8(self) -> bool {
        matches!(self, DType::Float8E4m3 | DType::Float8E5m2)
    }

    /// The name used by the node interface, e.g. `float32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Float32 => "float32",
            DType::Float16 => "float16",
            DType::Bfloat16 => "bfloat16",
            DType::Uint8 => "uint8",
            DType::Int32 => "int32",
            DType::Int64 => "int64",
            DType::Boolean => "boolean",
            DType::Float8E4m3 => "float8-e4m3",
            DType::Float8E5m2 => "float8-e5m2",
        }
    }

    /// The type in which a tensor of this type meets one of type `other`, as in PyTorch: a float wins over an integer,
    /// any number over a boolean, the wider over the narrower; float16 with bfloat16 gives float32, and so do the two of
    /// 8 bits, which PyTorch refuses to mix with others.
    pub fn promote(self, other: DType) -> DType {
        if self == other {
            return self;
        }
        match (self.is_float(), other.is_float()) {
            (true, true) if self.is_float8() && !other.is_float8() => other,
            (true, true) if other.is_float8() && !self.is_float8() => self,
            (true, true) => DType::Float32,
            (true, false) => self,
            (false, true) => other,
            (false, false) => {
                if self.integer_rank() >= other.integer_rank() {
                    self
                } else {
                    other
                }
            }
        }
    }

    /// The type in which a tensor of this type meets the number `scalar`. A scalar never changes a float type. An integer
    /// type stays for a whole number and becomes float32 for any other; a boolean becomes int64 or float32.
    pub fn promote_scalar(self, scalar: f64) -> DType {
        if self.is_float() {
            self
        } else if !is_whole(scalar) {
            DType::Float32
        } else if self == DType::Boolean {
            DType::Int64
        } else {
            self
        }
    }

    fn integer_rank(self) -> u8 {
        match self {
            DType::Boolean => 0,
            DType::Uint8 => 1,
            DType::Int32 => 2,
            _ => 3,
        }
    }
}

/// True when the number can stand for an integer.
pub(crate) fn is_whole(value: f64) -> bool {
    value.fract() == 0.0 && value.abs() < 9.0e18
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that tensors can hold. All-zero bytes are a valid value of each.
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + Send + Sync + fmt::Debug + 'static {
    /// The tensor type.
    const DTYPE: DType;
    /// The bytes of one element, little-endian, appended to `out`.
    fn write_le(values: &[Self], out: &mut Vec<u8>);
    /// The elements in little-endian `bytes`, written over `out`.
    fn read_le(bytes: &[u8], out: &mut [Self]);
    /// The number as a double (int64 beyond 2⁵³ is rounded).
    fn to_f64(self) -> f64;
    /// The nearest value: floats round, integers truncate towards zero and saturate, booleans test for non-zero.
    fn from_f64(value: f64) -> Self;
}

macro_rules! element {
    ($type:ty, $dtype:ident, $size:literal, $to:expr, $from:expr) => {
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            fn write_le(values: &[Self], out: &mut Vec<u8>) {
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            fn read_le(bytes: &[u8], out: &mut [Self]) {
                let (chunks, _) = bytes.as_chunks::<$size>();
                for (value, chunk) in out.iter_mut().zip(chunks) {
                    *value = Self::from_le_bytes(*chunk);
                }
            }
            fn to_f64(self) -> f64 {
                $to(self)
            }
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
        }
    };
}

element!(f32, Float32, 4, |v: f32| f64::from(v), |v: f64| v as f32);
element!(f16, Float16, 2, f16::to_f64, f16::from_f64);
element!(bf16, Bfloat16, 2, bf16::to_f64, bf16::from_f64);
element!(u8, Uint8, 1, |v: u8| f64::from(v), |v: f64| v as u8);
element!(i32, Int32, 4, |v: i32| f64::from(v), |v: f64| v as i32);
element!(i64, Int64, 8, |v: i64| v as f64, |v: f64| v as i64);
element!(F8E4M3, Float8E4m3, 1, |v: F8E4M3| f64::from(v.to_f32()), |v: f64| F8E4M3::from_f32(v as f32));
element!(F8E5M2, Float8E5m2, 1, |v: F8E5M2| f64::from(v.to_f32()), |v: f64| F8E5M2::from_f32(v as f32));

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Boolean;
    fn write_le(values: &[Self], out: &mut Vec<u8>) {
        out.extend(values.iter().map(|value| u8::from(*value)));
    }
    fn read_le(bytes: &[u8], out: &mut [Self]) {
        for (value, byte) in out.iter_mut().zip(bytes) {
            *value = *byte != 0;
        }
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_follows_pytorch() {
        use DType::*;
        assert_eq!(Uint8.promote(Float16), Float16);
        assert_eq!(Float16.promote(Bfloat16), Float32);
        assert_eq!(Int64.promote(Uint8), Int64);
        assert_eq!(Boolean.promote(Uint8), Uint8);
        assert_eq!(Float16.promote_scalar(0.5), Float16);
        assert_eq!(Uint8.promote_scalar(2.0), Uint8);
        assert_eq!(Uint8.promote_scalar(0.5), Float32);
        assert_eq!(Int32.promote_scalar(f64::NAN), Float32);
        assert_eq!(Boolean.promote_scalar(1.0), Int64);
        for a in DType::ALL {
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a));
            }
        }
    }
}
