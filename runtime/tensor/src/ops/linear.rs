//! Products of matrices. All need floats, compute in float32 and answer where the types meet.

use crate::cpu::gemm::{Matrix, multiply_batch};
use crate::cpu::reader::Reader;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{BinaryOp, DType, OpContext, Operand, Shape, Tensor, TensorError};

/// A float32 tensor of at least two dimensions, the last two a matrix; those before it broadcast over a batch.
struct Stack {
    tensor: Tensor,
    batch: Reader,
}

impl Stack {
    fn new(tensor: &Tensor, op: &'static str, cx: &OpContext) -> Result<Stack, TensorError> {
        let tensor = tensor.cast(DType::Float32, cx)?;
        // The kernel takes any step but a backward one, and columns or rows that are neighbours.
        let strides = &tensor.layout.strides()[tensor.rank() - 2..];
        let usable = strides.iter().all(|stride| *stride >= 0) && strides.contains(&1);
        let tensor = if usable { tensor } else { tensor.contiguous(cx)? };
        cx.check(op)?;
        tensor.buffer(op, cx)?;
        Ok(Stack { batch: Reader::of_dims(0, std::iter::empty()), tensor })
    }

    /// Repeats the matrices so that they fill `batch`, which they are known to broadcast to.
    fn over(mut self, batch: &Shape, op: &'static str) -> Result<Stack, TensorError> {
        let rank = self.tensor.rank();
        let mut lengths = batch.lengths().to_vec();
        lengths.extend(&self.tensor.dims()[rank - 2..]);
        let layout = self.tensor.layout.expanded(Shape::from_lengths(op, &lengths)?);
        let dims = layout.lengths().iter().copied().zip(layout.strides().iter().copied());
        self.batch = Reader::of_dims(layout.offset, dims.take(batch.rank()));
        Ok(self)
    }

    fn matrix(&self, index: usize) -> Matrix<'_> {
        let layout = &self.tensor.layout;
        let at = self.tensor.rank() - 2;
        let values = self.tensor.values::<f32>();
        Matrix {
            values: &values[(self.batch.locate(index) as usize).min(values.len())..],
            rows: layout.lengths()[at],
            columns: layout.lengths()[at + 1],
            row_stride: layout.strides()[at] as usize,
            column_stride: layout.strides()[at + 1] as usize,
        }
    }
}

impl Tensor {
    /// The product of matrices, the last two dimensions of each; those before broadcast. A vector on the left counts as
    /// a row, on the right as a column, and its dimension is dropped from the result.
    pub fn matmul(&self, other: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "matmul";
        self.check_float(OP, "self")?;
        other.check_float(OP, "other")?;
        let fit = |rule| {
            let (left, right) = (Box::new(*self.lengths_shape()), Box::new(*other.lengths_shape()));
            TensorError::Shapes { op: OP, argument: "other", left, right, rule }
        };
        if self.rank() == 0 || other.rank() == 0 {
            return Err(fit("both need at least one dimension"));
        }
        let left = if self.rank() == 1 { self.unsqueeze(0, cx)? } else { self.clone() };
        let right = if other.rank() == 1 { other.unsqueeze(1, cx)? } else { other.clone() };
        let split = |tensor: &Tensor| tensor.rank() - 2;
        let (rows, inner) = (left.dims()[split(&left)], left.dims()[split(&left) + 1]);
        let (inner_right, columns) = (right.dims()[split(&right)], right.dims()[split(&right) + 1]);
        if inner != inner_right {
            return Err(fit("the last length of self must be the last but one of other (or its only one)"));
        }
        let batch_of = |tensor: &Tensor| Shape::from_lengths(OP, &tensor.dims()[..split(tensor)]);
        let batch = batch_of(&left)?.broadcast(&batch_of(&right)?, OP, "other")?;
        let dtype = self.dtype().promote(other.dtype());
        let mut lengths = batch.lengths().to_vec();
        if self.rank() > 1 {
            lengths.push(rows);
        }
        if other.rank() > 1 {
            lengths.push(columns);
        }
        let shape = Shape::from_lengths(OP, &lengths)?;
        cx.check_cost(OP, &[shape.elements(), inner])?;
        let mut result = Allocation::<f32>::zeroed(OP, shape.elements(), cx)?;
        if shape.elements() > 0 && inner > 0 {
            let left = Stack::new(&left, OP, cx)?.over(&batch, OP)?;
            let right = Stack::new(&right, OP, cx)?.over(&batch, OP)?;
            // One matrix on the right for the whole dense batch: then the batch is only more rows.
            let shared = split(&right.tensor) == 0
                && left.tensor.is_contiguous()
                && left.tensor.dims()[..split(&left.tensor)] == *batch.lengths();
            if shared {
                let all =
                    Matrix { rows: batch.elements() * rows, row_stride: inner, column_stride: 1, ..left.matrix(0) };
                multiply_batch(
                    OP,
                    (all.rows, inner, columns),
                    &|_| (all, right.matrix(0)),
                    &mut result.values,
                    false,
                    cx,
                )?;
            } else {
                let operands = |index| (left.matrix(index), right.matrix(index));
                multiply_batch(OP, (rows, inner, columns), &operands, &mut result.values, false, cx)?;
            }
        }
        Tensor::of(Layout::contiguous(shape), result).cast(dtype, cx)
    }

