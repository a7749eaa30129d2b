//! `/view`: a file as it is, recompressed for a quick look, or one of its channels.

use crate::{CodecError, DecodeLimits, WebpQuality, decode_first, encode_jpeg, encode_png, encode_webp};

/// Compression of PNG answers: they are made for one look.
const COMPRESS_LEVEL: u8 = 1;
const DEFAULT_QUALITY: u8 = 90;
/// The longest side of a WebP file.
const WEBP_SIDE: u32 = 16_383;

/// What a preview is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewFormat {
    /// `image/webp`
    WebP,
    /// `image/jpeg`
    Jpeg,
}

/// What is asked of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewRequest {
    /// The file as it is.
    Raw,
    /// A recompressed picture.
    Preview {
        /// Encoded as.
        format: PreviewFormat,
        /// 0 to 100.
        quality: u8,
        /// Alpha is dropped.
        opaque: bool,
    },
    /// A PNG without alpha.
    Rgb,
    /// A PNG, black, with the alpha of the image (opaque if it has none).
    Alpha,
}

impl ViewRequest {
    /// From the query of `/view`: `preview=format;quality` goes before `channel`. Unknown formats mean WebP, a missing or
    /// odd quality 90; a channel with an `a` in its name forces WebP.
    pub fn parse(channel: Option<&str>, preview: Option<&str>) -> ViewRequest {
        let Some(preview) = preview else {
            return match channel {
                Some("rgb") => ViewRequest::Rgb,
                Some("a") => ViewRequest::Alpha,
                _ => ViewRequest::Raw,
            };
        };
        let jpeg = preview.split(';').next() == Some("jpeg") && !channel.is_some_and(|name| name.contains('a'));
        let quality = preview.rsplit(';').next().and_then(|text| text.parse::<u64>().ok());
        ViewRequest::Preview {
            format: if jpeg { PreviewFormat::Jpeg } else { PreviewFormat::WebP },
            quality: quality.map_or(DEFAULT_QUALITY, |quality| quality.min(100) as u8),
            opaque: jpeg || channel == Some("rgb"),
        }
    }
}

/// An encoded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewed {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its content type.
    pub mime: &'static str,
}

/// The image as asked for, or `None` when the file shall be served as it is. Only the first frame is shown, upright.
/// A picture that is too long for WebP is answered as JPEG without, as PNG with alpha.
pub fn transcode_for_view(
    bytes: &[u8],
    request: ViewRequest,
    limits: &DecodeLimits,
) -> Result<Option<Viewed>, CodecError> {
    if request == ViewRequest::Raw {
        return Ok(None);
    }
    let frame = decode_first(bytes, limits)?;
    let (width, height) = (frame.width, frame.height);
    let png = |pixels: &[u8], channels| {
        let bytes = encode_png(pixels, width, height, channels, COMPRESS_LEVEL, &[])?;
        Ok(Some(Viewed { bytes, mime: "image/png" }))
    };
    match request {
        ViewRequest::Raw => Ok(None),
        ViewRequest::Rgb => png(&frame.rgb.to_u8(), 3),
        ViewRequest::Alpha => {
            let mut pixels = frame.to_rgba8();
            pixels
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .for_each(|[red, green, blue, _]| (*red, *green, *blue) = (0, 0, 0));
            png(&pixels, 4)
        }
        ViewRequest::Preview { format, quality, opaque } => {
            let (pixels, channels) =
                if opaque || frame.alpha.is_none() { (frame.rgb.to_u8(), 3) } else { (frame.to_rgba8(), 4) };
            let fits = width.max(height) <= WEBP_SIDE;
            if format == PreviewFormat::WebP && fits {
                let bytes = encode_webp(&pixels, width, height, channels, WebpQuality::Lossy(quality))?;
                return Ok(Some(Viewed { bytes, mime: "image/webp" }));
            }
            if channels == 4 {
                return png(&pixels, 4);
            }
            let bytes = encode_jpeg(&pixels, width, height, channels, quality)?;
            Ok(Some(Viewed { bytes, mime: "image/jpeg" }))
        }
    }
}
