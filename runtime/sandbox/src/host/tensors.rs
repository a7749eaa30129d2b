//! `tensors`: the host's tensor operations, one line each; what they do and check stands in `vivarium-tensor`.

use vivarium_tensor::{ConvGeometry as Geometry, Tensor};
use wasmtime::component::Resource;

use super::{HostState, HostTensor, state::interrupted};
use crate::bindings::vivarium::node::{
    tensors::{
        self, Activation, BinaryOp, ConvGeometry, Dtype, InterpolateMode, MorphologyOp, Operand, PadMode,
        RandomGenerator, ReduceOp, SampleBorder, SampleMode, UnaryOp, VolumeGeometry,
    },
    types::Error,
};

mod cases;
mod handles;

type Handle = Resource<HostTensor>;
type Pair = (u64, u64);
type Answer = wasmtime::Result<Result<Resource<HostTensor>, Error>>;

impl tensors::Host for HostState {}

impl tensors::HostTensor for HostState {
    fn zeros(&mut self, shape: Vec<u64>, dtype: Dtype) -> Answer {
        self.answer(|cx| Tensor::zeros(&shape, dtype.into(), cx))
    }

    fn full(&mut self, shape: Vec<u64>, value: f64, dtype: Dtype) -> Answer {
        self.answer(|cx| Tensor::full(&shape, value, dtype.into(), cx))
    }

    fn arange(&mut self, start: f64, end: f64, step: f64) -> Answer {
        self.answer(|cx| Tensor::arange(start, end, step, cx))
    }

    fn linspace(&mut self, start: f64, end: f64, steps: u64) -> Answer {
        self.answer(|cx| Tensor::linspace(start, end, steps, cx))
    }

    fn from_bytes(&mut self, shape: Vec<u64>, dtype: Dtype, data: Vec<u8>) -> Answer {
        if let Err(error) = self.charge_transfer(data.len() as u64) {
            return Ok(Err(error));
        }
        self.answer(|cx| Tensor::from_bytes(&shape, dtype.into(), &data, cx))
    }

    fn cat(&mut self, tensors: Vec<Resource<HostTensor>>, dim: i32) -> Answer {
        let tensors = tensors.iter().map(|handle| self.operand_tensor(handle)).collect::<wasmtime::Result<Vec<_>>>()?;
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        self.answer(|cx| Tensor::cat(&tensors, dim, cx))
    }

    fn shape(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<Vec<u64>> {
        Ok(self.table.get(&tensor)?.0.shape())
    }

    fn dtype(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<Dtype> {
        Ok(self.table.get(&tensor)?.0.dtype().into())
    }

    fn read(
        &mut self,
        tensor: Resource<HostTensor>,
        offset: u64,
        length: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let tensor = self.tensor(&tensor)?;
        if let Err(error) = self.may_read_values() {
            return Ok(Err(error));
        }
        if let Err(error) = self.charge_transfer(length.saturating_mul(tensor.dtype().size() as u64)) {
            return Ok(Err(error));
        }
        Ok(tensor.read(offset, length, self.op()).map_err(|error| self.tensor_error(&error)))
    }

    fn item(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<Result<f64, Error>> {
        let tensor = self.tensor(&tensor)?;
        if let Err(error) = self.may_read_values() {
            return Ok(Err(error));
        }
        Ok(tensor.item().map_err(|error| self.tensor_error(&error)))
    }

    fn share(&mut self, tensor: Resource<HostTensor>) -> Answer {
        let tensor = self.tensor(&tensor)?;
        self.push_tensor(tensor)
    }

    fn reshape(&mut self, tensor: Resource<HostTensor>, shape: Vec<i64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.reshape(&shape, cx))
    }

    fn permute(&mut self, tensor: Resource<HostTensor>, dims: Vec<i32>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.permute(&dims, cx))
    }

    fn expand(&mut self, tensor: Resource<HostTensor>, shape: Vec<i64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.expand(&shape, cx))
    }

