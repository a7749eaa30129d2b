//! `/history`: what has ended.

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use indexmap::IndexMap;
use serde::Deserialize;

use crate::{
    error::ApiError,
    json::{self, JsonObject, flag, id_list},
    routes::jobs::whole,
    state::AppState,
    tenant::Tenant,
};

#[derive(Deserialize)]
pub(crate) struct Page {
    max_items: Option<String>,
    offset: Option<String>,
}

/// `GET /history?max_items&offset`: by default everything; with only `max_items`, the newest.
pub(crate) async fn list(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Query(page): Query<Page>,
) -> Result<Response, ApiError> {
    let (max_items, offset) = (whole("max_items", page.max_items)?, whole("offset", page.offset)?);
    let entries = state.blocking("reading the history", move |state| state.queue().history(&tenant, max_items, offset));
    let entries: IndexMap<_, _> = entries.await?.into_iter().collect();
    Ok(json::ok(&entries))
}

/// `GET /history/{prompt_id}`: one entry under its id; an empty object while there is none.
pub(crate) async fn one(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let wanted = id.clone();
    let entry =
        state.blocking("reading the history", move |state| state.queue().history_entry(&tenant, &wanted)).await?;
    let entries: IndexMap<_, _> = entry.map(|entry| (id, entry)).into_iter().collect();
    Ok(json::ok(&entries))
}

/// `POST /history`
pub(crate) async fn change(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let (clear, ids) = (flag(&body, "clear"), id_list(&body, "delete")?);
    state
        .blocking("changing the history", move |state| {
            if clear {
                state.queue().clear_history(&tenant)?;
            }
            if !ids.is_empty() {
                state.queue().delete_history(&tenant, &ids)?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}
