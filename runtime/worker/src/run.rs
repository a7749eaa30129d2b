//! One prompt from start to end.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Instant,
};

use serde_json::{Map, Value, json};
use vivarium_graph::{CacheKeys, DynamicPrompt, ExecutionList, GraphError, KeySet, Lookup, Step};
use vivarium_packs::{Snapshot, lock::Lock};
use vivarium_protocol::{
    definition::NodeDefinition,
    event::Event,
    history::Status,
    prompt::{Prompt, as_link_ref},
};
use vivarium_queue::Lease;
use vivarium_sandbox::{CallContext, CallError, CallErrorKind, HostServices, NodeValue, PackComponent};

use crate::{
    ahead::Ahead,
    beside::Beside,
    config::CacheMode,
    definitions::{GuestFingerprints, TenantDefinitions},
    ending::{Ended, Lost, MOST_GPU_FAILURES, Stop, cycle_failure, graph_failure, summary},
    execute::StartedNode,
    expansion::PendingExpansion,
    inputs::{self, Constants, Gathered, HiddenValues},
    progress::{NodePlace, ProgressTracker},
    result::NodeResult,
    shared::{PromptGpu, Shared, TenantState, now_ms},
};

/// What became of a node that was picked.
pub(crate) enum Progressed {
    Done,
    /// Its calls run beside the prompt.
    Running,
    /// It waits for something and will be picked again.
    Waiting,
}

/// What one look at a node's class answers.
#[derive(Clone)]
pub(crate) struct ClassOf {
    pub(crate) definition: Arc<NodeDefinition>,
    pub(crate) component: Arc<PackComponent>,
}

pub(crate) struct PromptRun<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) lease: &'a Lease,
    pub(crate) tenant: TenantState,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) definitions: TenantDefinitions,
    pub(crate) interrupt: Arc<AtomicBool>,
    /// When the time of the prompt is up.
    deadline: Option<Instant>,
    pub(crate) progress: Arc<ProgressTracker>,
    services: Arc<dyn HostServices>,
    gpu: Option<PromptGpu>,
    /// How many times a GPU had failed when it began.
    pub(crate) gpu_failures: u64,
    pub(crate) prompt: DynamicPrompt,
    pub(crate) list: ExecutionList,
    pub(crate) keys: CacheKeys,
    pub(crate) results: HashMap<String, Arc<NodeResult>>,
    pub(crate) expansions: HashMap<String, PendingExpansion>,
    pub(crate) constants: Constants,
    /// Nodes whose calls have begun.
    pub(crate) started: HashMap<String, StartedNode>,
    /// The one that must end before another begins.
    pub(crate) turn: Option<String>,
    pub(crate) beside: Beside,
    /// Calls that may compute side by side.
    pub(crate) calls_at_once: usize,
    pub(crate) ahead: Ahead,
    /// Nodes that waited beside the prompt and have all their answers.
    pub(crate) ended: VecDeque<String>,
    /// Bytes of results since the last look at the machine's memory.
    pub(crate) unchecked_bytes: u64,
    pub(crate) executed: Vec<String>,
    outputs: Map<String, Value>,
    meta: Map<String, Value>,
    pub(crate) messages: Vec<(String, Value)>,
}

