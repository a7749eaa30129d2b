//! Which tenant a request belongs to.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};
use vivarium_protocol::tenant::TenantId;

/// The tenant of a request. Every route takes it, and hands it to everything it asks.
///
/// A middleware that authenticates puts a [`TenantId`] into the request's extensions; without one, which is only
/// possible on loopback or with the operator's word, everybody is the default tenant.
#[derive(Clone, Debug)]
pub(crate) struct Tenant(pub(crate) TenantId);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let authenticated = parts.extensions.get::<TenantId>().cloned();
        Ok(Self(authenticated.unwrap_or_else(TenantId::default_tenant)))
    }
}
