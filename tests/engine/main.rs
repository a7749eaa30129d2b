//! What graphs do when they run: laziness, lists, blockers, expansions, loops, objects across packs, permissions, caches,
//! limits, errors, interrupts. Each case under `cases/` is a prompt with what must come of it.
//!
//! `expected.json`: `texts` (the `ui.text` per node), `ran` (the nodes that ran, as a set), `refused` or `error` (type) with
//! `contains`, `traceback` (parts of it), `longest_error` (bytes of the whole error), `between` (prompts that run then),
//! `again` (what ran when the same prompt came a second time), `kept_bytes` (the most that the cache may hold at the end).
//! `settings.json`: what differs from the defaults, see `case::CaseSettings`.
//!
//! # Layout
//! - [`case`]: runs a case
//! - [`interrupts`], [`limits`], [`parallel`], [`loops`], [`outside`]: what needs more than a prompt and its outcome
//! - this file: tenants, grants, memory

#![forbid(unsafe_code)]

mod case;
mod interrupts;
mod limits;
mod loops;
mod outside;
mod parallel;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::{Map, json};
use vivarium_packs::{Grants, lock::Lock, secrets::SecretFile};
use vivarium_protocol::{event::Event, history::HistoryEntry, tenant::TenantId};
use vivarium_tests::{Laboratory, Settings, cases, failure, tests_folder};
use vivarium_worker::{Engine, WorkerConfig};

#[test]
fn graphs_run_as_their_cases_say() -> Result<()> {
    let cases = cases(&tests_folder().join("engine/cases"))?;
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(error) = case::check(case) {
            failures.push(format!("{}: {error:#}", case.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }
    Ok(())
}

/// The nodes that were announced as executing.
pub(crate) fn ran(laboratory: &Laboratory) -> BTreeSet<String> {
    let executing = |event| match event {
        Event::Executing(executing) => executing.node,
        _ => None,
    };
    laboratory.recorder.events().into_iter().filter_map(executing).collect()
}

#[test]
fn weights_are_read_only_with_a_grant() -> Result<()> {
    let prompt = json!({
        "1": {"class_type": "TestWeights", "inputs": {"folder": "vae", "name": "tiny.safetensors", "key": "pixels"}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 1, "height": 1, "batch_size": 1, "color": 0}},
        "3": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
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

/// The text that an output node shows.
fn shown(entry: &HistoryEntry, node: &str) -> String {
    entry.outputs[node]["text"][0].as_str().unwrap_or_default().to_owned()
}

#[test]
fn numbers_of_weights_are_read_back_only_with_a_permission_of_its_own() -> Result<()> {
    let prompt = json!({
        "1": {"class_type": "TestWeightValues", "inputs": {"folder": "vae", "name": "tiny.safetensors", "key": "pixels"}}
    });
    let header = br#"{"pixels":{"dtype":"F32","shape":[1,1,1,3],"data_offsets":[0,12]}}"#;
    let data = [0.0_f32, 0.5, 1.0].map(f32::to_le_bytes).concat();
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &data].concat();
    for (granted, allowed) in
        [(vec!["testing:models/vae"], false), (vec!["testing:models/vae", "testing:models/vae/values"], true)]
    {
        let grants = granted.into_iter().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        let laboratory =
            Laboratory::start(Settings { grants: Grants::for_every_tenant(grants), ..Settings::default() })?;
        let folder = laboratory.base().join("models/vae");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("tiny.safetensors"), &file)?;
        let entry = laboratory.run(&prompt)?;
        match failure(&entry) {
            None => assert!(allowed && shown(&entry, "1") == "[0.0, 0.5, 1.0]", "{:?}", entry.outputs),
            Some((kind, message)) => assert!(!allowed && kind == "PermissionError", "{kind}: {message}"),
        }
    }
    Ok(())
}

#[test]
fn weights_stay_weights_on_their_way_through_other_nodes_and_packs() -> Result<()> {
    let header = br#"{"pixels":{"dtype":"F32","shape":[1,1,1,3],"data_offsets":[0,12]}}"#;
    let data = [0.0_f32, 0.5, 1.0].map(f32::to_le_bytes).concat();
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &data].concat();
    let weights = json!({"folder": "vae", "name": "tiny.safetensors", "key": "pixels"});
    let prompt = |class: &str, inputs: serde_json::Value| {
        json!({
            "1": {"class_type": "TestWeights", "inputs": weights},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": class, "inputs": inputs},
            "4": {"class_type": "TestShow", "inputs": {"value": ["3", 0]}}
        })
    };
    let show = prompt("PreviewImage", json!({"images": ["2", 0]}));
    let save = prompt("SaveImage", json!({"images": ["1", 0], "filename_prefix": "copy"}));
    let read = prompt("TestReadBytes", json!({"image": ["2", 0], "bytes": 12, "pieces": 1}));
    let start = |grants: &[&str]| -> Result<Laboratory> {
        let grants = grants.iter().map(|grant| grant.parse()).collect::<Result<Vec<_>, _>>()?;
        let laboratory =
            Laboratory::start(Settings { grants: Grants::for_every_tenant(grants), ..Settings::default() })?;
        let folder = laboratory.base().join("models/vae");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("tiny.safetensors"), &file)?;
        Ok(laboratory)
    };
    let without_output = |mut prompt: serde_json::Value| {
        // Nodes that save and show have no output.
        prompt.as_object_mut().map(|nodes| nodes.remove("4"));
        prompt
    };
    let computing = start(&["testing:models/vae"])?;
    let picture = ["numbers of a model file", "image:models/vae/values"];
    for (prompt, parts) in [
        (without_output(show.clone()), picture),
        (without_output(save), picture),
        (read.clone(), ["testing", "models/vae/values"]),
    ] {
        let (kind, message) = failure(&computing.run(&prompt)?).unwrap_or_default();
        assert!(kind == "PermissionError" && parts.iter().all(|part| message.contains(part)), "{kind}: {message}");
    }
    let reading = start(&["testing:models/vae", "testing:models/vae/values", "image:models/vae/values"])?;
    assert_eq!(failure(&reading.run(&without_output(show))?), None);
    assert_eq!(failure(&reading.run(&read)?), None);
    Ok(())
}

