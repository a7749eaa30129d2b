//! A small set of classes and short ways to write prompts, for this crate's tests.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use vivarium_protocol::definition::{DefinitionMap, NodeDefinition};
use vivarium_protocol::prompt::{Prompt, PromptNode};

/// Classes with every feature that this crate looks at.
pub(crate) fn definitions() -> DefinitionMap {
    let image_in = json!({"name": "image", "type": "IMAGE"});
    let image_out = json!([{"name": "IMAGE", "type": "IMAGE"}]);
    let classes = json!([
        {"class_type": "Empty", "outputs": [{"name": "i", "type": "IMAGE"}, {"name": "m", "type": "MASK"}], "inputs": [
            {"name": "width", "type": "INT", "options": {"default": 512, "min": 1, "max": 16384}},
            {"name": "scale", "type": "FLOAT", "section": "optional", "options": {"min": 0.0, "max": 1.0}},
            {"name": "text", "type": "STRING", "section": "optional"},
            {"name": "flag", "type": "BOOLEAN", "section": "optional"},
            {"name": "mode", "type": "COMBO", "choices": ["a", "b", 3], "section": "optional"},
            {"name": "any", "type": "*", "section": "optional"},
        ]},
        {"class_type": "Invert", "inputs": [image_in], "outputs": image_out},
        {"class_type": "Blend", "inputs": [image_in, {"name": "image2", "type": "IMAGE,MASK"}], "outputs": image_out},
        {"class_type": "Save", "inputs": [{"name": "images", "type": "IMAGE"}], "output_node": true},
        {"class_type": "Show", "inputs": [{"name": "any", "type": "*"}], "output_node": true,
            "outputs": [{"name": "any", "type": "*"}]},
        {"class_type": "Switch", "has_needed_inputs": true, "outputs": image_out, "inputs": [
            {"name": "which", "type": "INT", "section": "optional"},
            {"name": "a", "type": "IMAGE", "section": "optional", "options": {"lazy": true}},
            {"name": "b", "type": "IMAGE", "section": "optional", "options": {"lazy": true}},
        ]},
        {"class_type": "Variadic", "accepts_undeclared": true, "outputs": image_out, "inputs": [
            {"name": "unique_id", "type": "UNIQUE_ID", "section": "hidden"},
        ]},
        {"class_type": "Load", "has_fingerprint": true, "outputs": image_out,
            "validator": {"inputs": ["file"]}, "inputs": [
                {"name": "file", "type": "COMBO", "choices": ["x.png"]},
                {"name": "n", "type": "INT", "section": "optional", "options": {"max": 5}},
        ]},
        {"class_type": "Typed", "validator": {"inputs": ["image"], "input_types": true}, "inputs": [image_in],
            "outputs": image_out, "output_node": true},
        {"class_type": "Random", "not_idempotent": true, "outputs": image_out},
    ]);
    let mut map = DefinitionMap::new();
    for mut class in classes.as_array().unwrap().clone() {
        class["display_name"] = json!("");
        class["category"] = json!("");
        let definition: NodeDefinition = serde_json::from_value(class).unwrap();
        map.insert(definition.class_type.clone(), definition);
    }
    map
}

/// One node.
pub(crate) fn node(class: &str, inputs: Value) -> PromptNode {
    serde_json::from_value(json!({"class_type": class, "inputs": inputs})).unwrap()
}

/// A prompt from `[[id, class, inputs], …]`.
pub(crate) fn prompt_json(nodes: &[(&str, &str, Value)]) -> Value {
    nodes.iter().map(|(id, class, inputs)| ((*id).to_owned(), json!({"class_type": class, "inputs": inputs}))).collect()
}

/// The same, typed.
pub(crate) fn prompt(nodes: &[(&str, &str, Value)]) -> Prompt {
    serde_json::from_value(prompt_json(nodes)).unwrap()
}

/// `length` inverting nodes `1…` in a row behind `0` and in front of the output `save`.
pub(crate) fn chain(length: usize) -> Value {
    let mut nodes = serde_json::Map::new();
    nodes.insert("save".to_owned(), json!({"class_type": "Save", "inputs": {"images": [length.to_string(), 0]}}));
    for index in (1..=length).rev() {
        let inputs = json!({"image": [(index - 1).to_string(), 0]});
        nodes.insert(index.to_string(), json!({"class_type": "Invert", "inputs": inputs}));
    }
    nodes.insert("0".to_owned(), json!({"class_type": "Empty", "inputs": {"width": 8}}));
    Value::Object(nodes)
}
