//! What an operation asks of a GPU, whichever it is: checked arguments, in terms of strided views.
//!
//! A back end answers `None` where it has no kernel for the arguments; the operation then runs on the CPU, and its
//! operands are copied there.
#![cfg_attr(not(feature = "cuda"), allow(dead_code))]

use crate::shape::{Layout, Order};
use crate::{Activation, BinaryOp, DType, OpContext, Operand, Tensor, TensorError, UnaryOp};

/// One operation.
pub(crate) enum Task<'a> {
    /// Every element of the result from those of the operands at the same place. `layout` is dense; its dimensions lie in
    /// memory in `order`.
    Elementwise { operands: &'a [Operand<'a>], layout: Layout, order: Order, dtype: DType, code: &'a DeviceCode },
    /// A result put together out of parts of other tensors, later ones over earlier ones. Where no piece lies, there is
    /// `fill`; without it the pieces cover everything. All are of type `dtype`.
    Assemble { layout: Layout, dtype: DType, fill: Option<f64>, pieces: &'a [Piece<'a>] },
}

/// Elements of `source` at `from`, to be copied to `to` in the result. Both have the same shape.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) source: &'a Tensor,
    pub(crate) from: Layout,
    pub(crate) to: Layout,
}

/// An expression in CUDA C over the operands `a`, `b`, `c` and the constants `p`, `q`, all of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceCode {
    pub(crate) expression: &'static str,
    /// Computed in int64 instead of float32.
    pub(crate) integers: bool,
    pub(crate) floats: [f64; 2],
    pub(crate) whole: [i64; 2],
}

impl DeviceCode {
    pub(crate) const fn floats(expression: &'static str) -> DeviceCode {
        DeviceCode { expression, integers: false, floats: [0.0; 2], whole: [0; 2] }
    }

    pub(crate) const fn integers(expression: &'static str) -> DeviceCode {
        DeviceCode { expression, integers: true, floats: [0.0; 2], whole: [0; 2] }
    }

    pub(crate) const fn with(self, floats: [f64; 2]) -> DeviceCode {
        DeviceCode { floats, ..self }
    }

    pub(crate) const fn with_integers(self, whole: [i64; 2]) -> DeviceCode {
        DeviceCode { whole, ..self }
    }
}

impl OpContext {
    /// Runs a task on the context's GPU, if it has one and that has a kernel for it.
    pub(crate) fn on_device(&self, op: &'static str, task: Task<'_>) -> Result<Option<Tensor>, TensorError> {
        match &self.gpu {
            Some(gpu) => {
                self.check(op)?;
                gpu.run(op, task, self)
            }
            None => Ok(None),
        }
    }
}

impl UnaryOp {
    /// The same in float32, for a GPU.
    pub(crate) fn float_code(self) -> DeviceCode {
        DeviceCode::floats(match self {
            UnaryOp::Abs => "fabsf(a)",
            UnaryOp::Neg => "-a",
            UnaryOp::Sign => "a > 0 ? 1.0f : a < 0 ? -1.0f : a * 0.0f",
            UnaryOp::Exp => "expf(a)",
            UnaryOp::Log => "logf(a)",
            UnaryOp::Sqrt => "sqrtf(a)",
            UnaryOp::Rsqrt => "1.0f / sqrtf(a)",
            UnaryOp::Reciprocal => "1.0f / a",
            UnaryOp::Square => "a * a",
            UnaryOp::Sin => "sinf(a)",
            UnaryOp::Cos => "cosf(a)",
            UnaryOp::Tan => "tanf(a)",
            UnaryOp::Tanh => "tanhf(a)",
            UnaryOp::Sigmoid => "sigmoid(a)",
            UnaryOp::Silu => "a * sigmoid(a)",
            UnaryOp::Relu => "a < 0 ? 0.0f : a",
            UnaryOp::Gelu => "0.5f * a * (1.0f + erff(a * 0.70710678f))",
            UnaryOp::Floor => "floorf(a)",
            UnaryOp::Ceil => "ceilf(a)",
            UnaryOp::Round => "rintf(a)",
            UnaryOp::Trunc => "truncf(a)",
            UnaryOp::LogicalNot => "a == 0",
        })
    }

