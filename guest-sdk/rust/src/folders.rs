//! Folders that the operator gave names to, for reading. Needs the permission `input/<name>`.
//!
//! Paths are relative to the folder, with `/` between names, and cannot leave it.

pub use crate::bindings::vivarium::node::folders::Entry;

use crate::bindings::vivarium::node::folders as host;
use crate::error::Result;

/// How much one call fetches.
const PART: u64 = 16 << 20;

/// What is in a folder, or in a folder inside of it; the path of the first is empty. Sorted by name.
///
/// # Errors
/// When the pack was not granted the folder, or nothing is there.
pub fn list(folder: &str, path: &str) -> Result<Vec<Entry>> {
    Ok(host::list_files(folder, path)?)
}

/// A part of a file: up to `length` bytes from `offset` on.
///
/// # Errors
/// When the pack was not granted the folder, or there is no such file.
pub fn read_part(folder: &str, path: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
    Ok(host::read(folder, path, offset, length)?)
}

/// A whole file.
///
/// # Errors
/// As [`read_part`].
pub fn read(folder: &str, path: &str) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let part = read_part(folder, path, data.len() as u64, PART)?;
        let last = (part.len() as u64) < PART;
        data.extend(part);
        if last {
            return Ok(data);
        }
    }
}
