//! The one error of a node: what kind of refusal it is, and a sentence for people.

use std::fmt::Display;

pub use crate::bindings::vivarium::node::types::ErrorKind;

/// What every fallible function of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a node, or a host call it made, did not succeed. The message is shown to the user.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Lets a node act on the reason, and the host classify it.
    pub kind: ErrorKind,
    /// Names the thing, the limit and what to do.
    pub message: String,
}

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// The node cannot do what it was asked for.
    pub fn failed(message: impl Display) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// An input has a value that the node cannot work with.
    pub fn invalid(message: impl Display) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// True when the user stopped the prompt: return at once.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.kind == ErrorKind::Interrupted
    }

    /// The same error, its message led by `context` and a colon.
    #[must_use]
    pub fn context(mut self, context: impl Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl From<crate::bindings::vivarium::node::types::Error> for Error {
    fn from(error: crate::bindings::vivarium::node::types::Error) -> Self {
        Self { kind: error.kind, message: error.message }
    }
}

impl From<Error> for crate::bindings::vivarium::node::types::Error {
    fn from(error: Error) -> Self {
        Self { kind: error.kind, message: error.message }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(error)
    }
}

impl From<std::num::TryFromIntError> for Error {
    fn from(error: std::num::TryFromIntError) -> Self {
        Self::invalid(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}
