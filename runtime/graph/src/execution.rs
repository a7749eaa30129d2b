//! What runs next.
//!
//! Nodes wait until everything that they depend on has run. Among those that are ready, clients see results soonest when
//! the order is: output nodes, and nodes that run beside others, which should start early; nodes that an output waits for;
//! nodes that such a node waits for; the rest; each group in the order in which its nodes were found. A node's group only
//! ever improves, so every node sits in one of four ordered sets and moves at most three times: picking costs a logarithm,
//! whatever the size of the prompt.

use std::collections::{BTreeSet, HashMap, HashSet};

use vivarium_protocol::prompt::{Link, as_link_ref};

use crate::definitions::Definitions;
use crate::dynamic::DynamicPrompt;
use crate::error::GraphError;
use crate::links::links;

/// What an [`ExecutionList`] has to know to follow links.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// The nodes as they are now.
    pub prompt: &'a DynamicPrompt,
    /// Their classes.
    pub definitions: &'a dyn Definitions,
    /// Whether a node's results exist already: links to it wait for nothing.
    pub is_cached: &'a dyn Fn(&str) -> bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run this node; afterwards call [`ExecutionList::complete`] or [`ExecutionList::unstage`].
    Run(String),
    /// Nothing is ready, but nodes that are running may change that.
    Wait,
    /// Nothing can ever become ready.
    Cycle(DependencyCycle),
    /// Everything has run.
    Done,
}

/// Nodes that wait for one another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Dependency cycle detected")]
pub struct DependencyCycle {
    /// The posted node that clients should mark.
    pub blamed: String,
    /// The nodes of one cycle; each waits for the one before it, the first for the last.
    pub nodes: Vec<String>,
}

impl DependencyCycle {
    /// The name under which ComfyUI's clients know it.
    pub const EXCEPTION_TYPE: &str = "graph.DependencyCycleError";
}

/// The nodes that still have to run.
#[derive(Debug, Default)]
pub struct ExecutionList {
    entries: Vec<Entry>,
    waiting: HashMap<String, usize>,
    edges: HashSet<(usize, usize)>,
    ready: [BTreeSet<usize>; 4],
    staged: usize,
}

#[derive(Debug)]
struct Entry {
    id: String,
    output: bool,
    /// Runs beside others.
    asynchronous: bool,
    /// How many nodes it waits for.
    blockers: usize,
    blocks: Vec<usize>,
    blocked_by: Vec<usize>,
    /// Blocks an output.
    near: bool,
    /// Blocks a node that blocks an output.
    far: bool,
    state: State,
    /// The ready set that it is in.
    rank: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Staged,
    Gone,
}

impl ExecutionList {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes still have to run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when everything has run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a node and everything that it depends on: links into nodes without results, but not links of lazy inputs.
    ///
    /// # Errors
    /// [`GraphError::NodeNotFound`] and [`GraphError::UnknownClass`]; the list is then of no further use.
    pub fn add_node(&mut self, id: &str, lookup: &Lookup<'_>) -> Result<(), GraphError> {
        let mut found = Vec::new();
        let mut stack = vec![(id.to_owned(), id.to_owned())];
        while let Some((id, wanted_by)) = stack.pop() {
            if self.waiting.contains_key(&id) {
                continue;
            }
            let Some(node) = lookup.prompt.get(&id) else {
                return Err(GraphError::NodeNotFound { node: id, wanted_by });
            };
            let Some(definition) = lookup.definitions.get(&node.class_type) else {
                return Err(GraphError::UnknownClass { node: id, class: node.class_type.clone() });
            };
            self.insert(&id, definition.output_node, definition.asynchronous);
            for link in links(node, definition) {
                if !link.lazy && !(lookup.is_cached)(link.source) {
                    stack.push((link.source.to_owned(), id.clone()));
                    found.push((link.source.to_owned(), id.clone()));
                }
            }
        }
        for (from, to) in found {
            if let (Some(from), Some(to)) = (self.waiting.get(&from), self.waiting.get(&to)) {
                self.link(*from, *to);
            }
        }
        Ok(())
    }

