//! The HTTP side of a ComfyUI-protocol server.

use std::{fs::File, io::Read, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use ureq::{
    Agent, Body, RequestBuilder,
    http::{Response, Uri},
    unversioned::multipart::{Form, Part},
};
use vivarium_protocol::error::{Invalid, NodeErrors};

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    report::HistoryStatus,
    results::ResultFile,
    text::one_line,
    workflow::InputFile,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A server may validate a big prompt, or make a preview, before it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Of a JSON answer; a history entry holds the whole prompt.
const JSON_LIMIT: u64 = 256 << 20;

/// A server.
pub(crate) struct Api {
    base: String,
    host: String,
    agent: Agent,
    headers: Vec<(String, String)>,
}

/// The answer to a good `POST /prompt`.
#[derive(Debug, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) prompt_id: String,
    /// Of outputs that will not run; the others will.
    #[serde(default)]
    pub(crate) node_errors: NodeErrors,
}

/// What matters of a history entry.
#[derive(Debug, Deserialize)]
pub(crate) struct HistoryEntry {
    #[serde(default)]
    pub(crate) outputs: Map<String, Value>,
    pub(crate) status: Option<HistoryStatus>,
}

#[derive(Deserialize)]
struct Uploaded {
    name: String,
    #[serde(default)]
    subfolder: String,
}

