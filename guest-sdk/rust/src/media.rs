//! ComfyUI's pixel types: tensors whose dimensions have a meaning.

use std::ops::Deref;

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::input::ValueType;
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

impl Latent {
    /// All zeros, as ComfyUI's EmptyLatentImage makes them for pictures of `width` × `height` pixels: 4 channels, an eighth
    /// of the size.
    #[must_use]
    pub fn empty(batch: u64, height: u64, width: u64) -> Self {
        Tensor::zeros([batch, 4, height / 8, width / 8], Dtype::Float32).into()
    }

    /// The part that a sampler may change, if only a part: 1 is what changes.
    ///
    /// # Errors
    /// When the entry is no mask.
    pub fn noise_mask(&self) -> Result<Option<Mask>> {
        self.other.get("noise_mask").cloned().map(Mask::from_value).transpose()
    }

    /// The same latent with such a part.
    #[must_use]
    pub fn with_noise_mask(mut self, mask: Mask) -> Self {
        self.other.insert("noise_mask".to_owned(), mask.0.into());
        self
    }
}

/// CONDITIONING: what a prompt became. ComfyUI keeps it as a list of parts.
#[derive(Clone, Debug, Default)]
pub struct Conditioning {
    /// Usually one.
    pub parts: Vec<ConditioningPart>,
}

/// One part of a [`Conditioning`].
#[derive(Clone, Debug)]
pub struct ConditioningPart {
    /// [batch, tokens, channels].
    pub embedding: Tensor,
    /// `pooled_output`, `area`, `strength`, `mask` and whatever else nodes put into it. A node passes on what it does not
    /// know.
    pub options: IndexMap<String, Value>,
}

impl Conditioning {
    /// The same with an option of every part set, as nodes such as ConditioningSetArea do.
    ///
    /// # Errors
    /// When there is no value, for example for a failed tensor.
    pub fn with_option(mut self, name: &str, value: impl ValueType + Clone) -> Result<Self> {
        for part in &mut self.parts {
            part.options.insert(name.to_owned(), value.clone().into_value()?);
        }
        Ok(self)
    }
}

impl From<Tensor> for Conditioning {
    fn from(embedding: Tensor) -> Self {
        Self { parts: vec![ConditioningPart { embedding, options: IndexMap::new() }] }
    }
}

/// AUDIO: sound as ComfyUI's audio nodes hand it on.
#[derive(Clone, Debug)]
pub struct Audio {
    /// [batch, channels, samples], float32 from -1 to 1.
    pub waveform: Tensor,
    /// Samples per second.
    pub sample_rate: u32,
    /// Whatever else nodes put into the dictionary.
    pub other: IndexMap<String, Value>,
}

impl Audio {
    /// Sound of a rate.
    #[must_use]
    pub fn new(waveform: Tensor, sample_rate: u32) -> Self {
        Self { waveform, sample_rate, other: IndexMap::new() }
    }

    /// How long it is.
    ///
    /// # Errors
    /// When the waveform has no dimensions, or failed before.
    pub fn seconds(&self) -> Result<f64> {
        Ok(self.waveform.size(-1)? as f64 / f64::from(self.sample_rate.max(1)))
    }
}

impl From<Tensor> for Latent {
    fn from(samples: Tensor) -> Self {
        Self { samples, other: IndexMap::new() }
    }
}
