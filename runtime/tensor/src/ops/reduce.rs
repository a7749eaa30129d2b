//! Sums, products, extremes and quantifiers over dimensions.

use super::ReduceOp;
use crate::cpu::reader::Reader;
use crate::cpu::reduce::{Dims, Extreme, FloatFold, Fold, IntegerFold, Quantify, Reduction};
use crate::device::Task;
use crate::shape::{Layout, Order};
use crate::storage::{Allocation, Stored};
use crate::{OpContext, Shape, Tensor, TensorError};

/// What is folded into what, for one call.
struct Job<'a> {
    reduction: Reduction<'a>,
    /// The result, in the order of memory; dropped dimensions have length 1.
    shape: Shape,
    order: Order,
}

impl Tensor {
    /// Over the given dimensions, or over all when the list is empty; `keep_dims` leaves them with length 1.
    ///
    /// Types as PyTorch's: sums and products of integers are int64, a mean needs floats, `any` and `all` answer booleans.
    /// Floats are summed in double precision. Extremes propagate not-a-number and need at least one element.
    pub fn reduce(&self, op: ReduceOp, dims: &[i32], keep_dims: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        let name = op.name();
        let mask = match dims {
            [] => [true; crate::MAX_RANK],
            dims => self.lengths_shape().dims_mask(name, "dims", dims)?,
        };
        let reduced_elements: usize = (0..self.rank()).filter(|dim| mask[*dim]).map(|dim| self.dims()[dim]).product();
        if matches!(op, ReduceOp::Amin | ReduceOp::Amax) && reduced_elements == 0 {
            let message = format!("of shape {} has no elements along the reduced dimensions", self.lengths_shape());
            return Err(TensorError::argument(name, "self", message));
        }
        if op == ReduceOp::Mean && !self.dtype().is_float() {
            let found = self.dtype();
            return Err(TensorError::Type { op: name, argument: "self", found, expected: "a float type" });
        }
        let result = match self.reduced_on_device(op, &mask, cx)? {
            Some(result) => result,
            None => {
                let job = self.job(name, &mask, cx)?;
                if self.dtype().is_float() {
                    self.reduce_floats(op, &job, reduced_elements)?
                } else {
                    self.reduce_integers(op, &job)?
                }
            }
        };
        // Folded as float32, int64 or boolean; sums and products of integers stay int64.
        let result = match op {
            ReduceOp::Any | ReduceOp::All => result,
            ReduceOp::Sum | ReduceOp::Prod if !self.dtype().is_float() => result,
            _ => result.cast(self.dtype(), cx)?,
        };
        if keep_dims {
            return Ok(result);
        }
        let dropped = (0..self.rank()).rev().filter(|dim| mask[*dim]);
        let layout = dropped.into_iter().try_fold(result.layout, |layout, dim| layout.squeezed(name, dim))?;
        Ok(result.with_layout(layout))
    }

    /// As [`Job::run`], on a GPU.
    fn reduced_on_device(&self, op: ReduceOp, mask: &[bool], cx: &OpContext) -> Result<Option<Tensor>, TensorError> {
        if cx.gpu.is_none() {
            return Ok(None);
        }
        let order = self.layout.memory_order();
        let layout = self.layout.permuted(order.dims());
        let reduced: Vec<bool> = order.dims().iter().map(|dim| mask[*dim]).collect();
        let kept = reduced.iter().zip(layout.lengths()).map(|(reduced, length)| if *reduced { 1 } else { *length });
        let shape = Shape::from_lengths(op.name(), &kept.collect::<Vec<_>>())?;
        let task = Task::Reduce { source: self, layout, reduced: &reduced, shape, op };
        let result = cx.on_device(op.name(), task)?;
        Ok(result.map(|dense| dense.with_layout(dense.layout.permuted(order.inverse().dims()))))
    }

    fn job<'a>(&'a self, op: &'static str, mask: &[bool], cx: &'a OpContext) -> Result<Job<'a>, TensorError> {
        let order = self.layout.memory_order();
        let layout = self.layout.permuted(order.dims());
        let (mut kept, mut reduced, mut innermost_kept): (Dims, Dims, bool) = (Vec::new(), Vec::new(), true);
        let mut shape = layout.shape;
        for (place, dim) in order.dims().iter().enumerate() {
            let (length, stride) = (layout.lengths()[place], layout.strides()[place]);
            let list = if mask[*dim] { &mut reduced } else { &mut kept };
            list.push((length, stride));
            if mask[*dim] {
                shape = shape.with_length(op, place, 1)?;
            }
            if length > 1 {
                innermost_kept = !mask[*dim];
            }
        }
        let kept = Reader::of_dims(layout.offset, kept.into_iter());
        let reduction = Reduction { op, buffer: self.buffer(op, cx)?, kept, reduced, innermost_kept, cx };
        Ok(Job { reduction, shape, order })
    }

    fn reduce_floats(&self, op: ReduceOp, job: &Job<'_>, count: usize) -> Result<Tensor, TensorError> {
        match op {
            ReduceOp::Sum => job.run(FloatFold { product: false, divisor: 1.0 }),
            ReduceOp::Mean => job.run(FloatFold { product: false, divisor: count as f64 }),
            ReduceOp::Prod => job.run(FloatFold { product: true, divisor: 1.0 }),
            ReduceOp::Amin => job.run(Extreme { largest: false, start: f32::INFINITY }),
            ReduceOp::Amax => job.run(Extreme { largest: true, start: f32::NEG_INFINITY }),
            ReduceOp::Any => job.run(Quantify { all: false, zero: 0.0f32 }),
            ReduceOp::All => job.run(Quantify { all: true, zero: 0.0f32 }),
        }
    }

    fn reduce_integers(&self, op: ReduceOp, job: &Job<'_>) -> Result<Tensor, TensorError> {
        match op {
            ReduceOp::Sum | ReduceOp::Mean => job.run(IntegerFold { product: false }),
            ReduceOp::Prod => job.run(IntegerFold { product: true }),
            ReduceOp::Amin => job.run(Extreme { largest: false, start: i64::MAX }),
            ReduceOp::Amax => job.run(Extreme { largest: true, start: i64::MIN }),
            ReduceOp::Any => job.run(Quantify { all: false, zero: 0i64 }),
            ReduceOp::All => job.run(Quantify { all: true, zero: 0i64 }),
        }
    }
}

impl Job<'_> {
    fn run<F: Fold>(&self, fold: F) -> Result<Tensor, TensorError>
    where
        F::Output: Stored,
    {
        let mut result =
            Allocation::<F::Output>::unfilled(self.reduction.op, self.shape.elements(), self.reduction.cx)?;
        self.reduction.run(fold, &mut result.values)?;
        let dense = Tensor::of(Layout::contiguous(self.shape), result);
        Ok(dense.with_layout(dense.layout.permuted(self.order.inverse().dims())))
    }
}

impl ReduceOp {
    /// The name used by the node interface.
    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Mean => "mean",
            ReduceOp::Prod => "prod",
            ReduceOp::Amin => "amin",
            ReduceOp::Amax => "amax",
            ReduceOp::Any => "any",
            ReduceOp::All => "all",
        }
    }
}
