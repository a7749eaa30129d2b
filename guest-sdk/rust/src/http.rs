//! HTTP requests to hosts that the pack was granted. Needs the permission `http/<host>` for every host, also for those that
//! redirects lead to.
//!
//! ```no_run
//! use vivarium_node::http::Request;
//!
//! # fn main() -> vivarium_node::Result<()> {
//! let answer = Request::post("https://api.example.org/v1/words")
//!     .header("authorization", "Bearer …")
//!     .json(&serde_json::json!({"about": "cats"}))?
//!     .send()?
//!     .success()?;
//! let words: serde_json::Value = answer.json()?;
//! # Ok(())
//! # }
//! ```
//!
//! A request is sent when a node runs, and a node whose inputs did not change does not run: a node that fetches something
//! which changes needs a [`Fingerprint`](crate::Fingerprint).

use serde::{Serialize, de::DeserializeOwned};

use crate::bindings::vivarium::node::http as host;
use crate::error::{Error, Result};

/// A request that is being written.
#[derive(Clone, Debug)]
pub struct Request(host::Request);

impl Request {
    /// A request with any of the methods GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self(host::Request { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new() })
    }

    /// Asks for what is there.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Sends something.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header. The host refuses those that say who asks or how the body is framed, such as `host` and `cookie`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self
    }

    /// Sets the body to JSON, and says so.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn json(self, value: &impl Serialize) -> Result<Self> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// Sends it and waits for the whole answer. Every status is an answer.
    ///
    /// # Errors
    /// When the host was not granted, leads to an address that is not public, cannot be reached, or a limit is hit.
    pub fn send(self) -> Result<Response> {
        host::send(&self.0).map(Response).map_err(Error::from)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response(host::Response);

impl Response {
    /// 200 and so on.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// What answered: the last of the redirects.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The first header of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The body, moved out.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.0.body
    }

    /// The body as text; bytes that are none become `�`.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.body).into_owned()
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// When it is not JSON of that shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0.body).map_err(|error| {
            Error::failed(format_args!("the answer of {} is not what was expected: {error}", self.url()))
        })
    }

    /// The answer, if its status is 200 to 299.
    ///
    /// # Errors
    /// Otherwise, with the status and the beginning of the body.
    pub fn success(self) -> Result<Self> {
        const SHOWN: usize = 300;
        if (200..300).contains(&self.status()) {
            return Ok(self);
        }
        let said: String = self.text().chars().take(SHOWN).collect();
        Err(Error::failed(format_args!("{} answered {}: {said}", self.url(), self.status())))
    }
}
