//! A node definition as `GET /object_info` shows it to UIs.
//!
//! Choices are written in the form every client reads: the list stands where the type would stand.

use serde_json::{Map, Value, json};

use crate::definition::{ChoicesFrom, InputDefinition, NodeDefinition, Section};

/// The entry of one class. `python_module` tells UIs where the class comes from, e.g. `nodes` or `custom_nodes.<pack>`;
/// `choices` resolves the lists that only the host knows.
#[must_use]
pub fn object_info(
    definition: &NodeDefinition,
    python_module: &str,
    choices: &dyn Fn(&ChoicesFrom) -> Vec<String>,
) -> Value {
    let mut info = Map::new();
    let (input, order) = inputs(definition, choices);
    info.insert("input".to_owned(), Value::Object(input));
    info.insert("input_order".to_owned(), Value::Object(order));
    let outputs = &definition.outputs;
    info.insert("output".to_owned(), outputs.iter().map(|output| output.output_type.clone()).collect());
    info.insert("output_is_list".to_owned(), outputs.iter().map(|output| output.is_list).collect());
    info.insert("output_name".to_owned(), outputs.iter().map(|output| output.name.clone()).collect());
    info.insert("name".to_owned(), definition.class_type.clone().into());
    let display_name =
        if definition.display_name.is_empty() { &definition.class_type } else { &definition.display_name };
    info.insert("display_name".to_owned(), display_name.clone().into());
    info.insert("description".to_owned(), definition.description.clone().into());
    info.insert("python_module".to_owned(), python_module.into());
    info.insert("category".to_owned(), definition.category.clone().into());
    info.insert("output_node".to_owned(), definition.output_node.into());
    if outputs.iter().any(|output| output.tooltip.is_some()) {
        let tooltips = outputs.iter().map(|output| output.tooltip.clone().unwrap_or_default()).collect();
        info.insert("output_tooltips".to_owned(), tooltips);
    }
    if definition.deprecated {
        info.insert("deprecated".to_owned(), true.into());
    }
    if definition.experimental {
        info.insert("experimental".to_owned(), true.into());
    }
    Value::Object(info)
}

/// What validation errors show as `input_config`, too: `[type, options]`, where `choices` (if any) stand for the type.
#[must_use]
pub fn input_config(input: &InputDefinition, choices: Option<Vec<Value>>) -> Value {
    let first = choices.map_or_else(|| Value::String(input.input_type.clone()), Value::Array);
    json!([first, input.options])
}

fn inputs(
    definition: &NodeDefinition,
    choices: &dyn Fn(&ChoicesFrom) -> Vec<String>,
) -> (Map<String, Value>, Map<String, Value>) {
    let mut input = Map::new();
    let mut order = Map::new();
    for (section, key) in
        [(Section::Required, "required"), (Section::Optional, "optional"), (Section::Hidden, "hidden")]
    {
        let members: Vec<&InputDefinition> =
            definition.inputs.iter().filter(|input| input.section == section).collect();
        if members.is_empty() && section != Section::Required {
            continue;
        }
        order.insert(key.to_owned(), members.iter().map(|input| input.name.clone()).collect());
        let shown = members.into_iter().map(|input| (input.name.clone(), shown_input(input, choices))).collect();
        input.insert(key.to_owned(), Value::Object(shown));
    }
    (input, order)
}

fn shown_input(input: &InputDefinition, choices: &dyn Fn(&ChoicesFrom) -> Vec<String>) -> Value {
    if input.section == Section::Hidden {
        return Value::String(input.input_type.clone());
    }
    let listed = match &input.choices_from {
        Some(from) => Some(choices(from).into_iter().map(Value::String).collect()),
        None if input.input_type == "COMBO" => Some(input.choices.clone()),
        None => None,
    };
    let Value::Array(mut pair) = input_config(input, listed) else {
        return Value::Null;
    };
    if input.options.is_empty() {
        pair.truncate(1);
    }
    Value::Array(pair)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn info(definition: Value) -> Value {
        let definition: NodeDefinition = serde_json::from_value(definition).unwrap();
        object_info(&definition, "nodes", &|from| match from {
            ChoicesFrom::InputImages => vec!["a.png".to_owned()],
            ChoicesFrom::Models(folder) => vec![format!("{folder}.safetensors")],
        })
    }

    #[test]
    fn has_the_shape_of_a_classic_node() {
        let shown = info(json!({
            "class_type": "LoadImage", "display_name": "Load Image", "category": "image", "output_node": true,
            "inputs": [
                {"name": "image", "type": "COMBO", "choices_from": "input_images", "options": {"image_upload": true}},
                {"name": "vae", "type": "COMBO", "choices_from": {"models": "vae"}, "section": "optional"},
                {"name": "mode", "type": "COMBO", "choices": ["x", "y"]},
                {"name": "other", "type": "IMAGE,MASK"},
                {"name": "n", "type": "INT", "options": {"default": 1, "min": 0}},
                {"name": "prompt", "type": "PROMPT", "section": "hidden"},
            ],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "tooltip": "t"}, {"name": "m", "type": "MASK", "is_list": true}],
        }));
        assert_eq!(
            shown.to_string(),
            json!({
                "input": {
                    "required": {
                        "image": [["a.png"], {"image_upload": true}],
                        "mode": [["x", "y"]],
                        "other": ["IMAGE,MASK"],
                        "n": ["INT", {"default": 1, "min": 0}],
                    },
                    "optional": {"vae": [["vae.safetensors"]]},
                    "hidden": {"prompt": "PROMPT"},
                },
                "input_order": {"required": ["image", "mode", "other", "n"], "optional": ["vae"], "hidden": ["prompt"]},
                "output": ["IMAGE", "MASK"],
                "output_is_list": [false, true],
                "output_name": ["IMAGE", "m"],
                "name": "LoadImage",
                "display_name": "Load Image",
                "description": "",
                "python_module": "nodes",
                "category": "image",
                "output_node": true,
                "output_tooltips": ["t", ""],
            })
            .to_string()
        );
    }

    #[test]
    fn a_node_without_inputs_still_has_required() {
        let shown = info(
            json!({"class_type": "A", "display_name": "", "category": "c", "deprecated": true, "experimental": true}),
        );
        assert_eq!(shown["input"], json!({"required": {}}));
        assert_eq!(shown["display_name"], "A");
        assert_eq!(shown["deprecated"], true);
        assert_eq!(shown["experimental"], true);
        assert!(shown.get("output_tooltips").is_none());
    }
}
