//! `tensors`: the host's tensor operations, one line each; what they do and check stands in `vivarium-tensor`.

use vivarium_tensor::{
    BinaryOp as OpBinary, DType, InterpolateMode as Mode, OpContext, PadMode as Pad, ReduceOp as Reduce, Tensor,
    TensorError, UnaryOp as Unary,
};
use wasmtime::component::Resource;

use super::{HostState, HostTensor, state::interrupted};
use crate::bindings::vivarium::node::{
    tensors::{self, BinaryOp, Dtype, InterpolateMode, Operand, PadMode, ReduceOp, UnaryOp},
    types::Error,
};

type Answer = wasmtime::Result<Result<Resource<HostTensor>, Error>>;

/// The enums of the WIT world and of `vivarium-tensor` have the same cases.
macro_rules! same_cases {
    ($wire:ident => $own:ident { $($from:ident => $to:ident),* $(,)? }) => {
        impl From<$wire> for $own {
            fn from(value: $wire) -> Self {
                match value { $($wire::$from => Self::$to),* }
            }
        }
    };
}

same_cases!(Dtype => DType {
    Float32 => Float32, Float16 => Float16, Bfloat16 => Bfloat16, Uint8 => Uint8, Int32 => Int32, Int64 => Int64,
    Boolean => Boolean,
});
same_cases!(UnaryOp => Unary {
    Abs => Abs, Neg => Neg, Sign => Sign, Exp => Exp, Log => Log, Sqrt => Sqrt, Rsqrt => Rsqrt,
    Reciprocal => Reciprocal, Square => Square, Sin => Sin, Cos => Cos, Tan => Tan, Tanh => Tanh, Sigmoid => Sigmoid,
    Silu => Silu, Relu => Relu, Gelu => Gelu, Floor => Floor, Ceil => Ceil, Round => Round, Trunc => Trunc,
    LogicalNot => LogicalNot,
});
same_cases!(BinaryOp => OpBinary {
    Add => Add, Sub => Sub, Mul => Mul, Div => Div, Pow => Pow, Fmod => Fmod, Remainder => Remainder,
    Minimum => Minimum, Maximum => Maximum, Atan2 => Atan2, Eq => Eq, Ne => Ne, Lt => Lt, Le => Le, Gt => Gt, Ge => Ge,
    LogicalAnd => LogicalAnd, LogicalOr => LogicalOr, LogicalXor => LogicalXor,
});
same_cases!(ReduceOp => Reduce {
    Sum => Sum, Mean => Mean, Prod => Prod, Amin => Amin, Amax => Amax, Any => Any, All => All,
});
same_cases!(InterpolateMode => Mode {
    Nearest => Nearest, NearestExact => NearestExact, Bilinear => Bilinear, Bicubic => Bicubic, Area => Area,
    Lanczos => Lanczos,
});
same_cases!(PadMode => Pad {
    Constant => Constant, Reflect => Reflect, Replicate => Replicate, Circular => Circular,
});

impl From<DType> for Dtype {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::Float32 => Self::Float32,
            DType::Float16 => Self::Float16,
            DType::Bfloat16 => Self::Bfloat16,
            DType::Uint8 => Self::Uint8,
            DType::Int32 => Self::Int32,
            DType::Int64 => Self::Int64,
            DType::Boolean => Self::Boolean,
        }
    }
}

impl HostState {
    /// Runs an operation on one tensor.
    fn on(
        &mut self,
        handle: &Resource<HostTensor>,
        operation: impl FnOnce(&Tensor, &OpContext) -> Result<Tensor, TensorError>,
    ) -> Answer {
        let tensor = self.tensor(handle)?;
        self.answer(|cx| operation(&tensor, cx))
    }

    fn operand(&self, operand: &Operand) -> wasmtime::Result<OwnedOperand> {
        Ok(match operand {
            Operand::Tensor(handle) => OwnedOperand::Tensor(self.tensor(handle)?),
            Operand::Scalar(value) => OwnedOperand::Scalar(*value),
        })
    }
}

enum OwnedOperand {
    Tensor(Tensor),
    Scalar(f64),
}

impl OwnedOperand {
    fn get(&self) -> vivarium_tensor::Operand<'_> {
        match self {
            Self::Tensor(tensor) => vivarium_tensor::Operand::Tensor(tensor),
            Self::Scalar(value) => vivarium_tensor::Operand::Scalar(*value),
        }
    }
}

impl tensors::Host for HostState {}

impl tensors::HostTensor for HostState {
    fn zeros(&mut self, shape: Vec<u64>, dtype: Dtype) -> Answer {
        self.answer(|cx| Tensor::zeros(&shape, dtype.into(), cx))
    }

    fn full(&mut self, shape: Vec<u64>, value: f64, dtype: Dtype) -> Answer {
        self.answer(|cx| Tensor::full(&shape, value, dtype.into(), cx))
    }

    fn arange(&mut self, start: f64, end: f64, step: f64) -> Answer {
        self.answer(|cx| Tensor::arange(start, end, step, cx))
    }

    fn linspace(&mut self, start: f64, end: f64, steps: u64) -> Answer {
        self.answer(|cx| Tensor::linspace(start, end, steps, cx))
    }

    fn from_bytes(&mut self, shape: Vec<u64>, dtype: Dtype, data: Vec<u8>) -> Answer {
        if let Err(error) = self.charge_transfer(data.len() as u64) {
            return Ok(Err(error));
        }
        self.answer(|cx| Tensor::from_bytes(&shape, dtype.into(), &data, cx))
    }

