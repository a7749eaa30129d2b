//! Files of tenants: what they upload, what nodes save, what the user interface keeps for them.
//!
//! Bytes live once, under their SHA-256, in a [`BlobStore`]. Names are hard links onto those bytes in ordinary folders
//! ([`TenantFiles`]), so that people find ordinary files there, and files they put there by hand work too. A stored blob is
//! read-only and is never written again: giving a name new bytes points the name at another blob.
//!
//! It is not an image library (bytes are opaque), not a cache of results, and not a policy of what may be shown inline: that
//! is the server's. All calls block; call them from blocking threads.
//!
//! One rule carries the safety of the crate: every name from outside goes through [`RelativePath::parse`], and is then
//! opened relative to a directory handle that cannot be left, not even by a symbolic link. There is no second check anywhere.
//!
//! # Layout
//! - [`path`]: which names are legal (pure)
//! - [`store`]: bytes under their digest, staged uploads, collecting what nobody names any more
//! - [`files`]: the input, output and temp folders of one tenant
//! - [`incoming`]: an upload on its way; [`upload`]: how it gets its name
//! - [`output`]: how a saved image gets its name (the counter)
//! - [`models`]: where model files lie; [`model_paths`]: more of them, from `extra_model_paths.yaml`
//! - [`userdata`]: workflows, settings and other files of the user interface
//! - [`users`]: several users in one tenant, each with such files
//! - [`scratch`]: what packs keep between prompts; [`named_folders`]: more folders that nodes may be allowed to read
//! - [`error`]: everything that can go wrong
//! - `root`, `place`: a folder as a handle; giving bytes a name in one step

#![forbid(unsafe_code)]

pub mod error;
pub mod files;
pub mod incoming;
pub mod model_paths;
pub mod models;
pub mod named_folders;
pub mod output;
pub mod path;
mod place;
mod room;
mod root;
pub mod scratch;
pub mod store;
pub mod upload;
pub mod userdata;
pub mod users;

pub use error::BlobError;
pub use files::{AnnotatedName, Folder, OpenFile, SavedFile, TenantDirs, TenantFiles};
pub use incoming::Upload;
pub use model_paths::{ExtraPath, ExtraPathsError, read_extra_model_paths};
pub use models::{ModelFile, ModelFolders};
pub use named_folders::{NamedEntry, NamedFolders};
pub use output::OutputName;
pub use path::{PathProblem, RelativePath};
pub use scratch::{ScratchFolders, ScratchQuota};
pub use store::{Blob, BlobStore, Collected, Digest, Durability, Staged};
pub use userdata::{DirectoryEntry, FileInfo, UserData};
pub use users::{UserProblem, Users};
