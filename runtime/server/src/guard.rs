//! The one guard in front of everything, WebSocket included: which requests a browser may send here for which page.
//!
//! Why: a browser on the user's machine reaches this server, and so does every page it shows. ComfyUI compares `Origin` and
//! `Host` and was bypassed three times: `Origin: null` (sandboxed frames), a DNS name of the attacker's that points to
//! 127.0.0.1 (then both headers agree), and form posts, which need no permission. So:
//!
//! 1. `Host` must be an IP address, `localhost`, or a name the operator listed. An IP address cannot be rebound.
//! 2. `Origin: null` is never ours.
//! 3. What the browser itself says (`Sec-Fetch-Site`) is believed; `Origin` is compared with `Host` where it says nothing.
//! 4. A page of another site may only be left for ours (a link): a top-level GET navigation.
//! 5. Nothing that changes state is a navigation: a form cannot post here, except our own one at `/login`. A browser so discreet that it says neither
//!    where it comes from nor that it is a form must at least send a content type that forms cannot.
//!
//! Programs send none of these headers and are not held up: this guard is about browsers, not about authentication.
//!
//! With `--enable-cors-header` the named origin passes 3, and `*` lets every origin but `null` pass.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
};

use crate::{auth, config::ServerConfig, error::ApiError, error::ServerError, state::AppState};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

const ALLOWED_METHODS: &str = "POST, GET, DELETE, PUT, PATCH, OPTIONS";
const ALLOWED_HEADERS: &str = "Content-Type, Authorization, Comfy-User, Idempotency-Key, Range, If-None-Match";

/// The rules of this server, made from its settings once.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    allowed_hosts: Vec<String>,
    cors: Option<Cors>,
}

#[derive(Clone, Debug)]
struct Cors {
    any: bool,
    origin: String,
    header: HeaderValue,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `Host` is not a name of this server.
    UnknownHost(String),
    /// A sandboxed or local-file page.
    NullOrigin,
    /// A page of another origin.
    ForeignOrigin(String),
    /// The browser says that another site asks, and not whose.
    CrossSite,
    /// A form post.
    Form,
}

impl Guard {
    /// Checks the settings.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, ServerError> {
        let cors = config.cors_origin.as_ref().map(|origin| Cors::new(origin)).transpose()?;
        let listened = config.listen.iter();
        let allowed_hosts = config.allowed_hosts.iter().chain(listened).map(|name| host_name(name)).collect();
        Ok(Self { allowed_hosts, cors })
    }

    /// Decides about one request from its method, its headers and whether it came over loopback.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap, over_loopback: bool) -> Result<(), Refusal> {
        let host = text(headers, &header::HOST);
        if over_loopback && !self.knows_host(host) {
            return Err(Refusal::UnknownHost(host.to_owned()));
        }
        self.check_site(method, headers, host)?;
        if changes_state(method) && looks_like_a_form(headers) { Err(Refusal::Form) } else { Ok(()) }
    }

    fn check_site(&self, method: &Method, headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
        let origin = text(headers, &header::ORIGIN);
        if self.cors.as_ref().is_some_and(|cors| cors.allows(origin)) {
            return Ok(());
        }
        if origin.eq_ignore_ascii_case("null") {
            return Err(Refusal::NullOrigin);
        }
        match text(headers, &SEC_FETCH_SITE) {
            "same-origin" | "none" => return Ok(()),
            // Without an origin this is an image, a script or a link of another site.
            "cross-site" if origin.is_empty() && !is_link(method, headers) => {
                let shared = self.cors.is_some() && !changes_state(method);
                return if shared { Ok(()) } else { Err(Refusal::CrossSite) };
            }
            _ => {}
        }
        if origin.is_empty() || same_origin(origin, host) {
            Ok(())
        } else {
            Err(Refusal::ForeignOrigin(origin.to_owned()))
        }
    }

    fn knows_host(&self, host: &str) -> bool {
        // HTTP/1.0 tools send none; browsers always do. An address with a port is what most programs send.
        if host.is_empty() || host.parse::<SocketAddr>().is_ok() {
            return true;
        }
        let name = host_name(host);
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.allowed_hosts.contains(&name)
    }

    /// Adds the CORS headers, if the operator wants them.
    fn add_cors_headers(&self, response: &mut Response) {
        let Some(cors) = &self.cors else { return };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, cors.header.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOWED_METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

impl Cors {
    fn new(origin: &str) -> Result<Self, ServerError> {
        let header = HeaderValue::from_str(origin).map_err(|_| ServerError::Setting {
            setting: "--enable-cors-header",
            value: origin.to_owned(),
            reason: "an origin looks like https://example.com, or is *",
        })?;
        Ok(Self { any: origin == "*", origin: origin.trim_end_matches('/').to_ascii_lowercase(), header })
    }

    fn allows(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        !origin.is_empty() && (origin == self.origin || (self.any && origin != "null"))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownHost(host) => write!(
                formatter,
                "The host name {host:?} is not one of this server's. If it should be, start the server with --allowed-host and that name."
            ),
            Self::NullOrigin => {
                formatter.write_str("A sandboxed page or a local file may not call this server (Origin: null).")
            }
            Self::ForeignOrigin(origin) => write!(
                formatter,
                "Pages of {origin} may not call this server. If they should, start the server with --enable-cors-header and that origin."
            ),
            Self::CrossSite => formatter.write_str("Another web site may not use this server's content."),
            Self::Form => formatter.write_str(
                "This server takes no form posts from browsers. Send Content-Type: application/json from a page of its own.",
            ),
        }
    }
}

