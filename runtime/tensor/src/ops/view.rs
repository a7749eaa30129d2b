//! Other ways to see the same storage. No data is copied, unless [`Tensor::reshape`] has no other way.

use crate::shape::{MAX_RANK, Order, SliceRange};
use crate::{OpContext, Shape, Tensor, TensorError};

impl Tensor {
    /// The same elements in row-major order under another shape, in which one length may be -1 and is inferred.
    pub fn reshape(&self, shape: &[i64], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "reshape";
        let shape = self.inferred_shape(OP, shape)?;
        if let Some(layout) = self.layout.reshaped(shape) {
            return Ok(self.with_layout(layout));
        }
        let dense = self.contiguous(cx)?;
        match dense.layout.reshaped(shape) {
            Some(layout) => Ok(dense.with_layout(layout)),
            None => Err(TensorError::argument(OP, "shape", "cannot be laid out")),
        }
    }

    /// Dimension i of the result is dimension `dims[i]` of this tensor.
    pub fn permute(&self, dims: &[i32], _cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "permute";
        if dims.len() != self.rank() {
            let message =
                format!("names {} dimensions, but shape {} has {}", dims.len(), self.lengths_shape(), self.rank());
            return Err(TensorError::argument(OP, "dims", message));
        }
        self.lengths_shape().dims_mask(OP, "dims", dims)?;
        let mut order = [0; MAX_RANK];
        for (slot, dim) in order.iter_mut().zip(dims) {
            *slot = self.lengths_shape().dim(OP, "dims", *dim)?;
        }
        Ok(self.with_layout(self.layout.permuted(&order[..dims.len()])))
    }

    /// Broadcasts dimensions of length 1 (and new leading ones); -1 keeps a length. The view may not seem larger than
    /// the budget could hold, so that no later operation on it is unbounded.
    pub fn expand(&self, shape: &[i64], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "expand";
        let own = self.lengths_shape();
        let Some(added) = shape.len().checked_sub(own.rank()) else {
            let message = format!("has {} dimensions, fewer than those of {own}", shape.len());
            return Err(TensorError::argument(OP, "shape", message));
        };
        let mut lengths = Vec::with_capacity(shape.len().min(MAX_RANK));
        for (dim, asked) in shape.iter().enumerate() {
            let kept = dim.checked_sub(added).map(|dim| own.lengths()[dim] as u64);
            lengths.push(expanded_length(*asked, kept).ok_or_else(|| {
                TensorError::argument(
                    OP,
                    "shape",
                    format!("asks for {asked} in dimension {dim}, which {own} cannot give"),
                )
            })?);
        }
        let shape = Shape::new(OP, &lengths)?;
        check_apparent_size(OP, &shape, self, cx)?;
        Ok(self.with_layout(self.layout.expanded(shape)))
    }

    /// Every `step`-th of the elements start..end of one dimension, as Python slices: bounds count from the end when
    /// negative and are cut to the length.
    pub fn slice(&self, dim: i32, start: i64, end: i64, step: u64, _cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "slice";
        let dim = self.lengths_shape().dim(OP, "dim", dim)?;
        if step == 0 {
            return Err(TensorError::argument(OP, "step", "is zero"));
        }
        let length = self.dims()[dim] as i64;
        let bound = |value: i64| if value < 0 { value.saturating_add(length).max(0) } else { value.min(length) } as u64;
        let (start, end) = (bound(start), bound(end));
        let count = end.saturating_sub(start).div_ceil(step) as usize;
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let range = SliceRange { start: start as usize, length: count, step };
        Ok(self.with_layout(self.layout.sliced(OP, dim, range)?))
    }

    /// Drops a dimension of length 1; one of another length stays, as in PyTorch.
    pub fn squeeze(&self, dim: i32, _cx: &OpContext) -> Result<Tensor, TensorError> {
        let index = self.lengths_shape().dim("squeeze", "dim", dim)?;
        if self.dims()[index] != 1 {
            return Ok(self.clone());
        }
        Ok(self.with_layout(self.layout.squeezed("squeeze", index)?))
    }

