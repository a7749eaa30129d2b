//! Which packs are installed, which class belongs to which pack, and what the operator granted to them.
//!
//! A pack is one `.wasm` component in a packs folder. A file that cannot be used does not stop the others: it stays in
//! the list with its error. The stock packs have no privilege; they only come first in the list.
//!
//! Not here: running packs (sandbox), deciding what to run (worker).
//!
//! # Layout
//! - [`catalog`](Catalog): the packs of the folders, as a snapshot that running prompts keep
//! - [`grants`](Grants): what packs may do beyond the default, which is nothing

#![forbid(unsafe_code)]

mod catalog;
mod grants;

pub use catalog::{Catalog, InstalledPack, Snapshot};
pub use grants::{Grant, Grants};

use std::path::PathBuf;

/// Why a pack, a folder of packs or a grant cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The folder cannot be listed.
    #[error("cannot list the packs folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The component is refused.
    #[error(transparent)]
    Component(#[from] vivarium_sandbox::SandboxError),
    /// Another pack has this name already.
    #[error("a pack named {name:?} is already loaded from {first}; remove one of the two files")]
    DuplicatePack {
        /// The name.
        name: String,
        /// The file that has it.
        first: String,
    },
    /// Another pack provides one of its classes already.
    #[error("its class {class:?} is already provided by pack {owner:?}; one pack must not shadow another's nodes")]
    ShadowedClass {
        /// The class.
        class: String,
        /// The pack that has it.
        owner: String,
    },
    /// Not a grant.
    #[error("{text:?} is not a grant; write PACK:PERMISSION, for example my-pack:models/vae")]
    InvalidGrant {
        /// What was given.
        text: String,
    },
}
