//! What a prompt means, before and while it runs: whether it may run, what runs next, and which results may be reused.
//!
//! Pure: no I/O, no threads, no clocks, no guests. What only others know (node definitions, a class's own validator, its
//! fingerprint, what is cached) comes in through traits and closures. Nothing here recurses along links, and every step costs
//! time linear in the prompt, or a logarithm more: a chain of 100 000 nodes is as fine as a fan of them.
//!
//! # Layout
//! - [`definitions`]: the trait through which node classes are looked up
//! - [`limits`]: how large a prompt may be and become
//! - [`validate`](mod@validate): `POST /prompt`'s checks, with ComfyUI's error shapes
//! - [`replace`]: classes that are gone get the one that took their place
//! - [`links`]: which links of a node count
//! - [`dynamic`]: a prompt that grows while it runs
//! - [`execution`]: what runs next
//! - [`cache_key`]: which results are the same
//! - [`error`]: what can go wrong while a prompt runs

#![forbid(unsafe_code)]

pub mod cache_key;
pub mod definitions;
pub mod dynamic;
pub mod error;
pub mod execution;
pub mod limits;
pub mod links;
pub mod replace;
pub mod validate;

pub use cache_key::{CacheKey, CacheKeys, Fingerprints, KeyMap, KeySet};
pub use definitions::Definitions;
pub use dynamic::DynamicPrompt;
pub use error::GraphError;
pub use execution::{DependencyCycle, ExecutionList, Lookup, Step};
pub use limits::GraphLimits;
pub use replace::replace_classes;
pub use validate::{HookError, NoHook, ValidateHook, Validated, validate};
pub use vivarium_protocol::error::Invalid;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod testing;
