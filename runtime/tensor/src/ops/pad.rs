//! A border around a tensor.

use super::PadMode;
use super::create::check_value;
use crate::cpu::copy::{Outer, PadGeometry, Source, copy, pad};
use crate::cpu::reader::Reader;
use crate::device::{Piece, Task};
use crate::shape::{Layout, MAX_RANK, SliceRange};
use crate::storage::{Allocation, Stored, with_buffer};
use crate::{OpContext, Shape, Tensor, TensorError};

/// The most copies that a border takes on a GPU: those of four dimensions. Beyond that, the CPU pads.
const MAX_PIECES: usize = 81;

impl Tensor {
    /// Grows every dimension by the amounts `before` and `after`, first dimension first. `value` is for the constant mode.
    /// Reflecting takes less than a dimension's length, going round at most its length, replicating any non-empty one.
    pub fn pad(
        &self,
        before: &[u64],
        after: &[u64],
        mode: PadMode,
        value: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "pad";
        for (argument, amounts) in [("before", before), ("after", after)] {
            if amounts.len() != self.rank() {
                let message = format!("has {} amounts for the {} dimensions", amounts.len(), self.rank());
                return Err(TensorError::argument(OP, argument, message));
            }
            for (dim, amount) in amounts.iter().enumerate() {
                check_amount(OP, argument, dim, *amount, self.dims()[dim] as u64, mode)?;
            }
        }
        if mode == PadMode::Constant {
            check_value(OP, "value", value, self.dtype())?;
        }
        let grown = |dim: usize| (self.dims()[dim] as u64).saturating_add(before[dim]).saturating_add(after[dim]);
        let lengths: Vec<u64> = (0..self.rank()).map(grown).collect();
        let shape = Shape::new(OP, &lengths)?;
        if cx.gpu.is_some() {
            let layout = Layout::dense_in_order(shape, self.layout.memory_order().dims());
            let parts = parts(&self.layout, &layout, before, mode)?;
            let pieces: Vec<_> = parts.into_iter().map(|(from, to)| Piece { source: self, from, to }).collect();
            let fill = (mode == PadMode::Constant).then_some(value);
            let task = Task::Assemble { layout, dtype: self.dtype(), fill, pieces: &pieces };
            if pieces.len() <= MAX_PIECES
                && let Some(result) = cx.on_device(OP, task)?
            {
                return Ok(result);
            }
        }
        let (source, order) = self.in_memory_order();
        let shape = shape.permuted(order.dims());
        let mut moved = [0usize; MAX_RANK];
        for (slot, dim) in moved.iter_mut().zip(order.dims()) {
            *slot = before[*dim] as usize;
        }
        let value = if mode == PadMode::Constant { value } else { 0.0 };
        let result =
            with_buffer!(self.buffer(OP, cx)?, values => pad_typed(values, &source, shape, &moved, (mode, value), cx))?;
        Ok(result.back_from_memory_order(&order))
    }
}

/// Refuses a border that the inside cannot fill.
pub(super) fn check_amount(
    op: &'static str,
    argument: &'static str,
    dim: usize,
    amount: u64,
    length: u64,
    mode: PadMode,
) -> Result<(), TensorError> {
    let (most, name) = match mode {
        PadMode::Constant => return Ok(()),
        PadMode::Reflect => (length.saturating_sub(1), "reflect"),
        PadMode::Replicate => (if length > 0 { u64::MAX } else { 0 }, "replicate"),
        PadMode::Circular => (length, "circular"),
    };
    if amount <= most {
        return Ok(());
    }
    let message = format!("asks for {amount} in dimension {dim} of length {length}; mode {name} can give {most}");
    Err(TensorError::argument(op, argument, message))
}

/// The views of the source that make up the result, and where they go: the inside, and (but for a constant border) for
/// every dimension with a border what stands before and behind. Three for each such dimension; more than [`MAX_PIECES`] are
/// left incomplete.
fn parts(
    source: &Layout,
    target: &Layout,
    before: &[u64],
    mode: PadMode,
) -> Result<Vec<(Layout, Layout)>, TensorError> {
    const OP: &str = "pad";
    let mut parts = vec![(*source, *target)];
    for (dim, before) in before.iter().map(|amount| *amount as usize).enumerate() {
        let (length, whole) = (source.lengths()[dim], target.lengths()[dim]);
        let after = whole - length - before;
        if (before, after) == (0, 0) || parts.len() > MAX_PIECES {
            continue;
        }
        let cut = |layout: &Layout, start: usize, length: usize| {
            layout.sliced(OP, dim, SliceRange { start, length, step: 1 })
        };
        let mut finer = Vec::new();
        for (from, to) in &parts {
            finer.push((*from, cut(to, before, length)?));
            if mode == PadMode::Constant {
                continue;
            }
            for (count, behind, place) in [(before, false, 0), (after, true, before + length)] {
                if count > 0 {
                    finer.push((border(from, dim, count, behind, mode)?, cut(to, place, count)?));
                }
            }
        }
        parts = finer;
    }
    Ok(parts)
}

/// What stands before or behind the inside along a dimension, as a view of the inside.
fn border(inside: &Layout, dim: usize, count: usize, behind: bool, mode: PadMode) -> Result<Layout, TensorError> {
    const OP: &str = "pad";
    let length = inside.lengths()[dim];
    let (start, taken) = match (mode, behind) {
        (PadMode::Reflect, false) => (1, count),
        (PadMode::Reflect, true) => (length - 1 - count, count),
        (PadMode::Circular, false) => (length - count, count),
        (PadMode::Circular, true) => (0, count),
        (_, false) => (0, 1),
        (_, true) => (length - 1, 1),
    };
    let part = inside.sliced(OP, dim, SliceRange { start, length: taken, step: 1 })?;
    match mode {
        PadMode::Reflect => Ok(part.flipped(dim)),
        PadMode::Replicate => Ok(part.expanded(part.shape.with_length(OP, dim, count)?)),
        _ => Ok(part),
    }
}

/// All in the order of memory; `shape` is the result's.
fn pad_typed<T: Stored>(
    values: &[T],
    source: &Tensor,
    shape: Shape,
    before: &[usize; MAX_RANK],
    (mode, value): (PadMode, f64),
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    const OP: &str = "pad";
    let mut result = Allocation::<T>::unfilled(OP, shape.elements(), cx)?;
    let padded = Source { values, reader: Reader::new(&source.layout) };
    match (0..shape.rank()).rev().find(|dim| shape.lengths()[*dim] != source.dims()[*dim]) {
        None => copy(OP, &padded, &mut result.values, cx)?,
        Some(row) => {
            let mut geometry = PadGeometry {
                outer: Outer { lengths: [1; MAX_RANK], rank: row },
                source: [1; MAX_RANK],
                before: *before,
                row: shape.lengths()[row],
                inner: shape.lengths()[row + 1..].iter().product(),
                mode,
            };
            geometry.outer.lengths[..row].copy_from_slice(&shape.lengths()[..row]);
            geometry.source[..=row].copy_from_slice(&source.dims()[..=row]);
            pad(OP, &padded, &geometry, T::from_f64(value), &mut result.values, cx)?;
        }
    }
    Ok(Tensor::of(Layout::contiguous(shape), result))
}
