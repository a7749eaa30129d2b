//! Hostile packs. Each case is a folder under `cases/` with a prompt and what must come of it; while it runs, a second
//! tenant's prompt must end well, and afterwards the attacker's tensor memory is back.
//!
//! `expected.json`: `error` (exception type), `contains` (parts of the message), `longest_message` (bytes), or
//! `refused: true` for nodes that list their attempts as text. `{port}` in a prompt is the port of the server in `web`.
//! Attacks on time get little of it, the others so much that no other work on the machine lets them run out of it.
//!
//! With `VIVARIUM_ATTACKS=lines` in the environment (`cargo xtask attacks`) there is a line on standard output for each case,
//! with tabs: `attack`, the case, `stopped` or `failed`, milliseconds of the second tenant's prompt meanwhile and on the idle
//! worker, and what was said.

#![forbid(unsafe_code)]

mod images;
mod logs;
mod requests;
mod tenants;
mod threat_model;
mod web;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vivarium_blobs::NamedFolders;
use vivarium_protocol::{history::HistoryEntry, tenant::TenantId};
use vivarium_sandbox::Limits;
use vivarium_tests::{Laboratory, Settings, cases, failure, read_json, tests_folder};
use vivarium_worker::{Engine, WorkerConfig};

const LITTLE_TIME: Duration = Duration::from_millis(1500);
const MUCH_TIME: Duration = Duration::from_secs(300);

fn limits(execute_time: Duration) -> Limits {
    Limits {
        guest_memory: 64 << 20,
        execute_time,
        query_time: Duration::from_secs(5),
        call_tensor_bytes: 256 << 20,
        tenant_tensor_bytes: 512 << 20,
        handles: 1000,
        transfer_bytes: 16 << 20,
        object_call_depth: 8,
        http_response_bytes: 1 << 20,
        http_request_bytes: 1 << 20,
        http_time: Duration::from_millis(700),
        scratch_bytes: 1 << 20,
        scratch_files: 20,
        ..Limits::default()
    }
}

/// The prompt of somebody else. Each has a colour of its own, or the second would only be looked up.
fn bystander(color: usize) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": 1, "color": color}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    })
}

fn is_reporting() -> bool {
    std::env::var("VIVARIUM_ATTACKS").as_deref() == Ok("lines")
}

