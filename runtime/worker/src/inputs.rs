//! From a node's links and constants to the calls of a guest, and from the guest's answers to lists of values.
//!
//! Every value between nodes is a list. A node is called once per element; shorter lists repeat their last element
//! (ComfyUI's rule). `input_is_list` classes are called once with the lists themselves.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use serde_json::{Map, Value};
use vivarium_graph::{DynamicPrompt, links};
use vivarium_protocol::{
    definition::{InputDefinition, NodeDefinition, Section},
    prompt::{PromptNode, as_link},
};
use vivarium_sandbox::{CallError, CallErrorKind, NodeValue, Outcome};

/// A node's inputs as lists.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) lists: IndexMap<String, Vec<NodeValue>>,
    /// Linked inputs whose source has no result yet: lazy ones.
    pub(crate) missing: HashSet<String>,
}

/// What hidden inputs are filled with.
pub(crate) struct HiddenValues<'a> {
    pub(crate) prompt: &'a DynamicPrompt,
    /// The prompt with its members in the client's order, since pictures keep it.
    pub(crate) sent: &'a Value,
    pub(crate) extra_data: &'a Map<String, Value>,
    /// Constants of ephemeral nodes that are no plain JSON.
    pub(crate) constants: &'a Constants,
}

/// By node and input: what an expansion gave to its nodes that JSON cannot hold.
pub(crate) type Constants = HashMap<String, IndexMap<String, NodeValue>>;

/// Collects the inputs of a node.
pub(crate) fn gather<'r>(
    id: &str,
    definition: &NodeDefinition,
    results: &dyn Fn(&str) -> Option<&'r Vec<Vec<NodeValue>>>,
    hidden: &HiddenValues<'_>,
) -> Result<Gathered, CallError> {
    let mut gathered = Gathered::default();
    let Some(node) = hidden.prompt.get(id) else { return Ok(gathered) };
    let constants = hidden.constants.get(id);
    for (name, value) in &node.inputs {
        let declared = definition.input(name);
        if !links::counts(declared, definition) {
            continue;
        }
        if let Some(constant) = constants.and_then(|constants| constants.get(name)) {
            gathered.lists.insert(name.clone(), vec![constant.clone()]);
        } else if let Some(link) = as_link(value).filter(|_| !declared.is_some_and(InputDefinition::is_raw_link)) {
            match results(&link.node) {
                Some(slots) => {
                    let list = slot(slots, link.slot).ok_or_else(|| no_slot(name, &link.node, link.slot))?;
                    gathered.lists.insert(name.clone(), list.clone());
                }
                None => {
                    gathered.missing.insert(name.clone());
                    gathered.lists.insert(name.clone(), vec![NodeValue::Null]);
                }
            }
        } else if declared.is_some() {
            gathered.lists.insert(name.clone(), vec![NodeValue::from_json(value)]);
        }
    }
    fill_hidden(id, definition, hidden, &mut gathered);
    Ok(gathered)
}

fn no_slot(input: &str, node: &str, slot: i64) -> CallError {
    CallError::new(
        CallErrorKind::InvalidArgument,
        format!("input {input} is linked to output {slot} of node {node}, which does not exist"),
    )
}

fn fill_hidden(id: &str, definition: &NodeDefinition, hidden: &HiddenValues<'_>, gathered: &mut Gathered) {
    for input in definition.inputs.iter().filter(|input| input.section == Section::Hidden) {
        let value = match input.input_type.as_str() {
            "UNIQUE_ID" => NodeValue::String(id.into()),
            "PROMPT" => NodeValue::from_json(hidden.sent),
            "DYNPROMPT" => hidden.live_graph(id),
            "EXTRA_PNGINFO" => hidden.extra_data.get("extra_pnginfo").map_or(NodeValue::Null, NodeValue::from_json),
            // Tokens are withheld: no permission grants them yet.
            "AUTH_TOKEN_COMFY_ORG" | "API_KEY_COMFY_ORG" => NodeValue::Null,
            // An ordinary input under `hidden`, which no user interface shows and expansions set.
            _ => match hidden.constant(id, &input.name) {
                Some(value) => value,
                None => continue,
            },
        };
        gathered.lists.insert(input.name.clone(), vec![value]);
    }
}

