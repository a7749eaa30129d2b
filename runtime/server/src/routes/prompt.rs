//! `/prompt`: how much waits, and how a prompt gets in.

use axum::{extract::State, response::Response};
use serde::Serialize;
use serde_json::json;
use vivarium_graph::Validated;
use vivarium_protocol::{error::NodeErrors, history::WireNumber, prompt::PromptRequest, tenant::TenantId};
use vivarium_queue::NewPrompt;

use crate::{
    error::ApiError,
    json::{self, RawBody},
    state::AppState,
    tenant::Tenant,
};

/// `GET /prompt`
pub(crate) async fn status(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    let queue_remaining = state.queue().remaining(&tenant);
    json::ok(&json!({ "exec_info": { "queue_remaining": queue_remaining } }))
}

#[derive(Serialize)]
struct Accepted {
    prompt_id: String,
    number: WireNumber,
    node_errors: NodeErrors,
}

/// `POST /prompt`: checks a prompt and queues what of it can run.
pub(crate) async fn submit(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    // Reading, checking (which may run a node's own validator) and storing all block: one trip to a blocking thread.
    let accepted = state.blocking("queueing a prompt", move |state| submit_blocking(state, tenant, &body)).await?;
    Ok(json::ok(&accepted))
}

fn submit_blocking(state: &AppState, tenant: TenantId, body: &[u8]) -> Result<Accepted, ApiError> {
    let request = PromptRequest::from_bytes(body)?;
    let targets = request.partial_execution_targets.as_deref();
    let validated = match state.engine().validate(&tenant, &request.prompt, targets) {
        Ok(validated) => validated,
        Err(invalid) => {
            // ComfyUI counts refused prompts too, and clients see the gap in the numbers.
            if request.number.is_none() {
                state.queue().next_number(&tenant)?;
            }
            return Err(invalid.into());
        }
    };
    let Validated { json, outputs, node_errors, .. } = validated;
    let item = state.queue().enqueue(NewPrompt {
        tenant: tenant.clone(),
        prompt_id: request.prompt_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        number: request.number,
        front: request.front,
        prompt: json,
        extra_data: request.extra_data,
        outputs,
        client_id: request.client_id,
    })?;
    state.send_status(&tenant);
    Ok(Accepted { prompt_id: item.prompt_id, number: WireNumber(item.number), node_errors })
}
