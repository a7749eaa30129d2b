//! `/upload/mask`: a new alpha channel for an image that is there already.

use crate::encode::encode_png_with_chunks;
use crate::text::raw_text_chunks;
use crate::{CodecError, DecodeLimits, Format, decode_first};

/// Compression of what ComfyUI saves.
const COMPRESS_LEVEL: u8 = 4;

/// A PNG of the colours of `original` with the alpha channel of `mask_upload` (opaque where that has none). Text chunks
/// of a PNG original are kept as they are. Both must have the same size.
pub fn replace_alpha(original: &[u8], mask_upload: &[u8], limits: &DecodeLimits) -> Result<Vec<u8>, CodecError> {
    let image = decode_first(original, limits)?;
    let mask = decode_first(mask_upload, limits)?;
    if (image.width, image.height) != (mask.width, mask.height) {
        let message =
            format!("is {}×{}, but the original is {}×{}", mask.width, mask.height, image.width, image.height);
        return Err(CodecError::argument("the mask", message));
    }
    let (width, height) = (image.width, image.height);
    let pixels = crate::Frame { alpha: mask.alpha, ..image }.to_rgba8();
    let texts = if Format::guess(original) == Some(Format::Png) { raw_text_chunks(original) } else { Vec::new() };
    encode_png_with_chunks(&pixels, width, height, 4, COMPRESS_LEVEL, &texts, &|| true)
}
