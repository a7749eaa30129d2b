//! What an operation asks of a GPU, whichever it is: checked arguments, in terms of strided views.
//!
//! A back end answers `None` where it has no kernel for the arguments; the operation then runs on the CPU, and its
//! operands are copied there.
#![cfg_attr(not(feature = "cuda"), allow(dead_code))]

use crate::cpu::morphology::{Footprint, Median};
use crate::cpu::pool::Window;
use crate::cpu::windows::Folding;
use crate::ops::{SampleBorder, SampleMode};
use crate::shape::{Layout, Order};
use crate::{Activation, BinaryOp, DType, OpContext, Operand, ReduceOp, Shape, Tensor, TensorError, UnaryOp};

/// One operation.
pub(crate) enum Task<'a> {
    /// Every element of the result from those of the operands at the same place. `layout` is dense; its dimensions lie in
    /// memory in `order`.
    Elementwise { operands: &'a [Operand<'a>], layout: Layout, order: Order, dtype: DType, code: &'a DeviceCode },
    /// A result put together out of parts of other tensors, later ones over earlier ones. Where no piece lies, there is
    /// `fill`; without it the pieces cover everything. All are of type `dtype`.
    Assemble { layout: Layout, dtype: DType, fill: Option<f64>, pieces: &'a [Piece<'a>] },
    /// The elements of `source` at `layout` folded over the dimensions marked in `reduced`, which have length 1 in `shape`.
    /// The result is row-major: float32 of floats, int64 of the rest, booleans for quantifiers.
    Reduce { source: &'a Tensor, layout: Layout, reduced: &'a [bool], shape: Shape, op: ReduceOp },
    /// Every row normalised by itself. `source` has `layout` too, but for the offset; both are dense.
    Rows {
        source: &'a Tensor,
        layout: Layout,
        rows: Rows,
        norm: RowNorm,
        weight: Option<&'a Tensor>,
        bias: Option<&'a Tensor>,
    },
    /// The products of matrices, the last two dimensions of both layouts; those before are the same in both. `bias` of one
    /// number per column is added. The result is row-major with `shape`.
    Multiply {
        left: (&'a Tensor, Layout),
        right: (&'a Tensor, Layout),
        bias: Option<&'a Tensor>,
        shape: Shape,
        dtype: DType,
    },
    /// Convolutions of groups of channels. `weight` is `[groups,out/groups,in/groups,h,w]`; the result is `layout`, which is
    /// channels-last.
    Convolve {
        input: &'a Tensor,
        weight: &'a Tensor,
        bias: Option<&'a Tensor>,
        axes: [TapAxis; 2],
        layout: Layout,
        dtype: DType,
    },
    /// Scaled dot-product attention, see the operation. All layouts have the batch's dimensions first; the result is
    /// row-major with `shape`, of float32 or of the operands' type.
    Attend {
        query: &'a Tensor,
        key: &'a Tensor,
        value: &'a Tensor,
        mask: Option<(&'a Tensor, Layout)>,
        shape: Shape,
        causal: bool,
        scale: f32,
    },
    /// For every place of `shape`, the element of `source` there, with the coordinate `dim` replaced by `index`. The
    /// indices have been found to be in range.
    Gather { source: &'a Tensor, layout: Layout, dim: usize, index: (&'a Tensor, Layout), shape: Shape },
    /// Weighted sums along dimension `axis` of the four of `layout`. The result is row-major float32.
    Resample { source: &'a Tensor, layout: Layout, axis: usize, taps: Taps<'a> },
    /// The sum or product of each element and all before it along the last dimension of row-major `source`. The result is
    /// row-major, of its type for floats and int64 for the rest.
    Accumulate { source: &'a Tensor, product: bool },
    /// Where the largest (or smallest) element along the last dimension of row-major `source` is, as row-major int64 whose last
    /// length is 1.
    Argmax { source: &'a Tensor, smallest: bool },
    /// Where the first `kept` elements along the last dimension of row-major `source` are, once they are sorted, as row-major
    /// int64. Equal ones keep their order; not-a-number counts as the largest.
    SortedPlaces { source: &'a Tensor, kept: usize, descending: bool },
    /// Row-major `target` with the elements of `source` that have one in `index` written to (or added at) their places, with the
    /// coordinate `dim` replaced by the index. The indices have been found to be in range. Of several for one place, the last in
    /// row-major order is written. The types of target and source are equal; to be added, they are float32 or int64.
    Scatter { target: &'a Tensor, dim: usize, index: &'a Tensor, source: &'a Tensor, adds: bool },
    /// A function of `color.cu` of every three elements of row-major `source`. The result is row-major, of its type.
    Recolor { source: &'a Tensor, pixel: &'static str },
    /// Pixels of `[B,C,H,W]` at the places of `[B,h,w,2]`, see the operation. The result is `[B,C,h,w]`, `shape`, channels-last
    /// and of the type of `source`.
    GridSample {
        source: &'a Tensor,
        grid: &'a Tensor,
        mode: SampleMode,
        border: SampleBorder,
        align_corners: bool,
        shape: Shape,
    },
    /// Places `[B,h,w,2]`, `shape`, of matrices `[B,2,3]`. The result is row-major, of their type.
    AffineGrid { matrices: &'a Tensor, align_corners: bool, shape: Shape },
    /// `source` as `[B,H,W,C]`, `layout`, resized to `shape` through 8 bits. The result is row-major, of its type.
    Lanczos { source: &'a Tensor, layout: Layout, shape: Shape },
    /// The largest (or smallest) of what a footprint sees around every pixel of row-major `[B,C,H,W]`. The result is row-major
    /// float32; infinite where nothing is seen.
    Extremes { source: &'a Tensor, footprint: &'a Footprint, largest: bool },
    /// The median of a window around every pixel of row-major `[B,C,H,W]`. The result is row-major, of its type.
    Median { source: &'a Tensor, median: &'a Median },
    /// How many elements along the last dimension of row-major `source` fall into each of `bins` even parts of a range, as
    /// row-major int64 of `shape`.
    Histogram { source: &'a Tensor, bins: usize, range: [f64; 2], shape: Shape },
    /// How far the nearest true element of its plane, the last two dimensions of row-major booleans, is. Row-major float32.
    Distances { zero: &'a Tensor },
    /// Where a gradient, row-major float32 `[B,1,H,W]`, has a ridge above the second threshold, or above the first and connected
    /// to such a one: 1, elsewhere 0, as row-major float32.
    Edges { across: &'a Tensor, down: &'a Tensor, thresholds: [f32; 2] },
    /// Fourier transforms of the lines of row-major `[…,length,2]`, as row-major float32. The inverse divides by the length.
    Transform { lines: &'a Tensor, inverse: bool },
    /// Numbers that depend on their place only, as row-major float32.
    Create { shape: Shape, series: Series },
    /// The largest, or the mean, under windows over the planes of row-major `source`. The result is row-major, of its type.
    Pool { source: &'a Tensor, window: &'a Window, shape: Shape },
    /// Windows laid over planes and added up. `source` is row-major; so is the result, of its type.
    Fold { source: &'a Tensor, folding: &'a Folding, shape: Shape },
}

/// What a number is at each place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Series {
    /// start + i·step for the first `from_start`, and counted back from `end`, the last, for the others; in double precision.
    Progression { start: f64, end: f64, step: f64, from_start: usize },
    /// Philox 4×32-10, from 0 to 1.
    Uniform { seed: u64 },
    /// Philox 4×32-10, of the standard normal distribution.
    Normal { seed: u64 },
}

/// How a row is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RowNorm {
    Softmax,
    /// With this epsilon.
    Layer(f64),
    RootMeanSquare(f64),
    /// As `Layer`, with weight and bias for each run of a row.
    Group(f64),
}

/// Where rows lie: row (a, b), b < `minor`, starts at a·`major_stride` + b·`minor_stride`, and is `outer` runs of `inner`
/// elements. In elements, from the start of a dense layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) count: usize,
    pub(crate) minor: usize,
    pub(crate) major_stride: usize,
    pub(crate) minor_stride: usize,
    pub(crate) outer: usize,
    pub(crate) inner: usize,
    pub(crate) outer_stride: usize,
    pub(crate) inner_stride: usize,
}

impl Rows {
    /// Rows of `length` one after the other.
    pub(crate) fn dense(count: usize, length: usize) -> Rows {
        Rows {
            count,
            minor: 1,
            major_stride: length,
            minor_stride: 0,
            outer: 1,
            inner: length,
            outer_stride: 0,
            inner_stride: 1,
        }
    }
}

/// A window along one axis: input position · divide = output position · step + tap · `tap_step` − shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TapAxis {
    pub(crate) step: isize,
    pub(crate) tap_step: isize,
    pub(crate) shift: isize,
    pub(crate) divide: isize,
}

/// For every output position, which inputs it is made of: those from `starts[position]` to the next start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taps<'a> {
    pub(crate) starts: &'a [u32],
    pub(crate) indices: &'a [u32],
    pub(crate) weights: &'a [f32],
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
