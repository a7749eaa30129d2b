//! JSON messages on the WebSocket, with ComfyUI's names and fields.
//!
//! Numbers that are whole are written without a fraction, so that strict clients may read them as integers.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// One message: `{"type": …, "data": …}`. Timestamps are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// How much is queued; to everybody, after every change.
    Status(Status),
    /// A prompt begins to run.
    ExecutionStart {
        /// The prompt.
        prompt_id: String,
        /// When.
        timestamp: u64,
        /// Ours: what it runs on, such as `cuda:1`, on servers with GPUs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Which nodes of the prompt need not run. Always sent, maybe with an empty list.
    ExecutionCached {
        /// In prompt order.
        nodes: Vec<String>,
        /// The prompt.
        prompt_id: String,
        /// When.
        timestamp: u64,
    },
    /// A node begins to run, or the prompt has ended.
    Executing(Executing),
    /// A node's own progress.
    Progress {
        /// Done so far.
        #[serde(serialize_with = "whole_or_float")]
        value: f64,
        /// All there is to do.
        #[serde(serialize_with = "whole_or_float")]
        max: f64,
        /// The prompt.
        prompt_id: String,
        /// The node.
        node: String,
    },
    /// The progress of every node that has begun or ended.
    ProgressState {
        /// The prompt.
        prompt_id: String,
        /// By node id.
        nodes: IndexMap<String, ProgressNode>,
    },
    /// A node has something to show, or was found in the cache.
    Executed {
        /// The node.
        node: String,
        /// Where UIs show it.
        display_node: String,
        /// ComfyUI's `ui`, e.g. `{"images": […]}`; null when there is none.
        output: Option<Value>,
        /// The prompt.
        prompt_id: String,
    },
    /// The prompt ended well.
    ExecutionSuccess {
        /// The prompt.
        prompt_id: String,
        /// When.
        timestamp: u64,
    },
    /// A node failed, or was blocked with a message.
    ExecutionError(Box<ExecutionError>),
    /// The prompt was stopped on request.
    ExecutionInterrupted {
        /// The prompt.
        prompt_id: String,
        /// The node that was running.
        node_id: String,
        /// Its class.
        node_type: String,
        /// Nodes that had run, in no particular order.
        executed: Vec<String>,
        /// When.
        timestamp: u64,
    },
    /// Lines of the server's log, to those who asked for them.
    Logs {
        /// Oldest first.
        entries: Vec<LogEntry>,
        /// The size of the server's terminal.
        size: Option<TerminalSize>,
    },
    /// What the sender can do; the answer to a client's message of the same type.
    FeatureFlags(Map<String, Value>),
    /// Ours: packs were exchanged while the server runs, so node definitions may be others. Clients that don't know it ignore
    /// it.
    PacksChanged {
        /// Names of the packs.
        packs: Vec<String>,
    },
}

/// Data of [`Event::Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Always present.
    pub status: StatusBody,
    /// The client's id; only in the first message on a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// `status` inside [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusBody {
    /// Always present.
    pub exec_info: ExecInfo,
}

/// Also the answer to `GET /prompt`, under `exec_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecInfo {
    /// Pending and running prompts.
    pub queue_remaining: usize,
}

/// Data of [`Event::Executing`]. Its three forms have three constructors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executing {
    /// The node, or null when the prompt has ended.
    pub node: Option<String>,
    /// Where UIs show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_node: Option<String>,
    /// The prompt; absent in the message to a client that reconnects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Waits; such nodes are left out of [`Event::ProgressState`].
    Pending,
    /// Runs, or was running when the prompt failed.
    Running,
    /// Has run.
    Finished,
    /// Has failed.
    Error,
}

/// One node in [`Event::ProgressState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressNode {
    /// Done so far; 0 at the start.
    #[serde(serialize_with = "whole_or_float")]
    pub value: f64,
    /// All there is to do; 1 until the node says otherwise.
    #[serde(serialize_with = "whole_or_float")]
    pub max: f64,
    /// How far it is.
    pub state: NodeState,
    /// The node.
    pub node_id: String,
    /// The prompt.
    pub prompt_id: String,
    /// Where UIs show it.
    pub display_node_id: String,
    /// The node whose expansion made it, if any.
    pub parent_node_id: Option<String>,
    /// The node of the posted prompt that it stems from.
    pub real_node_id: String,
}

