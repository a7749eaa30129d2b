//! Small pictures of large ones.

use crate::CodecError;
use crate::encode::check_pixels;
use image::imageops::thumbnail;
use image::{ImageBuffer, Luma, Pixel, Rgb, Rgba};

/// A scaled picture, with as many channels as its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Interleaved bytes.
    pub pixels: Vec<u8>,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// `pixels` (1, 3 or 4 channels) with no side longer than `max_size`, the aspect kept, each result the mean of what falls
/// under it. Smaller pictures stay as they are.
pub fn preview(pixels: &[u8], width: u32, height: u32, channels: u8, max_size: u32) -> Result<Preview, CodecError> {
    check_pixels(pixels, width, height, channels, &[1, 3, 4])?;
    let longer = width.max(height);
    if longer <= max_size || max_size == 0 {
        return Ok(Preview { pixels: pixels.to_vec(), width, height });
    }
    let scaled = |side: u32| {
        let exact = u64::from(side) * u64::from(max_size);
        ((exact + u64::from(longer) / 2) / u64::from(longer)).max(1) as u32
    };
    let (to_width, to_height) = (scaled(width), scaled(height));
    let pixels = match channels {
        1 => shrink::<Luma<u8>>(pixels, width, height, to_width, to_height),
        3 => shrink::<Rgb<u8>>(pixels, width, height, to_width, to_height),
        _ => shrink::<Rgba<u8>>(pixels, width, height, to_width, to_height),
    };
    Ok(Preview { pixels, width: to_width, height: to_height })
}

fn shrink<P: Pixel<Subpixel = u8> + 'static>(
    pixels: &[u8],
    width: u32,
    height: u32,
    to_width: u32,
    to_height: u32,
) -> Vec<u8> {
    // The number of bytes has been checked, so there is always a buffer.
    ImageBuffer::<P, &[u8]>::from_raw(width, height, pixels)
        .map(|image| thumbnail(&image, to_width, to_height).into_raw())
        .unwrap_or_default()
}
