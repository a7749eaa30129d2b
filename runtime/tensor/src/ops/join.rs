//! Tensors put together: cat, repeat, paste.

use crate::cpu::copy::{Outer, PasteGeometry, Segment, Source, cat, copy, paste};
use crate::cpu::reader::Reader;
use crate::device::{Piece, Task};
use crate::shape::{Layout, MAX_RANK, Order, SliceRange};
use crate::storage::{Allocation, Stored, with_buffer, with_dtype};
use crate::{DType, OpContext, Shape, Tensor, TensorError};

/// The most tensors that [`Tensor::cat`] joins at once.
pub const MAX_CAT: usize = 65_536;

impl Tensor {
    /// Joins along an existing dimension; all other lengths must be equal. The types meet as in arithmetic.
    pub fn cat(tensors: &[&Tensor], dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "cat";
        let Some(first) = tensors.first() else {
            return Err(TensorError::argument(OP, "tensors", "is empty"));
        };
        if tensors.len() > MAX_CAT {
            let (what, asked) = ("the number of tensors", tensors.len().to_string());
            return Err(TensorError::Limit { op: OP, what, asked, limit: MAX_CAT as u64 });
        }
        let dim = first.lengths_shape().dim(OP, "dim", dim)?;
        let (shape, dtype) = joined(OP, tensors, dim)?;
        let order = first.layout.memory_order();
        let casts: Vec<Tensor> = tensors.iter().map(|tensor| tensor.cast(dtype, cx)).collect::<Result<_, _>>()?;
        let place = order.inverse().dims()[dim];
        if cx.gpu.is_some() {
            let layout = Layout::dense_in_order(shape, order.dims());
            let mut pieces = Vec::with_capacity(casts.len());
            let mut start = 0;
            for source in &casts {
                let length = source.dims()[dim];
                let to = layout.sliced(OP, dim, SliceRange { start, length, step: 1 })?;
                pieces.push(Piece { source, from: source.layout, to });
                start += length;
            }
            if let Some(result) = cx.on_device(OP, Task::Assemble { layout, dtype, fill: None, pieces: &pieces })? {
                return Ok(result);
            }
        }
        with_dtype!(dtype, T => cat_typed::<T>(&casts, place, shape, order, cx))
    }

    /// The whole tensor over and over; one count per dimension, further leading counts add dimensions.
    pub fn repeat(&self, counts: &[u64], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "repeat";
        let Some(added) = counts.len().checked_sub(self.rank()) else {
            let message = format!("names {} dimensions, fewer than those of {}", counts.len(), self.lengths_shape());
            return Err(TensorError::argument(OP, "counts", message));
        };
        // Both the counts and the lengths of the result are limited like a shape.
        Shape::new(OP, counts)?;
        let own = |dim: usize| dim.checked_sub(added).map_or((1, 0), |d| (self.dims()[d], self.layout.strides()[d]));
        let lengths: Vec<u64> =
            counts.iter().enumerate().map(|(dim, count)| count.saturating_mul(own(dim).0 as u64)).collect();
        let shape = Shape::new(OP, &lengths)?;
        if cx.gpu.is_some()
            && 2 * counts.len() <= MAX_RANK
            && let Some(result) = self.repeated_on_device(counts, shape, cx)?
        {
            return Ok(result);
        }
        let dims = counts.iter().enumerate().flat_map(|(dim, count)| [(*count as usize, 0), own(dim)]);
        let reader = Reader::of_dims(self.layout.offset, dims);
        with_buffer!(self.buffer(OP, cx)?, values => {
            let mut result = Allocation::unfilled(OP, shape.elements(), cx)?;
            copy(OP, &Source { values, reader }, &mut result.values, cx)?;
            Ok(Tensor::of(Layout::contiguous(shape), result))
        })
    }

    /// As [`Tensor::repeat`], of counts that are known to fit: a copy of a view that has a dimension more for every count.
    fn repeated_on_device(&self, counts: &[u64], shape: Shape, cx: &OpContext) -> Result<Option<Tensor>, TensorError> {
        const OP: &str = "repeat";
        let mut from = self.layout;
        for _ in self.rank()..counts.len() {
            from = from.unsqueezed(OP, 0)?;
        }
        for (dim, count) in counts.iter().enumerate().rev() {
            from = from.unsqueezed(OP, dim)?;
            from = from.expanded(from.shape.with_length(OP, dim, *count as usize)?);
        }
        let piece = Piece { source: self, from, to: Layout::contiguous(from.shape) };
        let layout = Layout::contiguous(shape);
        cx.on_device(OP, Task::Assemble { layout, dtype: self.dtype(), fill: None, pieces: &[piece] })
    }