/// The middleware: refuses, answers `OPTIONS`, and adds CORS headers to whatever comes back.
pub(crate) async fn guard<F>(state: &AppState, request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let guard = state.guard();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    // Without a peer address (a test, a Unix socket) the stricter rule holds.
    let over_loopback = peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback());
    let checked = guard.check(request.method(), request.headers(), over_loopback);
    // Forms are checked last: the page that posts this one is of our origin.
    let is_own_form = checked == Err(Refusal::Form) && auth::is_login_form(request.method(), request.uri().path());
    if let Err(refusal) = checked
        && !is_own_form
    {
        tracing::warn!(path = request.uri().path(), "refused: {refusal}");
        return ApiError::text(StatusCode::FORBIDDEN, refusal.to_string()).into_response();
    }
    let mut response =
        if request.method() == Method::OPTIONS { StatusCode::OK.into_response() } else { next(request).await };
    guard.add_cors_headers(&mut response);
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    match headers.get(name) {
        None => "",
        // Bytes that are no ASCII belong to no name of ours.
        Some(value) => value.to_str().unwrap_or("?"),
    }
}

fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A click on a link to us, which shows our page in a window of its own.
fn is_link(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && text(headers, &SEC_FETCH_MODE) == "navigate"
        && text(headers, &SEC_FETCH_DEST) == "document"
}

fn looks_like_a_form(headers: &HeaderMap) -> bool {
    if text(headers, &SEC_FETCH_MODE) == "navigate" {
        return true;
    }
    let says_where_from = headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
    let is_browser =
        text(headers, &header::USER_AGENT).starts_with("Mozilla/") || headers.contains_key(header::REFERER);
    is_browser && !says_where_from && is_form_content_type(text(headers, &header::CONTENT_TYPE))
}

fn is_form_content_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
        .iter()
        .any(|form| essence.eq_ignore_ascii_case(form))
}

/// The lower-case name or address of a `Host` value, without port, brackets and trailing dot.
fn host_name(host: &str) -> String {
    let name = match host.parse::<IpAddr>() {
        Ok(address) => return address.to_string(),
        Err(_) => match host.parse::<Authority>() {
            Ok(authority) if !host.contains('@') => authority.host().to_owned(),
            _ => return "?".to_owned(),
        },
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name,
    }
}

