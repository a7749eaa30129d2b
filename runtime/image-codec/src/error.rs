//! Why a file or a request was refused.

use crate::Format;

/// Why a file or a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The first bytes are those of no format that is read here.
    #[error("this is not an image file of a known format (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM)")]
    UnknownFormat,
    /// The file is damaged, or uses a feature that is not supported.
    #[error("the {format} file cannot be read: {message}")]
    Unreadable {
        /// What the file claims to be.
        format: Format,
        /// The decoder's words.
        message: String,
    },
    /// The file is larger than allowed; known from its header, before decoding.
    #[error("the image's {what} is {value}, more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Whoever wanted it does so no more.
    #[error("the image was given up half-way")]
    GivenUp,
    /// An argument of an encoder is wrong.
    #[error("{argument} {message}")]
    Argument {
        /// Its name.
        argument: &'static str,
        /// What is wrong, written to follow the name.
        message: String,
    },
    /// An encoder failed.
    #[error("the {format} file cannot be written: {message}")]
    Unwritable {
        /// What was to be written.
        format: Format,
        /// The encoder's words.
        message: String,
    },
}

impl CodecError {
    pub(crate) fn argument(argument: &'static str, message: impl Into<String>) -> Self {
        CodecError::Argument { argument, message: message.into() }
    }

    pub(crate) fn unreadable(format: Format, error: impl std::fmt::Display) -> Self {
        CodecError::Unreadable { format, message: error.to_string() }
    }

    pub(crate) fn unwritable(format: Format, error: impl std::fmt::Display) -> Self {
        CodecError::Unwritable { format, message: error.to_string() }
    }
}
