//! Convolutions of `[B,C,H,W]`. All need floats, compute in float32 and answer where the types of input and weight meet.

use super::interpolate::workspace;
use crate::cpu::conv::{Convolution, Taps};
use crate::cpu::convert::Store;
use crate::cpu::few_channels::FewChannels;
use crate::cpu::gemm::{MatrixType, parts_of};
use crate::cpu::winograd::Winograd;
use crate::device::Task;
use crate::shape::{Layout, Order};
use crate::storage::{Allocation, Buffer};
use crate::{DType, Element, OpContext, Shape, Tensor, TensorError};

/// How the window of a convolution moves; height first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Pixels from one window to the next.
    pub stride: [u64; 2],
    /// Zeros around the input, on every side.
    pub padding: [u64; 2],
    /// Pixels from one element of the window to the next.
    pub dilation: [u64; 2],
    /// Parts into which the channels are split; each sees only its own.
    pub groups: u64,
}

impl Default for ConvGeometry {
    /// Stride 1, no padding, dense, one group.
    fn default() -> Self {
        ConvGeometry { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// The most that a stride, a padding or a dilation can be, so that no position overflows.
const MAX_STEP: u64 = 1 << 20;

impl ConvGeometry {
    pub(super) fn check(&self, op: &'static str) -> Result<(), TensorError> {
        let check = |argument, values: [u64; 2], least: u64| {
            if values.iter().all(|value| (least..=MAX_STEP).contains(value)) {
                return Ok(());
            }
            Err(TensorError::argument(op, argument, format!("is {values:?}; {least} to {MAX_STEP} will do")))
        };
        check("stride", self.stride, 1)?;
        check("padding", self.padding, 0)?;
        check("dilation", self.dilation, 1)?;
        if self.groups == 0 {
            return Err(TensorError::argument(op, "groups", "is zero"));
        }
        Ok(())
    }
}

impl ConvGeometry {
    /// That of a line: the numbers of the width, for a height of one.
    pub(super) fn flat(&self) -> ConvGeometry {
        let flat = |pair: [u64; 2], height| [height, pair[1]];
        ConvGeometry {
            stride: flat(self.stride, 1),
            padding: flat(self.padding, 0),
            dilation: flat(self.dilation, 1),
            groups: self.groups,
        }
    }
}

/// The pixels that a window spans, if it has any and they are not too many.
pub(super) fn window_span(taps: u64, dilation: u64) -> Option<u64> {
    let span = taps.checked_sub(1).and_then(|steps| steps.checked_mul(dilation));
    span.map(|span| span + 1).filter(|span| *span <= 1 << 40)
}

/// Everything that two kinds of convolutions share once their arguments are known to fit.
struct Job<'a> {
    op: &'static str,
    input: &'a Tensor,
    weight: &'a Tensor,
    bias: Option<&'a Tensor>,
    taps: Taps,
    /// Output channels, height, width.
    output: [usize; 3],
}

impl Tensor {
    /// Correlates `[B,C,H,W]` with `weight` of `[out,C/groups,h,w]` and adds `bias` of `[out]`. The result lies
    /// channels-last in memory.
    ///
    /// Workspace: the input and the weight once more, and some megabytes per thread.
    pub fn conv2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: &ConvGeometry,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "conv2d";
        check_operands(OP, self, weight, geometry, "[out,in/groups,height,width]")?;
        let groups = geometry.groups as usize;
        let (inputs, outputs) = (self.dims()[1], weight.dims()[0]);
        if !outputs.is_multiple_of(groups) || weight.dims()[1].checked_mul(groups) != Some(inputs) {
            return Err(channels_differ(OP, self, weight, groups));
        }
        let mut size = [0usize; 2];
        for (dim, slot) in size.iter_mut().enumerate() {
            let room = self.dims()[2 + dim] + 2 * geometry.padding[dim] as usize;
            let window = window(OP, weight, geometry, dim)?;
            let Some(left) = room.checked_sub(window) else {
                let message = format!(
                    "of shape {} spans {window} pixels of dimension {}, which has {room} with its padding",
                    weight.lengths_shape(),
                    dim + 2
                );
                return Err(TensorError::argument(OP, "weight", message));
            };
            *slot = left / geometry.stride[dim] as usize + 1;
        }
        let taps = Taps::of_convolution(geometry, [weight.dims()[2], weight.dims()[3]]);
        Job { op: OP, input: self, weight, bias, taps, output: [outputs, size[0], size[1]] }.run(false, groups, cx)
    }

    /// Correlates `[B,C,L]` with `weight` of `[out,C/groups,l]`; the second numbers of `geometry` count, the first are
    /// those of a height of one.
    pub fn conv1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: &ConvGeometry,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "conv1d";
        self.check_rank(OP, "self", 3, "[B,C,L]")?;
        weight.check_rank(OP, "weight", 3, "[out,in/groups,length]")?;
        self.unsqueeze(2, cx)?.conv2d(&weight.unsqueeze(2, cx)?, bias, &geometry.flat(), cx)?.squeeze(2, cx)
    }

