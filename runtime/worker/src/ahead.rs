//! Calls that run ahead of their turn, so that independent branches compute side by side.
//!
//! A prompt is run in one order, as if there were no such thing: a node gets its turn, and only then is its result taken,
//! shown, kept, or its error raised. While the node whose turn it is computes, nodes that are ready, or will be once what
//! runs ahead is taken, begin already; their answers wait for their turn. So clients see the same events, files have the same
//! numbers, and errors are the same as without.
//!
//! Every call is a fresh instance without state, so nearly every node may begin early. Those may not whose call does more
//! than answer, or depends on what runs beside it: output nodes (files and their numbers), nodes that ask for lazy inputs,
//! nodes that see the live graph. Nodes that mostly wait run beside the prompt anyway.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use vivarium_graph::KeySet;
use vivarium_protocol::definition::{NodeDefinition, Section};
use vivarium_sandbox::{CallErrorKind, NodeValue, Outcome};

use crate::{
    beside::{Answer, Lane},
    execute::{CallState, StartedNode},
    inputs,
    run::PromptRun,
};

/// Others begin only when the call whose turn it is has taken so long: what is quick runs one after another, and is told so.
/// A class whose last call took less does not get a thread.
pub(crate) const WORTHWHILE: Duration = Duration::from_millis(2);
/// Ready nodes that one look considers: among thousands, the first few are as good as all.
const CONSIDERED: usize = 32;

/// What runs, or has run, ahead of its turn.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Calls that could begin; some may have begun meanwhile.
    due: VecDeque<(String, usize)>,
    /// Nodes that could begin once what runs ahead is taken.
    unlocked: VecDeque<String>,
    /// Nodes that have answered, and what, for nodes behind them.
    answered: HashMap<String, Vec<Vec<NodeValue>>>,
    /// Nodes that wait for their turn, whatever happens.
    refused: HashSet<String>,
    /// Keys of what has begun: a twin gets its result from the cache.
    keys: KeySet,
    /// Memory is short: one call at a time from now on.
    off: bool,
}

impl Ahead {
    /// The node had its turn.
    pub(crate) fn forget(&mut self, id: &str) {
        self.answered.remove(id);
    }
}

/// Whether a call of the class does nothing but answer, whatever runs beside it.
fn may_run_ahead(definition: &NodeDefinition) -> bool {
    let sees_the_graph =
        definition.inputs.iter().any(|input| input.section == Section::Hidden && input.input_type == "DYNPROMPT");
    !(definition.output_node || definition.asynchronous || definition.has_needed_inputs || sees_the_graph)
}

