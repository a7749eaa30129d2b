//! `/queue`, `/interrupt`, `/free`: what waits and what runs.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use vivarium_protocol::history::QueueItem;
use vivarium_queue::QueueError;

use crate::{
    error::ApiError,
    json::{self, JsonObject, RawBody, flag, id_list},
    state::AppState,
    tenant::Tenant,
};

#[derive(Serialize)]
struct Shown {
    queue_running: Vec<QueueItem>,
    queue_pending: Vec<QueueItem>,
}

/// `GET /queue`. Unlike ComfyUI's, it shows no API keys.
pub(crate) async fn show(State(state): State<AppState>, Tenant(tenant): Tenant) -> Result<Response, ApiError> {
    // Clients ask all the time, mostly when there is nothing.
    if state.queue().remaining(&tenant) == 0 {
        return Ok(json::ok(&Shown { queue_running: Vec::new(), queue_pending: Vec::new() }));
    }
    let (running, pending) = state
        .blocking("reading the queue", move |state| {
            Ok::<_, QueueError>((state.queue().running(&tenant)?, state.queue().pending(&tenant)?))
        })
        .await?;
    Ok(json::ok(&Shown { queue_running: running, queue_pending: pending }))
}

/// `POST /queue`: takes prompts out that have not begun.
pub(crate) async fn change(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let (clear, ids) = (flag(&body, "clear"), id_list(&body, "delete")?);
    state
        .blocking("changing the queue", move |state| {
            let mut removed = 0;
            if clear {
                removed += state.queue().clear_pending(&tenant)?;
            }
            if !ids.is_empty() {
                removed += state.queue().delete_pending(&tenant, &ids)?;
            }
            if clear || removed > 0 {
                state.send_status(&tenant);
            }
            Ok::<_, QueueError>(())
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /interrupt`: with a `prompt_id` only that prompt, if it runs. A body that is no JSON counts as none.
pub(crate) async fn interrupt(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| json!({}));
    let prompt_id = match body.get("prompt_id") {
        Some(Value::String(id)) if !id.is_empty() => Some(id.as_str()),
        _ => None,
    };
    let stopped = state.engine().interrupt(&tenant, prompt_id);
    tracing::info!(%tenant, prompt_id, stopped, "interrupt");
    Ok(StatusCode::OK.into_response())
}

/// `POST /free`
pub(crate) async fn free(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    state.engine().free(&tenant, flag(&body, "unload_models"), flag(&body, "free_memory"));
    Ok(StatusCode::OK.into_response())
}
