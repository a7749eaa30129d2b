//! A node's inputs as JSON Schema (2020-12), made of its `object_info`: what editors, form builders and language models read.
//!
//! Every input may be a link to another node's output. A constant is described where its type has one in JSON.

use serde_json::{Map, Value, json};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Options that make a choice a suggestion: the node takes names of files that are not listed, too.
const OPEN_CHOICES: [&str; 3] = ["image_upload", "video_upload", "audio_upload"];

/// The schema of the `inputs` of a node of this class. `info` is its entry in `object_info`.
pub(crate) fn schema(class: &str, info: &Value) -> Value {
    let mut properties = Map::new();
    for section in ["required", "optional"] {
        let inputs = info["input"][section].as_object().into_iter().flatten();
        properties.extend(inputs.map(|(name, declared)| (name.clone(), input(declared))));
    }
    let required: Vec<&String> = info["input"]["required"].as_object().into_iter().flat_map(Map::keys).collect();
    json!({
        "$schema": DIALECT,
        "title": info["display_name"].as_str().filter(|name| !name.is_empty()).unwrap_or(class),
        "description": info["description"].as_str().unwrap_or_default(),
        "type": "object",
        "properties": properties,
        "required": required,
        "$defs": {
            "link": {
                "description": "An output of another node: its id and the number of the output",
                "type": "array",
                "prefixItems": [{"type": "string"}, {"type": "integer"}],
                "items": false,
                "minItems": 2,
            },
        },
    })
}

/// One input, declared as `[type, options]`; a list of choices may stand for the type.
fn input(declared: &Value) -> Value {
    let options = &declared[1];
    let link = json!({"$ref": "#/$defs/link"});
    let mut schema = Map::new();
    match constant(&declared[0], options) {
        // A node that forces a link takes no constant.
        Some(constant) if options["forceInput"] != true => {
            schema.insert("anyOf".to_owned(), json!([constant, link]));
        }
        _ => {
            schema.insert("anyOf".to_owned(), json!([link]));
        }
    }
    if let Some(tooltip) = options["tooltip"].as_str() {
        schema.insert("description".to_owned(), tooltip.into());
    }
    if let Some(default) = options.get("default") {
        schema.insert("default".to_owned(), default.clone());
    }
    if let Some(name) = declared[0].as_str() {
        schema.insert("x-comfy-type".to_owned(), name.into());
    }
    Value::Object(schema)
}

/// What a constant of a type looks like; nothing for types that have none.
fn constant(declared: &Value, options: &Value) -> Option<Value> {
    let ranged = |kind: &str| {
        let mut schema = Map::from_iter([("type".to_owned(), kind.into())]);
        for (option, keyword) in [("min", "minimum"), ("max", "maximum")] {
            if let Some(bound) = options.get(option).filter(|bound| bound.is_number()) {
                schema.insert(keyword.to_owned(), bound.clone());
            }
        }
        Value::Object(schema)
    };
    match declared {
        Value::Array(choices) if OPEN_CHOICES.iter().any(|option| options[option] == true) => {
            Some(json!({"type": "string", "examples": choices}))
        }
        Value::Array(choices) => Some(json!({"enum": choices})),
        Value::String(name) => match name.as_str() {
            "INT" => Some(ranged("integer")),
            "FLOAT" => Some(ranged("number")),
            "STRING" => Some(json!({"type": "string"})),
            "BOOLEAN" => Some(json!({"type": "boolean"})),
            "*" => Some(json!(true)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_their_json() {
        let info = json!({
            "display_name": "Scale", "description": "d",
            "input": {
                "required": {
                    "image": ["IMAGE"],
                    "width": ["INT", {"min": 0, "max": 8, "default": 4, "tooltip": "t"}],
                    "mode": [["a", "b"]],
                    "file": [["x.png"], {"image_upload": true}],
                    "forced": ["FLOAT", {"forceInput": true}],
                },
                "optional": {"text": ["STRING", {"multiline": true}]},
                "hidden": {"prompt": "PROMPT"},
            },
        });
        let schema = schema("ImageScale", &info);
        let link = json!({"$ref": "#/$defs/link"});
        assert_eq!(schema["title"], "Scale");
        assert_eq!(schema["required"], json!(["image", "width", "mode", "file", "forced"]));
        let properties = &schema["properties"];
        assert_eq!(properties["image"]["anyOf"], json!([link]));
        assert_eq!(properties["image"]["x-comfy-type"], "IMAGE");
        assert_eq!(properties["forced"]["anyOf"], json!([link]));
        let width = json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 8}, link],
            "description": "t", "default": 4, "x-comfy-type": "INT"});
        assert_eq!(properties["width"], width);
        assert_eq!(properties["mode"]["anyOf"][0], json!({"enum": ["a", "b"]}));
        assert_eq!(properties["file"]["anyOf"][0], json!({"type": "string", "examples": ["x.png"]}));
        assert_eq!(properties["text"]["anyOf"][0], json!({"type": "string"}));
        assert!(properties.get("prompt").is_none());
    }
}
