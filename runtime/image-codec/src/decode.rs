//! Files to frames.

use crate::png_pixels;
use crate::probe::open_checked;
use crate::watched::{GoOn, Watched, unless_given_up};
use crate::{CodecError, DecodeLimits, Format};
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, Rgba};

/// Interleaved samples, as deep as the file has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Samples {
    /// 0 to 255.
    U8(Vec<u8>),
    /// 0 to 65 535.
    U16(Vec<u16>),
}

impl Samples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Samples::U8(samples) => samples.len(),
            Samples::U16(samples) => samples.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples as 0..1, written over the front of `out`.
    pub fn write_f32(&self, out: &mut [f32]) {
        match self {
            Samples::U8(samples) => {
                for (out, sample) in out.iter_mut().zip(samples) {
                    *out = f32::from(*sample) / 255.0;
                }
            }
            Samples::U16(samples) => {
                for (out, sample) in out.iter_mut().zip(samples) {
                    *out = f32::from(*sample) / 65_535.0;
                }
            }
        }
    }

    /// The samples as 0..1.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.write_f32(&mut out);
        out
    }

    /// The samples as 8 bits; of deeper ones the high byte.
    pub fn to_u8(&self) -> Vec<u8> {
        match self {
            Samples::U8(samples) => samples.clone(),
            Samples::U16(samples) => samples.iter().map(|sample| (sample >> 8) as u8).collect(),
        }
    }
}

/// One picture, upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height · width · 3` samples: red, green, blue. Grey is given thrice.
    pub rgb: Samples,
    /// `height · width` samples of opacity, where the file has transparency. Colours are not multiplied by it.
    pub alpha: Option<Samples>,
}

impl Frame {
    /// Red, green, blue, alpha with 8 bits each; opaque where the file has no transparency.
    pub fn to_rgba8(&self) -> Vec<u8> {
        let rgb = self.rgb.to_u8();
        let alpha = self.alpha.as_ref().map(Samples::to_u8);
        let mut out = Vec::with_capacity(rgb.len() / 3 * 4);
        for (index, [red, green, blue]) in rgb.as_chunks::<3>().0.iter().enumerate() {
            let alpha = alpha.as_ref().and_then(|alpha| alpha.get(index)).copied().unwrap_or(255);
            out.extend([*red, *green, *blue, alpha]);
        }
        out
    }

    fn bytes(&self) -> u64 {
        let deep = if matches!(self.rgb, Samples::U16(_)) { 2 } else { 1 };
        (self.rgb.len() + self.alpha.as_ref().map_or(0, Samples::len)) as u64 * deep
    }
}

/// All frames of a file, at least one, upright by its EXIF orientation. Frames of another size than the first are left
/// out, as ComfyUI does. Animations are read from GIF, WebP and PNG; of other formats the first picture.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Vec<Frame>, CodecError> {
    decode_while(bytes, limits, &|| true)
}

/// [`decode()`] that can be given up with [`CodecError::GivenUp`]. A WebP, and the computing behind the reading of a JPEG, is
/// done in one go.
pub fn decode_while(bytes: &[u8], limits: &DecodeLimits, go_on: GoOn<'_>) -> Result<Vec<Frame>, CodecError> {
    unless_given_up(go_on, frames(bytes, limits, go_on))
}

fn frames(bytes: &[u8], limits: &DecodeLimits, go_on: GoOn<'_>) -> Result<Vec<Frame>, CodecError> {
    let format = Format::guess(bytes).ok_or(CodecError::UnknownFormat)?;
    // Checks the size of the canvas for animations too.
    let still = open_checked(bytes, format, limits, go_on)?;
    let unreadable = |error: image::ImageError| CodecError::unreadable(format, error);
    let file = || Watched::new(bytes, go_on);
    match format {
        Format::Gif => {
            let mut decoder = GifDecoder::new(file()).map_err(unreadable)?;
            decoder.set_limits(limits.for_decoder()).map_err(unreadable)?;
            let mut frames = animation(decoder.into_frames(), format, limits)?;
            if frames.iter().all(is_opaque) {
                frames.iter_mut().for_each(|frame| frame.alpha = None);
            }
            Ok(frames)
        }
        Format::WebP => {
            let mut decoder = WebPDecoder::new(file()).map_err(unreadable)?;
            decoder.set_limits(limits.for_decoder()).map_err(unreadable)?;
            if !decoder.has_animation() {
                return Ok(vec![picture(bytes, still, format, go_on)?]);
            }
            // Frames that ask to be removed leave transparency behind, as in libwebp; the decoder's default is to leave them.
            decoder.set_background_color(Rgba([0; 4])).map_err(unreadable)?;
            animation(decoder.into_frames(), format, limits)
        }
        Format::Png => {
            let decoder = PngDecoder::with_limits(file(), limits.for_decoder()).map_err(unreadable)?;
            if !decoder.is_apng().map_err(unreadable)? {
                let mut frame = picture(bytes, still, format, go_on)?;
                if has_colour_key(bytes) {
                    frame.alpha = None;
                }
                return Ok(vec![frame]);
            }
            animation(decoder.apng().map_err(unreadable)?.into_frames(), format, limits)
        }
        _ => Ok(vec![picture(bytes, still, format, go_on)?]),
    }
}

