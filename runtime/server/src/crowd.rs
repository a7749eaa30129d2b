//! What goes to everybody, where everybody is many.
//!
//! A prompt without a client id reports to every socket of its tenant, and every count of the queue goes to all of them. With
//! thousands of sockets, one message costs thousands of writes: many times the work of a small prompt. So in a crowded room
//! the worker only leaves a message here. One task hands out what has gathered, a newer report instead of those that it
//! makes pointless, to a few sockets at a time, and rests in between. What it takes of the machine is bounded by the number
//! of sockets, not by how fast prompts run; and in a room with few sockets each gets every single message at once.
//! After a quiet time some sockets are served without a rest, so that all of a few hundred hear soon what a single prompt does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::frames::Frames;

/// With more sockets than this a room is crowded.
pub(crate) const CROWDED: usize = 32;

/// Sockets that are served at once.
pub(crate) const GROUP: usize = 64;

/// Time given to each socket. A write takes about a fifth of it, so all of them together keep a fifth of one core busy.
const TIME_PER_SOCKET: Duration = Duration::from_micros(50);

/// Time that may be used before it has passed: that of 200 sockets served twice, which is how often a short prompt has news.
const AHEAD: Duration = Duration::from_millis(20);

/// How fast sockets are served.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the time of all sockets that were served has passed.
    even_at: Instant,
}

impl Pace {
    /// That of somebody who has served no socket yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { even_at: now }
    }

    /// How long to rest when sockets have been served.
    pub(crate) fn rest_after(&mut self, sockets: usize, now: Instant) -> Duration {
        self.even_at = self.even_at.max(now) + time_of(sockets);
        self.even_at.saturating_duration_since(now + AHEAD)
    }
}

/// The time given to so many sockets.
pub(crate) fn time_of(sockets: usize) -> Duration {
    TIME_PER_SOCKET * u32::try_from(sockets).unwrap_or(u32::MAX)
}

/// The messages that wait for all sockets of a room, in order.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<Arc<Frames>>);

impl Held {
    /// Adds a message, and forgets what it makes pointless.
    pub(crate) fn add(&mut self, frames: Frames) {
        if let Some(index) = self.0.iter().rposition(|held| frames.supersedes(held)) {
            self.0.remove(index);
        }
        self.0.push(Arc::new(frames));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them; none wait then.
    pub(crate) fn take(&mut self) -> Vec<Arc<Frames>> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vivarium_protocol::event::Event;
    use vivarium_worker::events::Message;

    use super::*;

    fn progress(node: &str, value: f64) -> Frames {
        let (prompt_id, node) = ("p".to_owned(), node.to_owned());
        Frames::new(Message::Event(Event::Progress { value, max: 9.0, prompt_id, node }))
    }

    fn start(prompt_id: &str) -> Frames {
        Frames::new(Message::Event(Event::ExecutionStart {
            prompt_id: prompt_id.to_owned(),
            timestamp: 1,
            device: None,
        }))
    }

    #[test]
    fn after_a_quiet_time_some_are_served_at_once_and_then_no_more_than_time_allows() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert_eq!(pace.rest_after(400, begin), Duration::ZERO);
        assert_eq!(pace.rest_after(200, begin), Duration::from_millis(10));
        let later = begin + Duration::from_millis(10);
        assert_eq!(pace.rest_after(100, later), Duration::from_millis(5));
        let much_later = begin + Duration::from_secs(9);
        assert_eq!(pace.rest_after(400, much_later), Duration::ZERO);
        assert_eq!(pace.rest_after(20, much_later), Duration::from_millis(1));
    }

    #[test]
    fn the_newest_report_takes_the_place_of_older_ones_and_nothing_else_is_lost_or_reordered() {
        let mut held = Held::default();
        for value in 0..100 {
            held.add(progress("1", f64::from(value)));
            held.add(progress("2", 1.0));
            if value == 50 {
                held.add(start("a"));
                held.add(start("a"));
            }
            held.add(Frames::new(Message::Event(Event::status(value as usize))));
        }
        let texts: Vec<String> =
            held.take().iter().map(|frames| frames.event_text().unwrap().0.as_str().to_owned()).collect();
        let is = |index: usize, part: &str| assert!(texts[index].contains(part), "{texts:?}");
        assert_eq!(texts.len(), 5);
        is(0, "execution_start");
        is(1, "execution_start");
        is(2, "99");
        is(3, "\"node\":\"2\"");
        is(4, "\"queue_remaining\":99");
        assert!(held.is_empty());
    }
}
