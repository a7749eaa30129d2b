//! Which links of a node count.
//!
//! The link of a declared input counts. The link of an undeclared one counts only for classes that take undeclared inputs:
//! elsewhere nobody could receive the value, and ComfyUI would only fail later. Inputs that the host fills in never count,
//! whatever a client sends under their name.

use serde_json::Value;
use vivarium_protocol::definition::{InputDefinition, NodeDefinition, Section};
use vivarium_protocol::prompt::{PromptNode, as_link_ref};

/// A link of a node, as it stands in the prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeLink<'a> {
    /// The input that it feeds.
    pub input: &'a str,
    /// The node that makes the value.
    pub source: &'a str,
    /// Which of its outputs; negative ones count from the end.
    pub slot: i64,
    /// Followed only after the node asked for it.
    pub lazy: bool,
}

/// The links of a node that count, in the order of the prompt.
pub fn links<'a>(node: &'a PromptNode, definition: &'a NodeDefinition) -> impl Iterator<Item = NodeLink<'a>> {
    node.inputs.iter().filter_map(|(name, value)| link(name, value, definition))
}

fn link<'a>(name: &'a str, value: &'a Value, definition: &NodeDefinition) -> Option<NodeLink<'a>> {
    let (source, slot) = as_link_ref(value)?;
    let declared = definition.input(name);
    if !counts(declared, definition) {
        return None;
    }
    let lazy = definition.has_needed_inputs && declared.is_some_and(InputDefinition::is_lazy);
    Some(NodeLink { input: name, source, slot, lazy })
}

/// Whether a value under this input can reach the node at all.
#[must_use]
pub fn counts(declared: Option<&InputDefinition>, definition: &NodeDefinition) -> bool {
    match declared {
        Some(input) => input.section != Section::Hidden,
        None => definition.accepts_undeclared,
    }
}

/// Turns a slot as written into an index, counting negative ones from the end.
#[must_use]
pub fn slot_index(slot: i64, outputs: usize) -> Option<usize> {
    let magnitude = usize::try_from(slot.unsigned_abs()).ok()?;
    let index = if slot < 0 { outputs.checked_sub(magnitude)? } else { magnitude };
    (index < outputs).then_some(index)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::testing::{definitions, node};

    #[test]
    fn only_links_that_can_reach_the_node_count() {
        let definitions = definitions();
        let inputs = json!({"image": ["1", 0], "constant": 3, "other": ["2", 1], "unique_id": ["3", 0]});
        let names = |class: &str| -> Vec<String> {
            links(&node(class, inputs.clone()), &definitions[class]).map(|link| link.input.to_owned()).collect()
        };
        assert_eq!(names("Invert"), ["image"]);
        assert_eq!(names("Variadic"), ["image", "other"]);
    }

    #[test]
    fn slots_count_from_both_ends() {
        assert_eq!(slot_index(1, 2), Some(1));
        assert_eq!(slot_index(-2, 2), Some(0));
        assert_eq!(slot_index(2, 2), None);
        assert_eq!(slot_index(-3, 2), None);
        assert_eq!(slot_index(i64::MIN, 2), None);
        assert_eq!(slot_index(0, 0), None);
    }
}