#[test]
fn a_secret_is_got_with_a_permission_and_shown_to_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let secrets = SecretFile::at(folder.path().join("secrets.json"));
    secrets.set(&TenantId::default_tenant(), "service-key", Some("hush-\"hush\"-1234".into()))?;
    let prompt =
        |fail: bool| json!({"1": {"class_type": "TestSecret", "inputs": {"name": "service-key", "fail": fail}}});

    let without =
        Laboratory::start(Settings { grants: Grants::default().with_secrets(secrets.clone()), ..Settings::default() })?;
    let (kind, message) = failure(&without.run(&prompt(false))?).unwrap_or_default();
    assert!(kind == "PermissionError" && message.contains("testing:secret/service-key"), "{kind}: {message}");

    let grants = Grants::for_every_tenant(["testing:secret/service-key".parse()?]).with_secrets(secrets);
    let with = Laboratory::start(Settings { grants, ..Settings::default() })?;
    assert_eq!(shown(&with.run(&prompt(false))?, "1"), "16 bytes: [secret]");
    let (_, message) = failure(&with.run(&prompt(true))?).unwrap_or_default();
    assert!(message.contains("the secret is [secret]"), "{message}");
    // Another tenant has no such secret, whatever the pack may do.
    let bob: TenantId = "bob".parse()?;
    let entry = with.wait(&bob, &with.submit(&bob, &prompt(false), None)?)?;
    let (kind, message) = failure(&entry).unwrap_or_default();
    assert!(kind == "FileNotFoundError", "{kind}: {message}");
    Ok(())
}

#[test]
fn clocks_are_fine_only_with_a_permission() -> Result<()> {
    let prompt = json!({"1": {"class_type": "TestClock", "inputs": {}}});
    let shortest = |grants: Grants| -> Result<u64> {
        let laboratory = Laboratory::start(Settings { grants, ..Settings::default() })?;
        Ok(shown(&laboratory.run(&prompt)?, "1").parse()?)
    };
    assert_eq!(shortest(Grants::default())? % 1_000_000, 0, "whole milliseconds only");
    let fine = shortest(Grants::for_every_tenant(["testing:clock/fine".parse()?]))?;
    assert_ne!(fine % 1_000_000, 0, "{fine} ns");
    Ok(())
}

#[test]
fn a_locked_prompt_runs_with_its_packs_only() -> Result<()> {
    let laboratory = Laboratory::start(Settings::default())?;
    let prompt =
        json!({"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 7}}});
    let mut lock = Lock::of(prompt.as_object().unwrap_or(&Map::new()), &laboratory.catalog.snapshot());
    assert!(lock.packs.contains_key("image"));
    let extra = |lock: &Lock| Map::from_iter([("vivarium".to_owned(), lock.to_value())]);
    assert!(laboratory.worker.check_lock(&extra(&lock)).is_ok());
    lock.packs.entry("image".into()).and_modify(|locked| locked.sha256 = "0".repeat(64));
    let invalid = laboratory.worker.check_lock(&extra(&lock)).err();
    assert!(invalid.is_some_and(|invalid| invalid.error.details.contains("image should be")));
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