/// Data of [`Event::ExecutionError`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// The prompt.
    pub prompt_id: String,
    /// The node of the posted prompt that is to blame.
    pub node_id: String,
    /// Its class.
    pub node_type: String,
    /// Nodes that had run, in no particular order.
    pub executed: Vec<String>,
    /// For people.
    pub exception_message: String,
    /// For programs, e.g. `ValueError`.
    pub exception_type: String,
    /// Lines; may be empty.
    pub traceback: Vec<String>,
    /// By input name, a list of values each; an empty list when a node was blocked.
    pub current_inputs: Value,
    /// All nodes of the prompt.
    pub current_outputs: Vec<String>,
    /// When; absent when a node was blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
}

/// A line of the server's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When, ISO 8601.
    pub t: String,
    /// What.
    pub m: String,
}

/// Of the server's terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Width.
    pub cols: u32,
    /// Height.
    pub rows: u32,
}

impl Event {
    /// The prompt that this is about, if it is about one.
    #[must_use]
    pub fn prompt_id(&self) -> Option<&str> {
        match self {
            Self::ExecutionStart { prompt_id, .. }
            | Self::ExecutionCached { prompt_id, .. }
            | Self::Progress { prompt_id, .. }
            | Self::ProgressState { prompt_id, .. }
            | Self::Executed { prompt_id, .. }
            | Self::ExecutionSuccess { prompt_id, .. }
            | Self::ExecutionInterrupted { prompt_id, .. } => Some(prompt_id),
            Self::Executing(executing) => executing.prompt_id.as_deref(),
            Self::ExecutionError(error) => Some(&error.prompt_id),
            Self::Status(_) | Self::Logs { .. } | Self::FeatureFlags(_) | Self::PacksChanged { .. } => None,
        }
    }

    /// How much is queued.
    #[must_use]
    pub fn status(queue_remaining: usize) -> Self {
        Self::Status(Status { status: StatusBody { exec_info: ExecInfo { queue_remaining } }, sid: None })
    }

    /// The first message on a socket.
    #[must_use]
    pub fn welcome(queue_remaining: usize, sid: impl Into<String>) -> Self {
        Self::Status(Status { status: StatusBody { exec_info: ExecInfo { queue_remaining } }, sid: Some(sid.into()) })
    }

    /// A node begins to run.
    #[must_use]
    pub fn executing(node: impl Into<String>, display_node: impl Into<String>, prompt_id: impl Into<String>) -> Self {
        Self::Executing(Executing {
            node: Some(node.into()),
            display_node: Some(display_node.into()),
            prompt_id: Some(prompt_id.into()),
        })
    }

    /// The prompt has ended, in whatever way.
    #[must_use]
    pub fn executing_nothing(prompt_id: impl Into<String>) -> Self {
        Self::Executing(Executing { node: None, display_node: None, prompt_id: Some(prompt_id.into()) })
    }

    /// Tells a client that reconnects which node of its prompt is running.
    #[must_use]
    pub fn executing_on_reconnect(display_node: impl Into<String>) -> Self {
        Self::Executing(Executing { node: Some(display_node.into()), display_node: None, prompt_id: None })
    }

    /// The `type` on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::ExecutionStart { .. } => "execution_start",
            Self::ExecutionCached { .. } => "execution_cached",
            Self::Executing(_) => "executing",
            Self::Progress { .. } => "progress",
            Self::ProgressState { .. } => "progress_state",
            Self::Executed { .. } => "executed",
            Self::ExecutionSuccess { .. } => "execution_success",
            Self::ExecutionError(_) => "execution_error",
            Self::ExecutionInterrupted { .. } => "execution_interrupted",
            Self::Logs { .. } => "logs",
            Self::FeatureFlags(_) => "feature_flags",
            Self::PacksChanged { .. } => "packs_changed",
        }
    }

    /// The text frame.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every map in an event has text keys, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The `data` alone, as kept in the messages of a history entry.
    #[must_use]
    pub fn data(&self) -> Value {
        match serde_json::to_value(self) {
            Ok(Value::Object(mut whole)) => whole.remove("data").unwrap_or(Value::Null),
            _ => Value::Null,
        }
    }
}

