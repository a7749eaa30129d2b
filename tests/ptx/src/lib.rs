//! Executes PTX, the code that NVIDIA's compiler makes of a kernel, on a machine without a GPU, and reports what a GPU
//! would not always show: accesses out of bounds, misaligned, of memory that nobody wrote, that is freed, or that was not
//! handed to the kernel; threads that race; barriers that only some threads reach.
//!
//! For tests only. It is no emulator of a GPU's timing, caches or weak memory order, and knows no textures, clusters or calls
//! between functions, and of tensor cores only products of halves with sums in float32; a kernel that uses more is refused
//! when it is loaded.
//!
//! The crate `ptoxide` does part of this (2,000 lines). It has no warps, hence no shuffles or votes, no half precision, no
//! 64-bit atomics, and its memory is one array without owners; little of it would have stayed.
//!
//! # Layout
//! - [`memory`]: allocations with a shadow that says what was written and by whom
//! - [`module`]: what a PTX text declares; `syntax` splits it into statements, `decode` turns these into operations
//! - `alu`: arithmetic on the 32 lanes of a warp; `approximate`: what hardware only approximates; `convert`: between number types
//! - [`launch`]: grids and blocks; `run`: warps and their divergence; `matrix`: tensor cores; `access`, `shared`: loads
//!   and stores with their checks; `copies`: those past the registers
//! - [`fault`]: what can be wrong
#![forbid(unsafe_code)]

mod access;
mod alu;
mod approximate;
mod convert;
mod copies;
mod decode;
pub mod fault;
pub mod launch;
mod matrix;
pub mod memory;
pub mod module;
mod run;
mod shared;
mod syntax;

pub use fault::{Fault, FaultKind};
pub use launch::{Launch, Statistics};
pub use memory::{Allocation, Memory};
pub use module::{LoadError, Module};

/// Threads that execute one instruction together.
pub const WARP: usize = 32;

/// One register of the threads of a warp.
pub(crate) type Lanes = [u64; WARP];
