//! A WebSocket that reads every message of a client id, as a user interface does.

use std::{
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Result;

use crate::audience::connected;

/// The client id that the prompts carry meanwhile.
pub(crate) const CLIENT_ID: &str = "bench";

/// Reads until it is dropped.
pub(crate) struct Listener {
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
    messages: Arc<AtomicU64>,
}

impl Listener {
    /// Connects to a server at `http://host:port`.
    ///
    /// # Errors
    /// When it can't.
    pub(crate) fn connect(base: &str) -> Result<Self> {
        let mut socket = connected(base, CLIENT_ID)?;
        let stream = socket.get_ref().try_clone()?;
        let messages = Arc::new(AtomicU64::new(0));
        let count = messages.clone();
        let reader = thread::Builder::new().name("listener".into()).spawn(move || {
            while socket.read().is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { stream, reader: Some(reader), messages })
    }

    /// How many came so far.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stream.shutdown(Shutdown::Both).ok();
        self.reader.take().map(JoinHandle::join);
    }
}
