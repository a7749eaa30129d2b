//! Asking the server.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use vivarium_protocol::tenant::TenantId;
use vivarium_sandbox::{CallError, CallErrorKind, CodeSource};

use super::super::{
    frame::Writer,
    message::{Answer, Request, ToServer},
};

/// How often a wait looks whether it shall go on.
const TICK: Duration = Duration::from_millis(20);

/// The process's end of the socket.
pub(super) struct Link {
    writer: Writer,
    waiting: Mutex<HashMap<u64, Sender<Result<Answered, CallError>>>>,
    numbers: AtomicU64,
}

/// An answer with what belongs to it.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) tail: Vec<u8>,
    pub(super) file: Option<File>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Link")
    }
}

/// The server answered something else than was asked for.
pub(super) fn nonsense() -> CallError {
    CallError::new(CallErrorKind::Internal, "the server's answer makes no sense")
}

impl Link {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, waiting: Mutex::default(), numbers: AtomicU64::new(1) }
    }

    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.writer.send(message)
    }

    pub(super) fn send_with(&self, message: &impl Serialize, tail: &[&[u8]]) -> io::Result<()> {
        self.writer.send_with(message, tail, None)
    }

    /// An answer has come. The one who asked may be gone.
    pub(super) fn answered(&self, id: u64, answer: Result<Answer, CallError>, tail: Vec<u8>, file: Option<OwnedFd>) {
        if let Some(waiting) = self.waiting.lock().remove(&id) {
            waiting.send(answer.map(|answer| Answered { answer, tail, file: file.map(File::from) })).ok();
        }
    }

    pub(super) fn ask(&self, tenant: &TenantId, request: Request, tail: &[u8]) -> Result<Answered, CallError> {
        self.ask_until(tenant, request, tail, None)
    }

    /// Asks, and waits until `stop` says so.
    pub(super) fn ask_until(
        &self,
        tenant: &TenantId,
        request: Request,
        tail: &[u8],
        stop: Option<&dyn Fn() -> bool>,
    ) -> Result<Answered, CallError> {
        let gone = || CallError::new(CallErrorKind::Internal, "the server is gone");
        let id = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        self.waiting.lock().insert(id, sender);
        let message = ToServer::Request { id, tenant: tenant.clone(), request };
        if self.send_with(&message, &[tail]).is_err() {
            return Err(gone());
        }
        let Some(stop) = stop else { return receiver.recv().map_err(|_| gone())? };
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) if stop() => {
                    self.waiting.lock().remove(&id);
                    self.send(&ToServer::Cancel { id }).ok();
                    return Err(CallError::interrupted());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl CodeSource for Link {
    fn code(&self, digest: &str) -> Result<Vec<u8>, String> {
        // Code is nobody's in particular.
        let request = Request::Code { digest: digest.to_owned() };
        match self.ask(&TenantId::default_tenant(), request, &[]) {
            Ok(Answered { answer: Answer::Bytes, tail, .. }) => Ok(tail),
            Ok(_) => Err(nonsense().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
