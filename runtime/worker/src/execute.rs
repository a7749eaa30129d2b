//! One node: its calls, what they answer, and what becomes of it.
//!
//! A node runs once per element of its lists. The answers of its calls are put together only when all are there, in the order
//! of the calls, wherever they ran: on the thread of the prompt, beside it when the class says that it mostly waits, or ahead
//! of their turn (see `ahead`).

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use indexmap::IndexMap;
use serde_json::{Map, Value};
use vivarium_protocol::{event::Event, prompt::as_link};
use vivarium_sandbox::{CallError, CallErrorKind, NodeValue, Outcome};

use crate::{
    ahead::WORTHWHILE,
    beside::{Answer, Call, Lane},
    definitions::GuestFingerprints,
    ending::{Stop, graph_failure, summary},
    expansion::{self, PendingExpansion},
    inputs::{self, Gathered},
    progress::NodePlace,
    result::NodeResult,
    result_cache::Owner,
    run::{ClassOf, Progressed, PromptRun},
};

/// A node whose calls have begun.
pub(crate) struct StartedNode {
    pub(crate) place: NodePlace,
    pub(crate) class: ClassOf,
    gathered: Gathered,
    /// In their order.
    pub(crate) calls: Vec<CallState>,
    took: Duration,
}

/// One call of a node.
pub(crate) enum CallState {
    /// It has not begun.
    Due {
        inputs: IndexMap<String, NodeValue>,
        /// It ran out of memory before.
        again: bool,
    },
    Running,
    Answered(Result<Outcome, CallError>),
}

impl StartedNode {
    pub(crate) fn new(place: NodePlace, class: ClassOf, gathered: Gathered) -> Self {
        let due = |inputs| CallState::Due { inputs, again: false };
        let calls = inputs::calls(&gathered, &class.definition).into_iter().map(due).collect();
        Self { place, class, gathered, calls, took: Duration::ZERO }
    }

    /// The blocker that a call would receive, if one would.
    pub(crate) fn blocker(&self, index: usize) -> Option<NodeValue> {
        match self.calls.get(index)? {
            CallState::Due { inputs, .. } => inputs::blocker(inputs, self.class.definition.input_is_list),
            _ => None,
        }
    }

    fn all_answered(&self) -> bool {
        self.calls.iter().all(|call| matches!(call, CallState::Answered(_)))
    }
}

