//! How prompts end, why some stop before their end, and how clients hear of it.

use serde_json::{Map, Value, json};
use vivarium_graph::{DependencyCycle, DynamicPrompt, GraphError};
use vivarium_protocol::{
    event::{Event, ExecutionError},
    history::Status,
};
use vivarium_queue::Lease;
use vivarium_sandbox::{CallError, CallErrorKind, NodeValue, cut};

use crate::{inputs::Gathered, progress::ProgressTracker, run::PromptRun, shared::now_ms};

/// How a prompt ended: what the history keeps beside the prompt, and how long it took.
pub(crate) struct Ended {
    pub(crate) outputs: Map<String, Value>,
    pub(crate) status: Status,
    pub(crate) meta: Map<String, Value>,
    pub(crate) seconds: f64,
    /// How long kernels of it ran on a GPU.
    pub(crate) gpu_seconds: f64,
    /// It failed because a GPU did, and took along what was in its memory.
    pub(crate) lost: Option<Lost>,
    /// To be dropped when the history has the end: clients wait for that, and a large prompt takes a while to take apart.
    _prompt: Option<DynamicPrompt>,
}

/// Whose GPU failed. The prompt runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// That on which the prompt ran: perhaps it was the prompt that made it fail.
    WithItsGpu,
    /// Another, with results in its memory.
    WithAnother,
}

/// A prompt whose runs took so many GPUs along, one after the other, does not run again.
pub(crate) const MOST_GPU_FAILURES: u32 = 2;

impl Ended {
    pub(crate) fn new(outputs: Map<String, Value>, status: Status, meta: Map<String, Value>, seconds: f64) -> Self {
        Self { outputs, status, meta, seconds, gpu_seconds: 0.0, lost: None, _prompt: None }
    }

    pub(crate) fn on_gpu(self, gpu_seconds: f64, lost: Option<Lost>) -> Self {
        Self { gpu_seconds, lost, ..self }
    }

    pub(crate) fn keeping(self, prompt: DynamicPrompt) -> Self {
        Self { _prompt: Some(prompt), ..self }
    }

    /// Before any node could run.
    pub(crate) fn failed(lease: &Lease, message: &str) -> Self {
        Self::with_event(&failure(lease, "", "InternalError", message))
    }

    /// Not by its own fault: tells the client, too. `node` is where the prompt was, as clients see it.
    pub(crate) fn broken(lease: &Lease, progress: &ProgressTracker, exception_type: &str, message: &str) -> Self {
        let node = progress.current_display().unwrap_or_default();
        let event = failure(lease, &node, exception_type, message);
        progress.to_client(event.clone());
        Self::with_event(&event)
    }

    /// Before it began to run.
    pub(crate) fn interrupted(lease: &Lease, progress: &ProgressTracker) -> Self {
        let event = Event::ExecutionInterrupted {
            prompt_id: lease.item.prompt_id.clone(),
            node_id: String::new(),
            node_type: String::new(),
            executed: Vec::new(),
            timestamp: now_ms(),
        };
        progress.to_client_or_tenant(event.clone());
        Self::with_event(&event)
    }

    fn with_event(event: &Event) -> Self {
        let messages = vec![(event.name().to_owned(), event.data())];
        let status = Status { status_str: "error".into(), completed: false, messages };
        Self::new(Map::new(), status, Map::new(), 0.0)
    }
}

fn failure(lease: &Lease, node: &str, exception_type: &str, message: &str) -> Event {
    let class = lease.item.prompt.get(node).and_then(|node| node.get("class_type")).and_then(Value::as_str);
    Event::ExecutionError(Box::new(ExecutionError {
        prompt_id: lease.item.prompt_id.clone(),
        node_id: node.to_owned(),
        node_type: class.unwrap_or_default().to_owned(),
        executed: Vec::new(),
        exception_message: format!("{message}\n"),
        exception_type: exception_type.to_owned(),
        traceback: Vec::new(),
        current_inputs: json!({}),
        current_outputs: Vec::new(),
        timestamp: Some(now_ms()),
    }))
}

/// Why a prompt stopped before its end.
pub(crate) enum Stop {
    Failed(Box<Failure>),
    Interrupted { node: String },
}

pub(crate) struct Failure {
    /// The node that clients mark.
    node: String,
    error: CallError,
    exception_type: String,
    inputs: Map<String, Value>,
}

