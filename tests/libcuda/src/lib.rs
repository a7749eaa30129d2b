//! A driver for devices that do not exist: `libcuda` over the memory of this machine, which executes PTX with
//! `vivarium-ptx`. For tests only; its devices say so in their names. `SIMULATED_CUDA_DEVICES` says how many there are.
//!
//! It has the entry points that `cudarc`'s safe interface calls for memory, streams, events, modules and launches. It
//! executes at once what a driver would queue, and checks what a driver would not: that streams which share a buffer are
//! ordered by events, that what is copied back was written, that memory is freed by somebody who may, that nothing of one
//! device is used on another, and nothing of a context after it was reset.
//!
//! As with a driver, a kernel's mistake comes to light at the next call, and every call after it fails.
//!
//! It is `libcublasLt` as well, if a link of that name leads to it: products over the same memory, with the same checks.
//!
//! Not here: graphs, peers, textures, managed memory.
//!
//! # Layout
//! - [`device`]: a device, the state behind the entry points, without pointers
//! - [`code`]: what modules are made of
//! - [`entry`]: the entry points themselves
//! - [`cublaslt`] and [`cublaslt_entry`]: the same for products
//! - [`streams`]: streams, events, and what the host has waited for; [`order`]: which work of one stream is known to come after which of another
//! - [`pinned`]: page-locked memory of the host; [`pool`]: freed memory of a device

// The interface of the driver is made of raw pointers and of the library too; the modules of entry points are the only ones that have any.
#![allow(unreachable_pub)]

mod code;
mod cublaslt;
#[allow(unsafe_code, non_snake_case, clippy::too_many_arguments)]
mod cublaslt_entry;
mod device;
#[allow(unsafe_code, non_snake_case)]
mod entry;
mod order;
mod pinned;
mod pool;
mod streams;
