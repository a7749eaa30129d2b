//! `/models`, `/experiment/models`, `/embeddings`, `/view_metadata`: what model folders hold.

use axum::{
    extract::{Path, Query, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use vivarium_blobs::{ModelFile, ModelFolders};
use vivarium_image_codec::{PreviewFormat, ViewRequest};

use crate::{error::ApiError, json, models, routes::view::serve_transcoded, state::AppState, tenant::Operator};

/// How previews beside models are sent.
const WEBP: ViewRequest = ViewRequest::Preview { format: PreviewFormat::WebP, quality: 90, opaque: false };

/// `GET /models`: the types.
pub(crate) async fn types(State(state): State<AppState>) -> Response {
    json::ok(&state.models().types())
}

/// `GET /models/{folder}`: names.
pub(crate) async fn names(State(state): State<AppState>, Path(folder): Path<String>) -> Result<Response, ApiError> {
    Ok(json::ok(&ask(&state, folder, |models, folder| models.names(folder)).await?))
}

/// `GET /embeddings`: names without their extension.
pub(crate) async fn embeddings(State(state): State<AppState>) -> Result<Response, ApiError> {
    let names = ask(&state, "embeddings".to_owned(), |models, folder| Some(models.names(folder).unwrap_or_default()));
    let stem = |name: &String| name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned());
    Ok(json::ok(&names.await?.iter().map(stem).collect::<Vec<_>>()))
}

/// `GET /experiment/models`: the types with their directories.
pub(crate) async fn types_with_directories(
    State(state): State<AppState>,
    operator: Result<Operator, ApiError>,
) -> Response {
    let models = state.models();
    let shown = models.types().into_iter().filter(|folder| !matches!(folder.as_str(), "configs" | "custom_nodes"));
    let shown: Vec<_> = shown
        .map(|folder| json!({ "name": folder, "folders": directories(models, &folder, operator.is_ok()) }))
        .collect();
    json::ok(&shown)
}

/// `GET /experiment/models/{folder}`: files with their size and time.
pub(crate) async fn files(State(state): State<AppState>, Path(folder): Path<String>) -> Result<Response, ApiError> {
    let files = ask(&state, folder, |models, folder| models.files(folder)).await?;
    let shown = |file: ModelFile| {
        json!({
            "name": file.name,
            "pathIndex": file.path_index,
            "modified": file.modified,
            "created": file.created,
            "size": file.size,
        })
    };
    Ok(json::ok(&files.into_iter().map(shown).collect::<Vec<_>>()))
}

/// `GET /experiment/models/preview/{folder}/{index}/{file…}`: the image beside a model, as WebP.
pub(crate) async fn preview(
    State(state): State<AppState>,
    Path((folder, index, name)): Path<(String, String, String)>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let index: usize = index
        .parse()
        .map_err(|_| ApiError::bad_request("bad_index", "The index of the folder must be a whole number"))?;
    let limit = state.config().limits.image_file_bytes;
    let wanted = name.clone();
    let read = ask(&state, folder, move |models, folder| Some(models::preview(models, folder, index, &wanted, limit)));
    let bytes = read.await?.map_err(|error| ApiError::internal("reading a preview", error))?;
    let bytes = bytes.ok_or_else(|| ApiError::not_found(format!("{name:?} has no preview image")))?;
    serve_transcoded(&state, bytes, "preview.webp", WEBP, &request).await
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
    match ask(&state, folder, move |models, folder| Some(models::metadata(models, folder, &wanted))).await? {
        Ok(Some(metadata)) => Ok(json::ok(&metadata)),
        Ok(None) => Err(ApiError::not_found(format!("There is no metadata of {filename:?}"))),
        Err(models::HeaderError::File(error)) => Err(error.into()),
        Err(error) => Err(ApiError::bad_request("bad_safetensors", format!("{filename:?}: {error}"))),
    }
}

/// Asks something about a folder, on a thread that may block. 404 for an unknown type.
async fn ask<T: Send + 'static>(
    state: &AppState,
    folder: String,
    question: impl FnOnce(&ModelFolders, &str) -> Option<T> + Send + 'static,
) -> Result<T, ApiError> {
    state
        .blocking("listing models", move |state| {
            let answer = question(state.models(), &folder);
            answer.ok_or_else(|| ApiError::not_found(format!("{folder:?} is not a type of model")))
        })
        .await
}

/// The directories of a type, as texts. Where they are on this machine is the operator's business; others get a name for each,
/// as many as there are, since clients count them.
pub(crate) fn directories(models: &ModelFolders, folder: &str, for_operator: bool) -> Value {
    let paths = models.paths(folder).unwrap_or_default();
    let named = paths.iter().enumerate().map(|(index, path)| match (for_operator, index) {
        (true, _) => path.to_string_lossy().into_owned(),
        (false, 0) => format!("models/{folder}"),
        (false, _) => format!("models/{folder} ({})", index + 1),
    });
    named.collect()
}
