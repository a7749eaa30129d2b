//! Normalisation, and softmax. All need floats, compute in float32 and keep the type.

use crate::cpu::norm::{Groups, Norm, Over};
use crate::cpu::softmax::softmax;
use crate::device::{RowNorm, Rows, Task};
use crate::fusion::Expression;
use crate::shape::{Layout, Order};
use crate::storage::Allocation;
use crate::{BinaryOp, OpContext, Operand, Shape, Tensor, TensorError};

fn check_eps(op: &'static str, eps: f64) -> Result<(), TensorError> {
    if eps.is_finite() && eps >= 0.0 {
        return Ok(());
    }
    Err(TensorError::argument(op, "eps", format!("is {eps}; it must be a finite number, zero or more")))
}

impl Tensor {
    /// Normalises `[B,C,…]` over each of `groups` parts of its channels, then times `weight` plus `bias`, both `[C]`.
    pub fn group_norm(
        &self,
        groups: u64,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "group-norm";
        self.check_float(OP, "self")?;
        check_eps(OP, eps)?;
        if self.rank() < 2 {
            let message = format!("has shape {}, but [B,C,…] is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        let (batch, channels) = (self.dims()[0], self.dims()[1]);
        let groups = usize::try_from(groups).unwrap_or(usize::MAX);
        if groups == 0 || !channels.is_multiple_of(groups) {
            let message = format!("is {groups}, which does not divide the {channels} channels");
            return Err(TensorError::argument(OP, "groups", message));
        }
        if let Some(result) = self.groups_on_device(groups, weight, bias, eps, cx)? {
            return Ok(result);
        }
        let weight = Tensor::per_channel(weight, OP, "weight", channels, cx)?;
        let bias = Tensor::per_channel(bias, OP, "bias", channels, cx)?;
        let order = self.layout.memory_order();
        let last = self.rank() == 4 && order == Order::CHANNELS_LAST;
        let order = if last { order } else { Order::identity(self.rank()) };
        let input = self.with_layout(self.layout.permuted(order.dims())).dense_floats(OP, "self", cx)?;
        let inner = self.elements().checked_div(batch * channels).unwrap_or(0);
        let over = Over::Groups(Groups { batch, channels, groups, inner, channels_last: last });
        self.normalized(Norm { op: OP, input, weight, bias, eps, over }, order, cx)
    }

    /// As [`Tensor::group_norm`], once the arguments but weight and bias are known to fit.
    fn groups_on_device(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        const OP: &str = "group-norm";
        if cx.gpu.is_none() || self.elements() == 0 {
            return Ok(None);
        }
        let (batch, channels) = (self.dims()[0], self.dims()[1]);
        let parameters = [(weight, "weight"), (bias, "bias")];
        parameters.iter().try_for_each(|(tensor, name)| Tensor::check_per_channel(*tensor, OP, name, channels))?;
        let order = self.layout.memory_order();
        let last = self.rank() == 4 && order == Order::CHANNELS_LAST;
        let order = if last { order } else { Order::identity(self.rank()) };
        let dense = self.with_layout(self.layout.permuted(order.dims())).contiguous(cx)?;
        let inner = self.elements() / batch / channels;
        let each = channels / groups;
        let rows = Rows {
            count: batch * groups,
            minor: groups,
            major_stride: channels * inner,
            minor_stride: if last { each } else { each * inner },
            outer: each,
            inner,
            outer_stride: if last { 1 } else { inner },
            inner_stride: if last { channels } else { 1 },
        };
        let layout = Layout::dense_in_order(*self.lengths_shape(), order.dims());
        cx.on_device(OP, Task::Rows { source: &dense, layout, rows, norm: RowNorm::Group(eps), weight, bias })
    }

    /// Normalises every channel of every picture of `[B,C,…]` by itself: as [`Tensor::group_norm`] with a group for each.
    pub fn instance_norm(
        &self,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let channels = self.dims().get(1).map_or(1, |channels| (*channels).max(1));
        self.group_norm(channels as u64, weight, bias, eps, cx)
    }

    /// `(self − mean) / √(variance + eps) · weight + bias`, all of `[C]`, for `[B,C,…]`: what a trained model does with
    /// the statistics it learnt.
    pub fn batch_norm(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "batch-norm";
        self.check_float(OP, "self")?;
        check_eps(OP, eps)?;
        let Some(channels) = self.dims().get(1).copied() else {
            let message = format!("has shape {}, but [B,C,…] is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        };
        let mean = Tensor::per_channel(Some(mean), OP, "mean", channels, cx)?;
        let variance = Tensor::per_channel(Some(variance), OP, "variance", channels, cx)?;
        let weight = Tensor::per_channel(weight, OP, "weight", channels, cx)?;
        let bias = Tensor::per_channel(bias, OP, "bias", channels, cx)?;
        let value = |tensor: &Option<Tensor>, channel: usize, other: f32| {
            tensor.as_ref().map_or(other, |tensor| tensor.floats()[channel])
        };
        // One factor and one summand per channel.
        let factor = |channel| {
            let root = (f64::from(value(&variance, channel, 1.0)) + eps).sqrt();
            f64::from(value(&weight, channel, 1.0)) / root
        };
        let summand =
            |channel| f64::from(value(&bias, channel, 0.0)) - f64::from(value(&mean, channel, 0.0)) * factor(channel);
        let mut shape = vec![channels as u64];
        shape.resize(self.rank() - 1, 1);
        let spread = |value: &dyn Fn(usize) -> f64| {
            Tensor::from_vec(&shape, (0..channels).map(|channel| value(channel) as f32).collect::<Vec<_>>(), cx)
        };
        let scaled = self.binary(BinaryOp::Mul, Operand::Tensor(&spread(&factor)?), cx)?;
        scaled.binary(BinaryOp::Add, Operand::Tensor(&spread(&summand)?), cx)?.cast(self.dtype(), cx)
    }

    /// Normalises over the last `dims` dimensions to mean 0 and variance 1, then times `weight` plus `bias`, both of the
    /// shape of those dimensions.
    pub fn layer_norm(
        &self,
        dims: u32,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.row_norm("layer-norm", dims, weight, bias, eps, false, cx)
    }

    /// As [`Tensor::layer_norm`], but only divides by the root of the mean square.
    pub fn rms_norm(
        &self,
        dims: u32,
        weight: Option<&Tensor>,
        eps: f64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.row_norm("rms-norm", dims, weight, None, eps, true, cx)
    }

    #[allow(clippy::too_many_arguments)]
    fn row_norm(
        &self,
        op: &'static str,
        dims: u32,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        rms: bool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.check_float(op, "self")?;
        check_eps(op, eps)?;
        let dims = dims as usize;
        if dims == 0 || dims > self.rank() {
            let message = format!("is {dims}; shape {} has 1 to {} last dimensions", self.lengths_shape(), self.rank());
            return Err(TensorError::argument(op, "dims", message));
        }
        let inner = &self.dims()[self.rank() - dims..];
        let check = |tensor: Option<&Tensor>, argument| match tensor {
            Some(tensor) if tensor.dims() != inner => {
                let message = format!("has shape {}, but {inner:?} is needed", tensor.lengths_shape());
                Err(TensorError::argument(op, argument, message))
            }
            Some(tensor) => tensor.check_float(op, argument),
            None => Ok(()),
        };
        check(weight, "weight")?;
        check(bias, "bias")?;
        if cx.gpu.is_some() && self.elements() > 0 {
            let length = inner.iter().product();
            let dense = self.contiguous(cx)?;
            let norm = if rms { RowNorm::RootMeanSquare(eps) } else { RowNorm::Layer(eps) };
            let rows = Rows::dense(self.elements() / length, length);
            let layout = Layout::contiguous(*self.lengths_shape());
            if let Some(result) = cx.on_device(op, Task::Rows { source: &dense, layout, rows, norm, weight, bias })? {
                return Ok(result);
            }
        }
        let parameter =
            |tensor: Option<&Tensor>, argument| tensor.map(|tensor| tensor.dense_floats(op, argument, cx)).transpose();
        let (weight, bias) = (parameter(weight, "weight")?, parameter(bias, "bias")?);
        let input = self.dense_floats(op, "self", cx)?;
        let length = inner.iter().product();
        let over = if rms { Over::RootMeanSquare(length) } else { Over::Row(length) };
        self.normalized(Norm { op, input, weight, bias, eps, over }, Order::identity(self.rank()), cx)
    }

    /// The result of `norm`, of this tensor's shape and type; a large one is put off, so that what comes after is done while
    /// its numbers are in the cache.
    fn normalized(&self, norm: Norm, order: Order, cx: &OpContext) -> Result<Tensor, TensorError> {
        let layout = Layout::dense_in_order(*self.lengths_shape(), order.dims());
        let result = if cx.puts_off(self.elements()) {
            Expression::put_off_norm(norm, (layout, order), cx)?
        } else {
            let mut result = Allocation::<f32>::unfilled(norm.op, self.elements(), cx)?;
            norm.run(&mut result.values, cx)?;
            Tensor::of(layout, result)
        };
        result.cast(self.dtype(), cx)
    }

    /// e to the power of each element, divided by the sum of these along `dim`.
    pub fn softmax(&self, dim: i32, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "softmax";
        self.check_float(OP, "self")?;
        let (rows, order) = self.rows_along(OP, dim)?;
        if cx.gpu.is_some() && self.elements() > 0 {
            let dense = rows.contiguous(cx)?;
            let length = rows.dims()[rows.rank() - 1];
            let layout = dense.layout.offset_removed();
            let rows = Rows::dense(self.elements() / length, length);
            let norm = RowNorm::Softmax;
            let task = Task::Rows { source: &dense, layout, rows, norm, weight: None, bias: None };
            if let Some(result) = cx.on_device(OP, task)? {
                return Ok(result.back_from_memory_order(&order));
            }
        }
        let input = rows.dense_floats(OP, "self", cx)?;
        let mut result = Allocation::<f32>::unfilled(OP, self.elements(), cx)?;
        if self.elements() > 0 {
            let row = rows.dims()[rows.rank() - 1];
            softmax(OP, input.floats(), row, &mut result.values, cx)?;
        }
        let dense = Tensor::of(Layout::contiguous(*rows.lengths_shape()), result);
        dense.back_from_memory_order(&order).cast(self.dtype(), cx)
    }

    /// This tensor with `dim` as the last dimension, and the order that brings it back.
    pub(super) fn rows_along(&self, op: &'static str, dim: i32) -> Result<(Tensor, Order), TensorError> {
        let dim = self.lengths_shape().dim(op, "dim", dim)?;
        let order = Order::with_last(self.rank(), dim);
        Ok((self.with_layout(self.layout.permuted(order.dims())), order))
    }

    /// A result that has one element per row, or rows of `length`, in the order of the tensor it was made of.
    pub(crate) fn shape_of_rows(&self, op: &'static str, length: usize) -> Result<Shape, TensorError> {
        self.lengths_shape().with_length(op, self.rank() - 1, length)
    }
}
