//! Enums and records of the WIT world, and what `vivarium-tensor` calls them.

use vivarium_tensor::{
    Activation as OpActivation, BinaryOp as OpBinary, ConvGeometry as Geometry, DType, Generator,
    InterpolateMode as Mode, MorphologyOp as OpMorphology, PadMode as Pad, ReduceOp as Reduce,
    SampleBorder as OpSampleBorder, SampleMode as OpSampleMode, UnaryOp as Unary, VolumeGeometry as OpVolumeGeometry,
};

use crate::bindings::vivarium::node::tensors::{
    Activation, BinaryOp, ConvGeometry, Dtype, InterpolateMode, MorphologyOp, PadMode, RandomGenerator, ReduceOp,
    SampleBorder, SampleMode, UnaryOp, VolumeGeometry,
};

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
    Boolean => Boolean, Float8E4m3 => Float8E4m3, Float8E5m2 => Float8E5m2,
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

same_cases!(Activation => OpActivation {
    LeakyRelu => LeakyRelu, Elu => Elu, Softplus => Softplus, Mish => Mish, QuickGelu => QuickGelu,
    GeluTanh => GeluTanh, Erf => Erf, Expm1 => Expm1, Log1p => Log1p, Log2 => Log2, HardSwish => HardSwish,
});
same_cases!(RandomGenerator => Generator { Pytorch => Pytorch, Philox => Philox });

same_cases!(SampleMode => OpSampleMode { Nearest => Nearest, Bilinear => Bilinear, Bicubic => Bicubic });
same_cases!(SampleBorder => OpSampleBorder { Zeros => Zeros, Border => Border, Reflection => Reflection });
same_cases!(MorphologyOp => OpMorphology { Erode => Erode, Dilate => Dilate });

impl From<VolumeGeometry> for OpVolumeGeometry {
    fn from(VolumeGeometry { stride, padding, dilation, groups }: VolumeGeometry) -> Self {
        Self { stride: stride.into(), padding: padding.into(), dilation: dilation.into(), groups }
    }
}

impl From<ConvGeometry> for Geometry {
    fn from(ConvGeometry { stride, padding, dilation, groups }: ConvGeometry) -> Self {
        Self { stride: stride.into(), padding: padding.into(), dilation: dilation.into(), groups }
    }
}

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
            DType::Float8E4m3 => Self::Float8E4m3,
            DType::Float8E5m2 => Self::Float8E5m2,
        }
    }
}
