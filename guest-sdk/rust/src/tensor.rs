//! Tensors of the host. A node computes with them as with numbers; the pixels stay where they are.

mod layers;
mod ops;
mod order;
mod pictures;
mod statistics;
mod volumes;

use std::rc::Rc;

pub use crate::bindings::vivarium::node::tensors::{
    Activation, BinaryOp, Dtype, InterpolateMode, MorphologyOp, PadMode, RandomGenerator, ReduceOp, SampleBorder,
    SampleMode, UnaryOp,
};
use crate::bindings::vivarium::node::tensors::{Operand, Tensor as Raw};
use crate::error::{Error, Result};
pub use layers::ConvGeometry;
pub use volumes::VolumeGeometry;

/// Bytes that go to or come from the host in one call; longer data goes in pieces.
const CHUNK_BYTES: usize = 1 << 20;

/// An immutable tensor of the host. Cloning copies no data.
///
/// Operations never fail on the spot, so that formulas stay readable: one that the host refuses gives a *failed* tensor,
/// every further operation passes its error on, and the error comes out where the tensor is used: as an output, in
/// [`Tensor::shape`], [`Tensor::item`], [`Tensor::read_f32`] or [`Tensor::check`].
#[derive(Clone, Debug)]
pub struct Tensor(Rc<State>);

#[derive(Debug)]
enum State {
    Live(Raw),
    Failed(Error),
}

/// The right-hand side of an operation: a tensor or a number.
pub enum Rhs<'a> {
    /// Broadcasts against the left-hand side.
    Tensor(&'a Tensor),
    /// The same for every element.
    Scalar(f64),
}

impl<'a, T: AsRef<Tensor> + ?Sized> From<&'a T> for Rhs<'a> {
    fn from(tensor: &'a T) -> Self {
        Self::Tensor(tensor.as_ref())
    }
}

impl From<f64> for Rhs<'_> {
    fn from(scalar: f64) -> Self {
        Self::Scalar(scalar)
    }
}

impl AsRef<Tensor> for Tensor {
    fn as_ref(&self) -> &Tensor {
        self
    }
}

impl Tensor {
    pub(crate) fn from_raw(raw: Raw) -> Self {
        Self(Rc::new(State::Live(raw)))
    }

    fn from_host(answer: std::result::Result<Raw, impl Into<Error>>) -> Self {
        match answer {
            Ok(raw) => Self::from_raw(raw),
            Err(error) => Self::failed(error.into()),
        }
    }

