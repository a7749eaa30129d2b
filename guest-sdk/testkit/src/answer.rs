//! How a call ended.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value as Json};
use vivarium_outbound::Request;
use vivarium_sandbox::{CallError, CallErrorKind, NodeValue, Outcome};

use crate::{Image, LogLine, Saved, Value, powers::Notebook};

/// One report of a node's progress.
#[derive(Clone, Debug)]
pub struct Progress {
    /// How far.
    pub value: f64,
    /// Of how much.
    pub max: f64,
    /// What it showed.
    pub preview: Option<Image>,
}

/// What a node answered, and what it did on the way.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) asked_for: Vec<String>,
    pub(crate) notebook: Notebook,
}

impl Answer {
    /// The value of an output slot, the first is 0.
    ///
    /// # Panics
    /// When there is none, because the node has fewer, blocked them, or answered with other nodes.
    #[must_use]
    #[track_caller]
    pub fn output(&self, slot: usize) -> Value {
        match &self.outcome {
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
        match &self.outcome {
            Outcome::Outputs { slots, .. } => slots.len(),
            _ => 0,
        }
    }

    /// What clients show beside the node; empty if nothing.
    #[must_use]
    pub fn ui(&self) -> Map<String, Json> {
        match &self.outcome {
            Outcome::Outputs { ui, .. } => ui.clone().unwrap_or_default(),
            Outcome::Expansion(value) => match Value(value.clone()).json() {
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
        match &self.outcome {
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
        match &self.outcome {
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
            NodeValue::Link(node, slot) => Some((node.to_string(), slot)),
            _ => None,
        };
        match &self.outcome {
            Outcome::Expansion(value) => Value(value.clone()).entry("slots").items().into_iter().map(link).collect(),
            _ => panic!("the node did not answer with other nodes"),
        }
    }

    /// The lazy inputs that it asked for, in order.
    #[must_use]
    pub fn asked_for(&self) -> &[String] {
        &self.asked_for
    }

    /// Its reports of progress.
    #[must_use]
    pub fn progress(&self) -> &[Progress] {
        &self.notebook.progress
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.notebook.log
    }

    /// The HTTP requests that it sent.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.notebook.requests
    }

    /// Its scratch files after the call.
    #[must_use]
    pub fn scratch(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.notebook.scratch
    }

    /// The images that it saved.
    #[must_use]
    pub fn saved(&self) -> &[Saved] {
        &self.notebook.saved
    }
}

/// Why a call did not succeed, and what the node did before.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(crate) error: Box<CallError>,
    pub(crate) notebook: Box<Notebook>,
}

impl Failure {
    /// What kind: the node's own refusal, a limit, a crash.
    #[must_use]
    pub fn kind(&self) -> CallErrorKind {
        self.error.kind
    }

    /// What the user reads.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.error.message
    }

    /// Its reports of progress.
    #[must_use]
    pub fn progress(&self) -> &[Progress] {
        &self.notebook.progress
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.notebook.log
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:?})", self.error.message, self.error.kind)?;
        self.error.frames.iter().take(8).try_for_each(|frame| write!(formatter, "\n    in {frame}"))
    }
}

impl std::error::Error for Failure {}
