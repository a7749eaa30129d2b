//! Colours in other coordinates.

use crate::cpu::color;
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, Tensor, TensorError};

impl Tensor {
    /// Red, green and blue in the last dimension (of length 3) to hue, saturation and value, all in 0..1, as Python's
    /// `colorsys`. Needs floats.
    pub fn rgb_to_hsv(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.recolored("rgb-to-hsv", (color::rgb_to_hsv, "rgb_to_hsv"), cx)
    }

    /// The reverse of [`Tensor::rgb_to_hsv`]; hues repeat beyond 0..1.
    pub fn hsv_to_rgb(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.recolored("hsv-to-rgb", (color::hsv_to_rgb, "hsv_to_rgb"), cx)
    }

    /// Red, green and blue in the last dimension (sRGB, 0..1) to CIE L*a*b* under D65: lightness in 0..100, green to red and
    /// blue to yellow around 0. As scikit-image. Needs floats.
    pub fn rgb_to_lab(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.recolored("rgb-to-lab", (color::rgb_to_lab, "rgb_to_lab"), cx)
    }

    /// The reverse of [`Tensor::rgb_to_lab`]; colours that sRGB does not have are cut to 0..1.
    pub fn lab_to_rgb(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.recolored("lab-to-rgb", (color::lab_to_rgb, "lab_to_rgb"), cx)
    }

    /// Red, green and blue in the last dimension to brightness, and blue's and red's difference to it around 0.5, all in
    /// 0..1: JPEG's. Needs floats.
    pub fn rgb_to_ycbcr(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.recolored("rgb-to-ycbcr", (color::rgb_to_ycbcr, "rgb_to_ycbcr"), cx)
    }

    /// The reverse of [`Tensor::rgb_to_ycbcr`]; nothing is cut.
    pub fn ycbcr_to_rgb(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.recolored("ycbcr-to-rgb", (color::ycbcr_to_rgb, "ycbcr_to_rgb"), cx)
    }

    /// By a function of the CPU, or the one of that name of a GPU.
    fn recolored(
        &self,
        op: &'static str,
        (pixel, name): (color::Pixel, &'static str),
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.check_float(op, "self")?;
        if self.dims().last() != Some(&3) {
            let message = format!("has shape {}, but […,3] is needed", self.lengths_shape());
            return Err(TensorError::argument(op, "self", message));
        }
        if let Some(source) = self.dense_for_gpu(cx)?
            && let Some(result) = cx.on_device(op, Task::Recolor { source: &source, pixel: name })?
        {
            return Ok(result);
        }
        let input = self.dense_floats(op, "self", cx)?;
        let mut result = Allocation::<f32>::unfilled(op, self.elements(), cx)?;
        color::each_pixel(op, input.floats(), pixel, &mut result.values, cx)?;
        Tensor::of(Layout::contiguous(*self.lengths_shape()), result).cast(self.dtype(), cx)
    }
}
