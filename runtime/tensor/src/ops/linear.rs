//! Products of matrices. All need floats, compute in float32 and answer where the types meet.

use crate::cpu::convert::Store;
use crate::cpu::gemm::{
    ConvertedRows, Left, Matrix, Packed, Start, parts_of, product, product_in_place, product_stored, storing_pays,
};
use crate::cpu::reader::Reader;
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::{Allocation, Buffer};
use crate::{BinaryOp, DType, OpContext, Operand, Shape, Tensor, TensorError};
use rayon::prelude::*;

/// Matrices in the last two dimensions of a tensor of floats; those before it broadcast over a batch.
struct Stack {
    tensor: Tensor,
    batch: Reader,
}

impl Stack {
    /// Of any float type; the product converts the right side as it goes.
    fn right(tensor: &Tensor, op: &'static str, cx: &OpContext) -> Result<Stack, TensorError> {
        // The kernel takes any step but a backward one.
        let strides = &tensor.layout.strides()[tensor.rank() - 2..];
        let usable = strides.iter().all(|stride| *stride >= 0);
        let tensor = if usable { tensor.clone() } else { tensor.contiguous(cx)? };
        tensor.buffer(op, cx)?;
        Ok(Stack { batch: Reader::of_dims(0, std::iter::empty()), tensor })
    }

    fn left(tensor: &Tensor, op: &'static str, cx: &OpContext) -> Result<Stack, TensorError> {
        Stack::right(&tensor.cast(DType::Float32, cx)?, op, cx)
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

    fn matrix<'a, T>(&self, values: &'a [T], index: usize) -> Matrix<'a, T> {
        let layout = &self.tensor.layout;
        let at = self.tensor.rank() - 2;
        Matrix {
            values: &values[(self.batch.locate(index) as usize).min(values.len())..],
            rows: layout.lengths()[at],
            columns: layout.lengths()[at + 1],
            row_stride: layout.strides()[at] as usize,
            column_stride: layout.strides()[at + 1] as usize,
        }
    }

    /// One of the left matrices, which are float32.
    fn floats(&self, index: usize) -> Matrix<'_> {
        self.matrix(self.tensor.values::<f32>(), index)
    }
}

