//! Pictures.

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use crate::{Tensor, program};

/// An IMAGE: [batch, height, width, channels], numbers from 0 to 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Tensor", try_from = "Tensor")]
pub struct Image {
    tensor: Tensor,
    /// Once somebody looks.
    numbers: OnceLock<Arc<[f32]>>,
    /// Batch, height, width, channels.
    lengths: [usize; 4],
}

/// A MASK: [batch, height, width], numbers from 0 to 1.
#[derive(Clone, Debug)]
pub struct Mask {
    tensor: Tensor,
    /// Once somebody looks.
    numbers: OnceLock<Arc<[f32]>>,
    /// Batch, height, width.
    lengths: [usize; 3],
}

fn lengths<const N: usize>(tensor: &Tensor, what: &str) -> Result<[usize; N], String> {
    let shape: Vec<usize> = tensor.shape().into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect();
    shape.try_into().map_err(|shape| format!("{what}, got {shape:?}"))
}

impl From<Image> for Tensor {
    fn from(image: Image) -> Self {
        image.tensor
    }
}

impl TryFrom<Tensor> for Image {
    type Error = String;

    fn try_from(tensor: Tensor) -> Result<Self, String> {
        let lengths = lengths(&tensor, "an IMAGE is [batch, height, width, channels]")?;
        Ok(Self { tensor, numbers: OnceLock::new(), lengths })
    }
}

impl Image {
    /// One picture of one colour: red, green and blue from 0 to 1.
    #[must_use]
    pub fn filled(width: usize, height: usize, rgb: [f32; 3]) -> Self {
        Self::from_fn(width, height, |_, _| rgb)
    }

    /// One picture, pixel by pixel: `rgb` is asked for the colour at x and y.
    #[must_use]
    pub fn from_fn(width: usize, height: usize, mut rgb: impl FnMut(usize, usize) -> [f32; 3]) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let numbers: Vec<f32> = places.flat_map(|(x, y)| rgb(x, y)).collect();
        Self::of(Tensor::new([1, height as u64, width as u64, 3], numbers))
    }

    /// The first picture of a file, without its transparency.
    ///
    /// # Panics
    /// When it can't be read.
    #[must_use]
    #[track_caller]
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
        match program::decode(bytes) {
            Ok(pixels) => Self::of(pixels),
            Err(error) => panic!("could not read {}: {error}", path.display()),
        }
    }

    /// Several pictures of one size as one IMAGE.
    ///
    /// # Panics
    /// When there is none, or their sizes differ.
    #[must_use]
    #[track_caller]
    pub fn batch_of(images: &[Image]) -> Self {
        let Some(first) = images.first() else { panic!("a batch needs at least one picture") };
        let [_, height, width, channels] = first.lengths;
        let alike = images.iter().all(|image| image.lengths[1..] == first.lengths[1..]);
        assert!(alike, "the pictures of a batch have one size");
        let batch: usize = images.iter().map(Self::batch).sum();
        let numbers: Vec<f32> = images.iter().flat_map(|image| image.numbers().iter().copied()).collect();
        Self::of(Tensor::new([batch, height, width, channels].map(|length| length as u64), numbers))
    }

    /// A tensor as an IMAGE.
    ///
    /// # Panics
    /// When it has no four dimensions.
    #[must_use]
    #[track_caller]
    pub fn of(tensor: Tensor) -> Self {
        match Self::try_from(tensor) {
            Ok(image) => image,
            Err(message) => panic!("{message}"),
        }
    }

    /// How many pictures.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.lengths[0]
    }

    /// In pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.lengths[1]
    }

    /// In pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.lengths[2]
    }

    /// 3, or 4 with alpha.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.lengths[3]
    }

    /// Red, green and blue of a pixel of the first picture.
    ///
    /// # Panics
    /// When it is outside.
    #[must_use]
    #[track_caller]
    pub fn pixel(&self, x: usize, y: usize) -> [f32; 3] {
        self.pixel_of(0, x, y)
    }

    /// Red, green and blue of a pixel of picture number `index`.
    ///
    /// # Panics
    /// When it is outside.
    #[must_use]
    #[track_caller]
    pub fn pixel_of(&self, index: usize, x: usize, y: usize) -> [f32; 3] {
        let [batch, height, width, channels] = self.lengths;
        assert!(
            index < batch && x < width && y < height,
            "no pixel ({x}, {y}) in picture {index} of {batch} of {width}×{height}"
        );
        let start = ((index * height + y) * width + x) * channels;
        let numbers = self.numbers();
        let channel = |number: usize| numbers[start + number.min(channels - 1)];
        [channel(0), channel(1), channel(2)]
    }

    #[track_caller]
    fn numbers(&self) -> &[f32] {
        self.numbers.get_or_init(|| self.tensor.numbers().into())
    }

    /// The tensor itself.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
}

impl Mask {
    /// One mask with one number everywhere.
    #[must_use]
    pub fn filled(width: usize, height: usize, number: f32) -> Self {
        Self::from_fn(width, height, |_, _| number)
    }

    /// One mask: `number` is asked for the number at x and y.
    #[must_use]
    pub fn from_fn(width: usize, height: usize, mut number: impl FnMut(usize, usize) -> f32) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let numbers: Vec<f32> = places.map(|(x, y)| number(x, y)).collect();
        Self::of(Tensor::new([1, height as u64, width as u64], numbers))
    }

    /// A tensor as a MASK.
    ///
    /// # Panics
    /// When it has no three dimensions.
    #[must_use]
    #[track_caller]
    pub fn of(tensor: Tensor) -> Self {
        match lengths(&tensor, "a MASK is [batch, height, width]") {
            Ok(lengths) => Self { tensor, numbers: OnceLock::new(), lengths },
            Err(message) => panic!("{message}"),
        }
    }

    /// How many masks.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.lengths[0]
    }

    /// In pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.lengths[1]
    }

    /// In pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.lengths[2]
    }

    /// The number at a place of the first mask.
    ///
    /// # Panics
    /// When it is outside.
    #[must_use]
    #[track_caller]
    pub fn at(&self, x: usize, y: usize) -> f32 {
        let [_, height, width] = self.lengths;
        assert!(x < width && y < height, "no pixel ({x}, {y}) in a mask of {width}×{height}");
        self.numbers()[y * width + x]
    }

    #[track_caller]
    fn numbers(&self) -> &[f32] {
        self.numbers.get_or_init(|| self.tensor.numbers().into())
    }

    /// The tensor itself.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    pub(crate) fn into_tensor(self) -> Tensor {
        self.tensor
    }
}
