//! Elements in other orders and places: sorting, searching, indices, joining and splitting.

use super::{Raw, Tensor};
use crate::error::Result;

type Host<T> = std::result::Result<T, crate::bindings::vivarium::node::types::Error>;

impl Tensor {
    fn indexed(&self, index: &Tensor, operation: impl FnOnce(&Raw, &Raw) -> Host<Raw>) -> Self {
        match (self.raw(), index.raw()) {
            (Ok(raw), Ok(index)) => Self::from_host(operation(raw, index)),
            (Err(_), _) => self.clone(),
            (_, Err(error)) => Self::failed(error),
        }
    }

    fn two(&self, operation: impl FnOnce(&Raw) -> Host<(Raw, Raw)>) -> (Self, Self) {
        let answer = self.raw().and_then(|raw| Ok(operation(raw)?));
        match answer {
            Ok((first, second)) => (Self::from_raw(first), Self::from_raw(second)),
            Err(error) => (Self::failed(error.clone()), Self::failed(error)),
        }
    }
}

/// The order of elements along a dimension.
impl Tensor {
    /// The elements in order, and where they were (int64). Stable; not-a-number counts as the largest.
    #[must_use]
    pub fn sort(&self, dim: i32, descending: bool) -> (Self, Self) {
        self.two(|raw| raw.sort(dim, descending))
    }

    /// The `k` largest (or smallest) elements, best first, and where they were (int64).
    #[must_use]
    pub fn topk(&self, k: u64, dim: i32, largest: bool) -> (Self, Self) {
        self.two(|raw| raw.topk(k, dim, largest))
    }

    /// Where the largest element is, the first of equals; int64, without the dimension.
    #[must_use]
    pub fn argmax(&self, dim: i32) -> Self {
        self.then(|raw| raw.argmax(dim, false, false))
    }

    /// Where the smallest element is, the first of equals; int64, without the dimension.
    #[must_use]
    pub fn argmin(&self, dim: i32) -> Self {
        self.then(|raw| raw.argmax(dim, true, false))
    }

    /// The sums of each element and all before it.
    #[must_use]
    pub fn cumsum(&self, dim: i32) -> Self {
        self.then(|raw| raw.cumsum(dim))
    }

    /// The variance over the given dimensions, or over all when there are none: the sum of squared distances from the
    /// mean, divided by the number of elements less `correction` (1 for a sample).
    #[must_use]
    pub fn variance(&self, dims: impl AsRef<[i32]>, correction: f64, keep_dims: bool) -> Self {
        self.then(|raw| raw.variance(dims.as_ref(), correction, keep_dims))
    }

    /// The root of [`Tensor::variance`].
    #[must_use]
    pub fn std(&self, dims: impl AsRef<[i32]>, correction: f64, keep_dims: bool) -> Self {
        self.variance(dims, correction, keep_dims).sqrt()
    }
}

/// Indices are int64 or int32 and must be in range.
impl Tensor {
    /// For each element of `index`, the element at its place with the coordinate `dim` replaced by the index.
    #[must_use]
    pub fn gather(&self, dim: i32, index: &Tensor) -> Self {
        self.indexed(index, |raw, index| raw.gather(dim, index))
    }

    /// The slices along `dim` that the one-dimensional `index` names.
    #[must_use]
    pub fn index_select(&self, dim: i32, index: &Tensor) -> Self {
        self.indexed(index, |raw, index| raw.index_select(dim, index))
    }

    /// The rows of this table that `index` names, in its shape.
    #[must_use]
    pub fn embedding(&self, index: &Tensor) -> Self {
        self.indexed(index, Raw::embedding)
    }

    /// A copy with `source` written where `index` says along `dim`; the last of several for one place stays.
    #[must_use]
    pub fn scatter(&self, dim: i32, index: &Tensor, source: &Tensor) -> Self {
        match source.raw() {
            Ok(source) => self.indexed(index, |raw, index| raw.scatter(dim, index, source)),
            Err(error) => Self::failed(error),
        }
    }

    /// As [`Tensor::scatter`], but adds to what is there.
    #[must_use]
    pub fn scatter_add(&self, dim: i32, index: &Tensor, source: &Tensor) -> Self {
        match source.raw() {
            Ok(source) => self.indexed(index, |raw, index| raw.scatter_add(dim, index, source)),
            Err(error) => Self::failed(error),
        }
    }

    /// `value` where `mask` (boolean, broadcasting) is true.
    #[must_use]
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Self {
        self.indexed(mask, |raw, mask| raw.masked_fill(mask, value))
    }
}

/// Joining and splitting.
impl Tensor {
    /// Joins tensors of one shape along a new dimension before `dim`; -1 appends it.
    pub fn stack<T: AsRef<Tensor>>(tensors: &[T], dim: i32) -> Self {
        match tensors.iter().map(|tensor| tensor.as_ref().raw()).collect::<Result<Vec<_>>>() {
            Ok(raw) => Self::from_host(Raw::stack(&raw, dim)),
            Err(error) => Self::failed(error),
        }
    }

    /// Views of parts of the given lengths, one after the other.
    ///
    /// # Errors
    /// When the lengths do not add up to the dimension, or this is a failed tensor.
    pub fn split(&self, lengths: impl AsRef<[u64]>, dim: i32) -> Result<Vec<Self>> {
        Ok(self.raw()?.split(lengths.as_ref(), dim)?.into_iter().map(Self::from_raw).collect())
    }

    /// Views of `parts` parts of equal length (the last may be shorter, and there may be fewer).
    ///
    /// # Errors
    /// When `parts` is zero, or this is a failed tensor.
    pub fn chunk(&self, parts: u64, dim: i32) -> Result<Vec<Self>> {
        let length = self.size(dim)?;
        let Some(each) = (parts > 0).then(|| length.div_ceil(parts).max(1)) else {
            return Err(crate::error::Error::invalid("a tensor cannot be cut into zero parts"));
        };
        let lengths: Vec<u64> = (0..length.div_ceil(each)).map(|part| each.min(length - part * each)).collect();
        self.split(lengths, dim)
    }

    /// Moves the elements along each of `dims` by its shift, around the end.
    #[must_use]
    pub fn roll(&self, shifts: impl AsRef<[i64]>, dims: impl AsRef<[i32]>) -> Self {
        self.then(|raw| raw.roll(shifts.as_ref(), dims.as_ref()))
    }

    /// Every element along `dim` `repeats` times in a row.
    #[must_use]
    pub fn repeat_interleave(&self, repeats: u64, dim: i32) -> Self {
        self.then(|raw| raw.repeat_interleave(repeats, dim))
    }
}
