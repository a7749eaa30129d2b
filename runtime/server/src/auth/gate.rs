//! The middleware that asks every request whose it is.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Query, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Access, Scope,
    accounts::Denied,
    login::{self, cookie_token},
};
use crate::{error::ApiError, state::AppState};

/// Puts an [`Access`] and its tenant into the request, or answers it. The pages of the login are for everybody.
pub(crate) async fn gate<F>(state: &AppState, mut request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let path = request.uri().path();
    if login::is_login(path) {
        return next(request).await;
    }
    let (peer, local) = peer_of(&request);
    let shown = shown_token(request.headers(), request.uri());
    let access = match state.accounts().admit(shown.as_deref(), peer, local) {
        Ok(access) => access,
        Err(denied) => return refuse(denied, &request),
    };
    let needed = needed_scope(request.method(), path);
    if !access.allows(needed) {
        return missing_scope(&access, needed).into_response();
    }
    tracing::Span::current().record("tenant", tracing::field::display(&access.tenant));
    request.extensions_mut().insert(access.tenant.clone());
    request.extensions_mut().insert(access);
    let mut response = next(request).await;
    if state.accounts().required() {
        // The same address shows every tenant something else.
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Authorization, Cookie"));
    }
    response
}

/// The peer's address, and whether the request came over loopback; without an address it counts as that, as for the guard.
pub(super) fn peer_of(request: &Request) -> (Option<IpAddr>, bool) {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
    (peer, peer.is_none_or(|peer| peer.is_loopback()))
}

#[derive(Deserialize)]
struct Parameters {
    token: Option<String>,
}

/// The header, else the cookie, else, for WebSockets only, the parameter: addresses of other requests end in logs,
/// histories and `Referer` headers, and whoever makes them can set a header.
fn shown_token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let is_socket = matches!(uri.path(), "/ws" | "/api/ws");
    let parameter = || Query::<Parameters>::try_from_uri(uri).ok().and_then(|Query(parameters)| parameters.token);
    bearer.or_else(|| cookie_token(headers)).or_else(|| if is_socket { parameter() } else { None })
}

fn needed_scope(method: &Method, path: &str) -> Scope {
    let path = path.strip_prefix("/api").unwrap_or(path);
    if path.starts_with("/internal/logs") {
        Scope::Admin
    } else if matches!(*method, Method::GET | Method::HEAD) || path == "/vivarium/validate" {
        Scope::Read
    } else {
        Scope::Submit
    }
}

pub(crate) fn missing_scope(access: &Access, needed: Scope) -> ApiError {
    let message = format!(
        "This token's scopes are {}, and this needs {needed}; the operator makes another one with \
         `vivarium tenant token add {} --scope …`",
        access.scopes(),
        access.tenant
    );
    ApiError::new(StatusCode::FORBIDDEN, "scope", message)
}

fn refuse(denied: Denied, request: &Request) -> Response {
    if denied != Denied::Remote && is_navigation(request) {
        return Redirect::to(login::PATH).into_response();
    }
    let mut response = denied.answer().into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

impl Denied {
    fn answer(self) -> ApiError {
        let unauthenticated = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", message);
        match self {
            Self::Missing => unauthenticated(
                "This server wants a token: send `Authorization: Bearer TOKEN`, or log in at /login with a browser. The \
                 operator makes tokens with `vivarium tenant add`",
            ),
            Self::Wrong => unauthenticated("This token is unknown, revoked or expired; ask the operator for a new one"),
            Self::TooMany { seconds } => {
                let message = format!("Too many wrong tokens came from this address; try again in {seconds} seconds");
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message).retry_after(seconds)
            }
            Self::Remote => unauthenticated(
                "This server has no tenants, so only its own machine may use it; the operator makes them with \
                 `vivarium tenant add`",
            ),
        }
    }
}

/// A page that somebody opens, as against what pages and programs fetch.
fn is_navigation(request: &Request) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let opens_a_page = match text("sec-fetch-mode") {
        "" => text("accept").contains("text/html"),
        mode => mode == "navigate",
    };
    *request.method() == Method::GET && opens_a_page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scopes_of_routes() {
        for (method, path, scope) in [
            ("GET", "/api/queue", Scope::Read),
            ("GET", "/ws", Scope::Read),
            ("POST", "/prompt", Scope::Submit),
            ("POST", "/api/vivarium/validate", Scope::Read),
            ("DELETE", "/userdata/a", Scope::Submit),
            ("GET", "/internal/logs/raw", Scope::Admin),
            ("PATCH", "/internal/logs/subscribe", Scope::Admin),
        ] {
            assert_eq!(needed_scope(&method.parse().unwrap(), path), scope, "{method} {path}");
        }
    }

    #[test]
    fn a_parameter_counts_for_sockets_only() {
        let shown = |headers: &[(&str, &str)], uri: &str| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            shown_token(&map, &uri.parse().unwrap())
        };
        assert_eq!(shown(&[], "/ws?clientId=a&token=t").as_deref(), Some("t"));
        assert_eq!(shown(&[], "/queue?token=t"), None);
        assert_eq!(shown(&[("cookie", "a=b; vivarium_token=c")], "/ws?token=t").as_deref(), Some("c"));
        let both = [("cookie", "vivarium_token=c"), ("authorization", "bearer  h")];
        assert_eq!(shown(&both, "/ws").as_deref(), Some("h"));
        assert_eq!(shown(&[("authorization", "Basic eDp5")], "/queue"), None);
    }
}
