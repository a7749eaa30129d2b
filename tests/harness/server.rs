//! The real server on a port of its own, and the plain clients that tests talk to it with.
//!
//! Everything behind the port is what `vivarium serve` puts together, over a base directory that goes away with the server.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    ops::Deref,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};
use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};
use ureq::{Agent, http};
use vivarium_server::{AppState, Hub, LogRing, Parts, ServerConfig, ServerError};
use vivarium_worker::{CacheMode, Worker, WorkerConfig};

/// How long a test waits for something that should take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who asks a server, with a token or without. A [`Server`] is one without.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    agent: Agent,
    token: Option<String>,
}

/// A running server.
pub struct Server {
    client: Client,
    worker: Arc<Worker>,
    base: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<(), ServerError>>>,
    runtime: Runtime,
}

impl Server {
    /// Starts a server with the stock packs and the test packs.
    ///
    /// # Errors
    /// When the packs were not built, or a part cannot start.
    pub fn start(config: ServerConfig) -> Result<Self> {
        Self::start_with_cache(config, CacheMode::Classic)
    }

    /// The same, with another cache of results.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with_cache(config: ServerConfig, cache: CacheMode) -> Result<Self> {
        let base = tempfile::tempdir()?;
        let config = ServerConfig { port: 0, ..config };
        let hub = Arc::new(Hub::new(&config.limits));
        let parts = crate::assemble(base.path(), crate::Settings::default(), hub.clone())?;
        // Transcripts of ComfyUI have one node after another.
        let one_by_one = WorkerConfig { parallel_nodes: 1, cache, ..WorkerConfig::default() };
        let worker = crate::start_worker(one_by_one, parts.clone(), None)?;
        let logs = LogRing::new(config.limits.log_lines);
        let parts =
            Parts { engine: worker.clone(), queue: parts.queue, files: parts.files, models: parts.models, hub, logs };
        let runtime = Runtime::new()?;
        let listeners = runtime.block_on(vivarium_server::bind(&config))?;
        let address = listeners.first().context("the server listens nowhere")?.local_addr()?;
        let state = AppState::new(config, parts)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = runtime.spawn(vivarium_server::serve(listeners, state, async {
            stopped.await.unwrap_or(());
        }));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .user_agent("vivarium-tests")
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let client = Client { address, agent, token: None };
        Ok(Self { client, worker, base, stop: Some(stop), serving: Some(serving), runtime })
    }

    /// Its base directory.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    /// Somebody who shows this token with every request.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.client.clone() }
    }
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one request, with exactly these headers beside those that HTTP demands.
    ///
    /// # Errors
    /// When no answer comes. A status is no error.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let sent = match body {
            [] if matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE") => self.agent.run(request.body(())?),
            body => self.agent.run(request.body(body)?),
        };
        let mut response = sent.with_context(|| format!("{method} {path}"))?;
        let headers = response.headers().clone();
        // A body that breaks off is the test's to judge by what came.
        let body = response.body_mut().with_config().limit(256 << 20).read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), headers, body })
    }

    /// `GET`.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], &[])
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Uploads a file under a name into the input folder.
    ///
    /// # Errors
    /// When it is not accepted.
    pub fn upload(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (content_type, body) = form(&[Field::file("image", name, bytes)]);
        let answer = self.send("POST", "/upload/image", &[("content-type", &content_type)], &body)?;
        if answer.status == 200 { Ok(()) } else { bail!("{name} was not accepted: {answer:?}") }
    }

    /// Uploads every file of a folder.
    ///
    /// # Errors
    /// When one cannot be read or is not accepted.
    pub fn upload_folder(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.upload(&name, &fs::read(&path)?)?;
        }
        Ok(())
    }

    /// Queues a prompt and gives its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn submit(&self, prompt: &Value, client_id: Option<&str>) -> Result<String> {
        let mut body = json!({ "prompt": prompt });
        if let Some(client_id) = client_id {
            body["client_id"] = json!(client_id);
        }
        let answer = self.post("/prompt", &body)?;
        let accepted = answer.json()?;
        match accepted["prompt_id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => bail!("refused: {accepted}"),
        }
    }

    /// Waits for a prompt to end and gives its history entry.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait(&self, prompt_id: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut history = self.get(&format!("/history/{prompt_id}"))?.json()?;
            if let Some(entry) = history.get_mut(prompt_id) {
                return Ok(entry.take());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("prompt {prompt_id} did not end")
    }

    /// Runs a prompt to its end.
    ///
    /// # Errors
    /// When it is refused or does not end. A prompt that fails is no error.
    pub fn run(&self, prompt: &Value) -> Result<Value> {
        let prompt_id = self.submit(prompt, None)?;
        self.wait(&prompt_id)
    }

    /// Opens a WebSocket and reads the greeting. Without a client id the server chooses one.
    ///
    /// # Errors
    /// When it is refused.
    pub fn connect(&self, client_id: Option<&str>) -> Result<Socket> {
        let query = client_id.map_or(String::new(), |id| format!("?clientId={id}"));
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let mut socket = Socket::open(self.address, &format!("/ws{query}"), &headers)?;
        let greeting = socket.event()?;
        let sid = greeting["data"]["sid"].as_str();
        socket.client_id = sid.ok_or_else(|| anyhow!("no greeting: {greeting}"))?.to_owned();
        Ok(socket)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.worker.stop(Duration::ZERO);
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap_or(());
        }
        if let Some(serving) = self.serving.take() {
            drop(self.runtime.block_on(serving));
        }
    }
}

