//! `/settings`: what the front end remembers for a user.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    json::{self, JsonObject, JsonValue},
    state::AppState,
    tenant::User,
};

/// `GET /settings`
pub(crate) async fn all(State(state): State<AppState>, user: User) -> Result<Response, ApiError> {
    let settings = state.with_user_data(user, "reading the settings", |_, data| data.settings()).await?;
    Ok(json::ok(&settings))
}

/// `GET /settings/{id}`: the value, or null.
pub(crate) async fn one(
    State(state): State<AppState>,
    user: User,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let settings = state.with_user_data(user, "reading the settings", |_, data| data.settings()).await?;
    Ok(json::ok(settings.get(&id).unwrap_or(&Value::Null)))
}

/// `POST /settings`: adds and replaces.
pub(crate) async fn merge(
    State(state): State<AppState>,
    user: User,
    JsonObject(changes): JsonObject,
) -> Result<Response, ApiError> {
    state
        .with_user_data(user, "writing the settings", |files, data| {
            files.reserve(serde_json::to_vec(&changes).map_or(0, |text| text.len() as u64))?;
            data.merge_settings(changes)
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /settings/{id}`
pub(crate) async fn set(
    state: State<AppState>,
    user: User,
    Path(id): Path<String>,
    JsonValue(value): JsonValue,
) -> Result<Response, ApiError> {
    merge(state, user, JsonObject(Map::from_iter([(id, value)]))).await
}
