//! Runs node packs: WebAssembly components under wasmtime, each call in a fresh instance with limits of its own.
//!
//! What a pack can do is exactly the WIT world in `guest-sdk/wit/v1`. Whatever else it imports fails at load. Files,
//! events and models come through [`HostServices`], which the caller implements for one tenant.
//!
//! Not here: which packs exist (packs), what runs when (worker), how tensors compute (tensor).
//!
//! # Layout
//! - [`engine`](SandboxEngine): wasmtime's settings, loading, the clock that interrupts guests
//! - [`component`](PackComponent): the calls into a pack and what can go wrong in them
//! - [`limits`](Limits): every limit and its default; [`limit_table`](LimitTable): other values for tenants and packs
//! - [`services`](HostServices): what the outside must provide
//! - [`value`](NodeValue): values between nodes and their wire form
//! - `host/`: the host functions, one file per WIT interface
//! - [`compile`]: the process that compiles, and its limits
//! - `aot`: the cache of compiled components
//! - `properties`: what holds for everything that a stranger writes; for tests and `tests/fuzz` only
//! - `bindings`: generated from the WIT files

mod aot;
mod bindings;
pub mod compile;
mod component;
mod engine;
mod error;
mod host;
mod limit_table;
mod limits;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod services;
mod value;

pub use component::{Finding, Outcome, PackComponent};
pub use engine::{CodeSource, EngineConfig, SandboxEngine, check_header};
pub use error::{CallError, CallErrorKind, SandboxError};
pub use limit_table::{LimitFile, LimitTable};
pub use limits::{Limits, Scope};
pub use services::{
    CallContext, FolderEntry, HostServices, LogLevel, OutputFolder, PreviewPixels, SaveRequest, SavedImage,
    ScratchEntry,
};
pub use value::{NodeValue, PackObject, cut};