/// `out = start + left · right`, where right is one of a stack of matrices of any float type, and left was of type `dtype`.
fn multiply(
    op: &'static str,
    (left, dtype): (Matrix<'_>, DType),
    (right, index, transposed): (&Stack, usize, bool),
    out: &mut [f32],
    start: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    fn turned<T>(matrix: Matrix<'_, T>, transposed: bool) -> Matrix<'_, T> {
        if transposed { matrix.transposed() } else { matrix }
    }
    let left = (left, parts_of(dtype));
    match right.tensor.buffer(op, cx)? {
        Buffer::Float32(values) => product(op, left, turned(right.matrix(values, index), transposed), out, start, cx),
        Buffer::Float16(values) => product(op, left, turned(right.matrix(values, index), transposed), out, start, cx),
        Buffer::Bfloat16(values) => product(op, left, turned(right.matrix(values, index), transposed), out, start, cx),
        Buffer::Float8E4m3(values) => {
            product(op, left, turned(right.matrix(values, index), transposed), out, start, cx)
        }
        Buffer::Float8E5m2(values) => {
            product(op, left, turned(right.matrix(values, index), transposed), out, start, cx)
        }
        _ => right.tensor.check_float(op, "other"),
    }
}

impl Tensor {
    /// The product of matrices, the last two dimensions of each; those before broadcast. A vector on the left counts as
    /// a row, on the right as a column, and its dimension is dropped from the result.
    pub fn matmul(&self, other: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.product(other, self.dtype().promote(other.dtype()), cx)
    }

    /// [`Tensor::matmul`] with a result of type `dtype`.
    fn product(&self, other: &Tensor, dtype: DType, cx: &OpContext) -> Result<Tensor, TensorError> {
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
        let mut lengths = batch.lengths().to_vec();
        if self.rank() > 1 {
            lengths.push(rows);
        }
        if other.rank() > 1 {
            lengths.push(columns);
        }
        let shape = Shape::from_lengths(OP, &lengths)?;
        cx.check_cost(OP, &[shape.elements(), inner])?;
        if cx.gpu.is_some() && shape.elements() > 0 {
            let over = |tensor: &Tensor| {
                let mut lengths = batch.lengths().to_vec();
                lengths.extend(&tensor.dims()[split(tensor)..]);
                Shape::from_lengths(OP, &lengths).map(|shape| tensor.layout.expanded(shape))
            };
            let (left, right) = ((&left, over(&left)?), (&right, over(&right)?));
            if let Some(result) = cx.on_device(OP, Task::Multiply { left, right, bias: None, shape, dtype })? {
                return Ok(result);
            }
        }
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        if shape.elements() > 0 && inner > 0 {
            let left = Stack::left(&left, OP, cx)?.over(&batch, OP)?;
            let right = Stack::right(&right, OP, cx)?.over(&batch, OP)?;
            // One matrix on the right for the whole dense batch: then the batch is only more rows.
            let shared = split(&right.tensor) == 0
                && left.tensor.is_contiguous()
                && left.tensor.dims()[..split(&left.tensor)] == *batch.lengths();
            let out = &mut result.values;
            if shared {
                let rows = batch.elements() * rows;
                let all = Matrix { rows, row_stride: inner, column_stride: 1, ..left.floats(0) };
                multiply(OP, (all, self.dtype()), (&right, 0, false), out, Start::Nothing, cx)?;
            } else {
                out.par_chunks_mut(rows * columns).enumerate().try_for_each(|(index, out)| {
                    multiply(OP, (left.floats(index), self.dtype()), (&right, index, false), out, Start::Nothing, cx)
                })?;
            }
        } else {
            result.values.fill(0.0);
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
        Tensor::check_per_channel(bias, OP, "bias", outputs)?;
        if cx.gpu.is_some() && shape.elements() > 0 {
            let rows = self.reshape(&[(shape.elements() / outputs) as i64, inputs as i64], cx)?;
            let (left, right) = ((&rows, rows.layout), (weight, weight.layout.permuted(&[1, 0])));
            let dtype = self.dtype().promote(weight.dtype());
            if let Some(result) = cx.on_device(OP, Task::Multiply { left, right, bias, shape, dtype })? {
                return Ok(result);
            }
        }
        let bias = Tensor::per_channel(bias, OP, "bias", outputs, cx)?;
        let dtype = self.dtype().promote(weight.dtype());
        if inputs > 0 && outputs > 0 && storing_pays(shape.elements() / outputs) {
            let bias = bias.as_ref().map(Tensor::floats);
            match dtype {
                DType::Float16 => return self.linear_stored::<half::f16>(weight, bias, shape, cx),
                DType::Bfloat16 => return self.linear_stored::<half::bf16>(weight, bias, shape, cx),
                _ => {}
            }
        }
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        if shape.elements() > 0 {
            let input = self.dense_floats(OP, "self", cx)?;
            let rows = shape.elements() / outputs;
            let start = bias.as_ref().map_or(Start::Nothing, |bias| Start::Row(bias.floats()));
            if inputs > 0 {
                let weight = Stack::right(weight, OP, cx)?.over(&Shape::new(OP, &[])?, OP)?;
                let input = Matrix::dense(input.floats(), rows, inputs);
                multiply(OP, (input, self.dtype()), (&weight, 0, true), &mut result.values, start, cx)?;
            } else {
                start.fill(&mut result.values, outputs);
            }
        }
        Tensor::of(Layout::contiguous(shape), result).cast(dtype, cx)
    }

    /// [`Tensor::linear`] of types of 16 bits, read and stored as such.
    fn linear_stored<O: Store<f32>>(
        &self,
        weight: &Tensor,
        bias: Option<&[f32]>,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "linear";
        let (outputs, inputs) = (weight.dims()[0], weight.dims()[1]);
        let rows = shape.elements() / outputs;
        let from = bias.map_or(Start::Nothing, Start::Row);
        let weight = Stack::right(weight, OP, cx)?.over(&Shape::new(OP, &[])?, OP)?;
        let packed = match weight.tensor.buffer(OP, cx)? {
            Buffer::Float32(values) => Packed::of_matrix(OP, rows, weight.matrix(values, 0).transposed(), cx)?,
            Buffer::Float16(values) => Packed::of_matrix(OP, rows, weight.matrix(values, 0).transposed(), cx)?,
            Buffer::Bfloat16(values) => Packed::of_matrix(OP, rows, weight.matrix(values, 0).transposed(), cx)?,
            Buffer::Float8E4m3(values) => Packed::of_matrix(OP, rows, weight.matrix(values, 0).transposed(), cx)?,
            Buffer::Float8E5m2(values) => Packed::of_matrix(OP, rows, weight.matrix(values, 0).transposed(), cx)?,
            _ => return Err(TensorError::argument(OP, "weight", "holds no floats")),
        };
        let mut result = Allocation::<O>::unfilled(OP, shape.elements(), cx)?;
        let input = self.contiguous(cx)?;
        let offset = input.layout.offset;
        let out = &mut result.values;
        match input.buffer(OP, cx)? {
            Buffer::Float16(values) => {
                let left = ConvertedRows(Matrix::dense(&values[offset..], rows, inputs));
                product_stored(OP, left.left(), &packed, out, from, cx)?;
            }
            Buffer::Bfloat16(values) => {
                let values = &values[offset..][..rows * inputs];
                let done = product_in_place(OP, values, &packed, out, from, cx)?;
                if done < rows {
                    let left = ConvertedRows(Matrix::dense(&values[done * inputs..], rows - done, inputs));
                    product_stored(OP, left.left(), &packed, &mut out[done * outputs..], from, cx)?;
                }
            }
            _ => {
                let input = input.dense_floats(OP, "self", cx)?;
                let left = Left::plain(Matrix::dense(input.floats(), rows, inputs)).of_parts(parts_of(self.dtype()));
                product_stored(OP, left, &packed, out, from, cx)?;
            }
        }
        Ok(Tensor::of(Layout::contiguous(shape), result))
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
        let dtype = left.dtype().promote(right.dtype()).promote(self.dtype());
        // In float32 up to the end.
        let product = left.product(right, DType::Float32, cx)?;
        let fits = product.lengths_shape().broadcast(self.lengths_shape(), OP, "self")?;
        if fits != *product.lengths_shape() {
            let message =
                format!("of shape {} does not broadcast to {}", self.lengths_shape(), product.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        let scaled = if alpha == 1.0 { product } else { product.binary(BinaryOp::Mul, Operand::Scalar(alpha), cx)? };
        if beta == 0.0 {
            return scaled.cast(dtype, cx);
        }
        let own = match beta {
            1.0 => self.clone(),
            _ => self.cast(DType::Float32, cx)?.binary(BinaryOp::Mul, Operand::Scalar(beta), cx)?,
        };
        scaled.binary(BinaryOp::Add, Operand::Tensor(&own), cx)?.cast(dtype, cx)
    }
}
