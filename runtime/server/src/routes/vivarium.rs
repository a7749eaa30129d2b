//! `/vivarium/…`: what ComfyUI has no route for.

use std::{collections::BTreeMap, path::Path};

use axum::{body::Bytes, extract::State, http::StatusCode, response::Response};
use serde_json::{Map, Value, json};
use vivarium_protocol::tenant::TenantId;
use vivarium_worker::report::LimitReport;

use crate::{
    error::{ApiError, ServerError},
    json,
    state::AppState,
    tenant::Tenant,
};

/// The workflow that the tests run, in ComfyUI's API format. It wants `photo.jpg` in the input folder.
const BUILT_IN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/workflows/photo-postcard/workflow.json"));

/// The workflow handed out to people who have none yet.
pub(crate) struct ExampleWorkflow(Bytes);

impl ExampleWorkflow {
    /// Reads the operator's file, or takes the built-in one.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ServerError> {
        let Some(path) = path else { return Ok(Self(Bytes::from_static(BUILT_IN.as_bytes()))) };
        let failed =
            |reason: String| ServerError::File { what: "the example workflow", path: path.to_path_buf(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str::<Map<String, Value>>(&text)
            .map_err(|error| failed(format!("it is no JSON object: {error}")))?;
        Ok(Self(text.into()))
    }
}

/// `GET /vivarium/example-workflow`
pub(crate) async fn example_workflow(State(state): State<AppState>) -> Response {
    json::json_bytes(StatusCode::OK, state.example_workflow().0.clone())
}

/// `GET /vivarium/packs`: every pack, what it asks for and has, and why one does not work.
pub(crate) async fn packs(State(state): State<AppState>, Tenant(tenant): Tenant) -> Result<Response, ApiError> {
    let packs = state.blocking("listing packs", move |state| Ok::<_, ApiError>(state.engine().packs(&tenant)));
    Ok(json::ok(&json!({ "packs": packs.await? })))
}

/// `GET /vivarium/limits`: every limit in force and what is used of it; the engine's, then the server's own.
pub(crate) async fn limits(State(state): State<AppState>, Tenant(tenant): Tenant) -> Result<Response, ApiError> {
    let limits = state.blocking("listing limits", move |state| {
        let mut limits = state.engine().limits(&tenant);
        limits.extend(state.config().report(state.hub().socket_count(&tenant) as u64));
        limits.extend(quota_report(state, &tenant)?);
        Ok::<_, ApiError>(limits)
    });
    Ok(json::ok(&json!({ "limits": limits.await? })))
}

/// The tenant's quotas, if it has any.
fn quota_report(state: &AppState, tenant: &TenantId) -> Result<Vec<LimitReport>, ApiError> {
    let Some(quotas) = state.accounts().quotas(tenant) else { return Ok(Vec::new()) };
    let running = state.queue().running(tenant)?.len() as u64;
    let waiting = (state.queue().remaining(tenant) as u64).saturating_sub(running);
    let spent = state.queue().spent_seconds(tenant).round() as u64;
    let gpu = state.queue().spent_gpu_seconds(tenant).round() as u64;
    let report = |name: &str, value, used, unit: &str, description: &str| LimitReport {
        name: format!("quota_{name}"),
        value,
        unit: unit.to_owned(),
        description: format!("{description}; the operator changes it with vivarium tenant quota"),
        packs: BTreeMap::new(),
        used: Some(used),
    };
    let stored = state.files(tenant)?.stored_bytes()?;
    Ok(vec![
        report("storage", quotas.storage_bytes, stored, "bytes", "Bytes of all files of the tenant"),
        report("queue_length", quotas.queue_length, waiting, "count", "Waiting prompts of the tenant"),
        report("concurrent_jobs", quotas.concurrent_jobs, running, "count", "Prompts of the tenant that run at once"),
        report("cpu_seconds", quotas.cpu_seconds_per_hour, spent, "s", "Seconds of workers in the last hour"),
        report("gpu_seconds", quotas.gpu_seconds_per_hour, gpu, "s", "Seconds of GPUs in the last hour"),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_built_in_workflow_is_a_prompt() {
        let prompt: Map<String, Value> = serde_json::from_str(BUILT_IN).unwrap();
        assert!(prompt.values().all(|node| node["class_type"].is_string()));
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.json");
        std::fs::write(&path, "[]").unwrap();
        let error = ExampleWorkflow::load(Some(&path)).err().unwrap().to_string();
        assert!(error.contains("w.json") && error.contains("JSON object"), "{error}");
    }
}
