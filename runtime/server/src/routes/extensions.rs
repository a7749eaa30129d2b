//! What front ends ask for and packs do not have: packs ship no scripts, no translations and no routes, since those would
//! run with the user's rights. So these lists are empty, or name only what the front end itself brought.

use axum::{extract::State, response::Response};
use serde_json::json;

use crate::{error::ApiError, json, state::AppState};

/// `GET /extensions`: the front end's own scripts.
pub(crate) async fn scripts(State(state): State<AppState>) -> Result<Response, ApiError> {
    let scripts = state.blocking("listing scripts", |state| Ok::<_, ApiError>(state.front_end().extension_scripts()));
    Ok(json::ok(&scripts.await?))
}

/// `GET /i18n`, `/workflow_templates`, `/node_replacements`, `/global_subgraphs`: nothing by name.
pub(crate) async fn none() -> Response {
    json::ok(&json!({}))
}
