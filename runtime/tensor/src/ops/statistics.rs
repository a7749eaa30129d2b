//! Order statistics, norms of vectors, running products: made of other operations, which check and pay for their parts.

use crate::cpu::rows::histogram;
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{BinaryOp, DType, OpContext, Operand, ReduceOp, Tensor, TensorError, UnaryOp};

/// The most parts of [`Tensor::histogram`].
pub const MAX_BINS: u64 = 1 << 16;

impl Tensor {
    /// The identity of `rows` × `columns`.
    pub fn eye(rows: u64, columns: u64, dtype: DType, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "eye";
        crate::Shape::new(OP, &[rows, columns])?;
        // Not `arange`, which is float32 and cannot tell large numbers apart.
        let count = |length: u64| Tensor::full(&[length], 1.0, DType::Int64, cx)?.cumsum(0, cx);
        let rows = count(rows)?.unsqueeze(1, cx)?;
        rows.binary(BinaryOp::Eq, Operand::Tensor(&count(columns)?), cx)?.cast(dtype, cx)
    }

    /// The products of each element and all before it along `dim`. Floats only; they are multiplied in double precision.
    pub fn cumprod(&self, dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "cumprod";
        self.check_float(OP, "self")?;
        self.cumulated(OP, dim, true, cx)
    }

    /// The lower middle one of the elements along `dim` in order, as PyTorch's; not-a-number if there is one.
    pub fn median(&self, dim: i32, keep_dim: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "median";
        let place = self.lengths_shape().dim(OP, "dim", dim)?;
        let length = self.dims()[place];
        let Some(middle) = length.checked_sub(1).map(|last| (last / 2) as i64) else {
            return Err(TensorError::argument(OP, "dim", format!("{dim} has no elements")));
        };
        let dim = place as i32;
        let sorted = self.sort(dim, false, cx)?.0;
        let mut middle = sorted.slice(dim, middle, middle + 1, 1, cx)?;
        if self.dtype().is_float() {
            middle = odd_if_any(&sorted, middle, dim, cx)?;
        }
        if keep_dim { Ok(middle) } else { middle.squeeze(dim, cx) }
    }

    /// What `q` (0 to 1) of the elements along `dim` lie below, between the two nearest by proportion; not-a-number if
    /// there is one. Floats only.
    pub fn quantile(&self, q: f64, dim: i32, keep_dim: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "quantile";
        self.check_float(OP, "self")?;
        let place = self.lengths_shape().dim(OP, "dim", dim)?;
        if !(0.0..=1.0).contains(&q) {
            return Err(TensorError::argument(OP, "q", format!("is {q}; 0 to 1 will do")));
        }
        let Some(last) = self.dims()[place].checked_sub(1) else {
            return Err(TensorError::argument(OP, "dim", format!("{dim} has no elements")));
        };
        let (dim, at) = (place as i32, q * last as f64);
        let sorted = self.sort(dim, false, cx)?.0;
        let element = |index: f64| sorted.slice(dim, index as i64, index as i64 + 1, 1, cx);
        let between = element(at.floor())?.lerp(&element(at.ceil())?, Operand::Scalar(at.fract()), cx)?;
        let result = odd_if_any(&sorted, between, dim, cx)?;
        if keep_dim { Ok(result) } else { result.squeeze(dim, cx) }
    }

    /// How many elements of each row, `[…,N]`, fall into each of `bins` even parts of `min`..=`max`: `[…,bins]`, int64. What
    /// lies outside, and not-a-number, is not counted. As NumPy's `histogram` and PyTorch's `histc`.
    pub fn histogram(&self, bins: u64, min: f64, max: f64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "histogram";
        let Some(row) = self.dims().last().copied() else {
            return Err(TensorError::argument(OP, "self", "has no dimensions, but […,N] is needed"));
        };
        if !(1..=MAX_BINS).contains(&bins) {
            return Err(TensorError::argument(OP, "bins", format!("is {bins}; 1 to {MAX_BINS} will do")));
        }
        if !(min.is_finite() && max.is_finite() && min < max) {
            let message = format!("is {min} and max is {max}; two finite numbers in order are needed");
            return Err(TensorError::argument(OP, "min", message));
        }
        let shape = self.lengths_shape().with_length(OP, self.rank() - 1, bins as usize)?;
        cx.check_cost(OP, &[self.elements(), 8])?;
        let range = [min, max];
        if let Some(source) = self.dense_for_gpu(cx)?
            && let Some(result) =
                cx.on_device(OP, Task::Histogram { source: &source, bins: bins as usize, range, shape })?
        {
            return Ok(result);
        }
        let values = self.cast(DType::Float32, cx)?.dense_floats(OP, "self", cx)?;
        let mut result = Allocation::<i64>::zeroed(OP, shape.elements(), cx)?;
        histogram(OP, values.floats(), row, (bins as usize, min, max), &mut result.values, cx)?;
        Ok(Tensor::of(Layout::contiguous(shape), result))
    }

    /// The vector norm of order `p` over the given dimensions (all when the list is empty): the p-th root of the sum of the
    /// p-th powers; the largest magnitude for an infinite `p`, the number of elements that are not zero for 0.
    pub fn norm(&self, p: f64, dims: &[i32], keep_dims: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "norm";
        self.check_float(OP, "self")?;
        if p.is_nan() || p < 0.0 {
            return Err(TensorError::argument(OP, "p", format!("is {p}; it must be zero or more")));
        }
        let reduce = |tensor: &Tensor, op| tensor.reduce(op, dims, keep_dims, cx);
        let wide = self.cast(DType::Float32, cx)?;
        let norm = if p == f64::INFINITY {
            reduce(&wide.unary(UnaryOp::Abs, cx)?, ReduceOp::Amax)?
        } else if p == 0.0 {
            let counted = wide.binary(BinaryOp::Ne, Operand::Scalar(0.0), cx)?.cast(DType::Float32, cx)?;
            reduce(&counted, ReduceOp::Sum)?
        } else if p == 1.0 {
            reduce(&wide.unary(UnaryOp::Abs, cx)?, ReduceOp::Sum)?
        } else if p == 2.0 {
            reduce(&wide.unary(UnaryOp::Square, cx)?, ReduceOp::Sum)?.unary(UnaryOp::Sqrt, cx)?
        } else {
            let powers = wide.unary(UnaryOp::Abs, cx)?.binary(BinaryOp::Pow, Operand::Scalar(p), cx)?;
            reduce(&powers, ReduceOp::Sum)?.binary(BinaryOp::Pow, Operand::Scalar(1.0 / p), cx)?
        };
        norm.cast(self.dtype(), cx)
    }
}

/// `value`, or not-a-number where the last of the sorted elements is (where sorting puts it).
fn odd_if_any(sorted: &Tensor, value: Tensor, dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
    let last = sorted.slice(dim, -1, i64::MAX, 1, cx)?;
    let same = last.binary(BinaryOp::Eq, Operand::Tensor(&last), cx)?;
    value.where_(&same, Operand::Tensor(&last), cx)
}