    /// The transpose of [`Tensor::conv2d`] (as for its gradient): `weight` is `[C,out/groups,h,w]`, the size grows by the
    /// stride, `padding` is cut off on every side and `output_padding` (less than the stride) added below and right.
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: &ConvGeometry,
        output_padding: [u64; 2],
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "conv-transpose2d";
        check_operands(OP, self, weight, geometry, "[in,out/groups,height,width]")?;
        let groups = geometry.groups as usize;
        let outputs = weight.dims()[1].checked_mul(groups);
        if weight.dims()[0] != self.dims()[1] || !weight.dims()[0].is_multiple_of(groups) {
            return Err(channels_differ(OP, self, weight, groups));
        }
        let Some(outputs) = outputs else { return Err(channels_differ(OP, self, weight, groups)) };
        let mut size = [0usize; 2];
        for (dim, slot) in size.iter_mut().enumerate() {
            if output_padding[dim] >= geometry.stride[dim].max(geometry.dilation[dim]) {
                let message = format!("is {output_padding:?}; it must be less than stride or dilation");
                return Err(TensorError::argument(OP, "output-padding", message));
            }
            let (length, window) = (self.dims()[2 + dim], window(OP, weight, geometry, dim)?);
            let spread = length.saturating_sub(1).checked_mul(geometry.stride[dim] as usize);
            let full = spread.and_then(|spread| spread.checked_add(window + output_padding[dim] as usize));
            let cut = 2 * geometry.padding[dim] as usize;
            match full.and_then(|full| full.checked_sub(cut)) {
                Some(length) if length > 0 => *slot = length,
                _ => {
                    let message = format!("of {:?} leaves nothing of dimension {}", geometry.padding, dim + 2);
                    return Err(TensorError::argument(OP, "padding", message));
                }
            }
        }
        let taps = Taps::of_transpose(geometry, [weight.dims()[2], weight.dims()[3]]);
        let job = Job { op: OP, input: self, weight, bias, taps, output: [outputs, size[0], size[1]] };
        job.run(true, groups, cx)
    }
}

fn window(op: &'static str, weight: &Tensor, geometry: &ConvGeometry, dim: usize) -> Result<usize, TensorError> {
    let span = window_span(weight.dims()[2 + dim] as u64, geometry.dilation[dim]);
    span.map(|span| span as usize).ok_or_else(|| {
        let message = format!("of shape {} has no elements or spans too many pixels", weight.lengths_shape());
        TensorError::argument(op, "weight", message)
    })
}

fn check_operands(
    op: &'static str,
    input: &Tensor,
    weight: &Tensor,
    geometry: &ConvGeometry,
    form: &str,
) -> Result<(), TensorError> {
    input.check_float(op, "self")?;
    weight.check_float(op, "weight")?;
    input.check_rank(op, "self", 4, "[B,C,H,W]")?;
    weight.check_rank(op, "weight", 4, form)?;
    geometry.check(op)
}

