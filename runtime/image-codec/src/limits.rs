//! How large an image may be.

use crate::CodecError;

/// How large an image may be. Checked against the header, before anything is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Pixels in a row. Default 65 535.
    pub max_width: u32,
    /// Rows. Default 65 535.
    pub max_height: u32,
    /// Pixels of one frame. Default 178 956 970, above which Pillow speaks of a decompression bomb.
    pub max_pixels: u64,
    /// Frames of an animation. Default 4 096.
    pub max_frames: usize,
    /// Bytes of all decoded frames together, and of what a decoder needs meanwhile. Default 2 GiB.
    pub max_bytes: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits {
            max_width: 65_535,
            max_height: 65_535,
            max_pixels: 178_956_970,
            max_frames: 4_096,
            max_bytes: 2 << 30,
        }
    }
}

impl DecodeLimits {
    pub(crate) fn check_size(&self, width: u32, height: u32) -> Result<(), CodecError> {
        check("width", width.into(), self.max_width.into())?;
        check("height", height.into(), self.max_height.into())?;
        check("number of pixels", u64::from(width) * u64::from(height), self.max_pixels)
    }

    pub(crate) fn check_bytes(&self, bytes: u64) -> Result<(), CodecError> {
        check("size in memory, in bytes,", bytes, self.max_bytes)
    }

    pub(crate) fn check_frames(&self, frames: usize) -> Result<(), CodecError> {
        check("number of frames", frames as u64, self.max_frames as u64)
    }

    /// Memory for a decoder's own use. Sizes are checked here, with a message that names the limit.
    pub(crate) fn for_decoder(&self) -> image::Limits {
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(self.max_bytes);
        limits
    }
}

fn check(what: &'static str, value: u64, limit: u64) -> Result<(), CodecError> {
    if value <= limit { Ok(()) } else { Err(CodecError::TooLarge { what, value, limit }) }
}
