//! Files of this pack that stay from prompt to prompt. Needs the permission `scratch`.
//!
//! They are the tenant's: each tenant has others, and no other pack sees them. Their number and size are limited, and they go
//! when the pack is removed. A file may be gone: keep only what can be made again.

pub use crate::bindings::vivarium::node::scratch::Entry;

use crate::bindings::vivarium::node::scratch as host;
use crate::error::{ErrorKind, Result};

/// Every file, sorted by name.
///
/// # Errors
/// When the pack was not granted scratch space.
pub fn list() -> Result<Vec<Entry>> {
    Ok(host::list_files()?)
}

/// The content of a file, or nothing when there is none of this name.
///
/// # Errors
/// When the pack was not granted scratch space, or the name is none: up to 100 letters, digits, `-`, `_` and `.`.
pub fn read(name: &str) -> Result<Option<Vec<u8>>> {
    match host::read(name) {
        Ok(data) => Ok(Some(data)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file as a whole, in the place of one of the same name.
///
/// # Errors
/// As [`read`], or when the space is full.
pub fn write(name: &str, data: &[u8]) -> Result<()> {
    Ok(host::write(name, data)?)
}

/// Removes a file.
///
/// # Errors
/// As [`read`], or when there is none of this name.
pub fn remove(name: &str) -> Result<()> {
    Ok(host::remove(name)?)
}
