//! Worker processes: the second wall. Prompts of a trust group run in a process of its own, behind landlock and seccomp
//! (`vivarium-walls`): no network, no files, no programs. It holds compiled packs and the values of its tenants, and nothing
//! of others'.
//!
//! The process runs the same code as a worker inside of the server ([`Shared::run`](crate::shared::Shared::run)). Only what a
//! node reaches of its tenant is different: where [`NodeServices`](crate::services::NodeServices) opens a file or sends a request, the process
//! asks the server to, which checks that the tenant belongs to the group and has been granted it. So folders, grants, secrets
//! and the network stay where they are, changes to them count at once, and the process needs none of them. Files that are
//! large (weights) are handed over open.
//!
//! A process that dies fails the prompts that it was running. The next prompt of its group starts another one.
//!
//! # Layout
//! - [`settings`](ProcessSettings): how many, for whom
//! - [`pool`](Processes): which process runs what, starts, evictions
//! - [`child`]: the server's end of one process
//! - [`broker`]: what the server does on behalf of a process
//! - [`inside`]: the process itself
//! - [`message`], [`frame`]: what goes over the socket, and how

mod broker;
mod child;
mod frame;
mod inside;
mod message;
mod pool;
mod settings;

pub(crate) use pool::Processes;
pub use {
    inside::{serve, walls},
    settings::{Grouping, ProcessError, ProcessSettings},
};