    /// A copy with `source` written at `offsets` (one per dimension). `source` must have the same number of dimensions,
    /// fit inside, and is cast to this tensor's type. One that covers everything is the result itself.
    pub fn paste(&self, source: &Tensor, offsets: &[u64], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "paste";
        if source.rank() != self.rank() || offsets.len() != self.rank() {
            let rule = "both, and the offsets, need the same number of dimensions";
            let (left, right) = (Box::new(*self.lengths_shape()), Box::new(*source.lengths_shape()));
            return Err(TensorError::Shapes { op: OP, argument: "source", left, right, rule });
        }
        for (dim, offset) in offsets.iter().enumerate() {
            let (length, room) = (source.dims()[dim] as u64, self.dims()[dim] as u64);
            if offset.checked_add(length).is_none_or(|end| end > room) {
                let message = format!("put {length} at {offset} of dimension {dim}, which has only {room}");
                return Err(TensorError::argument(OP, "offsets", message));
            }
        }
        let source = source.cast(self.dtype(), cx)?;
        if source.lengths_shape() == self.lengths_shape() {
            return Ok(source);
        }
        if cx.gpu.is_some() {
            let layout = Layout::dense_in_order(*self.lengths_shape(), self.layout.memory_order().dims());
            let mut to = layout;
            for (dim, offset) in offsets.iter().enumerate() {
                let range = SliceRange { start: *offset as usize, length: source.dims()[dim], step: 1 };
                to = to.sliced(OP, dim, range)?;
            }
            let whole = Piece { source: self, from: self.layout, to: layout };
            let pieces = [whole, Piece { source: &source, from: source.layout, to }];
            let task = Task::Assemble { layout, dtype: self.dtype(), fill: None, pieces: &pieces };
            if let Some(result) = cx.on_device(OP, task)? {
                return Ok(result);
            }
        }
        let (base, order) = self.in_memory_order();
        let source = source.with_layout(source.layout.permuted(order.dims()));
        let mut moved = [0usize; MAX_RANK];
        for (slot, dim) in moved.iter_mut().zip(order.dims()) {
            *slot = offsets[*dim] as usize;
        }
        let result = with_buffer!(self.buffer(OP, cx)?, values => paste_typed(values, &base, &source, &moved, cx))?;
        Ok(result.back_from_memory_order(&order))
    }
}

fn joined(op: &'static str, tensors: &[&Tensor], dim: usize) -> Result<(Shape, DType), TensorError> {
    let first = *tensors[0].lengths_shape();
    let (mut length, mut dtype) = (0usize, tensors[0].dtype());
    for tensor in tensors {
        let shape = tensor.lengths_shape();
        let fits = shape.rank() == first.rank()
            && (0..first.rank()).all(|other| other == dim || shape.lengths()[other] == first.lengths()[other]);
        if !fits {
            let rule = "all lengths but the one that is joined must be equal";
            return Err(TensorError::Shapes {
                op,
                argument: "tensors",
                left: Box::new(first),
                right: Box::new(*shape),
                rule,
            });
        }
        length = length.saturating_add(shape.lengths()[dim]);
        dtype = dtype.promote(tensor.dtype());
    }
    Ok((first.with_length(op, dim, length)?, dtype))
}

/// `place` is the joined dimension in the order of the result's memory.
fn cat_typed<T: Stored>(
    tensors: &[Tensor],
    place: usize,
    shape: Shape,
    order: Order,
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    const OP: &str = "cat";
    let mut result = Allocation::<T>::unfilled(OP, shape.elements(), cx)?;
    let inner: usize = shape.permuted(order.dims()).lengths()[place + 1..].iter().product();
    let mut segments = Vec::with_capacity(tensors.len());
    let mut before = 0;
    for tensor in tensors {
        let layout = tensor.layout.permuted(order.dims());
        let length = layout.lengths()[place] * inner;
        if let Some(values) = T::view(tensor.buffer(OP, cx)?).filter(|_| length > 0) {
            segments.push(Segment { source: Source { values, reader: Reader::new(&layout) }, length, before });
            before += length;
        }
    }
    cat(OP, &segments, before, &mut result.values, cx)?;
    Ok(Tensor::of(Layout::dense_in_order(shape, order.dims()), result))
}

/// All in the order of memory; `source` does not cover everything.
fn paste_typed<T: Stored>(
    values: &[T],
    base: &Tensor,
    source: &Tensor,
    offsets: &[usize; MAX_RANK],
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    const OP: &str = "paste";
    let mut result = Allocation::<T>::unfilled(OP, base.elements(), cx)?;
    let layout = Layout::contiguous(*base.lengths_shape());
    let base_source = Source { values, reader: Reader::new(&base.layout) };
    let pasted = T::view(source.buffer(OP, cx)?).map(|values| Source { values, reader: Reader::new(&source.layout) });
    let partial = (0..base.rank()).rev().find(|dim| source.dims()[*dim] != base.dims()[*dim]);
    match (pasted, partial) {
        (Some(pasted), Some(row)) if source.elements() > 0 => {
            let mut geometry = PasteGeometry {
                outer: Outer { lengths: [1; MAX_RANK], rank: row },
                source: [1; MAX_RANK],
                offsets: *offsets,
                row: base.dims()[row],
                inner: base.dims()[row + 1..].iter().product(),
            };
            geometry.outer.lengths[..row].copy_from_slice(&base.dims()[..row]);
            geometry.source[..=row].copy_from_slice(&source.dims()[..=row]);
            paste(OP, &base_source, &pasted, &geometry, &mut result.values, cx)?;
        }
        _ => copy(OP, &base_source, &mut result.values, cx)?,
    }
    Ok(Tensor::of(layout, result))
}
