//! ComfyUI's pixel types: tensors whose dimensions have a meaning.

use std::ops::Deref;

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::tensor::{Dtype, InterpolateMode, Tensor};
use crate::value::Value;

macro_rules! pixels {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Tensor);

        impl Deref for $name {
            type Target = Tensor;
            fn deref(&self) -> &Tensor {
                &self.0
            }
        }

        impl AsRef<Tensor> for $name {
            fn as_ref(&self) -> &Tensor {
                &self.0
            }
        }

        impl From<Tensor> for $name {
            fn from(tensor: Tensor) -> Self {
                Self(tensor)
            }
        }

        impl From<$name> for Tensor {
            fn from(pixels: $name) -> Self {
                pixels.0
            }
        }

        impl $name {
            /// The tensor itself.
            #[must_use]
            pub fn tensor(&self) -> &Tensor {
                &self.0
            }

            /// The pixels, or the error of the operation that failed.
            ///
            /// # Errors
            /// The first error on the way to this tensor.
            pub fn check(self) -> Result<Self> {
                self.0.check().map(Self)
            }
        }
    };
}

pixels! {
    /// IMAGE: [batch, height, width, channels], float32 from 0 to 1.
    Image
}

pixels! {
    /// MASK: [batch, height, width], float32; 1 is what is masked.
    Mask
}

/// The lengths of an image's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    /// Number of images.
    pub batch: u64,
    /// In pixels.
    pub height: u64,
    /// In pixels.
    pub width: u64,
    /// 3 for RGB, 4 with alpha.
    pub channels: u64,
}

impl Image {
    /// Images of one colour, red, green and blue from 0 to 1.
    #[must_use]
    pub fn filled(batch: u64, height: u64, width: u64, rgb: [f32; 3]) -> Self {
        let lengths = [batch, height, width, 3].map(|length| i64::try_from(length).unwrap_or(i64::MAX));
        Self(Tensor::from_f32([1, 1, 1, 3], &rgb).expand(lengths).contiguous())
    }

    /// The lengths of its dimensions.
    ///
    /// # Errors
    /// When the tensor has no four dimensions, or failed before.
    pub fn size(&self) -> Result<ImageSize> {
        match self.0.shape()?[..] {
            [batch, height, width, channels] => Ok(ImageSize { batch, height, width, channels }),
            ref shape => Err(Error::invalid(format!(
                "an IMAGE has the dimensions [batch, height, width, channels], got {shape:?}"
            ))),
        }
    }

    /// In another size.
    #[must_use]
    pub fn resize(&self, width: u64, height: u64, mode: InterpolateMode) -> Self {
        Self(self.0.channels_first().interpolate(height, width, mode).channels_last())
    }

    /// Number `index` of the batch, as a batch of one.
    #[must_use]
    pub fn at(&self, index: u64) -> Self {
        let index = i64::try_from(index).unwrap_or(i64::MAX - 1);
        Self(self.0.slice(0, index, index + 1))
    }
}

impl Mask {
    /// Masks that mask nothing.
    #[must_use]
    pub fn empty(batch: u64, height: u64, width: u64) -> Self {
        Self(Tensor::zeros([batch, height, width], Dtype::Float32))
    }
}

/// LATENT: a dictionary with `samples` [batch, channels, height/8, width/8] and whatever else nodes put into it.
#[derive(Clone, Debug)]
pub struct Latent {
    /// The latent pictures.
    pub samples: Tensor,
    /// The other entries, such as `noise_mask` and `batch_index`. A node passes on what it does not know.
    pub other: IndexMap<String, Value>,
}

impl From<Tensor> for Latent {
    fn from(samples: Tensor) -> Self {
        Self { samples, other: IndexMap::new() }
    }
}
