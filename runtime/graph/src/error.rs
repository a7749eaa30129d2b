//! What can go wrong with a graph while it runs. Each ends the prompt and is blamed on one node.

/// A fault in the graph itself, found while it runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A link leads to a node that does not exist.
    #[error("Node {wanted_by} has a link to node {node}, which is not in the prompt")]
    NodeNotFound {
        /// The node that is missing.
        node: String,
        /// The node with the link.
        wanted_by: String,
    },
    /// A node, made by an expansion, is of a class that does not exist.
    #[error("Node {node} is of class {class}, which does not exist; install the pack that offers it")]
    UnknownClass {
        /// The node.
        node: String,
        /// Its class.
        class: String,
    },
    /// A node asks for an input that the prompt does not give.
    #[error("Node {node} says it needs input {input}, but there is no input to that node at all")]
    InputAbsent {
        /// The node.
        node: String,
        /// The input.
        input: String,
    },
    /// A node asks to compute an input that is a constant.
    #[error("Node {node} says it needs input {input}, but that value is a constant")]
    InputConstant {
        /// The node.
        node: String,
        /// The input.
        input: String,
    },
    /// An expansion uses an id twice.
    #[error(
        "The expansion of node {parent} adds a node {node}, but that id is taken; ids in expansions must be unique"
    )]
    DuplicateNode {
        /// The id.
        node: String,
        /// The expanding node.
        parent: String,
    },
    /// Expansions have added too much.
    #[error(
        "The expansion of node {parent} would bring this prompt to {count} added nodes; the limit is {limit} \
         (max_ephemeral_nodes); --expanded-nodes raises it"
    )]
    TooManyNodes {
        /// The expanding node.
        parent: String,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Expansions lie too deep in each other.
    #[error(
        "Node {parent} expands {depth} levels deep; the limit is {limit} (max_expansion_depth): endless recursion? \
         --expansion-depth raises it"
    )]
    TooDeep {
        /// The expanding node.
        parent: String,
        /// How deep its nodes would lie.
        depth: usize,
        /// How deep they may.
        limit: usize,
    },
}

impl GraphError {
    /// The name under which ComfyUI's clients know the fault.
    #[must_use]
    pub fn exception_type(&self) -> &'static str {
        match self {
            Self::NodeNotFound { .. } => "comfy_execution.graph.NodeNotFoundError",
            Self::UnknownClass { .. } => "KeyError",
            Self::InputAbsent { .. } | Self::InputConstant { .. } => "comfy_execution.graph.NodeInputError",
            Self::DuplicateNode { .. } => "execution.DuplicateNodeError",
            Self::TooManyNodes { .. } => "LimitExceededError",
            // As Python calls it.
            Self::TooDeep { .. } => "RecursionError",
        }
    }

    /// The node that clients should mark. It may be one that an expansion made.
    #[must_use]
    pub fn node(&self) -> &str {
        match self {
            Self::NodeNotFound { wanted_by, .. } => wanted_by,
            Self::UnknownClass { node, .. } | Self::InputAbsent { node, .. } | Self::InputConstant { node, .. } => node,
            Self::DuplicateNode { parent, .. } | Self::TooManyNodes { parent, .. } | Self::TooDeep { parent, .. } => {
                parent
            }
        }
    }
}
