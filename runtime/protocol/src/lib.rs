//! Wire types of ComfyUI's protocol and of Vivarium's pack definitions.
//!
//! Types only: no I/O, no threads, no tokio, no policy beyond "is this shape legal". Compiles to wasm too, since guests
//! describe themselves with it. It does not know which node classes exist: that is the graph crate's business.
//!
//! # Layout
//! - [`definition`]: what a pack and its nodes say about themselves
//! - [`permission`]: what a pack may ask for
//! - [`host_rule`]: which hosts that may be
//! - [`tenant`]: whose data it is
//! - [`prompt`]: what a client posts, its nodes and links
//! - [`error`]: how a prompt is refused, as ComfyUI words it
//! - [`event`]: JSON messages on the WebSocket
//! - [`frame`]: binary messages on the WebSocket
//! - [`limit`]: a limit as people see it
//! - [`history`]: queue items and history entries
//! - [`object_info`]: a node definition as UIs read it
//! - [`replacement`]: which class takes the place of one that is gone
//! - [`python_json`]: JSON and values as Python prints them

#![forbid(unsafe_code)]

pub mod definition;
pub mod error;
pub mod event;
pub mod frame;
pub mod history;
pub mod host_rule;
pub mod limit;
pub mod object_info;
pub mod permission;
pub mod prompt;
pub mod python_json;
pub mod replacement;
pub mod tenant;

pub use error::ProtocolError;
