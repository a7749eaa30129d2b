//! The host's side of the WIT world: one file per interface over the state of one call.

// `bindgen!` re-exports these types, so they have to be `pub` inside of a private module.
#![allow(unreachable_pub)]

pub(crate) mod clocks;
mod context;
mod folders;
mod http;
mod image;
mod log;
mod progress;
mod scratch;
mod secrets;
mod state;
mod tensors;
mod values;
mod weights;

pub(crate) use secrets::redact;
pub(crate) use state::{HostState, clean};
pub use weights::HostWeights;
#[cfg(any(test, fuzzing))]
pub(crate) use weights::open as open_weights;

use std::sync::Arc;

use vivarium_tensor::Tensor;

use crate::value::PackObject;

/// A guest's handle to a tensor.
pub struct HostTensor(pub(crate) Tensor);

/// A guest's handle to an object.
pub struct HostObject(pub(crate) Arc<PackObject>);