    /// The same in int64, for those that keep integers.
    pub(crate) fn integer_code(self) -> DeviceCode {
        DeviceCode::integers(match self {
            UnaryOp::Abs => "a < 0 ? negated(a) : a",
            UnaryOp::Neg => "negated(a)",
            UnaryOp::Sign => "(long long)(a > 0) - (long long)(a < 0)",
            UnaryOp::Square => "product(a, a)",
            UnaryOp::Relu => "a < 0 ? 0 : a",
            _ => "a",
        })
    }
}

impl BinaryOp {
    /// The same in float32, for a GPU.
    pub(crate) fn float_code(self) -> DeviceCode {
        self.common_code().map_or_else(
            || {
                DeviceCode::floats(match self {
                    BinaryOp::Add => "a + b",
                    BinaryOp::Sub => "a - b",
                    BinaryOp::Mul => "a * b",
                    BinaryOp::Div => "a / b",
                    BinaryOp::Pow => "powf(a, b)",
                    BinaryOp::Fmod => "fmodf(a, b)",
                    BinaryOp::Remainder => "remainder_of_floor(a, b)",
                    BinaryOp::Minimum => "(a < b || a != a) ? a : b",
                    BinaryOp::Maximum => "(a > b || a != a) ? a : b",
                    _ => "atan2f(a, b)",
                })
            },
            DeviceCode::floats,
        )
    }

    /// The same in int64, for a GPU.
    pub(crate) fn integer_code(self) -> DeviceCode {
        self.common_code().map_or_else(
            || {
                DeviceCode::integers(match self {
                    BinaryOp::Add => "sum(a, b)",
                    BinaryOp::Sub => "sum(a, negated(b))",
                    BinaryOp::Mul => "product(a, b)",
                    BinaryOp::Pow => "power(a, b)",
                    BinaryOp::Fmod => "rest(a, b)",
                    BinaryOp::Remainder => "rest_of_floor(a, b)",
                    BinaryOp::Minimum => "min(a, b)",
                    BinaryOp::Maximum => "max(a, b)",
                    _ => "0",
                })
            },
            DeviceCode::integers,
        )
    }

    fn common_code(self) -> Option<&'static str> {
        Some(match self {
            BinaryOp::Eq => "a == b",
            BinaryOp::Ne => "a != b",
            BinaryOp::Lt => "a < b",
            BinaryOp::Le => "a <= b",
            BinaryOp::Gt => "a > b",
            BinaryOp::Ge => "a >= b",
            BinaryOp::LogicalAnd => "(a != 0) & (b != 0)",
            BinaryOp::LogicalOr => "(a != 0) | (b != 0)",
            BinaryOp::LogicalXor => "(a != 0) ^ (b != 0)",
            _ => return None,
        })
    }
}

impl Activation {
    /// The same for a GPU; `p` is the parameter.
    pub(crate) fn float_code(self) -> DeviceCode {
        DeviceCode::floats(match self {
            Activation::LeakyRelu => "a < 0 ? a * p : a",
            Activation::Elu => "a < 0 ? p * expm1f(a) : a",
            Activation::Softplus => "softplus(a * p, a, p)",
            Activation::Mish => "a * tanhf(softplus(a, a, 1.0f))",
            Activation::QuickGelu => "a * sigmoid(1.702f * a)",
            Activation::GeluTanh => "0.5f * a * (1.0f + tanhf(0.7978846f * (a + 0.044715f * a * a * a)))",
            Activation::Erf => "erff(a)",
            Activation::Expm1 => "expm1f(a)",
            Activation::Log1p => "log1pf(a)",
            Activation::Log2 => "log2f(a)",
            Activation::HardSwish => "a * (a + 3.0f < 0.0f ? 0.0f : a + 3.0f > 6.0f ? 6.0f : a + 3.0f) / 6.0f",
        })
    }
}
