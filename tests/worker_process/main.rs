//! Prompts in processes of their own: that clients can't tell the difference, that the walls stand, that a process that dies
//! takes nobody else along, and who shares a process with whom.
//!
//! # Layout
//! - this file: the same as inside of the server; the walls
//! - [`deaths`]: processes that are killed
//! - [`groups`]: who has which process, and for how long
//! - [`changes`]: packs, limits and grants that change while a process runs
//! - [`children`]: the processes as the system sees them

#![forbid(unsafe_code)]

mod changes;
mod children;
mod deaths;
mod groups;

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vivarium_image_codec::encode_png;
use vivarium_protocol::{event::Event, tenant::TenantId};
use vivarium_tests::{Laboratory, Settings, failure, process_settings};
use vivarium_worker::{Engine, process::ProcessSettings};

use self::children::{Child, children};

/// Processes that only this test has.
fn own_processes(name: &str) -> Result<ProcessSettings> {
    Ok(ProcessSettings { arguments: vec![name.into()], ..process_settings()? })
}

fn laboratory(name: &str) -> Result<Laboratory> {
    Laboratory::start(Settings { processes: Some(own_processes(name)?), ..Settings::default() })
}

fn tenant(name: &str) -> Result<TenantId> {
    Ok(name.parse()?)
}

fn busy(milliseconds: u64) -> Value {
    json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds, "every": 5}}})
}

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let begun = std::time::Instant::now();
    while !so() {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("not within a minute: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Starts a prompt that takes long, and waits until its node runs.
fn begin(laboratory: &Laboratory, tenant: &TenantId) -> Result<String> {
    let prompt_id = laboratory.submit(tenant, &busy(600_000), Some("client"))?;
    until("a node runs", || laboratory.worker.running_node(tenant).is_some())?;
    Ok(prompt_id)
}

fn succeeds(laboratory: &Laboratory, tenant: &TenantId, prompt: &Value) -> Result<()> {
    let prompt_id = laboratory.submit(tenant, prompt, Some("client"))?;
    match failure(&laboratory.wait(tenant, &prompt_id)?) {
        None => Ok(()),
        Some((kind, message)) => bail!("it failed with {kind}: {message}"),
    }
}

/// Takes out what differs from run to run: ids, times, random names.
fn clean(value: &mut Value) {
    match value {
        Value::Object(entries) => entries.iter_mut().for_each(|(key, value)| match key.as_str() {
            "prompt_id" | "timestamp" => *value = Value::Null,
            // Previews are named at random.
            "filename" if value.as_str().is_some_and(|name| name.starts_with("ComfyUI_temp_")) => *value = Value::Null,
            _ => clean(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

/// As two runs may be compared.
fn comparable(events: Vec<Event>) -> Vec<Value> {
    let cleaned = |event: Event| {
        let mut value = serde_json::to_value(event).unwrap_or_default();
        clean(&mut value);
        value
    };
    events.into_iter().map(cleaned).collect()
}

#[test]
fn clients_hear_the_same_from_a_prompt_in_a_process() -> Result<()> {
    let prompts = [
        json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
            "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "same/%width%"}}
        }),
        // From the cache, but for one node.
        json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "same/%width%"}}
        }),
        // Fails.
        json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "../outside"}}
        }),
        busy(60),
    ];
    let mut heard = Vec::new();
    for processes in [None, Some(own_processes("same")?)] {
        let mut settings = Settings { processes, ..Settings::default() };
        settings.worker.parallel_nodes = 1;
        let laboratory = Laboratory::start(settings)?;
        let photo = encode_png(&[200; 16 * 8 * 3], 16, 8, 3, 1, &[])?;
        laboratory.add_input(&TenantId::default_tenant(), "photo.png", &photo)?;
        let mut outcomes = Vec::new();
        for prompt in &prompts {
            laboratory.recorder.clear();
            let entry = laboratory.run(prompt)?;
            // The last message comes after the history has the prompt.
            until("the end is told", || {
                let nothing = |event: &Event| matches!(event, Event::Executing(executing) if executing.node.is_none());
                laboratory.recorder.events().last().is_some_and(nothing)
            })?;
            let mut events = comparable(laboratory.recorder.events());
            // How often a node is heard depends on the clock.
            events.retain(|event| {
                *prompt != prompts[3] || !["progress", "progress_state"].map(Value::from).contains(&event["type"])
            });
            let failed = failure(&entry);
            let mut outputs = Value::Object(entry.outputs);
            clean(&mut outputs);
            outcomes.push((events, outputs, entry.meta, failed));
        }
        heard.push(outcomes);
    }
    let [inside, beside] = heard.as_slice() else { bail!("two runs") };
    for (number, (inside, beside)) in inside.iter().zip(beside).enumerate() {
        ensure!(inside == beside, "prompt {number} differs:\n{inside:#?}\n{beside:#?}");
        ensure!(!inside.0.is_empty());
    }
    ensure!(inside[2].3.is_some() && inside[3].3.is_none());
    Ok(())
}

