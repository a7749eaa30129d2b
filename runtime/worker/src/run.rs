//! One prompt from start to end.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Instant,
};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use vivarium_graph::{CacheKeys, Definitions, DependencyCycle, DynamicPrompt, ExecutionList, GraphError, Lookup, Step};
use vivarium_packs::Snapshot;
use vivarium_protocol::{
    definition::NodeDefinition,
    event::{Event, ExecutionError},
    history::{HistoryEntry, Status},
    prompt::{Prompt, as_link},
};
use vivarium_queue::Lease;
use vivarium_sandbox::{CallContext, CallError, CallErrorKind, NodeValue, PackComponent};

use crate::{
    definitions::{GuestFingerprints, TenantDefinitions},
    expansion::{self, PendingExpansion},
    inputs::{self, Gathered, HiddenValues},
    progress::{NodePlace, ProgressTracker},
    result_cache::NodeResult,
    services::NodeServices,
    shared::{Shared, now_ms},
};

/// How a prompt ended.
pub(crate) struct Ended {
    pub(crate) entry: HistoryEntry,
    pub(crate) seconds: f64,
}

/// Why a prompt stopped before its end.
enum Stop {
    Failed(Box<Failure>),
    Interrupted { node: String },
}

struct Failure {
    /// The node that clients mark.
    node: String,
    error: CallError,
    exception_type: String,
    inputs: Map<String, Value>,
}

/// What became of a node that was picked.
enum Progressed {
    Done,
    /// It waits for something and will be picked again.
    Waiting,
}

/// What one look at a node's class answers.
struct ClassOf {
    definition: NodeDefinition,
    component: Arc<PackComponent>,
}

pub(crate) struct PromptRun<'a> {
    shared: &'a Shared,
    lease: &'a Lease,
    snapshot: Arc<Snapshot>,
    definitions: TenantDefinitions,
    interrupt: Arc<AtomicBool>,
    progress: Arc<ProgressTracker>,
    services: Arc<NodeServices>,
    prompt: DynamicPrompt,
    list: ExecutionList,
    keys: CacheKeys,
    results: HashMap<String, Arc<NodeResult>>,
    /// Nodes whose results were there before the prompt started.
    cached: HashSet<String>,
    expansions: HashMap<String, PendingExpansion>,
    constants: HashMap<(String, String), NodeValue>,
    executed: Vec<String>,
    outputs: Map<String, Value>,
    meta: Map<String, Value>,
    messages: Vec<(String, Value)>,
}

