//! JSON bodies in and out, as ComfyUI's clients send and expect them.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use vivarium_protocol::prompt::{kind, truthy};

use crate::{error::ApiError, state::AppState};

/// The content type of every JSON answer.
pub(crate) const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Serialises an answer. A value that cannot be written as JSON becomes a 500.
pub(crate) fn json_response<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(status, bytes.into()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer that is already JSON text.
pub(crate) fn json_bytes(status: StatusCode, bytes: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, APPLICATION_JSON)], bytes).into_response()
}

/// 200 with JSON.
pub(crate) fn ok<T: Serialize + ?Sized>(value: &T) -> Response {
    json_response(StatusCode::OK, value)
}

/// A whole request body, at most `max_upload_size` bytes.
pub(crate) struct RawBody(pub(crate) Bytes);

impl FromRequest<AppState> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let limit = state.config().max_upload_size;
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::too_large(limit)),
            Err(rejection) => Err(ApiError::bad_request("unreadable_body", rejection.body_text())),
        }
    }
}

/// A request body that is any JSON value. Its `Content-Type` is not looked at: ComfyUI's own example scripts send none
/// that fits. Cross-site forms are the guard's business.
pub(crate) struct JsonValue(pub(crate) Value);

impl FromRequest<AppState> for JsonValue {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::bad_request("invalid_json", format!("The body is not JSON: {error}")))
    }
}

/// A request body that is a JSON object.
pub(crate) struct JsonObject(pub(crate) Map<String, Value>);

impl FromRequest<AppState> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        match JsonValue::from_request(request, state).await?.0 {
            Value::Object(object) => Ok(Self(object)),
            other => Err(ApiError::bad_request(
                "invalid_json",
                format!("The body must be a JSON object, not {}", kind(&other)),
            )),
        }
    }
}

/// A flag as ComfyUI reads it: by Python's truth.
pub(crate) fn flag(body: &Map<String, Value>, key: &str) -> bool {
    body.get(key).is_some_and(truthy)
}

/// The list of ids under `key`; absent means none.
pub(crate) fn id_list(body: &Map<String, Value>, key: &str) -> Result<Vec<String>, ApiError> {
    let list = match body.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            let message = format!("{key:?} must be a list of prompt ids, not {}", kind(other));
            return Err(ApiError::bad_request("invalid_request", message));
        }
    };
    // An id that is no text can be in no queue: ComfyUI ignores it as it ignores unknown ids.
    Ok(list.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_ids_must_be_a_list() {
        let body = |value: Value| value.as_object().unwrap().clone();
        assert_eq!(id_list(&body(json!({"delete": ["a", 3, "b"]})), "delete").unwrap(), ["a", "b"]);
        assert_eq!(id_list(&body(json!({})), "delete").unwrap(), Vec::<String>::new());
        assert_eq!(id_list(&body(json!({"delete": "a"})), "delete").unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
