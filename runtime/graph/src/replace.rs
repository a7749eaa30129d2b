//! Nodes of classes that are gone get the class that took their place, before a prompt is checked.

use std::collections::HashMap;

use serde_json::{Map, Value};
use vivarium_protocol::{
    prompt::as_link_ref,
    replacement::{InputMapping, Replacement, Replacements},
};

/// Exchanges nodes of a prompt whose class is unknown and has a replacement that is known. What is no prompt stays as it is:
/// saying so is the business of [`crate::validate()`].
pub fn replace_classes(prompt: &mut Value, replacements: &Replacements, is_known: impl Fn(&str) -> bool) {
    let Some(nodes) = prompt.as_object_mut().filter(|_| !replacements.is_empty()) else { return };
    let mut replaced: HashMap<String, &Replacement> = HashMap::new();
    for (id, node) in nodes.iter_mut() {
        let Some(class) = node.get("class_type").and_then(Value::as_str).filter(|class| !is_known(class)) else {
            continue;
        };
        let candidates = replacements.get(class).into_iter().flatten();
        let Some(replacement) = candidates.into_iter().find(|candidate| is_known(&candidate.new_node_id)) else {
            continue;
        };
        exchange(node, replacement);
        replaced.insert(id.clone(), replacement);
    }
    if replaced.is_empty() {
        return;
    }
    let inputs = nodes.values_mut().filter_map(|node| node.get_mut("inputs")?.as_object_mut());
    for value in inputs.flat_map(|inputs| inputs.values_mut()) {
        relink(value, &replaced);
    }
}

fn exchange(node: &mut Value, replacement: &Replacement) {
    node["class_type"] = replacement.new_node_id.as_str().into();
    let Some(mapping) = &replacement.input_mapping else { return };
    let Some(old) = node.get("inputs").and_then(Value::as_object) else { return };
    let value_of = |InputMapping { new_id, old_id, set_value }: &InputMapping| {
        let value = set_value.clone().or_else(|| old.get(old_id.as_deref()?).cloned())?;
        Some((new_id.clone(), value))
    };
    let new: Map<String, Value> = mapping.iter().filter_map(value_of).collect();
    node["inputs"] = new.into();
}

/// Leads a link to an old output to the new one.
fn relink(value: &mut Value, replaced: &HashMap<String, &Replacement>) {
    let new_slot = as_link_ref(value).and_then(|(node, slot)| {
        let outputs = replaced.get(node)?.output_mapping.as_ref()?;
        outputs.iter().find(|output| i64::from(output.old_idx) == slot).map(|output| output.new_idx)
    });
    if let Some(slot) = new_slot {
        value[1] = slot.into();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn replacements() -> Replacements {
        serde_json::from_value(json!({"Old": [
            {"old_node_id": "Old", "new_node_id": "Missing"},
            {
                "old_node_id": "Old", "new_node_id": "New",
                "input_mapping": [
                    {"new_id": "image", "old_id": "picture"}, {"new_id": "mode", "set_value": "fast"},
                    {"new_id": "lost", "old_id": "never_there"},
                ],
                "output_mapping": [{"old_idx": 0, "new_idx": 2}],
            },
        ], "Renamed": [{"old_node_id": "Renamed", "new_node_id": "New"}]}))
        .unwrap()
    }

    fn replaced(mut prompt: Value) -> Value {
        replace_classes(&mut prompt, &replacements(), |class| matches!(class, "New" | "Known"));
        prompt
    }

    #[test]
    fn a_node_of_a_class_that_is_gone_is_exchanged_with_its_links() {
        let prompt = json!({
            "1": {"class_type": "Known", "inputs": {}},
            "2": {"class_type": "Old", "inputs": {"picture": ["1", 0], "size": 3}, "_meta": {"title": "t"}},
            "3": {"class_type": "Known", "inputs": {"a": ["2", 0], "b": ["2", 1], "c": ["1", 0]}},
            "4": {"class_type": "Renamed", "inputs": {"size": 3}},
        });
        assert_eq!(
            replaced(prompt),
            json!({
                "1": {"class_type": "Known", "inputs": {}},
                "2": {"class_type": "New", "inputs": {"image": ["1", 0], "mode": "fast"}, "_meta": {"title": "t"}},
                "3": {"class_type": "Known", "inputs": {"a": ["2", 2], "b": ["2", 1], "c": ["1", 0]}},
                "4": {"class_type": "New", "inputs": {"size": 3}},
            })
        );
    }

    #[test]
    fn what_is_known_or_no_node_stays() {
        for prompt in [
            json!({"1": {"class_type": "Known", "inputs": {"a": ["2", 0]}}, "2": {"class_type": "Nobody", "inputs": {}}}),
            json!({"1": 3, "2": null, "3": {"class_type": 4}, "last_node_id": 7}),
            json!({"1": {"class_type": "New", "inputs": []}}),
            json!([1]),
            json!(null),
        ] {
            assert_eq!(replaced(prompt.clone()), prompt);
        }
        assert_eq!(replaced(json!({"1": {"class_type": "Old"}})), json!({"1": {"class_type": "New"}}));
    }
}
