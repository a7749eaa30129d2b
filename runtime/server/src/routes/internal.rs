//! `/internal/…`: the log, the newest files and the folders, for the front end only. Not under `/api`, as in ComfyUI.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use vivarium_blobs::Folder;
use vivarium_protocol::event::{Event, TerminalSize};

use crate::{
    error::ApiError,
    json::{self, JsonObject},
    routes::models::directories,
    state::AppState,
    tenant::{Operator, Tenant},
};

/// There is no terminal: a front end shows the log in one of this size.
const TERMINAL: TerminalSize = TerminalSize { cols: 120, rows: 30 };

/// `GET /internal/logs`: all lines as one text.
pub(crate) async fn logs(State(state): State<AppState>, _: Operator) -> Response {
    let lines = state.logs().entries();
    json::ok(&lines.iter().map(|entry| format!("{} - {}", entry.t, entry.m)).collect::<String>())
}

/// `GET /internal/logs/raw`
pub(crate) async fn raw_logs(State(state): State<AppState>, _: Operator) -> Response {
    json::ok(&json!({ "entries": state.logs().entries(), "size": TERMINAL }))
}

/// `PATCH /internal/logs/subscribe`: new lines go to this client's socket, or no longer.
pub(crate) async fn subscribe(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    _: Operator,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let (Some(Value::String(client_id)), Some(Value::Bool(enabled))) = (body.get("clientId"), body.get("enabled"))
    else {
        let message = "The body must hold \"clientId\" (text) and \"enabled\" (true or false)";
        return Err(ApiError::bad_request("invalid_request", message));
    };
    // A client that is not connected misses nothing that it could have had.
    state.hub().subscribe_logs(&tenant, client_id, *enabled);
    Ok(StatusCode::OK.into_response())
}

/// Sends new log lines to the sockets that asked for them, until the server stops.
pub(crate) async fn stream_logs(state: AppState) {
    let (_, mut seen) = state.logs().entries_after(u64::MAX);
    loop {
        state.logs().grew().await;
        let (entries, total) = state.logs().entries_after(seen);
        seen = total;
        if !entries.is_empty() {
            state.hub().send_logs(&Event::Logs { entries, size: None });
        }
    }
}

/// `GET /internal/files/{folder}`: the files in the top of a folder, the newest first.
pub(crate) async fn files(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(folder): Path<String>,
) -> Result<Response, ApiError> {
    let Ok(folder) = folder.parse::<Folder>() else {
        return Err(ApiError::json(StatusCode::BAD_REQUEST, json!({ "error": "Invalid directory type" })));
    };
    Ok(json::ok(&state.with_files(&tenant, "listing files", move |files| files.list_newest_first(folder)).await?))
}

/// `GET /internal/folder_paths`: where models are.
pub(crate) async fn folder_paths(State(state): State<AppState>, operator: Result<Operator, ApiError>) -> Response {
    let models = state.models();
    let shown = |folder: String| {
        let directories = directories(models, &folder, operator.is_ok());
        (folder, directories)
    };
    let folders = models.types().into_iter().map(shown);
    json::ok(&folders.collect::<Map<_, _>>())
}
