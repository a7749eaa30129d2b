//! `/view`: the files of a tenant's folders, as they are, or as an image in another form.

use axum::{
    body::Bytes,
    extract::{Query, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use std::io::Read;
use vivarium_blobs::{AnnotatedName, BlobError, Digest, Folder, OpenFile};
use vivarium_image_codec::{ViewRequest, transcode_for_view};

use crate::{
    error::ApiError,
    serve_file::Content,
    state::AppState,
    tenant::Tenant,
    user_bytes::{serve_encoded, serve_user_bytes},
};

#[derive(Deserialize)]
pub(crate) struct Parameters {
    filename: Option<String>,
    #[serde(rename = "type")]
    folder: Option<String>,
    #[serde(default)]
    subfolder: String,
    preview: Option<String>,
    channel: Option<String>,
}

/// `GET /view?filename&type&subfolder&preview&channel`
pub(crate) async fn view(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Query(parameters): Query<Parameters>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let (folder, name) = place(&parameters)?;
    let (subfolder, wanted) = (parameters.subfolder.clone(), name.clone());
    let opened =
        state.with_files(&tenant, "opening a file", move |files| files.open_file(folder, &subfolder, &wanted)).await?;
    let form = ViewRequest::parse(parameters.channel.as_deref(), parameters.preview.as_deref());
    if form == ViewRequest::Raw {
        let content = Content::file(opened.file, opened.len, opened.modified);
        return Ok(serve_user_bytes(content, &name, &request).await);
    }
    let limit = state.config().limits.image_file_bytes;
    let bytes = state.blocking("reading an image", move |_| read(opened, limit)).await?;
    serve_transcoded(&state, bytes, &name, form, &request).await
}

/// Serves an image in another form. Decoding is bounded in size and in number.
pub(crate) async fn serve_transcoded(
    state: &AppState,
    bytes: Vec<u8>,
    name: &str,
    form: ViewRequest,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let permit = state.decode_permit().await?;
    let decoding = state.blocking("decoding an image", move |state| {
        // Held by the work, not by the request: a client that hangs up does not make room for more work.
        let _permit = permit;
        let viewed = transcode_for_view(&bytes, form, &state.config().limits.decode)?;
        // Nothing comes back only when nothing was asked for.
        viewed.ok_or_else(|| ApiError::not_found("No other form of the image was asked for"))
    });
    let image = decoding.await?;
    let tag = Digest::of(&image.bytes).to_string();
    let content = Content::bytes(Bytes::from(image.bytes), &tag);
    Ok(serve_encoded(content, name, image.mime, request).await)
}

/// The folder and the name in it. As in ComfyUI, folders inside `filename` do not count: `subfolder` names them.
fn place(parameters: &Parameters) -> Result<(Folder, String), ApiError> {
    let filename = parameters.filename.as_deref().ok_or_else(|| ApiError::not_found("The filename is missing"))?;
    let annotated = AnnotatedName::parse(filename);
    if annotated.name.starts_with('/') || annotated.name.split(['/', '\\']).any(|part| part == "..") {
        return Err(ApiError::bad_request("bad_name", format!("The filename {filename:?} leads out of its folder")));
    }
    let folder = match (annotated.folder, parameters.folder.as_deref()) {
        (Some(folder), _) => folder,
        (None, None) => Folder::Output,
        (None, Some(name)) => {
            name.parse().map_err(|error| ApiError::bad_request("unknown_folder", format!("{error}")))?
        }
    };
    let name = annotated.name.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::bad_request("bad_name", "The filename is empty"));
    }
    Ok((folder, name.to_owned()))
}

fn read(mut opened: OpenFile, limit: u64) -> Result<Vec<u8>, ApiError> {
    if opened.len > limit {
        return Err(BlobError::TooLarge { limit }.into());
    }
    let mut bytes = Vec::new();
    opened.file.read_to_end(&mut bytes).map_err(|error| ApiError::internal("reading an image", error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::StatusCode;

    use super::*;

    fn place_of(filename: &str, folder: Option<&str>) -> Result<(Folder, String), StatusCode> {
        let parameters = Parameters {
            filename: Some(filename.to_owned()),
            folder: folder.map(str::to_owned),
            subfolder: String::new(),
            preview: None,
            channel: None,
        };
        place(&parameters).map_err(|error| error.status())
    }

    #[test]
    fn names_lead_where_comfyuis_do() {
        assert_eq!(place_of("a.png", None).unwrap(), (Folder::Output, "a.png".to_owned()));
        assert_eq!(place_of("a.png", Some("input")).unwrap().0, Folder::Input);
        assert_eq!(place_of("a.png [temp]", Some("input")).unwrap(), (Folder::Temp, "a.png".to_owned()));
        assert_eq!(place_of("dir/a.png", None).unwrap().1, "a.png");
        assert_eq!(place_of("a..png", None).unwrap().1, "a..png");
        for bad in ["", "/a.png", "../a.png", "a/../b.png", "..\\a.png", "dir/"] {
            assert_eq!(place_of(bad, None).unwrap_err(), StatusCode::BAD_REQUEST, "{bad}");
        }
        assert_eq!(place_of("a.png", Some("etc")).unwrap_err(), StatusCode::BAD_REQUEST);
    }
}
