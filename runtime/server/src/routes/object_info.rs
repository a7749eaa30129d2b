//! `/object_info`: what every node class takes and gives.
//!
//! ComfyUI builds half a megabyte anew on every call. Here the text is kept per tenant for as long as the packs, the
//! list of input files and the model folders (whose names some classes offer as choices) stay the same.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use parking_lot::Mutex;
use vivarium_blobs::Folder;
use vivarium_protocol::tenant::TenantId;

use crate::{
    error::ApiError,
    json::{self, APPLICATION_JSON},
    node_schema,
    serve_file::Content,
    state::AppState,
    tenant::Tenant,
};

/// The texts of all tenants.
#[derive(Default)]
pub(crate) struct ObjectInfoCache(Mutex<HashMap<TenantId, Arc<Mutex<Option<Kept>>>>>);

struct Kept {
    generation: u64,
    models: u64,
    inputs: Arc<[String]>,
    text: Bytes,
    tag: String,
}

/// `GET /object_info`
pub(crate) async fn all(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let (text, tag) = state.blocking("describing the nodes", move |state| text(state, &tenant)).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, APPLICATION_JSON);
    // Browsers may keep it but must ask whether it still holds, which costs them nothing.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(Content::bytes(text, &tag).respond(&request, headers).await)
}

/// `GET /object_info/{class}`: one class under its name; an empty object for an unknown one.
pub(crate) async fn one(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(class): Path<String>,
) -> Result<Response, ApiError> {
    let info = state.blocking("describing a node", move |state| {
        Ok::<_, ApiError>(state.engine().object_info(&tenant, Some(&class)))
    });
    Ok(json::ok(&info.await?))
}

/// `GET /vivarium/schema/{class}`: the inputs of a class as JSON Schema.
pub(crate) async fn schema(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(class): Path<String>,
) -> Result<Response, ApiError> {
    let schema = state.blocking("describing a node", move |state| {
        let info = state.engine().object_info(&tenant, Some(&class));
        let info = info.get(&class).ok_or_else(|| ApiError::not_found(format!("There is no node class {class:?}")))?;
        Ok::<_, ApiError>(node_schema::schema(&class, info))
    });
    Ok(json::ok(&schema.await?))
}

fn text(state: &AppState, tenant: &TenantId) -> Result<(Bytes, String), ApiError> {
    let slot = Arc::clone(state.object_info_cache().0.lock().entry(tenant.clone()).or_default());
    // One request builds the text, others of the tenant wait for it.
    let mut slot = slot.lock();
    // All are read before the text is made: a change meanwhile makes the next request build anew.
    let generation = state.engine().catalog_generation();
    let models = state.models().generation();
    let inputs = state.files(tenant)?.list(Folder::Input)?;
    if let Some(kept) = slot.as_ref()
        && (kept.generation, kept.models) == (generation, models)
        && (Arc::ptr_eq(&kept.inputs, &inputs) || kept.inputs == inputs)
    {
        return Ok((kept.text.clone(), kept.tag.clone()));
    }
    let info = state.engine().object_info(tenant, None);
    let text = serde_json::to_vec(&info).map_err(|error| ApiError::internal("describing the nodes", error))?;
    let text = Bytes::from(text);
    let tag = vivarium_blobs::Digest::of(&text).to_string();
    *slot = Some(Kept { generation, models, inputs, text: text.clone(), tag: tag.clone() });
    Ok((text, tag))
}
