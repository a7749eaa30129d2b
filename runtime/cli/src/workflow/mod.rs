//! Workflow files: reading them, and changing their inputs from the command line.

mod settings;

use std::{fs, io::Read, path::Path};

use serde_json::{Map, Value};

pub(crate) use self::settings::{InputFile, Setting};
use crate::failure::{Exit, OrFail, Outcome, fail};

/// A workflow in the API format: an object from node id to `{"class_type", "inputs"}`.
#[derive(Clone, Debug)]
pub(crate) struct Workflow {
    /// The nodes, in file order.
    pub(crate) nodes: Map<String, Value>,
    /// What a saved request carries beside its prompt; empty for a bare workflow.
    pub(crate) extra_data: Map<String, Value>,
}

impl Workflow {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// When it can't be read, is not JSON, or is not a workflow in the API format; says what it is instead.
    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let text = if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            fs::read_to_string(path)
        };
        let text = text.or_fail(Exit::Machine, || format!("could not read the workflow {}", path.display()))?;
        let value: Value = serde_json::from_str(&text)
            .or_fail(Exit::Machine, || format!("the workflow {} is not valid JSON", path.display()))?;
        Self::from_value(value).or_fail(Exit::Machine, || format!("{} is not a workflow", path.display()))
    }

    fn from_value(value: Value) -> anyhow::Result<Self> {
        let Value::Object(mut object) = value else {
            anyhow::bail!("it should be a JSON object from node id to node");
        };
        if object.get("nodes").is_some_and(Value::is_array) {
            anyhow::bail!(
                "it is saved in the editor's format, which needs the editor to be turned into a prompt; \
                 export it with Workflow > Export (API) and use that file"
            );
        }
        let mut extra_data = Map::new();
        if !is_node(object.get("prompt")) && object.get("prompt").is_some_and(Value::is_object) {
            if let Some(Value::Object(data)) = object.remove("extra_data") {
                extra_data = data;
            }
            if let Some(Value::Object(prompt)) = object.remove("prompt") {
                object = prompt;
            }
        }
        if !object.values().any(|node| is_node(Some(node))) {
            anyhow::bail!("no value in it is a node, that is an object with a \"class_type\"");
        }
        Ok(Self { nodes: object, extra_data })
    }

    /// How a node is called in messages: its title if it has one, else its class, with its id.
    pub(crate) fn label(&self, id: &str) -> String {
        let node = self.nodes.get(id);
        let title = node.and_then(|node| node["_meta"]["title"].as_str()).filter(|title| !title.is_empty());
        let class = node.and_then(|node| node["class_type"].as_str());
        match title.or(class) {
            Some(name) => format!("{} ({})", crate::text::one_line(name, 60), crate::text::one_line(id, 40)),
            None => format!("node {}", crate::text::one_line(id, 40)),
        }
    }

    /// Every constant input that is a text, with write access.
    pub(crate) fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let inputs = self.nodes.values_mut().filter_map(|node| node.get_mut("inputs")?.as_object_mut());
        inputs.flat_map(|inputs| inputs.values_mut()).filter_map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }
}

fn is_node(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value.get("class_type").is_some_and(Value::is_string))
}

/// Refuses inputs that a class does not declare: the protocol drops them silently, so a typing error would go unnoticed.
///
/// `info` is the class's entry of `/object_info`.
///
/// # Errors
/// Names the inputs that there are.
pub(crate) fn check_declared(class: &str, input: &str, info: &Value) -> Outcome<()> {
    let sections = ["required", "optional"].into_iter().filter_map(|section| info["input"][section].as_object());
    let declared: Vec<&str> = sections.flat_map(|section| section.keys().map(String::as_str)).collect();
    if declared.is_empty() || declared.contains(&input) {
        return Ok(());
    }
    fail!(Exit::Usage, "{class} has no input `{input}`; it has: {}", crate::text::printable(&declared.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_saved_request_is_read_as_its_prompt() {
        let request = json!({
            "prompt": {"1": {"class_type": "EmptyImage", "inputs": {}}},
            "extra_data": {"a": 1},
            "client_id": "x",
        });
        let workflow = Workflow::from_value(request).unwrap();
        assert_eq!(workflow.nodes.len(), 1);
        assert_eq!(workflow.extra_data["a"], 1);
    }

    #[test]
    fn a_node_called_prompt_is_a_node() {
        let workflow = Workflow::from_value(json!({"prompt": {"class_type": "A", "inputs": {}}})).unwrap();
        assert!(workflow.nodes.contains_key("prompt"));
    }

    #[test]
    fn the_editors_format_is_refused_with_the_way_out() {
        let error = Workflow::from_value(json!({"nodes": [], "links": []})).unwrap_err();
        assert!(error.to_string().contains("Export (API)"), "{error}");
    }

    #[test]
    fn anything_else_is_refused() {
        for value in [json!([]), json!({}), json!({"a": 1}), json!("x")] {
            assert!(Workflow::from_value(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn an_undeclared_input_is_refused_with_those_that_exist() {
        let info = json!({"input": {"required": {"width": ["INT"]}, "optional": {"mask": ["MASK"]}}});
        assert!(check_declared("C", "mask", &info).is_ok());
        let failure = check_declared("C", "widht", &info).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("width, mask"), "{failure}");
    }
}