impl<'a> PromptRun<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        lease: &'a Lease,
        interrupt: Arc<AtomicBool>,
        progress: Arc<ProgressTracker>,
        services: Arc<dyn HostServices>,
        prompt: Prompt,
        place: usize,
    ) -> Self {
        let snapshot = shared.catalog.snapshot();
        let definitions = shared.definitions(&lease.tenant, snapshot.clone());
        let tenant = shared.tenant(&lease.tenant);
        let beside = Beside::new(shared.config.calls_beside(shared.limits.server().instances), interrupt.clone());
        Self {
            shared,
            lease,
            // Counted first: what fails from now on is noticed at the end.
            gpu_failures: shared.config.devices.failures(),
            gpu: shared.gpu_job(&tenant, place),
            tenant,
            snapshot,
            definitions,
            interrupt,
            deadline: Instant::now().checked_add(shared.limits.of(&lease.tenant, None).prompt_time),
            progress,
            services,
            prompt: DynamicPrompt::new(prompt, &shared.config.graph_limits),
            list: ExecutionList::new(),
            keys: CacheKeys::default(),
            results: HashMap::new(),
            expansions: HashMap::new(),
            constants: Constants::new(),
            started: HashMap::new(),
            turn: None,
            beside,
            calls_at_once: shared.config.calls_at_once(shared.limits.server().instances),
            ahead: Ahead::default(),
            ended: VecDeque::new(),
            unchecked_bytes: 0,
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
        self.announce(Event::ExecutionStart {
            prompt_id: prompt_id.clone(),
            timestamp: now_ms(),
            device: self.device(),
        });
        let mut stopped = self.check_lock().and_then(|()| self.prepare()).and_then(|()| self.run_nodes());
        // Nothing of the prompt may be heard after its end.
        self.beside.stop();
        if self.shared.config.cache == CacheMode::None {
            self.tenant.cache.lock().clear();
        }
        self.show_kept();
        self.progress.tell();
        let completed = stopped.is_ok();
        let (gpu_seconds, lost) = self.leave_gpu(&mut stopped);
        match stopped {
            // It will run again: no client hears of this.
            Err(Stop::Failed(_)) if lost.is_some() => {}
            Ok(()) => self.announce(Event::ExecutionSuccess { prompt_id, timestamp: now_ms() }),
            Err(Stop::Interrupted { node }) => self.announce_interrupted(&node),
            Err(Stop::Failed(failure)) => self.announce_failure(*failure),
        }
        let status_str = if completed { "success" } else { "error" };
        let status = Status { status_str: status_str.into(), completed, messages: self.messages };
        let seconds = started.elapsed().as_secs_f64();
        Ended::new(self.outputs, status, self.meta, seconds).on_gpu(gpu_seconds, lost).keeping(self.prompt)
    }

    /// What it runs on, where there is a choice: where there is no GPU, clients are told what ComfyUI tells them.
    fn device(&self) -> Option<String> {
        let devices = &self.shared.config.devices;
        (devices.gpus() > 0).then(|| devices.name(self.gpu.as_ref().map(|gpu| gpu.place)))
    }

    /// Waits for what is left on the GPU. Answers how long kernels ran, and whether the prompt is lost to a GPU that failed.
    fn leave_gpu(&mut self, stopped: &mut Result<(), Stop>) -> (f64, Option<Lost>) {
        let mut seconds = 0.0;
        if let Some(PromptGpu { place, job }) = self.gpu.take() {
            let device = self.shared.config.devices.name(Some(place));
            match job.seconds() {
                Ok(ran) => {
                    tracing::debug!(
                        prompt = self.lease.item.prompt_id,
                        device,
                        seconds = ran,
                        "kernels ran on the GPU"
                    );
                    self.shared.config.devices.ran(place, ran);
                    seconds = ran;
                }
                Err(error) => {
                    let reason = error.to_string();
                    self.shared.gpu_failed(place, job.gpu(), &reason);
                    return (0.0, self.lose_gpu(stopped, &device, &reason));
                }
            }
        }
        let failed = matches!(stopped, Err(Stop::Failed(_)));
        let lost = failed && self.shared.gpus_failed_since(self.gpu_failures);
        (seconds, lost.then_some(Lost::WithAnother))
    }

    /// The prompt's own GPU failed. It runs again, unless it is known for that.
    fn lose_gpu(&self, stopped: &mut Result<(), Stop>, device: &str, reason: &str) -> Option<Lost> {
        let Err(Stop::Failed(failure)) = stopped else { return None };
        if self.lease.gpu_failures + 1 < MOST_GPU_FAILURES {
            return Some(Lost::WithItsGpu);
        }
        self.blame(failure, device, reason);
        None
    }

    /// Sends to the client and keeps for the history.
    pub(crate) fn announce(&mut self, event: Event) {
        self.messages.push((event.name().to_owned(), event.data()));
        self.progress.to_client(event);
    }

    /// Packs may have been exchanged since the prompt was queued.
    fn check_lock(&self) -> Result<(), Stop> {
        Lock::check_prompt(&self.lease.item.extra_data, &self.snapshot)
            .map_err(|message| self.fail("", CallError::new(CallErrorKind::NotFound, message), Map::new()))
    }

    fn prepare(&mut self) -> Result<(), Stop> {
        let fingerprints = GuestFingerprints { snapshot: self.snapshot.clone(), call: self.context("") };
        self.keys = CacheKeys::compute(&self.prompt, &self.definitions, &fingerprints);
        let used: KeySet = self.keys.used().collect();
        let mut hits = Vec::new();
        {
            let mut cache = self.tenant.cache.lock();
            cache.begin_prompt(self.shared.config.cache, &used, |(id, class)| {
                self.prompt.original().get(id).is_some_and(|node| node.class_type == *class)
            });
            for id in self.prompt.original().keys() {
                if let Some(result) = self.keys.get(id).and_then(|key| cache.get(&key)) {
                    self.results.insert(id.clone(), result);
                    hits.push(id.clone());
                }
            }
        }
        let prompt_id = self.lease.item.prompt_id.clone();
        self.announce(Event::ExecutionCached { nodes: hits, prompt_id, timestamp: now_ms() });
        for output in &self.lease.item.outputs {
            self.on_list(|list, lookup| list.add_node(output, lookup))?;
        }
        self.leave_headroom();
        Ok(())
    }

    /// Changes what still has to run, with what is known now.
    pub(crate) fn on_list(
        &mut self,
        change: impl FnOnce(&mut ExecutionList, &Lookup<'_>) -> Result<(), GraphError>,
    ) -> Result<(), Stop> {
        let mut list = std::mem::take(&mut self.list);
        let twins = RefCell::new(Vec::new());
        let is_cached = |id: &str| {
            let kept = if self.results.contains_key(id) { return true } else { self.kept_result(id) };
            // Taken now: it may be dropped before the node that wants it has its turn.
            twins.borrow_mut().extend(kept.iter().map(|result| (id.to_owned(), result.clone())));
            kept.is_some()
        };
        let lookup = Lookup { prompt: &self.prompt, definitions: &self.definitions, is_cached: &is_cached };
        let changed = change(&mut list, &lookup).map_err(|error| graph_failure(&self.prompt, error));
        self.list = list;
        self.results.extend(twins.into_inner());
        changed
    }

    fn run_nodes(&mut self) -> Result<(), Stop> {
        loop {
            while let Some(answer) = self.beside.ended() {
                self.take_in(answer);
            }
            while let Some(id) = self.ended.pop_front() {
                self.settle(&id)?;
            }
            match self.list.stage_next(&self.prompt) {
                Step::Done => return Ok(()),
                Step::Run(id) => {
                    self.check_stop(&id)?;
                    let progressed = self.run_node(&id)?;
                    self.turn = None;
                    self.tell_list(&id, &progressed);
                }
                Step::Cycle(cycle) => return Err(cycle_failure(cycle)),
                Step::Wait => {
                    self.progress.tell();
                    let Some(answer) = self.beside.wait() else {
                        let error = CallError::new(CallErrorKind::Internal, "no node is ready and none is running");
                        return Err(self.fail("", error, Map::new()));
                    };
                    self.take_in(answer);
                }
            }
        }
    }

    /// Whether somebody stopped the prompt, or its time is up, before a node begins.
    fn check_stop(&self, id: &str) -> Result<(), Stop> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Stop::Interrupted { node: id.to_owned() });
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let limit = self.shared.limits.of(&self.lease.tenant, None).prompt_time;
            return Err(self.fail(id, CallError::prompt_timeout(limit), Map::new()));
        }
        Ok(())
    }

    pub(crate) fn tell_list(&mut self, id: &str, progressed: &Progressed) {
        match progressed {
            Progressed::Done => self.list.complete(id),
            Progressed::Waiting => self.list.unstage(id),
            Progressed::Running => {}
        }
    }

    fn run_node(&mut self, id: &str) -> Result<Progressed, Stop> {
        let place = self.place(id);
        if let Some(result) = self.kept_result(id) {
            // Perhaps a twin of it has run since it began ahead of its turn.
            self.started.remove(id);
            self.ahead.forget(id);
            self.show_cached(id, &place, &result);
            self.results.insert(id.to_owned(), result);
            return Ok(Progressed::Done);
        }
        if let Some(expansion) = self.expansions.remove(id) {
            self.resolve(id, &place, expansion)?;
            return Ok(Progressed::Done);
        }
        self.adopt_twins_before(id);
        self.turn = Some(id.to_owned());
        let executing = Event::executing(id, &place.display_id, &self.lease.item.prompt_id);
        if self.started.contains_key(id) {
            // It began ahead of its turn.
            self.progress.to_client(executing);
        } else {
            let class = self.class_of(id)?;
            self.progress.start(&place);
            self.progress.to_client(executing);
            let gathered = self.gather(id, &class.definition, &|_| None);
            let gathered = gathered.map_err(|error| self.fail(id, error, Map::new()))?;
            if self.wait_for_lazy_inputs(id, &class, &gathered)? {
                self.progress.park(id);
                return Ok(Progressed::Waiting);
            }
            self.started.insert(id.to_owned(), StartedNode::new(place, class, gathered));
        }
        self.share_out(id);
        self.execute(id)
    }

    pub(crate) fn place(&self, id: &str) -> NodePlace {
        NodePlace {
            node_id: id.to_owned(),
            display_id: self.prompt.display_id(id).to_owned(),
            parent_id: self.prompt.parent_id(id).map(str::to_owned),
            real_id: self.prompt.real_id(id).to_owned(),
        }
    }

    /// Takes over the result of an identical twin, if one has run.
    pub(crate) fn adopt_twin(&mut self, id: &str) {
        if !self.results.contains_key(id)
            && let Some(result) = self.kept_result(id)
        {
            self.results.insert(id.to_owned(), result);
        }
    }

    fn adopt_twins_before(&mut self, id: &str) {
        let Some(node) = self.prompt.get(id) else { return };
        let links = node.inputs.values().filter_map(as_link_ref);
        let absent = links.map(|(source, _)| source).filter(|source| !self.results.contains_key(*source));
        for source in absent.map(str::to_owned).collect::<Vec<_>>() {
            self.adopt_twin(&source);
        }
    }

    /// A result from before the prompt, or from an identical twin inside it.
    pub(crate) fn kept_result(&self, id: &str) -> Option<Arc<NodeResult>> {
        if self.expansions.contains_key(id) {
            return None;
        }
        if let Some(result) = self.results.get(id) {
            return Some(result.clone());
        }
        let key = self.keys.get(id)?;
        self.tenant.cache.lock().get(&key)
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

    /// The history tells what every posted node shows, also of nodes that no output of this prompt needed.
    fn show_kept(&mut self) {
        let silent = self.prompt.original().keys().filter(|id| !self.outputs.contains_key(*id));
        let shown = |id: &String| Some((id.clone(), self.kept_result(id)?.ui.clone()?));
        for (id, ui) in silent.filter_map(shown).collect::<Vec<_>>() {
            self.keep_ui(&id, &self.place(&id), Some(&ui));
        }
    }

    pub(crate) fn keep_ui(&mut self, id: &str, place: &NodePlace, ui: Option<&Map<String, Value>>) {
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

    pub(crate) fn class_of(&self, id: &str) -> Result<ClassOf, Stop> {
        let class = self.prompt.get(id).map(|node| node.class_type.clone()).unwrap_or_default();
        match (self.snapshot.shared_definition(&class), self.snapshot.component(&class)) {
            (Some(definition), Some(component)) => {
                Ok(ClassOf { definition: definition.clone(), component: component.clone() })
            }
            _ => Err(graph_failure(&self.prompt, GraphError::UnknownClass { node: id.to_owned(), class })),
        }
    }

    /// The inputs of a node, from the results so far, or else from what has run ahead of its turn.
    pub(crate) fn gather<'r>(
        &'r self,
        id: &str,
        definition: &NodeDefinition,
        ahead: &dyn Fn(&str) -> Option<&'r Vec<Vec<NodeValue>>>,
    ) -> Result<Gathered, CallError> {
        let item = &self.lease.item;
        let hidden = HiddenValues {
            prompt: &self.prompt,
            sent: &item.prompt,
            extra_data: &item.extra_data,
            constants: &self.constants,
        };
        let results = |node: &str| self.results.get(node).map(|result| &result.slots).or_else(|| ahead(node));
        inputs::gather(id, definition, &results, &hidden)
    }

    pub(crate) fn context(&self, id: &str) -> CallContext {
        let prompt_id = &self.lease.item.prompt_id;
        let services = self.services.clone();
        let context = self.shared.call_context(&self.lease.tenant, prompt_id, id, &self.interrupt, services);
        let gpu = self.gpu.as_ref().map(|gpu| gpu.job.clone());
        CallContext { deadline: self.deadline, gpu, ..context }
    }

    /// Asks the class which lazy inputs it needs. True when the node has to wait for some.
    fn wait_for_lazy_inputs(&mut self, id: &str, class: &ClassOf, gathered: &Gathered) -> Result<bool, Stop> {
        if !class.definition.has_needed_inputs {
            return Ok(false);
        }
        let mut needed = Vec::new();
        for call in inputs::calls(gathered, &class.definition) {
            if inputs::blocker(&call, class.definition.input_is_list).is_some() {
                continue;
            }
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
            self.on_list(|list, lookup| list.need_input(id, name, lookup))?;
        }
        Ok(!needed.is_empty())
    }
}
