//! Who is running and for what.

use crate::bindings::vivarium::node::node_context as host;
use crate::error::{Error, ErrorKind, Result};

/// The id of the running node in its prompt.
#[must_use]
pub fn node_id() -> String {
    host::node_id()
}

/// The id of the running prompt.
#[must_use]
pub fn prompt_id() -> String {
    host::prompt_id()
}

/// Stops the node when the user stopped the prompt. For loops that make no host call.
///
/// # Errors
/// When the prompt was interrupted.
pub fn check_interrupted() -> Result<()> {
    if host::interrupted() {
        return Err(Error::new(ErrorKind::Interrupted, "the prompt was interrupted"));
    }
    Ok(())
}
