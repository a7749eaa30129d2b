//! Lanczos against digests of what Pillow 10 to 12 answer for the same pseudo-random images. (Pillow 13 resizes columns
//! first where that is less work, which rounds differently.)
#![allow(clippy::unwrap_used)]

mod support;

use support::context;
use vivarium_tensor::{InterpolateMode, Tensor};

/// Channels, size from, size to, FNV-1a of Pillow's bytes, its first bytes.
type Case = (usize, [usize; 2], [u64; 2], u32, &'static [u8]);

const CASES: [Case; 9] = [
    (3, [7, 9], [20, 31], 2_672_558_983, &[37, 254, 107, 55, 240, 129]),
    (3, [40, 50], [13, 11], 3_370_038_952, &[147, 148, 117, 114, 131, 113]),
    (1, [16, 16], [16, 5], 929_081_512, &[175, 230, 168, 127, 151, 203]),
    (4, [12, 10], [30, 7], 914_274_267, &[207, 151, 141, 184, 0, 0]),
    (3, [64, 48], [64, 64], 2_186_370_486, &[117, 20, 133, 67, 56, 201]),
    (4, [33, 21], [9, 50], 3_979_572_914, &[193, 43, 153, 128, 180, 41]),
    (1, [5, 4], [1, 1], 2_215_350_796, &[129]),
    (3, [2, 3], [9, 8], 32_741_781, &[118, 227, 0, 126, 182, 34]),
    (2, [9, 9], [4, 15], 92_225_324, &[0, 106, 60, 134, 100, 172]),
];

#[test]
fn lanczos_is_pillows_to_the_bit() {
    let cx = context();
    for (channels, [h, w], [to_h, to_w], digest, first) in CASES {
        let elements = channels * h * w;
        // Half a step up, so that truncating to 8 bits gives the byte back.
        let values = noise(elements, 42 + channels + h).iter().map(|byte| (f32::from(*byte) + 0.5) / 255.0).collect();
        let image = Tensor::from_vec(&[1, h as u64, w as u64, channels as u64], values, &cx).unwrap();
        let image = image.permute(&[0, 3, 1, 2], &cx).unwrap();
        for image in [image.clone(), image.contiguous(&cx).unwrap()] {
            let resized = image.interpolate(to_h, to_w, InterpolateMode::Lanczos, &cx).unwrap();
            assert!(channels == 1 || resized.strides()[1] == 1);
            let bytes: Vec<u8> = resized
                .permute(&[0, 2, 3, 1], &cx)
                .unwrap()
                .to_vec::<f32>(&cx)
                .unwrap()
                .iter()
                .map(|v| (v * 255.0).round() as u8)
                .collect();
            assert_eq!(&bytes[..first.len()], first, "{channels} channels, {h}×{w}");
            let fnv =
                bytes.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
            assert_eq!(fnv, digest, "{channels} channels, {h}×{w} to {to_h}×{to_w}");
        }
    }
}

fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64;
    (0..length)
        .map(|_| {
            state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
            (state >> 16) as u8
        })
        .collect()
}
