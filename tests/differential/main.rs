//! The same prompts here and in a real ComfyUI, with the same answers, events, results and history.
//!
//! The prompts are random graphs by seed (`tests/peer/differential/graphs.py`), what ComfyUI made of them was written down
//! by `record.py` beside it. `cases.jsonl` holds some hundred cases; any other recording can be checked:
//!
//! ```text
//! DIFFERENTIAL=recording.jsonl cargo test -p vivarium-tests --test differential -- --nocapture
//! ```
//!
//! # Layout
//! - this file: runs the cases
//! - [`reduce`]: our side in the form of the recording
//! - [`compare`]: what counts as different

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env, fs,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use vivarium_image_codec::{DecodeLimits, decode_first};
use vivarium_server::ServerConfig;
use vivarium_tests::{
    server::{Server, Socket},
    tests_folder,
};
use vivarium_worker::CacheMode;

mod compare;
mod reduce;

/// Shown of a run with many differences.
const MAX_SHOWN: usize = 60;

/// The cache of cases that name none.
const CLASSIC: &str = "classic";

#[test]
fn random_graphs_run_as_in_comfyui() -> Result<()> {
    let recording =
        env::var_os("DIFFERENTIAL").map_or_else(|| tests_folder().join("differential/cases.jsonl"), PathBuf::from);
    let text = fs::read_to_string(&recording).with_context(|| recording.display().to_string())?;
    let mut servers = BTreeMap::new();
    let (mut count, mut failed) = (0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).with_context(|| format!("line {} of the recording", count + 1))?;
        count += 1;
        let cache = case["cache"].as_str().unwrap_or(CLASSIC);
        let name = || format!("seed {} ({}, cache {cache})", case["seed"], case["profile"]);
        let (server, socket) = match servers.entry(cache.to_owned()) {
            Entry::Occupied(started) => started.into_mut(),
            Entry::Vacant(place) => {
                let server = Server::start_with_cache(ServerConfig::default(), cache_mode(place.key())?)?;
                let socket = server.connect(Some("differential"))?;
                place.insert((server, socket))
            }
        };
        if cache != CLASSIC {
            server.post("/free", &json!({"free_memory": true}))?;
        }
        let differences = run_case(server, socket, &case).with_context(name)?;
        if !differences.is_empty() {
            failed.push(format!("{}:\n  {}", name(), differences.join("\n  ")));
        }
    }
    if count == 0 {
        bail!("{} holds no cases", recording.display());
    }
    if !failed.is_empty() {
        let shown: Vec<_> = failed.iter().take(MAX_SHOWN).map(String::as_str).collect();
        bail!("{} of {count} cases differ:\n{}", failed.len(), shown.join("\n"));
    }
    Ok(())
}

/// As `--cache` of `record.py`.
fn cache_mode(text: &str) -> Result<CacheMode> {
    Ok(match text.split_once(':') {
        None if text == CLASSIC => CacheMode::Classic,
        None if text == "none" => CacheMode::None,
        Some(("lru", results)) => CacheMode::Lru(results.parse()?),
        _ => bail!("{text} is no cache of a recording"),
    })
}

/// A prompt that leaves nothing of the case before in a classic cache.
fn flush() -> Value {
    json!({
        "flush": {"class_type": "TestOutputNodeWithSocketOutput", "inputs": {"image": ["source", 0], "value": 1.0}},
        "source": {"class_type": "StubConstantImage", "inputs": {"value": 0.125, "height": 1, "width": 1, "batch_size": 1}},
    })
}

fn run_case(server: &Server, socket: &mut Socket, case: &Value) -> Result<Vec<String>> {
    run_step(server, socket, &json!({"prompt": flush()}))?;
    let side_by_side = case["profile"] == "async";
    let mut found = Vec::new();
    for (index, theirs) in case["steps"].as_array().context("steps")?.iter().enumerate() {
        let ours = run_step(server, socket, &theirs["body"])?;
        let differences = compare::differences(theirs, &ours, side_by_side);
        found.extend(differences.into_iter().map(|difference| format!("step {index}: {difference}")));
    }
    Ok(found)
}

fn run_step(server: &Server, socket: &mut Socket, body: &Value) -> Result<Value> {
    let mut request = body.clone();
    request["client_id"] = socket.client_id.as_str().into();
    let answer = server.post("/prompt", &request)?;
    let (status, answer) = (answer.status, answer.json()?);
    let mut step = json!({"status": status, "node_errors": reduce::node_errors(&answer["node_errors"])});
    if status != 200 {
        step["error"] = reduce::error(&answer["error"]);
        return Ok(step);
    }
    let prompt_id = answer["prompt_id"].as_str().context("an accepted prompt has an id")?;
    let mut events = socket.events_of(prompt_id)?;
    events.retain(|event| event["data"]["prompt_id"] == prompt_id);
    let entry = server.get(&format!("/history/{prompt_id}"))?.json()?[prompt_id].take();
    let names = reduce::Names::of_events(&events);
    step["events"] = reduce::events(&events, &names).into();
    step["images"] = images(server, &body["prompt"], &entry["outputs"])?;
    step["history"] = reduce::history(&entry, &names);
    Ok(step)
}

/// The images of the posted nodes.
fn images(server: &Server, prompt: &Value, outputs: &Value) -> Result<Value> {
    let posted = outputs.as_object().into_iter().flatten().filter(|(node, _)| prompt.get(node.as_str()).is_some());
    let mut images = Map::new();
    for (node, ui) in posted {
        let saved = ui["images"].as_array().into_iter().flatten();
        images.insert(node.clone(), saved.map(|image| picture(server, image)).collect::<Result<Vec<_>>>()?.into());
    }
    Ok(images.into())
}

/// Folder and pixels of a saved image; one colour is written as such.
fn picture(server: &Server, image: &Value) -> Result<String> {
    let text = |key: &str| image[key].as_str().unwrap_or_default();
    let escaped = |key: &str| text(key).bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let (kind, subfolder) = (text("type"), text("subfolder"));
    let path = format!("/view?filename={}&subfolder={}&type={kind}", escaped("filename"), escaped("subfolder"));
    let frame = decode_first(&server.get(&path)?.body, &DecodeLimits::default())?;
    let pixels = frame.rgb.to_u8();
    let first = pixels.get(..3).context("an image has a pixel")?;
    let shown = match pixels.chunks_exact(3).all(|pixel| pixel == first) {
        true => format!("#{}", hex::encode(first)),
        false => hex::encode(Sha256::digest(&pixels))[..16].to_owned(),
    };
    Ok(format!("{kind}/{subfolder} {}x{} {shown}", frame.width, frame.height))
}
