//! Pixels to files.

use crate::png_data;
use crate::text::{RawChunk, text_chunk};
use crate::watched::GoOn;
use crate::{CodecError, Format};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::borrow::Cow;

/// How WebP compresses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WebpQuality {
    /// Every pixel is kept.
    Lossless,
    /// 0 (small) to 100 (good).
    Lossy(u8),
}

/// A PNG file of `width · height` pixels of 1 (grey), 3 (RGB) or 4 (RGBA) bytes. `compress_level` is 0 (fast) to 9
/// (small). Texts stand before the pixels: tEXt where Latin-1 suffices, else iTXt.
pub fn encode_png(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: u8,
    compress_level: u8,
    text: &[(String, String)],
) -> Result<Vec<u8>, CodecError> {
    encode_png_while(pixels, width, height, channels, compress_level, text, &|| true)
}

/// [`encode_png`] that can be given up with [`CodecError::GivenUp`].
pub fn encode_png_while(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: u8,
    compress_level: u8,
    text: &[(String, String)],
    go_on: GoOn<'_>,
) -> Result<Vec<u8>, CodecError> {
    let chunks: Vec<RawChunk> =
        text.iter().map(|(keyword, text)| text_chunk(keyword, text)).collect::<Result<_, _>>()?;
    encode_png_with_chunks(pixels, width, height, channels, compress_level, &chunks, go_on)
}

pub(crate) fn encode_png_with_chunks(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: u8,
    compress_level: u8,
    chunks: &[RawChunk],
    go_on: GoOn<'_>,
) -> Result<Vec<u8>, CodecError> {
    check_pixels(pixels, width, height, channels, &[1, 3, 4])?;
    if compress_level > 9 {
        return Err(CodecError::argument("compress_level", format!("is {compress_level}; 0 to 9 will do")));
    }
    let unwritable = |error: png::EncodingError| CodecError::unwritable(Format::Png, error);
    let texts: usize = chunks.iter().map(|chunk| chunk.data.len() + 12).sum();
    let mut out = Vec::with_capacity(pixels.len() / 2 + texts + 1024);
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(match channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(unwritable)?;
    for chunk in chunks {
        writer.write_chunk(chunk.kind, &chunk.data).map_err(unwritable)?;
    }
    let step = usize::from(channels);
    for part in png_data::compressed(pixels, width as usize * step, step, compress_level, go_on)? {
        writer.write_chunk(png::chunk::IDAT, &part).map_err(unwritable)?;
    }
    writer.finish().map_err(unwritable)?;
    Ok(out)
}

/// A JPEG file of `width · height` pixels of 1 (grey), 3 (RGB) or 4 bytes, of which alpha is dropped. `quality` is 1 to 100.
pub fn encode_jpeg(pixels: &[u8], width: u32, height: u32, channels: u8, quality: u8) -> Result<Vec<u8>, CodecError> {
    check_pixels(pixels, width, height, channels, &[1, 3, 4])?;
    check_side(Format::Jpeg, width, height, 65_535)?;
    let (pixels, color) = match channels {
        1 => (Cow::Borrowed(pixels), ExtendedColorType::L8),
        3 => (Cow::Borrowed(pixels), ExtendedColorType::Rgb8),
        _ => (Cow::Owned(without_alpha(pixels)), ExtendedColorType::Rgb8),
    };
    let mut out = Vec::with_capacity(pixels.len() / 8 + 1024);
    let encoder = JpegEncoder::new_with_quality(&mut out, quality.clamp(1, 100));
    let written = encoder.write_image(&pixels, width, height, color);
    written.map_err(|error| CodecError::unwritable(Format::Jpeg, error))?;
    Ok(out)
}

/// A WebP file of `width · height` pixels of 3 (RGB) or 4 (RGBA) bytes; neither side longer than 16 383.
pub fn encode_webp(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: u8,
    quality: WebpQuality,
) -> Result<Vec<u8>, CodecError> {
    check_pixels(pixels, width, height, channels, &[3, 4])?;
    check_side(Format::WebP, width, height, 16_383)?;
    let encoder = match channels {
        3 => webp::Encoder::from_rgb(pixels, width, height),
        _ => webp::Encoder::from_rgba(pixels, width, height),
    };
    let (lossless, quality) = match quality {
        WebpQuality::Lossless => (true, 75.0),
        WebpQuality::Lossy(quality) => (false, f32::from(quality.min(100))),
    };
    let written = encoder.encode_simple(lossless, quality);
    written.map(|memory| memory.to_vec()).map_err(|error| CodecError::unwritable(Format::WebP, format!("{error:?}")))
}

pub(crate) fn without_alpha(rgba: &[u8]) -> Vec<u8> {
    rgba.as_chunks::<4>().0.iter().flat_map(|[red, green, blue, _]| [*red, *green, *blue]).collect()
}

pub(crate) fn check_pixels(
    pixels: &[u8],
    width: u32,
    height: u32,
    channels: u8,
    allowed: &[u8],
) -> Result<(), CodecError> {
    if !allowed.contains(&channels) {
        return Err(CodecError::argument("channels", format!("is {channels}; {allowed:?} will do")));
    }
    if width == 0 || height == 0 {
        return Err(CodecError::argument("width", format!("or height is zero: {width}×{height}")));
    }
    let wanted = u64::from(width) * u64::from(height) * u64::from(channels);
    if pixels.len() as u64 != wanted {
        let message = format!("have {} bytes, but {width}×{height} of {channels} channels take {wanted}", pixels.len());
        return Err(CodecError::argument("pixels", message));
    }
    Ok(())
}

fn check_side(format: Format, width: u32, height: u32, limit: u32) -> Result<(), CodecError> {
    let longer = width.max(height);
    if longer > limit {
        let message = format!("{width}×{height} is more than its {limit} pixels along a side; use PNG");
        return Err(CodecError::Unwritable { format, message });
    }
    Ok(())
}
