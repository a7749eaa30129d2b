//! Which tenant a request belongs to.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use vivarium_protocol::tenant::TenantId;

use crate::{
    auth::{Access, Scope},
    error::ApiError,
    state::AppState,
};

const COMFY_USER: &str = "comfy-user";

/// The tenant of a request. Every route takes it, and hands it to everything it asks.
///
/// The gate puts it into the request's extensions. ComfyUI's `comfy-user` header has no say in it: see [`User`].
#[derive(Clone, Debug)]
pub(crate) struct Tenant(pub(crate) TenantId);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let authenticated = parts.extensions.get::<TenantId>().cloned();
        Ok(Self(authenticated.unwrap_or_else(TenantId::default_tenant)))
    }
}

/// Whose workflows and settings a request is about: the tenant's, or with `--multi-user` those of the user of the tenant
/// that the header `comfy-user` names. Nobody authenticates the header, so it chooses among the tenant's own folders only.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) tenant: TenantId,
    /// `None` where the tenant has one user.
    pub(crate) id: Option<String>,
}

impl FromRequestParts<AppState> for User {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let Tenant(tenant) = Tenant::from_request_parts(parts, state).await?;
        let named = || parts.headers.get(COMFY_USER).and_then(|value| value.to_str().ok());
        // As in ComfyUI, whoever sends no header means the user that a server with one user has.
        let id = state.config().multi_user.then(|| named().unwrap_or("default").to_owned());
        Ok(Self { tenant, id })
    }
}

/// A request with the scope `admin`: what concerns the whole server, and may name other tenants.
pub(crate) struct Operator;

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        if parts.extensions.get::<Access>().is_some_and(|access| access.allows(Scope::Admin)) {
            return Ok(Self);
        }
        let message =
            "The log is the operator's, since it may name other tenants: a token needs the scope admin for it";
        Err(ApiError::new(StatusCode::FORBIDDEN, "scope", message))
    }
}
