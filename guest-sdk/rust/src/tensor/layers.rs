//! What models are made of: products, convolutions, normalisation, attention, pooling, noise.

use super::{Activation, RandomGenerator, Raw, Tensor};
use crate::bindings::vivarium::node::tensors::ConvGeometry as RawGeometry;
use crate::error::Result;

/// How the window of a convolution moves; pairs are height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Pixels from one window to the next.
    pub stride: (u64, u64),
    /// Zeros around the input, on every side.
    pub padding: (u64, u64),
    /// Pixels from one element of the window to the next.
    pub dilation: (u64, u64),
    /// Parts into which the channels are split; each sees only its own.
    pub groups: u64,
}

impl Default for ConvGeometry {
    fn default() -> Self {
        Self { stride: (1, 1), padding: (0, 0), dilation: (1, 1), groups: 1 }
    }
}

impl ConvGeometry {
    /// Stride 1 and `padding` on every side; 1 keeps the size under a 3×3 window.
    #[must_use]
    pub fn padded(padding: u64) -> Self {
        Self { padding: (padding, padding), ..Self::default() }
    }

    pub(super) fn raw(self) -> RawGeometry {
        let Self { stride, padding, dilation, groups } = self;
        RawGeometry { stride, padding, dilation, groups }
    }
}

pub(super) fn maybe(tensor: Option<&Tensor>) -> Result<Option<&Raw>> {
    tensor.map(Tensor::raw).transpose()
}

impl Tensor {
    /// Runs an operation on further tensors, or passes on the first error among them.
    pub(super) fn with<A>(
        &self,
        others: impl FnOnce() -> Result<A>,
        operation: impl FnOnce(&Raw, A) -> std::result::Result<Raw, crate::bindings::vivarium::node::types::Error>,
    ) -> Self {
        match (self.raw(), others()) {
            (Ok(raw), Ok(others)) => Self::from_host(operation(raw, others)),
            (Err(_), _) => self.clone(),
            (_, Err(error)) => Self::failed(error),
        }
    }
}

/// Random numbers, determined by a seed.
impl Tensor {
    /// Normal noise, float32: the same numbers as `torch.manual_seed(seed); torch.randn(shape)` on a CPU.
    pub fn randn(shape: impl AsRef<[u64]>, seed: u64) -> Self {
        Self::randn_from(shape, seed, RandomGenerator::Pytorch)
    }

    /// Normal noise of a generator, float32.
    pub fn randn_from(shape: impl AsRef<[u64]>, seed: u64, generator: RandomGenerator) -> Self {
        Self::from_host(Raw::randn(shape.as_ref(), seed, generator))
    }

    /// Numbers spread evenly over 0..1, float32: the same as `torch.rand` on a CPU.
    pub fn rand(shape: impl AsRef<[u64]>, seed: u64) -> Self {
        Self::rand_from(shape, seed, RandomGenerator::Pytorch)
    }

    /// Numbers of a generator spread evenly over 0..1, float32.
    pub fn rand_from(shape: impl AsRef<[u64]>, seed: u64, generator: RandomGenerator) -> Self {
        Self::from_host(Raw::rand(shape.as_ref(), seed, generator))
    }
}

/// Products. Floats only.
impl Tensor {
    /// The product of the last two dimensions; those before broadcast. A vector is a row on the left, a column on the
    /// right.
    #[must_use]
    pub fn matmul(&self, other: &Tensor) -> Self {
        self.with(|| other.raw(), |raw, other| raw.matmul(other))
    }

    /// `self · weightᵀ + bias`: `[…,in]`, `[out,in]`, `[out]`.
    #[must_use]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Self {
        self.with(|| Ok((weight.raw()?, maybe(bias)?)), |raw, (weight, bias)| raw.linear(weight, bias))
    }

    /// `beta · self + alpha · (left · right)`.
    #[must_use]
    pub fn addmm(&self, left: &Tensor, right: &Tensor, beta: f64, alpha: f64) -> Self {
        self.with(|| Ok((left.raw()?, right.raw()?)), |raw, (left, right)| raw.addmm(left, right, beta, alpha))
    }

    /// Sums of products of one or two tensors over named dimensions, e.g. `"bij,bjk->bik"`. The arrow is required; an
    /// ellipsis, or one letter twice in one operand, is not supported.
    pub fn einsum<T: AsRef<Tensor>>(equation: &str, tensors: &[T]) -> Self {
        match tensors.iter().map(|tensor| tensor.as_ref().raw()).collect::<Result<Vec<_>>>() {
            Ok(raw) => Self::from_host(Raw::einsum(equation, &raw)),
            Err(error) => Self::failed(error),
        }
    }
}

