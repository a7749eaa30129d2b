//! Pictures.

use std::{fs, path::Path};

use vivarium_image_codec::{DecodeLimits, decode_first, encode_png};

use crate::Tensor;

/// An IMAGE: [batch, height, width, channels], numbers from 0 to 1.
#[derive(Clone, Debug)]
pub struct Image {
    tensor: Tensor,
    numbers: Vec<f32>,
    /// Batch, height, width, channels.
    lengths: [usize; 4],
}

/// A MASK: [batch, height, width], numbers from 0 to 1.
#[derive(Clone, Debug)]
pub struct Mask {
    tensor: Tensor,
    numbers: Vec<f32>,
    /// Batch, height, width.
    lengths: [usize; 3],
}

#[track_caller]
fn lengths<const N: usize>(tensor: &Tensor, what: &str) -> [usize; N] {
    let shape: Vec<usize> = tensor.shape().into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect();
    shape.try_into().unwrap_or_else(|shape| panic!("{what}, got {shape:?}"))
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
        let frame = decode_first(&bytes, &DecodeLimits::default());
        let frame = frame.unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
        Self::of(Tensor::new([1, frame.height.into(), frame.width.into(), 3], frame.rgb.to_f32()))
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
        let numbers: Vec<f32> = images.iter().flat_map(|image| image.numbers.iter().copied()).collect();
        Self::of(Tensor::new([batch, height, width, channels].map(|length| length as u64), numbers))
    }

    /// A tensor as an IMAGE.
    ///
    /// # Panics
    /// When it has no four dimensions.
    #[must_use]
    #[track_caller]
    pub fn of(tensor: Tensor) -> Self {
        let lengths = lengths(&tensor, "an IMAGE is [batch, height, width, channels]");
        Self { numbers: tensor.numbers(), lengths, tensor }
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
        let channel = |number: usize| self.numbers[start + number.min(channels - 1)];
        [channel(0), channel(1), channel(2)]
    }

    /// The tensor itself.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    pub(crate) fn into_tensor(self) -> Tensor {
        self.tensor
    }

    /// The first picture as the bytes of a PNG file.
    #[track_caller]
    pub(crate) fn png(&self) -> Vec<u8> {
        let [_, height, width, channels] = self.lengths;
        let byte = |number: &f32| (number.clamp(0.0, 1.0) * 255.0).round() as u8;
        let bytes: Vec<u8> = self.numbers[..height * width * channels].iter().map(byte).collect();
        let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let encoded = encode_png(&bytes, side(width), side(height), u8::try_from(channels).unwrap_or(u8::MAX), 1, &[]);
        encoded.unwrap_or_else(|error| panic!("{error}"))
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
        let lengths = lengths(&tensor, "a MASK is [batch, height, width]");
        Self { numbers: tensor.numbers(), lengths, tensor }
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
        self.numbers[y * width + x]
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
