//! `/upload/image` and `/upload/mask`: files into the tenant's folders.
//!
//! A file goes to disk piece by piece and is hashed on the way; it is never whole in memory. It gets its name only once it
//! is complete, so an upload that breaks off leaves nothing.

use axum::{
    extract::{
        FromRequest, Multipart, Request, State,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use std::io::Read;
use vivarium_blobs::{AnnotatedName, BlobError, Durability, Folder, SavedFile, TenantFiles, Upload};
use vivarium_protocol::tenant::TenantId;

use crate::{error::ApiError, json, state::AppState, tenant::Tenant};

/// The longest text field: names and references.
const TEXT_BYTES: usize = 64 * 1024;
/// Collected before a write to disk, which costs a trip to a blocking thread.
const WRITE_BYTES: usize = 512 * 1024;

/// What a form holds.
#[derive(Default)]
struct Form {
    image: Option<Image>,
    folder: Option<String>,
    subfolder: String,
    overwrite: bool,
    original_ref: Option<String>,
}

struct Image {
    filename: String,
    upload: Upload,
}

/// A file that is there already, as `/upload/mask` names it.
#[derive(Deserialize)]
struct OriginalRef {
    filename: String,
    #[serde(rename = "type")]
    folder: Option<String>,
    #[serde(default)]
    subfolder: Option<String>,
}

/// `POST /upload/image`
pub(crate) async fn image(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let form = read_form(&state, &tenant, request).await?;
    let folder = folder(form.folder.as_deref(), Folder::Input)?;
    let image = form.image.ok_or_else(no_image)?;
    let saved = state.with_files(&tenant, "saving an upload", move |files| {
        files.save_upload(folder, &form.subfolder, &image.filename, image.upload, form.overwrite).map_err(naming_error)
    });
    Ok(answer(&saved.await?))
}

/// `POST /upload/mask`: the original image with the alpha of the uploaded one.
pub(crate) async fn mask(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    request: Request,
) -> Result<Response, ApiError> {
    let form = read_form(&state, &tenant, request).await?;
    let folder = folder(form.folder.as_deref(), Folder::Input)?;
    let image = form.image.ok_or_else(no_image)?;
    let original = parse_original(form.original_ref.as_deref())?;
    let permit = state.decode_permit().await?;
    let composing = state.clone();
    let saved = state.with_files(&tenant, "composing a mask", move |files| {
        // Held by the work, not by the request: a client that hangs up does not make room for more work.
        let _permit = permit;
        let limits = &composing.config().limits;
        let mask = read_upload(files, image.upload)?;
        let original = read_original(files, &original, limits.image_file_bytes)?;
        let composed = vivarium_image_codec::replace_alpha(&original, &mask, &limits.decode)?;
        let mut staged = files.store().stage(None)?;
        staged.write(&composed)?;
        files.save_upload(folder, &form.subfolder, &image.filename, staged, form.overwrite).map_err(naming_error)
    });
    Ok(answer(&saved.await?))
}

fn answer(saved: &SavedFile) -> Response {
    json::ok(&json!({ "name": saved.name, "subfolder": saved.subfolder, "type": saved.folder }))
}

async fn read_form(state: &AppState, tenant: &TenantId, request: Request) -> Result<Form, ApiError> {
    let limit = state.config().max_upload_size;
    let mut multipart = Multipart::from_request(request, state)
        .await
        .map_err(|rejection| ApiError::bad_request("not_multipart", rejection.body_text()))?;
    let mut form = Form::default();
    while let Some(field) = multipart.next_field().await.map_err(|error| broken(&error, limit))? {
        match field.name().unwrap_or_default() {
            "image" => form.image = Some(read_image(state, tenant, &form, field, limit).await?),
            "type" => form.folder = Some(read_text(field, limit).await?),
            "subfolder" => form.subfolder = read_text(field, limit).await?,
            "overwrite" => form.overwrite = matches!(read_text(field, limit).await?.as_str(), "true" | "1"),
            "original_ref" => form.original_ref = Some(read_text(field, limit).await?),
            _ => {}
        }
    }
    Ok(form)
}

/// `form` is what came before the image: usually all or nothing of where it is to go.
async fn read_image(
    state: &AppState,
    tenant: &TenantId,
    form: &Form,
    mut field: Field<'_>,
    limit: u64,
) -> Result<Image, ApiError> {
    let filename = match field.file_name() {
        Some(filename) if !filename.is_empty() => filename.to_owned(),
        _ => return Err(ApiError::bad_request("no_filename", "The field \"image\" must be a file with a name")),
    };
    let folder = folder(form.folder.as_deref(), Folder::Input)?;
    let (subfolder, name) = (form.subfolder.clone(), filename.clone());
    let begin = move |files: &TenantFiles| files.stage_upload(folder, &subfolder, &name, Some(limit));
    let mut upload = state.with_files(tenant, "starting an upload", begin).await?;
    let mut buffer = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error, limit))? {
        buffer.extend_from_slice(&chunk);
        if buffer.len() >= WRITE_BYTES {
            upload = write(state, upload, std::mem::take(&mut buffer)).await?;
        }
    }
    let upload = write(state, upload, buffer).await?;
    Ok(Image { filename, upload })
}