/// Convolution and pooling of `[B,C,H,W]`. Floats only.
impl Tensor {
    /// With `weight` of `[out,C/groups,h,w]` and `bias` of `[out]`.
    #[must_use]
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, geometry: ConvGeometry) -> Self {
        let others = || Ok((weight.raw()?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.conv2d(weight, bias, geometry.raw()))
    }

    /// The transpose: the size grows by the stride. `weight` is `[C,out/groups,h,w]`; `output_padding` is added below
    /// and right, less than the stride.
    #[must_use]
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: ConvGeometry,
        output_padding: (u64, u64),
    ) -> Self {
        let others = || Ok((weight.raw()?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.conv_transpose2d(weight, bias, geometry.raw(), output_padding))
    }

    /// The largest element under each window (height, width).
    #[must_use]
    pub fn max_pool2d(&self, window: (u64, u64), stride: (u64, u64), padding: (u64, u64)) -> Self {
        self.then(|raw| raw.max_pool2d(window, stride, padding))
    }

    /// The mean under each window (height, width); `count_padding` divides by the whole window even at the border.
    #[must_use]
    pub fn avg_pool2d(&self, window: (u64, u64), stride: (u64, u64), padding: (u64, u64), count_padding: bool) -> Self {
        self.then(|raw| raw.avg_pool2d(window, stride, padding, count_padding))
    }

    /// `[B,C·r²,H,W]` to `[B,C,H·r,W·r]`.
    #[must_use]
    pub fn pixel_shuffle(&self, factor: u64) -> Self {
        self.then(|raw| raw.pixel_shuffle(factor))
    }

    /// `[B,C,H·r,W·r]` to `[B,C·r²,H,W]`.
    #[must_use]
    pub fn pixel_unshuffle(&self, factor: u64) -> Self {
        self.then(|raw| raw.pixel_unshuffle(factor))
    }
}

/// Normalisation, attention, activations. Floats only.
impl Tensor {
    /// `[B,C,…]` over each of `groups` parts of the channels; `weight` and `bias` are `[C]`.
    #[must_use]
    pub fn group_norm(&self, groups: u64, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Self {
        let others = || Ok((maybe(weight)?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.group_norm(groups, weight, bias, eps))
    }

    /// `[B,C,…]`, every channel of every picture by itself; `weight` and `bias` are `[C]`.
    #[must_use]
    pub fn instance_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Self {
        let others = || Ok((maybe(weight)?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.instance_norm(weight, bias, eps))
    }

    /// `(self − mean) / √(variance + eps) · weight + bias`, all `[C]`, for `[B,C,…]`.
    #[must_use]
    pub fn batch_norm(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Self {
        let others = || Ok((mean.raw()?, variance.raw()?, maybe(weight)?, maybe(bias)?));
        self.with(others, |raw, (mean, variance, weight, bias)| raw.batch_norm(mean, variance, weight, bias, eps))
    }

    /// `[B,C,L]` with `weight` `[out,C/groups,l]` and `bias` `[out]`.
    #[must_use]
    pub fn conv1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        (stride, padding, dilation): (u64, u64, u64),
        groups: u64,
    ) -> Self {
        let others = || Ok((weight.raw()?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.conv1d(weight, bias, stride, padding, dilation, groups))
    }

    /// Over the last `dims` dimensions, whose shape `weight` and `bias` have.
    #[must_use]
    pub fn layer_norm(&self, dims: u32, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Self {
        let others = || Ok((maybe(weight)?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.layer_norm(dims, weight, bias, eps))
    }

    /// Divided by the root of the mean square over the last `dims` dimensions, times `weight`.
    #[must_use]
    pub fn rms_norm(&self, dims: u32, weight: Option<&Tensor>, eps: f64) -> Self {
        self.with(|| maybe(weight), |raw, weight| raw.rms_norm(dims, weight, eps))
    }

    /// e to the power of each element, divided by their sum along `dim`.
    #[must_use]
    pub fn softmax(&self, dim: i32) -> Self {
        self.then(|raw| raw.softmax(dim))
    }

    /// softmax(self · keyᵀ · scale + mask) · value: `[…,L,E]`, `[…,S,E]`, `[…,S,V]`. A boolean mask is true where a key
    /// is seen, one of floats is added; it broadcasts to `[…,L,S]`. `scale` is 1/√E by default.
    #[must_use]
    pub fn scaled_dot_product_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        causal: bool,
        scale: Option<f64>,
    ) -> Self {
        let others = || Ok((key.raw()?, value.raw()?, maybe(mask)?));
        self.with(others, |raw, (key, value, mask)| raw.scaled_dot_product_attention(key, value, mask, causal, scale))
    }

    /// Turns pairs of the last dimension by the angles whose `cos` and `sin` broadcast to `[…,E/2]`. Pairs are neighbours with
    /// `interleaved`, else half the dimension apart.
    #[must_use]
    pub fn rope(&self, cos: &Tensor, sin: &Tensor, interleaved: bool) -> Self {
        self.with(|| Ok((cos.raw()?, sin.raw()?)), |raw, (cos, sin)| raw.rope(cos, sin, interleaved))
    }

    /// One of the activations that take a parameter or that [`Tensor::unary`] does not have.
    #[must_use]
    pub fn activate(&self, op: Activation, parameter: f64) -> Self {
        self.then(|raw| raw.activate(op, parameter))
    }
}