    /// Makes `to` wait for `from`, unless `from` has results already.
    ///
    /// # Errors
    /// As [`ExecutionList::add_node`].
    pub fn add_strong_link(&mut self, from: &str, to: &str, lookup: &Lookup<'_>) -> Result<(), GraphError> {
        if (lookup.is_cached)(from) {
            return Ok(());
        }
        if !lookup.prompt.contains(from) {
            return Err(GraphError::NodeNotFound { node: from.to_owned(), wanted_by: to.to_owned() });
        }
        self.add_node(to, lookup)?;
        self.add_node(from, lookup)?;
        if let (Some(from), Some(to)) = (self.waiting.get(from), self.waiting.get(to)) {
            self.link(*from, *to);
        }
        Ok(())
    }

    /// Makes a node wait for an input that it asked for.
    ///
    /// # Errors
    /// [`GraphError::InputAbsent`] and [`GraphError::InputConstant`] when there is nothing to wait for; else as
    /// [`ExecutionList::add_node`].
    pub fn need_input(&mut self, id: &str, input: &str, lookup: &Lookup<'_>) -> Result<(), GraphError> {
        let fault = || (id.to_owned(), input.to_owned());
        let Some(value) = lookup.prompt.get(id).and_then(|node| node.inputs.get(input)) else {
            let (node, input) = fault();
            return Err(GraphError::InputAbsent { node, input });
        };
        let Some((from, _)) = as_link_ref(value) else {
            let (node, input) = fault();
            return Err(GraphError::InputConstant { node, input });
        };
        self.add_strong_link(from, id, lookup)
    }

    /// Schedules what [`DynamicPrompt::expand`] added: the output nodes among it, and the nodes whose outputs become the
    /// results of `parent`, which then waits for them.
    ///
    /// # Errors
    /// As [`ExecutionList::add_node`].
    pub fn add_expansion(
        &mut self,
        parent: &str,
        added: &[String],
        results: &[Link],
        lookup: &Lookup<'_>,
    ) -> Result<(), GraphError> {
        for id in added {
            let Some(node) = lookup.prompt.get(id) else { continue };
            let Some(definition) = lookup.definitions.get(&node.class_type) else {
                return Err(GraphError::UnknownClass { node: id.clone(), class: node.class_type.clone() });
            };
            if definition.output_node {
                self.add_node(id, lookup)?;
            }
        }
        for link in results {
            self.add_strong_link(&link.node, parent, lookup)?;
        }
        Ok(())
    }

    /// Picks the next node. Several may be running at once.
    pub fn stage_next(&mut self, prompt: &DynamicPrompt) -> Step {
        if let Some(index) = self.ready.iter().find_map(|set| set.first().copied()) {
            self.entries[index].state = State::Staged;
            self.staged += 1;
            self.place(index);
            return Step::Run(self.entries[index].id.clone());
        }
        if self.is_empty() {
            Step::Done
        } else if self.staged > 0 {
            Step::Wait
        } else {
            Step::Cycle(self.find_cycle(prompt))
        }
    }

    /// The nodes that are ready, in the order in which they would be picked; those that are output nodes or run beside
    /// others left out.
    pub fn ready(&self) -> impl Iterator<Item = &str> {
        self.ready.iter().skip(1).flatten().map(|index| self.entries[*index].id.as_str())
    }

    /// The nodes that would be ready if what is `assumed`, a node among it, had run. None of them runs already.
    pub fn unlocked_by(&self, id: &str, assumed: impl Fn(&str) -> bool) -> Vec<&str> {
        let Some(index) = self.waiting.get(id) else { return Vec::new() };
        let has_run = |index: &usize| {
            let entry = &self.entries[*index];
            entry.state == State::Gone || assumed(&entry.id)
        };
        let blocked = self.entries[*index].blocks.iter().map(|blocked| &self.entries[*blocked]);
        let unlocked = blocked.filter(|entry| entry.state == State::Waiting && entry.blocked_by.iter().all(has_run));
        unlocked.map(|entry| entry.id.as_str()).collect()
    }