async fn write(state: &AppState, mut upload: Upload, bytes: Vec<u8>) -> Result<Upload, ApiError> {
    state.blocking("writing an upload", move |_| upload.write(&bytes).map(|()| upload)).await
}

async fn read_text(mut field: Field<'_>, limit: u64) -> Result<String, ApiError> {
    let name = field.name().unwrap_or_default().to_owned();
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error, limit))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > TEXT_BYTES {
            let message = format!("The field {name:?} is longer than {TEXT_BYTES} bytes");
            return Err(ApiError::bad_request("field_too_long", message));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| ApiError::bad_request("not_text", format!("The field {name:?} is not UTF-8 text")))
}

fn folder(name: Option<&str>, default: Folder) -> Result<Folder, ApiError> {
    match name {
        None | Some("") => Ok(default),
        Some(name) => name.parse().map_err(|error| ApiError::bad_request("unknown_folder", format!("{error}"))),
    }
}

fn parse_original(text: Option<&str>) -> Result<OriginalRef, ApiError> {
    let text = text.ok_or_else(|| {
        ApiError::bad_request(
            "no_original",
            "The field \"original_ref\" is missing: it names the image that the mask is for",
        )
    })?;
    serde_json::from_str(text).map_err(|error| {
        ApiError::bad_request("bad_original", format!("The field \"original_ref\" is not usable: {error}"))
    })
}

fn read_original(files: &TenantFiles, original: &OriginalRef, limit: u64) -> Result<Vec<u8>, ApiError> {
    let name = AnnotatedName::parse(&original.filename);
    let default = folder(original.folder.as_deref(), Folder::Output)?;
    let subfolder = original.subfolder.as_deref().unwrap_or_default();
    let mut opened = files.open_file(name.folder.unwrap_or(default), subfolder, &name.name)?;
    if opened.len > limit {
        return Err(BlobError::TooLarge { limit }.into());
    }
    let mut bytes = Vec::new();
    opened.file.read_to_end(&mut bytes).map_err(|error| ApiError::internal("reading the original image", error))?;
    Ok(bytes)
}

fn read_upload(files: &TenantFiles, upload: Upload) -> Result<Vec<u8>, ApiError> {
    let blob = upload.into_staged()?.commit(Durability::Fast)?;
    let mut bytes = Vec::new();
    let mut file = files.store().open_blob(blob.digest())?;
    file.read_to_end(&mut bytes).map_err(|error| ApiError::internal("reading the uploaded mask", error))?;
    Ok(bytes)
}

/// A name that cannot be used is a bad request here, as in ComfyUI, even where it leads out of its folder or into one that
/// does not exist.
fn naming_error(error: BlobError) -> ApiError {
    match error {
        BlobError::Name { .. }
        | BlobError::Outside { .. }
        | BlobError::NotFound { .. }
        | BlobError::IsDirectory { .. } => ApiError::bad_request("bad_name", error.to_string()),
        other => other.into(),
    }
}

fn no_image() -> ApiError {
    ApiError::bad_request("no_image", "The form has no field \"image\" with a file")
}

fn broken(error: &MultipartError, limit: u64) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large(limit);
    }
    ApiError::bad_request("broken_form", error.body_text())
}
