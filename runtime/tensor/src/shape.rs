//! Shapes, and layouts: where in a storage the element of an index lies.

use crate::TensorError;
use std::fmt;

/// The most dimensions a tensor can have.
pub const MAX_RANK: usize = 12;

/// The most elements a shape can name, so that no index, stride or byte count can overflow.
pub const MAX_ELEMENTS: u64 = 1 << 48;

/// The lengths of a tensor's dimensions, outermost first. Their product is known not to overflow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    lengths: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// Checks rank and product. Zero lengths are allowed; the product without them is limited all the same.
    pub fn new(op: &'static str, lengths: &[u64]) -> Result<Shape, TensorError> {
        check_rank(op, lengths.len())?;
        let mut shape = Shape { lengths: [1; MAX_RANK], rank: lengths.len() };
        let mut elements = 1u64;
        for (slot, length) in shape.lengths.iter_mut().zip(lengths) {
            elements =
                elements.checked_mul((*length).max(1)).filter(|product| *product <= MAX_ELEMENTS).ok_or_else(|| {
                    TensorError::Limit {
                        op,
                        what: "the number of elements",
                        asked: format!("that of shape {lengths:?}"),
                        limit: MAX_ELEMENTS,
                    }
                })?;
            *slot = *length as usize;
        }
        Ok(shape)
    }

    /// As [`Shape::new`], from lengths that are already host sizes.
    pub(crate) fn from_lengths(op: &'static str, lengths: &[usize]) -> Result<Shape, TensorError> {
        check_rank(op, lengths.len())?;
        let mut wide = [0u64; MAX_RANK];
        for (wide, length) in wide.iter_mut().zip(lengths) {
            *wide = *length as u64;
        }
        Shape::new(op, &wide[..lengths.len()])
    }

    /// The lengths, outermost first.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths[..self.rank]
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.lengths().iter().product()
    }

    /// The shape with its dimensions in another order. `order` must be a permutation.
    pub(crate) fn permuted(&self, order: &[usize]) -> Shape {
        let mut result = *self;
        for (slot, from) in result.lengths.iter_mut().zip(order) {
            *slot = self.lengths[*from];
        }
        result
    }

    /// The shape with one length changed, checked anew.
    pub(crate) fn with_length(&self, op: &'static str, dim: usize, length: usize) -> Result<Shape, TensorError> {
        let mut lengths = self.lengths;
        lengths[dim] = length;
        Shape::from_lengths(op, &lengths[..self.rank])
    }

    /// The shape both broadcast to.
    pub(crate) fn broadcast(
        &self,
        other: &Shape,
        op: &'static str,
        argument: &'static str,
    ) -> Result<Shape, TensorError> {
        let rank = self.rank.max(other.rank);
        let mut lengths = [1usize; MAX_RANK];
        for (dim, slot) in lengths[..rank].iter_mut().enumerate() {
            let of = |shape: &Shape| (dim + shape.rank).checked_sub(rank).map_or(1, |own| shape.lengths[own]);
            *slot = match (of(self), of(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => {
                    return Err(TensorError::Shapes {
                        op,
                        argument,
                        left: Box::new(*self),
                        right: Box::new(*other),
                        rule: "counted from the last, lengths must be equal or 1",
                    });
                }
            };
        }
        Shape::from_lengths(op, &lengths[..rank])
    }

    /// Resolves a dimension that may count from the end.
    pub(crate) fn dim(&self, op: &'static str, argument: &'static str, dim: i32) -> Result<usize, TensorError> {
        let index = if dim < 0 { i64::from(dim) + self.rank as i64 } else { i64::from(dim) };
        usize::try_from(index).ok().filter(|index| *index < self.rank).ok_or_else(|| {
            TensorError::argument(op, argument, format!("names dimension {dim}, which shape {self} does not have"))
        })
    }

    /// Resolves a list of distinct dimensions into a mask.
    pub(crate) fn dims_mask(
        &self,
        op: &'static str,
        argument: &'static str,
        dims: &[i32],
    ) -> Result<[bool; MAX_RANK], TensorError> {
        let mut mask = [false; MAX_RANK];
        for dim in dims {
            let index = self.dim(op, argument, *dim)?;
            if std::mem::replace(&mut mask[index], true) {
                return Err(TensorError::argument(op, argument, format!("name dimension {dim} twice")));
            }
        }
        Ok(mask)
    }
}

fn check_rank(op: &'static str, rank: usize) -> Result<(), TensorError> {
    if rank > MAX_RANK {
        return Err(TensorError::Limit {
            op,
            what: "the number of dimensions",
            asked: rank.to_string(),
            limit: MAX_RANK as u64,
        });
    }
    Ok(())
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.lengths())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A shape, and where its elements lie: `offset + Σ index·stride`, in elements. Strides may be 0 (expanded) or negative
/// (flipped). Every index of the shape is inside the storage; only the functions of this crate make layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    strides: [isize; MAX_RANK],
    pub(crate) offset: usize,
}