    /// Puts in a dimension of length 1 before `dim`; -1 appends it.
    pub fn unsqueeze(&self, dim: i32, _cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "unsqueeze";
        let places = self.rank() as i64 + 1;
        let index = if dim < 0 { i64::from(dim) + places } else { i64::from(dim) };
        if !(0..places).contains(&index) {
            let message =
                format!("is {dim}, but shape {} has places {} to {}", self.lengths_shape(), -places, places - 1);
            return Err(TensorError::argument(OP, "dim", message));
        }
        if self.rank() == MAX_RANK {
            let (what, asked) = ("the number of dimensions", (MAX_RANK + 1).to_string());
            return Err(TensorError::Limit { op: OP, what, asked, limit: MAX_RANK as u64 });
        }
        Ok(self.with_layout(self.layout.unsqueezed(OP, index as usize)?))
    }

    /// Reverses dimensions.
    pub fn flip(&self, dims: &[i32], _cx: &OpContext) -> Result<Tensor, TensorError> {
        let mask = self.lengths_shape().dims_mask("flip", "dims", dims)?;
        let flipped = (0..self.rank()).filter(|dim| mask[*dim]);
        Ok(self.with_layout(flipped.fold(self.layout, |layout, dim| layout.flipped(dim))))
    }

    /// This tensor with its dimensions in the order of memory, and the order that brings them back.
    pub(super) fn in_memory_order(&self) -> (Tensor, Order) {
        let order = self.layout.memory_order();
        (self.with_layout(self.layout.permuted(order.dims())), order)
    }

    /// Undoes [`Tensor::in_memory_order`].
    pub(super) fn back_from_memory_order(&self, order: &Order) -> Tensor {
        self.with_layout(self.layout.permuted(order.inverse().dims()))
    }

    fn inferred_shape(&self, op: &'static str, shape: &[i64]) -> Result<Shape, TensorError> {
        let mut lengths = Vec::with_capacity(shape.len().min(MAX_RANK));
        let mut inferred = None;
        for (dim, length) in shape.iter().enumerate() {
            match u64::try_from(*length) {
                Ok(length) => lengths.push(length),
                Err(_) if *length == -1 && inferred.is_none() => {
                    inferred = Some(dim);
                    lengths.push(1);
                }
                Err(_) => {
                    let message = format!("{shape:?} has a negative length that is not a single -1");
                    return Err(TensorError::argument(op, "shape", message));
                }
            }
        }
        let mut known = Shape::new(op, &lengths)?;
        let elements = self.elements();
        if let Some(dim) = inferred {
            let rest = known.elements();
            if rest == 0 || !elements.is_multiple_of(rest) {
                let message =
                    format!("{shape:?} cannot divide the {elements} elements of shape {}", self.lengths_shape());
                return Err(TensorError::argument(op, "shape", message));
            }
            known = known.with_length(op, dim, elements / rest)?;
        }
        if known.elements() != elements {
            let message = format!(
                "{shape:?} has {} elements, but shape {} has {elements}",
                known.elements(),
                self.lengths_shape()
            );
            return Err(TensorError::argument(op, "shape", message));
        }
        Ok(known)
    }
}

fn expanded_length(asked: i64, own: Option<u64>) -> Option<u64> {
    match (asked, own) {
        (-1, own) => own,
        (asked, None | Some(1)) => u64::try_from(asked).ok(),
        (asked, Some(own)) => u64::try_from(asked).ok().filter(|asked| *asked == own),
    }
}

fn check_apparent_size(op: &'static str, shape: &Shape, source: &Tensor, cx: &OpContext) -> Result<(), TensorError> {
    let bytes = shape.elements() as u64 * source.dtype().size() as u64;
    let limit = cx.budget.effective_limit();
    if bytes > limit && shape.elements() > source.elements() {
        let what = "the apparent size of the view in bytes";
        return Err(TensorError::Limit { op, what, asked: bytes.to_string(), limit });
    }
    Ok(())
}
