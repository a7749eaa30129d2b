//! How large a prompt may be. The defaults are far above what people draw and far below what hurts.

use serde::{Deserialize, Serialize};
use vivarium_protocol::limit::LimitEntry;

/// Bounds on prompts. All of them are about the server's memory and time; none is a matter of taste.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphLimits {
    /// Nodes in a posted prompt. Default 100 000.
    pub max_nodes: usize,
    /// How deep values in a prompt may nest. Default 128.
    pub max_depth: usize,
    /// Nodes that expansions may add to one prompt. Default 100 000.
    pub max_ephemeral_nodes: usize,
    /// Expansions inside of expansions; a loop that is made of them takes one level per round. Default 10 000.
    pub max_expansion_depth: usize,
    /// Nodes whose errors are reported; those of further nodes are left out, the nodes stay invalid. Default 1 000.
    pub max_reported_nodes: usize,
    /// Entries in `dependent_outputs` of one node; further ones are left out. Default 100.
    pub max_dependent_outputs: usize,
}

impl Default for GraphLimits {
    fn default() -> Self {
        Self {
            max_nodes: 100_000,
            max_depth: 128,
            max_ephemeral_nodes: 100_000,
            max_expansion_depth: 10_000,
            max_reported_nodes: 1_000,
            max_dependent_outputs: 100,
        }
    }
}

impl GraphLimits {
    /// Every limit, in the order of the fields.
    #[must_use]
    pub fn entries(&self) -> Vec<LimitEntry> {
        let entry =
            |name, value: usize, description| LimitEntry { name, value: value as u64, unit: "count", description };
        vec![
            entry("max_nodes", self.max_nodes, "nodes of one prompt (--prompt-nodes)"),
            entry("max_depth", self.max_depth, "nesting of values in a prompt"),
            entry("max_ephemeral_nodes", self.max_ephemeral_nodes, "nodes that expansions add (--expanded-nodes)"),
            entry("max_expansion_depth", self.max_expansion_depth, "expansions in expansions (--expansion-depth)"),
            entry("max_reported_nodes", self.max_reported_nodes, "nodes whose errors are reported"),
            entry("max_dependent_outputs", self.max_dependent_outputs, "outputs listed beside a node with errors"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_listed_once() {
        let limits = GraphLimits::default();
        let shown = format!("{limits:?}");
        let entries = limits.entries();
        for entry in &entries {
            assert!(shown.contains(&format!("{}: {}", entry.name, entry.value)), "{} is not a field", entry.name);
        }
        assert_eq!(entries.len(), shown.matches(": ").count(), "a field of GraphLimits is not listed");
    }
}
