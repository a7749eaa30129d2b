//! `/jobs`: the newer front ends' one list of what waits, runs and has ended.

use std::str::FromStr;

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::{JobFilter, PromptState, QueueError};

use crate::{
    error::ApiError,
    json::{self, JsonObject, id_list},
    state::AppState,
    tenant::Tenant,
};

/// The longest page. A client that asks for more gets this many, and reads so in `pagination`.
const MAX_LIMIT: u64 = 1000;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    status: Option<String>,
    workflow_id: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
    sort_by: Option<String>,
    sort_order: Option<String>,
}

/// `GET /jobs?status=a,b&workflow_id&limit&offset&sort_by&sort_order`: the newest first.
pub(crate) async fn list(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let filter = parameters.filter()?;
    let page = state.blocking("listing jobs", move |state| state.queue().jobs(&tenant, &filter)).await?;
    Ok(json::ok(&page))
}

/// `GET /jobs/{id}`
pub(crate) async fn one(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let wanted = id.clone();
    let job = state.blocking("reading a job", move |state| state.queue().job(&tenant, &wanted)).await?;
    job.map(|job| json::ok(&job)).ok_or_else(|| unknown(&id))
}

/// `POST /jobs/{id}/cancel`: takes a job out of the queue, or interrupts it. Nothing happens to one that has ended or that
/// nobody knows, and that is no error: a client may ask twice.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let cancelled = state.blocking("cancelling a job", move |state| cancel_blocking(state, &tenant, &id)).await?;
    Ok(json::ok(&json!({ "cancelled": cancelled })))
}

/// `POST /jobs/cancel`: the same for `{"job_ids": […]}`; tells whether any was cancelled.
pub(crate) async fn cancel_many(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    if !body.contains_key("job_ids") {
        return Err(ApiError::bad_request("invalid_request", "The body must hold \"job_ids\", a list of ids"));
    }
    let ids = id_list(&body, "job_ids")?;
    let cancelled = state
        .blocking("cancelling jobs", move |state| {
            let mut cancelled = false;
            for id in ids {
                cancelled |= cancel_blocking(state, &tenant, &id)?;
            }
            Ok::<_, QueueError>(cancelled)
        })
        .await?;
    Ok(json::ok(&json!({ "cancelled": cancelled })))
}

/// Whether there was something to cancel.
fn cancel_blocking(state: &AppState, tenant: &TenantId, id: &str) -> Result<bool, QueueError> {
    if state.queue().delete_pending(tenant, &[id.to_owned()])? > 0 {
        state.send_status(tenant);
        return Ok(true);
    }
    Ok(state.engine().interrupt(tenant, Some(id)))
}

impl Parameters {
    fn filter(self) -> Result<JobFilter, ApiError> {
        let states = self.status.as_deref().unwrap_or_default().split(',').map(str::trim);
        let limit: Option<u64> = whole("limit", self.limit)?;
        if limit == Some(0) {
            return Err(ApiError::bad_request("bad_number", "limit must be at least 1"));
        }
        // ComfyUI sorts by `execution_duration`, too; no front end asks for it, and it would read every job of the history.
        one_of("sort_by", self.sort_by.as_deref(), &["created_at"])?;
        one_of("sort_order", self.sort_order.as_deref(), &["asc", "desc"])?;
        Ok(JobFilter {
            states: states.filter(|name| !name.is_empty()).map(state_of).collect::<Result<_, _>>()?,
            workflow_id: self.workflow_id.filter(|id| !id.is_empty()),
            limit: Some(limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT)),
            offset: whole("offset", self.offset)?.unwrap_or(0),
            oldest_first: self.sort_order.is_some_and(|order| order.eq_ignore_ascii_case("asc")),
        })
    }
}

/// Refuses a word that is none of these; none is fine.
fn one_of(name: &str, word: Option<&str>, known: &[&str]) -> Result<(), ApiError> {
    match word.filter(|word| !word.is_empty()) {
        Some(word) if !known.iter().any(|known| known.eq_ignore_ascii_case(word)) => {
            let (shown, known): (String, _) = (word.chars().take(50).collect(), known.join(", "));
            Err(ApiError::bad_request("unknown_order", format!("{name} cannot be {shown:?}; use {known}")))
        }
        _ => Ok(()),
    }
}

fn state_of(name: &str) -> Result<PromptState, ApiError> {
    PromptState::from_name(name).ok_or_else(|| {
        let known = PromptState::ALL.map(PromptState::as_str).join(", ");
        ApiError::bad_request("unknown_status", format!("{name:?} is not a status; use {known}"))
    })
}

/// A whole number of the query; an empty one counts as absent.
pub(crate) fn whole<T: FromStr>(name: &str, text: Option<String>) -> Result<Option<T>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => {
            let shown: String = text.chars().take(50).collect();
            Err(ApiError::bad_request("bad_number", format!("{name} must be a whole number, not {shown:?}")))
        }
    }
}

fn unknown(id: &str) -> ApiError {
    let shown: String = id.chars().take(100).collect();
    ApiError::new(StatusCode::NOT_FOUND, "unknown_job", format!("There is no job {shown:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_of_the_query() {
        assert_eq!(whole::<i64>("a", None).unwrap(), None);
        assert_eq!(whole::<i64>("a", Some(String::new())).unwrap(), None);
        assert_eq!(whole::<i64>("a", Some("-1".to_owned())).unwrap(), Some(-1));
        assert_eq!(whole::<u64>("a", Some("-1".to_owned())).unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_filter_is_read_and_bounded() {
        let parameters = |status: &str, limit: &str| Parameters {
            status: Some(status.to_owned()),
            workflow_id: None,
            limit: Some(limit.to_owned()),
            offset: None,
            sort_by: None,
            sort_order: None,
        };
        let filter = parameters("in_progress, pending,", "200").filter().unwrap();
        assert_eq!(filter.states, [PromptState::InProgress, PromptState::Pending]);
        assert_eq!((filter.limit, filter.offset, filter.oldest_first), (Some(200), 0, false));
        assert_eq!(parameters("", "99999").filter().unwrap().limit, Some(MAX_LIMIT));
        assert!(parameters("done", "1").filter().is_err());
        assert!(parameters("", "0").filter().is_err());
        let sorted = |by: &str| Parameters { sort_by: Some(by.to_owned()), ..parameters("", "1") }.filter();
        assert!(sorted("created_at").is_ok() && sorted("execution_duration").is_err());
    }
}
