//! What packs give front ends beside nodes. It is data: packs ship no scripts and no routes, since those would run with the
//! user's rights, so scripts are the front end's own.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::{Map, Value, json};
use vivarium_blobs::Digest;
use vivarium_worker::PackOffers;

use crate::{error::ApiError, json, state::AppState, tenant::Tenant};

/// `GET /extensions`: the front end's own scripts.
pub(crate) async fn scripts(State(state): State<AppState>) -> Result<Response, ApiError> {
    let scripts = state.blocking("listing scripts", |state| Ok::<_, ApiError>(state.front_end().extension_scripts()));
    Ok(json::ok(&scripts.await?))
}

/// `GET /i18n`: translations by language.
pub(crate) async fn translations(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    json::ok(&state.engine().offers(&tenant).translations)
}

/// `GET /node_replacements`: lists by the class that is gone.
pub(crate) async fn replacements(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    json::ok(&state.engine().offers(&tenant).replacements)
}

/// `GET /workflow_templates`: names of example workflows by pack.
pub(crate) async fn templates(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    let offers = state.engine().offers(&tenant);
    let shown = offers.workflows.iter().filter(|(_, workflows)| !workflows.is_empty());
    let names = |workflows: &BTreeMap<String, Value>| workflows.keys().cloned().collect::<Value>();
    json::ok(&shown.map(|(pack, workflows)| (pack.clone(), names(workflows))).collect::<Map<_, _>>())
}

/// `GET /workflow_templates/{pack}/{file}`: an example workflow, its name ending with `.json`.
pub(crate) async fn template(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path((pack, file)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let offers = state.engine().offers(&tenant);
    let workflow = file.strip_suffix(".json").and_then(|name| offers.workflows.get(&pack)?.get(name));
    workflow.map(json::ok).ok_or_else(|| ApiError::not_found(format!("Pack {pack:?} has no workflow {file:?}")))
}

/// `GET /global_subgraphs`: what subgraphs there are, by an id that stays the same across restarts.
pub(crate) async fn subgraphs(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    let offers = state.engine().offers(&tenant);
    let shown = all_subgraphs(&offers).map(|(pack, name, _)| (subgraph_id(pack, name), subgraph(pack, name)));
    json::ok(&shown.collect::<Map<_, _>>())
}

/// `GET /global_subgraphs/{id}`: the same of one, with its `data` as a text.
pub(crate) async fn one_subgraph(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let offers = state.engine().offers(&tenant);
    let found = all_subgraphs(&offers).find(|(pack, name, _)| subgraph_id(pack, name) == id);
    let (pack, name, data) = found.ok_or_else(|| ApiError::not_found(format!("There is no subgraph {id:?}")))?;
    let mut shown = subgraph(pack, name);
    shown["data"] = data.to_string().into();
    Ok(json::ok(&shown))
}

fn all_subgraphs(offers: &PackOffers) -> impl Iterator<Item = (&str, &str, &Value)> {
    let of_pack = offers.subgraphs.iter();
    of_pack.flat_map(|(pack, graphs)| graphs.iter().map(move |(name, data)| (pack.as_str(), name.as_str(), data)))
}

fn subgraph_id(pack: &str, name: &str) -> String {
    Digest::of(format!("{pack}/{name}").as_bytes()).to_string()
}

fn subgraph(pack: &str, name: &str) -> Value {
    json!({"source": "custom_node", "name": name, "path": format!("{pack}/{name}.json"), "info": {"node_pack": pack}})
}
