//! Elements put in other places: stack, split, roll, repeat_interleave, pixel_shuffle.

use crate::{OpContext, Shape, Tensor, TensorError};

/// The most parts that [`Tensor::split`] answers.
const MAX_PARTS: usize = 4096;

impl Tensor {
    /// Joins tensors of one shape along a new dimension, before `dim`; -1 appends it.
    pub fn stack(tensors: &[&Tensor], dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "stack";
        let Some(first) = tensors.first() else {
            return Err(TensorError::argument(OP, "tensors", "is empty"));
        };
        if let Some(other) = tensors.iter().find(|tensor| tensor.dims() != first.dims()) {
            let (left, right) = (Box::new(*first.lengths_shape()), Box::new(*other.lengths_shape()));
            return Err(TensorError::Shapes { op: OP, argument: "tensors", left, right, rule: "all must be equal" });
        }
        let grown = tensors.iter().map(|tensor| tensor.unsqueeze(dim, cx)).collect::<Result<Vec<_>, _>>()?;
        Tensor::cat(&grown.iter().collect::<Vec<_>>(), dim, cx)
    }

    /// Views of parts of the given lengths along `dim`, one after the other; they must make up the whole.
    pub fn split(&self, lengths: &[u64], dim: i32, cx: &OpContext) -> Result<Vec<Tensor>, TensorError> {
        const OP: &str = "split";
        let place = self.lengths_shape().dim(OP, "dim", dim)?;
        if lengths.len() > MAX_PARTS {
            let (what, asked) = ("the number of parts", lengths.len().to_string());
            return Err(TensorError::Limit { op: OP, what, asked, limit: MAX_PARTS as u64 });
        }
        let total = lengths.iter().try_fold(0u64, |total, length| total.checked_add(*length));
        if total != Some(self.dims()[place] as u64) {
            let message = format!("{lengths:?} do not add up to the {} of dimension {place}", self.dims()[place]);
            return Err(TensorError::argument(OP, "lengths", message));
        }
        let mut start = 0i64;
        let part = |length: &u64| {
            let from = start;
            start += *length as i64;
            self.slice(place as i32, from, start, 1, cx)
        };
        lengths.iter().map(part).collect()
    }

    /// Moves the elements along each of `dims` by its shift; what leaves at the end comes back at the beginning.
    pub fn roll(&self, shifts: &[i64], dims: &[i32], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "roll";
        if shifts.len() != dims.len() {
            let message = format!("are {} for {} dimensions", shifts.len(), dims.len());
            return Err(TensorError::argument(OP, "shifts", message));
        }
        self.lengths_shape().dims_mask(OP, "dims", dims)?;
        let mut rolled = self.clone();
        for (shift, dim) in shifts.iter().zip(dims) {
            let length = self.dims()[self.lengths_shape().dim(OP, "dims", *dim)?] as i64;
            let cut = if length == 0 { 0 } else { length - shift.rem_euclid(length) };
            if cut != length && length > 0 {
                let (front, back) = (rolled.slice(*dim, cut, length, 1, cx)?, rolled.slice(*dim, 0, cut, 1, cx)?);
                rolled = Tensor::cat(&[&front, &back], *dim, cx)?;
            }
        }
        Ok(rolled)
    }

    /// Every element along `dim` `repeats` times in a row.
    pub fn repeat_interleave(&self, repeats: u64, dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "repeat-interleave";
        let place = self.lengths_shape().dim(OP, "dim", dim)?;
        let length = (self.dims()[place] as u64).checked_mul(repeats).and_then(|length| usize::try_from(length).ok());
        let Some(length) = length else {
            return Err(TensorError::argument(OP, "repeats", format!("is {repeats}, which no shape can hold")));
        };
        let shape = self.lengths_shape().with_length(OP, place, length)?;
        let mut counts = vec![1u64; self.rank() + 1];
        counts[place + 1] = repeats;
        self.unsqueeze(place as i32 + 1, cx)?.repeat(&counts, cx)?.reshape(&signed(&shape), cx)
    }

    /// `[B,C·r²,H,W]` to `[B,C,H·r,W·r]`.
    pub fn pixel_shuffle(&self, factor: u64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "pixel-shuffle";
        self.check_rank(OP, "self", 4, "[B,C,H,W]")?;
        let [batch, channels, height, width] = [0, 1, 2, 3].map(|dim| self.dims()[dim] as i64);
        let square = factor.checked_mul(factor).and_then(|square| i64::try_from(square).ok());
        let Some(square) = square.filter(|square| *square > 0 && channels % square == 0) else {
            let message = format!("is {factor}, whose square does not divide the {channels} channels");
            return Err(TensorError::argument(OP, "factor", message));
        };
        let factor = factor as i64;
        let split = self.reshape(&[batch, channels / square, factor, factor, height, width], cx)?;
        let moved = split.permute(&[0, 1, 4, 2, 5, 3], cx)?;
        moved.reshape(&[batch, channels / square, height * factor, width * factor], cx)
    }

    /// `[B,C,H·r,W·r]` to `[B,C·r²,H,W]`.
    pub fn pixel_unshuffle(&self, factor: u64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "pixel-unshuffle";
        self.check_rank(OP, "self", 4, "[B,C,H,W]")?;
        let [batch, channels, height, width] = [0, 1, 2, 3].map(|dim| self.dims()[dim] as i64);
        let fits = |factor: &i64| *factor > 0 && *factor <= 1 << 24 && height % factor == 0 && width % factor == 0;
        let Some(factor) = i64::try_from(factor).ok().filter(fits) else {
            let message = format!("is {factor}, which does not divide height {height} and width {width}");
            return Err(TensorError::argument(OP, "factor", message));
        };
        let split = self.reshape(&[batch, channels, height / factor, factor, width / factor, factor], cx)?;
        let moved = split.permute(&[0, 1, 3, 5, 2, 4], cx)?;
        // Where a length is zero, the channels may not fit a shape although nothing is there.
        let lengths = [batch, channels.saturating_mul(factor * factor), height / factor, width / factor];
        moved.reshape(&lengths, cx)
    }
}

fn signed(shape: &Shape) -> Vec<i64> {
    shape.lengths().iter().map(|length| *length as i64).collect()
}
