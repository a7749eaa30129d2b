//! Pillow's Lanczos filter on 8 bits, done by `fast_image_resize`, which computes the same coefficients.

use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Height and width.
type Size = (usize, usize);

/// Resizes images of interleaved channels, one after the other.
pub(crate) fn lanczos(
    op: &'static str,
    input: &Input<'_>,
    from: Size,
    to: Size,
    channels: usize,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (source, target) = (from.0 * from.1 * channels, to.0 * to.1 * channels);
    let mut bytes = vec![0u8; source];
    for (index, image) in out.chunks_exact_mut(target).enumerate() {
        let start = index * source;
        fill_rows(op, &mut bytes, from.1 * channels, 1, cx, &|first, rows| {
            let mut scratch = vec![0.0f32; rows.len()];
            let values = input.block(start + first * from.1 * channels, rows.len(), &mut scratch);
            for (byte, value) in rows.iter_mut().zip(values) {
                *byte = (255.0 * *value) as u8;
            }
        })?;
        let resized = resize_channels(op, &mut bytes, from, to, channels)?;
        fill_rows(op, image, to.1 * channels, 1, cx, &|first, rows| {
            let bytes = &resized[first * to.1 * channels..];
            for (value, byte) in rows.iter_mut().zip(bytes) {
                *value = f32::from(*byte) / 255.0;
            }
        })?;
    }
    Ok(())
}

/// Up to four channels are one picture, as in Pillow; more are resized each alone.
fn resize_channels(
    op: &'static str,
    bytes: &mut [u8],
    from: Size,
    to: Size,
    channels: usize,
) -> Result<Vec<u8>, TensorError> {
    if from == to {
        return Ok(bytes.to_vec());
    }
    match channels {
        1 => resize(op, bytes, from, to, PixelType::U8),
        3 => resize(op, bytes, from, to, PixelType::U8x3),
        2 | 4 => {
            let pixel = if channels == 2 { PixelType::U8x2 } else { PixelType::U8x4 };
            bytes.chunks_exact_mut(channels).for_each(multiply_alpha);
            let mut resized = resize(op, bytes, from, to, pixel)?;
            resized.chunks_exact_mut(channels).for_each(divide_alpha);
            Ok(resized)
        }
        _ => {
            let mut result = vec![0u8; to.0 * to.1 * channels];
            for channel in 0..channels {
                let plane: Vec<u8> = bytes.iter().skip(channel).step_by(channels).copied().collect();
                let resized = resize(op, &plane, from, to, PixelType::U8)?;
                for (target, value) in result.iter_mut().skip(channel).step_by(channels).zip(resized) {
                    *target = value;
                }
            }
            Ok(result)
        }
    }
}

fn resize(op: &'static str, bytes: &[u8], from: Size, to: Size, pixel: PixelType) -> Result<Vec<u8>, TensorError> {
    let refused =
        |error: &dyn std::fmt::Display| TensorError::argument(op, "self", format!("cannot be resized: {error}"));
    let source = ImageRef::new(from.1 as u32, from.0 as u32, bytes, pixel).map_err(|error| refused(&error))?;
    let mut target = Image::new(to.1 as u32, to.0 as u32, pixel);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| refused(&error))?;
    Ok(target.into_vec())
}

/// Colours times alpha, rounded.
fn multiply_alpha(pixel: &mut [u8]) {
    if let Some((alpha, colours)) = pixel.split_last_mut() {
        for colour in colours {
            let product = u32::from(*colour) * u32::from(*alpha) + 128;
            *colour = ((product + (product >> 8)) >> 8) as u8;
        }
    }
}

/// Colours divided by alpha, truncated; left alone where alpha is 0 or full.
fn divide_alpha(pixel: &mut [u8]) {
    if let Some((alpha, colours)) = pixel.split_last_mut()
        && !matches!(*alpha, 0 | 255)
    {
        for colour in colours {
            *colour = (255 * u32::from(*colour) / u32::from(*alpha)).min(255) as u8;
        }
    }
}
