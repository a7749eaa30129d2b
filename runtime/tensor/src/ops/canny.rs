//! Edges of pictures.

use super::PadMode;
use super::interpolate::workspace;
use crate::cpu::canny;
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{BinaryOp, DType, OpContext, Operand, Tensor, TensorError};

impl Tensor {
    /// Canny's edges of `[B,1,H,W]` (or 3 channels: red, green, blue) as `[B,1,H,W]` of float32, 1 on an edge and 0 elsewhere:
    /// blurred by a Gaussian of 5×5 with σ = 1, Sobel's gradient, only where it is largest across the edge and above `high`,
    /// or above `low` and connected to such a place. As ComfyUI's node, whose arithmetic is Kornia's. Floats.
    ///
    /// Workspace: some six pictures of one channel, and two more on a GPU.
    pub fn canny(&self, low: f64, high: f64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "canny";
        self.check_float(OP, "self")?;
        self.check_rank(OP, "self", 4, "[B,1,H,W] or [B,3,H,W]")?;
        let [_, channels, height, width] = [0, 1, 2, 3].map(|dim| self.dims()[dim]);
        if ![1, 3].contains(&channels) || height < 3 || width < 3 {
            let message =
                format!("has shape {}, but [B,1,H,W] or [B,3,H,W] of at least 3×3 is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        if !(low.is_finite() && high.is_finite() && low <= high) {
            let message = format!("is {low} and high is {high}; two finite numbers in order are needed");
            return Err(TensorError::argument(OP, "low", message));
        }
        cx.check_cost(OP, &[self.elements(), 64])?;
        let gray = self.gray(cx)?;
        let weights = [-2.0f32, -1.0, 0.0, 1.0, 2.0].map(|x| (-x * x / 2.0).exp());
        let blur = weights.map(|weight| weight / weights.iter().sum::<f32>());
        let blurred = gray.separable_filter(&blur, &blur, PadMode::Reflect, cx)?;
        let (smooth, slope) = (&[1.0, 2.0, 1.0], &[-1.0, 0.0, 1.0]);
        let across = blurred.separable_filter(smooth, slope, PadMode::Replicate, cx)?;
        let down = blurred.separable_filter(slope, smooth, PadMode::Replicate, cx)?;
        let thresholds = [low as f32, high as f32];
        if let (Some(across), Some(down)) = (across.dense_for_gpu(cx)?, down.dense_for_gpu(cx)?)
            && let Some(result) = cx.on_device(OP, Task::Edges { across: &across, down: &down, thresholds })?
        {
            return Ok(result);
        }
        let (across, down) = (across.dense_floats(OP, "self", cx)?, down.dense_floats(OP, "self", cx)?);
        let shape = *gray.lengths_shape();
        let mut strength = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        let _workspace = workspace(OP, 8 * height * width * rayon::current_num_threads(), cx)?;
        canny::strength(OP, across.floats(), down.floats(), &mut strength.values, cx)?;
        let gradient = canny::Gradient {
            strength: &strength.values,
            across: across.floats(),
            down: down.floats(),
            size: [height, width],
        };
        canny::edges(OP, &gradient, thresholds, &mut result.values, cx)?;
        Ok(Tensor::of(Layout::contiguous(shape), result))
    }

    /// The brightness of red, green and blue, as float32.
    fn gray(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        let wide = self.cast(DType::Float32, cx)?;
        if self.dims()[1] == 1 {
            return Ok(wide);
        }
        let part = |channel: i64, weight: f64| {
            wide.slice(1, channel, channel + 1, 1, cx)?.binary(BinaryOp::Mul, Operand::Scalar(weight), cx)
        };
        let sum = part(0, 0.299)?.binary(BinaryOp::Add, (&part(1, 0.587)?).into(), cx)?;
        sum.binary(BinaryOp::Add, (&part(2, 0.114)?).into(), cx)
    }
}
