//! Filters that are a product of a column and a row: blur, sharpen, gradients.

use super::PadMode;
use super::interpolate::Planes;
use super::pad::check_amount;
use crate::cpu::filter::{across_rows, along_rows};
use crate::storage::Allocation;
use crate::{OpContext, Tensor, TensorError};

/// The longest kernel, so that the time per pixel is bounded.
pub const MAX_KERNEL: usize = 4095;

impl Tensor {
    /// Correlates the last two dimensions of `[B,C,H,W]` with kernel_y ⊗ kernel_x, every channel alone. Odd lengths; the
    /// size stays, and `border` says what stands beyond it (zeros for `constant`). Needs floats.
    ///
    /// Workspace: one more image of the size of the result.
    pub fn separable_filter(
        &self,
        kernel_y: &[f32],
        kernel_x: &[f32],
        border: PadMode,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "separable-filter";
        let planes = Planes::new(OP, self)?;
        if !self.dtype().is_float() {
            let found = self.dtype();
            return Err(TensorError::Type { op: OP, argument: "self", found, expected: "a float type" });
        }
        for (argument, kernel, dim) in [("kernel-y", kernel_y, 2), ("kernel-x", kernel_x, 3)] {
            check_kernel(OP, argument, kernel.len(), dim, self.dims()[dim] as u64, border)?;
        }
        let shape = *self.lengths_shape();
        let size = (planes.height, planes.width, planes.channels);
        let mut along = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        along_rows(OP, &planes.input(OP, cx)?, size, kernel_x, border, &mut along.values, cx)?;
        if kernel_y == [1.0] {
            return planes.tensor_of(shape, along).cast(self.dtype(), cx);
        }
        let mut across = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        across_rows(OP, &along.values, size, kernel_y, border, &mut across.values, cx)?;
        drop(along);
        planes.tensor_of(shape, across).cast(self.dtype(), cx)
    }
}

fn check_kernel(
    op: &'static str,
    argument: &'static str,
    taps: usize,
    dim: usize,
    length: u64,
    border: PadMode,
) -> Result<(), TensorError> {
    if taps.is_multiple_of(2) {
        return Err(TensorError::argument(op, argument, format!("has {taps} values; the number must be odd")));
    }
    if taps > MAX_KERNEL {
        let asked = format!("{taps} in {argument}");
        return Err(TensorError::Limit { op, what: "the length of a kernel", asked, limit: MAX_KERNEL as u64 });
    }
    if length == 0 {
        return Ok(());
    }
    check_amount(op, argument, dim, (taps / 2) as u64, length, border)
}
