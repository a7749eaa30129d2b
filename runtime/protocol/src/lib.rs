//! Wire types of ComfyUI's protocol and of Vivarium's pack definitions.
//!
//! Types only: no I/O, no threads, no tokio. Compiles to wasm too, since guests describe themselves with it.
//!
//! # Layout
//! - [`definition`]: what a pack and its nodes say about themselves

#![forbid(unsafe_code)]

pub mod definition;
