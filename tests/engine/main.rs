//! What graphs do when they run: laziness, lists, blockers, expansions, objects across packs, permissions, the cache,
//! interrupts. Each case under `cases/` is a prompt with what must come of it.
//!
//! `expected.json`: `texts` (the `ui.text` per node), `ran` (the nodes that ran, as a set), `error` (type) with
//! `contains`, `again` (what ran when the same prompt came a second time).

#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vivarium_packs::Grants;
use vivarium_protocol::{event::Event, tenant::TenantId};
use vivarium_tests::{Laboratory, Settings, cases, failure, read_json, tests_folder};
use vivarium_worker::{Engine, WorkerConfig};

#[test]
fn graphs_run_as_their_cases_say() -> Result<()> {
    let cases = cases(&tests_folder().join("engine/cases"))?;
    let mut failures = Vec::new();
    for case in &cases {
        // A worker of its own, so that no case finds another's results.
        let laboratory = Laboratory::start(Settings::default())?;
        if let Err(error) = check_case(&laboratory, case) {
            failures.push(format!("{}: {error:#}", case.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }
    Ok(())
}

/// The nodes that were announced as executing.
fn ran(laboratory: &Laboratory) -> BTreeSet<String> {
    let executing = |event| match event {
        Event::Executing(executing) => executing.node,
        _ => None,
    };
    laboratory.recorder.events().into_iter().filter_map(executing).collect()
}

fn as_set(names: &Value) -> BTreeSet<String> {
    names.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn check_case(laboratory: &Laboratory, case: &Path) -> Result<()> {
    let (prompt, expected) = (read_json(&case.join("prompt.json"))?, read_json(&case.join("expected.json"))?);
    let entry = laboratory.run(&prompt)?;
    match (failure(&entry), expected["error"].as_str()) {
        (None, None) => {}
        (Some((kind, message)), Some(wanted)) if kind == wanted => {
            let mut parts = expected["contains"].as_array().into_iter().flatten().filter_map(Value::as_str);
            if let Some(part) = parts.find(|part| !message.contains(*part)) {
                bail!("the message does not say {part:?}: {message}");
            }
        }
        (found, wanted) => bail!("it ended with {found:?} instead of {wanted:?}"),
    }
    for (node, texts) in expected["texts"].as_object().into_iter().flatten() {
        let shown = entry.outputs.get(node).map_or(&Value::Null, |output| &output["text"]);
        if shown != texts {
            bail!("node {node} shows {shown}, not {texts}");
        }
    }
    let ran_first = ran(laboratory);
    if expected.get("ran").is_some_and(|wanted| as_set(wanted) != ran_first) {
        bail!("{ran_first:?} ran, not {}", expected["ran"]);
    }
    if let Some(again) = expected.get("again") {
        laboratory.recorder.clear();
        laboratory.run(&prompt)?;
        let ran_again = ran(laboratory);
        if as_set(again) != ran_again {
            bail!("the second time {ran_again:?} ran, not {again}");
        }
    }
    Ok(())
}

fn busy(milliseconds: u64) -> Value {
    json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds, "every": 5}}})
}

#[test]
fn an_interrupt_stops_a_node_that_runs_and_the_next_prompt_runs() -> Result<()> {
    let laboratory = Laboratory::start(Settings::default())?;
    let tenant = TenantId::default_tenant();
    let prompt_id = laboratory.submit(&tenant, &busy(30_000), Some("client"))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while laboratory.worker.running_node(&tenant).is_none() {
        if Instant::now() > deadline {
            bail!("the prompt did not start");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if laboratory.worker.interrupt(&tenant, Some("another prompt")) {
        bail!("an interrupt of another prompt was taken for this one");
    }
    if laboratory.worker.interrupt(&"stranger".parse()?, None) {
        bail!("a stranger could interrupt this tenant's prompt");
    }
    assert!(laboratory.worker.interrupt(&tenant, Some(&prompt_id)));
    let entry = laboratory.wait(&tenant, &prompt_id)?;
    let status = entry.status.context("a status")?;
    assert_eq!(status.messages.last().map(|(name, _)| name.as_str()), Some("execution_interrupted"));
    assert!(!status.completed);
    assert!(failure(&laboratory.run(&busy(1))?).is_none());
    Ok(())
}

#[test]
fn weights_are_read_only_with_a_grant() -> Result<()> {
    let prompt = json!({
        "1": {"class_type": "TestWeights", "inputs": {"folder": "vae", "name": "tiny.safetensors", "key": "pixels"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    });
    let header = br#"{"pixels":{"dtype":"F32","shape":[1,1,1,3],"data_offsets":[0,12]}}"#;
    let data = [0.0_f32, 0.5, 1.0].map(f32::to_le_bytes).concat();
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &data].concat();
    let grants = [
        (Grants::default(), Some("PermissionError")),
        (Grants::for_every_tenant(["testing:models/checkpoints".parse()?]), Some("PermissionError")),
        (Grants::for_every_tenant(["testing:models/vae".parse()?]), None),
    ];
    for (grants, wanted) in grants {
        let laboratory = Laboratory::start(Settings { grants, ..Settings::default() })?;
        let folder = laboratory.base().join("models/vae");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("tiny.safetensors"), &file)?;
        let entry = laboratory.run(&prompt)?;
        let found = failure(&entry);
        assert_eq!(found.as_ref().map(|(kind, _)| kind.as_str()), wanted, "{found:?}");
        if let Some((_, message)) = found {
            assert!(message.contains("--grant testing:models/vae"), "the message does not say what to do: {message}");
        }
    }
    Ok(())
}

#[test]
fn one_tenants_results_and_files_are_not_another_tenants() -> Result<()> {
    let laboratory = Laboratory::start(Settings::default())?;
    let (alice, bob): (TenantId, TenantId) = ("alice".parse()?, "bob".parse()?);
    let prompt = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 7}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "shared"}}
    });
    for tenant in [&alice, &bob] {
        laboratory.recorder.clear();
        let prompt_id = laboratory.submit(tenant, &prompt, Some("client"))?;
        let entry = laboratory.wait(tenant, &prompt_id)?;
        assert_eq!(ran(&laboratory).len(), 2, "nothing of another tenant's results is reused");
        assert_eq!(entry.outputs["2"]["images"][0]["filename"], "shared_00001_.png");
    }
    assert!(laboratory.queue.history(&"carol".parse()?, None, None)?.is_empty());
    assert_eq!(laboratory.queue.history(&bob, None, None)?.len(), 1);
    Ok(())
}

#[test]
fn a_prompt_larger_than_its_memory_drops_what_nobody_needs() -> Result<()> {
    let mut settings = Settings::default();
    // Room for about four images of 1024² RGB (12.6 MB each); a chain of ten makes ten of them.
    settings.limits.tenant_tensor_bytes = 52 << 20;
    settings.worker = WorkerConfig::default();
    let laboratory = Laboratory::start(settings)?;
    let mut prompt = json!({
        "0": {"class_type": "EmptyImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1, "color": 7}},
        "11": {"class_type": "PreviewImage", "inputs": {"images": ["10", 0]}}
    });
    for index in 1..=10 {
        let source = (index - 1).to_string();
        prompt[index.to_string()] = json!({"class_type": "ImageInvert", "inputs": {"image": [source, 0]}});
    }
    let entry = laboratory.run(&prompt)?;
    assert!(failure(&entry).is_none(), "{:?}", failure(&entry));
    Ok(())
}
