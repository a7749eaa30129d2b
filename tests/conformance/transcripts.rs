//! `tests/goldens/transcripts`: a client that listens hears of a prompt what a real ComfyUI told, in that order, and finds
//! in the history what it kept.
//!
//! Freedoms: words of run-time errors, tensors as text, how many `progress_state` come between two other events (the newest
//! is always sent), and where the counts of waiting prompts come, as long as the last one comes last. `deviations.json`
//! lists what differs on purpose.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vivarium_server::ServerConfig;
use vivarium_tests::{
    cases, read_json,
    server::{Server, Socket},
    tests_folder,
};

use crate::{
    likeness::normalised,
    refusals::{compare, deviations},
};

const CLIENT: &str = "golden-client";

#[test]
fn clients_hear_of_a_prompt_what_comfyui_tells() -> Result<()> {
    let deviations = deviations("transcripts")?;
    let before = read_json(&tests_folder().join("conformance/run_before.json"))?;
    let cases = cases(&tests_folder().join("goldens/transcripts"))?;
    let mut failures = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        if let Err(error) = check(case, &before[&*name], deviations.get(&*name)) {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }
    Ok(())
}

fn check(case: &Path, before: &Value, deviation: Option<&Value>) -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    server.upload_folder(&tests_folder().join("goldens/inputs"))?;
    let prompt = read_json(&case.join("prompt.json"))?;
    for earlier in before.as_array().into_iter().flatten() {
        server.run(if earlier == "<same>" { &prompt } else { earlier })?;
    }
    let mut socket = server.connect(Some(CLIENT))?;
    let prompt_id = server.submit(&prompt, Some(CLIENT))?;
    let interrupt_at = case.ends_with("interrupted").then_some("2");
    let events = follow(&server, &mut socket, &prompt_id, interrupt_at)?;
    let ours = json!({
        "events": told(events.iter().map(|event| normalised(event, Some(&prompt_id))).collect()),
        "history": kept(normalised(&server.wait(&prompt_id)?, Some(&prompt_id))),
    });
    let lines = fs::read_to_string(case.join("events.jsonl"))?;
    let events: Result<Vec<Value>, _> = lines.lines().map(serde_json::from_str::<Value>).collect();
    let peer = json!({
        "events": told(events?.iter().map(|event| normalised(event, None)).collect()),
        "history": kept(normalised(&read_json(&case.join("history.json"))?, None)),
    });
    let both = format!("ours: {}\n   peer: {}", names(&ours), names(&peer));
    compare(&ours, peer, deviation).with_context(|| both)
}

fn names(transcript: &Value) -> String {
    let name = |event: &Value| match event["data"]["node"].as_str() {
        Some(node) => format!("{} {node}", event["type"].as_str().unwrap_or_default()),
        None => event["type"].as_str().unwrap_or_default().to_owned(),
    };
    let names: Vec<String> = transcript["events"].as_array().into_iter().flatten().map(name).collect();
    names.join(", ")
}

fn follow(server: &Server, socket: &mut Socket, prompt_id: &str, interrupt_at: Option<&str>) -> Result<Vec<Value>> {
    socket.events_until(|event| {
        let data = &event["data"];
        if interrupt_at.is_some() && event["type"] == "executing" && data["node"].as_str() == interrupt_at {
            server.post("/interrupt", &json!({})).map(drop).unwrap_or_default();
        }
        event["type"] == "executing" && data["node"].is_null() && data["prompt_id"] == prompt_id
    })
}

/// The events without the freedoms.
fn told(events: Vec<Value>) -> Value {
    let mut told: Vec<Value> = Vec::new();
    for mut event in events {
        free_words(&mut event["data"]);
        if event["type"] == "status" && event["data"]["status"]["exec_info"]["queue_remaining"] != 0.0 {
            continue;
        }
        let follows_same = told.last().is_some_and(|last| last["type"] == event["type"]);
        if event["type"] == "progress_state" && follows_same {
            told.pop();
        }
        told.push(event);
    }
    Value::Array(told)
}

/// The history entry without the freedoms, and without what only newer ComfyUIs have.
fn kept(mut entry: Value) -> Value {
    entry["prompt"][0] = json!("<number>");
    if let Some(extra_data) = entry["prompt"][3].as_object_mut() {
        extra_data.remove("create_time");
    }
    if let Some(outputs) = entry["prompt"][4].as_array_mut() {
        outputs.sort_by_key(Value::to_string);
    }
    for message in entry["status"]["messages"].as_array_mut().into_iter().flatten() {
        free_words(&mut message[1]);
    }
    entry
}

fn free_words(data: &mut Value) {
    if data.get("exception_type").is_none() {
        return;
    }
    data["exception_type"] = json!("<type>");
    let message = data["exception_message"].as_str().unwrap_or_default();
    // Clients show it as it is, so the line break at its end belongs to the protocol.
    data["exception_message"] = json!(if message.ends_with('\n') { "<message>\n" } else { "<message>" });
    for values in data["current_inputs"].as_object_mut().into_iter().flat_map(|inputs| inputs.values_mut()) {
        for value in values.as_array_mut().into_iter().flatten() {
            if value.as_str().is_some_and(|text| text.starts_with("tensor") || text.starts_with("<tensor")) {
                *value = json!("<tensor>");
            }
        }
    }
}
