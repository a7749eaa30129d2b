//! How large a prompt may be. The defaults are far above what people draw and far below what hurts.

/// Bounds on prompts. All of them are about the server's memory and time; none is a matter of taste.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphLimits {
    /// Nodes in a posted prompt. Default 100 000.
    pub max_nodes: usize,
    /// How deep values in a prompt may nest. Default 128.
    pub max_depth: usize,
    /// Nodes that expansions may add to one prompt. Default 100 000.
    pub max_ephemeral_nodes: usize,
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
            max_reported_nodes: 1_000,
            max_dependent_outputs: 100,
        }
    }
}
