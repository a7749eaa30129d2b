//! Nodes that answer with a graph: the new nodes take their place, and their own outputs come from it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use vivarium_protocol::{
    definition::NodeDefinition,
    prompt::{Link, Prompt, PromptNode},
};
use vivarium_sandbox::{CallError, CallErrorKind, NodeValue};

use crate::{
    inputs::{Constants, check_count, slot},
    result::NodeResult,
};

/// A node that waits for the nodes it expanded into.
#[derive(Debug, Default)]
pub(crate) struct PendingExpansion {
    /// Every link that the outputs need.
    pub(crate) links: Vec<Link>,
    /// Call, slot, and the link that fills it.
    pub(crate) sources: Vec<(usize, usize, Link)>,
    /// The answers of all calls, with placeholders for `sources`.
    pub(crate) answers: Vec<Vec<NodeValue>>,
    pub(crate) ui: Option<Map<String, Value>>,
    pub(crate) definition: Option<Arc<NodeDefinition>>,
    /// How long the node's own calls took.
    pub(crate) took: Duration,
}

impl PendingExpansion {
    /// The outputs, now that the new nodes have run.
    pub(crate) fn resolve(&self, results: &HashMap<String, Arc<NodeResult>>) -> Result<Vec<Vec<NodeValue>>, CallError> {
        let Some(definition) = &self.definition else { return Ok(Vec::new()) };
        // A linked list spreads over the slot like the answers of several calls, so it is merged as one list.
        let mut spread: HashMap<(usize, usize), Vec<NodeValue>> = HashMap::new();
        for (call, index, link) in &self.sources {
            let list = results.get(&link.node).and_then(|result| slot(&result.slots, link.slot));
            let list = list.ok_or_else(|| {
                let message = format!(
                    "the expansion's output {index} is linked to output {} of {}, which does not exist",
                    link.slot, link.node
                );
                CallError::new(CallErrorKind::InvalidArgument, message)
            })?;
            spread.insert((*call, *index), list.clone());
        }
        let mut merged: Vec<Vec<NodeValue>> = definition.outputs.iter().map(|_| Vec::new()).collect();
        for (call, slots) in self.answers.iter().enumerate() {
            check_count(slots.len(), definition)?;
            for (index, (value, list)) in slots.iter().zip(&mut merged).enumerate() {
                match (spread.remove(&(call, index)), value) {
                    (Some(linked), _) => list.extend(linked),
                    (None, NodeValue::List(items)) if definition.outputs[index].is_list => {
                        list.extend(items.iter().cloned());
                    }
                    (None, value) => list.push(value.clone()),
                }
            }
        }
        Ok(merged)
    }
}

/// An expansion with ids that are unique in the prompt.
#[derive(Debug)]
pub(crate) struct Unfolded {
    pub(crate) graph: Prompt,
    /// Inputs of new nodes that hold tensors or objects.
    pub(crate) constants: Constants,
    /// One value per output; `Null` where `links` has an entry.
    pub(crate) slots: Vec<NodeValue>,
    /// Slot and the link that fills it.
    pub(crate) links: Vec<(usize, Link)>,
    pub(crate) ui: Option<Map<String, Value>>,
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::new(CallErrorKind::Failed, format!("the node's expansion is not valid: {}", message.into()))
}

/// A longer prefix of ids is shortened. Recursion would make them grow with every level, and all that is sent with them.
const LONGEST_PREFIX: usize = 96;

/// The node that answers with an expansion.
pub(crate) struct Base<'a> {
    pub(crate) id: &'a str,
    /// Which of its calls.
    pub(crate) call: usize,
    /// The posted node that it stems from.
    pub(crate) real: &'a str,
}

impl Base<'_> {
    /// What ids of new nodes begin with: `<node>.<call>.0.`, as ComfyUI's own builder makes them; deep in a recursion
    /// `<posted node>.<digest>.` instead. The same whenever the same graph runs, since keys of some results hold it.
    fn prefix(&self) -> String {
        let prefix = format!("{}.{}.0.", self.id, self.call);
        if prefix.len() <= LONGEST_PREFIX {
            return prefix;
        }
        let digest = hex::encode(&Sha256::digest(prefix)[..16]);
        format!("{}.{digest}.", self.real)
    }
}

