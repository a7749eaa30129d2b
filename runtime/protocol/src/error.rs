//! How a prompt is refused, in ComfyUI's shapes, and the error of this crate's own functions.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What this crate's own functions refuse (prompts aside: those answer a [`PromptError`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A tenant's name is not legal.
    #[error("tenant name {name:?} is not legal: use 1 to 64 of the characters a-z, 0-9, _ and -")]
    TenantId {
        /// The name, cut at 64 characters.
        name: String,
    },
    /// A binary frame ends too early.
    #[error("binary frame ends too early: {what} needs {needed} bytes, {available} are left")]
    FrameTruncated {
        /// The part that is cut off.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A binary frame holds a value that the protocol does not know.
    #[error("binary frame has an unknown {what}: {value}")]
    FrameUnknown {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// A text part of a binary frame is not what it should be.
    #[error("binary frame has a bad {what}: {reason}")]
    FrameText {
        /// The field.
        what: &'static str,
        /// Why it is refused.
        reason: String,
    },
}

/// One finding about a prompt; serialises as ComfyUI's `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptError {
    /// A stable word for programs, e.g. `value_bigger_than_max`.
    pub r#type: String,
    /// A sentence for people; the same for every error of a type, or nearly.
    pub message: String,
    /// What it is about: an input's name, a node's id. May be empty.
    pub details: String,
    /// More for programs; its keys depend on the type. Boxed to keep `Result`s small.
    #[serde(default)]
    pub extra_info: Box<Map<String, Value>>,
}

impl PromptError {
    /// An error without `extra_info`.
    #[must_use]
    pub fn new(r#type: impl Into<String>, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { r#type: r#type.into(), message: message.into(), details: details.into(), extra_info: Box::default() }
    }

    /// The same error with one more entry in `extra_info`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra_info.insert(key.to_owned(), value.into());
        self
    }
}

impl std::fmt::Display for PromptError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)?;
        if !self.details.is_empty() && self.details != self.message {
            write!(formatter, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for PromptError {}

/// The errors of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeErrorReport {
    /// At least one.
    pub errors: Vec<PromptError>,
    /// Output nodes that cannot run because of it.
    pub dependent_outputs: Vec<String>,
    /// The node's class.
    pub class_type: String,
}

/// The errors of a prompt by node id.
pub type NodeErrors = IndexMap<String, NodeErrorReport>;

/// Why a prompt is refused as a whole: the JSON body of the 400 answer to `POST /prompt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Invalid {
    /// The main reason.
    pub error: PromptError,
    /// Details per node; empty when the reason is not about single nodes. Boxed to keep `Result`s small.
    pub node_errors: Box<NodeErrors>,
}

impl From<PromptError> for Invalid {
    fn from(error: PromptError) -> Self {
        Self { error, node_errors: Box::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn serialises_as_the_clients_read_it() {
        let invalid = Invalid::from(PromptError::new("no_prompt", "No prompt provided", "No prompt provided"));
        assert_eq!(
            serde_json::to_string(&invalid).unwrap(),
            r#"{"error":{"type":"no_prompt","message":"No prompt provided","details":"No prompt provided","extra_info":{}},"node_errors":{}}"#
        );
        assert_eq!(invalid.to_string(), "No prompt provided");
    }
}
