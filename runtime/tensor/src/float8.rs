//! The two floats of 8 bits that weights are stored as.
//!
//! `e4m3` is the form without infinities (`float8_e4m3fn` in PyTorch, `F8_E4M3` in safetensors); `e5m2` is the upper half of a
//! float16. Both round to nearest, halves to even; what is too large, infinity included, becomes the largest number in the
//! first and infinite in the second, as PyTorch does it. They are only stored: arithmetic is in float32.

use half::f16;

/// Sign, exponent of `BIAS`, `MANTISSA` bits. `OVERFLOW` is where numbers end, `BEYOND` what stands for them, both as bits
/// (the former of a float32).
const fn encode<const BIAS: u32, const MANTISSA: u32, const OVERFLOW: u32, const BEYOND: u8>(value: f32) -> u8 {
    const SIGN: u32 = 1 << 31;
    let dropped = 23 - MANTISSA;
    let sign = ((value.to_bits() & SIGN) >> 24) as u8;
    let bits = value.to_bits() & !SIGN;
    if bits > f32::INFINITY.to_bits() {
        return sign | 0x7f;
    }
    if bits >= OVERFLOW {
        return sign | BEYOND;
    }
    let rounded = if bits < (128 - BIAS) << 23 {
        // Below the smallest normal number: the addition rounds at the bit that is the last one here.
        let unit = (127 - BIAS + dropped + 1) << 23;
        (f32::from_bits(bits) + f32::from_bits(unit)).to_bits() - unit
    } else {
        let odd = bits >> dropped & 1;
        (bits + (1 << (dropped - 1)) - 1 + odd - ((127 - BIAS) << 23)) >> dropped
    };
    sign | rounded as u8
}

const fn decode_e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (bits as u32 >> 3 & 15, bits as u32 & 7);
    let magnitude = if bits & 0x7f == 0x7f {
        f32::NAN
    } else if exponent == 0 {
        mantissa as f32 / 512.0
    } else {
        f32::from_bits((exponent + 120) << 23 | mantissa << 20)
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// What each of the 256 forms of e4m3 means.
static E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        table[bits] = decode_e4m3(bits as u8);
        bits += 1;
    }
    table
};

macro_rules! float8 {
    ($(#[$doc:meta])* $name:ident, $encode:expr, $decode:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $name(u8);

        impl $name {
            /// The nearest value.
            pub fn from_f32(value: f32) -> Self {
                let encode: fn(f32) -> u8 = $encode;
                Self(encode(value))
            }

            /// The number that it stands for.
            pub fn to_f32(self) -> f32 {
                let decode: fn(u8) -> f32 = $decode;
                decode(self.0)
            }

            /// From its byte.
            pub fn from_le_bytes(bytes: [u8; 1]) -> Self {
                Self(bytes[0])
            }

            /// Its byte.
            pub fn to_le_bytes(self) -> [u8; 1] {
                [self.0]
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.to_f32() == other.to_f32()
            }
        }
    };
}

float8!(
    /// 4 bits of exponent, 3 of mantissa, up to 448.
    F8E4M3, encode::<7, 3, { 464.0f32.to_bits() }, 0x7e>, |bits| E4M3[usize::from(bits)]
);
float8!(
    /// 5 bits of exponent, 2 of mantissa, up to 57344.
    F8E5M2, encode::<15, 2, { 65536.0f32.to_bits() }, 0x7c>, |bits| f16::from_bits(u16::from(bits) << 8).to_f32()
);
