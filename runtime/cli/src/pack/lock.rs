//! `vivarium pack lock`: writes into a workflow which packs it was made with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Map, Value, json};
use vivarium_packs::lock::Lock;

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    host,
    options::{LimitOptions, SourceOptions},
    output::say,
    text::one_line,
};

/// Write the packs that a workflow uses, by digest, into the workflow.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack lock workflow.json
  vivarium pack lock workflow.json -o locked.json

`vivarium run`, `submit` and the server refuse a locked workflow when one of its packs is missing or another version. A
workflow in the API format becomes {\"prompt\": …, \"extra_data\": …}; one in the editor's format keeps its form, and the editor
sends the lock along.")]
pub(crate) struct LockCommand {
    /// The workflow, in either format
    workflow: PathBuf,

    /// Write here [default: the workflow itself]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

impl LockCommand {
    pub(crate) fn run(self) -> Outcome<()> {
        let mut workflow = read(&self.workflow)?;
        let folders = self.folders.resolve()?;
        let (_engine, catalog) = host::load_packs(&folders, self.limits.resolve_in(&folders)?)?;
        let nodes = nodes_of(&workflow);
        let snapshot = catalog.snapshot();
        let is_known = |class: &str| snapshot.definition(class).is_some() || snapshot.stand_in(class).is_some();
        let unknown = nodes.values().find(|node| node["class_type"].as_str().is_some_and(|class| !is_known(class)));
        if let Some(node) = unknown {
            fail!(Exit::Work, "no pack offers {}; nothing was written", one_line(&node["class_type"].to_string(), 100));
        }
        let lock = Lock::of(&nodes, &snapshot);
        put(&mut workflow, &lock);
        let path = self.output.as_ref().unwrap_or(&self.workflow);
        let text = serde_json::to_string_pretty(&workflow).or_fail(Exit::Machine, || "could not write the workflow")?;
        fs::write(path, text + "\n").or_fail(Exit::Machine, || format!("could not write {}", path.display()))?;
        for (name, locked) in &lock.packs {
            say!("{name} {} {}", locked.version, locked.sha256);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Outcome<Map<String, Value>> {
    let text = fs::read(path).or_fail(Exit::Machine, || format!("could not read {}", path.display()))?;
    serde_json::from_slice(&text).or_fail(Exit::Machine, || format!("{} is no workflow", path.display()))
}

fn is_editors(workflow: &Map<String, Value>) -> bool {
    workflow.get("nodes").is_some_and(Value::is_array)
}

fn is_request(workflow: &Map<String, Value>) -> bool {
    workflow.get("prompt").is_some_and(|prompt| prompt.is_object() && prompt.get("class_type").is_none())
}

/// The nodes, as in the API format as far as their classes go. An editor's own nodes (notes, reroutes, subgraphs) are no
/// classes of packs.
fn nodes_of(workflow: &Map<String, Value>) -> Map<String, Value> {
    if is_request(workflow) {
        return workflow["prompt"].as_object().cloned().unwrap_or_default();
    }
    if !is_editors(workflow) {
        return workflow.clone();
    }
    let definitions = workflow.get("definitions").and_then(|definitions| definitions["subgraphs"].as_array());
    let subgraphs: Vec<&Value> = definitions.into_iter().flatten().collect();
    let is_subgraph = |class: &str| subgraphs.iter().any(|subgraph| subgraph["id"] == class);
    let inner = subgraphs.iter().filter_map(|subgraph| subgraph["nodes"].as_array());
    let nodes = workflow["nodes"].as_array().into_iter().chain(inner).flatten();
    let classes = nodes.filter_map(|node| node["type"].as_str());
    classes
        .filter(|class| !matches!(*class, "Note" | "MarkdownNote" | "Reroute" | "PrimitiveNode") && !is_subgraph(class))
        .enumerate()
        .map(|(index, class)| (index.to_string(), json!({"class_type": class})))
        .collect()
}

fn put(workflow: &mut Map<String, Value>, lock: &Lock) {
    let place = if is_editors(workflow) { "extra" } else { "extra_data" };
    if place == "extra_data" && !is_request(workflow) {
        let prompt = std::mem::take(workflow);
        workflow.insert("prompt".to_owned(), Value::Object(prompt));
    }
    let extra = workflow.entry(place).or_insert_with(|| json!({}));
    if !extra.is_object() {
        *extra = json!({});
    }
    extra["vivarium"] = lock.to_value();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_format_keeps_its_lock_where_the_server_looks() {
        let lock = Lock::default();
        let mut bare = object(json!({"1": {"class_type": "A", "inputs": {}}}));
        put(&mut bare, &lock);
        assert_eq!(bare["prompt"]["1"]["class_type"], "A");
        assert!(Lock::in_extra_data(bare["extra_data"].as_object().unwrap()).unwrap().is_some());
        put(&mut bare, &lock);
        assert_eq!(nodes_of(&bare).len(), 1);

        let inner = json!([{"type": "B"}]);
        let mut editors = object(json!({
            "nodes": [{"type": "A"}, {"type": "Note"}, {"type": "s1"}],
            "definitions": {"subgraphs": [{"id": "s1", "nodes": inner}]},
        }));
        let classes: Vec<Value> = nodes_of(&editors).values().map(|node| node["class_type"].clone()).collect();
        assert_eq!(classes, ["A", "B"]);
        put(&mut editors, &lock);
        let sent = object(json!({"extra_pnginfo": {"workflow": editors}}));
        assert!(Lock::in_extra_data(&sent).unwrap().is_some());
    }
}
