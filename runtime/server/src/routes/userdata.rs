//! `/userdata` and `/v2/userdata`: workflows and other files that the front end keeps for a user.
//!
//! A file's path is ONE segment of the URL, so its slashes come percent-encoded. It is decoded once more than HTTP asks for,
//! since some clients encode twice, and then goes through the one path resolver of the blob store.

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use vivarium_blobs::{BlobError, FileInfo};

use crate::{
    error::ApiError,
    json::{self, RawBody},
    serve_file::Content,
    state::AppState,
    tenant::User,
    user_bytes::serve_user_bytes,
};

/// Flags are texts: `true` in any case is true.
#[derive(Deserialize)]
pub(crate) struct ListParameters {
    #[serde(default)]
    dir: String,
    recurse: Option<String>,
    full_info: Option<String>,
    split: Option<String>,
}

/// `GET /userdata?dir=…`
pub(crate) async fn list(
    State(state): State<AppState>,
    user: User,
    Query(parameters): Query<ListParameters>,
) -> Result<Response, ApiError> {
    if parameters.dir.is_empty() {
        return Err(ApiError::text(StatusCode::BAD_REQUEST, "Directory not provided"));
    }
    let (directory, recursive) = (parameters.dir, is_true(&parameters.recurse));
    let listed = state
        .with_user_data(user, "listing user data", move |_, data| {
            data.list(&directory, recursive).map_err(directory_error)
        })
        .await?;
    if is_true(&parameters.full_info) {
        return Ok(json::ok(&listed));
    }
    let split = is_true(&parameters.split);
    let entries: Vec<Value> =
        listed.into_iter().map(|file| if split { parts(&file.path) } else { json!(file.path) }).collect();
    Ok(json::ok(&entries))
}

#[derive(Deserialize)]
pub(crate) struct TreeParameters {
    #[serde(default)]
    path: String,
}

/// `GET /v2/userdata?path=…`: directories and files below.
pub(crate) async fn tree(
    State(state): State<AppState>,
    user: User,
    Query(TreeParameters { path }): Query<TreeParameters>,
) -> Result<Response, ApiError> {
    let entries = state
        .with_user_data(user, "listing user data", move |_, data| {
            data.list_entries(&decode(&path)).map_err(|error| match error {
                BlobError::NotFound { .. } => ApiError::text(StatusCode::NOT_FOUND, "Requested path not found"),
                BlobError::NotADirectory { .. } => {
                    ApiError::text(StatusCode::BAD_REQUEST, "Requested path is not a directory")
                }
                BlobError::Name { .. } | BlobError::Outside { .. } => {
                    ApiError::text(StatusCode::BAD_REQUEST, "Invalid path requested")
                }
                other => other.into(),
            })
        })
        .await?;
    Ok(json::ok(&entries))
}

/// `GET /userdata/{file}`
pub(crate) async fn read(
    State(state): State<AppState>,
    user: User,
    Path(file): Path<String>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let path = decode(&file);
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let opened = state.with_user_data(user, "reading user data", move |_, data| data.open_file(&path)).await?;
    Ok(serve_user_bytes(Content::file(opened.file, opened.len, opened.modified), &name, &request).await)
}

#[derive(Deserialize)]
pub(crate) struct WriteParameters {
    overwrite: Option<String>,
    full_info: Option<String>,
}

impl WriteParameters {
    /// Anything but `false` overwrites.
    fn overwrites(&self) -> bool {
        !self.overwrite.as_deref().is_some_and(|value| value.eq_ignore_ascii_case("false"))
    }

    fn answer(&self, info: &FileInfo) -> Response {
        if is_true(&self.full_info) { json::ok(info) } else { json::ok(&info.path) }
    }
}

/// `POST /userdata/{file}`
pub(crate) async fn write(
    State(state): State<AppState>,
    user: User,
    Path(file): Path<String>,
    Query(parameters): Query<WriteParameters>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let overwrite = parameters.overwrites();
    let info = state
        .with_user_data(user, "writing user data", move |files, data| {
            files.reserve(body.len() as u64)?;
            data.write(&decode(&file), &body, overwrite).map_err(write_error)
        })
        .await?;
    Ok(parameters.answer(&info))
}

/// `DELETE /userdata/{file}`
pub(crate) async fn delete(
    State(state): State<AppState>,
    user: User,
    Path(file): Path<String>,
) -> Result<Response, ApiError> {
    state.with_user_data(user, "deleting user data", move |_, data| data.delete(&decode(&file))).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /userdata/{file}/move/{dest}`
pub(crate) async fn rename(
    State(state): State<AppState>,
    user: User,
    Path((file, destination)): Path<(String, String)>,
    Query(parameters): Query<WriteParameters>,
) -> Result<Response, ApiError> {
    let overwrite = parameters.overwrites();
    let info = state
        .with_user_data(user, "renaming user data", move |_, data| {
            data.rename(&decode(&file), &decode(&destination), overwrite).map_err(write_error)
        })
        .await?;
    Ok(parameters.answer(&info))
}

fn is_true(flag: &Option<String>) -> bool {
    flag.as_deref().is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn decode(path: &str) -> String {
    match percent_encoding::percent_decode_str(path).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => path.to_owned(),
    }
}

/// `["a/b.json", "a", "b.json"]`
fn parts(path: &str) -> Value {
    std::iter::once(path).chain(path.split('/')).collect()
}

fn directory_error(error: BlobError) -> ApiError {
    match error {
        BlobError::NotFound { .. } | BlobError::NotADirectory { .. } => {
            ApiError::text(StatusCode::NOT_FOUND, "Directory not found")
        }
        BlobError::Name { .. } | BlobError::Outside { .. } => {
            ApiError::text(StatusCode::FORBIDDEN, "Invalid directory")
        }
        other => other.into(),
    }
}

fn write_error(error: BlobError) -> ApiError {
    match error {
        BlobError::Exists { .. } => ApiError::text(StatusCode::CONFLICT, "File already exists"),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_decoded_once_more_and_split() {
        assert_eq!(decode("workflows%2Fa.json"), "workflows/a.json");
        assert_eq!(decode("workflows/100%.json"), "workflows/100%.json");
        assert_eq!(parts("a/b.json"), json!(["a/b.json", "a", "b.json"]));
    }

    #[test]
    fn overwriting_is_the_default() {
        let with = |overwrite: Option<&str>| {
            WriteParameters { overwrite: overwrite.map(str::to_owned), full_info: None }.overwrites()
        };
        assert!(with(None) && with(Some("true")) && with(Some("")));
        assert!(!with(Some("false")) && !with(Some("False")));
    }
}
