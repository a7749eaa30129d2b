//! `/prompt`: how much waits, and how a prompt gets in.

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::Response,
};
use serde::{Deserialize, Serialize};
use vivarium_blobs::Digest;
use vivarium_graph::{Invalid, Validated};
use vivarium_protocol::{
    error::{NodeErrors, PromptError},
    event::{ExecInfo, StatusBody},
    history::WireNumber,
    prompt::PromptRequest,
    tenant::TenantId,
};
use vivarium_queue::{Enqueued, NewPrompt, Once, Remembered};

use crate::{
    error::ApiError,
    json::{self, RawBody},
    state::AppState,
    tenant::Tenant,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_LENGTH: usize = 255;

/// `GET /prompt`
pub(crate) async fn status(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    json::ok(&StatusBody { exec_info: ExecInfo { queue_remaining: state.queue().remaining(&tenant) } })
}

#[derive(Deserialize)]
pub(crate) struct Parameters {
    /// Refuse a prompt of which only a part can run; ComfyUI queues that part.
    strict: Option<String>,
}

impl Parameters {
    fn is_strict(&self) -> Result<bool, ApiError> {
        match self.strict.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(other) => {
                Err(ApiError::bad_request("bad_parameter", format!("strict={other} is neither true nor false")))
            }
        }
    }
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
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let strict = parameters.is_strict()?;
    let key = idempotency_key(&headers)?;
    // Reading, checking (which may run a node's own validator) and storing all block: one trip to a blocking thread.
    let accepted = state.blocking("queueing a prompt", move |state| match key {
        None => submit_blocking(state, &tenant, &body, strict, None),
        Some(key) => submit_once(state, &tenant, &body, strict, key),
    });
    Ok(json::ok(&accepted.await?))
}

/// The key under which a client may repeat its request.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_LENGTH {
        let message = format!("An Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LENGTH} ASCII characters");
        return Err(ApiError::bad_request("bad_idempotency_key", message));
    }
    Ok(Some(key.to_owned()))
}

/// Answers a repetition as its original was answered. Only what was queued is remembered: a refused prompt may be repeated
/// until it fits.
fn submit_once(
    state: &AppState,
    tenant: &TenantId,
    body: &[u8],
    strict: bool,
    key: String,
) -> Result<Accepted, ApiError> {
    let request = format!("{}{}", Digest::of(body), if strict { " strict" } else { "" });
    if let Some(before) = state.queue().remembered(tenant, &key)? {
        return answer_again(before, &request);
    }
    submit_blocking(state, tenant, body, strict, Some((key, request)))
}

fn answer_again(before: Remembered, request: &str) -> Result<Accepted, ApiError> {
    if before.request != request {
        let message = format!(
            "This Idempotency-Key belongs to another request, which queued prompt {}; use a new key for a new request",
            before.prompt_id
        );
        return Err(ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message));
    }
    let node_errors = serde_json::from_str(&before.note)
        .map_err(|error| ApiError::internal("reading what was answered before", error))?;
    Ok(Accepted { prompt_id: before.prompt_id, number: WireNumber(before.number), node_errors })
}

fn submit_blocking(
    state: &AppState,
    tenant: &TenantId,
    body: &[u8],
    strict: bool,
    once: Option<(String, String)>,
) -> Result<Accepted, ApiError> {
    let mut request = PromptRequest::from_bytes(body)?;
    // Nothing could be saved.
    state.files(tenant)?.reserve(1)?;
    let validated = match check(state, tenant, &mut request, strict) {
        Ok(validated) => validated,
        Err(invalid) => {
            // ComfyUI counts refused prompts too, and clients see the gap in the numbers.
            if request.number.is_none() {
                state.queue().next_number(tenant)?;
            }
            return Err(invalid.into());
        }
    };
    let Validated { json, outputs, node_errors, .. } = validated;
    let prompt = NewPrompt {
        tenant: tenant.clone(),
        prompt_id: request.prompt_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        number: request.number,
        front: request.front,
        prompt: json,
        extra_data: request.extra_data,
        outputs,
        client_id: request.client_id,
    };
    let item = match once {
        None => state.queue().enqueue(prompt)?,
        Some((key, request)) => {
            let note = serde_json::to_string(&node_errors)
                .map_err(|error| ApiError::internal("writing the validation errors", error))?;
            let once = Once { key, request: request.clone(), note };
            match state.queue().enqueue_once(prompt, once)? {
                Enqueued::Now(item) => item,
                // The same request came twice at the same time.
                Enqueued::Before(before) => return answer_again(before, &request),
            }
        }
    };
    state.send_status(tenant);
    Ok(Accepted { prompt_id: item.prompt_id, number: WireNumber(item.number), node_errors })
}

/// What can run of a prompt, which is taken out of the request. With `strict` that must be everything that was asked for.
fn check(state: &AppState, tenant: &TenantId, request: &mut PromptRequest, strict: bool) -> Result<Validated, Invalid> {
    let prompt = std::mem::take(&mut request.prompt);
    state.engine().check_lock(&request.extra_data)?;
    let targets = request.partial_execution_targets.as_deref();
    let validated = state.engine().validate(tenant, prompt, targets)?;
    if strict && !validated.node_errors.is_empty() {
        let error = PromptError::new(
            "prompt_partly_invalid",
            "Some outputs of the prompt can't run, and strict was asked for",
            "Correct the nodes in node_errors, or ask without strict to run the other outputs",
        );
        return Err(Invalid { error, node_errors: Box::new(validated.node_errors) });
    }
    Ok(validated)
}

/// What a dry run finds.
#[derive(Serialize)]
struct Findings {
    valid: bool,
    /// The output nodes that would run.
    outputs: Vec<String>,
    error: Option<PromptError>,
    node_errors: NodeErrors,
}

/// `POST /vivarium/validate`: says what `POST /prompt` would say to the same body, and queues nothing. `valid` means that
/// everything would run; a part that could run alone is in `outputs`.
pub(crate) async fn dry_run(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let findings = state.blocking("checking a prompt", move |state| {
        let mut request = PromptRequest::from_bytes(&body)?;
        Ok::<_, ApiError>(match check(state, &tenant, &mut request, false) {
            Ok(Validated { outputs, node_errors, .. }) => {
                Findings { valid: node_errors.is_empty(), outputs, error: None, node_errors }
            }
            Err(Invalid { error, node_errors }) => {
                Findings { valid: false, outputs: Vec::new(), error: Some(error), node_errors: *node_errors }
            }
        })
    });
    Ok(json::ok(&findings.await?))
}