impl<'a> PromptRun<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        lease: &'a Lease,
        interrupt: Arc<AtomicBool>,
        progress: Arc<ProgressTracker>,
        services: Arc<NodeServices>,
        prompt: Prompt,
    ) -> Self {
        let snapshot = shared.catalog.snapshot();
        let definitions = shared.definitions(&lease.tenant, snapshot.clone());
        Self {
            shared,
            lease,
            snapshot,
            definitions,
            interrupt,
            progress,
            services,
            prompt: DynamicPrompt::new(prompt, shared.config.graph_limits.max_ephemeral_nodes),
            list: ExecutionList::new(),
            keys: CacheKeys::default(),
            results: HashMap::new(),
            cached: HashSet::new(),
            expansions: HashMap::new(),
            constants: HashMap::new(),
            executed: Vec::new(),
            outputs: Map::new(),
            meta: Map::new(),
            messages: Vec::new(),
        }
    }

    /// Runs the prompt to its end, whatever that is.
    pub(crate) fn run(mut self) -> Ended {
        let started = Instant::now();
        let prompt_id = self.lease.item.prompt_id.clone();
        self.announce(Event::ExecutionStart { prompt_id: prompt_id.clone(), timestamp: now_ms() });
        let stopped = self.prepare().and_then(|()| self.run_nodes());
        let completed = stopped.is_ok();
        match stopped {
            Ok(()) => self.announce(Event::ExecutionSuccess { prompt_id, timestamp: now_ms() }),
            Err(Stop::Interrupted { node }) => self.announce_interrupted(&node),
            Err(Stop::Failed(failure)) => self.announce_failure(*failure),
        }
        let status_str = if completed { "success" } else { "error" };
        let status = Status { status_str: status_str.into(), completed, messages: self.messages };
        let entry = HistoryEntry {
            prompt: self.lease.item.clone(),
            outputs: self.outputs,
            status: Some(status),
            meta: self.meta,
        };
        Ended { entry: entry.without_secrets(), seconds: started.elapsed().as_secs_f64() }
    }

    /// Sends to the client and keeps for the history.
    fn announce(&mut self, event: Event) {
        self.messages.push((event.name().to_owned(), event.data()));
        self.progress.to_client(event);
    }

    fn prepare(&mut self) -> Result<(), Stop> {
        let fingerprints = GuestFingerprints {
            snapshot: self.snapshot.clone(),
            call: self.shared.call_context(
                &self.lease.tenant,
                &self.lease.item.prompt_id,
                "",
                &self.interrupt,
                self.services.clone(),
            ),
        };
        self.keys = CacheKeys::compute(&self.prompt, &self.definitions, &fingerprints);
        let used: HashSet<_> = self.keys.used().collect();
        let cache = self.shared.cache(&self.lease.tenant);
        let mut hits = Vec::new();
        {
            let mut cache = cache.lock();
            cache.begin_prompt(self.shared.config.cache, &used);
            for id in self.prompt.original().keys() {
                if let Some(result) = self.keys.get(id).and_then(|key| cache.get(&key)) {
                    self.results.insert(id.clone(), result);
                    hits.push(id.clone());
                }
            }
        }
        self.cached = hits.iter().cloned().collect();
        let prompt_id = self.lease.item.prompt_id.clone();
        self.announce(Event::ExecutionCached { nodes: hits, prompt_id, timestamp: now_ms() });
        for output in &self.lease.item.outputs {
            let results = &self.results;
            let is_cached = |id: &str| results.contains_key(id);
            let lookup = Lookup { prompt: &self.prompt, definitions: &self.definitions, is_cached: &is_cached };
            self.list.add_node(output, &lookup).map_err(|error| graph_failure(&self.prompt, error))?;
        }
        Ok(())
    }

    fn run_nodes(&mut self) -> Result<(), Stop> {
        loop {
            match self.list.stage_next(&self.prompt) {
                Step::Done => return Ok(()),
                Step::Run(id) => {
                    if self.interrupt.load(Ordering::Relaxed) {
                        return Err(Stop::Interrupted { node: id });
                    }
                    match self.run_node(&id)? {
                        Progressed::Done => self.list.complete(&id),
                        Progressed::Waiting => self.list.unstage(&id),
                    }
                }
                Step::Cycle(cycle) => return Err(cycle_failure(cycle)),
                // Nodes run one after another, so nothing can be running while the next one is asked for.
                Step::Wait => {
                    return Err(self.fail("", CallError::new(CallErrorKind::Internal, "no node is ready"), Map::new()));
                }
            }
        }
    }

    fn run_node(&mut self, id: &str) -> Result<Progressed, Stop> {
        let place = self.place(id);
        if let Some(result) = self.kept_result(id) {
            self.show_cached(id, &place, &result);
            self.results.insert(id.to_owned(), result);
            return Ok(Progressed::Done);
        }
        if let Some(expansion) = self.expansions.remove(id) {
            let slots = expansion.resolve(&self.results).map_err(|error| self.fail(id, error, Map::new()))?;
            self.finish_node(id, &place, slots, expansion.ui)?;
            return Ok(Progressed::Done);
        }
        let class = self.class_of(id)?;
        self.progress.start(&place);
        self.progress.to_client(Event::executing(id, &place.display_id, &self.lease.item.prompt_id));
        let gathered = self.gather(id, &class.definition)?;
        if self.wait_for_lazy_inputs(id, &class, &gathered)? {
            return Ok(Progressed::Waiting);
        }
        self.execute(id, &place, &class, &gathered)
    }

    fn place(&self, id: &str) -> NodePlace {
        NodePlace {
            node_id: id.to_owned(),
            display_id: self.prompt.display_id(id).to_owned(),
            parent_id: self.prompt.parent_id(id).map(str::to_owned),
            real_id: self.prompt.real_id(id).to_owned(),
        }
    }

    /// A result from before the prompt, or from an identical twin inside it.
    fn kept_result(&self, id: &str) -> Option<Arc<NodeResult>> {
        if self.expansions.contains_key(id) {
            return None;
        }
        if let Some(result) = self.results.get(id) {
            return Some(result.clone());
        }
        let key = self.keys.get(id)?;
        self.shared.cache(&self.lease.tenant).lock().get(&key)
    }

    fn show_cached(&mut self, id: &str, place: &NodePlace, result: &NodeResult) {
        let output = result.ui.clone().map(Value::Object);
        self.progress.to_client(Event::Executed {
            node: id.to_owned(),
            display_node: place.display_id.clone(),
            output,
            prompt_id: self.lease.item.prompt_id.clone(),
        });
        self.progress.finish(place);
        self.keep_ui(id, place, result.ui.as_ref());
    }

    fn keep_ui(&mut self, id: &str, place: &NodePlace, ui: Option<&Map<String, Value>>) {
        let Some(ui) = ui else { return };
        self.outputs.insert(id.to_owned(), Value::Object(ui.clone()));
        let meta = json!({
            "node_id": place.node_id,
            "display_node": place.display_id,
            "parent_node": place.parent_id,
            "real_node_id": place.real_id,
        });
        self.meta.insert(id.to_owned(), meta);
    }

    fn class_of(&self, id: &str) -> Result<ClassOf, Stop> {
        let class = self.prompt.get(id).map(|node| node.class_type.clone()).unwrap_or_default();
        match (self.definitions.get(&class), self.snapshot.component(&class)) {
            (Some(definition), Some(component)) => {
                Ok(ClassOf { definition: definition.clone(), component: component.clone() })
            }
            _ => Err(graph_failure(&self.prompt, GraphError::UnknownClass { node: id.to_owned(), class })),
        }
    }

    fn gather(&self, id: &str, definition: &NodeDefinition) -> Result<Gathered, Stop> {
        let item = &self.lease.item;
        let hidden = HiddenValues {
            prompt: &self.prompt,
            sent: &item.prompt,
            extra_data: &item.extra_data,
            constants: &self.constants,
        };
        inputs::gather(id, definition, &self.results, &hidden).map_err(|error| self.fail(id, error, Map::new()))
    }

    fn context(&self, id: &str) -> CallContext {
        self.shared.call_context(
            &self.lease.tenant,
            &self.lease.item.prompt_id,
            id,
            &self.interrupt,
            self.services.clone(),
        )
    }

    /// Asks the class which lazy inputs it needs. True when the node has to wait for some.
    fn wait_for_lazy_inputs(&mut self, id: &str, class: &ClassOf, gathered: &Gathered) -> Result<bool, Stop> {
        if !class.definition.has_needed_inputs {
            return Ok(false);
        }
        let mut needed = Vec::new();
        for call in inputs::calls(gathered, &class.definition) {
            let names = class
                .component
                .needed_inputs(self.context(id), &class.definition.class_type, &NodeValue::Map(call))
                .map_err(|error| self.fail(id, error, summary(gathered)))?;
            needed.extend(names);
        }
        needed.retain(|name| gathered.missing.contains(name) || !gathered.lists.contains_key(name));
        needed.sort();
        needed.dedup();
        for name in &needed {
            let results = &self.results;
            let is_cached = |id: &str| results.contains_key(id);
            let lookup = Lookup { prompt: &self.prompt, definitions: &self.definitions, is_cached: &is_cached };
            self.list.need_input(id, name, &lookup).map_err(|error| graph_failure(&self.prompt, error))?;
        }
        Ok(!needed.is_empty())
    }

    fn execute(
        &mut self,
        id: &str,
        place: &NodePlace,
        class: &ClassOf,
        gathered: &Gathered,
    ) -> Result<Progressed, Stop> {
        let mut answers = Vec::new();
        let mut ui = None;
        let mut expansion = PendingExpansion::default();
        let mut added = Vec::new();
        for (index, call) in inputs::calls(gathered, &class.definition).into_iter().enumerate() {
            if let Some(blocker) = inputs::blocker(&call, class.definition.input_is_list) {
                let silent = self.tell_blocked(id, &blocker);
                answers.push(inputs::all_blocked(&class.definition, &silent));
                continue;
            }
            let outcome = self.call_guest(id, class, call, gathered)?;
            match inputs::plain_slots(outcome, &class.definition) {
                Ok((slots, shown)) => {
                    answers.push(slots);
                    inputs::merge_ui(&mut ui, shown);
                }
                Err(graph) => {
                    let expanded = expansion::unfold(id, index, *graph, &class.definition)
                        .map_err(|error| self.fail(id, error, summary(gathered)))?;
                    inputs::merge_ui(&mut ui, expanded.ui);
                    self.constants.extend(expanded.constants);
                    let nodes =
                        self.prompt.expand(id, expanded.graph).map_err(|error| graph_failure(&self.prompt, error))?;
                    added.extend(nodes);
                    expansion.links.extend(expanded.links.iter().map(|(_, link)| link.clone()));
                    expansion.sources.extend(expanded.links.into_iter().map(|(slot, link)| (index, slot, link)));
                    answers.push(expanded.slots);
                }
            }
        }
        if added.is_empty() && expansion.sources.is_empty() {
            let slots = inputs::merge_slots(answers, &class.definition)
                .map_err(|error| self.fail(id, error, summary(gathered)))?;
            self.finish_node(id, place, slots, ui)?;
            return Ok(Progressed::Done);
        }
        expansion.ui = ui;
        expansion.answers = answers;
        expansion.definition = Some(class.definition.clone());
        self.schedule_expansion(id, &added, expansion)?;
        Ok(Progressed::Waiting)
    }

    fn schedule_expansion(&mut self, id: &str, added: &[String], expansion: PendingExpansion) -> Result<(), Stop> {
        let fingerprints = GuestFingerprints { snapshot: self.snapshot.clone(), call: self.context(id) };
        for node in added {
            // Constants that are no JSON have no identity that could be compared.
            if !self.constants.keys().any(|(owner, _)| owner == node) {
                self.keys.add(node, &self.prompt, &self.definitions, &fingerprints);
            }
        }
        let results = &self.results;
        let is_cached = |id: &str| results.contains_key(id);
        let lookup = Lookup { prompt: &self.prompt, definitions: &self.definitions, is_cached: &is_cached };
        self.list
            .add_expansion(id, added, &expansion.links, &lookup)
            .map_err(|error| graph_failure(&self.prompt, error))?;
        self.expansions.insert(id.to_owned(), expansion);
        Ok(())
    }

    /// Calls the node; when memory for tensors runs out, drops what nobody needs any more and tries once again.
    fn call_guest(
        &mut self,
        id: &str,
        class: &ClassOf,
        call: IndexMap<String, NodeValue>,
        gathered: &Gathered,
    ) -> Result<vivarium_sandbox::Outcome, Stop> {
        let inputs = NodeValue::Map(call);
        let name = &class.definition.class_type;
        let mut outcome = class.component.execute(self.context(id), name, &inputs);
        if matches!(&outcome, Err(error) if error.kind == CallErrorKind::OutOfTensorMemory) && self.release_memory() {
            tracing::info!(
                node = id,
                "tensor memory ran out; dropped results that nobody needs and run the node again"
            );
            outcome = class.component.execute(self.context(id), name, &inputs);
        }
        outcome.map_err(|error| self.fail(id, error, summary(gathered)))
    }

    /// Drops kept results of other prompts, and results of this one that no node still has to read.
    fn release_memory(&mut self) -> bool {
        let cache = self.shared.cache(&self.lease.tenant);
        let mut cache = cache.lock();
        let mut released = cache.drop_unused();
        let needed: HashSet<String> = self
            .prompt
            .nodes()
            .filter(|(id, _)| !self.results.contains_key(*id))
            .flat_map(|(_, node)| node.inputs.values().filter_map(as_link).map(|link| link.node))
            .chain(self.expansions.values().flat_map(|expansion| expansion.links.iter().map(|link| link.node.clone())))
            .collect();
        let unneeded: Vec<String> = self.results.keys().filter(|id| !needed.contains(*id)).cloned().collect();
        for id in unneeded {
            if let Some(key) = self.keys.get(&id) {
                cache.remove(&key);
            }
            if let Some(result) = self.results.get_mut(&id)
                && result.bytes() > 0
            {
                released = true;
                *result = Arc::new(NodeResult { slots: Vec::new(), ui: result.ui.clone() });
            }
        }
        released
    }

    /// Tells the client once about a blocker with a message. Answers the silent blocker that goes on.
    fn tell_blocked(&self, id: &str, blocker: &NodeValue) -> NodeValue {
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

    fn finish_node(
        &mut self,
        id: &str,
        place: &NodePlace,
        slots: Vec<Vec<NodeValue>>,
        ui: Option<Map<String, Value>>,
    ) -> Result<(), Stop> {
        if let Some(ui) = &ui {
            self.progress.to_client(Event::Executed {
                node: id.to_owned(),
                display_node: place.display_id.clone(),
                output: Some(Value::Object(ui.clone())),
                prompt_id: self.lease.item.prompt_id.clone(),
            });
            self.keep_ui(id, place, Some(ui));
        }
        self.progress.finish(place);
        let result = Arc::new(NodeResult { slots, ui });
        if let Some(key) = self.keys.get(id) {
            self.shared.cache(&self.lease.tenant).lock().insert(key, result.clone());
        }
        self.results.insert(id.to_owned(), result);
        self.executed.push(id.to_owned());
        Ok(())
    }

    fn fail(&self, id: &str, error: CallError, inputs: Map<String, Value>) -> Stop {
        if error.kind == CallErrorKind::Interrupted {
            return Stop::Interrupted { node: id.to_owned() };
        }
        let exception_type = error.kind.exception_type().to_owned();
        Stop::Failed(Box::new(Failure { node: id.to_owned(), error, exception_type, inputs }))
    }

    fn announce_interrupted(&mut self, node: &str) {
        let event = Event::ExecutionInterrupted {
            prompt_id: self.lease.item.prompt_id.clone(),
            node_id: self.prompt.real_id(node).to_owned(),
            node_type: self.prompt.get(node).map(|node| node.class_type.clone()).unwrap_or_default(),
            executed: self.executed.clone(),
            timestamp: now_ms(),
        };
        self.messages.push((event.name().to_owned(), event.data()));
        self.progress.to_client_or_tenant(event);
    }

    fn announce_failure(&mut self, failure: Failure) {
        let class = self.prompt.get(&failure.node).map(|node| node.class_type.clone()).unwrap_or_default();
        tracing::info!(
            tenant = self.lease.tenant.as_str(),
            prompt = self.lease.item.prompt_id,
            node = failure.node,
            class,
            error = %failure.error,
            "a node failed"
        );
        let event = Event::ExecutionError(Box::new(ExecutionError {
            prompt_id: self.lease.item.prompt_id.clone(),
            node_id: self.prompt.real_id(&failure.node).to_owned(),
            node_type: class,
            executed: self.executed.clone(),
            exception_message: format!("{}\n", failure.error.message),
            exception_type: failure.exception_type,
            traceback: failure.error.frames.iter().map(|frame| format!("  in {frame}\n")).collect(),
            current_inputs: Value::Object(failure.inputs),
            // All nodes: a client reads here what the cache had a place for, as in ComfyUI.
            current_outputs: self.prompt.nodes().map(|(id, _)| id.to_owned()).collect(),
            timestamp: Some(now_ms()),
        }));
        self.announce(event);
    }
}

fn summary(gathered: &Gathered) -> Map<String, Value> {
    const SHOWN: usize = 8;
    let list = |list: &Vec<NodeValue>| list.iter().take(SHOWN).map(NodeValue::summary).collect::<Value>();
    gathered.lists.iter().map(|(name, values)| (name.clone(), list(values))).collect()
}

fn graph_failure(prompt: &DynamicPrompt, error: GraphError) -> Stop {
    let node = prompt.real_id(error.node()).to_owned();
    let exception_type = error.exception_type().to_owned();
    let error = CallError::new(CallErrorKind::InvalidArgument, error.to_string());
    Stop::Failed(Box::new(Failure { node, error, exception_type, inputs: Map::new() }))
}

fn cycle_failure(cycle: DependencyCycle) -> Stop {
    let message = format!("{cycle}: {}", cycle.nodes.join(" → "));
    let error = CallError::new(CallErrorKind::InvalidArgument, message);
    let exception_type = "graph.DependencyCycleError".to_owned();
    Stop::Failed(Box::new(Failure { node: cycle.blamed, error, exception_type, inputs: Map::new() }))
}
