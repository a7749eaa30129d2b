//! The bounded queue of one socket: pure policy over a deque, plus a way to wait for the next message.
//!
//! Why this order of losses: a preview is worth nothing once a newer one exists; a progress report is worth nothing once a
//! newer one of the same node exists; every other event changes what a client believes, so it is never dropped. A socket
//! that still does not keep up is cut off: its client reconnects and gets the missed events replayed, and nobody else has
//! waited for it.

use std::{collections::VecDeque, sync::Arc};

use axum::{body::Bytes, extract::ws::Utf8Bytes};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::ServerLimits;

/// What a later message of the same topic makes pointless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// `progress` of a node of a prompt.
    Progress(String, String),
    /// `progress_state` of a prompt; each holds everything that the last one held.
    ProgressState(String),
    /// `status`: only the newest count is true.
    Status,
}

/// One message waiting for a socket.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A JSON text frame.
    Event {
        /// The frame, shared between sockets.
        text: Utf8Bytes,
        /// Its number in the client's own sequence; none for what goes to everybody.
        sequence: Option<u64>,
        /// What may replace it.
        topic: Option<Arc<Topic>>,
    },
    /// A binary preview frame.
    Preview(Bytes),
    /// Another binary frame.
    Binary(Bytes),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Event { text, .. } => text.as_str().len(),
            Self::Preview(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    fn topic(&self) -> Option<&Topic> {
        match self {
            Self::Event { topic, .. } => topic.as_deref(),
            _ => None,
        }
    }
}

/// Why a socket is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It did not read fast enough.
    TooSlow,
    /// The server stops.
    GoingAway,
    /// The token with which it was opened is revoked or expired.
    NotAdmitted,
}

/// The queue of one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    ready: Notify,
    /// Ends even a write that is stuck.
    pub(crate) cut_off: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    previews: usize,
    cut: Option<Cut>,
    /// What is queued is still written, nothing is added, then the socket is closed.
    closing: Option<Cut>,
    /// Another socket took over the client id: this one stays open and gets nothing.
    retired: bool,
}

/// What is written at once, at most: it is no longer in the queue then, where it could be dropped.
const BATCH_ITEMS: usize = 64;
/// The same in bytes; a single message may be larger.
const BATCH_BYTES: usize = 64 * 1024;

/// Superseded messages are looked for from here on; a socket that keeps up gets every single one.
const CROWDED: usize = 128;

impl Outbox {
    /// Queues a message, dropping what the newest message makes pointless, and cuts the socket off when that is not enough.
    pub(crate) fn push(&self, item: Item, limits: &ServerLimits) {
        self.push_all([item], limits);
    }

    /// Queues messages in this order. The socket's task wakes up once.
    pub(crate) fn push_all(&self, items: impl IntoIterator<Item = Item>, limits: &ServerLimits) {
        let mut queue = self.queue.lock();
        if queue.retired || queue.cut.is_some() || queue.closing.is_some() {
            return;
        }
        for item in items {
            queue.make_room(&item, limits);
            if queue.is_full(&item, limits) {
                drop(queue);
                return self.cut(Cut::TooSlow);
            }
            queue.add(item);
        }
        let is_waiting = !queue.items.is_empty();
        drop(queue);
        if is_waiting {
            self.ready.notify_one();
        }
    }

    /// The next messages, at least one; waits for it. `Err` when the socket is to be closed.
    pub(crate) async fn next(&self) -> Result<Vec<Item>, Cut> {
        loop {
            let ready = self.ready.notified();
            {
                let mut queue = self.queue.lock();
                if let Some(cut) = queue.cut {
                    return Err(cut);
                }
                let batch = queue.take_batch();
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if let Some(why) = queue.closing {
                    return Err(why);
                }
            }
            ready.await;
        }
    }

    /// Closes the socket once it has been written what is queued.
    pub(crate) fn close(&self, why: Cut) {
        self.queue.lock().closing.get_or_insert(why);
        self.ready.notify_one();
    }

    /// Closes the socket from our side, at once.
    pub(crate) fn cut(&self, why: Cut) {
        self.queue.lock().cut(why);
        self.cut_off.cancel();
        self.ready.notify_one();
    }

    /// Why the socket was cut off, if it was.
    pub(crate) fn why_cut(&self) -> Option<Cut> {
        let queue = self.queue.lock();
        queue.cut.or(queue.closing)
    }

    /// Nothing is queued from now on.
    pub(crate) fn retire(&self) {
        let mut queue = self.queue.lock();
        queue.retired = true;
        queue.clear();
    }

    #[cfg(test)]
    pub(crate) fn drain(&self) -> Vec<Item> {
        let mut queue = self.queue.lock();
        std::iter::from_fn(|| queue.take()).collect()
    }
}

impl Queue {
    fn make_room(&mut self, item: &Item, limits: &ServerLimits) {
        let is_preview = matches!(item, Item::Preview(_));
        if is_preview && self.previews >= limits.socket_previews.max(1) {
            self.drop_oldest_preview();
        }
        if self.items.len() >= CROWDED
            && let Some(topic) = item.topic()
            && let Some(index) = self.items.iter().rposition(|queued| queued.topic() == Some(topic))
        {
            self.remove(index);
        }
        while self.previews > 0 && self.is_full(item, limits) {
            self.drop_oldest_preview();
        }
    }