impl PromptRun<'_> {
    /// Runs a node whose turn it is, or goes on with what it began ahead of it.
    pub(crate) fn execute(&mut self, id: &str) -> Result<Progressed, Stop> {
        let (calls, waits) = match self.started.get(id) {
            Some(node) => (node.calls.len(), node.class.definition.asynchronous),
            None => return Ok(Progressed::Done),
        };
        for index in 0..calls {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted { node: id.to_owned() });
            }
            self.answer_blocked(id, index);
            if waits {
                self.start_call(id, index, Lane::Waiting);
            } else {
                self.compute(id, index)?;
            }
        }
        if waits && !self.started.get(id).is_some_and(StartedNode::all_answered) {
            return Ok(Progressed::Running);
        }
        self.conclude(id)
    }

    /// A call that a blocker reaches is not made.
    fn answer_blocked(&mut self, id: &str, index: usize) {
        let Some(blocker) = self.started.get(id).and_then(|node| node.blocker(index)) else { return };
        let silent = self.tell_blocked(id, &blocker);
        if let Some(node) = self.started.get_mut(id) {
            let slots = inputs::all_blocked(&node.class.definition, &silent);
            node.calls[index] = CallState::Answered(Ok(Outcome::Outputs { slots, ui: None }));
        }
    }

    /// Starts a call that is due beside the prompt.
    pub(crate) fn start_call(&mut self, id: &str, index: usize, lane: Lane) {
        if let Some(call) = self.take_call(id, index, lane) {
            self.beside.start(call);
        }
    }

    fn take_call(&mut self, id: &str, index: usize, lane: Lane) -> Option<Arc<Call>> {
        let context = self.context(id);
        let node = self.started.get_mut(id)?;
        let call = node.calls.get_mut(index).filter(|call| matches!(call, CallState::Due { .. }))?;
        let CallState::Due { inputs, again } = std::mem::replace(call, CallState::Running) else { return None };
        Some(Arc::new(Call {
            node: id.to_owned(),
            index,
            component: node.class.component.clone(),
            class: node.class.definition.class_type.clone(),
            context,
            inputs: NodeValue::Map(inputs),
            lane,
            is_second_try: again,
        }))
    }

    /// Brings a call to its end, here or beside the prompt while others compute.
    fn compute(&mut self, id: &str, index: usize) -> Result<(), Stop> {
        loop {
            match self.started.get(id).and_then(|node| node.calls.get(index)) {
                Some(CallState::Due { again, .. }) => {
                    if *again {
                        // Alone, and with all memory that can be had.
                        self.stop_looking_ahead();
                        self.release_memory();
                    }
                    let Some(call) = self.take_call(id, index, Lane::Computing) else { return Ok(()) };
                    if self.could_look_ahead(&call.class) {
                        self.beside.start(call);
                        if let Some(answer) = self.beside.wait_at_most(WORTHWHILE) {
                            self.take_in(answer);
                        }
                    } else {
                        self.take_in(call.run());
                    }
                }
                Some(CallState::Running) => {
                    self.look_ahead(self.calls_at_once);
                    let Some(answer) = self.beside.wait() else {
                        let error = CallError::new(CallErrorKind::Internal, "a call of the node was lost");
                        return Err(self.fail(id, error, Map::new()));
                    };
                    self.take_in(answer);
                }
                Some(CallState::Answered(Err(error))) => return Err(self.fail(id, error.clone(), self.inputs_of(id))),
                Some(CallState::Answered(Ok(_))) | None => return Ok(()),
            }
        }
    }

    fn inputs_of(&self, id: &str) -> Map<String, Value> {
        self.started.get(id).map(|node| summary(&node.gathered)).unwrap_or_default()
    }

    /// Takes in the answer of a call, wherever it ran.
    pub(crate) fn take_in(&mut self, answer: Answer) {
        let is_its_turn = self.turn.as_deref() == Some(&answer.call.node);
        match answer.call.lane {
            Lane::Waiting => self.take_in_waiting(answer),
            Lane::Computing if !is_its_turn => self.take_in_ahead(answer),
            Lane::Computing if wants_second_try(&answer) => self.put_back(&answer.call),
            Lane::Computing => self.record(answer),
        }
    }

    fn take_in_waiting(&mut self, answer: Answer) {
        if wants_second_try(&answer) && self.release_memory() {
            self.put_back(&answer.call);
            self.start_call(&answer.call.node, answer.call.index, Lane::Waiting);
            return;
        }
        let (id, failed) = (answer.call.node.clone(), answer.outcome.is_err());
        self.record(answer);
        if failed || self.started.get(&id).is_some_and(StartedNode::all_answered) {
            self.ended.push_back(id);
        }
    }

    /// The call is due once more.
    fn put_back(&mut self, call: &Call) {
        let NodeValue::Map(inputs) = call.inputs.clone() else { return };
        if let Some(state) = self.started.get_mut(&call.node).and_then(|node| node.calls.get_mut(call.index)) {
            *state = CallState::Due { inputs, again: true };
        }
    }

    /// Notes an answer with its node; of a node that was given up meanwhile it is lost.
    pub(crate) fn record(&mut self, answer: Answer) {
        let Answer { call, outcome, took } = answer;
        self.note_pace(&call.class, took);
        let Some(node) = self.started.get_mut(&call.node) else { return };
        node.took += took;
        if let Some(state) = node.calls.get_mut(call.index) {
            *state = CallState::Answered(outcome);
        }
    }

    /// A node that waited has all its answers, or one that ends the prompt.
    pub(crate) fn settle(&mut self, id: &str) -> Result<(), Stop> {
        if !self.started.contains_key(id) {
            return Ok(());
        }
        let progressed = self.conclude(id)?;
        self.tell_list(id, &progressed);
        Ok(())
    }

    /// All answers are there: the node is done, or waits for the nodes that it expanded into.
    fn conclude(&mut self, id: &str) -> Result<Progressed, Stop> {
        let Some(StartedNode { place, class, gathered, calls, took }) = self.started.remove(id) else {
            return Ok(Progressed::Done);
        };
        self.ahead.forget(id);
        let failed = |run: &Self, error| run.fail(id, error, summary(&gathered));
        let mut slots_of_calls = Vec::with_capacity(calls.len());
        let mut ui = None;
        let mut expansion = PendingExpansion::default();
        let mut added = Vec::new();
        for (index, call) in calls.into_iter().enumerate() {
            let CallState::Answered(outcome) = call else { continue };
            let outcome = outcome.map_err(|error| failed(self, error))?;
            match inputs::plain_slots(outcome, &class.definition) {
                Ok((slots, shown)) => {
                    slots_of_calls.push(slots);
                    inputs::merge_ui(&mut ui, shown);
                }
                Err(graph) => {
                    let base = expansion::Base { id, call: index, real: self.prompt.real_id(id) };
                    let expanded =
                        expansion::unfold(&base, *graph, &class.definition).map_err(|error| failed(self, error))?;
                    inputs::merge_ui(&mut ui, expanded.ui);
                    self.constants.extend(expanded.constants);
                    let nodes =
                        self.prompt.expand(id, expanded.graph).map_err(|error| graph_failure(&self.prompt, error))?;
                    added.extend(nodes);
                    expansion.links.extend(expanded.links.iter().map(|(_, link)| link.clone()));
                    expansion.sources.extend(expanded.links.into_iter().map(|(slot, link)| (index, slot, link)));
                    slots_of_calls.push(expanded.slots);
                }
            }
        }
        if added.is_empty() && expansion.sources.is_empty() {
            let slots = inputs::merge_slots(slots_of_calls, &class.definition).map_err(|error| failed(self, error))?;
            self.finish_node(id, &place, NodeResult::new(slots, ui, took))?;
            return Ok(Progressed::Done);
        }
        expansion.ui = ui;
        expansion.answers = slots_of_calls;
        expansion.definition = Some(class.definition);
        expansion.took = took;
        self.schedule_expansion(id, &added, expansion)?;
        self.progress.park(id);
        Ok(Progressed::Waiting)
    }

    fn schedule_expansion(&mut self, id: &str, added: &[String], expansion: PendingExpansion) -> Result<(), Stop> {
        let fingerprints = GuestFingerprints { snapshot: self.snapshot.clone(), call: self.context(id) };
        // Constants that are no JSON have no identity that could be compared. Told first: a key asks for those before it.
        for node in added.iter().filter(|node| self.constants.contains_key(*node)) {
            self.keys.never(node);
        }
        for node in added {
            self.keys.add(node, &self.prompt, &self.definitions, &fingerprints);
        }
        for node in added {
            if let Some(result) = self.keys.get(node).and_then(|key| self.tenant.cache.lock().get(&key)) {
                self.results.insert(node.clone(), result);
            }
        }
        self.on_list(|list, lookup| list.add_expansion(id, added, &expansion.links, lookup))?;
        self.expansions.insert(id.to_owned(), expansion);
        Ok(())
    }

    /// Drops kept results of other prompts, and results of this one that no node waits to read. Should an expansion link to
    /// one of those later, its node runs again.
    fn release_memory(&mut self) -> bool {
        let mut cache = self.tenant.cache.lock();
        let mut released = cache.drop_unused();
        let executed: HashSet<&str> = self.executed.iter().map(String::as_str).collect();
        let needed: HashSet<String> = self
            .prompt
            .nodes()
            .filter(|(id, _)| !self.results.contains_key(*id) && !executed.contains(id))
            .flat_map(|(_, node)| node.inputs.values().filter_map(as_link).map(|link| link.node))
            .chain(self.expansions.values().flat_map(|expansion| expansion.links.iter().map(|link| link.node.clone())))
            .collect();
        let keys = &self.keys;
        self.results.retain(|id, _| {
            if needed.contains(id) {
                return true;
            }
            if let Some(key) = keys.get(id) {
                cache.remove(&key);
            }
            released = true;
            false
        });
        if released {
            tracing::info!(prompt = self.lease.item.prompt_id, "memory ran out; dropped results that nobody needs");
        }
        released
    }

    /// The expansion of a node has run: its outputs are what that computed.
    pub(crate) fn resolve(&mut self, id: &str, place: &NodePlace, expansion: PendingExpansion) -> Result<(), Stop> {
        for link in &expansion.links {
            self.adopt_twin(&link.node);
        }
        let slots = expansion.resolve(&self.results).map_err(|error| self.fail(id, error, Map::new()))?;
        self.finish_node(id, place, NodeResult::new(slots, expansion.ui, expansion.took))?;
        if self.prompt.parent_id(id).is_none()
            && let Some(owner) = self.owner(id)
        {
            self.tenant.cache.lock().end_expansion(&owner);
        }
        Ok(())
    }

    fn finish_node(&mut self, id: &str, place: &NodePlace, mut result: NodeResult) -> Result<(), Stop> {
        if result.charge(&self.tenant.budget).is_err() {
            self.release_memory();
            result.charge(&self.tenant.budget).map_err(|refused| {
                let message = format!("the results of the node don't fit: {refused}");
                self.fail(id, CallError::new(CallErrorKind::OutOfTensorMemory, message), Map::new())
            })?;
        }
        if let Some(ui) = &result.ui {
            self.progress.to_client(Event::Executed {
                node: id.to_owned(),
                display_node: place.display_id.clone(),
                output: Some(Value::Object(ui.clone())),
                prompt_id: self.lease.item.prompt_id.clone(),
            });
            self.keep_ui(id, place, Some(ui));
        }
        self.progress.finish(place);
        let result = Arc::new(result);
        if let Some(key) = self.keys.get(id) {
            let owner = self.prompt.parent_id(id).and_then(|_| self.owner(id));
            let mut cache = self.tenant.cache.lock();
            if cache.trusts(self.gpu_failures) {
                cache.insert(key, result.clone(), owner);
            }
        }
        self.unchecked_bytes += result.bytes();
        self.results.insert(id.to_owned(), result);
        self.executed.push(id.to_owned());
        if self.unchecked_bytes >= CHECK_EVERY {
            self.leave_headroom();
        }
        Ok(())
    }

    /// Gives memory back when the machine has less left than the cache shall leave.
    pub(crate) fn leave_headroom(&mut self) {
        self.unchecked_bytes = 0;
        let mut lacking = self.shared.lacking_memory();
        if lacking > 0 {
            // What is only kept for the next node goes first.
            vivarium_allocator::give_back();
            lacking = self.shared.lacking_memory();
        }
        // A little more, so that the next node does not find the same.
        if lacking > 0 && self.shared.shrink_caches(lacking.saturating_add(lacking / 8)) < lacking {
            self.release_memory();
        }
    }

    /// The posted node that a node stems from.
    fn owner(&self, id: &str) -> Option<Owner> {
        let real = self.prompt.real_id(id);
        Some((real.to_owned(), self.prompt.get(real)?.class_type.clone()))
    }
}

/// How many bytes of new results are worth a look at the machine's memory.
const CHECK_EVERY: u64 = 16 << 20;

fn wants_second_try(answer: &Answer) -> bool {
    let out_of_memory = |error: &CallError| error.kind == CallErrorKind::OutOfTensorMemory;
    !answer.call.is_second_try && answer.outcome.as_ref().is_err_and(out_of_memory)
}
