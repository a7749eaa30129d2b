//! `/users`. Who somebody is follows from the tenant of the request; ComfyUI's users, which nobody authenticates, do not exist.

use axum::{http::StatusCode, response::Response};
use serde_json::json;

use crate::{error::ApiError, json};

/// `GET /users`: one user, whose data is on the server.
pub(crate) async fn list() -> Response {
    json::ok(&json!({ "storage": "server", "migrated": true }))
}

/// `POST /users`
pub(crate) async fn create() -> ApiError {
    let message = "This server has no users inside a tenant; the operator creates tenants";
    ApiError::json(StatusCode::BAD_REQUEST, json!({ "error": message }))
}
