//! A prompt that grows while it runs: nodes may answer with a graph that takes their place.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;
use vivarium_protocol::prompt::{Prompt, PromptNode, as_link_ref};

use crate::error::GraphError;
use crate::limits::GraphLimits;

/// The posted nodes, and those that expansions added ("ephemeral" ones).
#[derive(Clone, Debug)]
pub struct DynamicPrompt {
    original: Prompt,
    ephemeral: HashMap<String, Ephemeral>,
    /// The ids that each expansion added.
    expansions: Vec<Vec<String>>,
    max_ephemeral: usize,
    max_depth: usize,
}

#[derive(Clone, Debug)]
struct Ephemeral {
    node: PromptNode,
    parent: String,
    display: String,
    real: String,
    /// 1 for a node of a posted node's expansion.
    depth: usize,
    /// Its place in `expansions`.
    expansion: usize,
}

impl DynamicPrompt {
    /// A prompt that has not grown yet.
    #[must_use]
    pub fn new(original: Prompt, limits: &GraphLimits) -> Self {
        let GraphLimits { max_ephemeral_nodes: max_ephemeral, max_expansion_depth: max_depth, .. } = *limits;
        Self { original, ephemeral: HashMap::new(), expansions: Vec::new(), max_ephemeral, max_depth }
    }

    /// The posted nodes.
    #[must_use]
    pub fn original(&self) -> &Prompt {
        &self.original
    }

