//! Tensors as node packs see them: immutable, reference-counted, strided, charged to an account.
//!
//! Every operation of the node interface is a method of [`Tensor`] under the same name, with the arguments in the same
//! order and an [`OpContext`] at the end. It checks shapes, types, ranges, overflow and the [`Budget`] before it
//! allocates, computes on all cores, and stops soon after it is cancelled. Wrong arguments give a [`TensorError`], never
//! a panic: arguments come from code that nobody trusts.
//!
//! Semantics are PyTorch's. Where they are not obvious, they are written at the operation; element types meet by
//! [`DType::promote`] and [`DType::promote_scalar`]. Results keep the memory order of the operand, so an image that is
//! seen as `[B,C,H,W]` stays channels-last through a chain of operations.
//!
//! Large elementwise results are computed when somebody needs their elements, a chain of them in one go through memory; what
//! comes out is the same. [`Tensor::settle`] computes them at once.
//!
//! Where a context names a GPU, operations that have a kernel for it run there, and results stay there. Tensors never
//! change, so one may have its elements in both memories: they are copied over when an operation first needs them on the
//! other side, and the copies are counted.
//!
//! Not here: automatic differentiation, in-place writes, files.
//!
//! # Layout
//! - [`dtype`], [`float8`], [`shape`]: element types; lengths, strides and how they are rearranged
//! - [`budget`], [`storage`]: accounts; typed memory that holds a charge
//! - [`tensor`]: the handle, and copies from and to the host
//! - `fusion`: elementwise results, and those of normalisations, that are computed when they are needed, several operations at once
//! - `device`, `gpu`: what an operation asks of a GPU, and what there is to say about one, whichever it is
//! - `ops/`: one definition of each operation: its rules for shape, type and cost
//! - `cpu/`: the loops that do the work
//! - [`cuda`]: the same operations on NVIDIA's GPUs (feature `cuda`)

pub mod budget;
mod context;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "cuda/absent.rs"]
pub mod cuda;
mod device;
pub mod dtype;
mod error;
pub mod float8;
mod fusion;
mod gpu;
pub mod ops;
pub mod shape;
pub mod storage;
pub mod tensor;

pub use budget::{Budget, BudgetExceeded, Charge};
pub use context::{Copies, MAX_OPERATIONS, OpContext};
pub use cpu::instructions;
pub use cuda::{Gpu, GpuJob, RetiredGpu};
pub use dtype::{DType, Element};
pub use error::{ErrorKind, TensorError};
pub use gpu::{Counters, GpuInfo, GpuUnavailable, ProductsBy};
pub use ops::{
    Activation, BinaryOp, BlockFormat, ConvGeometry, Generator, InterpolateMode, MorphologyOp, Operand, PadMode,
    ReduceOp, SampleBorder, SampleMode, UnaryOp, VolumeGeometry,
};
pub use shape::{MAX_ELEMENTS, MAX_RANK, Shape};
pub use tensor::Tensor;
