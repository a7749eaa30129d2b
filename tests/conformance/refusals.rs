//! `tests/goldens/errors`: every prompt that a real ComfyUI refused, or took in part, is answered as it was there.
//!
//! Where ours differs on purpose, `deviations.json` says how and why.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vivarium_server::ServerConfig;
use vivarium_tests::{cases, read_json, server::Server, tests_folder};

use crate::likeness::{difference, normalised, unlike};

#[test]
fn prompts_are_refused_as_comfyui_refuses_them() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    server.upload_folder(&tests_folder().join("goldens/inputs"))?;
    let deviations = deviations("errors")?;
    let cases = cases(&tests_folder().join("goldens/errors"))?;
    let mut failures = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        if let Err(error) = check(&server, case, deviations.get(&*name)) {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }
    Ok(())
}

fn check(server: &Server, case: &Path, deviation: Option<&Value>) -> Result<()> {
    let answer = server.post("/prompt", &read_json(&case.join("request.json"))?)?;
    let body = answer.json()?;
    let mut ours = json!({ "status": answer.status, "body": unordered(normalised(&body, body["prompt_id"].as_str())) });
    if ours["body"]["number"].is_number() {
        ours["body"]["number"] = json!("<number>");
    }
    let status: u16 = fs::read_to_string(case.join("status"))?.trim().parse()?;
    let body = unordered(normalised(&read_json(&case.join("response.json"))?, None));
    compare(&ours, json!({ "status": status, "body": body }), deviation)
}

/// Compares with the peer's, or with what the deviation says: `"ours"` is a pattern of the whole, `"instead"` names places in
/// the peer's and what ours has there.
pub(crate) fn compare(ours: &Value, mut peer: Value, deviation: Option<&Value>) -> Result<()> {
    if let Some(deviation) = deviation {
        deviation["reason"].as_str().context("the deviation has no reason")?;
        if let Some(pattern) = deviation.get("ours") {
            return match unlike(ours, pattern, "ours") {
                Some(difference) => bail!("{difference}"),
                None => Ok(()),
            };
        }
        for (pointer, value) in deviation["instead"].as_object().context("a deviation needs ours or instead")? {
            let place = peer.pointer_mut(pointer).with_context(|| format!("the peer's has no {pointer}"))?;
            ensure!(place != value, "{pointer} does not differ: the deviation is out of date");
            place.clone_from(value);
        }
    }
    match difference(ours, &peer, "") {
        Some(difference) => bail!("{difference}"),
        None => Ok(()),
    }
}

/// The lines of `error.details` come in the order of the outputs, which ComfyUI leaves open.
fn unordered(mut body: Value) -> Value {
    if let Some(details) = body["error"]["details"].as_str() {
        let mut lines: Vec<&str> = details.lines().collect();
        lines.sort_unstable();
        body["error"]["details"] = json!(lines.join("\n"));
    }
    body
}

/// The part of `deviations.json` for one kind of goldens.
pub(crate) fn deviations(kind: &str) -> Result<Value> {
    let all = read_json(&tests_folder().join("conformance/deviations.json"))?;
    Ok(all.get(kind).cloned().unwrap_or_default())
}
