//! Filters that are a product of a column and a row: blur, sharpen, gradients.

use super::PadMode;
use super::interpolate::{Planes, workspace};
use super::pad::check_amount;
use crate::cpu::copy::border as inside;
use crate::cpu::filter::Separable;
use crate::device::{Taps, Task};
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, Tensor, TensorError};

/// The longest kernel, so that the time per pixel is bounded.
pub const MAX_KERNEL: usize = 4095;

impl Tensor {
    /// Correlates the last two dimensions of `[B,C,H,W]` with kernel_y ⊗ kernel_x, every channel alone. Odd lengths; the
    /// size stays, and `border` says what stands beyond it (zeros for `constant`). Needs floats.
    ///
    /// Workspace: for each thread as many rows as `kernel_y` is long.
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
        if let Some(result) = filtered_on_device(self, &planes, [kernel_y, kernel_x], border, cx)? {
            return Ok(result);
        }
        let size = (planes.height, planes.width, planes.channels);
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        if shape.elements() > 0 {
            let filter = Separable { size, kernel_y, kernel_x, border };
            let _workspace = workspace(OP, filter.workspace().saturating_mul(rayon::current_num_threads()), cx)?;
            filter.run(OP, &planes.input(OP, cx)?, &mut result.values, cx)?;
        }
        planes.tensor_of(shape, result).cast(self.dtype(), cx)
    }
}

/// The most entries of a table for a GPU; beyond it, the CPU filters.
const MAX_TABLE: usize = 1 << 22;

/// Every result is a weighted sum of neighbours, as in resizing; so is this.
fn filtered_on_device(
    tensor: &Tensor,
    planes: &Planes<'_>,
    [kernel_y, kernel_x]: [&[f32]; 2],
    border: PadMode,
    cx: &OpContext,
) -> Result<Option<Tensor>, TensorError> {
    const OP: &str = "separable-filter";
    let entries = (planes.width.saturating_mul(kernel_x.len())).max(planes.height.saturating_mul(kernel_y.len()));
    if cx.gpu.is_none() || tensor.elements() == 0 || entries > MAX_TABLE {
        return Ok(None);
    }
    let place = |dim: usize| planes.order.inverse().dims()[dim];
    let _workspace = workspace(OP, entries * 8 + (planes.width.max(planes.height) + 1) * 4, cx)?;
    let columns = Table::new(kernel_x, planes.width, border);
    let task = Task::Resample { source: tensor, layout: planes.layout, axis: place(3), taps: columns.taps() };
    let Some(along) = cx.on_device(OP, task)? else { return Ok(None) };
    let rows = Table::new(kernel_y, planes.height, border);
    let task = Task::Resample { source: &along, layout: along.layout, axis: place(2), taps: rows.taps() };
    let Some(across) = cx.on_device(OP, task)? else { return Ok(None) };
    let layout = Layout::dense_in_order(*tensor.lengths_shape(), planes.order.dims());
    across.with_layout(layout).cast(tensor.dtype(), cx).map(Some)
}

/// What stands under a kernel at every place of an axis. Beyond the border there may be nothing.
struct Table {
    starts: Vec<u32>,
    indices: Vec<u32>,
    weights: Vec<f32>,
}

impl Table {
    fn new(kernel: &[f32], length: usize, border: PadMode) -> Table {
        let mut table = Table { starts: vec![0], indices: Vec::new(), weights: Vec::new() };
        let radius = (kernel.len() / 2) as isize;
        for place in 0..length as isize {
            for (tap, weight) in (place - radius..).zip(kernel) {
                if let Some(index) = inside(border, tap, length) {
                    table.indices.push(index as u32);
                    table.weights.push(*weight);
                }
            }
            table.starts.push(table.indices.len() as u32);
        }
        table
    }

    fn taps(&self) -> Taps<'_> {
        Taps { starts: &self.starts, indices: &self.indices, weights: &self.weights }
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
