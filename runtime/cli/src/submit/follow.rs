//! Waiting for the end of a prompt.
//!
//! Events are for showing progress; the history decides. So a lost socket, a restarted server or a missed event only
//! cost progress, never the result.

use std::{
    thread,
    time::{Duration, Instant},
};

use vivarium_protocol::event::Event;

use super::{
    api::Api,
    socket::{Heard, Socket, TICK},
};
use crate::{
    failure::{Exit, Outcome, fail},
    progress::Progress,
    report::Ended,
    signals::Stop,
};

/// Without an event for this long, the history is asked.
const QUIET: Duration = Duration::from_secs(3);
/// How long a server may be away, for example to restart.
const AWAY_LIMIT: Duration = Duration::from_secs(60);
/// How often a prompt may be in neither queue nor history; between the two it is for a moment.
const LOST_LIMIT: u32 = 3;

/// Follows one prompt.
pub(super) struct Follower<'a> {
    pub(super) api: &'a Api,
    pub(super) socket: Option<Socket>,
    pub(super) client_id: String,
    pub(super) prompt_id: String,
    pub(super) progress: &'a mut Progress,
    pub(super) stop: Stop,
    pub(super) deadline: Option<Instant>,
}

impl Follower<'_> {
    /// Returns once the prompt is in the history.
    ///
    /// # Errors
    /// When the server stays away or loses the prompt, when the time is up, or when a signal comes (the prompt is then
    /// taken back).
    pub(super) fn follow(&mut self) -> Outcome<Ended> {
        let mut asked = Instant::now();
        let mut last_answer = Instant::now();
        let mut lost = 0;
        let mut has_ended = false;
        loop {
            self.stop_if_told()?;
            let ends_now = self.hear();
            has_ended |= ends_now;
            let wait = if self.socket.is_some() && !has_ended { QUIET } else { TICK };
            if !ends_now && asked.elapsed() < wait {
                continue;
            }
            asked = Instant::now();
            match self.look_up() {
                Ok(Some(ended)) => return Ok(ended),
                Ok(None) if self.api.is_queued(&self.prompt_id).unwrap_or(true) => lost = 0,
                Ok(None) => lost += 1,
                Err(failure) if last_answer.elapsed() > AWAY_LIMIT => return Err(failure),
                Err(_) => {
                    self.socket = None;
                    continue;
                }
            }
            last_answer = Instant::now();
            if lost > LOST_LIMIT {
                let url = self.api.base();
                fail!(Exit::Server, "{url} no longer knows prompt {}: it was deleted there", self.prompt_id);
            }
            self.reconnect();
        }
    }

    /// Takes in one message. True when the prompt should be in the history now.
    fn hear(&mut self) -> bool {
        let Some(socket) = &mut self.socket else {
            thread::sleep(TICK);
            return false;
        };
        let event = match socket.hear() {
            Heard::Event(event) => event,
            Heard::Other | Heard::Nothing => return false,
            Heard::Closed => {
                self.socket = None;
                return false;
            }
        };
        if event.prompt_id().is_some_and(|id| id != self.prompt_id) {
            return false;
        }
        self.progress.event(&event);
        match *event {
            Event::ExecutionError(error) if error.exception_type == "ExecutionBlocked" => {
                self.progress.note(&format!("node {}: {}", error.node_id, error.exception_message.trim()));
                false
            }
            Event::Executing(executing) => executing.node.is_none() && executing.prompt_id.is_some(),
            _ => false,
        }
    }

    fn look_up(&self) -> Outcome<Option<Ended>> {
        let entry = self.api.history_entry(&self.prompt_id)?;
        Ok(entry.map(|entry| entry.status.as_ref().map_or(Ended::Success, Ended::from_history)))
    }

    fn reconnect(&mut self) {
        if self.socket.is_none() {
            self.socket = Socket::connect(self.api, &self.client_id).ok();
        }
    }

    fn stop_if_told(&self) -> Outcome<()> {
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() > deadline);
        if !self.stop.is_asked() && !is_late {
            return Ok(());
        }
        self.progress.end();
        let taken_back = self.api.cancel(&self.prompt_id);
        let fate = match &taken_back {
            Ok(()) => "it was taken back from the server".to_owned(),
            Err(failure) => failure.to_string(),
        };
        if is_late {
            fail!(Exit::Work, "the prompt did not end within the --timeout; {fate}");
        }
        fail!(Exit::Interrupted, "interrupted before the prompt had ended; {fate}")
    }
}