    fn is_full(&self, item: &Item, limits: &ServerLimits) -> bool {
        // One message that is larger than the whole allowance still goes out when nothing else waits.
        !self.items.is_empty()
            && (self.items.len() >= limits.socket_messages || self.bytes + item.bytes() > limits.socket_bytes)
    }

    fn add(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.previews += usize::from(matches!(item, Item::Preview(_)));
        self.items.push_back(item);
    }

    fn take(&mut self) -> Option<Item> {
        if self.items.is_empty() { None } else { self.remove(0) }
    }

    fn take_batch(&mut self) -> Vec<Item> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ITEMS
            && let Some(next) = self.items.front()
            && (batch.is_empty() || bytes + next.bytes() <= BATCH_BYTES)
        {
            bytes += next.bytes();
            batch.extend(self.take());
        }
        batch
    }

    fn remove(&mut self, index: usize) -> Option<Item> {
        let item = self.items.remove(index)?;
        self.bytes -= item.bytes();
        self.previews -= usize::from(matches!(item, Item::Preview(_)));
        Some(item)
    }

    fn drop_oldest_preview(&mut self) {
        match self.items.iter().position(|item| matches!(item, Item::Preview(_))) {
            Some(index) => drop(self.remove(index)),
            None => self.previews = 0,
        }
    }

    fn cut(&mut self, why: Cut) {
        self.cut.get_or_insert(why);
        self.clear();
    }

    fn clear(&mut self) {
        self.items = VecDeque::new();
        self.bytes = 0;
        self.previews = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(text: &str, topic: Option<Topic>) -> Item {
        Item::Event { text: text.to_owned().into(), sequence: None, topic: topic.map(Arc::new) }
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        let show = |item: Item| match item {
            Item::Event { text, .. } => text.as_str().to_owned(),
            Item::Preview(bytes) | Item::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        outbox.drain().into_iter().map(show).collect()
    }

    #[test]
    fn the_oldest_previews_go_first_and_events_stay() {
        let limits = ServerLimits { socket_previews: 2, ..ServerLimits::default() };
        let outbox = Outbox::default();
        for index in 0..4 {
            outbox.push(Item::Preview(format!("preview {index}").into()), &limits);
            outbox.push(event(&format!("event {index}"), None), &limits);
        }
        assert_eq!(texts(&outbox), ["event 0", "event 1", "preview 2", "event 2", "preview 3", "event 3"]);
    }

    #[test]
    fn events_push_out_previews_before_the_socket_is_cut_off() {
        let limits = ServerLimits { socket_messages: 3, ..ServerLimits::default() };
        let outbox = Outbox::default();
        outbox.push(Item::Preview("preview".into()), &limits);
        for index in 0..3 {
            outbox.push(event(&index.to_string(), None), &limits);
        }
        assert_eq!(outbox.why_cut(), None);
        outbox.push(event("one too many", None), &limits);
        assert_eq!(outbox.why_cut(), Some(Cut::TooSlow));
        assert!(outbox.cut_off.is_cancelled());
        assert!(texts(&outbox).is_empty());
    }

    #[test]
    fn a_crowded_socket_gets_only_the_newest_progress() {
        let limits = ServerLimits::default();
        let outbox = Outbox::default();
        for index in 0..(CROWDED + 50) {
            outbox.push(event(&index.to_string(), Some(Topic::ProgressState("p".to_owned()))), &limits);
        }
        let texts = texts(&outbox);
        assert_eq!(texts.len(), CROWDED);
        assert_eq!(texts.last().map(String::as_str), Some("177"));
    }

    #[tokio::test]
    async fn what_gathered_is_written_at_once_but_not_more_than_may_be_lost_to_the_queue() {
        let limits = ServerLimits::default();
        let outbox = Outbox::default();
        outbox.push_all((0..BATCH_ITEMS + 3).map(|index| event(&index.to_string(), None)), &limits);
        assert_eq!(outbox.next().await.unwrap().len(), BATCH_ITEMS);
        assert_eq!(outbox.next().await.unwrap().len(), 3);
        let large = "x".repeat(BATCH_BYTES);
        outbox.push_all(["small", &large, &large].map(|text| event(text, None)), &limits);
        for _ in 0..3 {
            assert_eq!(outbox.next().await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn what_was_queued_before_closing_is_written_and_nothing_after() {
        let limits = ServerLimits::default();
        let outbox = Outbox::default();
        outbox.push(event("the end of a prompt", None), &limits);
        outbox.close(Cut::GoingAway);
        outbox.push(event("too late", None), &limits);
        assert!(!outbox.cut_off.is_cancelled());
        assert_eq!(outbox.next().await.unwrap().len(), 1);
        assert_eq!(outbox.next().await.unwrap_err(), Cut::GoingAway);
    }

    #[test]
    fn bytes_are_bounded_and_a_single_large_message_still_goes_out() {
        let limits = ServerLimits { socket_bytes: 10, ..ServerLimits::default() };
        let outbox = Outbox::default();
        outbox.push(event(&"x".repeat(100), None), &limits);
        assert_eq!(outbox.why_cut(), None);
        outbox.push(event("y", None), &limits);
        assert_eq!(outbox.why_cut(), Some(Cut::TooSlow));
    }
}