impl Api {
    /// A server at a URL, or at `host:port`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL makes no sense, or needs TLS.
    pub(crate) fn new(server: &str, headers: &[String]) -> Outcome<Self> {
        let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let uri: Uri = url.parse().or_fail(Exit::Usage, || format!("--server {url} is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => fail!(
                Exit::Usage,
                "--server {url}: this client has no TLS; reach the server through a tunnel, for example \
                 ssh -L 8188:localhost:8188 HOST, and use http://127.0.0.1:8188"
            ),
            _ => fail!(Exit::Usage, "--server {url} should begin with http://"),
        }
        let Some(host) = uri.host() else { fail!(Exit::Usage, "--server {url} names no host") };
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_recv_response(Some(ANSWER_LIMIT))
            .http_status_as_error(false)
            .build();
        let headers = headers.iter().map(|header| parse_header(header)).collect::<Result<_, _>>()?;
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            host: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            agent: config.into(),
            headers,
        })
    }

    /// `http://host:port/path`, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What goes with every request.
    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// A class's entry of `/object_info`; null if the server does not know the class.
    pub(crate) fn object_info(&self, class: &str) -> Outcome<Value> {
        let path = format!("/object_info/{}", path_segment(class));
        let mut all: Map<String, Value> = self.get(&path)?;
        Ok(all.remove(class).unwrap_or_default())
    }

    /// Puts a file into the server's input folder. Returns what a workflow calls it there.
    pub(crate) fn upload(&self, file: &InputFile) -> Outcome<String> {
        let shown = file.path.display();
        let content = File::open(&file.path).or_fail(Exit::Machine, || format!("could not read {shown}"))?;
        let form = Form::new().part("image", Part::owned_reader(content).file_name(&file.name)).text("type", "input");
        let request = self.with_headers(self.agent.post(format!("{}/upload/image", self.base)));
        let doing = format!("could not upload {shown} to {}", self.base);
        let response = request.send(form).or_fail(Exit::Server, || doing.clone())?;
        let Uploaded { name, subfolder } = Self::json(response, &doing)?;
        Ok(if subfolder.is_empty() { name } else { format!("{subfolder}/{name}") })
    }

    /// Queues a prompt, or hears why it was refused.
    pub(crate) fn post_prompt(&self, body: &Value) -> Outcome<Result<Accepted, Invalid>> {
        let doing = format!("could not queue the workflow at {}", self.base);
        let mut response = self.send_json("/prompt", body, &doing)?;
        if response.status() != 400 {
            return Self::json(response, &doing).map(Ok);
        }
        let text = body_text(&mut response);
        match serde_json::from_str(&text) {
            Ok(invalid) => Ok(Err(invalid)),
            Err(_) => fail!(Exit::Server, "{doing}: it answered 400: {}", one_line(&text, 300)),
        }
    }

    /// The history entry of a prompt; `None` until it has ended.
    pub(crate) fn history_entry(&self, prompt_id: &str) -> Outcome<Option<HistoryEntry>> {
        let path = format!("/history/{}", path_segment(prompt_id));
        let mut all: std::collections::HashMap<String, HistoryEntry> = self.get(&path)?;
        Ok(all.remove(prompt_id))
    }

    /// Whether a prompt runs or waits.
    pub(crate) fn is_queued(&self, prompt_id: &str) -> Outcome<bool> {
        let queue: Map<String, Value> = self.get("/queue")?;
        let mut items = queue.values().filter_map(Value::as_array).flatten();
        Ok(items.any(|item| item[1] == prompt_id))
    }

    /// Takes a prompt back, whether it waits or runs.
    pub(crate) fn cancel(&self, prompt_id: &str) -> Outcome<()> {
        let doing = format!("could not take the prompt back from {}", self.base);
        self.send_json("/queue", &serde_json::json!({"delete": [prompt_id]}), &doing)?;
        self.send_json("/interrupt", &serde_json::json!({"prompt_id": prompt_id}), &doing)?;
        Ok(())
    }

    /// The bytes of a result.
    pub(crate) fn view(&self, file: &ResultFile) -> Outcome<impl Read + use<>> {
        let doing = format!("could not fetch {} from {}", file.filename, self.base);
        let request = self
            .agent
            .get(format!("{}/view", self.base))
            .query("filename", &file.filename)
            .query("subfolder", &file.subfolder)
            .query("type", &file.r#type);
        let mut response = self.with_headers(request).call().or_fail(Exit::Server, || doing.clone())?;
        if response.status() != 200 {
            let text = body_text(&mut response);
            fail!(Exit::Server, "{doing}: it answered {} {}", response.status(), one_line(&text, 200));
        }
        Ok(response.into_body().into_reader())
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let doing = format!("could not read {path} of {}", self.base);
        let request = self.with_headers(self.agent.get(format!("{}{path}", self.base)));
        let response = request.call().or_fail(Exit::Server, || doing.clone())?;
        Self::json(response, &doing)
    }

    fn send_json(&self, path: &str, body: &Value, doing: &str) -> Outcome<Response<Body>> {
        let request = self.with_headers(self.agent.post(format!("{}{path}", self.base)));
        request.send_json(body).or_fail(Exit::Server, || doing.to_owned())
    }

    fn with_headers<B>(&self, mut request: RequestBuilder<B>) -> RequestBuilder<B> {
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    fn json<T: DeserializeOwned>(mut response: Response<Body>, doing: &str) -> Outcome<T> {
        let status = response.status();
        if !status.is_success() {
            let text = body_text(&mut response);
            fail!(Exit::Server, "{doing}: it answered {status} {}", one_line(&text, 300));
        }
        let body = response.body_mut().with_config().limit(JSON_LIMIT).read_json();
        body.or_fail(Exit::Server, || format!("{doing}: its answer is not what ComfyUI's protocol says"))
    }
}

fn body_text(response: &mut Response<Body>) -> String {
    response.body_mut().with_config().limit(JSON_LIMIT).read_to_string().unwrap_or_default()
}

fn parse_header(header: &str) -> Outcome<(String, String)> {
    match header.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        // The value may be a secret, so it is not repeated.
        _ => fail!(Exit::Usage, "--header expects 'NAME: VALUE'"),
    }
}

/// Percent-encodes everything that could end a path segment.
fn path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn servers_may_be_given_as_url_or_host() {
        for (given, base, host) in [
            ("http://a:1/comfy/", "http://a:1/comfy", "a:1"),
            ("a:1", "http://a:1", "a:1"),
            ("http://a", "http://a", "a:80"),
            ("http://[::1]:8188", "http://[::1]:8188", "[::1]:8188"),
        ] {
            let api = Api::new(given, &[]).unwrap();
            assert_eq!((api.base(), api.host()), (base, host), "{given}");
        }
    }

    #[test]
    fn a_server_that_needs_tls_is_refused_with_the_way_out() {
        let failure = Api::new("https://a", &[]).err().unwrap();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("ssh -L"), "{failure}");
    }

    #[test]
    fn a_bad_header_does_not_show_its_value() {
        let failure = Api::new("a", &["Bearer secret".to_owned()]).err().unwrap();
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }

    #[test]
    fn class_names_can_not_leave_their_path_segment() {
        assert_eq!(path_segment("../A b?c"), "..%2FA%20b%3Fc");
    }
}
