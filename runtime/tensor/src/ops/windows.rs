//! Windows of `[B,C,H,W]` as columns of a matrix, and back.

use super::ConvGeometry;
use super::conv::window_span;
use crate::cpu::windows::Folding;
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, PadMode, Shape, Tensor, TensorError};

/// How many windows fit, height first, once they are known to have a sensible size.
fn window_counts(
    op: &'static str,
    size: [u64; 2],
    window: [u64; 2],
    geometry: &ConvGeometry,
) -> Result<[usize; 2], TensorError> {
    geometry.check(op)?;
    if geometry.groups != 1 {
        return Err(TensorError::argument(op, "groups", format!("is {}; 1 is needed", geometry.groups)));
    }
    let mut counts = [0usize; 2];
    for (axis, slot) in counts.iter_mut().enumerate() {
        let span = window_span(window[axis], geometry.dilation[axis]).ok_or_else(|| {
            TensorError::argument(op, "window", format!("is {window:?}: no elements, or too many pixels"))
        })?;
        let room = size[axis].saturating_add(2 * geometry.padding[axis]);
        let Some(left) = room.checked_sub(span) else {
            let message = format!("is {window:?} and spans {span} pixels, but with its padding there are {room}");
            return Err(TensorError::argument(op, "window", message));
        };
        *slot = usize::try_from(left / geometry.stride[axis] + 1).unwrap_or(usize::MAX);
    }
    Ok(counts)
}

impl Tensor {
    /// The pixels under each window of `[B,C,H,W]` as a column: `[B, C·height·width, windows]`. Any type; `groups` is 1.
    pub fn unfold(&self, window: [u64; 2], geometry: &ConvGeometry, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "unfold";
        self.check_rank(OP, "self", 4, "[B,C,H,W]")?;
        let [batch, channels] = [0, 1].map(|dim| self.dims()[dim]);
        let size = [self.dims()[2] as u64, self.dims()[3] as u64];
        let counts = window_counts(OP, size, window, geometry)?;
        let taps = window.map(|taps| taps as usize);
        let shape = Shape::from_lengths(OP, &[batch, channels, taps[0], taps[1], counts[0], counts[1]])?;
        cx.check_cost(OP, &[shape.elements()])?;
        let padded = match geometry.padding {
            [0, 0] => self.clone(),
            [y, x] => self.pad(&[0, 0, y, x], &[0, 0, y, x], PadMode::Constant, 0.0, cx)?,
        };
        let step = |axis: usize| (geometry.stride[axis] as usize, geometry.dilation[axis] as usize);
        let layout = padded.layout.windowed(OP, 3, (counts[1], taps[1]), step(1))?;
        let layout = layout.windowed(OP, 2, (counts[0], taps[0]), step(0))?;
        // [B, C, windows, taps, windows, taps]
        let columns = padded.with_layout(layout.permuted(&[0, 1, 3, 5, 2, 4]));
        let flat = [batch, channels * taps[0] * taps[1], counts[0] * counts[1]].map(|length| length as i64);
        columns.contiguous(cx)?.reshape(&flat, cx)
    }

    /// The reverse of [`Tensor::unfold`]: columns `[B, C·height·width, windows]` laid over a picture of `size`, and added
    /// up where windows overlap. Floats; added in float32.
    pub fn fold(
        &self,
        size: [u64; 2],
        window: [u64; 2],
        geometry: &ConvGeometry,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "fold";
        self.check_float(OP, "self")?;
        self.check_rank(OP, "self", 3, "[B,C·height·width,windows]")?;
        let counts = window_counts(OP, size, window, geometry)?;
        let taps = window[0].checked_mul(window[1]).and_then(|taps| usize::try_from(taps).ok());
        let [batch, rows, columns] = [0, 1, 2].map(|dim| self.dims()[dim]);
        let Some(taps) = taps.filter(|taps| rows.is_multiple_of(*taps)) else {
            let message = format!("is {window:?}, whose elements do not divide the {rows} rows");
            return Err(TensorError::argument(OP, "window", message));
        };
        if counts[0].checked_mul(counts[1]) != Some(columns) {
            let message = format!("has {columns} columns, but there are {} × {} windows", counts[0], counts[1]);
            return Err(TensorError::argument(OP, "self", message));
        }
        let shape = Shape::new(OP, &[batch as u64, (rows / taps) as u64, size[0], size[1]])?;
        cx.check_cost(OP, &[shape.elements(), taps])?;
        let small = |values: [u64; 2]| values.map(|value| value as usize);
        let folding = Folding {
            op: OP,
            size: small(size),
            window: small(window),
            counts,
            stride: small(geometry.stride),
            padding: small(geometry.padding),
            dilation: small(geometry.dilation),
        };
        if let Some(source) = self.dense_for_gpu(cx)?
            && let Some(result) = cx.on_device(OP, Task::Fold { source: &source, folding: &folding, shape })?
        {
            return Ok(result);
        }
        let input = self.dense_floats(OP, "self", cx)?;
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        folding.run(input.floats(), &mut result.values, cx)?;
        Tensor::of(Layout::contiguous(shape), result).cast(self.dtype(), cx)
    }

    /// The mean of the pixels that fall under each of `height` × `width` even parts of `[B,C,H,W]`: what `interpolate`
    /// answers in its `area` mode.
    pub fn adaptive_avg_pool2d(&self, height: u64, width: u64, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.interpolate(height, width, crate::InterpolateMode::Area, cx)
    }
}