/// Writes 3.0 as 3.
pub(crate) fn whole_or_float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return serializer.serialize_i64(*value as i64);
    }
    serializer.serialize_f64(*value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn blocked() -> ExecutionError {
        ExecutionError {
            prompt_id: "p".to_owned(),
            node_id: "1".to_owned(),
            node_type: "C".to_owned(),
            executed: vec![],
            exception_message: "Execution Blocked: no".to_owned(),
            exception_type: "ExecutionBlocked".to_owned(),
            traceback: vec![],
            current_inputs: json!([]),
            current_outputs: vec![],
            timestamp: None,
        }
    }

    #[test]
    fn messages_have_the_fields_and_order_that_clients_expect() {
        let node = ProgressNode {
            value: 0.0,
            max: 1.5,
            state: NodeState::Running,
            node_id: "3".to_owned(),
            prompt_id: "p".to_owned(),
            display_node_id: "3".to_owned(),
            parent_node_id: None,
            real_node_id: "3".to_owned(),
        };
        let cases = [
            (Event::status(2), r#"{"type":"status","data":{"status":{"exec_info":{"queue_remaining":2}}}}"#),
            (
                Event::welcome(0, "s"),
                r#"{"type":"status","data":{"status":{"exec_info":{"queue_remaining":0}},"sid":"s"}}"#,
            ),
            (
                Event::executing("6.0.0.1", "6", "p"),
                r#"{"type":"executing","data":{"node":"6.0.0.1","display_node":"6","prompt_id":"p"}}"#,
            ),
            (Event::executing_nothing("p"), r#"{"type":"executing","data":{"node":null,"prompt_id":"p"}}"#),
            (Event::executing_on_reconnect("6"), r#"{"type":"executing","data":{"node":"6"}}"#),
            (
                Event::Progress { value: 1.0, max: 20.0, prompt_id: "p".to_owned(), node: "3".to_owned() },
                r#"{"type":"progress","data":{"value":1,"max":20,"prompt_id":"p","node":"3"}}"#,
            ),
            (
                Event::ProgressState { prompt_id: "p".to_owned(), nodes: IndexMap::from([("3".to_owned(), node)]) },
                r#"{"type":"progress_state","data":{"prompt_id":"p","nodes":{"3":{"value":0,"max":1.5,"state":"running","node_id":"3","prompt_id":"p","display_node_id":"3","parent_node_id":null,"real_node_id":"3"}}}}"#,
            ),
            (
                Event::Executed {
                    node: "9".to_owned(),
                    display_node: "9".to_owned(),
                    output: None,
                    prompt_id: "p".to_owned(),
                },
                r#"{"type":"executed","data":{"node":"9","display_node":"9","output":null,"prompt_id":"p"}}"#,
            ),
            (
                Event::ExecutionError(Box::new(blocked())),
                r#"{"type":"execution_error","data":{"prompt_id":"p","node_id":"1","node_type":"C","executed":[],"exception_message":"Execution Blocked: no","exception_type":"ExecutionBlocked","traceback":[],"current_inputs":[],"current_outputs":[]}}"#,
            ),
            (
                Event::Logs { entries: vec![LogEntry { t: "t".to_owned(), m: "m".to_owned() }], size: None },
                r#"{"type":"logs","data":{"entries":[{"t":"t","m":"m"}],"size":null}}"#,
            ),
            (Event::FeatureFlags(Map::new()), r#"{"type":"feature_flags","data":{}}"#),
        ];
        for (event, expected) in cases {
            assert_eq!(event.to_json(), expected);
            let whole: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(whole["type"], event.name());
            assert_eq!(whole["data"], event.data());
            assert_eq!(serde_json::from_str::<Event>(expected).unwrap(), event);
        }
    }

    #[test]
    fn every_event_has_its_wire_name() {
        let start = Event::ExecutionStart { prompt_id: "p".to_owned(), timestamp: 1, device: None };
        assert_eq!(start.to_json(), r#"{"type":"execution_start","data":{"prompt_id":"p","timestamp":1}}"#);
        for event in [
            start,
            Event::ExecutionCached { nodes: vec![], prompt_id: "p".to_owned(), timestamp: 1 },
            Event::ExecutionSuccess { prompt_id: "p".to_owned(), timestamp: 1 },
            Event::ExecutionInterrupted {
                prompt_id: "p".to_owned(),
                node_id: "1".to_owned(),
                node_type: "C".to_owned(),
                executed: vec![],
                timestamp: 1,
            },
        ] {
            let whole: Value = serde_json::from_str(&event.to_json()).unwrap();
            assert_eq!(whole["type"], event.name());
        }
    }
}
