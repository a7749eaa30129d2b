//! Requests to a registry, with a token where it wants one.

use std::{env, fs, path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use ureq::{
    Agent, Body,
    http::{Request, Response, StatusCode, Uri, header, request::Builder},
};

use super::reference::Reference;
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    pack::source::is_this_machine,
    text::one_line,
};

const PATIENCE: Duration = Duration::from_secs(300);
/// Of an answer that is not a pack: tokens, errors.
const ANSWER_BYTES: u64 = 1 << 20;

/// One repository of a registry.
pub(super) struct Registry {
    agent: Agent,
    /// `https://registry/v2/repository/`
    base: String,
    registry: String,
    scope: String,
    authorization: Option<String>,
}

impl Registry {
    /// A repository, for `pull` or `pull,push`. Nothing is asked yet.
    ///
    /// # Errors
    /// The registry is no host.
    pub(super) fn of(reference: &Reference, actions: &str) -> Outcome<Self> {
        let Reference { registry, repository, .. } = reference;
        let uri: Uri =
            format!("https://{registry}/").parse().or_fail(Exit::Usage, || format!("{registry} is no host"))?;
        // Registries for trying things out have no certificates.
        let scheme = if is_this_machine(&uri) { "http" } else { "https" };
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(5)
            // A redirect must not lead out of TLS. Credentials do not follow any.
            .https_only(scheme == "https")
            .build()
            .into();
        Ok(Self {
            agent,
            base: format!("{scheme}://{registry}/v2/{repository}/"),
            registry: registry.clone(),
            scope: format!("repository:{repository}:{actions}"),
            authorization: None,
        })
    }

    /// What is at a path of the repository, up to `limit` bytes.
    ///
    /// # Errors
    /// It can't be had, or is larger.
    pub(super) fn get(&mut self, path: &str, accept: &str, limit: u64) -> Outcome<Vec<u8>> {
        let url = format!("{}{path}", self.base);
        let mut response = self.ask("GET", &url, &[("accept", accept)], &[])?;
        expect(&mut response, &url, &[StatusCode::OK])?;
        let read = response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec();
        let content = read.or_fail(Exit::Server, || format!("could not fetch {url}"))?;
        if content.len() as u64 > limit {
            fail!(Exit::Server, "{url} is larger than the {limit} bytes that it should be at most");
        }
        Ok(content)
    }

    /// Stores a blob, unless it is there.
    ///
    /// # Errors
    /// The registry does not take it.
    pub(super) fn put_blob(&mut self, digest: &str, content: &[u8]) -> Outcome<()> {
        let there = self.ask("HEAD", &format!("{}blobs/{digest}", self.base), &[], &[])?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let url = format!("{}blobs/uploads/", self.base);
        let mut response = self.ask("POST", &url, &[], &[])?;
        expect(&mut response, &url, &[StatusCode::ACCEPTED])?;
        let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
        let Some(location) = location else { fail!(Exit::Server, "{url} says nothing about where to upload to") };
        let place = match location.starts_with('/') {
            true => format!("{}{location}", self.base.split("/v2/").next().unwrap_or_default()),
            false => location.to_owned(),
        };
        // The token goes with the upload, so it goes to the registry only.
        if !place.starts_with(self.base.split("/v2/").next().unwrap_or_default()) {
            fail!(Exit::Server, "{} wants uploads at another host: {}", self.registry, one_line(&place, 200));
        }
        let separator = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{separator}digest={digest}");
        let mut response = self.ask("PUT", &url, &[("content-type", "application/octet-stream")], content)?;
        expect(&mut response, &url, &[StatusCode::CREATED])
    }

    /// Stores something at a path of the repository.
    ///
    /// # Errors
    /// The registry does not take it.
    pub(super) fn put(&mut self, path: &str, content_type: &str, content: &[u8]) -> Outcome<()> {
        let url = format!("{}{path}", self.base);
        let mut response = self.ask("PUT", &url, &[("content-type", content_type)], content)?;
        expect(&mut response, &url, &[StatusCode::CREATED])
    }

    /// Sends a request, and once more with a token when the registry wants one.
    fn ask(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome<Response<Body>> {
        let response = self.send(method, url, headers, body)?;
        if response.status() != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(response);
        }
        let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        self.authorization = Some(self.log_in(challenge.unwrap_or_default())?);
        self.send(method, url, headers, body)
    }

    fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome<Response<Body>> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        run(&self.agent, request, (method == "PUT" || method == "POST").then_some(body), url)
    }

    /// The header that answers a challenge.
    fn log_in(&self, challenge: &str) -> Outcome<String> {
        let known = credentials(&self.registry);
        let (kind, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if kind.eq_ignore_ascii_case("basic") {
            let Some(known) = known else {
                fail!(
                    Exit::Server,
                    "{} wants a name and a password; `docker login {}` keeps them where they are looked for",
                    self.registry,
                    self.registry
                );
            };
            return Ok(format!("Basic {known}"));
        }
        let parameter = |name: &str| parameter(parameters, name);
        let Some(realm) = parameter("realm").filter(|_| kind.eq_ignore_ascii_case("bearer")) else {
            fail!(Exit::Server, "{} wants to know who asks in a way that is not known here", self.registry);
        };
        let uri: Uri = realm.parse().or_fail(Exit::Server, || format!("{realm} is no address"))?;
        if uri.scheme_str() != Some("https") && !is_this_machine(&uri) {
            fail!(Exit::Server, "{} gives out tokens without encryption, at {realm}", self.registry);
        }
        let separator = if realm.contains('?') { '&' } else { '?' };
        let service = parameter("service").map_or(String::new(), |service| format!("service={}&", encoded(&service)));
        let url = format!("{realm}{separator}{service}scope={}", encoded(&self.scope));
        let mut request = Request::builder().uri(&url);
        if let Some(known) = known {
            request = request.header(header::AUTHORIZATION, format!("Basic {known}"));
        }
        let mut response = run(&self.agent, request, None, &url)?;
        expect(&mut response, &url, &[StatusCode::OK])?;
        let doing = || format!("{url} sent no token");
        let read = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec().or_fail(Exit::Server, doing)?;
        let answer: Value = serde_json::from_slice(&read).or_fail(Exit::Server, doing)?;
        match answer["token"].as_str().or(answer["access_token"].as_str()) {
            Some(token) => Ok(format!("Bearer {token}")),
            None => fail!(Exit::Server, "{url} sent no token"),
        }
    }
}

fn run(agent: &Agent, request: Builder, body: Option<&[u8]>, url: &str) -> Outcome<Response<Body>> {
    let doing = || format!("could not ask {}", one_line(url, 200));
    match body {
        Some(body) => agent.run(request.body(body).or_fail(Exit::Server, doing)?).or_fail(Exit::Server, doing),
        None => agent.run(request.body(()).or_fail(Exit::Server, doing)?).or_fail(Exit::Server, doing),
    }
}

fn expect(response: &mut Response<Body>, url: &str, wanted: &[StatusCode]) -> Outcome<()> {
    let status = response.status();
    if wanted.contains(&status) {
        return Ok(());
    }
    let said = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_string().unwrap_or_default();
    fail!(Exit::Server, "{} answers {status} {}", one_line(url, 200), one_line(&said, 300))
}

/// One of the parameters of a challenge: `name="value"`, or without quotes.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').map_or((after, ""), |(value, after)| (value, after)),
        };
        if name.trim().trim_start_matches(',').trim().eq_ignore_ascii_case(wanted) {
            return Some(value.to_owned());
        }
        rest = after;
    }
}

/// As an address can hold it.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':');
    let spelled = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(spelled).collect()
}

/// `user:password` in base64, as `docker login` and others keep it for a registry.
fn credentials(registry: &str) -> Option<String> {
    let folder = match env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME")?).join(".docker"),
    };
    let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).ok()?).ok()?;
    let known = config["auths"][registry]["auth"].as_str()?;
    BASE64_STANDARD.decode(known).ok()?;
    Some(known.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_challenge_is_read_in_any_order() {
        let challenge = r#"realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        assert_eq!(parameter(challenge, "realm").unwrap(), "https://auth.example/token");
        assert_eq!(parameter(challenge, "scope").unwrap(), "repository:a/b:pull");
        assert_eq!(parameter("service=x, realm=\"y=z\"", "realm").unwrap(), "y=z");
        for broken in ["", "realm", "realm=\"open", "other=\"x\""] {
            assert_eq!(parameter(broken, "realm"), None, "{broken}");
        }
    }

    #[test]
    fn what_an_address_cannot_hold_is_spelled() {
        assert_eq!(encoded("repository:a/b:pull,push &x"), "repository:a/b:pull%2Cpush%20%26x");
    }
}
