//! What a file is, from its header.

use crate::watched::{GoOn, Watched};
use crate::{CodecError, DecodeLimits};
use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, ImageReader};
use std::fmt;
use std::io::{BufRead, Cursor, Seek};

/// A format that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum Format {
    Png,
    Jpeg,
    WebP,
    Gif,
    Bmp,
    Tiff,
    Pnm,
}

impl Format {
    /// From the first bytes of a file.
    pub fn guess(bytes: &[u8]) -> Option<Format> {
        Some(match image::guess_format(bytes).ok()? {
            ImageFormat::Png => Format::Png,
            ImageFormat::Jpeg => Format::Jpeg,
            ImageFormat::WebP => Format::WebP,
            ImageFormat::Gif => Format::Gif,
            ImageFormat::Bmp => Format::Bmp,
            ImageFormat::Tiff => Format::Tiff,
            ImageFormat::Pnm => Format::Pnm,
            _ => return None,
        })
    }

    /// The MIME type, e.g. `image/png`.
    pub fn mime(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::WebP => "image/webp",
            Format::Gif => "image/gif",
            Format::Bmp => "image/bmp",
            Format::Tiff => "image/tiff",
            Format::Pnm => "image/x-portable-anymap",
        }
    }

    pub(crate) fn for_decoder(self) -> ImageFormat {
        match self {
            Format::Png => ImageFormat::Png,
            Format::Jpeg => ImageFormat::Jpeg,
            Format::WebP => ImageFormat::WebP,
            Format::Gif => ImageFormat::Gif,
            Format::Bmp => ImageFormat::Bmp,
            Format::Tiff => ImageFormat::Tiff,
            Format::Pnm => ImageFormat::Pnm,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
            Format::Pnm => "PNM",
        })
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// The format, by content and not by name.
    pub format: Format,
    /// Pixels in a row, as displayed (EXIF orientation applied).
    pub width: u32,
    /// Rows, as displayed.
    pub height: u32,
    /// True when the file has an alpha channel or transparent colours.
    pub has_alpha: bool,
    /// True when samples have more than 8 bits.
    pub is_deep: bool,
}

/// Reads the header only. The size is not held against any limit.
pub fn probe(bytes: &[u8]) -> Result<ImageInfo, CodecError> {
    let format = Format::guess(bytes).ok_or(CodecError::UnknownFormat)?;
    let mut decoder = open(Cursor::new(bytes), format, image::Limits::no_limits())?;
    let (width, height) = decoder.dimensions();
    let turned = matches!(
        decoder.orientation().unwrap_or(Orientation::NoTransforms),
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if turned { (height, width) } else { (width, height) };
    let color = decoder.color_type();
    let is_deep = color.bytes_per_pixel() > color.channel_count();
    Ok(ImageInfo { format, width, height, has_alpha: color.has_alpha(), is_deep })
}

/// Memory that reading a header may take: profiles and metadata are kept compressed in files.
const HEADER_BYTES: u64 = 64 << 20;

/// A decoder whose size has been held against the limits.
pub(crate) fn open_checked<'a>(
    bytes: &'a [u8],
    format: Format,
    limits: &DecodeLimits,
    go_on: GoOn<'a>,
) -> Result<Box<dyn ImageDecoder + 'a>, CodecError> {
    if let Some((width, height)) = png_size(bytes).filter(|_| format == Format::Png) {
        // Before the decoder makes room for a row.
        limits.check_size(width, height)?;
    }
    let decoder = open(Watched::new(bytes, go_on), format, limits.for_decoder())?;
    let (width, height) = decoder.dimensions();
    limits.check_size(width, height)?;
    limits.check_bytes(decoder.total_bytes())?;
    Ok(decoder)
}

/// Width and height as the first chunk of a PNG file gives them.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    const PLACE: usize = 16;
    let (width, rest) = bytes.get(PLACE..)?.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*rest.first_chunk()?)))
}

fn open<'a>(
    file: impl BufRead + Seek + 'a,
    format: Format,
    limits: image::Limits,
) -> Result<Box<dyn ImageDecoder + 'a>, CodecError> {
    let unreadable = |error: image::ImageError| CodecError::unreadable(format, error);
    if format == Format::Png {
        // Through `ImageReader`, one limit would be for the header and for the whole picture, so an oversized picture would
        // be refused with words about memory.
        let mut header = image::Limits::no_limits();
        header.max_alloc = Some(HEADER_BYTES);
        return Ok(Box::new(PngDecoder::with_limits(file, header).map_err(unreadable)?));
    }
    let mut reader = ImageReader::with_format(file, format.for_decoder());
    reader.limits(limits);
    Ok(Box::new(reader.into_decoder().map_err(unreadable)?))
}