    fn cat(&mut self, tensors: Vec<Resource<HostTensor>>, dim: i32) -> Answer {
        let tensors = tensors.iter().map(|handle| self.tensor(handle)).collect::<wasmtime::Result<Vec<_>>>()?;
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        self.answer(|cx| Tensor::cat(&tensors, dim, cx))
    }

    fn shape(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<Vec<u64>> {
        Ok(self.table.get(&tensor)?.0.shape())
    }

    fn dtype(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<Dtype> {
        Ok(self.table.get(&tensor)?.0.dtype().into())
    }

    fn read(
        &mut self,
        tensor: Resource<HostTensor>,
        offset: u64,
        length: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let tensor = self.tensor(&tensor)?;
        if let Err(error) = self.charge_transfer(length.saturating_mul(tensor.dtype().size() as u64)) {
            return Ok(Err(error));
        }
        Ok(tensor.read(offset, length, self.op()).map_err(|error| self.tensor_error(&error)))
    }

    fn item(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<Result<f64, Error>> {
        let tensor = self.tensor(&tensor)?;
        Ok(tensor.item().map_err(|error| self.tensor_error(&error)))
    }

    fn share(&mut self, tensor: Resource<HostTensor>) -> Answer {
        let tensor = self.tensor(&tensor)?;
        self.push_tensor(tensor)
    }

    fn reshape(&mut self, tensor: Resource<HostTensor>, shape: Vec<i64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.reshape(&shape, cx))
    }

    fn permute(&mut self, tensor: Resource<HostTensor>, dims: Vec<i32>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.permute(&dims, cx))
    }

    fn expand(&mut self, tensor: Resource<HostTensor>, shape: Vec<i64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.expand(&shape, cx))
    }

    fn slice(&mut self, tensor: Resource<HostTensor>, dim: i32, start: i64, end: i64, step: u64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.slice(dim, start, end, step, cx))
    }

    fn squeeze(&mut self, tensor: Resource<HostTensor>, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.squeeze(dim, cx))
    }

    fn unsqueeze(&mut self, tensor: Resource<HostTensor>, dim: i32) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.unsqueeze(dim, cx))
    }

    fn flip(&mut self, tensor: Resource<HostTensor>, dims: Vec<i32>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.flip(&dims, cx))
    }

    fn contiguous(&mut self, tensor: Resource<HostTensor>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.contiguous(cx))
    }

    fn repeat(&mut self, tensor: Resource<HostTensor>, counts: Vec<u64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.repeat(&counts, cx))
    }

    fn cast(&mut self, tensor: Resource<HostTensor>, dtype: Dtype) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.cast(dtype.into(), cx))
    }

    fn unary(&mut self, tensor: Resource<HostTensor>, op: UnaryOp) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.unary(op.into(), cx))
    }

    fn binary(&mut self, tensor: Resource<HostTensor>, op: BinaryOp, other: Operand) -> Answer {
        let other = self.operand(&other)?;
        self.on(&tensor, |tensor, cx| tensor.binary(op.into(), other.get(), cx))
    }

    fn binary_from(&mut self, tensor: Resource<HostTensor>, op: BinaryOp, scalar: f64) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.binary_from(op.into(), scalar, cx))
    }

    fn clamp(&mut self, tensor: Resource<HostTensor>, min: Option<f64>, max: Option<f64>) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.clamp(min, max, cx))
    }

    fn lerp(&mut self, tensor: Resource<HostTensor>, end: Resource<HostTensor>, weight: Operand) -> Answer {
        let (end, weight) = (self.tensor(&end)?, self.operand(&weight)?);
        self.on(&tensor, |tensor, cx| tensor.lerp(&end, weight.get(), cx))
    }

    fn where_(&mut self, tensor: Resource<HostTensor>, condition: Resource<HostTensor>, other: Operand) -> Answer {
        let (condition, other) = (self.tensor(&condition)?, self.operand(&other)?);
        self.on(&tensor, |tensor, cx| tensor.where_(&condition, other.get(), cx))
    }

    fn reduce(&mut self, tensor: Resource<HostTensor>, op: ReduceOp, dims: Vec<i32>, keep_dims: bool) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.reduce(op.into(), &dims, keep_dims, cx))
    }

    fn paste(&mut self, tensor: Resource<HostTensor>, source: Resource<HostTensor>, offsets: Vec<u64>) -> Answer {
        let source = self.tensor(&source)?;
        self.on(&tensor, |tensor, cx| tensor.paste(&source, &offsets, cx))
    }

    fn pad(
        &mut self,
        tensor: Resource<HostTensor>,
        before: Vec<u64>,
        after: Vec<u64>,
        mode: PadMode,
        value: f64,
    ) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.pad(&before, &after, mode.into(), value, cx))
    }

    fn interpolate(&mut self, tensor: Resource<HostTensor>, height: u64, width: u64, mode: InterpolateMode) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.interpolate(height, width, mode.into(), cx))
    }

    fn separable_filter(
        &mut self,
        tensor: Resource<HostTensor>,
        kernel_y: Vec<f32>,
        kernel_x: Vec<f32>,
        border: PadMode,
    ) -> Answer {
        self.on(&tensor, |tensor, cx| tensor.separable_filter(&kernel_y, &kernel_x, border.into(), cx))
    }

    fn drop(&mut self, tensor: Resource<HostTensor>) -> wasmtime::Result<()> {
        self.release_handle();
        self.table.delete(tensor)?;
        Ok(())
    }
}