/// One colour of a grey or RGB PNG may stand for transparency; ComfyUI knows that only of palettes. With an alpha channel
/// of its own or a palette, the colour type in the header is another.
fn has_colour_key(png: &[u8]) -> bool {
    const COLOUR_TYPE: usize = 25;
    const GREY: u8 = 0;
    const RGB: u8 = 2;
    matches!(png.get(COLOUR_TYPE), Some(&(GREY | RGB)))
}

/// The first frame only.
pub fn decode_first(bytes: &[u8], limits: &DecodeLimits) -> Result<Frame, CodecError> {
    let format = Format::guess(bytes).ok_or(CodecError::UnknownFormat)?;
    picture(bytes, open_checked(bytes, format, limits, &|| true)?, format, &|| true)
}

fn picture(
    bytes: &[u8],
    mut decoder: Box<dyn ImageDecoder + '_>,
    format: Format,
    go_on: GoOn<'_>,
) -> Result<Frame, CodecError> {
    // A broken orientation is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let plain = match format {
        Format::Png => png_pixels::read(bytes, decoder.dimensions(), decoder.color_type(), go_on),
        _ => None,
    };
    let mut image = match plain {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder).map_err(|error| CodecError::unreadable(format, error))?,
    };
    image.apply_orientation(orientation);
    Ok(frame(image))
}

fn animation(frames: image::Frames<'_>, format: Format, limits: &DecodeLimits) -> Result<Vec<Frame>, CodecError> {
    let mut decoded: Vec<Frame> = Vec::new();
    let mut bytes = 0u64;
    for (index, next) in frames.enumerate() {
        limits.check_frames(index + 1)?;
        let next = match next {
            Ok(next) => next,
            // A file cut short still shows its first frames.
            Err(_) if !decoded.is_empty() => break,
            Err(error) => return Err(CodecError::unreadable(format, error)),
        };
        let next = frame(DynamicImage::ImageRgba8(next.into_buffer()));
        bytes = bytes.saturating_add(next.bytes());
        limits.check_bytes(bytes)?;
        if decoded.first().is_none_or(|first| (first.width, first.height) == (next.width, next.height)) {
            decoded.push(next);
        }
    }
    if decoded.is_empty() {
        return Err(CodecError::unreadable(format, "it has no frames"));
    }
    Ok(decoded)
}

fn is_opaque(frame: &Frame) -> bool {
    match &frame.alpha {
        Some(Samples::U8(alpha)) => alpha.iter().all(|value| *value == 255),
        Some(Samples::U16(alpha)) => alpha.iter().all(|value| *value == u16::MAX),
        None => true,
    }
}

fn frame(image: DynamicImage) -> Frame {
    let (width, height) = (image.width(), image.height());
    let (rgb, alpha) = match image {
        DynamicImage::ImageRgb8(pixels) => (Samples::U8(pixels.into_raw()), None),
        DynamicImage::ImageRgba8(pixels) => {
            let (rgb, alpha) = split(pixels.as_raw());
            (Samples::U8(rgb), Some(Samples::U8(alpha)))
        }
        DynamicImage::ImageLuma8(pixels) => (Samples::U8(thrice(pixels.as_raw())), None),
        DynamicImage::ImageLumaA8(pixels) => {
            let (grey, alpha) = split_grey(pixels.as_raw());
            (Samples::U8(thrice(&grey)), Some(Samples::U8(alpha)))
        }
        DynamicImage::ImageLuma16(pixels) => (Samples::U16(thrice(pixels.as_raw())), None),
        DynamicImage::ImageLumaA16(pixels) => {
            let (grey, alpha) = split_grey(pixels.as_raw());
            (Samples::U16(thrice(&grey)), Some(Samples::U16(alpha)))
        }
        DynamicImage::ImageRgb16(pixels) => (Samples::U16(pixels.into_raw()), None),
        // 16 bits hold whatever else there is: RGBA16 as it is, floats rounded.
        other if other.color().has_alpha() => {
            let (rgb, alpha) = split(other.into_rgba16().as_raw());
            (Samples::U16(rgb), Some(Samples::U16(alpha)))
        }
        other => (Samples::U16(other.into_rgb16().into_raw()), None),
    };
    Frame { width, height, rgb, alpha }
}

fn split<T: Copy>(rgba: &[T]) -> (Vec<T>, Vec<T>) {
    let pixels = rgba.as_chunks::<4>().0;
    let rgb = pixels.iter().flat_map(|[red, green, blue, _]| [*red, *green, *blue]).collect();
    (rgb, pixels.iter().map(|[_, _, _, alpha]| *alpha).collect())
}

fn split_grey<T: Copy>(samples: &[T]) -> (Vec<T>, Vec<T>) {
    samples.as_chunks::<2>().0.iter().map(|[grey, alpha]| (*grey, *alpha)).unzip()
}

fn thrice<T: Copy>(grey: &[T]) -> Vec<T> {
    grey.iter().flat_map(|value| [*value; 3]).collect()
}
