//! Secrets of the tenant, such as the key of a service.

use crate::bindings::vivarium::node::secrets as host;
use crate::error::Result;

/// A secret. The host removes it from this node's log, errors, `ui` and image texts.
///
/// # Errors
/// When the pack was not granted `secret/NAME`, or the tenant has no secret of that name.
pub fn get(name: &str) -> Result<String> {
    Ok(host::get(name)?)
}
