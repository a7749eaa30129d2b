//! The server from outside, as ComfyUI's clients meet it. See README.md beside this file.

#![forbid(unsafe_code)]

mod bad_input;
mod conversations;
mod coverage;
mod kept;
mod likeness;
mod recordings;
mod refusals;
mod sockets;
mod transcripts;