/// An answer over HTTP.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(2000).collect();
        write!(formatter, "{} {text}", self.status)
    }
}

/// A field of a form.
pub struct Field<'a> {
    name: &'a str,
    filename: Option<&'a str>,
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// A text field.
    #[must_use]
    pub fn text(name: &'a str, value: &'a str) -> Self {
        Self { name, filename: None, value: value.as_bytes() }
    }

    /// A file.
    #[must_use]
    pub fn file(name: &'a str, filename: &'a str, value: &'a [u8]) -> Self {
        Self { name, filename: Some(filename), value }
    }
}

/// A multipart form as browsers write it: its content type and its body.
#[must_use]
pub fn form(fields: &[Field<'_>]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "vivarium-tests-boundary";
    let mut body = Vec::new();
    for Field { name, filename, value } in fields {
        let file = filename.map_or(String::new(), |filename| format!("; filename=\"{filename}\""));
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// What a server sends on a WebSocket.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A text frame, read as JSON.
    Event(Value),
    /// A binary frame.
    Frame(Vec<u8>),
}

/// A WebSocket client that reads when it is asked to.
pub struct Socket {
    socket: WebSocket<TcpStream>,
    /// Under which id the server knows it.
    pub client_id: String,
}

impl Socket {
    /// Opens a WebSocket and reads nothing.
    ///
    /// # Errors
    /// When it is refused.
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut request = ClientRequestBuilder::new(format!("ws://{address}{path}").parse()?);
        for (name, value) in headers {
            request = request.with_header(*name, *value);
        }
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| anyhow!("{path}: {error}"))?;
        Ok(Self { socket, client_id: String::new() })
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn say(&mut self, message: &Value) -> Result<()> {
        Ok(self.socket.send(Message::text(message.to_string()))?)
    }

    /// Closes as a client does that leaves on purpose, and waits for the server to agree.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub fn close(mut self) -> Result<()> {
        self.socket.close(None)?;
        while self.socket.read().is_ok() {}
        Ok(())
    }

    /// The next frame, within a time; `None` when none came.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn hear(&mut self, within: Duration) -> Result<Option<Heard>> {
        self.socket.get_ref().set_read_timeout(Some(within.max(Duration::from_millis(1))))?;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(Heard::Event(serde_json::from_str(&text)?))),
                Ok(Message::Binary(bytes)) => return Ok(Some(Heard::Frame(bytes.to_vec()))),
                Ok(Message::Close(_)) => bail!("the server closed the socket"),
                Ok(_) => {}
                // The process was stopped and went on.
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next event; binary frames are passed over.
    ///
    /// # Errors
    /// When none comes.
    pub fn event(&mut self) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(heard) = self.hear(deadline.saturating_duration_since(Instant::now()))? {
            if let Heard::Event(event) = heard {
                return Ok(event);
            }
        }
        bail!("no event came")
    }

    /// All events up to and with the first that fits.
    ///
    /// # Errors
    /// When none fits; says what came instead.
    pub fn events_until(&mut self, mut fits: impl FnMut(&Value) -> bool) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        loop {
            let event = self.event().with_context(|| {
                let names: Vec<_> = events.iter().map(|event: &Value| event["type"].to_string()).collect();
                format!("after {}", names.join(", "))
            })?;
            let last = fits(&event);
            events.push(event);
            if last {
                return Ok(events);
            }
        }
    }

    /// All events up to the one with which a prompt has ended: `executing` of no node.
    ///
    /// # Errors
    /// When it does not come.
    pub fn events_of(&mut self, prompt_id: &str) -> Result<Vec<Value>> {
        self.events_until(|event| {
            event["type"] == "executing" && event["data"]["node"].is_null() && event["data"]["prompt_id"] == prompt_id
        })
    }
}
