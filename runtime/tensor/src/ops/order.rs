//! What depends on the order of elements along a dimension: sort, topk, argmax, cumsum; and the variance.

use super::interpolate::workspace;
use crate::cpu::rows::{self, Sorting};
use crate::device::Task;
use crate::shape::{Layout, Order};
use crate::storage::{Allocation, Stored};
use crate::{BinaryOp, DType, OpContext, Operand, ReduceOp, Shape, Tensor, TensorError, UnaryOp};

/// The most elements along the dimension of [`Tensor::sort`] and [`Tensor::topk`].
pub const MAX_SORT: usize = 1 << 26;

/// A dense tensor of float32 or int64 with the dimension of interest last.
struct RowsOf {
    tensor: Tensor,
    order: Order,
    row: usize,
}

impl Tensor {
    fn rows_to_compare(&self, op: &'static str, dim: i32, cx: &OpContext) -> Result<RowsOf, TensorError> {
        let (rows, order) = self.rows_along(op, dim)?;
        let compute = if self.dtype().is_float() { DType::Float32 } else { DType::Int64 };
        let tensor = rows.cast(compute, cx)?.contiguous(cx)?;
        tensor.buffer(op, cx)?;
        Ok(RowsOf { row: tensor.dims()[tensor.rank() - 1], tensor, order })
    }

    /// The elements along `dim` in order, and where they were (int64). Equal ones keep their order; not-a-number counts
    /// as the largest.
    pub fn sort(&self, dim: i32, descending: bool, cx: &OpContext) -> Result<(Tensor, Tensor), TensorError> {
        const OP: &str = "sort";
        let length = self.dims()[self.lengths_shape().dim(OP, "dim", dim)?];
        self.sorted(OP, dim, length, descending, cx)
    }

    /// The `k` largest (or smallest) elements along `dim`, best first, and where they were (int64).
    pub fn topk(&self, k: u64, dim: i32, largest: bool, cx: &OpContext) -> Result<(Tensor, Tensor), TensorError> {
        const OP: &str = "topk";
        let length = self.dims()[self.lengths_shape().dim(OP, "dim", dim)?];
        let Some(k) = usize::try_from(k).ok().filter(|k| *k <= length) else {
            return Err(TensorError::argument(OP, "k", format!("is {k}, but the dimension has only {length}")));
        };
        self.sorted(OP, dim, k, largest, cx)
    }

    fn sorted(
        &self,
        op: &'static str,
        dim: i32,
        kept: usize,
        descending: bool,
        cx: &OpContext,
    ) -> Result<(Tensor, Tensor), TensorError> {
        let length = self.dims()[self.lengths_shape().dim(op, "dim", dim)?];
        if length > MAX_SORT {
            let what = "the length of the dimension";
            return Err(TensorError::Limit { op, what, asked: length.to_string(), limit: MAX_SORT as u64 });
        }
        if let Some(result) = self.sorted_on_device(op, dim, kept, descending, cx)? {
            return Ok(result);
        }
        let rows = self.rows_to_compare(op, dim, cx)?;
        let shape = rows.tensor.shape_of_rows(op, kept)?;
        let mut indices = Allocation::<i64>::zeroed(op, shape.elements(), cx)?;
        let sorting = Sorting { op, row: rows.row, kept, descending };
        let _workspace = workspace(op, rows.row * 16 * rayon::current_num_threads(), cx)?;
        let values = match self.dtype().is_float() {
            true => sorted_values::<f32>(&sorting, &rows, shape, &mut indices.values, cx)?,
            false => sorted_values::<i64>(&sorting, &rows, shape, &mut indices.values, cx)?,
        };
        let back = |tensor: Tensor| tensor.back_from_memory_order(&rows.order);
        let indices = Tensor::of(Layout::contiguous(shape), indices);
        Ok((back(values).cast(self.dtype(), cx)?, back(indices)))
    }

    /// The places come out of the sorting, and the elements by their places.
    fn sorted_on_device(
        &self,
        op: &'static str,
        dim: i32,
        kept: usize,
        descending: bool,
        cx: &OpContext,
    ) -> Result<Option<(Tensor, Tensor)>, TensorError> {
        let (rows, order) = self.rows_along(op, dim)?;
        let Some(source) = rows.dense_for_gpu(cx)? else { return Ok(None) };
        let task = Task::SortedPlaces { source: &source, kept, descending };
        let Some(places) = cx.on_device(op, task)? else { return Ok(None) };
        let (dim, shape) = (source.rank() - 1, *places.lengths_shape());
        let index = (&places, places.layout);
        let task = Task::Gather { source: &source, layout: source.layout, dim, index, shape };
        let values = cx.on_device(op, task)?;
        Ok(values.map(|values| (values.back_from_memory_order(&order), places.back_from_memory_order(&order))))
    }