    /// A tensor that never came to be; using it answers `error`.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        Self(Rc::new(State::Failed(error)))
    }

    pub(crate) fn raw(&self) -> Result<&Raw> {
        match &*self.0 {
            State::Live(raw) => Ok(raw),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Gives up the handle, or a second one when clones of this tensor live on.
    pub(crate) fn into_raw(self) -> Result<Raw> {
        match Rc::try_unwrap(self.0) {
            Ok(State::Live(raw)) => Ok(raw),
            Ok(State::Failed(error)) => Err(error),
            Err(shared) => Ok(Self(shared).raw()?.share()?),
        }
    }

    /// Runs one host operation, or passes on the error that is already there.
    fn then<E: Into<Error>>(&self, operation: impl FnOnce(&Raw) -> std::result::Result<Raw, E>) -> Self {
        match &*self.0 {
            State::Live(raw) => Self::from_host(operation(raw)),
            State::Failed(_) => self.clone(),
        }
    }

    fn then_with<E: Into<Error>>(
        &self,
        rhs: Rhs<'_>,
        operation: impl FnOnce(&Raw, Operand<'_>) -> std::result::Result<Raw, E>,
    ) -> Self {
        match rhs {
            Rhs::Scalar(scalar) => self.then(|raw| operation(raw, Operand::Scalar(scalar))),
            Rhs::Tensor(other) => match &*other.0 {
                State::Live(other) => self.then(|raw| operation(raw, Operand::Tensor(other))),
                State::Failed(_) if self.raw().is_ok() => other.clone(),
                State::Failed(_) => self.clone(),
            },
        }
    }

    /// The tensor itself, or the error of the operation that failed.
    ///
    /// # Errors
    /// The first error on the way to this tensor.
    pub fn check(self) -> Result<Self> {
        self.raw()?;
        Ok(self)
    }
}

/// Making tensors.
impl Tensor {
    /// All zeros.
    pub fn zeros(shape: impl AsRef<[u64]>, dtype: Dtype) -> Self {
        Self::from_host(Raw::zeros(shape.as_ref(), dtype))
    }

    /// Every element `value`.
    pub fn full(shape: impl AsRef<[u64]>, value: f64, dtype: Dtype) -> Self {
        Self::from_host(Raw::full(shape.as_ref(), value, dtype))
    }

    /// `start`, `start + step`, … below `end`; float32.
    #[must_use]
    pub fn arange(start: f64, end: f64, step: f64) -> Self {
        Self::from_host(Raw::arange(start, end, step))
    }

    /// `steps` values from `start` to `end`, both included; float32.
    #[must_use]
    pub fn linspace(start: f64, end: f64, steps: u64) -> Self {
        Self::from_host(Raw::linspace(start, end, steps))
    }

    /// From float32 values in row-major order; their number must fit the shape.
    pub fn from_f32(shape: impl AsRef<[u64]>, values: &[f32]) -> Self {
        let piece = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let pieces = values.chunks(CHUNK_BYTES / 4).map(|values| (values.len(), piece(values)));
        Self::from_pieces(shape.as_ref(), Dtype::Float32, values.len(), pieces)
    }

    /// From little-endian bytes in row-major order; their number must fit the shape.
    pub fn from_bytes(shape: impl AsRef<[u64]>, dtype: Dtype, bytes: &[u8]) -> Self {
        let size = size_of_dtype(dtype);
        let pieces = bytes.chunks(CHUNK_BYTES).map(|bytes| (bytes.len() / size, bytes.to_vec()));
        Self::from_pieces(shape.as_ref(), dtype, bytes.len() / size, pieces)
    }

    fn from_pieces(
        shape: &[u64],
        dtype: Dtype,
        elements: usize,
        pieces: impl Iterator<Item = (usize, Vec<u8>)>,
    ) -> Self {
        let pieces: Vec<_> = pieces.collect();
        if let [(_, bytes)] = &*pieces {
            return Self::from_host(Raw::from_bytes(shape, dtype, bytes));
        }
        let expected = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
        if expected != Some(elements as u64) {
            return Self::failed(Error::invalid(format!("{elements} values do not fill the shape {shape:?}")));
        }
        let flat: Vec<_> = pieces
            .into_iter()
            .map(|(length, bytes)| Self::from_host(Raw::from_bytes(&[length as u64], dtype, &bytes)))
            .collect();
        if flat.is_empty() {
            return Self::zeros(shape, dtype);
        }
        Self::cat(&flat, 0).then(|raw| raw.reshape(&shape.iter().map(|length| *length as i64).collect::<Vec<_>>()))
    }

    /// Joins tensors along an existing dimension.
    pub fn cat<T: AsRef<Tensor>>(tensors: &[T], dim: i32) -> Self {
        match tensors.iter().map(|tensor| tensor.as_ref().raw()).collect::<Result<Vec<_>>>() {
            Ok(raw) => Self::from_host(Raw::cat(&raw, dim)),
            Err(error) => Self::failed(error),
        }
    }
}

/// Looking into tensors. Reading copies data into the guest, and that is metered: prefer operations.
impl Tensor {
    /// The lengths of the dimensions.
    ///
    /// # Errors
    /// When this is a failed tensor.
    pub fn shape(&self) -> Result<Vec<u64>> {
        Ok(self.raw()?.shape())
    }

    /// The length of one dimension; a negative `dim` counts from the end.
    ///
    /// # Errors
    /// When there is no such dimension, or this is a failed tensor.
    pub fn size(&self, dim: i32) -> Result<u64> {
        let shape = self.shape()?;
        let rank = shape.len() as i32;
        let index = if dim < 0 { dim + rank } else { dim };
        let length = usize::try_from(index).ok().and_then(|index| shape.get(index).copied());
        length.ok_or_else(|| Error::invalid(format!("dimension {dim} of a tensor of shape {shape:?}")))
    }

    /// The type of the elements.
    ///
    /// # Errors
    /// When this is a failed tensor.
    pub fn dtype(&self) -> Result<Dtype> {
        Ok(self.raw()?.dtype())
    }

    /// The value of a tensor that has exactly one element.
    ///
    /// # Errors
    /// When it has another number of elements, or this is a failed tensor.
    pub fn item(&self) -> Result<f64> {
        Ok(self.raw()?.item()?)
    }

    /// All elements in row-major order, as float32.
    ///
    /// # Errors
    /// When the call's allowance for reading is used up, or this is a failed tensor.
    pub fn read_f32(&self) -> Result<Vec<f32>> {
        let tensor = self.cast(Dtype::Float32).contiguous();
        let elements: u64 = tensor.shape()?.iter().product();
        let mut values = Vec::new();
        while (values.len() as u64) < elements {
            let offset = values.len() as u64;
            let bytes = tensor.read(offset, (elements - offset).min(CHUNK_BYTES as u64 / 4))?;
            if bytes.is_empty() {
                return Err(Error::new(crate::error::ErrorKind::Internal, "the host answered an empty read"));
            }
            values.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
        Ok(values)
    }

    /// `length` elements from `offset` in row-major order, as little-endian bytes.
    ///
    /// # Errors
    /// When the range is outside, the allowance for reading is used up, or this is a failed tensor.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        Ok(self.raw()?.read(offset, length)?)
    }
}

/// Views: no data is copied.
impl Tensor {
    /// Another shape over the same elements; one length may be -1 and is inferred.
    #[must_use]
    pub fn reshape(&self, shape: impl AsRef<[i64]>) -> Self {
        self.then(|raw| raw.reshape(shape.as_ref()))
    }

    /// The dimensions in another order.
    #[must_use]
    pub fn permute(&self, dims: impl AsRef<[i32]>) -> Self {
        self.then(|raw| raw.permute(dims.as_ref()))
    }

    /// Broadcasts dimensions of length 1; -1 keeps a length.
    #[must_use]
    pub fn expand(&self, shape: impl AsRef<[i64]>) -> Self {
        self.then(|raw| raw.expand(shape.as_ref()))
    }

    /// The elements `start..end` of one dimension; negative numbers count from the end, as in Python.
    #[must_use]
    pub fn slice(&self, dim: i32, start: i64, end: i64) -> Self {
        self.slice_step(dim, start, end, 1)
    }

    /// Every `step`-th of the elements `start..end` of one dimension.
    #[must_use]
    pub fn slice_step(&self, dim: i32, start: i64, end: i64, step: u64) -> Self {
        self.then(|raw| raw.slice(dim, start, end, step))
    }

    /// Without a dimension of length 1.
    #[must_use]
    pub fn squeeze(&self, dim: i32) -> Self {
        self.then(|raw| raw.squeeze(dim))
    }

    /// With a new dimension of length 1.
    #[must_use]
    pub fn unsqueeze(&self, dim: i32) -> Self {
        self.then(|raw| raw.unsqueeze(dim))
    }

    /// Mirrored along dimensions.
    #[must_use]
    pub fn flip(&self, dims: impl AsRef<[i32]>) -> Self {
        self.then(|raw| raw.flip(dims.as_ref()))
    }

    /// In row-major order in memory.
    #[must_use]
    pub fn contiguous(&self) -> Self {
        self.then(Raw::contiguous)
    }

    /// `[B,H,W,C]` to `[B,C,H,W]`: images as the resampling and filtering operations take them.
    #[must_use]
    pub fn channels_first(&self) -> Self {
        self.permute([0, 3, 1, 2])
    }

    /// `[B,C,H,W]` to `[B,H,W,C]`: back to an image.
    #[must_use]
    pub fn channels_last(&self) -> Self {
        self.permute([0, 2, 3, 1])
    }
}

/// Computing. What PyTorch calls the same means the same.
impl Tensor {
    /// As another type.
    #[must_use]
    pub fn cast(&self, dtype: Dtype) -> Self {
        self.then(|raw| raw.cast(dtype))
    }

    /// One of the operations on each element.
    #[must_use]
    pub fn unary(&self, op: UnaryOp) -> Self {
        self.then(|raw| raw.unary(op))
    }

    /// `self op rhs`, broadcasting. Comparisons answer a boolean tensor.
    #[must_use]
    pub fn binary<'a>(&self, op: BinaryOp, rhs: impl Into<Rhs<'a>>) -> Self {
        self.then_with(rhs.into(), |raw, rhs| raw.binary(op, &rhs))
    }

    /// `scalar op self`.
    #[must_use]
    pub fn binary_from(&self, op: BinaryOp, scalar: f64) -> Self {
        self.then(|raw| raw.binary_from(op, scalar))
    }

    /// Limits every element to `min..=max`.
    #[must_use]
    pub fn clamp(&self, min: f64, max: f64) -> Self {
        self.then(|raw| raw.clamp(Some(min), Some(max)))
    }

    /// The way from `self` to `end`, of which `weight` is gone: 0 is `self`, 1 is `end`.
    #[must_use]
    pub fn lerp<'a>(&self, end: &Tensor, weight: impl Into<Rhs<'a>>) -> Self {
        match end.raw() {
            Ok(end) => self.then_with(weight.into(), |raw, weight| raw.lerp(end, &weight)),
            Err(error) => Self::failed(error),
        }
    }

    /// Takes from `self` where `condition` is true, elsewhere from `other`.
    #[must_use]
    pub fn select<'a>(&self, condition: &Tensor, other: impl Into<Rhs<'a>>) -> Self {
        match condition.raw() {
            Ok(condition) => self.then_with(other.into(), |raw, other| raw.where_(condition, &other)),
            Err(error) => Self::failed(error),
        }
    }

    /// Over the given dimensions, or over all when there are none.
    #[must_use]
    pub fn reduce(&self, op: ReduceOp, dims: impl AsRef<[i32]>, keep_dims: bool) -> Self {
        self.then(|raw| raw.reduce(op, dims.as_ref(), keep_dims))
    }

    /// A copy of `self` with `source` written at `offsets`, one per dimension.
    #[must_use]
    pub fn paste(&self, source: &Tensor, offsets: impl AsRef<[u64]>) -> Self {
        match source.raw() {
            Ok(source) => self.then(|raw| raw.paste(source, offsets.as_ref())),
            Err(error) => Self::failed(error),
        }
    }

    /// Repeats the whole tensor, one count per dimension.
    #[must_use]
    pub fn repeat(&self, counts: impl AsRef<[u64]>) -> Self {
        self.then(|raw| raw.repeat(counts.as_ref()))
    }

    /// Adds borders of the given widths before and after each dimension, first dimension first; `value` fills them
    /// under [`PadMode::Constant`].
    #[must_use]
    pub fn pad(&self, before: impl AsRef<[u64]>, after: impl AsRef<[u64]>, mode: PadMode, value: f64) -> Self {
        self.then(|raw| raw.pad(before.as_ref(), after.as_ref(), mode, value))
    }

    /// Resizes the last two dimensions of `[B,C,H,W]`.
    #[must_use]
    pub fn interpolate(&self, height: u64, width: u64, mode: InterpolateMode) -> Self {
        self.then(|raw| raw.interpolate(height, width, mode))
    }

    /// Filters the last two dimensions of `[B,C,H,W]` with `kernel_y` ⊗ `kernel_x`, both of odd length; the size stays.
    #[must_use]
    pub fn separable_filter(&self, kernel_y: &[f32], kernel_x: &[f32], border: PadMode) -> Self {
        self.then(|raw| raw.separable_filter(kernel_y, kernel_x, border))
    }
}

fn size_of_dtype(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Uint8 | Dtype::Boolean | Dtype::Float8E4m3 | Dtype::Float8E5m2 => 1,
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        Dtype::Float32 | Dtype::Int32 => 4,
        Dtype::Int64 => 8,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_first_error_of_a_formula_comes_out_at_its_end() {
        let broken = Tensor::failed(Error::invalid("the sizes differ"));
        let other = Tensor::failed(Error::invalid("later"));
        let result = (1.0 - &broken * 2.0).clamp(0.0, 1.0).lerp(&other, 0.5) + &other;
        assert_eq!(result.shape().unwrap_err().message, "later");
        assert_eq!((&broken * &other).check().unwrap_err().message, "the sizes differ");
        assert_eq!(Tensor::cat(&[broken, other], 0).item().unwrap_err().message, "the sizes differ");
    }
}
