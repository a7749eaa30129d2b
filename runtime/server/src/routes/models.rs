//! `/models`, `/experiment/models`, `/embeddings`, `/view_metadata`: what model folders hold.

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use vivarium_image_codec::{PreviewFormat, ViewRequest};

use crate::{config::ModelFolder, error::ApiError, json, routes::view::serve_transcoded, state::AppState};

/// How previews beside models are sent.
const WEBP: ViewRequest = ViewRequest::Preview { format: PreviewFormat::WebP, quality: 90, opaque: false };

/// `GET /models`: the types.
pub(crate) async fn types(State(state): State<AppState>) -> Response {
    json::ok(&state.models().folders().iter().map(|folder| folder.name.as_str()).collect::<Vec<_>>())
}

/// `GET /models/{folder}`: names.
pub(crate) async fn names(State(state): State<AppState>, Path(folder): Path<String>) -> Result<Response, ApiError> {
    Ok(json::ok(&list(&state, folder, |state, folder| state.models().names(folder)).await?))
}

/// `GET /embeddings`: names without their extension; none when there is no such folder.
pub(crate) async fn embeddings(State(state): State<AppState>) -> Result<Response, ApiError> {
    if state.models().folder("embeddings").is_none() {
        return Ok(json::ok(&json!([])));
    }
    let names = list(&state, "embeddings".to_owned(), |state, folder| state.models().names(folder)).await?;
    let stem = |name: &String| name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned());
    Ok(json::ok(&names.iter().map(stem).collect::<Vec<_>>()))
}

/// `GET /experiment/models`: the types with their directories.
pub(crate) async fn types_with_directories(State(state): State<AppState>) -> Response {
    let shown =
        state.models().folders().iter().filter(|folder| folder.name != "configs" && folder.name != "custom_nodes");
    json::ok(&shown.map(|folder| json!({ "name": folder.name, "folders": directories(folder) })).collect::<Vec<_>>())
}

/// `GET /experiment/models/{folder}`: files with their size and time.
pub(crate) async fn files(State(state): State<AppState>, Path(folder): Path<String>) -> Result<Response, ApiError> {
    let mut files = list(&state, folder, |state, folder| state.models().files(folder)).await?;
    files.retain(|file| !file.is_hidden());
    Ok(json::ok(&files))
}

/// `GET /experiment/models/preview/{folder}/{index}/{file…}`: the image beside a model, as WebP.
pub(crate) async fn preview(
    State(state): State<AppState>,
    Path((folder, index, name)): Path<(String, String, String)>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let index: usize =
        index.parse().map_err(|_| ApiError::bad_request("bad_index", "The path index must be a whole number"))?;
    let wanted = name.clone();
    let found = list(&state, folder, move |state, folder| state.models().preview(folder, index, &wanted)).await?;
    let path = found.ok_or_else(|| ApiError::not_found(format!("{name} has no preview image")))?;
    let bytes = state.blocking("reading a preview", move |_| {
        std::fs::read(path).map_err(|error| ApiError::internal("reading a preview", error))
    });
    serve_transcoded(&state, bytes.await?, "preview.webp", WEBP, &request).await
}

#[derive(Deserialize)]
pub(crate) struct MetadataParameters {
    #[serde(default)]
    filename: String,
}

/// `GET /view_metadata/{folder}?filename=…`: what a safetensors file says about itself.
pub(crate) async fn metadata(
    State(state): State<AppState>,
    Path(folder): Path<String>,
    Query(MetadataParameters { filename }): Query<MetadataParameters>,
) -> Result<Response, ApiError> {
    let wanted = filename.clone();
    let read = list(&state, folder, move |state, folder| state.models().metadata(folder, &wanted)).await?;
    match read {
        Ok(Some(metadata)) => Ok(json::ok(&metadata)),
        Ok(None) => Err(ApiError::not_found(format!("There is no metadata of {filename:?}"))),
        Err(error) => Err(ApiError::bad_request("bad_safetensors", format!("{filename}: {error}"))),
    }
}

/// Asks something about a folder, on a thread that may block. 404 for an unknown type.
async fn list<T: Send + 'static>(
    state: &AppState,
    name: String,
    ask: impl FnOnce(&AppState, &ModelFolder) -> T + Send + 'static,
) -> Result<T, ApiError> {
    state
        .blocking("listing models", move |state| match state.models().folder(&name) {
            Some(folder) => Ok(ask(state, folder)),
            None => Err(ApiError::not_found(format!("{name:?} is not a type of model"))),
        })
        .await
}

pub(crate) fn directories(folder: &ModelFolder) -> Value {
    folder.directories.iter().map(|directory| directory.to_string_lossy()).collect()
}
