//! One case: a prompt, perhaps with settings, and what must come of it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use vivarium_protocol::{history::HistoryEntry, tenant::TenantId};
use vivarium_tests::{Laboratory, Settings, failure, read_json};
use vivarium_worker::{CacheMode, Engine};

use crate::ran;

/// What a case may set.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseSettings {
    cache: Option<Cache>,
    parallel: Option<usize>,
    max_nodes: Option<usize>,
    max_depth: Option<usize>,
    max_ephemeral_nodes: Option<usize>,
    max_expansion_depth: Option<usize>,
    execute_ms: Option<u64>,
    prompt_ms: Option<u64>,
    guest_memory: Option<u64>,
    call_tensor_bytes: Option<u64>,
    tenant_tensor_bytes: Option<u64>,
    cache_bytes: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cache {
    Classic,
    None,
    /// With all of the machine's memory to fill.
    Ram,
    /// As if the machine had none left.
    Pressed,
}

impl CaseSettings {
    fn read(case: &Path) -> Result<Self> {
        let path = case.join("settings.json");
        Ok(if path.exists() { serde_json::from_value(read_json(&path)?)? } else { Self::default() })
    }

    fn settings(&self) -> Settings {
        fn set<T: Copy>(field: &mut T, given: Option<T>) {
            *field = given.unwrap_or(*field);
        }
        let mut settings = Settings::default();
        let graph = &mut settings.worker.graph_limits;
        set(&mut graph.max_nodes, self.max_nodes);
        set(&mut graph.max_depth, self.max_depth);
        set(&mut graph.max_ephemeral_nodes, self.max_ephemeral_nodes);
        set(&mut graph.max_expansion_depth, self.max_expansion_depth);
        set(&mut settings.worker.parallel_nodes, self.parallel);
        let limits = &mut settings.limits;
        set(&mut limits.execute_time, self.execute_ms.map(Duration::from_millis));
        set(&mut limits.prompt_time, self.prompt_ms.map(Duration::from_millis));
        set(&mut limits.guest_memory, self.guest_memory);
        set(&mut limits.call_tensor_bytes, self.call_tensor_bytes);
        set(&mut limits.tenant_tensor_bytes, self.tenant_tensor_bytes);
        set(&mut limits.cache_bytes, self.cache_bytes);
        settings.worker.cache = match self.cache {
            None | Some(Cache::Classic) => CacheMode::Classic,
            Some(Cache::None) => CacheMode::None,
            Some(Cache::Ram) => CacheMode::Ram { headroom: 0 },
            Some(Cache::Pressed) => CacheMode::Ram { headroom: u64::MAX },
        };
        settings
    }
}

/// Runs a case on a worker of its own, so that none finds another's results.
pub(crate) fn check(case: &Path) -> Result<()> {
    let laboratory = Laboratory::start(CaseSettings::read(case)?.settings())?;
    let (prompt, expected) = (read_json(&case.join("prompt.json"))?, read_json(&case.join("expected.json"))?);
    if let Some(wanted) = expected["refused"].as_str() {
        return check_refusal(&laboratory, &prompt, wanted, &expected);
    }
    let entry = laboratory.run(&prompt)?;
    check_error(&entry, &expected)?;
    for (node, texts) in expected["texts"].as_object().into_iter().flatten() {
        let shown = entry.outputs.get(node).map_or(&Value::Null, |output| &output["text"]);
        if shown != texts {
            bail!("node {node} shows {shown}, not {texts}");
        }
    }
    let ran_first = ran(&laboratory);
    if expected.get("ran").is_some_and(|wanted| as_set(wanted) != ran_first) {
        bail!("{ran_first:?} ran, not {}", expected["ran"]);
    }
    for prompt in expected["between"].as_array().into_iter().flatten() {
        laboratory.run(prompt)?;
    }
    if let Some(again) = expected.get("again") {
        laboratory.recorder.clear();
        laboratory.run(&prompt)?;
        let ran_again = ran(&laboratory);
        if as_set(again) != ran_again {
            bail!("the second time {ran_again:?} ran, not {again}");
        }
    }
    if let Some(most) = expected["kept_bytes"].as_u64() {
        let limits = laboratory.worker.limits(&TenantId::default_tenant());
        let kept = limits.iter().find(|limit| limit.name == "cache_bytes").and_then(|limit| limit.used);
        let kept = kept.context("how much is kept")?;
        if kept == 0 || kept > most {
            bail!("{kept} bytes are kept");
        }
    }
    Ok(())
}

fn as_set(names: &Value) -> BTreeSet<String> {
    texts(names).map(str::to_owned).collect()
}

fn texts(names: &Value) -> impl Iterator<Item = &str> {
    names.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn check_refusal(laboratory: &Laboratory, prompt: &Value, wanted: &str, expected: &Value) -> Result<()> {
    match laboratory.worker.validate(&TenantId::default_tenant(), prompt.clone(), None) {
        Ok(_) => bail!("it was accepted"),
        Err(invalid) if invalid.error.r#type != wanted => bail!("it was refused with {:?}", invalid.error),
        Err(invalid) => contains(&invalid.error.details, &expected["contains"]),
    }
}

fn contains(text: &str, parts: &Value) -> Result<()> {
    match texts(parts).find(|part| !text.contains(part)) {
        Some(part) => bail!("it does not say {part:?}: {text}"),
        None => Ok(()),
    }
}

fn check_error(entry: &HistoryEntry, expected: &Value) -> Result<()> {
    match (failure(entry), expected["error"].as_str()) {
        (None, None) => return Ok(()),
        (Some((kind, message)), Some(wanted)) if kind == wanted => contains(&message, &expected["contains"])?,
        (found, wanted) => bail!("it ended with {found:?} instead of {wanted:?}"),
    }
    let messages = entry.status.as_ref().context("a status")?.messages.iter();
    let (_, error) = messages.rev().find(|(name, _)| name == "execution_error").context("an error")?;
    contains(&texts(&error["traceback"]).collect::<String>(), &expected["traceback"])?;
    match expected["longest_error"].as_u64() {
        Some(limit) if error.to_string().len() as u64 > limit => {
            bail!("the error has {} bytes", error.to_string().len())
        }
        _ => Ok(()),
    }
}
