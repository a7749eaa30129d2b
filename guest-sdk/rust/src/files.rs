//! Image files of the tenant. A file can be read only when its name is a text among the inputs of this very call.

pub use crate::bindings::vivarium::node::image::{Folder, SaveOptions, SavedFile};

use crate::bindings::vivarium::node::image as host;
use crate::error::Result;
use crate::media::{Image, Mask};
use crate::tensor::Tensor;

/// A decoded file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The frames that have the size of the first one, without alpha.
    pub image: Image,
    /// Where the file has transparency: 1 is opaque.
    pub alpha: Option<Mask>,
}

/// Whether there is a file of this name. Names may end in ` [input]`, ` [output]` or ` [temp]`.
#[must_use]
pub fn exists(name: &str) -> bool {
    host::exists(name)
}

/// SHA-256 of the file, as hexadecimal digits.
///
/// # Errors
/// When there is no such file, or this call may not read it.
pub fn fingerprint(name: &str) -> Result<String> {
    Ok(host::fingerprint(name)?)
}

/// Decodes a file.
///
/// # Errors
/// When there is no such file, this call may not read it, or it is no image.
pub fn load(name: &str) -> Result<Loaded> {
    Ok(host::load(name)?.into())
}

/// Decodes the content of an image file that came in another way: from a host, an input folder, scratch space.
///
/// # Errors
/// When it is no image, or too large.
pub fn decode(data: &[u8]) -> Result<Loaded> {
    Ok(host::decode(data)?.into())
}

/// Encodes one image as PNG, for example to send it somewhere. `compress_level` is 0 (fast) to 9 (small).
///
/// # Errors
/// When it is more than one image, or too large.
pub fn encode(image: &Image, compress_level: u8) -> Result<Vec<u8>> {
    Ok(host::encode(image.tensor().raw()?, compress_level)?)
}

impl From<host::Decoded> for Loaded {
    fn from(decoded: host::Decoded) -> Self {
        Self {
            image: Tensor::from_raw(decoded.pixels).into(),
            alpha: decoded.alpha.map(|alpha| Tensor::from_raw(alpha).into()),
        }
    }
}

/// Writes one PNG per image of the batch. Values outside 0..1 are clamped.
///
/// # Errors
/// When the name is not allowed or the tenant's space is used up.
pub fn save(images: &Image, options: &SaveOptions) -> Result<Vec<SavedFile>> {
    Ok(host::save(images.tensor().raw()?, options)?)
}
