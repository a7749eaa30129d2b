//! What counts as a difference between a step here and the same step in ComfyUI.

use serde_json::{Value, json};

const FINDING: &str = "Custom validation failed for node";
const SHOWN_INPUTS: usize = 8;
const CYCLE: &str = "Dependency cycle detected";

const CYCLE_TYPE: &str = "graph.DependencyCycleError";

/// The differences of one step, each in words. `side_by_side`: the prompt has nodes that wait, so that the order of what
/// happens depends on clocks.
pub(crate) fn differences(theirs: &Value, ours: &Value, side_by_side: bool) -> Vec<String> {
    let mut found = Vec::new();
    if theirs["status"] == 500 {
        // ComfyUI failed over the body; a refusal that says what is wrong stands in its place.
        if ours["status"] != 400 {
            found.push(format!("status {} where ComfyUI fails", ours["status"]));
        }
        return found;
    }
    let (theirs, ours) = (&with_plain_findings(theirs), &with_plain_findings(&without_cycles(ours)));
    let mut check = |what: &str, theirs: &Value, ours: &Value| {
        if theirs != ours {
            found.push(format!("{what}\n      theirs {theirs}\n      ours   {ours}"));
        }
    };
    for key in ["status", "error", "node_errors"] {
        check(key, &theirs[key], &ours[key]);
    }
    if !same_images(&theirs["images"], &ours["images"]) {
        check("images", &theirs["images"], &ours["images"]);
    }
    let mut theirs_events = events(&theirs["events"], side_by_side);
    let mut ours_events = events(&ours["events"], side_by_side);
    if theirs_events != ours_events && ours_events.iter().any(is_hit_in_expansion) {
        theirs_events.retain(|event| !is_in_expansion(event));
        ours_events.retain(|event| !is_in_expansion(event));
    }
    if theirs_events != ours_events {
        let at = theirs_events.iter().zip(&ours_events).take_while(|(a, b)| a == b).count();
        let from = at.saturating_sub(3);
        let part = |events: &[Value]| json!(events.iter().skip(from).take(10).collect::<Vec<_>>());
        check(&format!("events from {from}"), &part(&theirs_events), &part(&ours_events));
    }
    for key in ["prompt", "targets", "outputs", "messages"] {
        check(key, &theirs["history"][key], &ours["history"][key]);
    }
    // A cycle found at run time is an error here; ComfyUI's history calls it a success.
    let by_cycle = ours_events.iter().any(|event| event[0] == "execution_error" && event[1]["type"] == CYCLE_TYPE);
    let status = if by_cycle { &json!(["error", false]) } else { &theirs["history"]["status"] };
    check("status", status, &ours["history"]["status"]);
    check("meta", &own_names(&theirs["history"]["meta"]), &ours["history"]["meta"]);
    found
}

fn is_in_expansion(event: &Value) -> bool {
    event[1].as_str().is_some_and(|node| node.starts_with('~'))
}

/// Equal nodes of two expansions share a result here, and only with an LRU cache in ComfyUI.
fn is_hit_in_expansion(event: &Value) -> bool {
    event[0] == "executed" && is_in_expansion(event)
}

/// Colours may be one apart: sums of floats are rounded in another order.
fn same_images(theirs: &Value, ours: &Value) -> bool {
    let (Some(theirs), Some(ours)) = (theirs.as_object(), ours.as_object()) else { return theirs == ours };
    theirs.len() == ours.len()
        && theirs.iter().all(|(node, images)| {
            let (Some(images), Some(ours)) = (images.as_array(), ours.get(node).and_then(Value::as_array)) else {
                return false;
            };
            images.len() == ours.len() && images.iter().zip(ours).all(|(theirs, ours)| same_image(theirs, ours))
        })
}

fn same_image(theirs: &Value, ours: &Value) -> bool {
    let parts = |image: &Value| -> Option<(String, [u8; 3])> {
        let (head, colour) = image.as_str()?.split_once('#')?;
        let [_, channels @ ..] = u32::from_str_radix(colour, 16).ok()?.to_be_bytes();
        Some((head.to_owned(), channels))
    };
    match (parts(theirs), parts(ours)) {
        (Some((a, theirs)), Some((b, ours))) => a == b && theirs.iter().zip(ours).all(|(a, b)| a.abs_diff(b) <= 1),
        _ => theirs == ours,
    }
}

/// ComfyUI tells of a kept result which node made it, here every node is told of under its own name. Results of expansions
/// are told of under the names they were made with by both.
fn own_names(meta: &Value) -> Value {
    let mut meta = meta.clone();
    for (node, one) in meta.as_object_mut().into_iter().flatten().filter(|(node, _)| !node.starts_with('~')) {
        *one = json!({"display": node, "real": node, "parent": null});
    }
    meta
}

/// ComfyUI 0.3.64 refuses a cycle without a word. Here the refusal names it.
fn without_cycles(ours: &Value) -> Value {
    let mut ours = ours.clone();
    if let Some(Value::Array(details)) = ours.pointer_mut("/error/details") {
        for line in details.iter_mut().filter(|line| line.as_str().is_some_and(|line| line.starts_with(CYCLE))) {
            *line = "".into();
        }
        details.sort_by_key(Value::to_string);
        details.dedup();
    }
    if let Some(Value::Object(nodes)) = ours.pointer_mut("/node_errors") {
        for entry in nodes.values_mut() {
            if let Some(Value::Array(errors)) = entry.pointer_mut("/errors") {
                errors.retain(|error| error[0] != "dependency_cycle");
            }
        }
        nodes.retain(|_, entry| entry["errors"] != json!([]));
    }
    ours
}

/// What a class's own validator says, and about which inputs, is the class's: ComfyUI repeats one text for every input.
fn with_plain_findings(step: &Value) -> Value {
    let mut step = step.clone();
    for entry in step["node_errors"].as_object_mut().into_iter().flat_map(|nodes| nodes.values_mut()) {
        if let Some(Value::Array(errors)) = entry.pointer_mut("/errors") {
            for error in errors.iter_mut().filter(|error| error[0] == "custom_validation_failed") {
                *error = json!([error[0], error[1]]);
            }
            errors.dedup();
        }
    }
    if let Some(Value::Array(details)) = step.pointer_mut("/error/details") {
        for line in details.iter_mut() {
            if line.as_str().is_some_and(|line| line.starts_with(FINDING)) {
                *line = FINDING.into();
            }
        }
        details.dedup();
    }
    step
}

fn events(events: &Value, side_by_side: bool) -> Vec<Value> {
    let mut events: Vec<Value> = events.as_array().cloned().unwrap_or_default();
    for event in &mut events {
        if event[0] == "execution_error" {
            let is_cycle = event[1]["type"] == CYCLE_TYPE;
            let is_block = event[1]["type"] == "ExecutionBlocked";
            let Some(failure) = event[1].as_object_mut() else { continue };
            // Long lists are shown in short.
            for list in failure["inputs"].as_object_mut().into_iter().flat_map(|inputs| inputs.values_mut()) {
                if let Value::Array(values) = list {
                    values.truncate(SHOWN_INPUTS);
                }
            }
            if is_cycle {
                // Here it names the nodes.
                failure.shift_remove("inputs");
            }
            if !is_block {
                failure.shift_remove("message");
            }
            if !is_block && !is_cycle {
                failure.shift_remove("type");
            }
        }
    }
    if side_by_side {
        events.sort_by_key(Value::to_string);
    }
    events
}
