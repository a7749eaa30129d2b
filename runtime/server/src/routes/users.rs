//! `/users`. Who somebody is follows from the tenant of the request; with `--multi-user` a tenant keeps the workflows and
//! settings of several people apart, which is an order among friends and not a protection.

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use vivarium_blobs::BlobError;

use crate::{
    error::ApiError,
    json::{self, JsonObject},
    state::AppState,
    tenant::Tenant,
};

/// `GET /users`: that data is on the server, and whose there is when a tenant has several users.
pub(crate) async fn list(State(state): State<AppState>, Tenant(tenant): Tenant) -> Result<Response, ApiError> {
    if !state.config().multi_user {
        return Ok(json::ok(&json!({ "storage": "server", "migrated": true })));
    }
    let users = state.with_files(&tenant, "reading the users", |files| files.users().names()).await?;
    Ok(json::ok(&json!({ "storage": "server", "users": users })))
}

/// `POST /users` with `{"username": NAME}`: makes a user and answers with its id.
pub(crate) async fn create(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    JsonObject(wish): JsonObject,
) -> Result<Response, ApiError> {
    if !state.config().multi_user {
        return Err(refusal("This server has one user per tenant; `serve --multi-user` allows more"));
    }
    let name = username(&wish)?;
    let made = state.with_files(&tenant, "making a user", move |files| {
        files.reserve(name.len() as u64)?;
        files.users().add(&name, Uuid::new_v4()).map_err(|error| match error {
            // The front end shows what it finds under `error`.
            BlobError::User { .. } => refusal(&error.to_string()),
            other => other.into(),
        })
    });
    Ok(json::ok(&made.await?))
}

fn username(wish: &Map<String, Value>) -> Result<String, ApiError> {
    let name = wish.get("username").and_then(Value::as_str).map(str::to_owned);
    name.ok_or_else(|| refusal("`username` has to be a text: {\"username\": \"NAME\"}"))
}

fn refusal(message: &str) -> ApiError {
    ApiError::json(StatusCode::BAD_REQUEST, json!({ "error": message }))
}