impl PromptRun<'_> {
    /// Tells the client once about a blocker with a message. Answers the silent blocker that goes on.
    pub(crate) fn tell_blocked(&self, id: &str, blocker: &NodeValue) -> NodeValue {
        if let Some(Some(message)) = blocker.as_blocked() {
            let error = ExecutionError {
                prompt_id: self.lease.item.prompt_id.clone(),
                node_id: id.to_owned(),
                node_type: self.prompt.get(id).map(|node| node.class_type.clone()).unwrap_or_default(),
                executed: self.executed.clone(),
                exception_message: format!("Execution Blocked: {message}"),
                exception_type: "ExecutionBlocked".into(),
                traceback: Vec::new(),
                current_inputs: json!([]),
                current_outputs: Vec::new(),
                timestamp: None,
            };
            self.progress.to_client(Event::ExecutionError(Box::new(error)));
        }
        NodeValue::Blocked(None)
    }

    /// Makes a failure on a GPU that failed say that this was one GPU too many.
    pub(crate) fn blame(&self, failure: &mut Failure, device: &str, reason: &str) {
        let tenant = self.lease.tenant.as_str();
        tracing::warn!(
            tenant,
            prompt = self.lease.item.prompt_id,
            device,
            "a prompt is not run again: GPUs fail with it"
        );
        failure.exception_type = "GpuFailedError".to_owned();
        failure.error.message = format!(
            "{MOST_GPU_FAILURES} GPUs in a row failed while they ran this prompt, now {device} ({reason}). It is not run \
             again, since it may be the reason. The node said: {}",
            failure.error.message
        );
    }

    pub(crate) fn fail(&self, id: &str, error: CallError, inputs: Map<String, Value>) -> Stop {
        if error.kind == CallErrorKind::Interrupted {
            return Stop::Interrupted { node: id.to_owned() };
        }
        let exception_type = error.kind.exception_type().to_owned();
        Stop::Failed(Box::new(Failure { node: id.to_owned(), error, exception_type, inputs }))
    }

    pub(crate) fn announce_interrupted(&mut self, node: &str) {
        let real = self.prompt.real_id(node).to_owned();
        let event = Event::ExecutionInterrupted {
            prompt_id: self.lease.item.prompt_id.clone(),
            node_type: self.class_name(&real),
            node_id: real,
            executed: self.executed.clone(),
            timestamp: now_ms(),
        };
        self.messages.push((event.name().to_owned(), event.data()));
        self.progress.to_client_or_tenant(event);
    }

    pub(crate) fn announce_failure(&mut self, failure: Failure) {
        let class = self.class_name(&failure.node);
        let real = self.prompt.real_id(&failure.node).to_owned();
        tracing::info!(
            tenant = self.lease.tenant.as_str(),
            prompt = self.lease.item.prompt_id,
            node = failure.node,
            class,
            // In quotes: a line break of the guest's must not begin a line of the log.
            error = ?failure.error.to_string(),
            "a node failed"
        );
        let traceback = self.traceback(&failure, &class);
        let event = Event::ExecutionError(Box::new(ExecutionError {
            prompt_id: self.lease.item.prompt_id.clone(),
            // As in ComfyUI, of the posted node; the traceback tells which node of an expansion it was.
            node_type: self.class_name(&real),
            node_id: real,
            executed: self.executed.clone(),
            exception_message: format!("{}\n", failure.error.message),
            exception_type: failure.exception_type,
            traceback,
            current_inputs: Value::Object(failure.inputs),
            // All nodes: a client reads here what the cache had a place for, as in ComfyUI.
            current_outputs: self.prompt.nodes().map(|(id, _)| id.to_owned()).collect(),
            timestamp: Some(now_ms()),
        }));
        self.announce(event);
    }
}

impl PromptRun<'_> {
    fn class_name(&self, id: &str) -> String {
        self.prompt.get(id).map(|node| node.class_type.clone()).unwrap_or_default()
    }

    /// The first line names the node, then come the guest's own frames, innermost first.
    fn traceback(&self, failure: &Failure, class: &str) -> Vec<String> {
        let pack = self
            .snapshot
            .component(class)
            .map(|component| format!(" of pack {} {}", component.name(), component.definition().version));
        let node = format!("  node {}, class {class}{}\n", failure.node, pack.unwrap_or_default());
        let frames = failure.error.frames.iter().map(|frame| format!("  in {frame}\n"));
        std::iter::once(node).chain(frames).collect()
    }
}

/// Inputs in short, for an error report.
pub(crate) fn summary(gathered: &Gathered) -> Map<String, Value> {
    /// Inputs, and values of each.
    const INPUTS: usize = 64;
    const SHOWN: usize = 8;
    let list = |list: &Vec<NodeValue>| list.iter().take(SHOWN).map(NodeValue::summary).collect::<Value>();
    gathered.lists.iter().take(INPUTS).map(|(name, values)| (cut(name, 200), list(values))).collect()
}

pub(crate) fn graph_failure(prompt: &DynamicPrompt, error: GraphError) -> Stop {
    let node = prompt.real_id(error.node()).to_owned();
    let exception_type = error.exception_type().to_owned();
    let error = CallError::new(CallErrorKind::InvalidArgument, error.to_string());
    Stop::Failed(Box::new(Failure { node, error, exception_type, inputs: Map::new() }))
}

pub(crate) fn cycle_failure(cycle: DependencyCycle) -> Stop {
    let message = format!("{cycle}: {}", cycle.nodes.join(" → "));
    let error = CallError::new(CallErrorKind::InvalidArgument, message);
    let exception_type = "graph.DependencyCycleError".to_owned();
    Stop::Failed(Box::new(Failure { node: cycle.blamed, error, exception_type, inputs: Map::new() }))
}
