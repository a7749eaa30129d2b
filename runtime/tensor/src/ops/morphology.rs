//! Filters that order what lies around a pixel, over `[B,C,H,W]`, every channel alone.

use super::PadMode;
use super::interpolate::workspace;
use super::pad::check_amount;
use crate::cpu::morphology::{self, Footprint, Median};
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{DType, OpContext, Shape, Tensor, TensorError};

/// Which of the pixels around [`Tensor::morphology`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MorphologyOp {
    /// The smallest.
    Erode,
    /// The largest.
    Dilate,
}

/// The most elements of a footprint.
pub const MAX_FOOTPRINT: usize = 1 << 16;

/// The most that a side of a median's window can be.
pub const MAX_MEDIAN: u64 = 255;

/// Pass after pass.
fn extremes_on_device(
    source: Tensor,
    passes: &[Footprint],
    largest: bool,
    cx: &OpContext,
) -> Result<Option<Tensor>, TensorError> {
    let mut result = source;
    for footprint in passes {
        let task = Task::Extremes { source: &result, footprint, largest };
        match cx.on_device("morphology", task)? {
            Some(next) => result = next,
            None => return Ok(None),
        }
    }
    Ok(Some(result))
}

impl Tensor {
    /// The smallest or largest of the pixels around each where `footprint` (boolean, `[h,w]`) is true. Its middle, that
    /// behind it where a length is even, lies on the pixel; it is not turned around. Beyond the border there is nothing,
    /// and where nothing is seen, the answer is infinite. As OpenCV's `erode` and `dilate`. Floats.
    pub fn morphology(&self, op: MorphologyOp, footprint: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "morphology";
        self.check_float(OP, "self")?;
        self.check_rank(OP, "self", 4, "[B,C,H,W]")?;
        footprint.check_rank(OP, "footprint", 2, "[h,w]")?;
        if footprint.dtype() != DType::Boolean {
            let (argument, found) = ("footprint", footprint.dtype());
            return Err(TensorError::Type { op: OP, argument, found, expected: "boolean" });
        }
        if footprint.elements() > MAX_FOOTPRINT {
            let (what, asked) = ("the size of a footprint", footprint.elements().to_string());
            return Err(TensorError::Limit { op: OP, what, asked, limit: MAX_FOOTPRINT as u64 });
        }
        cx.check_cost(OP, &[self.elements(), footprint.elements()])?;
        let size = [footprint.dims()[0], footprint.dims()[1]];
        let seen = footprint.to_vec::<bool>(cx)?;
        let Some(passes) = Footprint::passes(size, &seen) else {
            return Err(TensorError::argument(OP, "footprint", "has no element that is true"));
        };
        let dilate = op == MorphologyOp::Dilate;
        if let Some(source) = self.dense_for_gpu(cx)?
            && let Some(result) = extremes_on_device(source, &passes, dilate, cx)?
        {
            return result.cast(self.dtype(), cx);
        }
        let mut source = self.dense_floats(OP, "self", cx)?;
        for footprint in passes {
            let mut result = Allocation::<f32>::unfilled(OP, self.elements(), cx)?;
            let plane = [self.dims()[2], self.dims()[3]];
            morphology::extremes(OP, source.floats(), plane, &footprint, dilate, &mut result.values, cx)?;
            source = Tensor::of(Layout::contiguous(*self.lengths_shape()), result);
        }
        source.cast(self.dtype(), cx)
    }

    /// The middle one of the pixels in the window (odd height, width) around each; `border` says what stands beyond the
    /// border (zeros for `constant`). Not-a-number counts as the largest. Floats.
    pub fn median_filter(&self, window: [u64; 2], border: PadMode, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "median-filter";
        self.check_float(OP, "self")?;
        self.check_rank(OP, "self", 4, "[B,C,H,W]")?;
        for (axis, side) in window.iter().enumerate() {
            if side.is_multiple_of(2) || *side > MAX_MEDIAN {
                let message = format!("is {window:?}; odd lengths of up to {MAX_MEDIAN} will do");
                return Err(TensorError::argument(OP, "window", message));
            }
            check_amount(OP, "window", 2 + axis, side / 2, self.dims()[2 + axis] as u64, border)?;
        }
        let [rows, columns] = window.map(|side| side as usize);
        cx.check_cost(OP, &[self.elements(), rows, columns])?;
        let plane = [self.dims()[2], self.dims()[3]];
        let median = Median { op: OP, plane, window: [rows, columns], border };
        if let Some(source) = self.dense_for_gpu(cx)?
            && let Some(result) = cx.on_device(OP, Task::Median { source: &source, median: &median })?
        {
            return Ok(result);
        }
        let input = self.dense_floats(OP, "self", cx)?;
        let mut result = Allocation::<f32>::unfilled(OP, self.elements(), cx)?;
        let bytes = median.workspace_bytes().saturating_mul(rayon::current_num_threads());
        let _workspace = workspace(OP, bytes, cx)?;
        median.run(input.floats(), &mut result.values, cx)?;
        Tensor::of(Layout::contiguous(*self.lengths_shape()), result).cast(self.dtype(), cx)
    }

    /// For every element of the last two dimensions that is not zero, how far (Euclid) the nearest zero of its plane is; 0
    /// for zeros, infinity where there is none. Any type; answers float32. As SciPy's `distance_transform_edt`.
    pub fn distance_transform(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "distance-transform";
        let Some(first) = self.rank().checked_sub(2) else {
            let message = format!("has shape {}, but […,H,W] is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        };
        let plane = [self.dims()[first], self.dims()[first + 1]];
        // Squares of distances have to be exact in double precision.
        if plane.iter().any(|side| *side > 1 << 24) {
            let (what, asked) = ("the length of a side", format!("{plane:?}"));
            return Err(TensorError::Limit { op: OP, what, asked, limit: 1 << 24 });
        }
        cx.check_cost(OP, &[self.elements(), 16])?;
        let zero = self.binary(crate::BinaryOp::Eq, crate::Operand::Scalar(0.0), cx)?.contiguous(cx)?;
        if let Some(result) = cx.on_device(OP, Task::Distances { zero: &zero })? {
            return Ok(result);
        }
        zero.buffer(OP, cx)?;
        let shape: Shape = *self.lengths_shape();
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        let bytes = 24 * plane[1] * rayon::current_num_threads();
        let _workspace = workspace(OP, bytes, cx)?;
        morphology::distances(OP, zero.as_slice().unwrap_or_default(), plane, &mut result.values, cx)?;
        Ok(Tensor::of(Layout::contiguous(shape), result))
    }
}
