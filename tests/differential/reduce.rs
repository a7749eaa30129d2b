//! Our answers, events and history in the form in which `tests/peer/differential/record.py` writes down ComfyUI's.
//!
//! What is left out there is left out here: times, ids of prompts, progress inside a node, declarations of inputs, how
//! expansions name their nodes, names of files. `docs/engine.md` says why each may differ.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

/// Posted nodes keep their ids; a node of an expansion is `~` and the node that clients show it at.
pub(crate) struct Names(HashMap<String, String>);

impl Names {
    pub(crate) fn of_events(events: &[Value]) -> Self {
        let mut display = HashMap::new();
        let mut know = |node: &Value, shown: &Value| {
            if let (Some(node), Some(shown)) = (node.as_str(), shown.as_str()) {
                display.insert(node.to_owned(), shown.to_owned());
            }
        };
        for event in events {
            know(&event["data"]["node"], &event["data"]["display_node"]);
            for (node, state) in nodes_of(event) {
                know(&Value::from(node.as_str()), &state["display_node_id"]);
            }
        }
        Self(display)
    }

    fn of(&self, node: &str) -> String {
        match self.0.get(node) {
            Some(display) if display != node => format!("~{display}"),
            _ => node.to_owned(),
        }
    }

    fn of_value(&self, node: &Value) -> Value {
        node.as_str().map_or(Value::Null, |node| self.of(node).into())
    }

    fn of_sorted(&self, nodes: &Value) -> Value {
        let mut names: Vec<_> = nodes.as_array().into_iter().flatten().map(|node| self.of_value(node)).collect();
        names.sort_by_key(Value::to_string);
        names.into()
    }
}

fn nodes_of(event: &Value) -> impl Iterator<Item = (&String, &Value)> {
    event["data"]["nodes"].as_object().into_iter().flatten()
}

fn sorted_keys(map: &Value) -> Value {
    let keys: BTreeSet<&String> = map.as_object().into_iter().flatten().map(|(key, _)| key).collect();
    json!(keys)
}

/// The `error` of a refusal.
pub(crate) fn error(posted: &Value) -> Value {
    let mut details: Vec<&str> = posted["details"].as_str().unwrap_or_default().split('\n').collect();
    details.sort_unstable();
    json!({"type": posted["type"], "message": posted["message"], "details": details})
}

/// The `node_errors` of an answer.
pub(crate) fn node_errors(posted: &Value) -> Value {
    let one = |found: &Value| {
        let mut extra = found["extra_info"].as_object().cloned().unwrap_or_default();
        extra.shift_remove("traceback");
        extra.shift_remove("input_config");
        json!([found["type"], found["message"], found["details"], extra])
    };
    let entries = posted.as_object().into_iter().flatten().map(|(node, entry)| {
        let outputs: BTreeSet<&str> =
            entry["dependent_outputs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut errors: Vec<_> = entry["errors"].as_array().into_iter().flatten().map(one).collect();
        errors.sort_by_key(Value::to_string);
        (node.clone(), json!({"class": entry["class_type"], "outputs": outputs, "errors": errors}))
    });
    Value::Object(entries.collect())
}

/// A value of `current_inputs`: only scalars are shown alike.
fn scalar(value: &Value) -> Value {
    let is_other = |text: &str| {
        ["tensor ", "list of ", "object with ", "blocked", "output "].iter().any(|start| text.starts_with(start))
            || text.contains('\n')
    };
    match value {
        Value::String(text) if is_other(text) => "…".into(),
        value => value.clone(),
    }
}

/// What happened, in order.
pub(crate) fn events(events: &[Value], names: &Names) -> Vec<Value> {
    let mut reduced = Vec::new();
    let mut states: HashMap<&String, &Value> = HashMap::new();
    for event in events {
        let data = &event["data"];
        match event["type"].as_str().unwrap_or_default() {
            "progress_state" => {
                for (node, state) in nodes_of(event) {
                    if states.insert(node, &state["state"]) != Some(&state["state"]) {
                        reduced.push(json!([state["state"], names.of(node), state["real_node_id"]]));
                    }
                }
            }
            "executing" if data["node"].is_null() => reduced.push(json!(["end"])),
            "executing" => reduced.push(json!(["executing", names.of_value(&data["node"])])),
            "executed" => {
                let shown = if data["output"].is_null() { Value::Null } else { sorted_keys(&data["output"]) };
                reduced.push(json!(["executed", names.of_value(&data["node"]), shown]));
            }
            "execution_cached" => reduced.push(json!(["cached", data["nodes"]])),
            "execution_error" => reduced.push(json!(["execution_error", failure(data, names)])),
            "progress" | "status" => {}
            other => reduced.push(json!([other])),
        }
    }
    reduced
}

fn failure(data: &Value, names: &Names) -> Value {
    let inputs = match data["current_inputs"].as_object() {
        Some(inputs) => {
            let list = |values: &Value| values.as_array().into_iter().flatten().map(scalar).collect::<Value>();
            Value::Object(inputs.iter().map(|(name, values)| (name.clone(), list(values))).collect())
        }
        None => data["current_inputs"].clone(),
    };
    json!({
        "node": names.of_value(&data["node_id"]),
        "class": data["node_type"],
        "type": data["exception_type"],
        "message": data["exception_message"],
        "executed": names.of_sorted(&data["executed"]),
        "inputs": inputs,
    })
}

/// A prompt's entry of the history.
pub(crate) fn history(entry: &Value, names: &Names) -> Value {
    let meta = |(node, one): (&String, &Value)| {
        let parent = names.of_value(&one["parent_node"]);
        let meta = json!({"display": one["display_node"], "real": one["real_node_id"], "parent": parent});
        (names.of(node), meta)
    };
    let outputs = |(node, ui): (&String, &Value)| (names.of(node), sorted_keys(ui));
    let messages = entry["status"]["messages"].as_array().into_iter().flatten();
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    json!({
        "prompt": entry["prompt"][2],
        "targets": entry["prompt"][4],
        "outputs": map(&entry["outputs"]).iter().map(outputs).collect::<Map<_, _>>(),
        "meta": map(&entry["meta"]).iter().map(meta).collect::<Map<_, _>>(),
        "status": [entry["status"]["status_str"], entry["status"]["completed"]],
        "messages": messages.map(|message| message[0].clone()).collect::<Vec<_>>(),
    })
}
