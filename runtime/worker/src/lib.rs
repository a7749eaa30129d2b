//! Runs prompts: takes them from the queue, calls their nodes in the sandbox in the right order, keeps results that may
//! be reused, and tells clients what happens.
//!
//! A prompt's way through this crate reads top to bottom: [`Worker`] leases it, `run` walks its graph, `inputs` turns
//! links into calls, the sandbox makes them, `result_cache` keeps what they answered.
//!
//! Not here: HTTP and sockets (server), the order of prompts (queue), what a graph means (graph), wasm (sandbox).
//!
//! # Layout
//! - [`worker`](Worker): the threads, interrupts, shutdown; what the server asks
//! - [`engine`](Engine): the server's view of a worker
//! - `place`: where prompts run: here, or in [`process`]es of their own
//! - `run`: one prompt from start to end: what runs when
//! - `execute`: one node: its calls, their answers, its result
//! - `beside`: calls on threads of their own
//! - `ahead`: calls that run ahead of their turn, so that branches compute side by side
//! - `ending`: why a prompt stopped, and how clients hear of it
//! - `inputs`, `expansion`: from links to calls, from answers to values
//! - `progress`, [`events`]: what clients see
//! - [`offers`](PackOffers): what packs give front ends beside nodes
//! - `result`, `result_cache`: what nodes produced, and what later prompts reuse of it
//! - [`memory`](MachineMemory): what the machine has left
//! - [`devices`](Devices): the CPU, or GPUs while they work
//! - `services`: what a running node may reach of its tenant
//! - `definitions`, `shared`, `config`, [`report`]

#![forbid(unsafe_code)]

mod ahead;
mod beside;
mod config;
mod definitions;
mod devices;
mod ending;
pub mod engine;
pub mod events;
mod execute;
mod expansion;
mod inputs;
mod memory;
mod offers;
mod place;
pub mod process;
mod progress;
pub mod report;
mod result;
mod result_cache;
mod run;
mod services;
mod shared;
mod worker;

pub use config::{CacheMode, PreviewSettings, WorkerConfig};
pub use devices::{DeviceChoice, DeviceReport, DeviceState, DeviceWork, Devices};
pub use engine::{Engine, RunningNode};
pub use events::{EventSink, Message, NoEvents, Target};
pub use memory::MachineMemory;
pub use offers::PackOffers;
pub use shared::{FilesOf, Outside, Parts};
pub use worker::Worker;
