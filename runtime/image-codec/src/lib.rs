//! Image files to pixels and back, for files that nobody trusts.
//!
//! Sizes are read from the header and held against [`DecodeLimits`] before anything is decoded. A damaged or oversized
//! file gives a [`CodecError`] that says what is wrong; nothing panics. Pixels are interleaved rows, top to bottom.
//!
//! Not here: files and folders, names, tensors, colour management (as in ComfyUI, embedded profiles are ignored).
//!
//! # Layout
//! - `limits`, `error`: what is refused, and how it is told
//! - `probe`, `decode`: what a file is; its frames
//! - `png_pixels`: the pixels of large plain PNG files, by two threads
//! - `encode`, `png_data`, `text`: PNG, JPEG, WebP; the compressed pixels and the text chunks of a PNG
//! - `view`, `mask`, `scale`: what `/view`, `/upload/mask` and progress previews need
//! - `watched`: giving up half-way

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod error;
mod limits;
mod mask;
mod png_data;
mod png_pixels;
mod probe;
mod scale;
mod text;
mod view;
mod watched;

pub use decode::{Frame, Samples, decode, decode_first, decode_while};
pub use encode::{WebpQuality, encode_jpeg, encode_png, encode_png_while, encode_webp};
pub use error::CodecError;
pub use limits::DecodeLimits;
pub use mask::replace_alpha;
pub use probe::{Format, ImageInfo, probe};
pub use scale::{Preview, preview};
pub use text::png_text;
pub use view::{PreviewFormat, ViewRequest, Viewed, transcode_for_view};
pub use watched::GoOn;
