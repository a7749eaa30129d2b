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
};

/// The tenant of a request. Every route takes it, and hands it to everything it asks.
///
/// The gate puts it into the request's extensions. ComfyUI's `comfy-user` header is not looked at: a tenant has one user.
#[derive(Clone, Debug)]
pub(crate) struct Tenant(pub(crate) TenantId);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let authenticated = parts.extensions.get::<TenantId>().cloned();
        Ok(Self(authenticated.unwrap_or_else(TenantId::default_tenant)))
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