pub(super) fn channels_differ(op: &'static str, input: &Tensor, weight: &Tensor, groups: usize) -> TensorError {
    let message = format!(
        "of shape {} does not fit the channels of shape {} in {groups} groups",
        weight.lengths_shape(),
        input.lengths_shape()
    );
    TensorError::argument(op, "weight", message)
}

impl Job<'_> {
    /// `transposed` weights have their input channels first.
    fn run(&self, transposed: bool, groups: usize, cx: &OpContext) -> Result<Tensor, TensorError> {
        let [outputs, height, width] = self.output;
        let lengths = [self.input.dims()[0], outputs, height, width];
        let shape = Shape::from_lengths(self.op, &lengths)?;
        let inputs = self.input.dims()[1] / groups;
        let taps = self.weight.dims()[2] * self.weight.dims()[3];
        cx.check_cost(self.op, &[shape.elements(), inputs, taps])?;
        Tensor::check_per_channel(self.bias, self.op, "bias", outputs)?;
        if cx.gpu.is_some() && shape.elements() > 0 {
            let weight = self.grouped_weight(transposed, groups, cx)?;
            let layout = Layout::dense_in_order(shape, Order::CHANNELS_LAST.dims());
            let dtype = self.input.dtype().promote(self.weight.dtype());
            let (input, bias, axes) = (self.input, self.bias, self.taps.axes());
            let weight = &weight;
            if let Some(result) = cx.on_device(self.op, Task::Convolve { input, weight, bias, axes, layout, dtype })? {
                return Ok(result);
            }
        }
        let bias = Tensor::per_channel(self.bias, self.op, "bias", outputs, cx)?;
        let bias = bias.as_ref().map(Tensor::floats);
        let weight = self.outputs_first(transposed, groups, cx)?;
        match weight.buffer(self.op, cx)? {
            Buffer::Float32(values) => self.products((&weight, values), bias, groups, shape, cx),
            Buffer::Float16(values) => self.products((&weight, values), bias, groups, shape, cx),
            Buffer::Bfloat16(values) => self.products((&weight, values), bias, groups, shape, cx),
            Buffer::Float8E4m3(values) => self.products((&weight, values), bias, groups, shape, cx),
            Buffer::Float8E5m2(values) => self.products((&weight, values), bias, groups, shape, cx),
            _ => Err(TensorError::argument(self.op, "weight", "holds no floats")),
        }
    }

    /// A view of the weight as `[groups, out/groups, in/groups, h, w]`.
    fn grouped_weight(&self, transposed: bool, groups: usize, cx: &OpContext) -> Result<Tensor, TensorError> {
        let [first, second, height, width] = [0, 1, 2, 3].map(|dim| self.weight.dims()[dim] as i64);
        let groups = groups as i64;
        let split = self.weight.reshape(&[groups, first / groups, second, height, width], cx)?;
        if transposed { split.permute(&[0, 2, 1, 3, 4], cx) } else { Ok(split) }
    }

    /// Whether the products can be made of the planes of the input as they lie.
    fn reads_planes(&self, groups: usize) -> bool {
        let (inputs, size) = (self.input.dims()[1], &self.input.dims()[2..]);
        let depthwise = inputs == groups && self.output[0] == groups;
        self.taps.pointwise(size, &self.output[1..]) && !depthwise && inputs > 1 && self.input.is_contiguous()
    }

    /// By rows of planes, if that is worth it: few channels leave most of a product of matrices empty.
    fn few_channels<T: MatrixType>(
        &self,
        weight: &[T],
        (size, output): ([usize; 3], [usize; 3]),
        bias: Option<&[f32]>,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Allocation<f32>>, TensorError> {
        let Some((window, padding)) = self.taps.plain() else { return Ok(None) };
        if weight.is_empty() || !FewChannels::<T>::pays(window, size[2], output[2]) {
            return Ok(None);
        }
        let input = self.input.dense_floats(self.op, "self", cx)?;
        let few = FewChannels { op: self.op, input: input.floats(), size, weight, window, padding, output, bias };
        let mut result = Allocation::unfilled(self.op, shape.elements(), cx)?;
        let _workspace = workspace(self.op, few.workspace_bytes(), cx)?;
        few.run(&mut result.values, cx)?;
        Ok(Some(result))
    }

    /// With tiles that are read where the pixels lie, if that fits; stored as the type of the result.
    fn tiled<T: MatrixType, O: Element + Store<f32>>(
        &self,
        convolution: &Convolution<'_, T>,
        layout: Layout,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let Some(windows) = convolution.tiled_windows() else { return Ok(None) };
        let mut result = Allocation::<O>::unfilled(self.op, layout.shape.elements(), cx)?;
        let done = convolution.run_tiled(windows, &mut result.values, cx)?;
        Ok(done.then(|| Tensor::of(layout, result)))
    }

    /// The products and the bias.
    fn products<T: MatrixType>(
        &self,
        (weight, values): (&Tensor, &[T]),
        bias: Option<&[f32]>,
        groups: usize,
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let [outputs, height, width] = self.output;
        let size = [2, 3, 1].map(|dim| self.input.dims()[dim]);
        let output = [height, width, outputs];
        let dtype = self.input.dtype().promote(self.weight.dtype());
        let values = &values[weight.layout.offset..][..weight.elements()];
        let layout = Layout::dense_in_order(shape, Order::CHANNELS_LAST.dims());
        let finish = |result: Allocation<f32>| Tensor::of(layout, result).cast(dtype, cx);
        if shape.elements() == 0 {
            return finish(Allocation::unfilled(self.op, 0, cx)?);
        }
        if groups == 1
            && let Some(result) = self.few_channels(values, (size, output), bias, shape, cx)?
        {
            return finish(result);
        }
        let planar = self.reads_planes(groups);
        let input = if planar { self.input } else { &self.input.permute(&[0, 2, 3, 1], cx)? };
        let input = input.dense_floats(self.op, "self", cx)?;
        let (op, taps, input_parts) = (self.op, &self.taps, parts_of(self.input.dtype()));
        let batch = self.input.dims()[0];
        let convolution = Convolution {
            op,
            input: input.floats(),
            input_parts,
            planar,
            batch,
            size,
            weight: values,
            taps,
            output,
            groups,
            bias,
        };
        let pays = Winograd::<T>::pays([batch, height, width], size[2]) && !convolution.is_faster_direct();
        if let (Some(padding), 1, true) = (self.taps.plain_three(), groups, pays) {
            let winograd = Winograd { op, input: input.floats(), batch, size, padding, weight: values, output, bias };
            let mut result = Allocation::unfilled(op, shape.elements(), cx)?;
            let _workspace = workspace(op, winograd.workspace_bytes(), cx)?;
            if winograd.run(&mut result.values, cx)? {
                return finish(result);
            }
        }
        let tiled = match dtype {
            DType::Float16 => self.tiled::<T, half::f16>(&convolution, layout, cx)?,
            DType::Bfloat16 => self.tiled::<T, half::bf16>(&convolution, layout, cx)?,
            DType::Float32 => self.tiled::<T, f32>(&convolution, layout, cx)?,
            _ => None,
        };
        if let Some(result) = tiled {
            return Ok(result);
        }
        let mut result = Allocation::unfilled(op, shape.elements(), cx)?;
        convolution.run(&mut result.values, cx)?;
        finish(result)
    }

    /// The weight as dense `[out, in/groups, h, w]`, of whatever type it is.
    fn outputs_first(&self, transposed: bool, groups: usize, cx: &OpContext) -> Result<Tensor, TensorError> {
        if !transposed {
            return self.weight.contiguous(cx);
        }
        let [inputs, outputs] = [self.weight.dims()[0], self.weight.dims()[1]].map(|length| length as i64);
        let (height, width) = (self.weight.dims()[2] as i64, self.weight.dims()[3] as i64);
        let groups = groups as i64;
        let split = self.weight.reshape(&[groups, inputs / groups, outputs, height, width], cx)?;
        split.permute(&[0, 2, 1, 3, 4], cx)?.contiguous(cx)
    }
}