    /// Puts a running node back: it will be picked again once everything that it waits for by then has run.
    pub fn unstage(&mut self, id: &str) {
        if let Some(index) = self.staged_index(id) {
            self.staged -= 1;
            self.entries[index].state = State::Waiting;
            self.place(index);
        }
    }

    /// A running node is done; others need no longer wait for it.
    pub fn complete(&mut self, id: &str) {
        let Some(index) = self.staged_index(id) else { return };
        self.staged -= 1;
        self.entries[index].state = State::Gone;
        self.waiting.remove(id);
        for blocked in std::mem::take(&mut self.entries[index].blocks) {
            self.entries[blocked].blockers -= 1;
            self.edges.remove(&(index, blocked));
            self.place(blocked);
        }
    }

    fn staged_index(&self, id: &str) -> Option<usize> {
        let index = *self.waiting.get(id)?;
        (self.entries[index].state == State::Staged).then_some(index)
    }

    fn insert(&mut self, id: &str, output: bool, asynchronous: bool) {
        let index = self.entries.len();
        self.entries.push(Entry {
            id: id.to_owned(),
            output,
            asynchronous,
            blockers: 0,
            blocks: Vec::new(),
            blocked_by: Vec::new(),
            near: false,
            far: false,
            state: State::Waiting,
            rank: None,
        });
        self.waiting.insert(id.to_owned(), index);
        self.place(index);
    }

    fn link(&mut self, from: usize, to: usize) {
        if !self.edges.insert((from, to)) {
            return;
        }
        self.entries[from].blocks.push(to);
        self.entries[to].blocked_by.push(from);
        self.entries[to].blockers += 1;
        self.place(to);
        if self.entries[to].near && !self.entries[from].far {
            self.entries[from].far = true;
            self.place(from);
        }
        if self.entries[to].output && !self.entries[from].near {
            self.entries[from].near = true;
            self.place(from);
            for position in 0..self.entries[from].blocked_by.len() {
                let behind = self.entries[from].blocked_by[position];
                self.entries[behind].far = true;
                self.place(behind);
            }
        }
    }

    /// Puts a node into the ready set where it belongs now, if any.
    fn place(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        let ready = entry.state == State::Waiting && entry.blockers == 0;
        let rank = ready.then_some(match entry {
            Entry { output: true, .. } | Entry { asynchronous: true, .. } => 0,
            Entry { near: true, .. } => 1,
            Entry { far: true, .. } => 2,
            _ => 3,
        });
        let old = std::mem::replace(&mut entry.rank, rank);
        if old == rank {
            return;
        }
        if let Some(old) = old {
            self.ready[old].remove(&index);
        }
        if let Some(rank) = rank {
            self.ready[rank].insert(index);
        }
    }

    /// Called when every node waits for another one that waits: going from one to the next must come round.
    fn find_cycle(&self, prompt: &DynamicPrompt) -> DependencyCycle {
        let mut path = Vec::new();
        let mut position = HashMap::new();
        let mut current = self.entries.iter().position(|entry| entry.state == State::Waiting);
        while let Some(index) = current {
            if let Some(start) = position.insert(index, path.len()) {
                path.drain(..start);
                break;
            }
            path.push(index);
            let blockers = &self.entries[index].blocked_by;
            current = blockers.iter().copied().find(|blocker| self.entries[*blocker].state == State::Waiting);
        }
        let mut by_age = path.clone();
        by_age.sort_unstable();
        let id = |index: &usize| self.entries[*index].id.as_str();
        let shown_elsewhere = by_age.iter().map(id).find(|id| prompt.display_id(id) != *id);
        let blamed = match shown_elsewhere {
            Some(id) => prompt.display_id(id),
            None => by_age.first().map_or("", id),
        };
        DependencyCycle {
            blamed: prompt.real_id(blamed).to_owned(),
            nodes: path.iter().rev().map(|index| id(index).to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