    /// What a task makes of the rows along `dim`, which it sees row-major.
    fn rows_on_device(
        &self,
        op: &'static str,
        dim: i32,
        cx: &OpContext,
        task: impl for<'t> FnOnce(&'t Tensor) -> Task<'t>,
    ) -> Result<Option<Tensor>, TensorError> {
        let (rows, order) = self.rows_along(op, dim)?;
        let Some(source) = rows.dense_for_gpu(cx)? else { return Ok(None) };
        let result = cx.on_device(op, task(&source))?;
        Ok(result.map(|result| result.back_from_memory_order(&order)))
    }

    /// Where the largest (or smallest) element along `dim` is, the first of equals; int64. Not-a-number wins.
    pub fn argmax(&self, dim: i32, smallest: bool, keep_dim: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        let op = if smallest { "argmin" } else { "argmax" };
        if let Some(result) = self.rows_on_device(op, dim, cx, |source| Task::Argmax { source, smallest })? {
            return if keep_dim { Ok(result) } else { result.squeeze(dim, cx) };
        }
        let rows = self.rows_to_compare(op, dim, cx)?;
        if rows.row == 0 {
            let message = format!("of shape {} has no elements along dimension {dim}", self.lengths_shape());
            return Err(TensorError::argument(op, "self", message));
        }
        let shape = rows.tensor.shape_of_rows(op, 1)?;
        let mut result = Allocation::<i64>::zeroed(op, shape.elements(), cx)?;
        match self.dtype().is_float() {
            true => rows::best::<f32>(op, rows.values(), rows.row, smallest, &mut result.values, cx)?,
            false => rows::best::<i64>(op, rows.values(), rows.row, smallest, &mut result.values, cx)?,
        }
        let result = Tensor::of(Layout::contiguous(shape), result).back_from_memory_order(&rows.order);
        if keep_dim { Ok(result) } else { result.squeeze(dim, cx) }
    }

    /// The sums of each element and all before it along `dim`. Integers answer int64, and wrap.
    pub fn cumsum(&self, dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "cumsum";
        if self.dtype().is_float() {
            return self.cumulated(OP, dim, false, cx);
        }
        if let Some(result) = self.rows_on_device(OP, dim, cx, |source| Task::Accumulate { source, product: false })? {
            return Ok(result);
        }
        let rows = self.rows_to_compare(OP, dim, cx)?;
        let shape = *rows.tensor.lengths_shape();
        let mut result = Allocation::<i64>::zeroed(OP, shape.elements(), cx)?;
        rows::cumulate(OP, rows.values(), rows.row, &mut result.values, cx)?;
        Ok(Tensor::of(Layout::contiguous(shape), result).back_from_memory_order(&rows.order))
    }

    /// The sums, or products, of each element and all before it along `dim`; floats only, in double precision.
    pub(super) fn cumulated(
        &self,
        op: &'static str,
        dim: i32,
        product: bool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        if let Some(result) = self.rows_on_device(op, dim, cx, |source| Task::Accumulate { source, product })? {
            return Ok(result);
        }
        let rows = self.rows_to_compare(op, dim, cx)?;
        let shape = *rows.tensor.lengths_shape();
        let mut result = Allocation::<f32>::unfilled(op, shape.elements(), cx)?;
        let (values, out) = (rows.values(), &mut result.values);
        match product {
            true => rows::cumulate_floats(op, values, rows.row, out, cx, (1.0, |product, value| product * value))?,
            false => rows::cumulate_floats(op, values, rows.row, out, cx, (0.0, |sum, value| sum + value))?,
        }
        let result = Tensor::of(Layout::contiguous(shape), result).cast(self.dtype(), cx)?;
        Ok(result.back_from_memory_order(&rows.order))
    }

    /// The mean squared distance from the mean over the given dimensions (all when the list is empty), with the sum
    /// divided by their number less `correction`: 1 for a sample, 0 for all there is.
    ///
    /// Workspace: the tensor once more, as float32.
    pub fn variance(
        &self,
        dims: &[i32],
        correction: f64,
        keep_dims: bool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "variance";
        self.check_float(OP, "self")?;
        if !correction.is_finite() {
            return Err(TensorError::argument(OP, "correction", format!("is {correction}, not a finite number")));
        }
        let mask = match dims {
            [] => [true; crate::MAX_RANK],
            dims => self.lengths_shape().dims_mask(OP, "dims", dims)?,
        };
        let count: usize = (0..self.rank()).filter(|dim| mask[*dim]).map(|dim| self.dims()[dim]).product();
        let floats = self.cast(DType::Float32, cx)?;
        let mean = floats.reduce(ReduceOp::Mean, dims, true, cx)?;
        let squares = floats.binary(BinaryOp::Sub, Operand::Tensor(&mean), cx)?.unary(UnaryOp::Square, cx)?;
        let sum = squares.reduce(ReduceOp::Sum, dims, keep_dims, cx)?;
        let divisor = (count as f64 - correction).max(0.0);
        sum.binary(BinaryOp::Div, Operand::Scalar(divisor), cx)?.cast(self.dtype(), cx)
    }
}

impl RowsOf {
    fn values<T: Stored>(&self) -> &[T] {
        let values = self.tensor.values::<T>();
        &values[self.tensor.layout.offset.min(values.len())..]
    }
}

fn sorted_values<C: rows::Ordered>(
    sorting: &Sorting,
    rows: &RowsOf,
    shape: Shape,
    indices: &mut [i64],
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    let mut values = Allocation::<C>::zeroed(sorting.op, shape.elements(), cx)?;
    rows::sort::<C>(sorting, rows.values(), &mut values.values, indices, cx)?;
    Ok(Tensor::of(Layout::contiguous(shape), values))
}
