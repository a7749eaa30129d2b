//! Which packs are installed, which class belongs to which pack, and what the operator granted to them.
//!
//! A pack is one file: a WebAssembly component that carries its manifest, its files and its signature. Packs come from two
//! places: folders, where whoever can write may put a component in the making, and the store, into which only signed and
//! examined packs get. A file that cannot be used does not stop the others: it stays in the list with its error. The stock
//! packs have no privilege; they only come first in the list.
//!
//! Not here: running packs (sandbox), deciding what to run (worker), asking people (cli).
//!
//! # Layout
//! - [`manifest`](mod@manifest): `pack.toml`
//! - [`file`](mod@file): the pack file, read within bounds and put together
//! - [`signature`](mod@signature): keys
//! - [`store`]: what is installed, known and granted, on disk
//! - [`admission`]: whether a file may be installed over what is there
//! - [`examine`]: what a component says and imports, against its manifest
//! - [`catalog`](Catalog): all packs, as a snapshot that running prompts keep
//! - [`watch`]: reading them again when they change
//! - [`lock`]: the packs that a workflow was made with
//! - [`grants`](Grants): what packs may do beyond the default, which is nothing
//! - [`secrets`]: secrets of tenants
//! - [`error`](PackError): why a pack cannot be used

#![forbid(unsafe_code)]

pub mod admission;
mod catalog;
mod error;
pub mod examine;
pub mod file;
mod grants;
pub mod lock;
pub mod manifest;
pub mod secrets;
pub mod signature;
pub mod store;
pub mod watch;

pub use catalog::{Catalog, InstalledPack, Snapshot};
pub use error::PackError;
pub use grants::{Grant, Grants};
