//! Sums, products, extremes and quantifiers over dimensions.

use super::ReduceOp;
use crate::cpu::convert::Compute;
use crate::cpu::reader::Reader;
use crate::cpu::reduce::{Dims, Fold, Reduction};
use crate::shape::{Layout, Order};
use crate::storage::{Allocation, Stored, with_dtype};
use crate::{DType, Element, OpContext, Shape, Tensor, TensorError};

/// What is folded into what, for one call.
struct Job<'a> {
    reduction: Reduction<'a>,
    /// The result, in the order of memory; dropped dimensions have length 1.
    shape: Shape,
    order: Order,
    cx: &'a OpContext,
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
        let job = self.job(name, &mask, cx)?;
        let result = if self.dtype().is_float() {
            self.reduce_floats(op, &job, reduced_elements)?
        } else {
            self.reduce_integers(op, &job)?
        };
        if keep_dims {
            return Ok(result);
        }
        let dropped = (0..self.rank()).rev().filter(|dim| mask[*dim]);
        let layout = dropped.into_iter().try_fold(result.layout, |layout, dim| layout.squeezed(name, dim))?;
        Ok(result.with_layout(layout))
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
        let reduction = Reduction { op, buffer: self.buffer(), kept, reduced, innermost_kept };
        Ok(Job { reduction, shape, order, cx })
    }

    fn reduce_floats(&self, op: ReduceOp, job: &Job<'_>, count: usize) -> Result<Tensor, TensorError> {
        let dtype = self.dtype();
        let count = count as f64;
        match op {
            ReduceOp::Sum => job.float(dtype, 0.0, |a, v| a + v, |v| v),
            ReduceOp::Mean => job.float(dtype, 0.0, |a, v| a + v, move |v| v / count),
            ReduceOp::Prod => job.float(dtype, 1.0, |a, v| a * v, |v| v),
            ReduceOp::Amin => job.extreme(dtype, f32::INFINITY, |a, v| if v < a || v.is_nan() { v } else { a }),
            ReduceOp::Amax => job.extreme(dtype, f32::NEG_INFINITY, |a, v| if v > a || v.is_nan() { v } else { a }),
            ReduceOp::Any => job.quantify::<f32>(false, |a, v| a | (v != 0.0), |a, b| a | b),
            ReduceOp::All => job.quantify::<f32>(true, |a, v| a & (v != 0.0), |a, b| a & b),
        }
    }

    fn reduce_integers(&self, op: ReduceOp, job: &Job<'_>) -> Result<Tensor, TensorError> {
        match op {
            ReduceOp::Sum | ReduceOp::Mean => job.integer(DType::Int64, 0, i64::wrapping_add),
            ReduceOp::Prod => job.integer(DType::Int64, 1, i64::wrapping_mul),
            ReduceOp::Amin => job.integer(self.dtype(), i64::MAX, |a: i64, v: i64| a.min(v)),
            ReduceOp::Amax => job.integer(self.dtype(), i64::MIN, |a: i64, v: i64| a.max(v)),
            ReduceOp::Any => job.quantify::<i64>(false, |a, v| a | (v != 0), |a, b| a | b),
            ReduceOp::All => job.quantify::<i64>(true, |a, v| a & (v != 0), |a, b| a & b),
        }
    }
}

impl Job<'_> {
    fn float(
        &self,
        dtype: DType,
        start: f64,
        step: impl Fn(f64, f64) -> f64 + Sync + Copy,
        finish: impl Fn(f64) -> f64 + Sync,
    ) -> Result<Tensor, TensorError> {
        with_dtype!(dtype, T => {
            let fold = Fold {
                start,
                step: move |a: f64, v: f32| step(a, f64::from(v)),
                merge: step,
                finish: |a| <T as Element>::from_f64(finish(a)),
            };
            self.write::<T>(|out| self.reduction.run(&fold, out, self.cx))
        })
    }

    fn extreme(
        &self,
        dtype: DType,
        start: f32,
        step: impl Fn(f32, f32) -> f32 + Sync + Copy,
    ) -> Result<Tensor, TensorError> {
        with_dtype!(dtype, T => {
            let fold = Fold { start, step, merge: step, finish: |a: f32| <T as Element>::from_f64(f64::from(a)) };
            self.write::<T>(|out| self.reduction.run(&fold, out, self.cx))
        })
    }

    fn integer(
        &self,
        dtype: DType,
        start: i64,
        step: impl Fn(i64, i64) -> i64 + Sync + Copy,
    ) -> Result<Tensor, TensorError> {
        match dtype {
            DType::Uint8 => self.integer_as::<u8>(start, step, |a| a as u8),
            DType::Int32 => self.integer_as::<i32>(start, step, |a| a as i32),
            DType::Boolean => self.integer_as::<bool>(start, step, |a| a != 0),
            _ => self.integer_as::<i64>(start, step, |a| a),
        }
    }

    fn integer_as<T: Stored>(
        &self,
        start: i64,
        step: impl Fn(i64, i64) -> i64 + Sync + Copy,
        finish: impl Fn(i64) -> T + Sync,
    ) -> Result<Tensor, TensorError> {
        let fold = Fold { start, step, merge: step, finish };
        self.write::<T>(|out| self.reduction.run(&fold, out, self.cx))
    }

    fn quantify<C: Compute>(
        &self,
        start: bool,
        step: impl Fn(bool, C) -> bool + Sync + Copy,
        merge: impl Fn(bool, bool) -> bool + Sync,
    ) -> Result<Tensor, TensorError> {
        let fold = Fold { start, step, merge, finish: |a| a };
        self.write::<bool>(|out| self.reduction.run(&fold, out, self.cx))
    }

    fn write<T: Stored>(&self, fill: impl FnOnce(&mut [T]) -> Result<(), TensorError>) -> Result<Tensor, TensorError> {
        let mut result = Allocation::<T>::zeroed(self.reduction.op, self.shape.elements(), self.cx)?;
        fill(&mut result.values)?;
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
