//! One keep-alive HTTP connection to a server of ComfyUI's protocol.

use std::{thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use ureq::{Agent, Body, http::Response};

const ANSWER_LIMIT: Duration = Duration::from_secs(600);
const BODY_LIMIT: u64 = 256 << 20;

/// A connection. Bodies are sent and answers read as they are: no compression is asked for.
pub(crate) struct Client {
    base: String,
    agent: Agent,
}

#[derive(Deserialize)]
struct Accepted {
    prompt_id: String,
}

#[derive(Deserialize)]
struct Remaining {
    exec_info: ExecInfo,
}

#[derive(Deserialize)]
struct ExecInfo {
    queue_remaining: u64,
}

impl Client {
    /// To a server at `http://host:port`. Nothing is sent yet.
    pub(crate) fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_recv_response(Some(ANSWER_LIMIT))
            .http_status_as_error(false)
            .max_idle_connections(1)
            .build();
        Self { base: base.to_owned(), agent: config.into() }
    }

    /// The body of a good answer.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.base);
        let response = self.agent.get(&url).call().with_context(|| format!("GET {url}"))?;
        body(response).with_context(|| format!("GET {url}"))
    }

    /// Queues a prompt; returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) fn queue(&self, request: &[u8]) -> Result<String> {
        let url = format!("{}/prompt", self.base);
        let post = self.agent.post(&url).header("content-type", "application/json");
        let answer = body(post.send(request).with_context(|| format!("POST {url}"))?)?;
        let accepted: Accepted = serde_json::from_slice(&answer).context("the answer to POST /prompt")?;
        Ok(accepted.prompt_id)
    }

    /// Returns once no prompt waits or runs; asks that often.
    ///
    /// # Errors
    /// When the server does not say.
    pub(crate) fn wait_until_idle(&self, every: Duration) -> Result<()> {
        loop {
            let state: Remaining =
                serde_json::from_slice(&self.get("/prompt")?).context("the answer to GET /prompt")?;
            if state.exec_info.queue_remaining == 0 {
                return Ok(());
            }
            thread::sleep(every);
        }
    }

    /// Posts JSON; what is answered does not matter as long as it is good.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) fn post(&self, path: &str, json: &Value) -> Result<()> {
        let url = format!("{}{path}", self.base);
        let post = self.agent.post(&url).header("content-type", "application/json");
        body(post.send(json.to_string()).with_context(|| format!("POST {url}"))?)?;
        Ok(())
    }

    /// What the history says of a prompt that ended.
    ///
    /// # Errors
    /// When it isn't there.
    pub(crate) fn history(&self, prompt_id: &str) -> Result<Value> {
        let mut history: Map<String, Value> = serde_json::from_slice(&self.get(&format!("/history/{prompt_id}"))?)?;
        history.remove(prompt_id).context("a prompt that ended is not in the history")
    }

    /// Makes sure that a figure is not one of failures.
    ///
    /// # Errors
    /// When the prompt did not end well.
    pub(crate) fn check_success(&self, prompt_id: &str) -> Result<()> {
        let status = &self.history(prompt_id)?["status"];
        ensure!(status["status_str"] == "success", "prompt {prompt_id} at {} ended with {status}", self.base);
        Ok(())
    }
}

fn body(mut response: Response<Body>) -> Result<Vec<u8>> {
    let status = response.status();
    let bytes = response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec()?;
    if status != 200 {
        let text = String::from_utf8_lossy(&bytes);
        bail!("it answered {status}: {}", text.chars().take(300).collect::<String>());
    }
    Ok(bytes)
}
