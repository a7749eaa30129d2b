//! Convolutions of `[B,C,D,H,W]` and the transposed one of `[B,C,L]`, through those of pictures: what lies under a window
//! along the depth becomes further channels of a picture.

use super::ConvGeometry;
use super::conv::{channels_differ, window_span};
use crate::{OpContext, PadMode, Shape, Tensor, TensorError};

/// As [`ConvGeometry`], with the depth first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeGeometry {
    /// Elements from one window to the next.
    pub stride: [u64; 3],
    /// Zeros around the input, on every side.
    pub padding: [u64; 3],
    /// Elements from one of the window to the next.
    pub dilation: [u64; 3],
    /// Parts into which the channels are split; each sees only its own.
    pub groups: u64,
}

impl Default for VolumeGeometry {
    /// Stride 1, no padding, dense, one group.
    fn default() -> Self {
        VolumeGeometry { stride: [1; 3], padding: [0; 3], dilation: [1; 3], groups: 1 }
    }
}

impl VolumeGeometry {
    /// Height and width.
    fn plane(&self) -> ConvGeometry {
        let pair = |[_, height, width]: [u64; 3]| [height, width];
        ConvGeometry {
            stride: pair(self.stride),
            padding: pair(self.padding),
            dilation: pair(self.dilation),
            groups: self.groups,
        }
    }

    fn check(&self, op: &'static str) -> Result<(), TensorError> {
        let depth = |[depth, _, _]: [u64; 3]| [depth, depth];
        self.plane().check(op)?;
        ConvGeometry {
            stride: depth(self.stride),
            padding: depth(self.padding),
            dilation: depth(self.dilation),
            groups: 1,
        }
        .check(op)
    }
}

fn check_operands(
    op: &'static str,
    input: &Tensor,
    weight: &Tensor,
    geometry: &VolumeGeometry,
    form: &str,
) -> Result<(), TensorError> {
    input.check_float(op, "self")?;
    weight.check_float(op, "weight")?;
    input.check_rank(op, "self", 5, "[B,C,D,H,W]")?;
    weight.check_rank(op, "weight", 5, form)?;
    geometry.check(op)
}

/// The length that a window spans along a dimension.
fn span(op: &'static str, weight: &Tensor, geometry: &VolumeGeometry, axis: usize) -> Result<u64, TensorError> {
    window_span(weight.dims()[2 + axis] as u64, geometry.dilation[axis]).ok_or_else(|| {
        let message = format!("of shape {} has no elements or spans too many", weight.lengths_shape());
        TensorError::argument(op, "weight", message)
    })
}

