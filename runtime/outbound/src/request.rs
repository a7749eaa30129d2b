//! Requests, answers, and what requests may hold.

use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue, Method};
use vivarium_protocol::host_rule::HostRule;

use crate::{HttpError, target::shown};

/// Sends requests for those who may not open sockets.
pub trait HttpClient: Send + Sync {
    /// Sends a request and waits for the whole answer. Blocking. `account` is who pays for requests under way; `rules` are
    /// the hosts that may be reached; when `stop` says so, the answer is no longer waited for.
    ///
    /// # Errors
    /// [`HttpError`]. A status is none.
    fn send(
        &self,
        account: &str,
        request: Request,
        rules: &[HostRule],
        bounds: &Bounds,
        stop: &dyn Fn() -> bool,
    ) -> Result<Response, HttpError>;
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    pub method: String,
    /// `https://…` or `http://…`.
    pub url: String,
    /// In this order.
    pub headers: Vec<(String, String)>,
    /// Empty but for `POST`, `PUT` and `PATCH`.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 and so on.
    pub status: u16,
    /// What answered: the last of the redirects.
    pub url: String,
    /// In this order; those that are not text are left out.
    pub headers: Vec<(String, String)>,
    /// As it came, without any unpacking.
    pub body: Vec<u8>,
}

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Redirects that are followed.
    pub redirects: u64,
    /// From the look-up of the name to the last byte, redirects included.
    pub time: Duration,
    /// Requests of one account under way.
    pub at_once: u64,
}

/// Headers that say who asks, how the body is framed or what others vouch for. The client sets those that are needed.
const NOT_THE_ASKERS: [&str; 20] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "cookie",
    "cookie2",
    "set-cookie",
    "origin",
    "referer",
    "forwarded",
    "via",
    "x-real-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
];
const NOT_THE_ASKERS_FAMILIES: [&str; 3] = ["proxy-", "sec-", "x-forwarded-"];

/// Headers that may follow a redirect to another host: they hold no secrets.
const HARMLESS: [&str; 5] = ["accept", "accept-language", "content-type", "content-language", "user-agent"];

/// More headers than this are no request.
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;

/// The parts of a request that the client sends as they are.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) method: Method,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Vec<u8>,
}

impl Checked {
    pub(crate) fn of(request: Request) -> Result<(String, Self), HttpError> {
        let method = match request.method.as_str() {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            "OPTIONS" => Method::OPTIONS,
            other => {
                let message = format!(
                    "{:?} is no method; there are GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS",
                    shown(other)
                );
                return Err(HttpError::Method { message });
            }
        };
        if !request.body.is_empty() && !may_have_body(&method) {
            return Err(HttpError::Method { message: format!("a {method} request has no body") });
        }
        let headers = checked_headers(&request.headers)?;
        Ok((request.url, Self { method, headers, body: request.body }))
    }

    /// As it follows a redirect to another host.
    pub(crate) fn without_what_is_private(&mut self) {
        self.headers.retain(|(name, _)| HARMLESS.contains(&name.as_str()));
    }

    /// As it follows a redirect that wants a plain look.
    pub(crate) fn as_get(&mut self) {
        self.method = if self.method == Method::HEAD { Method::HEAD } else { Method::GET };
        self.body = Vec::new();
        self.headers.retain(|(name, _)| !name.as_str().starts_with("content-"));
    }
}

pub(crate) fn may_have_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn checked_headers(headers: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, HttpError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > HEADERS || bytes > HEADER_BYTES {
        let message =
            format!("the request has {} headers of {bytes} bytes; {HEADERS} of {HEADER_BYTES} are sent", headers.len());
        return Err(HttpError::Method { message });
    }
    headers.iter().map(|(name, value)| checked_header(name, value)).collect()
}

fn checked_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HttpError> {
    let wrong = |reason| HttpError::Header { name: shown(name), reason };
    // A line break in one would begin another.
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("is not a name"))?;
    let value = HeaderValue::from_str(value).map_err(|_| wrong("has a value that no header can have"))?;
    let lower = parsed.as_str();
    if NOT_THE_ASKERS.contains(&lower) || NOT_THE_ASKERS_FAMILIES.iter().any(|family| lower.starts_with(family)) {
        return Err(wrong("is not a node's to set"));
    }
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(name: &str, value: &str) -> Result<(String, Checked), HttpError> {
        Checked::of(Request {
            method: "POST".into(),
            url: String::new(),
            headers: vec![(name.into(), value.into())],
            body: vec![1],
        })
    }

    #[test]
    fn headers_that_others_vouch_for_and_line_breaks_are_refused() {
        for name in [
            "Host",
            "cookie",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Sec-Fetch-Site",
            "Proxy-Authorization",
            "X-Forwarded-For",
            "Origin",
            "Expect",
            "",
            "a b",
            "a:b",
            "a\r\nb",
            "ä",
        ] {
            assert!(matches!(with(name, "x"), Err(HttpError::Header { .. })), "{name:?}");
        }
        for value in ["a\r\nHost: evil", "a\nb", "a\0b", "a\rb"] {
            assert!(matches!(with("x-key", value), Err(HttpError::Header { .. })), "{value:?}");
        }
        with("Authorization", "Bearer x").unwrap();
        with("X-Api-Key", "x").unwrap();
    }

    #[test]
    fn keys_do_not_follow_to_another_host_and_bodies_do_not_follow_a_look() {
        let (_, mut request) = with("X-Api-Key", "x").unwrap();
        request.without_what_is_private();
        assert!(request.headers.is_empty());
        let (_, mut request) = with("Content-Type", "text/plain").unwrap();
        request.without_what_is_private();
        assert_eq!(request.headers.len(), 1);
        request.as_get();
        assert!(request.headers.is_empty() && request.body.is_empty() && request.method == Method::GET);
    }

    #[test]
    fn methods_are_those_that_are_known() {
        for method in ["CONNECT", "TRACE", "get", "", "GET /x HTTP/1.1\r\n"] {
            let request = Request { method: method.into(), url: String::new(), headers: Vec::new(), body: Vec::new() };
            assert!(matches!(Checked::of(request), Err(HttpError::Method { .. })), "{method:?}");
        }
    }
}