#[test]
fn previews_validators_and_interrupts_cross_the_wall() -> Result<()> {
    let laboratory = laboratory("cross")?;
    let tenant = TenantId::default_tenant();
    let refused = laboratory.submit(
        &tenant,
        &json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": "missing.png"}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        }),
        None,
    );
    let message = refused.err().context("a missing file was accepted")?.to_string();
    ensure!(message.contains("missing.png"), "{message}");
    let prompt_id = begin(&laboratory, &tenant)?;
    ensure!(laboratory.worker.interrupt(&tenant, Some(&prompt_id)));
    let entry = laboratory.wait(&tenant, &prompt_id)?;
    let last = entry.status.context("a status")?.messages.pop().map(|(name, _)| name);
    ensure!(last.as_deref() == Some("execution_interrupted"), "{last:?}");
    succeeds(&laboratory, &tenant, &busy(1))
}

/// That of the kernel, about a process that runs prompts.
#[test]
fn the_process_that_runs_prompts_is_confined() -> Result<()> {
    let laboratory = laboratory("confined")?;
    succeeds(&laboratory, &TenantId::default_tenant(), &busy(1))?;
    let [child] = <[Child; 1]>::try_from(children("confined")?).map_err(|all| anyhow::anyhow!("{all:?}"))?;
    for (field, wanted) in
        [("Seccomp:", "2"), ("NoNewPrivs:", "1"), ("CapEff:", "0000000000000000"), ("CapPrm:", "0000000000000000")]
    {
        ensure!(child.status(field)? == wanted, "{field} is {}, not {wanted}", child.status(field)?);
    }
    ensure!(child.limit("Max core file size")? == "0");
    // Its socket, and its standard output and error; nothing else of the server's.
    let open = child.open_files()?;
    ensure!(open.iter().all(|file| !file.contains("sqlite") && !file.contains("input")), "{open:?}");
    Ok(())
}

/// That of a process behind the same walls which tries, and does without the walls all that it tries.
#[test]
fn behind_the_walls_there_is_no_socket_no_file_and_no_program() -> Result<()> {
    let laboratory = laboratory("attempts")?;
    let tenant = TenantId::default_tenant();
    laboratory.add_input(&tenant, "secret.png", b"not for everybody")?;
    succeeds(&laboratory, &tenant, &busy(1))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let attempts = |walls: &str| attempts(laboratory.base(), port, walls);
    let behind = attempts("behind")?;
    let without = attempts("without")?;
    ensure!(behind.len() == 10 && without.len() == 10, "{behind:?}");
    for (behind, without) in behind.iter().zip(&without) {
        ensure!(without.ends_with(": done"), "without walls, too: {without}");
        ensure!(behind.contains("(os error 1)") || behind.contains("(os error 13)"), "{behind}");
    }
    Ok(())
}

fn attempts(base: &Path, port: u16, walls: &str) -> Result<Vec<String>> {
    let output = Command::new(process_settings()?.program)
        .arg("attempts")
        .arg(base)
        .args([&port.to_string(), walls])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}