/// How long it takes on a worker that does nothing else, just before a case: the median of three.
fn idle_time(laboratory: &Laboratory, case: usize) -> Result<Duration> {
    let alice: TenantId = "alice".parse()?;
    let mut times = Vec::new();
    for round in 1..=3 {
        let start = Instant::now();
        laboratory.wait(&alice, &laboratory.submit(&alice, &bystander(case + (round << 12)), None)?)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// What came of a case, for `cargo xtask attacks`.
fn report(case: &str, outcome: &Result<Attack>, idle: Duration) {
    let milliseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let (word, bystander, said) = match outcome {
        Ok(attack) => ("stopped", milliseconds(attack.bystander), attack.said.clone()),
        Err(error) => ("failed", "-".to_owned(), format!("{error:#}")),
    };
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    println!("\nattack\t{case}\t{word}\t{bystander}\t{}\t{said}", milliseconds(idle));
}

#[test]
fn every_attack_fails_and_nobody_else_notices() -> Result<()> {
    let port = web::serve()?;
    let photos = tempfile::tempdir()?;
    std::os::unix::fs::symlink("/etc", photos.path().join("link"))?;
    let mallory: TenantId = "mallory".parse()?;
    let laboratory = |execute_time| -> Result<Laboratory> {
        let worker = WorkerConfig { workers: 2, ..WorkerConfig::default() };
        let laboratory = Laboratory::start(Settings {
            limits: limits(execute_time),
            worker,
            grants: web::grants(port)?,
            http: Some(web::client()),
            folders: NamedFolders::new([
                ("photos".to_owned(), photos.path().to_owned()),
                ("other".to_owned(), tests_folder()),
            ]),
            ..Settings::default()
        })?;
        laboratory.add_input(&mallory, "secret.png", b"not for everybody")?;
        let models = laboratory.base().join("models/loras");
        std::fs::create_dir_all(&models)?;
        let header = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
        std::fs::write(models.join("tiny.safetensors"), file)?;
        Ok(laboratory)
    };
    let (hasty, patient) = (laboratory(LITTLE_TIME)?, laboratory(MUCH_TIME)?);
    let cases = cases(&tests_folder().join("attacks/cases"))?;
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let expected = read_json(&case.join("expected.json"))?;
        let laboratory = if expected["error"] == "TimeoutError" { &hasty } else { &patient };
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        let idle = if is_reporting() { Some(idle_time(laboratory, number)?) } else { None };
        let outcome = attack(laboratory, &mallory, case, &expected, port, number);
        if let Some(idle) = idle {
            report(&name, &outcome, idle);
        }
        if let Err(error) = outcome {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    println!("{} stopped, {} failed", cases.len() - failures.len(), failures.len());
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// An attack that was stopped.
struct Attack {
    /// How long somebody else's prompt took meanwhile.
    bystander: Duration,
    /// What the attacker was told.
    said: String,
}

fn attack(
    laboratory: &Laboratory,
    mallory: &TenantId,
    case: &Path,
    expected: &Value,
    port: u16,
    number: usize,
) -> Result<Attack> {
    let alice: TenantId = "alice".parse()?;
    let prompt = read_json(&case.join("prompt.json"))?.to_string().replace("{port}", &port.to_string());
    let hostile = laboratory.submit(mallory, &serde_json::from_str(&prompt)?, None)?;
    let start = Instant::now();
    let honest = laboratory.submit(&alice, &bystander(number), None)?;
    let honest = laboratory.wait(&alice, &honest).context("the bystander")?;
    let bystander = start.elapsed();
    if let Some((kind, message)) = failure(&honest) {
        bail!("the bystander failed with {kind}: {message}");
    }
    let entry = laboratory.wait(mallory, &hostile)?;
    let said = check(&entry, expected)?;
    // What the attack made must be gone; a small result may be kept.
    let used = laboratory.worker.limits(mallory).into_iter().find(|limit| limit.name == "tenant_tensor_bytes");
    match used.and_then(|limit| limit.used) {
        Some(bytes) if bytes <= 1 << 20 => Ok(Attack { bystander, said }),
        used => bail!("{used:?} bytes of tensors are still charged"),
    }
}

/// Compares with what must come of it; answers what was said.
fn check(entry: &HistoryEntry, expected: &Value) -> Result<String> {
    if expected["refused"] == true {
        return check_refusals(entry);
    }
    let found = failure(entry);
    let Some(kind) = expected["error"].as_str() else {
        return match found {
            None => Ok("it ended, and did nothing".to_owned()),
            Some((kind, message)) => bail!("it failed with {kind}: {message}"),
        };
    };
    let Some((found_kind, message)) = found else { bail!("it was not stopped: {:?}", entry.outputs) };
    if found_kind != kind {
        bail!("it was stopped by {found_kind}, not by {kind}: {message}");
    }
    for part in expected["contains"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !message.contains(part) {
            bail!("the message does not say {part:?}: {message}");
        }
    }
    if let Some(limit) = expected["longest_message"].as_u64()
        && message.len() as u64 > limit
    {
        bail!("the message has {} bytes", message.len());
    }
    if message.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        bail!("the message holds control characters: {message:?}");
    }
    Ok(format!("{kind}: {message}"))
}

fn check_refusals(entry: &HistoryEntry) -> Result<String> {
    if let Some((kind, message)) = failure(entry) {
        bail!("it failed with {kind}: {message}");
    }
    let texts = entry.outputs.values().filter_map(|output| output["text"].as_array()).flatten();
    let lines: Vec<&str> = texts.filter_map(Value::as_str).collect();
    if lines.is_empty() {
        bail!("it listed no attempts: {:?}", entry.outputs);
    }
    let through: Vec<_> = lines.iter().filter(|line| !line.contains("refused")).collect();
    if !through.is_empty() {
        bail!("{through:?}");
    }
    Ok(format!("{} attempts, all refused", lines.len()))
}