impl HiddenValues<'_> {
    fn constant(&self, id: &str, input: &str) -> Option<NodeValue> {
        let special = self.constants.get(id).and_then(|constants| constants.get(input));
        special.cloned().or_else(|| self.prompt.get(id)?.inputs.get(input).map(NodeValue::from_json))
    }

    /// The part of the graph that a node sees, with all that its nodes were given.
    fn live_graph(&self, id: &str) -> NodeValue {
        let node = |(id, node): (&str, &PromptNode)| {
            let mut value = NodeValue::from_json(&serde_json::to_value(node).unwrap_or_default());
            if let (Some(constants), NodeValue::Map(fields)) = (self.constants.get(id), &mut value)
                && let Some(NodeValue::Map(inputs)) = fields.get_mut("inputs")
            {
                inputs.extend(constants.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            (id.to_owned(), value)
        };
        NodeValue::Map(self.prompt.seen_by(id).into_iter().map(node).collect())
    }
}

/// The values of an output; a negative slot counts from the end.
pub(crate) fn slot(slots: &[Vec<NodeValue>], index: i64) -> Option<&Vec<NodeValue>> {
    slots.get(links::slot_index(index, slots.len())?)
}

/// The inputs of each call.
pub(crate) fn calls(gathered: &Gathered, definition: &NodeDefinition) -> Vec<IndexMap<String, NodeValue>> {
    if definition.input_is_list {
        let whole = |(name, list): (&String, &Vec<NodeValue>)| (name.clone(), NodeValue::List(list.clone()));
        return vec![gathered.lists.iter().map(whole).collect()];
    }
    let count = gathered.lists.values().map(Vec::len).max().unwrap_or(1).max(1);
    (0..count)
        .map(|index| {
            let element = |(name, list): (&String, &Vec<NodeValue>)| {
                // An empty list makes its input vanish.
                Some((name.clone(), list.get(index).or(list.last())?.clone()))
            };
            gathered.lists.iter().filter_map(element).collect()
        })
        .collect()
}

/// The blocker that a call would receive, if it would receive one.
pub(crate) fn blocker(inputs: &IndexMap<String, NodeValue>, input_is_list: bool) -> Option<NodeValue> {
    inputs
        .values()
        .find_map(|value| match value {
            NodeValue::Blocked(_) => Some(value),
            NodeValue::List(items) if input_is_list => items.iter().find(|item| item.as_blocked().is_some()),
            _ => None,
        })
        .cloned()
}

/// A node answers one value per output.
pub(crate) fn check_count(answered: usize, definition: &NodeDefinition) -> Result<(), CallError> {
    let declared = definition.outputs.len();
    if answered == declared {
        return Ok(());
    }
    let message = format!("the node answered {answered} outputs, but its definition has {declared}");
    Err(CallError::new(CallErrorKind::Failed, message))
}

/// Puts the answers of several calls together. One entry of `calls` per call: a value per slot.
pub(crate) fn merge_slots(
    calls: Vec<Vec<NodeValue>>,
    definition: &NodeDefinition,
) -> Result<Vec<Vec<NodeValue>>, CallError> {
    let mut merged: Vec<Vec<NodeValue>> = definition.outputs.iter().map(|_| Vec::new()).collect();
    for slots in calls {
        check_count(slots.len(), definition)?;
        for ((value, output), list) in slots.into_iter().zip(&definition.outputs).zip(&mut merged) {
            match value {
                NodeValue::List(items) if output.is_list => list.extend(items),
                value @ NodeValue::Blocked(_) => list.push(value),
                value if output.is_list => {
                    let message = format!(
                        "output {} is declared as a list, but the node answered {}",
                        output.name,
                        value.summary()
                    );
                    return Err(CallError::new(CallErrorKind::Failed, message));
                }
                value => list.push(value),
            }
        }
    }
    Ok(merged)
}

/// Puts the `ui` of several calls together: lists of the same key are joined.
pub(crate) fn merge_ui(merged: &mut Option<Map<String, Value>>, ui: Option<Map<String, Value>>) {
    let Some(ui) = ui else { return };
    let Some(merged) = merged else {
        *merged = Some(ui);
        return;
    };
    for (key, value) in ui {
        match (merged.get_mut(&key), value) {
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
            (Some(_), _) => {}
            (None, value) => {
                merged.insert(key, value);
            }
        }
    }
}

/// One blocker for every slot.
pub(crate) fn all_blocked(definition: &NodeDefinition, blocker: &NodeValue) -> Vec<NodeValue> {
    definition.outputs.iter().map(|_| blocker.clone()).collect()
}

/// One value per slot, and the `ui` of the call.
pub(crate) type Answered = (Vec<NodeValue>, Option<Map<String, Value>>);

/// The slots and the `ui` of a call, or the expansion that it answered instead.
pub(crate) fn plain_slots(outcome: Outcome, definition: &NodeDefinition) -> Result<Answered, Box<NodeValue>> {
    match outcome {
        Outcome::Outputs { slots, ui } => Ok((slots, ui)),
        Outcome::Blocked(message) => Ok((all_blocked(definition, &NodeValue::Blocked(message)), None)),
        Outcome::Expansion(graph) => Err(Box::new(graph)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use vivarium_protocol::definition::OutputDefinition;

    use super::*;

    fn numbers(values: &[i64]) -> Vec<NodeValue> {
        values.iter().map(|&value| NodeValue::from_json(&json!(value))).collect()
    }

    fn shown(value: &NodeValue) -> Value {
        match value {
            NodeValue::List(items) => items.iter().map(shown).collect(),
            other => other.summary(),
        }
    }

    fn definition(is_list: bool) -> NodeDefinition {
        let mut definition: NodeDefinition =
            serde_json::from_value(json!({"class_type": "X", "display_name": "X", "category": "x"})).unwrap();
        definition.outputs =
            vec![OutputDefinition { name: "A".into(), output_type: "INT".into(), is_list, tooltip: None }];
        definition
    }

    #[test]
    fn shorter_lists_repeat_their_last_element_and_empty_ones_vanish() {
        let gathered = Gathered {
            lists: IndexMap::from([
                ("a".to_owned(), numbers(&[1, 2, 3])),
                ("b".to_owned(), numbers(&[7, 8])),
                ("c".to_owned(), numbers(&[])),
            ]),
            missing: HashSet::new(),
        };
        let calls = calls(&gathered, &definition(false));
        let shown: Vec<Vec<Value>> = calls.iter().map(|call| call.values().map(shown).collect()).collect();
        assert_eq!(json!(shown), json!([[1, 7], [2, 8], [3, 8]]));
    }

    #[test]
    fn list_outputs_are_joined_over_calls() {
        let calls = vec![
            vec![NodeValue::List(numbers(&[1, 2]))],
            vec![NodeValue::List(numbers(&[3]))],
            vec![NodeValue::Blocked(None)],
        ];
        let merged = merge_slots(calls, &definition(true)).unwrap();
        assert_eq!(merged[0].len(), 4);
        assert!(merged[0][3].as_blocked().is_some());
        assert!(merge_slots(vec![numbers(&[1])], &definition(true)).is_err());
        assert!(merge_slots(vec![numbers(&[1, 2])], &definition(false)).is_err());
    }

    #[test]
    fn ui_lists_of_several_calls_are_joined() {
        let ui = |file: &str| json!({"images": [file], "animated": [false]}).as_object().cloned();
        let mut merged = None;
        merge_ui(&mut merged, ui("a"));
        merge_ui(&mut merged, None);
        merge_ui(&mut merged, ui("b"));
        assert_eq!(Value::Object(merged.unwrap()), json!({"images": ["a", "b"], "animated": [false, false]}));
    }

    #[test]
    fn a_negative_slot_counts_from_the_end() {
        let slots = vec![numbers(&[1]), numbers(&[2])];
        assert_eq!(slot(&slots, -1).unwrap().len(), 1);
        assert!(slot(&slots, 2).is_none() && slot(&slots, -3).is_none() && slot(&slots, i64::MIN).is_none());
    }
}
