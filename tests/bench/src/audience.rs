//! Many WebSockets: some that read everything and wait for the end of certain prompts, some that never read.

use std::{
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use tungstenite::{Message, WebSocket};

use crate::wire;

const PATIENCE: Duration = Duration::from_secs(120);

/// Reads until it is dropped.
pub(crate) struct Audience {
    streams: Vec<TcpStream>,
    readers: Vec<JoinHandle<()>>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    /// For whose end everybody waits, and how many have heard of it.
    waiting: Mutex<(String, usize)>,
    more: Condvar,
}

impl Audience {
    /// Connects that many sockets, each with a client id of its own that begins with `name`.
    ///
    /// # Errors
    /// When one can't.
    pub(crate) fn connect(base: &str, name: &str, sockets: usize) -> Result<Self> {
        let mut audience = Self { streams: Vec::new(), readers: Vec::new(), heard: Arc::default() };
        for number in 0..sockets {
            let mut socket = connected(base, &format!("{name}-{number}"))?;
            audience.streams.push(socket.get_ref().try_clone()?);
            let heard = audience.heard.clone();
            let read = move || {
                let mut last = String::new();
                while let Ok(message) = socket.read() {
                    if let Message::Text(text) = message {
                        heard.take(&text, &mut last);
                    }
                }
            };
            audience.readers.push(thread::Builder::new().stack_size(256 * 1024).spawn(read)?);
        }
        Ok(audience)
    }

    /// From now on the end of this prompt is waited for.
    pub(crate) fn wait_for(&self, prompt_id: &str) {
        *self.heard.waiting.lock().unwrap_or_else(PoisonError::into_inner) = (prompt_id.to_owned(), 0);
    }

    /// Returns once every socket has heard that all nodes of the prompt are done.
    ///
    /// # Errors
    /// When one does not hear it.
    pub(crate) fn until_all_heard(&self) -> Result<()> {
        let waiting = self.heard.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.streams.len();
        let (waiting, _) = self
            .heard
            .more
            .wait_timeout_while(waiting, PATIENCE, |(_, heard)| *heard < all)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(waiting.1 >= all, "{} of {all} sockets heard the end of prompt {}", waiting.1, waiting.0);
        Ok(())
    }
}

impl Heard {
    /// `last` is the prompt whose end this socket heard last.
    fn take(&self, text: &str, last: &mut String) {
        if !text.contains("\"progress_state\"") || text.matches("\"finished\"").count() < NODES {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != waiting.0 && text.contains(&waiting.0) {
            last.clone_from(&waiting.0);
            waiting.1 += 1;
            self.more.notify_all();
        }
    }
}

/// Sockets that are open as long as this lives, and that nobody reads.
///
/// # Errors
/// When one can't connect.
pub(crate) fn deaf_sockets(base: &str, sockets: usize) -> Result<Vec<WebSocket<TcpStream>>> {
    (0..sockets).map(|number| connected(base, &format!("deaf-{number}"))).collect()
}

/// One socket.
///
/// # Errors
/// When it can't connect.
pub(crate) fn connected(base: &str, client_id: &str) -> Result<WebSocket<TcpStream>> {
    let stream = wire::connect(base)?;
    let url = format!("ws://{}/ws?clientId={client_id}", base.trim_start_matches("http://"));
    let (socket, _) = tungstenite::client(url, stream).map_err(|error| anyhow!("the WebSocket of {base}: {error}"))?;
    Ok(socket)
}

/// Of each prompt that is waited for.
const NODES: usize = 3;

impl Drop for Audience {
    fn drop(&mut self) {
        for stream in &self.streams {
            stream.shutdown(Shutdown::Both).ok();
        }
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
    }
}
