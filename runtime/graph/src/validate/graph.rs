//! The posted nodes, their shapes and classes checked.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use vivarium_protocol::definition::NodeDefinition;
use vivarium_protocol::error::PromptError;
use vivarium_protocol::prompt::kind;
use vivarium_protocol::python_json;

use crate::definitions::Definitions;
use crate::limits::GraphLimits;

/// A posted node of a known class.
pub(super) struct PostedNode<'a> {
    pub(super) id: &'a str,
    pub(super) definition: &'a NodeDefinition,
    /// Absent when the client left them out, which is an error only where the node is used.
    pub(super) inputs: Option<&'a Map<String, Value>>,
}

/// All nodes, in prompt order.
pub(super) struct PostedGraph<'a> {
    pub(super) nodes: Vec<PostedNode<'a>>,
    pub(super) by_id: HashMap<&'a str, usize>,
}

/// A value that replaces the one of an input.
pub(super) struct Conversion {
    /// The id of the node.
    pub(super) node: String,
    pub(super) input: String,
    pub(super) value: Value,
}

impl Conversion {
    /// Replaces the value; no key moves.
    pub(super) fn apply(self, prompt: &mut Value) {
        let inputs = prompt.get_mut(&self.node).and_then(|node| node.get_mut("inputs"));
        if let Some(slot) = inputs.and_then(|inputs| inputs.get_mut(&self.input)) {
            *slot = self.value;
        }
    }
}

impl<'a> PostedGraph<'a> {
    pub(super) fn read(
        prompt: &'a Value,
        definitions: &'a dyn Definitions,
        limits: &GraphLimits,
    ) -> Result<Self, PromptError> {
        let Some(posted) = prompt.as_object() else {
            let details = format!("prompt must be an object from node id to node, not {}", kind(prompt));
            return Err(PromptError::new("invalid_prompt", "The prompt has the wrong shape", details));
        };
        if posted.len() > limits.max_nodes {
            let details = format!(
                "the prompt has {} nodes; the limit is {} (max_nodes); split the workflow, or --prompt-nodes raises it",
                posted.len(),
                limits.max_nodes
            );
            return Err(PromptError::new("prompt_too_large", "The prompt has too many nodes", details));
        }
        let mut nodes = Vec::with_capacity(posted.len());
        let mut by_id = HashMap::with_capacity(posted.len());
        for (id, node) in posted {
            by_id.insert(id.as_str(), nodes.len());
            nodes.push(read_node(id, node, definitions)?);
        }
        Ok(Self { nodes, by_id })
    }

    /// The output nodes that count, in prompt order.
    pub(super) fn outputs(&self, targets: Option<&HashSet<&str>>) -> Vec<usize> {
        let counts = |node: &PostedNode<'_>| {
            node.definition.output_node && targets.is_none_or(|targets| targets.contains(node.id))
        };
        (0..self.nodes.len()).filter(|index| counts(&self.nodes[*index])).collect()
    }
}

fn read_node<'a>(
    id: &'a str,
    node: &'a Value,
    definitions: &'a dyn Definitions,
) -> Result<PostedNode<'a>, PromptError> {
    let refused = |message: String| Err(PromptError::new("invalid_prompt", message, format!("Node ID '#{id}'")));
    let Some(node) = node.as_object() else {
        return refused(format!("Cannot execute because a node is {} and not an object.", kind(node)));
    };
    let Some(class) = node.get("class_type") else {
        return refused("Cannot execute because a node is missing the class_type property.".to_owned());
    };
    let Some(definition) = class.as_str().and_then(|class| definitions.get(class)) else {
        let shown: String = python_json::str(class).chars().take(200).collect();
        return refused(format!("Cannot execute because node {shown} does not exist."));
    };
    let inputs = match node.get("inputs") {
        None => None,
        Some(Value::Object(inputs)) => Some(inputs),
        Some(other) => {
            return refused(format!(
                "Cannot execute because the inputs of a node are {} and not an object.",
                kind(other)
            ));
        }
    };
    Ok(PostedNode { id, definition, inputs })
}