impl Layout {
    /// Row-major from the start of the storage.
    pub(crate) fn contiguous(shape: Shape) -> Layout {
        let mut strides = [0isize; MAX_RANK];
        let mut stride = 1usize;
        for (slot, length) in strides[..shape.rank].iter_mut().zip(shape.lengths()).rev() {
            *slot = stride as isize;
            stride *= (*length).max(1);
        }
        Layout { shape, strides, offset: 0 }
    }

    /// Dense, with the dimensions laid out in memory in the given order, outermost first.
    pub(crate) fn dense_in_order(shape: Shape, order: &[usize]) -> Layout {
        let memory = Layout::contiguous(shape.permuted(order));
        let mut layout = Layout { shape, strides: [0; MAX_RANK], offset: 0 };
        for (stride, dim) in memory.strides().iter().zip(order) {
            layout.strides[*dim] = *stride;
        }
        layout
    }

    /// The same in a storage that begins with it.
    pub(crate) fn offset_removed(&self) -> Layout {
        Layout { offset: 0, ..*self }
    }

    pub(crate) fn strides(&self) -> &[isize] {
        &self.strides[..self.shape.rank]
    }

    pub(crate) fn lengths(&self) -> &[usize] {
        self.shape.lengths()
    }

    /// True when row-major order is memory order without gaps.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.shape.elements() == 0 || self.is_dense_in(&Layout::contiguous(self.shape))
    }

    fn is_dense_in(&self, wanted: &Layout) -> bool {
        let dims = self.lengths().iter().zip(self.strides()).zip(wanted.strides());
        dims.into_iter().all(|((length, own), wanted)| *length == 1 || own == wanted)
    }

    pub(crate) fn permuted(&self, order: &[usize]) -> Layout {
        let mut result = Layout { shape: self.shape.permuted(order), ..*self };
        for (slot, from) in result.strides.iter_mut().zip(order) {
            *slot = self.strides[*from];
        }
        result
    }

    /// The order of dimensions in memory, outermost first, or row-major where memory does not say (expanded dimensions).
    pub(crate) fn memory_order(&self) -> Order {
        let mut order = Order::identity(self.shape.rank);
        let real = |dim: usize| self.lengths()[dim] != 1;
        if (0..self.shape.rank).any(|dim| real(dim) && self.strides[dim] == 0) {
            return order;
        }
        // Dimensions of length 1 lie anywhere, so they keep their places.
        let mut moved: Vec<usize> = (0..self.shape.rank).filter(|dim| real(*dim)).collect();
        let places = moved.clone();
        moved.sort_by_key(|dim| std::cmp::Reverse(self.strides[*dim].unsigned_abs()));
        for (place, dim) in places.into_iter().zip(moved) {
            order.dims[place] = dim;
        }
        order
    }

    /// Keeps `start + i·step` for `length` values of i. The caller has checked that they exist.
    pub(crate) fn sliced(&self, op: &'static str, dim: usize, range: SliceRange) -> Result<Layout, TensorError> {
        let mut result = Layout { shape: self.shape.with_length(op, dim, range.length)?, ..*self };
        // Where nothing is, nothing lies behind it: the offset must not leave the memory.
        if result.shape.elements() > 0 {
            result.offset = offset_by(self.offset, self.strides[dim], range.start);
        }
        // A step beyond the end is never taken; it is cut so that the stride stays in range.
        let step = range.step.min(self.lengths()[dim].max(1)) as isize;
        result.strides[dim] = if range.length > 1 { self.strides[dim] * step } else { self.strides[dim] };
        Ok(result)
    }

    pub(crate) fn flipped(&self, dim: usize) -> Layout {
        let mut result = *self;
        if self.shape.elements() > 0 {
            result.offset = offset_by(self.offset, self.strides[dim], self.lengths()[dim] - 1);
        }
        result.strides[dim] = -self.strides[dim];
        result
    }

    /// Drops a dimension of length 1.
    pub(crate) fn squeezed(&self, op: &'static str, dim: usize) -> Result<Layout, TensorError> {
        let keep = |other: &usize| *other != dim;
        let lengths: Vec<usize> = (0..self.shape.rank).filter(keep).map(|d| self.lengths()[d]).collect();
        let mut result = Layout { shape: Shape::from_lengths(op, &lengths)?, ..*self };
        for (slot, from) in result.strides.iter_mut().zip((0..self.shape.rank).filter(keep)) {
            *slot = self.strides[from];
        }
        Ok(result)
    }

    /// Puts in a dimension of length 1.
    pub(crate) fn unsqueezed(&self, op: &'static str, dim: usize) -> Result<Layout, TensorError> {
        let mut lengths = self.lengths().to_vec();
        lengths.insert(dim, 1);
        let mut strides = self.strides().to_vec();
        strides.insert(dim, 1);
        let mut result = Layout { shape: Shape::from_lengths(op, &lengths)?, ..*self };
        result.strides[..strides.len()].copy_from_slice(&strides);
        Ok(result)
    }

    /// Dimension `dim` as windows over it: their number, and behind it the elements of one. Elements may be seen by several.
    /// `steps` are those from window to window and within one. The caller has checked that all elements exist.
    pub(crate) fn windowed(
        &self,
        op: &'static str,
        dim: usize,
        (count, taps): (usize, usize),
        steps: (usize, usize),
    ) -> Result<Layout, TensorError> {
        let mut lengths = self.lengths().to_vec();
        lengths[dim] = count;
        lengths.insert(dim + 1, taps);
        // A step beyond the end is never taken; it is cut so that the stride stays in range.
        let stride = |step: usize| self.strides[dim] * step.min(self.lengths()[dim].max(1)) as isize;
        let mut strides = self.strides().to_vec();
        strides[dim] = stride(steps.0);
        strides.insert(dim + 1, stride(steps.1));
        let mut result = Layout { shape: Shape::from_lengths(op, &lengths)?, ..*self };
        result.strides[..strides.len()].copy_from_slice(&strides);
        Ok(result)
    }

    /// Broadcasts to a shape that has been checked to fit.
    pub(crate) fn expanded(&self, shape: Shape) -> Layout {
        let mut result = Layout { shape, strides: [0; MAX_RANK], offset: self.offset };
        let added = shape.rank - self.shape.rank;
        for dim in 0..self.shape.rank {
            let stretched = self.lengths()[dim] != shape.lengths()[dim + added];
            result.strides[dim + added] = if stretched { 0 } else { self.strides[dim] };
        }
        result
    }

    /// The same elements under another shape, where that needs no copy.
    pub(crate) fn reshaped(&self, shape: Shape) -> Option<Layout> {
        if self.is_contiguous() {
            return Some(Layout { offset: self.offset, ..Layout::contiguous(shape) });
        }
        let old = self.without_ones();
        let mut result = Layout { shape, strides: [0; MAX_RANK], offset: self.offset };
        // Runs of old dimensions that step through memory evenly are matched, innermost first, with runs of new ones.
        let (mut new_left, mut old_left) = (shape.rank, old.shape.rank);
        while old_left > 0 {
            old_left -= 1;
            let stride = old.strides[old_left];
            let mut elements = old.lengths()[old_left];
            while old_left > 0 && old.strides[old_left - 1] == stride * elements as isize {
                old_left -= 1;
                elements *= old.lengths()[old_left];
            }
            let mut matched = 1usize;
            while new_left > 0 && matched < elements {
                new_left -= 1;
                result.strides[new_left] = stride * matched as isize;
                matched *= shape.lengths()[new_left];
            }
            if matched != elements {
                return None;
            }
        }
        Some(result)
    }

    fn without_ones(&self) -> Layout {
        let mut result = Layout { shape: Shape { lengths: [1; MAX_RANK], rank: 0 }, strides: [0; MAX_RANK], ..*self };
        for dim in (0..self.shape.rank).filter(|dim| self.lengths()[*dim] != 1) {
            result.shape.lengths[result.shape.rank] = self.lengths()[dim];
            result.strides[result.shape.rank] = self.strides[dim];
            result.shape.rank += 1;
        }
        result
    }
}

/// Part of a dimension; see [`Layout::sliced`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SliceRange {
    pub(crate) start: usize,
    pub(crate) length: usize,
    pub(crate) step: usize,
}

fn offset_by(offset: usize, stride: isize, index: usize) -> usize {
    // In range because the element exists.
    (offset as isize + stride * index as isize) as usize
}

/// An order of dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Order {
    /// Of `[B,C,H,W]`: channels innermost.
    pub(crate) const CHANNELS_LAST: Order = Order { dims: [0, 2, 3, 1, 4, 5, 6, 7, 8, 9, 10, 11], rank: 4 };

    pub(crate) fn identity(rank: usize) -> Order {
        let mut dims = [0; MAX_RANK];
        for (dim, slot) in dims.iter_mut().enumerate() {
            *slot = dim;
        }
        Order { dims, rank }
    }

    /// Row-major, but with `last` moved behind all others.
    pub(crate) fn with_last(rank: usize, last: usize) -> Order {
        let mut order = Order::identity(rank);
        order.dims[last..rank].rotate_left(1);
        order
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    pub(crate) fn inverse(&self) -> Order {
        let mut result = *self;
        for (place, dim) in self.dims().iter().enumerate() {
            result.dims[*dim] = place;
        }
        result
    }
}
