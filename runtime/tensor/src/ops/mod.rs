//! One definition of each operation: what it accepts, what shape and type it answers, what it costs.
//!
//! Files follow the groups of the node interface. A function here checks everything, pays for the result, and only then
//! calls a loop of `cpu/`.

mod activation;
mod arrange;
mod attention;
mod blocks;
mod canny;
mod color;
mod conv;
mod create;
mod einsum;
mod elementwise;
mod filter;
mod fourier;
mod index;
mod interpolate;
mod join;
mod linear;
mod morphology;
mod norm;
mod order;
mod pad;
mod pool;
mod random;
mod reduce;
mod rope;
mod sample;
mod statistics;
mod view;
mod volume;
mod windows;

pub use activation::Activation;
pub use blocks::BlockFormat;
pub use conv::ConvGeometry;
pub use create::MAX_READ;
pub use filter::MAX_KERNEL;
pub use fourier::MAX_FFT;
pub(crate) use interpolate::workspace;
pub use join::MAX_CAT;
pub use morphology::{MAX_FOOTPRINT, MAX_MEDIAN, MorphologyOp};
pub use order::MAX_SORT;
pub use random::Generator;
pub use sample::{SampleBorder, SampleMode};
pub use statistics::MAX_BINS;
pub use volume::VolumeGeometry;

use crate::{DType, OpContext, Tensor, TensorError};

impl Tensor {
    /// Refuses anything but floats.
    fn check_float(&self, op: &'static str, argument: &'static str) -> Result<(), TensorError> {
        if self.dtype().is_float() {
            return Ok(());
        }
        Err(TensorError::Type { op, argument, found: self.dtype(), expected: "a float type" })
    }

    /// The same numbers as row-major float32 in this machine's memory; itself when it is that already.
    fn dense_floats(&self, op: &'static str, argument: &'static str, cx: &OpContext) -> Result<Tensor, TensorError> {
        self.check_float(op, argument)?;
        let dense = self.cast(DType::Float32, cx)?.contiguous(cx)?;
        dense.buffer(op, cx)?;
        Ok(dense)
    }

    /// The same elements, row-major, if the context names a GPU (which then copies what is not so yet) and there are any.
    fn dense_for_gpu(&self, cx: &OpContext) -> Result<Option<Tensor>, TensorError> {
        if cx.gpu.is_none() || self.elements() == 0 {
            return Ok(None);
        }
        self.contiguous(cx).map(Some)
    }

    /// The elements of what [`Tensor::dense_floats`] answered.
    fn floats(&self) -> &[f32] {
        self.as_slice().unwrap_or_default()
    }

    fn check_rank(&self, op: &'static str, argument: &'static str, rank: usize, form: &str) -> Result<(), TensorError> {
        if self.rank() == rank {
            return Ok(());
        }
        let message = format!("has shape {}, but {form} is needed", self.lengths_shape());
        Err(TensorError::argument(op, argument, message))
    }

    /// Refuses a weight or bias that is not one float per channel.
    fn check_per_channel(
        this: Option<&Tensor>,
        op: &'static str,
        argument: &'static str,
        channels: usize,
    ) -> Result<(), TensorError> {
        let Some(tensor) = this else { return Ok(()) };
        if tensor.dims() != [channels] {
            let message = format!("has shape {}, but [{channels}] is needed", tensor.lengths_shape());
            return Err(TensorError::argument(op, argument, message));
        }
        tensor.check_float(op, argument)
    }

    /// A weight or bias of one value per channel, as row-major float32.
    fn per_channel(
        this: Option<&Tensor>,
        op: &'static str,
        argument: &'static str,
        channels: usize,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        Tensor::check_per_channel(this, op, argument, channels)?;
        this.map(|tensor| tensor.dense_floats(op, argument, cx)).transpose()
    }
}

/// Operations of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are PyTorch's.
pub enum UnaryOp {
    Abs,
    Neg,
    Sign,
    Exp,
    Log,
    Sqrt,
    Rsqrt,
    Reciprocal,
    Square,
    Sin,
    Cos,
    Tan,
    Tanh,
    Sigmoid,
    Silu,
    Relu,
    /// The exact form, with the error function.
    Gelu,
    Floor,
    Ceil,
    /// Halves go to the even neighbour.
    Round,
    Trunc,
    LogicalNot,
}

/// Operations of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are PyTorch's.
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// True division: integers answer float32.
    Div,
    Pow,
    /// The remainder with the sign of the dividend.
    Fmod,
    /// The remainder with the sign of the divisor.
    Remainder,
    Minimum,
    Maximum,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    LogicalAnd,
    LogicalOr,
    LogicalXor,
}

/// Operations over dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are PyTorch's.
pub enum ReduceOp {
    Sum,
    Mean,
    Prod,
    Amin,
    Amax,
    Any,
    All,
}

/// How [`Tensor::interpolate`] finds values between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InterpolateMode {
    /// The pixel at the floor of the scaled index.
    Nearest,
    /// The pixel nearest to the scaled centre.
    NearestExact,
    /// Between 2×2 pixels.
    Bilinear,
    /// Between 4×4 pixels, a = −0.75; may overshoot.
    Bicubic,
    /// The mean of the pixels that fall under one, as adaptive average pooling.
    Area,
    /// Through 8 bits per channel, as Pillow's Lanczos filter.
    Lanczos,
}

/// What stands beyond the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PadMode {
    /// A given number.
    Constant,
    /// The inside mirrored at the outermost element, which is not repeated.
    Reflect,
    /// The outermost element.
    Replicate,
    /// The other side.
    Circular,
}

/// The right-hand side of an operation.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// Elements, broadcast.
    Tensor(&'a Tensor),
    /// One number for all.
    Scalar(f64),
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Operand::Tensor(tensor)
    }
}

impl From<f64> for Operand<'_> {
    fn from(value: f64) -> Self {
        Operand::Scalar(value)
    }
}
