//! One pixel after the other.

use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};

/// Three channels to three channels.
pub(crate) type Pixel = fn([f32; 3]) -> [f32; 3];

pub(crate) fn each_pixel(
    op: &'static str,
    input: &[f32],
    pixel: Pixel,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill_rows(op, out, 3, 8, cx, &|first, out| {
        let source = input[first * 3..].as_chunks::<3>().0;
        for (out, source) in out.as_chunks_mut::<3>().0.iter_mut().zip(source) {
            *out = pixel(*source);
        }
    })
}

pub(crate) fn rgb_to_hsv([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let value = red.max(green).max(blue);
    let range = value - red.min(green).min(blue);
    if range == 0.0 {
        return [0.0, 0.0, value];
    }
    let sixths = if red == value {
        (green - blue) / range
    } else if green == value {
        2.0 + (blue - red) / range
    } else {
        4.0 + (red - green) / range
    };
    let hue = sixths / 6.0;
    [hue - hue.floor(), range / value, value]
}

pub(crate) fn hsv_to_rgb([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let turned = (hue - hue.floor()) * 6.0;
    // Rounding may take a hue just below 1 to 6.
    let part = turned.floor().min(5.0);
    let rest = turned - part;
    let low = value * (1.0 - saturation);
    let falling = value * (1.0 - saturation * rest);
    let rising = value * (1.0 - saturation * (1.0 - rest));
    match part as u8 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

/// Linear red, green and blue to CIE XYZ, and the white of D65 (2°).
const XYZ: [[f32; 3]; 3] =
    [[0.412_453, 0.357_58, 0.180_423], [0.212_671, 0.715_16, 0.072_169], [0.019_334, 0.119_193, 0.950_227]];
const RGB: [[f32; 3]; 3] = [
    [3.240_481_3, -1.537_151_5, -0.498_536_3],
    [-0.969_255, 1.875_99, 0.041_555_927],
    [0.055_646_64, -0.204_041_34, 1.057_311],
];
const WHITE: [f32; 3] = [0.950_47, 1.0, 1.088_83];

fn times(matrix: &[[f32; 3]; 3], [a, b, c]: [f32; 3]) -> [f32; 3] {
    matrix.map(|row| row[0] * a + row[1] * b + row[2] * c)
}

pub(crate) fn rgb_to_lab(rgb: [f32; 3]) -> [f32; 3] {
    let linear = |v: f32| if v > 0.040_45 { ((v + 0.055) / 1.055).powf(2.4) } else { v / 12.92 };
    let bent = |v: f32| if v > 0.008_856 { v.cbrt() } else { 7.787 * v + 16.0 / 116.0 };
    let xyz = times(&XYZ, rgb.map(linear));
    let [x, y, z] = [0, 1, 2].map(|at| bent(xyz[at] / WHITE[at]));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

pub(crate) fn lab_to_rgb([lightness, a, b]: [f32; 3]) -> [f32; 3] {
    let y = (lightness + 16.0) / 116.0;
    let straight = |v: f32| if v > 0.206_893_03 { v * v * v } else { (v - 16.0 / 116.0) / 7.787 };
    let bent = [a / 500.0 + y, y, (y - b / 200.0).max(0.0)];
    let linear = times(&RGB, [0, 1, 2].map(|at| straight(bent[at]) * WHITE[at]));
    linear.map(|v| if v > 0.003_130_8 { 1.055 * v.powf(1.0 / 2.4) - 0.055 } else { v * 12.92 }.clamp(0.0, 1.0))
}

pub(crate) fn rgb_to_ycbcr([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let bright = 0.299 * red + 0.587 * green + 0.114 * blue;
    [bright, (blue - bright) / 1.772 + 0.5, (red - bright) / 1.402 + 0.5]
}

pub(crate) fn ycbcr_to_rgb([bright, blue, red]: [f32; 3]) -> [f32; 3] {
    let (blue, red) = (bright + 1.772 * (blue - 0.5), bright + 1.402 * (red - 0.5));
    [red, (bright - 0.299 * red - 0.114 * blue) / 0.587, blue]
}
