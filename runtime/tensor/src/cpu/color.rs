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