impl PromptRun<'_> {
    /// Notes how long a call took.
    pub(crate) fn note_pace(&self, class: &str, took: Duration) {
        let mut pace = self.tenant.pace.lock();
        match pace.get_mut(class) {
            Some(last) => *last = took,
            None => {
                pace.insert(class.to_owned(), took);
            }
        }
    }

    fn is_worthwhile(&self, class: &str) -> bool {
        self.tenant.pace.lock().get(class).is_none_or(|pace| *pace >= WORTHWHILE)
    }

    /// The node whose turn it is may share its calls out, if it is one of those that may.
    pub(crate) fn share_out(&mut self, id: &str) {
        if let Some(key) = self.keys.get(id) {
            self.ahead.keys.insert(key);
        }
        let Some(node) = self.started.get(id).filter(|node| may_run_ahead(&node.class.definition)) else { return };
        let due = (1..node.calls.len()).filter(|index| node.blocker(*index).is_none());
        self.ahead.due.extend(due.map(|index| (id.to_owned(), index)));
    }

    /// Whether there is something that may compute beside a call of a class.
    pub(crate) fn could_look_ahead(&self, class: &str) -> bool {
        let ahead = &self.ahead;
        let is_anything = self.beside.computing() > 0
            || !ahead.due.is_empty()
            || !ahead.unlocked.is_empty()
            || self.list.ready().next().is_some();
        self.calls_at_once > 1 && !ahead.off && is_anything && self.is_worthwhile(class)
    }

    /// Starts calls ahead of their turn until so many compute.
    pub(crate) fn look_ahead(&mut self, at_once: usize) {
        while !self.ahead.off && self.beside.computing() < at_once {
            let Some((id, index)) = self.next_due().or_else(|| self.begin_another()) else { return };
            self.start_call(&id, index, Lane::Computing);
        }
    }

    fn next_due(&mut self) -> Option<(String, usize)> {
        loop {
            let (id, index) = self.ahead.due.pop_front()?;
            let Some(node) = self.started.get(&id) else { continue };
            if matches!(node.calls.get(index), Some(CallState::Due { again: false, .. })) {
                return Some((id, index));
            }
        }
    }

    /// Begins a node that is ready, or would be.
    fn begin_another(&mut self) -> Option<(String, usize)> {
        while let Some(id) = self.ahead.unlocked.pop_front() {
            if let Some(first) = self.begin_ahead(&id) {
                return Some(first);
            }
        }
        let ready: Vec<String> = self.list.ready().take(CONSIDERED).map(str::to_owned).collect();
        ready.iter().find_map(|id| self.begin_ahead(id))
    }

    /// Begins a node, if it may: its first call is the one to start.
    fn begin_ahead(&mut self, id: &str) -> Option<(String, usize)> {
        if self.ahead.refused.contains(id) || self.started.contains_key(id) || self.expansions.contains_key(id) {
            return None;
        }
        let class = self.class_of(id).ok()?;
        if !may_run_ahead(&class.definition) {
            self.ahead.refused.insert(id.to_owned());
            return None;
        }
        let key = self.keys.get(id);
        let has_twin = key.is_some_and(|key| self.ahead.keys.contains(&key));
        if has_twin || self.kept_result(id).is_some() {
            return None;
        }
        let gathered = self.gather(id, &class.definition, &|node| self.ahead.answered.get(node)).ok();
        let node = gathered.map(|gathered| StartedNode::new(self.place(id), class, gathered));
        let Some(node) = node.filter(|node| (0..node.calls.len()).all(|index| node.blocker(index).is_none())) else {
            self.ahead.refused.insert(id.to_owned());
            return None;
        };
        self.ahead.keys.extend(key);
        self.ahead.due.extend((1..node.calls.len()).map(|index| (id.to_owned(), index)));
        self.progress.start(&node.place);
        self.started.insert(id.to_owned(), node);
        Some((id.to_owned(), 0))
    }

    /// Takes in the answer of a call whose node did not have its turn yet.
    pub(crate) fn take_in_ahead(&mut self, answer: Answer) {
        let id = answer.call.node.clone();
        if let Err(error) = &answer.outcome
            && matches!(error.kind, CallErrorKind::OutOfTensorMemory | CallErrorKind::LimitExceeded)
        {
            // Perhaps only since others ran beside it: it begins anew when its turn comes.
            self.ahead.refused.insert(id.clone());
            self.started.remove(&id);
            return;
        }
        self.record(answer);
        let Some(node) = self.started.get(&id) else { return };
        let answered = node.calls.iter().map(|call| match call {
            CallState::Answered(Ok(Outcome::Outputs { slots, .. })) => Some(slots.clone()),
            _ => None,
        });
        let Some(answers) = answered.collect::<Option<Vec<_>>>() else { return };
        let Ok(slots) = inputs::merge_slots(answers, &node.class.definition) else { return };
        self.progress.finish(&node.place);
        self.ahead.answered.insert(id.clone(), slots);
        let answered = &self.ahead.answered;
        let unlocked = self.list.unlocked_by(&id, |id| answered.contains_key(id));
        self.ahead.unlocked.extend(unlocked.into_iter().map(str::to_owned));
    }

    /// Memory is short: waits for what runs ahead, gives its answers up, and begins nothing ahead any more.
    pub(crate) fn stop_looking_ahead(&mut self) {
        self.ahead.off = true;
        while self.beside.computing() > 0 {
            let Some(answer) = self.beside.wait() else { break };
            let is_ahead = answer.call.lane == Lane::Computing && self.turn.as_deref() != Some(&answer.call.node);
            if !is_ahead {
                self.take_in(answer);
            }
        }
        let turn = self.turn.as_deref();
        self.started.retain(|id, node| turn == Some(id) || node.class.definition.asynchronous);
        self.ahead.answered.clear();
        self.ahead.due.clear();
        self.ahead.unlocked.clear();
    }
}
