//! Resizing of images.

use super::InterpolateMode;
use crate::cpu::elementwise::Input;
use crate::cpu::lanczos::{lanczos, table_bytes, workspace as lanczos_workspace};
use crate::cpu::resample::{Axis, nearest, resample, workspace_of_thread};
use crate::device::Task;
use crate::shape::{Layout, Order};
use crate::storage::{Allocation, Stored, with_buffer};
use crate::{OpContext, Shape, Tensor, TensorError};

/// A `[B,C,H,W]` tensor as planes of rows of pixels of interleaved channels, in the order that its memory suggests.
pub(super) struct Planes<'a> {
    tensor: &'a Tensor,
    /// Order of the dimensions of the result's memory.
    pub(super) order: Order,
    pub(super) layout: Layout,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl<'a> Planes<'a> {
    /// Channels-last memory is kept as it is; anything else is read as `[B,C,H,W]`.
    pub(super) fn new(op: &'static str, tensor: &'a Tensor) -> Result<Self, TensorError> {
        Self::check(op, tensor)?;
        let strides = tensor.layout.strides();
        let last = tensor.dims()[1] > 1 && strides[1].unsigned_abs() < strides[3].unsigned_abs();
        Ok(Self::in_order(tensor, last))
    }

    /// Read as channels-last, whatever the memory.
    pub(super) fn interleaved(op: &'static str, tensor: &'a Tensor) -> Result<Self, TensorError> {
        Self::check(op, tensor)?;
        Ok(Self::in_order(tensor, true))
    }

    fn check(op: &'static str, tensor: &Tensor) -> Result<(), TensorError> {
        if tensor.rank() == 4 {
            return Ok(());
        }
        let message = format!("has shape {}, but [B,C,H,W] is needed", tensor.lengths_shape());
        Err(TensorError::argument(op, "self", message))
    }

    fn in_order(tensor: &'a Tensor, channels_last: bool) -> Self {
        let order = if channels_last { Order::CHANNELS_LAST } else { Order::identity(4) };
        let layout = tensor.layout.permuted(order.dims());
        let channels = if channels_last { tensor.dims()[1] } else { 1 };
        let (height, width) = (tensor.dims()[2], tensor.dims()[3]);
        Planes { tensor, order, layout, height, width, channels }
    }

    /// The elements for a loop of the CPU.
    pub(super) fn input(&self, op: &'static str, cx: &OpContext) -> Result<Input<'a>, TensorError> {
        Ok(Input::new(self.tensor.buffer(op, cx)?, &self.layout))
    }
}

impl Tensor {
    /// Resizes the last two dimensions of `[B,C,H,W]`, as PyTorch with `align_corners` false and no antialiasing; only
    /// `area` and `lanczos` look at all pixels when shrinking. All but the nearest modes need floats.
    ///
    /// The size it has already leaves the tensor itself, but for `lanczos`.
    ///
    /// `lanczos` works as ComfyUI does: cut to 0..1, truncated to 8 bits, resized like Pillow, and back. Two and four
    /// channels are taken as having alpha last, with which Pillow weighs the colours.
    pub fn interpolate(
        &self,
        height: u64,
        width: u64,
        mode: InterpolateMode,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "interpolate";
        let planes = Planes::new(OP, self)?;
        let shape = Shape::new(OP, &[self.dims()[0] as u64, self.dims()[1] as u64, height, width])?;
        if planes.height == 0 || planes.width == 0 {
            let message = format!("has shape {}: there are no pixels to resize", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        for (argument, asked) in [("height", height), ("width", width)] {
            if asked == 0 || asked > u64::from(u32::MAX) {
                return Err(TensorError::argument(OP, argument, format!("is {asked}; 1 to {} will do", u32::MAX)));
            }
        }
        for (argument, length) in [("self", planes.height), ("self", planes.width)] {
            if length > u32::MAX as usize {
                return Err(TensorError::argument(
                    OP,
                    argument,
                    format!("is {length} long; at most {} will do", u32::MAX),
                ));
            }
        }
        let nearest = matches!(mode, InterpolateMode::Nearest | InterpolateMode::NearestExact);
        if !nearest && !self.dtype().is_float() {
            let found = self.dtype();
            return Err(TensorError::Type { op: OP, argument: "self", found, expected: "a float type" });
        }
        // Every pixel would be one times itself.
        if shape == *self.lengths_shape() && mode != InterpolateMode::Lanczos {
            return Ok(self.clone());
        }
        if cx.gpu.is_some()
            && mode != InterpolateMode::Lanczos
            && self.dtype().is_float()
            && let Some(result) = resampled_on_device(self, &planes, shape, mode, cx)?
        {
            return Ok(result);
        }
        if nearest {
            return self.nearest(&planes, shape, mode, cx);
        }
        let resized = match mode {
            InterpolateMode::Lanczos => lanczos_resized(self, shape, cx)?,
            mode => resampled(&planes, shape, mode, cx)?,
        };
        resized.cast(self.dtype(), cx)
    }

    fn nearest(
        &self,
        planes: &Planes<'_>,
        shape: Shape,
        mode: InterpolateMode,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "interpolate";
        let (height, width) = (shape.lengths()[2], shape.lengths()[3]);
        let _workspace = workspace(OP, (height + width) * size_of::<u32>(), cx)?;
        let rows = Axis::indices(planes.height, height, mode);
        let columns = Axis::indices(planes.width, width, mode);
        if cx.gpu.is_some()
            && let Some(result) = planes.picked_on_device(shape, &rows, &columns, cx)?
        {
            return Ok(result);
        }
        with_buffer!(self.buffer(OP, cx)?, values => {
            let mut result = Allocation::unfilled(OP, shape.elements(), cx)?;
            let source = crate::cpu::copy::Source { values, reader: crate::cpu::reader::Reader::new(&planes.layout) };
            let size = (planes.height, planes.width, planes.channels);
            nearest(OP, &source, size, &rows, &columns, &mut result.values, cx)?;
            Ok(planes.tensor_of(shape, result))
        })
    }
}

/// First along rows, then across them, as [`resampled`].
fn resampled_on_device(
    tensor: &Tensor,
    planes: &Planes<'_>,
    shape: Shape,
    mode: InterpolateMode,
    cx: &OpContext,
) -> Result<Option<Tensor>, TensorError> {
    const OP: &str = "interpolate";
    if shape.elements() == 0 {
        return Ok(None);
    }
    let (height, width) = (shape.lengths()[2], shape.lengths()[3]);
    let place = |dim: usize| planes.order.inverse().dims()[dim];
    let tables = Axis::bytes(planes.height, height, mode) + Axis::bytes(planes.width, width, mode);
    let _workspace = workspace(OP, tables, cx)?;
    let columns = Axis::new(planes.width, width, mode);
    let task = Task::Resample { source: tensor, layout: planes.layout, axis: place(3), taps: columns.table() };
    let Some(along) = cx.on_device(OP, task)? else { return Ok(None) };
    let rows = Axis::new(planes.height, height, mode);
    let task = Task::Resample { source: &along, layout: along.layout, axis: place(2), taps: rows.table() };
    let Some(across) = cx.on_device(OP, task)? else { return Ok(None) };
    let layout = Layout::dense_in_order(shape, planes.order.dims());
    across.with_layout(layout).cast(tensor.dtype(), cx).map(Some)
}

fn resampled(planes: &Planes<'_>, shape: Shape, mode: InterpolateMode, cx: &OpContext) -> Result<Tensor, TensorError> {
    const OP: &str = "interpolate";
    let (height, width) = (shape.lengths()[2], shape.lengths()[3]);
    let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
    if shape.elements() > 0 {
        let tables = Axis::bytes(planes.height, height, mode) + Axis::bytes(planes.width, width, mode);
        let _tables = workspace(OP, tables, cx)?;
        let rows = Axis::new(planes.height, height, mode);
        let columns = Axis::new(planes.width, width, mode);
        let size = (planes.height, planes.width, planes.channels);
        let threads = rayon::current_num_threads();
        let _workspace = workspace(OP, threads.saturating_mul(workspace_of_thread(size, &columns)), cx)?;
        resample(OP, &planes.input(OP, cx)?, size, &rows, &columns, &mut result.values, cx)?;
    }
    Ok(planes.tensor_of(shape, result))
}

fn lanczos_resized(tensor: &Tensor, shape: Shape, cx: &OpContext) -> Result<Tensor, TensorError> {
    const OP: &str = "interpolate";
    let planes = Planes::interleaved(OP, tensor)?;
    let (height, width) = (shape.lengths()[2], shape.lengths()[3]);
    let channels = planes.channels;
    let (from, to) = ((planes.height, planes.width), (height, width));
    if cx.gpu.is_some() {
        let order = Order::CHANNELS_LAST;
        // Paid for before they are made: a side may be as long as anybody likes.
        let _tables = workspace(OP, table_bytes(from, to), cx)?;
        let task = Task::Lanczos { source: tensor, layout: planes.layout, shape: shape.permuted(order.dims()) };
        if let Some(result) = cx.on_device(OP, task)? {
            return Ok(result.with_layout(Layout::dense_in_order(shape, order.dims())));
        }
    }
    let _workspace = workspace(OP, lanczos_workspace(from, to, channels), cx)?;
    let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
    if shape.elements() > 0 {
        lanczos(OP, &planes.input(OP, cx)?, from, to, channels, &mut result.values, cx)?;
    }
    Ok(planes.tensor_of(shape, result))
}

/// Pays for memory that lives as long as the answer is held.
pub(crate) fn workspace(op: &'static str, bytes: usize, cx: &OpContext) -> Result<crate::Charge, TensorError> {
    cx.budget.charge(bytes as u64).map_err(|source| TensorError::Budget { op, source })
}

impl Planes<'_> {
    /// Elements of some rows and columns, first along rows, as [`resampled_on_device`].
    fn picked_on_device(
        &self,
        shape: Shape,
        rows: &[u32],
        columns: &[u32],
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        const OP: &str = "interpolate";
        let pick = |source: &Tensor, layout: Layout, dim: usize, places: &[u32]| {
            let dim = self.order.inverse().dims()[dim];
            let shape = layout.shape.with_length(OP, dim, places.len())?;
            let mut lengths = [1u64; 4];
            lengths[dim] = places.len() as u64;
            let index = Tensor::from_vec(&lengths, places.iter().map(|place| i64::from(*place)).collect(), cx)?;
            let along = index.layout.expanded(shape);
            cx.on_device(OP, Task::Gather { source, layout, dim, index: (&index, along), shape })
        };
        let Some(along) = pick(self.tensor, self.layout, 3, columns)? else { return Ok(None) };
        let across = pick(&along, along.layout, 2, rows)?;
        Ok(across.map(|across| across.with_layout(Layout::dense_in_order(shape, self.order.dims()))))
    }

    /// The result of an operation that keeps the size.
    pub(super) fn tensor_of<T: Stored>(&self, shape: Shape, allocation: Allocation<T>) -> Tensor {
        Tensor::of(Layout::dense_in_order(shape, self.order.dims()), allocation)
    }
}
