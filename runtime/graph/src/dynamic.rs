//! A prompt that grows while it runs: nodes may answer with a graph that takes their place.

use std::collections::HashMap;

use serde_json::Value;
use vivarium_protocol::prompt::{Prompt, PromptNode};

use crate::error::GraphError;

/// The posted nodes, and those that expansions added ("ephemeral" ones).
#[derive(Clone, Debug)]
pub struct DynamicPrompt {
    original: Prompt,
    ephemeral: HashMap<String, Ephemeral>,
    max_ephemeral: usize,
}

#[derive(Clone, Debug)]
struct Ephemeral {
    node: PromptNode,
    parent: String,
    display: String,
    real: String,
}

impl DynamicPrompt {
    /// A prompt that has not grown yet. Expansions may add `max_ephemeral` nodes in all.
    #[must_use]
    pub fn new(original: Prompt, max_ephemeral: usize) -> Self {
        Self { original, ephemeral: HashMap::new(), max_ephemeral }
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
    /// [`GraphError::DuplicateNode`] when an id is taken, [`GraphError::TooManyNodes`] at the limit,
    /// [`GraphError::NodeNotFound`] when there is no such parent.
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
        let real = self.real_id(parent).to_owned();
        let parent_display = self.display_id(parent).to_owned();
        let mut added = Vec::with_capacity(graph.len());
        for (id, node) in graph {
            let display = match node.other.get("override_display_id").and_then(Value::as_str) {
                Some(chosen) => self.display_id(chosen).to_owned(),
                None => parent_display.clone(),
            };
            added.push(id.clone());
            self.ephemeral.insert(id, Ephemeral { node, parent: parent.to_owned(), display, real: real.clone() });
        }
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

    fn grown() -> DynamicPrompt {
        let mut grown = DynamicPrompt::new(prompt(&[("1", "Empty", json!({})), ("2", "Invert", json!({}))]), 3);
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
            "The expansion of node 2 would bring this prompt to 4 added nodes; the limit is 3"
        );
        assert_eq!(grown.ephemeral_count(), 2);
        assert!(grown.expand("nobody", Prompt::new()).is_err());
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