    /// A node of either kind.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&PromptNode> {
        self.ephemeral.get(id).map(|entry| &entry.node).or_else(|| self.original.get(id))
    }

    /// Every node of either kind; the posted ones first, in their order.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &PromptNode)> {
        let posted = self.original.iter().map(|(id, node)| (id.as_str(), node));
        posted.chain(self.ephemeral.iter().map(|(id, entry)| (id.as_str(), &entry.node)))
    }

    /// The part of the prompt that a node may ask about: the posted nodes in their order, those of the expansion that it is
    /// in, and whatever these link to. A loop that is made of expansions sees one round of itself, not all that went before:
    /// else a round would cost the more, the later it comes.
    #[must_use]
    pub fn seen_by(&self, id: &str) -> Vec<(&str, &PromptNode)> {
        let mut seen = Vec::with_capacity(self.original.len());
        seen.extend(self.original.iter().map(|(id, node)| (id.as_str(), node)));
        let siblings = self.ephemeral.get(id).map_or(&[][..], |entry| &self.expansions[entry.expansion]);
        let mut found: HashSet<&str> = siblings.iter().map(String::as_str).collect();
        let mut next: VecDeque<&str> = siblings.iter().map(String::as_str).collect();
        while let Some((id, entry)) = next.pop_front().and_then(|id| self.ephemeral.get_key_value(id)) {
            seen.push((id.as_str(), &entry.node));
            let sources = entry.node.inputs.values().filter_map(as_link_ref).map(|(source, _)| source);
            next.extend(sources.filter(|source| self.ephemeral.contains_key(*source) && found.insert(source)));
        }
        seen
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// How many nodes expansions have added.
    #[must_use]
    pub fn ephemeral_count(&self) -> usize {
        self.ephemeral.len()
    }

    /// Adds the nodes of an expansion of `parent`: all, or none on an error. Answers their ids in order.
    ///
    /// A node is shown at its parent, or at its `override_display_id`.
    ///
    /// # Errors
    /// [`GraphError::DuplicateNode`] when an id is taken, [`GraphError::TooManyNodes`] and [`GraphError::TooDeep`] at the
    /// limits, [`GraphError::NodeNotFound`] when there is no such parent.
    pub fn expand(&mut self, parent: &str, graph: Prompt) -> Result<Vec<String>, GraphError> {
        if !self.contains(parent) {
            return Err(GraphError::NodeNotFound { node: parent.to_owned(), wanted_by: parent.to_owned() });
        }
        if let Some(node) = graph.keys().find(|id| self.contains(id)) {
            return Err(GraphError::DuplicateNode { node: node.clone(), parent: parent.to_owned() });
        }
        let count = self.ephemeral.len() + graph.len();
        if count > self.max_ephemeral {
            return Err(GraphError::TooManyNodes { parent: parent.to_owned(), count, limit: self.max_ephemeral });
        }
        let depth = self.ephemeral.get(parent).map_or(0, |entry| entry.depth) + 1;
        if depth > self.max_depth {
            return Err(GraphError::TooDeep { parent: parent.to_owned(), depth, limit: self.max_depth });
        }
        let real = self.real_id(parent).to_owned();
        let parent_display = self.display_id(parent).to_owned();
        let mut added = Vec::with_capacity(graph.len());
        for (id, node) in graph {
            let display = match node.other.get("override_display_id").and_then(Value::as_str) {
                Some(chosen) => self.display_id(chosen).to_owned(),
                None => parent_display.clone(),
            };
            added.push(id.clone());
            let (parent, real, expansion) = (parent.to_owned(), real.clone(), self.expansions.len());
            self.ephemeral.insert(id, Ephemeral { node, parent, display, real, depth, expansion });
        }
        self.expansions.push(added.clone());
        Ok(added)
    }

    /// The node whose expansion made this one.
    #[must_use]
    pub fn parent_id(&self, id: &str) -> Option<&str> {
        self.ephemeral.get(id).map(|entry| entry.parent.as_str())
    }

    /// Where clients show the node: itself, unless an expansion made it.
    #[must_use]
    pub fn display_id<'a>(&'a self, id: &'a str) -> &'a str {
        self.ephemeral.get(id).map_or(id, |entry| &entry.display)
    }

    /// The posted node that this one stems from: itself, unless an expansion made it.
    #[must_use]
    pub fn real_id<'a>(&'a self, id: &'a str) -> &'a str {
        self.ephemeral.get(id).map_or(id, |entry| &entry.real)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::testing::{node, prompt};

    fn limits() -> GraphLimits {
        GraphLimits { max_ephemeral_nodes: 3, max_expansion_depth: 2, ..GraphLimits::default() }
    }

    fn grown() -> DynamicPrompt {
        let mut grown = DynamicPrompt::new(prompt(&[("1", "Empty", json!({})), ("2", "Invert", json!({}))]), &limits());
        let added =
            grown.expand("2", prompt(&[("2.0.0.1", "Invert", json!({})), ("2.0.0.2", "Save", json!({}))])).unwrap();
        assert_eq!(added, ["2.0.0.1", "2.0.0.2"]);
        grown
    }

    #[test]
    fn expansions_of_expansions_lead_back_to_the_posted_node() {
        let mut grown = grown();
        let mut inner = node("Invert", json!({}));
        inner.other.insert("override_display_id".to_owned(), json!("1"));
        grown.expand("2.0.0.1", [("deep".to_owned(), inner)].into_iter().collect()).unwrap();
        assert_eq!(grown.parent_id("deep"), Some("2.0.0.1"));
        assert_eq!((grown.real_id("deep"), grown.display_id("deep")), ("2", "1"));
        assert_eq!((grown.real_id("2.0.0.2"), grown.display_id("2.0.0.2")), ("2", "2"));
        assert_eq!((grown.real_id("1"), grown.display_id("1"), grown.parent_id("1")), ("1", "1", None));
        assert_eq!(grown.original().len(), 2);
        assert_eq!(grown.get("2.0.0.2").unwrap().class_type, "Save");
    }

    #[test]
    fn a_refused_expansion_adds_nothing() {
        let mut grown = grown();
        for taken in ["1", "2.0.0.1"] {
            let error =
                grown.expand("2", prompt(&[("new", "Invert", json!({})), (taken, "Invert", json!({}))])).unwrap_err();
            assert_eq!(error, GraphError::DuplicateNode { node: taken.to_owned(), parent: "2".to_owned() });
            assert!(!grown.contains("new"));
        }
        let error = grown.expand("2", prompt(&[("a", "Invert", json!({})), ("b", "Invert", json!({}))])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "The expansion of node 2 would bring this prompt to 4 added nodes; the limit is 3 (max_ephemeral_nodes); \
             --expanded-nodes raises it"
        );
        assert_eq!(grown.ephemeral_count(), 2);
        assert!(grown.expand("nobody", Prompt::new()).is_err());
    }

    #[test]
    fn what_a_round_of_a_loop_sees_does_not_grow() {
        let limits = GraphLimits::default();
        let mut grown = DynamicPrompt::new(prompt(&[("1", "Empty", json!({})), ("2", "Invert", json!({}))]), &limits);
        let mut parent = "2".to_owned();
        for round in 0..100 {
            // The first node of a round takes from the round before, the second closes the loop.
            let (body, close) = (format!("{parent}.b"), format!("{parent}.c"));
            let before = if round == 0 { "1".to_owned() } else { "outer".to_owned() };
            let mut nodes = vec![
                (body.as_str(), "Invert", json!({"image": [before, 0]})),
                (close.as_str(), "Save", json!({"images": [body, 0]})),
            ];
            if round == 0 {
                nodes.push(("outer", "Invert", json!({})));
            }
            grown.expand(&parent, prompt(&nodes)).unwrap();
            let seen: Vec<&str> = grown.seen_by(&close).into_iter().map(|(id, _)| id).collect();
            let wanted = ["1", "2", body.as_str(), close.as_str(), "outer"];
            assert_eq!(seen, wanted, "round {round}");
            parent = close;
        }
        assert_eq!(grown.seen_by("1").len(), 2);
    }

    #[test]
    fn expansions_go_only_so_deep() {
        let mut grown = grown();
        grown.expand("2.0.0.1", prompt(&[("deeper", "Invert", json!({}))])).unwrap();
        let error = grown.expand("deeper", prompt(&[])).unwrap_err();
        assert_eq!(error.exception_type(), "RecursionError");
        assert_eq!(
            error.to_string(),
            "Node deeper expands 3 levels deep; the limit is 2 (max_expansion_depth): endless recursion? \
             --expansion-depth raises it"
        );
    }

    #[test]
    fn a_node_that_displays_as_itself_does_not_hang() {
        let mut grown = grown();
        let mut own = node("Invert", json!({}));
        own.other.insert("override_display_id".to_owned(), json!("x"));
        grown.expand("2", [("x".to_owned(), own)].into_iter().collect()).unwrap();
        assert_eq!(grown.display_id("x"), "x");
    }
}
