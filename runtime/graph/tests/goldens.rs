//! Refusals, conversions and the order of execution are the same as those recorded from a real ComfyUI, for prompts of its own node classes.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use vivarium_graph::{
    CacheKeys, DynamicPrompt, ExecutionList, Fingerprints, GraphLimits, HookError, Invalid, Lookup, NoHook, Step,
    ValidateHook, validate,
};
use vivarium_protocol::definition::{DefinitionMap, NodeDefinition};
use vivarium_protocol::prompt::PromptRequest;

/// Where we answer otherwise, and why.
const DIFFERENT: [(&str, &str); 3] = [
    ("cycle", "the details say where the cycle is"),
    ("cycle_of_itself", "the details say where the cycle is"),
    ("value_not_in_list_new_style_class", "every choice is checked, however its class was written"),
];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(goldens().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no goldens in {folder}");
    paths
}

/// Definitions as a pack would state them, made from what ComfyUI says about its classes.
fn definitions() -> DefinitionMap {
    let mut map = DefinitionMap::new();
    for path in entries("object_info") {
        let definition = definition(&read(&path));
        map.insert(definition.class_type.clone(), definition);
    }
    map
}

fn definition(info: &Value) -> NodeDefinition {
    let mut inputs = Vec::new();
    for (section, members) in info["input"].as_object().unwrap() {
        for (name, config) in members.as_object().unwrap() {
            let mut input = json!({"name": name, "section": section, "type": config, "options": {}});
            if let Some(config) = config.as_array() {
                let options = config.get(1).cloned().unwrap_or(json!({}));
                let choices = if config[0].is_array() { &config[0] } else { &options["options"] };
                if let Some(choices) = choices.as_array() {
                    input["choices"] = json!(choices);
                    input["type"] = json!("COMBO");
                } else {
                    input["type"] = config[0].clone();
                }
                input["options"] = options;
            }
            inputs.push(input);
        }
    }
    let outputs: Vec<Value> =
        info["output"].as_array().unwrap().iter().map(|output| json!({"name": output, "type": output})).collect();
    let class = info["name"].as_str().unwrap();
    let mut definition = json!({
        "class_type": class, "display_name": "", "category": "", "output_node": info["output_node"],
        "inputs": inputs, "outputs": outputs,
    });
    if class.starts_with("LoadImage") {
        definition["validator"] = json!({"inputs": ["image"]});
    }
    serde_json::from_value(definition).unwrap()
}

/// What the loaders' own validators say where no file exists.
struct NoFiles;

impl ValidateHook for NoFiles {
    fn validate(
        &self,
        _: &str,
        _: &str,
        constants: &Map<String, Value>,
        _: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError> {
        let file = constants["image"].as_str().unwrap();
        Ok(vec![(Some("image".to_owned()), format!("Invalid image file: {file}"))])
    }
}

fn answer(body: &Value) -> (u64, Value) {
    let result = PromptRequest::from_json(body).map_err(Invalid::from).and_then(|request| {
        let targets = request.partial_execution_targets.as_deref();
        validate(request.prompt.clone(), targets, &definitions(), &NoFiles, &GraphLimits::default())
    });
    match result {
        Ok(validated) => {
            (200, json!({"prompt_id": "<prompt_id>", "number": "<number>", "node_errors": validated.node_errors}))
        }
        Err(invalid) => (400, serde_json::to_value(invalid).unwrap()),
    }
}

/// Takes out what is ours to choose, and the order of what ComfyUI does not order.
fn comparable(mut value: Value) -> Value {
    if let Some(reports) = value["node_errors"].as_object_mut() {
        for report in reports.values_mut() {
            let errors = report["errors"].as_array_mut().unwrap();
            for error in errors.iter_mut() {
                if let Some(traceback) = error["extra_info"].get_mut("traceback") {
                    *traceback = json!([]);
                }
            }
            errors.sort_by_key(Value::to_string);
            report["dependent_outputs"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        }
    }
    value
}

#[test]
fn prompts_are_refused_as_comfyui_refuses_them() {
    let mut wrong = Vec::new();
    for case in entries("errors") {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let (status, ours) = answer(&read(&case.join("request.json")));
        let theirs = comparable(read(&case.join("response.json")));
        let expected_status = read(&case.join("status"));
        let same = json!(status) == expected_status && comparable(ours.clone()) == theirs;
        let known = DIFFERENT.iter().any(|(different, _)| *different == name);
        if same == known {
            wrong.push(format!("{name}: {expected_status}\n  theirs {theirs}\n  ours {status} {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_are_converted_as_comfyui_converts_them() {
    for case in entries("coerced") {
        let golden = read(&case);
        let validated =
            validate(golden["sent"].clone(), None, &definitions(), &NoFiles, &GraphLimits::default()).unwrap();
        assert_eq!(validated.json.to_string(), golden["kept"].to_string(), "{}", case.display());
    }
}

struct NoFingerprints;

impl Fingerprints for NoFingerprints {
    fn class_signature(&self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn fingerprint(&self, _: &str, _: &str, _: &Map<String, Value>) -> Option<Value> {
        None
    }
}

/// The nodes that clients saw begin or turn out to be cached, each once, in order.
fn seen(events: &str) -> (Vec<String>, Vec<String>) {
    let mut nodes: Vec<String> = Vec::new();
    let mut cached = Vec::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["type"] == "execution_cached" {
            cached = serde_json::from_value(event["data"]["nodes"].clone()).unwrap();
        }
        if event["type"] == "executing" || event["type"] == "executed" {
            let node = event["data"]["node"].as_str().map(str::to_owned);
            nodes.extend(node.filter(|node| !nodes.contains(node)));
        }
    }
    (cached, nodes)
}

/// Schedules a prompt whose nodes all succeed at once.
fn scheduled(prompt: &Value, cached: &[String]) -> Vec<String> {
    let definitions = definitions();
    let validated = validate(prompt.clone(), None, &definitions, &NoHook, &GraphLimits::default()).unwrap();
    let prompt = DynamicPrompt::new(serde_json::from_value(validated.json.clone()).unwrap(), &GraphLimits::default());
    let keys = CacheKeys::compute(&prompt, &definitions, &NoFingerprints);
    let mut results: HashSet<_> = cached.iter().map(|id| keys.get(id).unwrap()).collect();
    let mut list = ExecutionList::new();
    for output in &validated.outputs {
        let is_cached = |id: &str| keys.get(id).is_some_and(|key| results.contains(&key));
        let lookup = Lookup { prompt: &prompt, definitions: &definitions, is_cached: &is_cached };
        list.add_node(output, &lookup).unwrap();
    }
    let mut order = Vec::new();
    while let Step::Run(id) = list.stage_next(&prompt) {
        results.extend(keys.get(&id));
        list.complete(&id);
        order.push(id);
    }
    order
}

#[test]
fn nodes_run_in_comfyuis_order() {
    for name in
        ["image_run", "two_outputs", "preview_run", "twins", "cached_start", "cached_rerun", "cached_under_other_ids"]
    {
        let case = goldens().join("transcripts").join(name);
        let (cached, nodes) = seen(&fs::read_to_string(case.join("events.jsonl")).unwrap());
        assert_eq!(scheduled(&read(&case.join("prompt.json")), &cached), nodes, "{name}");
    }
}