/// Whether a page of `origin` and this server's `host` are the same place. The scheme is not compared: a proxy may have
/// ended TLS before us. A port that one side leaves out is the scheme's own.
fn same_origin(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let port = |text: &str| text.parse::<Authority>().ok().map(|authority| authority.port_u16());
    let (Some(origin_port), Some(host_port)) = (port(authority), port(host)) else { return false };
    if host_name(authority) != host_name(host) {
        return false;
    }
    // A proxy that passes on the bare name has told us nothing about its port.
    host_port.is_none_or(|host_port| host_port == origin_port.unwrap_or(default_port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn check(guard: &Guard, method: Method, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        guard.check(&method, &headers(pairs), true)
    }

    fn plain() -> Guard {
        Guard::new(&ServerConfig::default()).unwrap()
    }

    #[test]
    fn programs_pass() {
        let script = [("host", "127.0.0.1:8188"), ("content-type", "application/x-www-form-urlencoded")];
        check(&plain(), Method::POST, &script).unwrap();
        let curl = [("host", "localhost:8188"), ("user-agent", "curl/8"), ("content-type", "text/plain")];
        check(&plain(), Method::POST, &curl).unwrap();
        // A WebSocket library that sends the address it dials as origin.
        check(&plain(), Method::GET, &[("host", "127.0.0.1:8188"), ("origin", "http://127.0.0.1:8188")]).unwrap();
        check(&plain(), Method::GET, &[]).unwrap();
    }

    #[test]
    fn our_own_page_passes() {
        let page = [
            ("host", "localhost:8188"),
            ("origin", "http://localhost:8188"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
            ("content-type", "text/plain;charset=UTF-8"),
        ];
        check(&plain(), Method::POST, &page).unwrap();
        check(&plain(), Method::GET, &[("host", "[::1]:8188"), ("origin", "http://[::1]:8188")]).unwrap();
    }

    #[test]
    fn rebinding_is_refused_although_host_and_origin_agree() {
        let rebound = [("host", "evil.example:8188"), ("origin", "http://evil.example:8188")];
        assert!(matches!(check(&plain(), Method::GET, &rebound), Err(Refusal::UnknownHost(_))));
        for host in ["localhost.evil.example", "127.0.0.1.evil.example", "evil.example.", "localhost@evil.example", "ö"]
        {
            assert!(matches!(check(&plain(), Method::GET, &[("host", host)]), Err(Refusal::UnknownHost(_))), "{host}");
        }
        for host in ["localhost", "LOCALHOST:1", "localhost.", "a.localhost", "127.0.0.1", "[::1]:8188", "10.0.0.4"] {
            check(&plain(), Method::GET, &[("host", host)]).unwrap();
        }
    }

    #[test]
    fn listed_hosts_pass() {
        let config = ServerConfig { allowed_hosts: vec!["Comfy.Example".to_owned()], ..ServerConfig::default() };
        let guard = Guard::new(&config).unwrap();
        check(&guard, Method::GET, &[("host", "comfy.example")]).unwrap();
        check(&guard, Method::POST, &[("host", "comfy.example"), ("origin", "https://comfy.example")]).unwrap();
        assert!(check(&guard, Method::GET, &[("host", "other.example")]).is_err());
    }

    #[test]
    fn null_is_nobody() {
        for method in [Method::GET, Method::POST] {
            let sandboxed = [("host", "127.0.0.1:8188"), ("origin", "null")];
            assert_eq!(check(&plain(), method, &sandboxed), Err(Refusal::NullOrigin));
        }
        let config = ServerConfig { cors_origin: Some("*".to_owned()), ..ServerConfig::default() };
        let guard = Guard::new(&config).unwrap();
        let sandboxed = [("host", "127.0.0.1:8188"), ("origin", "null")];
        assert_eq!(check(&guard, Method::POST, &sandboxed), Err(Refusal::NullOrigin));
    }

    #[test]
    fn other_origins_are_refused() {
        for (host, origin) in [
            ("127.0.0.1:8188", "https://evil.example"),
            ("127.0.0.1:8188", "http://localhost:8188"),
            ("localhost:8188", "http://localhost:3000"),
            ("localhost:8188", "http://localhost"),
            ("localhost:8188", "garbage"),
        ] {
            let result = check(&plain(), Method::POST, &[("host", host), ("origin", origin)]);
            assert!(matches!(result, Err(Refusal::ForeignOrigin(_))), "{origin} -> {host}");
        }
    }

    #[test]
    fn another_site_may_link_to_us_and_no_more() {
        let base = [("host", "127.0.0.1:8188"), ("sec-fetch-site", "cross-site")];
        let with = |more: &[(&'static str, &'static str)]| [&base, more].concat();
        assert_eq!(check(&plain(), Method::GET, &with(&[("sec-fetch-mode", "no-cors")])), Err(Refusal::CrossSite));
        let frame = with(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]);
        assert_eq!(check(&plain(), Method::GET, &frame), Err(Refusal::CrossSite));
        let link = with(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]);
        check(&plain(), Method::GET, &link).unwrap();
        assert_eq!(check(&plain(), Method::POST, &link), Err(Refusal::CrossSite));
    }

    #[test]
    fn forms_are_refused() {
        let form = [
            ("host", "127.0.0.1:8188"),
            ("origin", "http://127.0.0.1:8188"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert_eq!(check(&plain(), Method::POST, &form), Err(Refusal::Form));
        let discreet =
            [("host", "127.0.0.1:8188"), ("user-agent", "Mozilla/5.0"), ("content-type", "Text/Plain; charset=utf-8")];
        assert_eq!(check(&plain(), Method::POST, &discreet), Err(Refusal::Form));
    }

    #[test]
    fn cors_lets_the_named_origin_in() {
        let config = ServerConfig { cors_origin: Some("https://app.example".to_owned()), ..ServerConfig::default() };
        let guard = Guard::new(&config).unwrap();
        let named = [("host", "127.0.0.1:8188"), ("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
        check(&guard, Method::POST, &named).unwrap();
        let other = [("host", "127.0.0.1:8188"), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
        assert!(matches!(check(&guard, Method::POST, &other), Err(Refusal::ForeignOrigin(_))));
    }
}