/// Refuses results that are too large or too much work, before anything is made.
fn check_result(
    op: &'static str,
    (input, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
    (outputs, inputs): (usize, usize),
    size: [u64; 3],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let [batch, outputs_wide] = [input.dims()[0] as u64, outputs as u64];
    let shape = Shape::new(op, &[batch, outputs_wide, size[0], size[1], size[2]])?;
    let taps: usize = weight.dims()[2..].iter().product();
    cx.check_cost(op, &[shape.elements(), inputs, taps])?;
    Tensor::check_per_channel(bias, op, "bias", outputs)
}

impl Tensor {
    /// Correlates `[B,C,D,H,W]` with `weight` of `[out,C/groups,d,h,w]` and adds `bias` of `[out]`.
    ///
    /// Workspace: the input once for every element of the window along the depth, and that of `conv2d`.
    pub fn conv3d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: &VolumeGeometry,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "conv3d";
        check_operands(OP, self, weight, geometry, "[out,in/groups,depth,height,width]")?;
        let groups = geometry.groups as usize;
        let (outputs, inputs) = (weight.dims()[0], weight.dims()[1]);
        if !outputs.is_multiple_of(groups) || inputs.checked_mul(groups) != Some(self.dims()[1]) {
            return Err(channels_differ(OP, self, weight, groups));
        }
        let mut size = [0u64; 3];
        for (axis, slot) in size.iter_mut().enumerate() {
            let room = self.dims()[2 + axis] as u64 + 2 * geometry.padding[axis];
            let span = span(OP, weight, geometry, axis)?;
            let Some(left) = room.checked_sub(span) else {
                let message = format!(
                    "of shape {} spans {span} elements of dimension {}, which has {room} with its padding",
                    weight.lengths_shape(),
                    axis + 2
                );
                return Err(TensorError::argument(OP, "weight", message));
            };
            *slot = left / geometry.stride[axis] + 1;
        }
        check_result(OP, (self, weight, bias), (outputs, inputs), size, cx)?;
        let depth = geometry.padding[0];
        let padded = match depth {
            0 => self.clone(),
            _ => self.pad(&[0, 0, depth, 0, 0], &[0, 0, depth, 0, 0], PadMode::Constant, 0.0, cx)?,
        };
        let taps = weight.dims()[2];
        let step = (geometry.stride[0] as usize, geometry.dilation[0] as usize);
        let pictures = padded.pictures(OP, (size[0] as usize, taps), step, cx)?;
        let [first, second, deep, height, width] = [0, 1, 2, 3, 4].map(|dim| weight.dims()[dim] as i64);
        let flat = weight.reshape(&[first, second * deep, height, width], cx)?;
        let answered = pictures.conv2d(&flat, bias, &geometry.plane(), cx)?;
        answered.volumes(self.dims()[0], size[0], cx)
    }

    /// The transpose of [`Tensor::conv3d`]; see [`Tensor::conv_transpose2d`]. `weight` is `[C,out/groups,d,h,w]`.
    ///
    /// Workspace: as that of `conv3d`, for an input with zeros in between.
    pub fn conv_transpose3d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: &VolumeGeometry,
        output_padding: [u64; 3],
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "conv-transpose3d";
        check_operands(OP, self, weight, geometry, "[in,out/groups,depth,height,width]")?;
        let groups = geometry.groups as usize;
        let outputs = weight.dims()[1].checked_mul(groups);
        let Some(outputs) =
            outputs.filter(|_| weight.dims()[0] == self.dims()[1] && weight.dims()[0].is_multiple_of(groups))
        else {
            return Err(channels_differ(OP, self, weight, groups));
        };
        let mut size = [0u64; 3];
        for (axis, slot) in size.iter_mut().enumerate() {
            let (stride, length) = (geometry.stride[axis], self.dims()[2 + axis] as u64);
            if output_padding[axis] >= stride.max(geometry.dilation[axis]) {
                let message = format!("is {output_padding:?}; it must be less than stride or dilation");
                return Err(TensorError::argument(OP, "output-padding", message));
            }
            let span = span(OP, weight, geometry, axis)?;
            let full = length.checked_sub(1).and_then(|steps| steps.checked_mul(stride)).map(|s| s + span);
            let full = full.and_then(|full| full.checked_add(output_padding[axis]));
            match full.and_then(|full| full.checked_sub(2 * geometry.padding[axis])) {
                Some(length) if length > 0 => *slot = length,
                _ => {
                    let message = format!("of {:?} leaves nothing of dimension {}", geometry.padding, axis + 2);
                    return Err(TensorError::argument(OP, "padding", message));
                }
            }
        }
        let inputs = self.dims()[1] / groups;
        check_result(OP, (self, weight, bias), (outputs, inputs), size, cx)?;
        let taps = weight.dims()[2];
        let spread = self.spread_depth(size[0], span(OP, weight, geometry, 0)?, geometry, cx)?;
        let pictures = spread.pictures(OP, (size[0] as usize, taps), (1, geometry.dilation[0] as usize), cx)?;
        let [first, second, deep, height, width] = [0, 1, 2, 3, 4].map(|dim| weight.dims()[dim] as i64);
        let turned = weight.flip(&[2], cx)?.permute(&[0, 2, 1, 3, 4], cx)?;
        let flat = turned.reshape(&[first * deep, second, height, width], cx)?;
        let [_, height, width] = output_padding;
        let answered = pictures.conv_transpose2d(&flat, bias, &geometry.plane(), [height, width], cx)?;
        answered.volumes(self.dims()[0], size[0], cx)
    }

    /// The transpose of [`Tensor::conv1d`]: `[B,C,L]` with `weight` of `[C,out/groups,l]`. The second numbers of `geometry`
    /// count.
    pub fn conv_transpose1d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        geometry: &ConvGeometry,
        output_padding: u64,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "conv-transpose1d";
        self.check_rank(OP, "self", 3, "[B,C,L]")?;
        weight.check_rank(OP, "weight", 3, "[in,out/groups,length]")?;
        let (input, weight) = (self.unsqueeze(2, cx)?, weight.unsqueeze(2, cx)?);
        input.conv_transpose2d(&weight, bias, &geometry.flat(), [0, output_padding], cx)?.squeeze(2, cx)
    }

    /// `[B,C,D,H,W]` as one picture `[C·taps,H,W]` for each window along the depth, channels last in memory.
    fn pictures(
        &self,
        op: &'static str,
        windows: (usize, usize),
        step: (usize, usize),
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let [batch, channels, _, height, width] = [0, 1, 2, 3, 4].map(|dim| self.dims()[dim]);
        let (count, taps) = windows;
        // [B, C, windows, taps, H, W]
        let seen = self.with_layout(self.layout.windowed(op, 2, windows, step)?);
        let shape = [batch * count, height, width, channels * taps].map(|length| length as i64);
        seen.permute(&[0, 2, 4, 5, 1, 3], cx)?.reshape(&shape, cx)?.permute(&[0, 3, 1, 2], cx)
    }

    /// Pictures that belong to one another as `[B,C,D,H,W]` again.
    fn volumes(&self, batch: usize, depth: u64, cx: &OpContext) -> Result<Tensor, TensorError> {
        let [channels, height, width] = [1, 2, 3].map(|dim| self.dims()[dim] as i64);
        self.reshape(&[batch as i64, depth as i64, channels, height, width], cx)?.permute(&[0, 2, 1, 3, 4], cx)
    }

    /// The depth with `stride` − 1 zeros between elements, and as many around that windows of `span` give `wanted`.
    fn spread_depth(
        &self,
        wanted: u64,
        span: u64,
        geometry: &VolumeGeometry,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let (stride, padding) = (geometry.stride[0], geometry.padding[0]);
        let [batch, channels, depth, height, width] = [0, 1, 2, 3, 4].map(|dim| self.dims()[dim] as i64);
        let mut spread = self.clone();
        if stride > 1 {
            let zeros = [0, 0, 0, stride - 1, 0, 0];
            spread = self.unsqueeze(3, cx)?.pad(&[0; 6], &zeros, PadMode::Constant, 0.0, cx)?;
            spread = spread.reshape(&[batch, channels, depth * stride as i64, height, width], cx)?;
        }
        let length = (depth as u64).saturating_sub(1) * stride + 1;
        // How far windows reach beyond the first element, and how far behind the last; below zero, elements are cut off.
        let front = span as i64 - 1 - padding as i64;
        let back = (wanted + span - 1) as i64 - length as i64 - front;
        let (before, after) = (front.max(0) as u64, back.max(0) as u64);
        let padded = spread.pad(&[0, 0, before, 0, 0], &[0, 0, after, 0, 0], PadMode::Constant, 0.0, cx)?;
        let cut = (-front).max(0);
        padded.slice(2, cut, cut + (wanted + span - 1) as i64, 1, cx)
    }
}
