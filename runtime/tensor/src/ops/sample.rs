//! Pictures looked up at places that a tensor names.

use crate::cpu::sample::{self, Picture};
use crate::device::Task;
use crate::shape::{Layout, Order};
use crate::storage::Allocation;
use crate::{OpContext, Shape, Tensor, TensorError};

/// How [`Tensor::grid_sample`] finds values between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleMode {
    /// The nearest pixel; halves go to the even one.
    Nearest,
    /// Between 2×2 pixels.
    Bilinear,
    /// Between 4×4 pixels, a = −0.75; may overshoot.
    Bicubic,
}

/// What [`Tensor::grid_sample`] sees beyond the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleBorder {
    /// Zeros.
    Zeros,
    /// The outermost pixel.
    Border,
    /// The picture mirrored at its border.
    Reflection,
}

impl Tensor {
    /// Pixels of `[B,C,H,W]` at the places of `grid`, `[B,h,w,2]`: x and y, where −1 and 1 are the borders (or with
    /// `align_corners` the centres of the outermost pixels). Answers `[B,C,h,w]`, as PyTorch. Floats.
    ///
    /// Workspace: on the CPU, the picture once more, as float32, unless it lies channels-last.
    pub fn grid_sample(
        &self,
        grid: &Tensor,
        mode: SampleMode,
        border: SampleBorder,
        align_corners: bool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "grid-sample";
        self.check_float(OP, "self")?;
        grid.check_float(OP, "grid")?;
        self.check_rank(OP, "self", 4, "[B,C,H,W]")?;
        grid.check_rank(OP, "grid", 4, "[B,h,w,2]")?;
        let [batch, channels, height, width] = [0, 1, 2, 3].map(|dim| self.dims()[dim]);
        if grid.dims()[0] != batch || grid.dims()[3] != 2 {
            let message = format!("has shape {}, but [{batch},h,w,2] is needed", grid.lengths_shape());
            return Err(TensorError::argument(OP, "grid", message));
        }
        let shape = Shape::from_lengths(OP, &[batch, channels, grid.dims()[1], grid.dims()[2]])?;
        if shape.elements() > 0 && (height == 0 || width == 0) {
            let message = format!("has shape {}: there are no pixels", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        // Places are found in float32, which knows no odd numbers beyond this.
        if height.max(width) > 1 << 24 {
            let message = format!("has shape {}; sides of up to {} will do", self.lengths_shape(), 1 << 24);
            return Err(TensorError::argument(OP, "self", message));
        }
        cx.check_cost(OP, &[shape.elements(), if mode == SampleMode::Bicubic { 16 } else { 4 }])?;
        let task = Task::GridSample { source: self, grid, mode, border, align_corners, shape };
        if let Some(result) = cx.on_device(OP, task)? {
            return Ok(result);
        }
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        if shape.elements() > 0 {
            let pixels = self.permute(&[0, 2, 3, 1], cx)?.dense_floats(OP, "self", cx)?;
            let places = grid.dense_floats(OP, "grid", cx)?;
            let picture = Picture { values: pixels.floats(), height, width, channels, mode, border, align_corners };
            let line = (shape.lengths()[2], shape.lengths()[3]);
            sample::grid(OP, &picture, places.floats(), line, &mut result.values, cx)?;
        }
        let layout = Layout::dense_in_order(shape, Order::CHANNELS_LAST.dims());
        Tensor::of(layout, result).cast(self.dtype(), cx)
    }

    /// The grid for [`Tensor::grid_sample`] that turns, scales and moves: `[B,2,3]` matrices times the places of `height` ×
    /// `width` pixels, as `[B,height,width,2]`. Floats.
    pub fn affine_grid(
        &self,
        height: u64,
        width: u64,
        align_corners: bool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "affine-grid";
        self.check_float(OP, "self")?;
        self.check_rank(OP, "self", 3, "[B,2,3]")?;
        if self.dims()[1..] != [2, 3] {
            let message = format!("has shape {}, but [B,2,3] is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        let shape = Shape::new(OP, &[self.dims()[0] as u64, height, width, 2])?;
        cx.check_cost(OP, &[shape.elements(), 3])?;
        if let Some(result) = cx.on_device(OP, Task::AffineGrid { matrices: self, align_corners, shape })? {
            return Ok(result);
        }
        let matrices = self.dense_floats(OP, "self", cx)?;
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        let size = (shape.lengths()[1], shape.lengths()[2]);
        sample::affine(OP, matrices.floats(), size, align_corners, &mut result.values, cx)?;
        Tensor::of(Layout::contiguous(shape), result).cast(self.dtype(), cx)
    }
}
