//! Whose request it is, and what that tenant may use.
//!
//! The operator keeps tenants in one file (see [`Registry`]) with `vivarium tenant`; the server reads it again when it
//! changes, so that a new or revoked token counts at once. While the file has no tenant, everybody who reaches the server
//! over loopback is the default tenant. From the first tenant on, every request must show a token, and that stays so until
//! the process ends, even if all tenants are removed: what was closed does not open by itself.
//!
//! A token is random and is known to the server by its SHA-256 only. It comes as `Authorization: Bearer`, in the cookie that
//! the page at `/login` sets, or, for WebSockets only, as `?token=`: browsers cannot set headers of a WebSocket.
//!
//! # Layout
//! - `registry`: the file of tenants
//! - `token`: tokens and scopes
//! - `quotas`: what a tenant may use
//! - `accounts`: the file as the running server sees it, and failed attempts
//! - `gate`: the middleware
//! - `login`: the page at `/login`

mod accounts;
mod gate;
mod login;
mod quotas;
mod registry;
mod token;

pub(crate) use accounts::{Access, Accounts, household};
pub(crate) use gate::gate;
pub(crate) use login::{is_login_form, routes};
pub use quotas::Quotas;
pub use registry::{Registry, RegistryError, Tenant, Tenants, TokenRecord};
pub use token::{Scope, Token};

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
