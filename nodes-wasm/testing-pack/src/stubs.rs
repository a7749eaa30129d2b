//! Images, masks and numbers out of nothing.

use std::hash::{BuildHasher, RandomState};

use vivarium_node::prelude::*;

const LARGEST: i64 = 1 << 30;
const WIDEST: i64 = 1 << 36;
/// Noise repeats after so many numbers: they are made here and copied out.
const NOISE: u64 = 1 << 20;

/// What a stub image shows.
#[derive(Choice, Clone, Copy)]
enum Content {
    #[choice("WHITE")]
    White,
    #[choice("BLACK")]
    Black,
    #[choice("NOISE")]
    Noise,
}

/// A white, black or noisy image.
#[derive(Node)]
#[node(category = "Testing/Stub Nodes")]
pub(crate) struct StubImage {
    content: Content,
    #[input(default = 512, min = 1, max = LARGEST, step = 1)]
    height: u64,
    #[input(default = 512, min = 1, max = WIDEST, step = 1)]
    width: u64,
    #[input(default = 1, min = 1, max = LARGEST, step = 1)]
    batch_size: u64,
}

impl Run for StubImage {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let shape = [self.batch_size, self.height, self.width, 3];
        Ok(match self.content {
            Content::White => Tensor::full(shape, 1.0, Dtype::Float32),
            Content::Black => Tensor::zeros(shape, Dtype::Float32),
            Content::Noise => noise(shape)?,
        }
        .into())
    }
}

fn noise(shape: [u64; 4]) -> Result<Tensor> {
    let count = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
    let count = count.ok_or_else(|| Error::invalid("the image is too large"))?;
    let length = count.min(NOISE);
    let mut state = RandomState::new().hash_one(length) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    let values: Vec<f32> = (0..length).map(|_| next()).collect();
    let repeated = Tensor::from_f32([length], &values).repeat([count.div_ceil(length)]);
    Ok(repeated.slice(0, 0, i64::try_from(count)?).reshape(shape.map(|length| length as i64)))
}

/// An image of one grey.
#[derive(Node)]
#[node(category = "Testing/Stub Nodes")]
pub(crate) struct StubConstantImage {
    #[input(default = 0.5, min = 0.0, max = 1.0, step = 0.01)]
    value: f64,
    #[input(default = 512, min = 1, max = LARGEST, step = 1)]
    height: u64,
    #[input(default = 512, min = 1, max = WIDEST, step = 1)]
    width: u64,
    #[input(default = 1, min = 1, max = LARGEST, step = 1)]
    batch_size: u64,
}

impl Run for StubConstantImage {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok(Tensor::full([self.batch_size, self.height, self.width, 3], self.value, Dtype::Float32).into())
    }
}

/// A mask that is the same everywhere.
#[derive(Node)]
#[node(category = "Testing/Stub Nodes")]
pub(crate) struct StubMask {
    #[input(default = 0.5, min = 0.0, max = 1.0, step = 0.01)]
    value: f64,
    #[input(default = 512, min = 1, max = LARGEST, step = 1)]
    height: u64,
    #[input(default = 512, min = 1, max = WIDEST, step = 1)]
    width: u64,
    #[input(default = 1, min = 1, max = LARGEST, step = 1)]
    batch_size: u64,
}

impl Run for StubMask {
    type Output = Mask;

    fn run(self) -> Result<Mask> {
        Ok(Tensor::full([self.batch_size, self.height, self.width], self.value, Dtype::Float32).into())
    }
}

/// A whole number.
#[derive(Node)]
#[node(category = "Testing/Stub Nodes")]
pub(crate) struct StubInt {
    #[input(default = 0, min = -0xffff_ffff, max = 0xffff_ffff, step = 1)]
    value: i64,
}

impl Run for StubInt {
    type Output = i64;

    fn run(self) -> Result<i64> {
        Ok(self.value)
    }
}

/// A number.
#[derive(Node)]
#[node(category = "Testing/Stub Nodes")]
pub(crate) struct StubFloat {
    #[input(default = 0.0, min = -1.0e38, max = 1.0e38, step = 0.01)]
    value: f64,
}

impl Run for StubFloat {
    type Output = f64;

    fn run(self) -> Result<f64> {
        Ok(self.value)
    }
}
