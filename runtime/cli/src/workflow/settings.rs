//! `--set node.input=value` and `--input name=path`.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_json::{Map, Value};

use super::Workflow;
use crate::failure::{Exit, Outcome, fail};

/// One `--set`: an input and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    target: String,
    value: String,
}

/// Where a [`Setting`] landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The node's class.
    pub(crate) class: String,
    /// The input.
    pub(crate) input: String,
    /// Whether the workflow had it already.
    pub(crate) existed: bool,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').filter(|(target, _)| target.contains('.'));
        let (target, value) = parts.ok_or("expected node.input=value, for example 3.width=512")?;
        Ok(Self { target: target.to_owned(), value: value.to_owned() })
    }
}

impl Setting {
    /// Changes the input in the workflow. The node is named by its id, or by a title or class that only one node has.
    ///
    /// # Errors
    /// When no node or more than one fits, or the node has no place for inputs.
    pub(crate) fn apply(&self, workflow: &mut Workflow) -> Outcome<Applied> {
        let (id, input) = self.resolve(workflow)?;
        let Some(node) = workflow.nodes.get_mut(&id) else {
            fail!(Exit::Usage, "--set {}: the workflow has no node {id}", self.target)
        };
        let class = node["class_type"].as_str().unwrap_or_default().to_owned();
        if node.get("inputs").is_none() {
            node["inputs"] = Value::Object(Map::new());
        }
        let Some(inputs) = node.get_mut("inputs").and_then(Value::as_object_mut) else {
            fail!(Exit::Usage, "--set {}: the inputs of node {id} are not an object", self.target)
        };
        let value = self.value_in_place_of(inputs.get(&input));
        let existed = inputs.insert(input.clone(), value).is_some();
        Ok(Applied { class, input, existed })
    }

    /// Splits at the first dot that leaves the name of a node: ids of subgraph nodes and names of nested inputs hold dots.
    fn resolve(&self, workflow: &Workflow) -> Outcome<(String, String)> {
        for (dot, _) in self.target.match_indices('.') {
            let (name, input) = (&self.target[..dot], &self.target[dot + 1..]);
            match nodes_called(workflow, name).as_slice() {
                [] => {}
                [only] => return Ok((only.clone(), input.to_owned())),
                several => {
                    let ids = several.join(", ");
                    fail!(Exit::Usage, "--set {}: `{name}` fits the nodes {ids}; use an id", self.target)
                }
            }
        }
        let all: Vec<String> = workflow.nodes.keys().map(|id| workflow.label(id)).collect();
        fail!(Exit::Usage, "--set {}: the workflow has no such node; it has: {}", self.target, all.join(", "))
    }

    /// JSON where it reads as JSON, else text. What was a text stays one, so that `--set 2.text=42` needs no quotes; only
    /// a value in double quotes is unwrapped there.
    fn value_in_place_of(&self, present: Option<&Value>) -> Value {
        let text = || Value::String(self.value.clone());
        let parsed = serde_json::from_str::<Value>(&self.value).unwrap_or_else(|_| text());
        match present {
            Some(Value::String(_)) if !parsed.is_string() => text(),
            _ => parsed,
        }
    }
}

fn nodes_called(workflow: &Workflow, name: &str) -> Vec<String> {
    if workflow.nodes.contains_key(name) {
        return vec![name.to_owned()];
    }
    let fits = |node: &Value| node["_meta"]["title"] == name || node["class_type"] == name;
    workflow.nodes.iter().filter(|(_, node)| fits(node)).map(|(id, _)| id.clone()).collect()
}

/// A file for the workflow's input folder: `path`, or `name=path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    /// What the workflow calls it.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl FromStr for InputFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => (Some(name), Path::new(path)),
            _ => (None, Path::new(text)),
        };
        if !path.is_file() {
            return Err(format!("{} is not a file", path.display()));
        }
        let own_name = || path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.map(str::to_owned).or_else(own_name).filter(|name| !name.is_empty());
        Ok(Self { name: name.ok_or("expected name=path or path")?, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn workflow() -> Workflow {
        Workflow::from_value(json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
            "2": {"class_type": "ImageScale", "inputs": {"width": 8}, "_meta": {"title": "shrink"}},
            "3": {"class_type": "ImageScale", "inputs": {"width": ["1", 0]}},
            "7.0.1": {"class_type": "Nested", "inputs": {"size.width": 1}},
        }))
        .unwrap()
    }

    fn set(text: &str) -> Outcome<(Workflow, Applied)> {
        let mut workflow = workflow();
        let applied = text.parse::<Setting>().unwrap().apply(&mut workflow)?;
        Ok((workflow, applied))
    }

    #[test]
    fn nodes_are_found_by_id_title_and_class() {
        for target in ["2.width=16", "shrink.width=16"] {
            let (workflow, applied) = set(target).unwrap();
            assert_eq!(workflow.nodes["2"]["inputs"]["width"], 16);
            assert!(applied.existed);
        }
        let (workflow, _) = set("LoadImage.image=b.png").unwrap();
        assert_eq!(workflow.nodes["1"]["inputs"]["image"], "b.png");
    }

    #[test]
    fn dots_in_ids_and_inputs_are_understood() {
        let (workflow, _) = set("7.0.1.size.width=5").unwrap();
        assert_eq!(workflow.nodes["7.0.1"]["inputs"]["size.width"], 5);
    }

    #[test]
    fn a_name_that_fits_two_nodes_or_none_is_refused() {
        assert!(set("ImageScale.width=1").unwrap_err().to_string().contains("2, 3"));
        assert!(set("9.width=1").unwrap_err().to_string().contains("shrink (2)"));
    }

    #[test]
    fn a_text_input_takes_anything_as_text() {
        for (setting, expected) in [("1.image=42", "42"), ("1.image=\"x\"", "x"), ("1.image=a=b", "a=b")] {
            let (workflow, _) = set(setting).unwrap();
            assert_eq!(workflow.nodes["1"]["inputs"]["image"], expected);
        }
    }

    #[test]
    fn other_inputs_take_json_or_else_text() {
        let (workflow, _) = set("3.width=[\"2\",0]").unwrap();
        assert_eq!(workflow.nodes["3"]["inputs"]["width"], json!(["2", 0]));
        let (workflow, applied) = set("3.upscale_method=area").unwrap();
        assert_eq!(workflow.nodes["3"]["inputs"]["upscale_method"], "area");
        assert!(!applied.existed);
    }

    #[test]
    fn a_setting_without_dot_or_equals_sign_is_refused() {
        assert!("width=3".parse::<Setting>().is_err());
        assert!("3.width".parse::<Setting>().is_err());
    }

    #[test]
    fn an_input_file_may_be_given_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.jpg");
        std::fs::write(&path, b"x").unwrap();
        let plain: InputFile = path.to_str().unwrap().parse().unwrap();
        assert_eq!(plain.name, "photo.jpg");
        let named: InputFile = format!("other.jpg={}", path.display()).parse().unwrap();
        assert_eq!((named.name.as_str(), &named.path), ("other.jpg", &path));
        assert!("a=/no/such/file".parse::<InputFile>().is_err());
    }
}
