//! One node: its calls, what they answer, and what becomes of it.
//!
//! A node runs once per element of its lists. Its calls run one after another here, or beside the prompt when its class says
//! that it mostly waits; either way, the answers are put together only when all are there.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use indexmap::IndexMap;
use serde_json::{Map, Value};
use vivarium_protocol::{event::Event, prompt::as_link};
use vivarium_sandbox::{CallError, CallErrorKind, NodeValue, Outcome};

use crate::{
    beside::{Answer, Call},
    definitions::GuestFingerprints,
    ending::{Stop, graph_failure, summary},
    expansion::{self, PendingExpansion},
    inputs::{self, Gathered},
    progress::NodePlace,
    result_cache::{NodeResult, Owner},
    run::{ClassOf, Progressed, PromptRun},
};

/// A node whose calls have begun.
pub(crate) struct StartedNode {
    place: NodePlace,
    class: ClassOf,
    gathered: Gathered,
    /// One per call, in their order; absent as long as the call runs.
    answers: Vec<Option<Outcome>>,
    missing: usize,
}

impl PromptRun<'_> {
    pub(crate) fn execute(
        &mut self,
        id: &str,
        place: NodePlace,
        class: ClassOf,
        gathered: Gathered,
    ) -> Result<Progressed, Stop> {
        let calls = inputs::calls(&gathered, &class.definition);
        let mut node = StartedNode { place, class, gathered, answers: Vec::with_capacity(calls.len()), missing: 0 };
        for (index, inputs) in calls.into_iter().enumerate() {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted { node: id.to_owned() });
            }
            if let Some(blocker) = inputs::blocker(&inputs, node.class.definition.input_is_list) {
                let slots = inputs::all_blocked(&node.class.definition, &self.tell_blocked(id, &blocker));
                node.answers.push(Some(Outcome::Outputs { slots, ui: None }));
                continue;
            }
            let call = self.call(id, index, &node.class, inputs);
            if node.class.definition.asynchronous {
                node.answers.push(None);
                node.missing += 1;
                self.beside.start(call);
            } else {
                let outcome = self.run_call(call).map_err(|error| self.fail(id, error, summary(&node.gathered)))?;
                node.answers.push(Some(outcome));
            }
        }
        if node.missing == 0 {
            return self.conclude(id, node);
        }
        self.started.insert(id.to_owned(), node);
        Ok(Progressed::Running)
    }

    fn call(&self, id: &str, index: usize, class: &ClassOf, inputs: IndexMap<String, NodeValue>) -> Call {
        Call {
            node: id.to_owned(),
            index,
            component: class.component.clone(),
            class: class.definition.class_type.clone(),
            context: self.context(id),
            inputs: NodeValue::Map(inputs),
            is_second_try: false,
        }
    }

    /// Calls the node; when memory for tensors runs out, drops what nobody needs any more and tries once again.
    fn run_call(&mut self, call: Call) -> Result<Outcome, CallError> {
        match call.run() {
            Err(error) if self.frees_memory_for(&call, &error) => call.run(),
            outcome => outcome,
        }
    }

    fn frees_memory_for(&mut self, call: &Call, error: &CallError) -> bool {
        let freed = error.kind == CallErrorKind::OutOfTensorMemory && !call.is_second_try && self.release_memory();
        if freed {
            tracing::info!(
                node = call.node,
                "tensor memory ran out; dropped results that nobody needs and run the node again"
            );
        }
        freed
    }

    /// Takes in the answer of a call that ran beside the prompt.
    pub(crate) fn settle(&mut self, answer: Answer) -> Result<(), Stop> {
        let Answer { call, outcome } = answer;
        let id = call.node.as_str();
        if let Err(error) = &outcome
            && self.frees_memory_for(&call, error)
        {
            let NodeValue::Map(inputs) = call.inputs.clone() else { return Ok(()) };
            let Some(class) = self.started.get(id).map(|node| node.class.clone()) else { return Ok(()) };
            self.beside.start(Call { is_second_try: true, ..self.call(id, call.index, &class, inputs) });
            return Ok(());
        }
        let Some(mut node) = self.started.remove(id) else { return Ok(()) };
        let outcome = outcome.map_err(|error| self.fail(id, error, summary(&node.gathered)))?;
        if let Some(place) = node.answers.get_mut(call.index) {
            *place = Some(outcome);
        }
        node.missing -= 1;
        if node.missing > 0 {
            self.started.insert(id.to_owned(), node);
            return Ok(());
        }
        let progressed = self.conclude(id, node)?;
        self.tell_list(id, &progressed);
        Ok(())
    }

    /// All answers are there: the node is done, or waits for the nodes that it expanded into.
    fn conclude(&mut self, id: &str, node: StartedNode) -> Result<Progressed, Stop> {
        let StartedNode { place, class, gathered, answers, .. } = node;
        let failed = |run: &Self, error| run.fail(id, error, summary(&gathered));
        let mut slots_of_calls = Vec::with_capacity(answers.len());
        let mut ui = None;
        let mut expansion = PendingExpansion::default();
        let mut added = Vec::new();
        for (index, outcome) in answers.into_iter().flatten().enumerate() {
            match inputs::plain_slots(outcome, &class.definition) {
                Ok((slots, shown)) => {
                    slots_of_calls.push(slots);
                    inputs::merge_ui(&mut ui, shown);
                }
                Err(graph) => {
                    let expanded =
                        expansion::unfold(id, index, *graph, &class.definition).map_err(|error| failed(self, error))?;
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
            self.finish_node(id, &place, slots, ui);
            return Ok(Progressed::Done);
        }
        expansion.ui = ui;
        expansion.answers = slots_of_calls;
        expansion.definition = Some(class.definition);
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
        let cache = self.shared.cache(&self.lease.tenant);
        for node in added {
            if let Some(result) = self.keys.get(node).and_then(|key| cache.lock().get(&key)) {
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
        let cache = self.shared.cache(&self.lease.tenant);
        let mut cache = cache.lock();
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
        self.results.retain(|id, result| {
            if needed.contains(id) || result.bytes() == 0 {
                return true;
            }
            if let Some(key) = keys.get(id) {
                cache.remove(&key);
            }
            released = true;
            false
        });
        released
    }

    /// The expansion of a node has run: its outputs are what that computed.
    pub(crate) fn resolve(&mut self, id: &str, place: &NodePlace, expansion: PendingExpansion) -> Result<(), Stop> {
        for link in &expansion.links {
            self.adopt_twin(&link.node);
        }
        let slots = expansion.resolve(&self.results).map_err(|error| self.fail(id, error, Map::new()))?;
        self.finish_node(id, place, slots, expansion.ui);
        if self.prompt.parent_id(id).is_none()
            && let Some(owner) = self.owner(id)
        {
            self.shared.cache(&self.lease.tenant).lock().end_expansion(&owner);
        }
        Ok(())
    }

    fn finish_node(&mut self, id: &str, place: &NodePlace, slots: Vec<Vec<NodeValue>>, ui: Option<Map<String, Value>>) {
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
            let owner = self.prompt.parent_id(id).and_then(|_| self.owner(id));
            self.shared.cache(&self.lease.tenant).lock().insert(key, result.clone(), owner);
        }
        self.results.insert(id.to_owned(), result);
        self.executed.push(id.to_owned());
    }

    /// The posted node that a node stems from.
    fn owner(&self, id: &str) -> Option<Owner> {
        let real = self.prompt.real_id(id);
        Some((real.to_owned(), self.prompt.get(real)?.class_type.clone()))
    }
}