    /// `self · weightᵀ + bias`: `self` of `[…, in]`, `weight` of `[out, in]`, `bias` of `[out]`.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "linear";
        self.check_float(OP, "self")?;
        weight.check_float(OP, "weight")?;
        weight.check_rank(OP, "weight", 2, "[out,in]")?;
        let (outputs, inputs) = (weight.dims()[0], weight.dims()[1]);
        if self.dims().last() != Some(&inputs) {
            let (left, right) = (Box::new(*self.lengths_shape()), Box::new(*weight.lengths_shape()));
            let rule = "the last lengths of both must be equal";
            return Err(TensorError::Shapes { op: OP, argument: "weight", left, right, rule });
        }
        let shape = self.lengths_shape().with_length(OP, self.rank() - 1, outputs)?;
        cx.check_cost(OP, &[shape.elements(), inputs])?;
        let bias = Tensor::per_channel(bias, OP, "bias", outputs, cx)?;
        let mut result = Allocation::<f32>::zeroed(OP, shape.elements(), cx)?;
        if shape.elements() > 0 {
            if let Some(bias) = &bias {
                result.values.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias.floats()));
            }
            let input = self.dense_floats(OP, "self", cx)?;
            let rows = shape.elements() / outputs;
            let weight = Stack::new(weight, OP, cx)?;
            let weight = weight.over(&Shape::new(OP, &[])?, OP)?;
            if inputs > 0 {
                let operands = |_| (Matrix::dense(input.floats(), rows, inputs), weight.matrix(0).transposed());
                multiply_batch(OP, (rows, inputs, outputs), &operands, &mut result.values, bias.is_some(), cx)?;
            }
        }
        Tensor::of(Layout::contiguous(shape), result).cast(self.dtype().promote(weight.dtype()), cx)
    }

    /// `beta · self + alpha · (left · right)`, where `self` broadcasts to the product; batches as in [`Tensor::matmul`]
    /// (PyTorch's `addmm` and `baddbmm`). With a beta of 0, not-a-number in `self` is ignored.
    pub fn addmm(
        &self,
        left: &Tensor,
        right: &Tensor,
        beta: f64,
        alpha: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "addmm";
        self.check_float(OP, "self")?;
        let product = left.matmul(right, cx)?;
        let fits = product.lengths_shape().broadcast(self.lengths_shape(), OP, "self")?;
        if fits != *product.lengths_shape() {
            let message =
                format!("of shape {} does not broadcast to {}", self.lengths_shape(), product.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        let dtype = product.dtype().promote(self.dtype());
        let scaled = if alpha == 1.0 { product } else { product.binary(BinaryOp::Mul, Operand::Scalar(alpha), cx)? };
        if beta == 0.0 {
            return scaled.cast(dtype, cx);
        }
        let own = if beta == 1.0 { self.clone() } else { self.binary(BinaryOp::Mul, Operand::Scalar(beta), cx)? };
        scaled.binary(BinaryOp::Add, Operand::Tensor(&own), cx)
    }
}