/// Reads what a node answered.
pub(crate) fn unfold(base: &Base<'_>, value: NodeValue, definition: &NodeDefinition) -> Result<Unfolded, CallError> {
    let NodeValue::Map(mut parts) = value else { return Err(invalid("it is not an object")) };
    let Some(NodeValue::Map(graph)) = parts.swap_remove("graph") else {
        return Err(invalid("`graph` is not an object"));
    };
    let Some(NodeValue::List(slots)) = parts.swap_remove("slots") else {
        return Err(invalid("`slots` is not an array"));
    };
    if slots.len() != definition.outputs.len() {
        let message =
            format!("it has {} slots, but the definition has {} outputs", slots.len(), definition.outputs.len());
        return Err(invalid(message));
    }
    let ui = match parts.swap_remove("ui") {
        Some(NodeValue::Map(ui)) => Some(ui.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()),
        _ => None,
    };
    let prefix = base.prefix();
    let names: HashMap<String, String> =
        graph.keys().map(|local| (local.clone(), format!("{prefix}{local}"))).collect();
    let mut unfolded =
        Unfolded { graph: Prompt::new(), constants: Constants::new(), slots: Vec::new(), links: Vec::new(), ui };
    for (local, node) in graph {
        let name = names.get(&local).cloned().unwrap_or_default();
        let node = new_node(&name, node, &names, &mut unfolded.constants)?;
        unfolded.graph.insert(name, node);
    }
    for (index, value) in slots.into_iter().enumerate() {
        match as_slot_link(&value, &names) {
            Some(link) => {
                unfolded.links.push((index, link));
                unfolded.slots.push(NodeValue::Null);
            }
            None => unfolded.slots.push(value),
        }
    }
    Ok(unfolded)
}

fn new_node(
    name: &str,
    node: NodeValue,
    names: &HashMap<String, String>,
    constants: &mut Constants,
) -> Result<PromptNode, CallError> {
    let NodeValue::Map(mut fields) = node else { return Err(invalid(format!("node {name} is not an object"))) };
    let Some(NodeValue::String(class_type)) = fields.swap_remove("class_type") else {
        return Err(invalid(format!("node {name} has no class_type")));
    };
    let inputs = match fields.swap_remove("inputs") {
        Some(NodeValue::Map(inputs)) => inputs,
        None => indexmap::IndexMap::new(),
        Some(_) => return Err(invalid(format!("the inputs of node {name} are not an object"))),
    };
    let mut json = Map::new();
    for (input, value) in inputs {
        let written = match array_link(&value, names) {
            Some(link) => link.to_value(),
            None if !value.is_json() => {
                constants.entry(name.to_owned()).or_default().insert(input.clone(), value);
                Value::Null
            }
            None => value.to_json(),
        };
        json.insert(input, written);
    }
    let other = fields.iter().map(|(key, value)| (key.clone(), value.to_json())).collect();
    Ok(PromptNode { class_type: class_type.to_string(), inputs: json, other })
}

/// `[node, slot]`; the node is one of the new ones or one of the prompt.
fn array_link(value: &NodeValue, names: &HashMap<String, String>) -> Option<Link> {
    let NodeValue::List(items) = value else { return None };
    let [NodeValue::String(node), NodeValue::Number(slot)] = items.as_slice() else { return None };
    let node = names.get(&**node).cloned().unwrap_or_else(|| node.to_string());
    Some(Link { node, slot: slot.as_i64()? })
}

/// `{"$link": [node, slot]}` in the slots.
fn as_slot_link(value: &NodeValue, names: &HashMap<String, String>) -> Option<Link> {
    match value {
        NodeValue::Link(node, slot) => {
            let node = names.get(&**node).cloned().unwrap_or_else(|| node.to_string());
            Some(Link { node, slot: *slot })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_grow_with_the_depth_and_are_the_same_each_time() {
        let ids = || {
            let (mut id, mut ids) = ("12".to_owned(), Vec::new());
            for call in 0..1000 {
                let prefix = Base { id: &id, call: call % 3, real: "12" }.prefix();
                id = format!("{prefix}Recurse");
                ids.push(id.clone());
            }
            ids
        };
        let first = ids();
        assert_eq!(first[..2], ["12.0.0.Recurse", "12.0.0.Recurse.1.0.Recurse"]);
        assert!(first.iter().all(|id| id.len() <= LONGEST_PREFIX + "Recurse".len() && id.starts_with("12.")));
        assert_eq!(first.iter().collect::<std::collections::HashSet<_>>().len(), first.len());
        assert_eq!(first, ids());
    }
}
