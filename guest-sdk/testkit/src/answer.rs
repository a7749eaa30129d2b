//! How a call ended.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::{
    LogLine, Progress, Request, Saved, Value,
    wire::{Datum, Failed, Outcome, Ran},
};

/// What a node answered, and what it did on the way.
#[derive(Clone, Debug)]
pub struct Answer(pub(crate) Box<Ran>);

impl Answer {
    /// The value of an output slot, the first is 0.
    ///
    /// # Panics
    /// When there is none, because the node has fewer, blocked them, or answered with other nodes.
    #[must_use]
    #[track_caller]
    pub fn output(&self, slot: usize) -> Value {
        match &self.0.outcome {
            Outcome::Outputs { slots, .. } => match slots.get(slot) {
                Some(value) => Value(value.clone()),
                None => panic!("the node has {} outputs, so there is no output {slot}", slots.len()),
            },
            Outcome::Expansion(_) => panic!("the node answered with other nodes: see `expansion`"),
            Outcome::Blocked(message) => panic!("the node blocked its outputs: {message:?}"),
        }
    }

    /// How many outputs it filled.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.0.outcome {
            Outcome::Outputs { slots, .. } => slots.len(),
            _ => 0,
        }
    }

    /// What clients show beside the node; empty if nothing.
    #[must_use]
    pub fn ui(&self) -> Map<String, Json> {
        match &self.0.outcome {
            Outcome::Outputs { ui, .. } => ui.clone(),
            Outcome::Expansion(value) => match value.to_json() {
                Json::Object(mut entries) => match entries.remove("ui") {
                    Some(Json::Object(ui)) => ui,
                    _ => Map::new(),
                },
                _ => Map::new(),
            },
            Outcome::Blocked(_) => Map::new(),
        }
    }

    /// Whether it blocked all its outputs, and with which message.
    #[must_use]
    pub fn blocked(&self) -> Option<Option<&str>> {
        match &self.0.outcome {
            Outcome::Blocked(message) => Some(message.as_deref()),
            _ => None,
        }
    }

    /// The new nodes that it answered with, by their ids, as in a prompt: `expansion["id"]["class_type"]`.
    ///
    /// # Panics
    /// When it answered something else.
    #[must_use]
    #[track_caller]
    pub fn expansion(&self) -> Json {
        match &self.0.outcome {
            Outcome::Expansion(value) => Value(value.clone()).entry("graph").json(),
            _ => panic!("the node did not answer with other nodes"),
        }
    }

    /// Where the outputs of an expansion come from: the id of a new node and its slot, or nothing where it is a value.
    ///
    /// # Panics
    /// When it answered something else.
    #[must_use]
    #[track_caller]
    pub fn expansion_slots(&self) -> Vec<Option<(String, i64)>> {
        let link = |value: Value| match value.0 {
            Datum::Link(node, slot) => Some((node, slot)),
            _ => None,
        };
        match &self.0.outcome {
            Outcome::Expansion(value) => Value(value.clone()).entry("slots").items().into_iter().map(link).collect(),
            _ => panic!("the node did not answer with other nodes"),
        }
    }

    /// The lazy inputs that it asked for, in order.
    #[must_use]
    pub fn asked_for(&self) -> &[String] {
        &self.0.asked_for
    }

    /// Its reports of progress.
    #[must_use]
    pub fn progress(&self) -> &[Progress] {
        &self.0.notebook.progress
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.0.notebook.log
    }

    /// The HTTP requests that it sent.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.0.notebook.requests
    }

    /// Its scratch files after the call.
    #[must_use]
    pub fn scratch(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.0.notebook.scratch
    }

    /// The images that it saved.
    #[must_use]
    pub fn saved(&self) -> &[Saved] {
        &self.0.notebook.saved
    }
}

/// Why a call did not succeed, and what the node did before.
#[derive(Clone, Debug)]
pub struct Failure(pub(crate) Box<Failed>);

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The node itself said so.
    Failed,
    /// An argument was refused, by the node or by a host call.
    InvalidArgument,
    /// A name does not exist.
    NotFound,
    /// The pack was not granted what it used.
    PermissionDenied,
    /// The host does not offer it.
    Unsupported,
    /// It ran out of wall time.
    Timeout,
    /// It ran out of guest memory.
    OutOfGuestMemory,
    /// It ran out of tensor memory.
    OutOfTensorMemory,
    /// It ran out of stack.
    StackOverflow,
    /// It hit another limit.
    LimitExceeded,
    /// Somebody interrupted the prompt.
    Interrupted,
    /// It trapped: a panic, an invalid access, a forged handle.
    Trap,
    /// The host's own fault.
    Internal,
}

impl Failure {
    /// What kind: the node's own refusal, a limit, a crash.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// What the user reads.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Its reports of progress.
    #[must_use]
    pub fn progress(&self) -> &[Progress] {
        &self.0.notebook.progress
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.0.notebook.log
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:?})", self.0.message, self.0.kind)?;
        self.0.frames.iter().take(8).try_for_each(|frame| write!(formatter, "\n    in {frame}"))
    }
}

impl std::error::Error for Failure {}
