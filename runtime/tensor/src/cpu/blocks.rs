//! Blocks of quantised weights to numbers. A block of the older formats has a scale (and an offset) for 32 weights; one of the
//! newer has 256 weights in parts with scales of their own, which are quantised too.

use crate::cpu::fill_rows;
use crate::ops::BlockFormat;
use crate::{OpContext, TensorError};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// The 16 levels of the formats that are not evenly spaced.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Fills `out` from whole blocks.
pub(crate) fn unpack(
    op: &'static str,
    format: BlockFormat,
    data: &[u8],
    out: &mut [f16],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (elements, bytes) = format.block();
    let unpack: fn(&[u8], &mut [f32]) = match format {
        BlockFormat::Q4_0 => q4_0,
        BlockFormat::Q4_1 => q4_1,
        BlockFormat::Q5_0 => q5_0,
        BlockFormat::Q5_1 => q5_1,
        BlockFormat::Q8_0 => q8_0,
        BlockFormat::Q2K => q2_k,
        BlockFormat::Q3K => q3_k,
        BlockFormat::Q4K => q4_k,
        BlockFormat::Q5K => q5_k,
        BlockFormat::Q6K => q6_k,
        BlockFormat::Iq4Nl => iq4_nl,
        BlockFormat::Iq4Xs => iq4_xs,
    };
    fill_rows(op, out, elements, 1, cx, &|first, blocks| {
        let mut numbers = [0.0f32; 256];
        for (index, out) in blocks.chunks_exact_mut(elements).enumerate() {
            unpack(&data[(first + index) * bytes..][..bytes], &mut numbers[..elements]);
            out.convert_from_f32_slice(&numbers[..elements]);
        }
    })
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Bits of one half of a byte for the first, of the other for the second half of a part.
fn nibbles(packed: &[u8], out: &mut [f32], number: impl Fn(usize, u8) -> f32) {
    let middle = packed.len();
    for (at, byte) in packed.iter().enumerate() {
        out[at] = number(at, byte & 15);
        out[at + middle] = number(at + middle, byte >> 4);
    }
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    nibbles(&block[2..18], out, |_, level| scale * (f32::from(level) - 8.0));
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    nibbles(&block[4..20], out, |_, level| scale * f32::from(level) + least);
}

/// A fifth bit of each of 32 levels.
fn fifth(block: &[u8], from: usize) -> impl Fn(usize, u8) -> u8 {
    let bits = u32::from_le_bytes([block[from], block[from + 1], block[from + 2], block[from + 3]]);
    move |at, level| level | ((bits >> at & 1) as u8) << 4
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let (scale, whole) = (half(block, 0), fifth(block, 2));
    nibbles(&block[6..22], out, |at, level| scale * (f32::from(whole(at, level)) - 16.0));
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (scale, least, whole) = (half(block, 0), half(block, 2), fifth(block, 4));
    nibbles(&block[8..24], out, |at, level| scale * f32::from(whole(at, level)) + least);
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (out, level) in out.iter_mut().zip(&block[2..34]) {
        *out = scale * f32::from(*level as i8);
    }
}

/// 16 parts of 16 weights of 2 bits, with 4 bits each for scale and offset.
fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 80), half(block, 82));
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, least) = (scale * f32::from(block[part] & 15), least * f32::from(block[part] >> 4));
        let (packed, shift) = two_bits(&block[16..80], part);
        for (out, byte) in out.iter_mut().zip(packed) {
            *out = scale * f32::from(byte >> shift & 3) - least;
        }
    }
}

/// Where a part of 16 weights has its two bits: 128 weights share 32 bytes.
fn two_bits(packed: &[u8], part: usize) -> (&[u8], usize) {
    let (big, small) = (part / 8, part % 8);
    (&packed[big * 32 + small % 2 * 16..][..16], small / 2 * 2)
}

/// As [`q2_k`] with a third bit elsewhere and scales of 6 bits around 32, without offsets.
fn q3_k(block: &[u8], out: &mut [f32]) {
    let (third, scales, scale) = (&block[..32], &block[96..108], half(block, 108));
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let low = if part < 8 { scales[part] & 15 } else { scales[part - 8] >> 4 };
        let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
        let scale = scale * (f32::from(low | high << 4) - 32.0);
        let (packed, shift) = two_bits(&block[32..96], part);
        for ((out, byte), third) in out.iter_mut().zip(packed).zip(&third[part % 2 * 16..]) {
            let high = if third >> (part / 2) & 1 == 1 { 0.0 } else { 4.0 };
            *out = scale * (f32::from(byte >> shift & 3) - high);
        }
    }
}

/// Scale and offset of one of 8 parts, 6 bits each in 12 bytes.
fn six_bits(packed: &[u8], part: usize) -> (f32, f32) {
    let (scale, least) = if part < 4 {
        (packed[part] & 63, packed[part + 4] & 63)
    } else {
        (packed[part + 4] & 15 | packed[part - 4] >> 6 << 4, packed[part + 4] >> 4 | packed[part] >> 6 << 4)
    };
    (f32::from(scale), f32::from(least))
}

/// 8 parts of 32 weights of 4 bits; two parts share their bytes.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (own_scale, own_least) = six_bits(&block[4..16], part);
        let (scale, least) = (scale * own_scale, least * own_least);
        for (out, byte) in out.iter_mut().zip(&block[16 + part / 2 * 32..]) {
            *out = scale * f32::from(byte >> (part % 2 * 4) & 15) - least;
        }
    }
}

/// As [`q4_k`] with a fifth bit elsewhere.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (own_scale, own_least) = six_bits(&block[4..16], part);
        let (scale, least) = (scale * own_scale, least * own_least);
        let packed = block[48 + part / 2 * 32..].iter().zip(&block[16..48]);
        for (out, (byte, fifth)) in out.iter_mut().zip(packed) {
            let level = byte >> (part % 2 * 4) & 15 | (fifth >> part & 1) << 4;
            *out = scale * f32::from(level) - least;
        }
    }
}

/// Halves of 128 weights of 6 bits, four of which share three bytes; scales of 8 bits for 16 weights.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 208);
    for (at, out) in out.iter_mut().enumerate() {
        let (big, quarter, place) = (at / 128, at / 32 % 4, at % 32);
        let low = block[big * 64 + quarter % 2 * 32 + place] >> (quarter / 2 * 4) & 15;
        let high = block[128 + big * 32 + place] >> (quarter * 2) & 3;
        let own = f32::from(block[192 + at / 16] as i8);
        *out = scale * own * (f32::from(low | high << 4) - 32.0);
    }
}

fn iq4_nl(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    nibbles(&block[2..18], out, |_, level| scale * f32::from(LEVELS[usize::from(level)]));
}

/// 8 parts of 32 weights, with scales of 6 bits around 32.
fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let (scale, high) = (half(block, 0), u16::from_le_bytes([block[2], block[3]]));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + part / 2] >> (part % 2 * 4) & 15;
        let own = low | ((high >> (2 * part) & 3) as u8) << 4;
        let scale = scale * (f32::from(own) - 32.0);
        nibbles(&block[8 + part * 16..][..16], out, |_, level| scale * f32::from(LEVELS[usize::from(level)]));
    }
}