    fn slice(&mut self, tensor: Resource<HostTensor>, dim: i32, start: i64, end: i64, step: u64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.slice(dim, start, end, step, cx))
    }

    fn squeeze(&mut self, tensor: Resource<HostTensor>, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.squeeze(dim, cx))
    }

    fn unsqueeze(&mut self, tensor: Resource<HostTensor>, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.unsqueeze(dim, cx))
    }

    fn flip(&mut self, tensor: Resource<HostTensor>, dims: Vec<i32>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.flip(&dims, cx))
    }

    fn contiguous(&mut self, tensor: Resource<HostTensor>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.contiguous(cx))
    }

    fn repeat(&mut self, tensor: Resource<HostTensor>, counts: Vec<u64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.repeat(&counts, cx))
    }

    fn cast(&mut self, tensor: Resource<HostTensor>, dtype: Dtype) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.cast(dtype.into(), cx))
    }

    fn unary(&mut self, tensor: Resource<HostTensor>, op: UnaryOp) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.unary(op.into(), cx))
    }

    fn binary(&mut self, tensor: Resource<HostTensor>, op: BinaryOp, other: Operand) -> Answer {
        let other = self.operand(&other)?;
        self.on(&tensor, |tensor, cx| tensor.binary(op.into(), other.get(), cx))
    }

    fn binary_from(&mut self, tensor: Resource<HostTensor>, op: BinaryOp, scalar: f64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.binary_from(op.into(), scalar, cx))
    }

    fn clamp(&mut self, tensor: Resource<HostTensor>, min: Option<f64>, max: Option<f64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.clamp(min, max, cx))
    }

    fn lerp(&mut self, tensor: Resource<HostTensor>, end: Resource<HostTensor>, weight: Operand) -> Answer {
        let (end, weight) = (self.operand_tensor(&end)?, self.operand(&weight)?);
        self.on(&tensor, |tensor, cx| tensor.lerp(&end, weight.get(), cx))
    }

    fn where_(&mut self, tensor: Resource<HostTensor>, condition: Resource<HostTensor>, other: Operand) -> Answer {
        let (condition, other) = (self.operand_tensor(&condition)?, self.operand(&other)?);
        self.on(&tensor, |tensor, cx| tensor.where_(&condition, other.get(), cx))
    }

    fn reduce(&mut self, tensor: Resource<HostTensor>, op: ReduceOp, dims: Vec<i32>, keep_dims: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.reduce(op.into(), &dims, keep_dims, cx))
    }

    fn paste(&mut self, tensor: Resource<HostTensor>, source: Resource<HostTensor>, offsets: Vec<u64>) -> Answer {
        let source = self.operand_tensor(&source)?;
        self.on(&tensor, |tensor, cx| tensor.paste(&source, &offsets, cx))
    }

    fn pad(
        &mut self,
        tensor: Resource<HostTensor>,
        before: Vec<u64>,
        after: Vec<u64>,
        mode: PadMode,
        value: f64,
    ) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.pad(&before, &after, mode.into(), value, cx))
    }

    fn interpolate(&mut self, tensor: Resource<HostTensor>, height: u64, width: u64, mode: InterpolateMode) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.interpolate(height, width, mode.into(), cx))
    }

    fn separable_filter(
        &mut self,
        tensor: Resource<HostTensor>,
        kernel_y: Vec<f32>,
        kernel_x: Vec<f32>,
        border: PadMode,
    ) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.separable_filter(&kernel_y, &kernel_x, border.into(), cx))
    }

    fn rand(&mut self, shape: Vec<u64>, seed: u64, generator: RandomGenerator) -> Answer {
        self.answer(|cx| Tensor::rand(&shape, seed, generator.into(), cx))
    }

    fn randn(&mut self, shape: Vec<u64>, seed: u64, generator: RandomGenerator) -> Answer {
        self.answer(|cx| Tensor::randn(&shape, seed, generator.into(), cx))
    }

    fn stack(&mut self, tensors: Vec<Handle>, dim: i32) -> Answer {
        let tensors = self.tensors(&tensors)?;
        self.answer(|cx| Tensor::stack(&tensors.iter().collect::<Vec<_>>(), dim, cx))
    }

    fn einsum(&mut self, equation: String, tensors: Vec<Handle>) -> Answer {
        let tensors = self.tensors(&tensors)?;
        self.answer(|cx| Tensor::einsum(&equation, &tensors.iter().collect::<Vec<_>>(), cx))
    }

    fn split(&mut self, tensor: Handle, lengths: Vec<u64>, dim: i32) -> wasmtime::Result<Result<Vec<Handle>, Error>> {
        self.on_many(&tensor, |tensor, cx| tensor.split(&lengths, dim, cx))
    }

    fn roll(&mut self, tensor: Handle, shifts: Vec<i64>, dims: Vec<i32>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.roll(&shifts, &dims, cx))
    }

    fn repeat_interleave(&mut self, tensor: Handle, repeats: u64, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.repeat_interleave(repeats, dim, cx))
    }

    fn pixel_shuffle(&mut self, tensor: Handle, factor: u64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.pixel_shuffle(factor, cx))
    }

    fn pixel_unshuffle(&mut self, tensor: Handle, factor: u64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.pixel_unshuffle(factor, cx))
    }

    fn activate(&mut self, tensor: Handle, op: Activation, parameter: f64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.activate(op.into(), parameter, cx))
    }

    fn softmax(&mut self, tensor: Handle, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.softmax(dim, cx))
    }

    fn variance(&mut self, tensor: Handle, dims: Vec<i32>, correction: f64, keep_dims: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.variance(&dims, correction, keep_dims, cx))
    }

    fn cumsum(&mut self, tensor: Handle, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.cumsum(dim, cx))
    }

    fn argmax(&mut self, tensor: Handle, dim: i32, smallest: bool, keep_dim: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.argmax(dim, smallest, keep_dim, cx))
    }

    fn sort(
        &mut self,
        tensor: Handle,
        dim: i32,
        descending: bool,
    ) -> wasmtime::Result<Result<(Handle, Handle), Error>> {
        self.on_two(&tensor, |tensor, cx| tensor.sort(dim, descending, cx))
    }

    fn topk(
        &mut self,
        tensor: Handle,
        k: u64,
        dim: i32,
        largest: bool,
    ) -> wasmtime::Result<Result<(Handle, Handle), Error>> {
        self.on_two(&tensor, |tensor, cx| tensor.topk(k, dim, largest, cx))
    }

    fn gather(&mut self, tensor: Handle, dim: i32, index: Handle) -> Answer {
        let index = self.operand_tensor(&index)?;
        self.on(&tensor, |tensor, cx| tensor.gather(dim, &index, cx))
    }

    fn scatter(&mut self, tensor: Handle, dim: i32, index: Handle, source: Handle) -> Answer {
        let (index, source) = (self.operand_tensor(&index)?, self.operand_tensor(&source)?);
        self.on(&tensor, |tensor, cx| tensor.scatter(dim, &index, &source, cx))
    }

    fn scatter_add(&mut self, tensor: Handle, dim: i32, index: Handle, source: Handle) -> Answer {
        let (index, source) = (self.operand_tensor(&index)?, self.operand_tensor(&source)?);
        self.on(&tensor, |tensor, cx| tensor.scatter_add(dim, &index, &source, cx))
    }

    fn index_select(&mut self, tensor: Handle, dim: i32, index: Handle) -> Answer {
        let index = self.operand_tensor(&index)?;
        self.on(&tensor, |tensor, cx| tensor.index_select(dim, &index, cx))
    }

    fn embedding(&mut self, tensor: Handle, index: Handle) -> Answer {
        let index = self.operand_tensor(&index)?;
        self.on(&tensor, |tensor, cx| tensor.embedding(&index, cx))
    }

    fn masked_fill(&mut self, tensor: Handle, mask: Handle, value: f64) -> Answer {
        let mask = self.operand_tensor(&mask)?;
        self.on(&tensor, |tensor, cx| tensor.masked_fill(&mask, value, cx))
    }

    fn matmul(&mut self, tensor: Handle, other: Handle) -> Answer {
        let other = self.operand_tensor(&other)?;
        self.on(&tensor, |tensor, cx| tensor.matmul(&other, cx))
    }

    fn linear(&mut self, tensor: Handle, weight: Handle, bias: Option<Handle>) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.linear(&weight, bias.as_ref(), cx))
    }

    fn addmm(&mut self, tensor: Handle, left: Handle, right: Handle, beta: f64, alpha: f64) -> Answer {
        let (left, right) = (self.operand_tensor(&left)?, self.operand_tensor(&right)?);
        self.on(&tensor, |tensor, cx| tensor.addmm(&left, &right, beta, alpha, cx))
    }

    fn conv2d(&mut self, tensor: Handle, weight: Handle, bias: Option<Handle>, geometry: ConvGeometry) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.conv2d(&weight, bias.as_ref(), &geometry.into(), cx))
    }

    fn conv_transpose2d(
        &mut self,
        tensor: Handle,
        weight: Handle,
        bias: Option<Handle>,
        geometry: ConvGeometry,
        output_padding: Pair,
    ) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| {
            tensor.conv_transpose2d(&weight, bias.as_ref(), &geometry.into(), output_padding.into(), cx)
        })
    }

    fn max_pool2d(&mut self, tensor: Handle, window: Pair, stride: Pair, padding: Pair) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.max_pool2d(window.into(), stride.into(), padding.into(), cx))
    }

    fn avg_pool2d(&mut self, tensor: Handle, window: Pair, stride: Pair, padding: Pair, count_padding: bool) -> Answer {
        self.on(&tensor, |tensor, cx| {
            tensor.avg_pool2d(window.into(), stride.into(), padding.into(), count_padding, cx)
        })
    }

    fn group_norm(
        &mut self,
        tensor: Handle,
        groups: u64,
        weight: Option<Handle>,
        bias: Option<Handle>,
        eps: f64,
    ) -> Answer {
        let (weight, bias) = (self.maybe(weight.as_ref())?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.group_norm(groups, weight.as_ref(), bias.as_ref(), eps, cx))
    }

    fn layer_norm(
        &mut self,
        tensor: Handle,
        dims: u32,
        weight: Option<Handle>,
        bias: Option<Handle>,
        eps: f64,
    ) -> Answer {
        let (weight, bias) = (self.maybe(weight.as_ref())?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.layer_norm(dims, weight.as_ref(), bias.as_ref(), eps, cx))
    }

    fn rms_norm(&mut self, tensor: Handle, dims: u32, weight: Option<Handle>, eps: f64) -> Answer {
        let weight = self.maybe(weight.as_ref())?;
        self.on(&tensor, |tensor, cx| tensor.rms_norm(dims, weight.as_ref(), eps, cx))
    }

    fn scaled_dot_product_attention(
        &mut self,
        tensor: Handle,
        key: Handle,
        value: Handle,
        mask: Option<Handle>,
        causal: bool,
        scale: Option<f64>,
    ) -> Answer {
        let (key, value, mask) = (self.operand_tensor(&key)?, self.operand_tensor(&value)?, self.maybe(mask.as_ref())?);
        self.on(&tensor, |tensor, cx| {
            tensor.scaled_dot_product_attention(&key, &value, mask.as_ref(), causal, scale, cx)
        })
    }

    fn rgb_to_hsv(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::rgb_to_hsv)
    }

    fn hsv_to_rgb(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::hsv_to_rgb)
    }

    fn eye(&mut self, rows: u64, columns: u64, dtype: Dtype) -> Answer {
        self.answer(|cx| Tensor::eye(rows, columns, dtype.into(), cx))
    }

    fn cumprod(&mut self, tensor: Handle, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.cumprod(dim, cx))
    }

    fn median(&mut self, tensor: Handle, dim: i32, keep_dim: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.median(dim, keep_dim, cx))
    }

    fn quantile(&mut self, tensor: Handle, q: f64, dim: i32, keep_dim: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.quantile(q, dim, keep_dim, cx))
    }

    fn norm(&mut self, tensor: Handle, p: f64, dims: Vec<i32>, keep_dims: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.norm(p, &dims, keep_dims, cx))
    }

    fn conv1d(
        &mut self,
        tensor: Handle,
        weight: Handle,
        bias: Option<Handle>,
        stride: u64,
        padding: u64,
        dilation: u64,
        groups: u64,
    ) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        let geometry = Geometry { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
        self.on(&tensor, |tensor, cx| tensor.conv1d(&weight, bias.as_ref(), &geometry, cx))
    }

    fn batch_norm(
        &mut self,
        tensor: Handle,
        mean: Handle,
        variance: Handle,
        weight: Option<Handle>,
        bias: Option<Handle>,
        eps: f64,
    ) -> Answer {
        let (mean, variance) = (self.operand_tensor(&mean)?, self.operand_tensor(&variance)?);
        let (weight, bias) = (self.maybe(weight.as_ref())?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.batch_norm(&mean, &variance, weight.as_ref(), bias.as_ref(), eps, cx))
    }

    fn instance_norm(&mut self, tensor: Handle, weight: Option<Handle>, bias: Option<Handle>, eps: f64) -> Answer {
        let (weight, bias) = (self.maybe(weight.as_ref())?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.instance_norm(weight.as_ref(), bias.as_ref(), eps, cx))
    }

    fn unfold(&mut self, tensor: Handle, window: Pair, geometry: ConvGeometry) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.unfold(window.into(), &geometry.into(), cx))
    }

    fn fold(&mut self, tensor: Handle, size: Pair, window: Pair, geometry: ConvGeometry) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.fold(size.into(), window.into(), &geometry.into(), cx))
    }

    fn adaptive_avg_pool2d(&mut self, tensor: Handle, height: u64, width: u64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.adaptive_avg_pool2d(height, width, cx))
    }

    fn conv3d(&mut self, tensor: Handle, weight: Handle, bias: Option<Handle>, geometry: VolumeGeometry) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| tensor.conv3d(&weight, bias.as_ref(), &geometry.into(), cx))
    }

    fn conv_transpose3d(
        &mut self,
        tensor: Handle,
        weight: Handle,
        bias: Option<Handle>,
        geometry: VolumeGeometry,
        output_padding: (u64, u64, u64),
    ) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        self.on(&tensor, |tensor, cx| {
            tensor.conv_transpose3d(&weight, bias.as_ref(), &geometry.into(), output_padding.into(), cx)
        })
    }

    fn conv_transpose1d(
        &mut self,
        tensor: Handle,
        weight: Handle,
        bias: Option<Handle>,
        stride: u64,
        padding: u64,
        dilation: u64,
        groups: u64,
        output_padding: u64,
    ) -> Answer {
        let (weight, bias) = (self.operand_tensor(&weight)?, self.maybe(bias.as_ref())?);
        let geometry = Geometry { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
        self.on(&tensor, |tensor, cx| tensor.conv_transpose1d(&weight, bias.as_ref(), &geometry, output_padding, cx))
    }

    fn grid_sample(
        &mut self,
        tensor: Handle,
        grid: Handle,
        mode: SampleMode,
        border: SampleBorder,
        align_corners: bool,
    ) -> Answer {
        let grid = self.operand_tensor(&grid)?;
        self.on(&tensor, |tensor, cx| tensor.grid_sample(&grid, mode.into(), border.into(), align_corners, cx))
    }

    fn affine_grid(&mut self, tensor: Handle, height: u64, width: u64, align_corners: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.affine_grid(height, width, align_corners, cx))
    }

    fn rope(&mut self, tensor: Handle, cos: Handle, sin: Handle, interleaved: bool) -> Answer {
        let (cos, sin) = (self.operand_tensor(&cos)?, self.operand_tensor(&sin)?);
        self.on(&tensor, |tensor, cx| tensor.rope(&cos, &sin, interleaved, cx))
    }

    fn morphology(&mut self, tensor: Handle, op: MorphologyOp, footprint: Handle) -> Answer {
        let footprint = self.operand_tensor(&footprint)?;
        self.on(&tensor, |tensor, cx| tensor.morphology(op.into(), &footprint, cx))
    }

    fn median_filter(&mut self, tensor: Handle, window: Pair, border: PadMode) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.median_filter(window.into(), border.into(), cx))
    }

    fn distance_transform(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::distance_transform)
    }

    fn canny(&mut self, tensor: Handle, low: f64, high: f64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.canny(low, high, cx))
    }

    fn histogram(&mut self, tensor: Handle, bins: u64, min: f64, max: f64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.histogram(bins, min, max, cx))
    }

    fn fft(&mut self, tensor: Handle, dims: Vec<i32>, inverse: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.fft(&dims, inverse, cx))
    }

    fn rgb_to_lab(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::rgb_to_lab)
    }

    fn lab_to_rgb(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::lab_to_rgb)
    }

    fn rgb_to_ycbcr(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::rgb_to_ycbcr)
    }

    fn ycbcr_to_rgb(&mut self, tensor: Handle) -> Answer {
        self.on(&tensor, Tensor::ycbcr_to_rgb)
    }

    fn drop(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<()> {
        self.release_handle();
        self.table.delete(tensor)?;
        Ok(())
    }
}
