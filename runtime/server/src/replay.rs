//! What one client id was sent, kept so that a reconnect misses nothing.
//!
//! Events of a client id are numbered. A socket counts what it wrote, and learns from answered pings what really arrived.
//! A client that went away politely gets what was not written; one whose connection broke gets what was not confirmed,
//! since writing into a dead connection succeeds for a while. It may then see an event twice, which changes nothing: events
//! say how things are.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use axum::extract::ws::Utf8Bytes;

use crate::{
    config::ServerLimits,
    outbox::{Item, Topic},
};

/// The log of one client id.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    events: VecDeque<Kept>,
    bytes: usize,
    /// The number of the newest event; 0 before the first.
    newest: u64,
    /// Everything up to here was written to a socket.
    written: u64,
    /// Everything up to here has arrived.
    confirmed: u64,
    /// Since when no socket has the id.
    gone_since: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    sequence: u64,
    text: Utf8Bytes,
    topic: Option<Arc<Topic>>,
}

/// How far back a progress report that is now pointless is looked for: long scans would cost more than they save.
const LOOK_BACK: usize = 64;

impl Replay {
    /// Numbers an event and keeps it.
    pub(crate) fn record(&mut self, text: Utf8Bytes, topic: Option<Arc<Topic>>, limits: &ServerLimits) -> u64 {
        self.newest += 1;
        if topic.is_some() {
            let recent = self.events.iter().enumerate().rev().take(LOOK_BACK);
            if let Some(index) = recent.filter(|(_, kept)| kept.topic == topic).map(|(index, _)| index).next() {
                self.remove(index);
            }
        }
        self.bytes += text.as_str().len();
        self.events.push_back(Kept { sequence: self.newest, text, topic });
        while self.events.len() > limits.replay_events || self.bytes > limits.replay_bytes {
            self.remove(0);
        }
        self.newest
    }

    /// A socket wrote everything up to this number.
    pub(crate) fn wrote(&mut self, sequence: u64) {
        self.written = self.written.max(sequence);
    }

    /// The client has everything up to this number.
    pub(crate) fn confirm(&mut self, sequence: u64) {
        self.confirmed = self.confirmed.max(sequence.min(self.newest));
        while self.events.front().is_some_and(|kept| kept.sequence <= self.confirmed) {
            self.remove(0);
        }
    }

    /// The socket went away; `politely` when it said so, which confirms all that was written.
    pub(crate) fn leave(&mut self, politely: bool) {
        if politely {
            self.confirm(self.written);
        }
        self.gone_since = Some(Instant::now());
    }

    /// What a new socket of this client has to be told.
    pub(crate) fn missed(&mut self) -> Vec<Item> {
        self.gone_since = None;
        let item = |kept: &Kept| Item::Event {
            text: kept.text.clone(),
            sequence: Some(kept.sequence),
            topic: kept.topic.clone(),
        };
        self.events.iter().map(item).collect()
    }

    /// Since when nobody has the id.
    pub(crate) fn gone_since(&self) -> Option<Instant> {
        self.gone_since
    }

    fn remove(&mut self, index: usize) {
        if let Some(kept) = self.events.remove(index) {
            self.bytes -= kept.text.as_str().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(replay: &mut Replay) -> Vec<String> {
        let show = |item: Item| match item {
            Item::Event { text, .. } => text.as_str().to_owned(),
            _ => String::new(),
        };
        replay.missed().into_iter().map(show).collect()
    }

    fn with_events(count: u64) -> Replay {
        let mut replay = Replay::default();
        for index in 1..=count {
            assert_eq!(replay.record(index.to_string().into(), None, &ServerLimits::default()), index);
        }
        replay
    }

    #[test]
    fn a_polite_client_gets_what_was_not_written() {
        let mut replay = with_events(4);
        replay.wrote(3);
        replay.leave(true);
        assert_eq!(texts(&mut replay), ["4"]);
    }

    #[test]
    fn a_broken_connection_gets_what_was_not_confirmed() {
        let mut replay = with_events(4);
        replay.wrote(3);
        replay.confirm(1);
        replay.leave(false);
        assert_eq!(texts(&mut replay), ["2", "3", "4"]);
    }

    #[test]
    fn a_client_cannot_confirm_the_future() {
        let mut replay = with_events(1);
        replay.confirm(99);
        replay.record("2".to_owned().into(), None, &ServerLimits::default());
        assert_eq!(texts(&mut replay), ["2"]);
    }

    #[test]
    fn old_and_pointless_events_are_dropped() {
        let limits = ServerLimits { replay_events: 3, ..ServerLimits::default() };
        let mut replay = Replay::default();
        let progress = || Some(Topic::Progress("p".to_owned(), "1".to_owned()));
        for (text, topic) in [("a", None), ("b", progress()), ("c", progress()), ("d", None), ("e", None)] {
            replay.record(text.to_owned().into(), topic.map(Arc::new), &limits);
        }
        assert_eq!(texts(&mut replay), ["c", "d", "e"]);
    }
}
