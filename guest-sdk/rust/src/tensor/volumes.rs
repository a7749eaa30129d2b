//! Windows as columns, and convolutions of volumes and transposed ones of lines.

use super::layers::maybe;
use super::{ConvGeometry, Tensor};
use crate::bindings::vivarium::node::tensors::VolumeGeometry as RawGeometry;

/// As [`ConvGeometry`], with the depth first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeGeometry {
    /// Elements from one window to the next.
    pub stride: (u64, u64, u64),
    /// Zeros around the input, on every side.
    pub padding: (u64, u64, u64),
    /// Elements from one of the window to the next.
    pub dilation: (u64, u64, u64),
    /// Parts into which the channels are split; each sees only its own.
    pub groups: u64,
}

impl Default for VolumeGeometry {
    fn default() -> Self {
        Self { stride: (1, 1, 1), padding: (0, 0, 0), dilation: (1, 1, 1), groups: 1 }
    }
}

impl VolumeGeometry {
    fn raw(self) -> RawGeometry {
        let Self { stride, padding, dilation, groups } = self;
        RawGeometry { stride, padding, dilation, groups }
    }
}

/// Windows and volumes.
impl Tensor {
    /// The pixels under each window (height, width) of `[B,C,H,W]` as a column: `[B, C·height·width, windows]`.
    #[must_use]
    pub fn unfold(&self, window: (u64, u64), geometry: ConvGeometry) -> Self {
        self.then(|raw| raw.unfold(window, geometry.raw()))
    }

    /// The reverse of [`Tensor::unfold`]: columns laid over a picture of `size`, added up where windows overlap.
    #[must_use]
    pub fn fold(&self, size: (u64, u64), window: (u64, u64), geometry: ConvGeometry) -> Self {
        self.then(|raw| raw.fold(size, window, geometry.raw()))
    }

    /// The mean under each of `height` × `width` even parts of `[B,C,H,W]`.
    #[must_use]
    pub fn adaptive_avg_pool2d(&self, height: u64, width: u64) -> Self {
        self.then(|raw| raw.adaptive_avg_pool2d(height, width))
    }

    /// `[B,C,D,H,W]` with `weight` `[out,C/groups,d,h,w]` and `bias` `[out]`.
    #[must_use]
    pub fn conv3d(&self, weight: &Tensor, bias: Option<&Tensor>, geometry: VolumeGeometry) -> Self {
        let others = || Ok((weight.raw()?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.conv3d(weight, bias, geometry.raw()))
    }

    /// The transpose of [`Tensor::conv3d`]; `weight` is `[C,out/groups,d,h,w]`.
    #[must_use]
    pub fn conv_transpose3d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: VolumeGeometry,
        output_padding: (u64, u64, u64),
    ) -> Self {
        let others = || Ok((weight.raw()?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| raw.conv_transpose3d(weight, bias, geometry.raw(), output_padding))
    }

    /// The transpose of [`Tensor::conv1d`]: `[B,C,L]` with `weight` `[C,out/groups,l]` and `bias` `[out]`.
    #[must_use]
    pub fn conv_transpose1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        (stride, padding, dilation): (u64, u64, u64),
        groups: u64,
        output_padding: u64,
    ) -> Self {
        let others = || Ok((weight.raw()?, maybe(bias)?));
        self.with(others, |raw, (weight, bias)| {
            raw.conv_transpose1d(weight, bias, stride, padding, dilation, groups, output_padding)
        })
    }
}
