//! Who listens: the sockets of every tenant, by client id.
//!
//! A message goes to one client id or to all sockets of a tenant, never further. Sending queues and returns: a slow socket
//! has an `Outbox` of its own and holds nobody up. Events for a client id that has, or lately had, a socket are kept for
//! its reconnect (`Replay`).
//!
//! ComfyUI forgets a client id when *any* socket that once had it closes, so a quick reconnect falls silent. Here the id
//! belongs to the newest socket, and only that one gives it up.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{body::Bytes, extract::ws::Utf8Bytes};
use parking_lot::{Mutex, RwLock};
use vivarium_protocol::{event::Event, frame::Frame, tenant::TenantId};
use vivarium_worker::events::{EventSink, Message, Target};

use crate::{
    config::ServerLimits,
    outbox::{Cut, Item, Outbox, Topic},
    replay::Replay,
};

/// With more sockets than this, a tenant's sockets get counts of the queue at intervals: each prompt makes three or four, and
/// thousands of writes for each would slow the prompts down. With fewer, each gets every count, as clients are used to.
const MANY_SOCKETS: usize = 32;
/// The interval.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_millis(250);

/// All sockets of the server.
#[derive(Debug)]
pub struct Hub {
    rooms: RwLock<HashMap<TenantId, Arc<Mutex<Room>>>>,
    next_socket: AtomicU64,
    limits: ServerLimits,
}

/// The sockets of one tenant.
#[derive(Debug, Default)]
struct Room {
    sockets: HashMap<u64, Arc<Socket>>,
    by_client: HashMap<String, u64>,
    replays: HashMap<String, Replay>,
    closed: bool,
    /// When the sockets last heard how much is queued.
    status_sent: Option<Instant>,
    /// What they are to hear next, if something changed since.
    status_held: Option<Event>,
}

/// One connected client.
#[derive(Debug)]
pub(crate) struct Socket {
    number: u64,
    /// The id that the client brought or was given.
    pub(crate) client_id: String,
    /// What waits for it.
    pub(crate) outbox: Outbox,
    supports_preview_metadata: AtomicBool,
    wants_logs: AtomicBool,
}

/// Why a socket may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The tenant has as many sockets as it may.
    Full {
        /// How many that is.
        limit: usize,
    },
    /// The server stops.
    Closing,
}

impl Hub {
    /// A hub without sockets.
    #[must_use]
    pub fn new(limits: &ServerLimits) -> Self {
        Self { rooms: RwLock::default(), next_socket: AtomicU64::new(1), limits: limits.clone() }
    }

    /// How many sockets a tenant has open.
    #[must_use]
    pub fn socket_count(&self, tenant: &TenantId) -> usize {
        self.existing_room(tenant).map_or(0, |room| room.lock().sockets.len())
    }

    /// Tells every socket of a tenant how much is queued. `remaining` is only asked for when somebody listens.
    pub fn send_status(&self, tenant: &TenantId, remaining: impl FnOnce() -> usize) {
        if self.socket_count(tenant) > 0 {
            self.send(tenant, Target::Tenant, Message::Event(Event::status(remaining())));
        }
    }

    /// Sends an event to every socket of every tenant.
    pub fn send_to_everybody(&self, event: &Event) {
        let tenants: Vec<TenantId> = self.rooms.read().keys().cloned().collect();
        for tenant in tenants {
            self.send(&tenant, Target::Tenant, Message::Event(event.clone()));
        }
    }

    /// Ends every socket, and lets no new one in.
    pub fn close(&self) {
        for room in self.rooms.read().values() {
            let mut room = room.lock();
            room.closed = true;
            room.sockets.values().for_each(|socket| socket.outbox.cut(Cut::GoingAway));
        }
    }

    /// Sends the counts that were held back. To be called at intervals of [`STATUS_INTERVAL`].
    pub(crate) fn send_held_statuses(&self) {
        let rooms: Vec<(TenantId, Arc<Mutex<Room>>)> =
            self.rooms.read().iter().map(|(tenant, room)| (tenant.clone(), Arc::clone(room))).collect();
        for (tenant, room) in rooms {
            let held = {
                let mut room = room.lock();
                room.status_sent = None;
                room.status_held.take()
            };
            if let Some(event) = held {
                self.send(&tenant, Target::Tenant, Message::Event(event));
            }
        }
    }

    /// Takes a socket in. Its outbox then holds the welcome and whatever the client missed while it was away.
    pub(crate) fn join(
        &self,
        tenant: &TenantId,
        client_id: String,
        queue_remaining: usize,
    ) -> Result<Arc<Socket>, Refused> {
        let room = self.room(tenant);
        let mut room = room.lock();
        if room.closed {
            return Err(Refused::Closing);
        }
        if room.sockets.len() >= self.limits.sockets_per_tenant {
            return Err(Refused::Full { limit: self.limits.sockets_per_tenant });
        }
        let number = self.next_socket.fetch_add(1, Ordering::Relaxed);
        let socket = Arc::new(Socket::new(number, client_id.clone()));
        let welcome = Event::welcome(queue_remaining, client_id.clone());
        socket.outbox.push(event_item(&welcome, None), &self.limits);
        for item in room.adopt(&client_id, number, &self.limits) {
            socket.outbox.push(item, &self.limits);
        }
        room.sockets.insert(number, Arc::clone(&socket));
        Ok(socket)
    }

    /// Lets a socket go. Does nothing to a newer socket with the same client id.
    pub(crate) fn leave(&self, tenant: &TenantId, socket: &Socket, politely: bool) {
        let Some(room) = self.existing_room(tenant) else { return };
        let mut room = room.lock();
        room.sockets.remove(&socket.number);
        if room.owns(socket) {
            room.by_client.remove(&socket.client_id);
            if let Some(replay) = room.replays.get_mut(&socket.client_id) {
                replay.leave(politely);
            }
        }
    }

    /// The socket wrote its client's events up to this number.
    pub(crate) fn wrote(&self, tenant: &TenantId, socket: &Socket, sequence: u64) {
        self.with_replay(tenant, socket, |replay| replay.wrote(sequence));
    }

    /// The client has its events up to this number.
    pub(crate) fn confirm(&self, tenant: &TenantId, socket: &Socket, sequence: u64) {
        self.with_replay(tenant, socket, |replay| replay.confirm(sequence));
    }

    /// Sends one event to one socket only, outside the client's sequence.
    pub(crate) fn answer(&self, socket: &Socket, event: &Event) {
        socket.outbox.push(event_item(event, None), &self.limits);
    }

    /// Switches the log stream of a client on or off. False when the client has no socket.
    pub(crate) fn subscribe_logs(&self, tenant: &TenantId, client_id: &str, on: bool) -> bool {
        let Some(room) = self.existing_room(tenant) else { return false };
        let room = room.lock();
        let socket = room.by_client.get(client_id).and_then(|number| room.sockets.get(number));
        socket.map(|socket| socket.wants_logs.store(on, Ordering::Relaxed)).is_some()
    }

    /// Sends log lines to those sockets that asked for them, which only operators may.
    pub(crate) fn send_logs(&self, event: &Event) {
        let rooms: Vec<_> = self.rooms.read().values().map(Arc::clone).collect();
        for room in rooms {
            let room = room.lock();
            let wants_logs = |socket: &&Arc<Socket>| socket.wants_logs.load(Ordering::Relaxed);
            let mut listeners = room.sockets.values().filter(wants_logs).peekable();
            if listeners.peek().is_some() {
                let item = event_item(event, None);
                listeners.for_each(|socket| socket.outbox.push(item.clone(), &self.limits));
            }
        }
    }

    fn with_replay(&self, tenant: &TenantId, socket: &Socket, change: impl FnOnce(&mut Replay)) {
        let Some(room) = self.existing_room(tenant) else { return };
        let mut room = room.lock();
        if room.owns(socket)
            && let Some(replay) = room.replays.get_mut(&socket.client_id)
        {
            change(replay);
        }
    }

    fn room(&self, tenant: &TenantId) -> Arc<Mutex<Room>> {
        match self.existing_room(tenant) {
            Some(room) => room,
            None => Arc::clone(self.rooms.write().entry(tenant.clone()).or_default()),
        }
    }

    fn existing_room(&self, tenant: &TenantId) -> Option<Arc<Mutex<Room>>> {
        self.rooms.read().get(tenant).cloned()
    }
}

impl EventSink for Hub {
    fn send(&self, tenant: &TenantId, target: Target, message: Message) {
        let Some(room) = self.existing_room(tenant) else { return };
        let mut room = room.lock();
        let frames = Frames::new(message);
        match target {
            Target::Tenant => {
                if room.holds_back(&frames.message) {
                    return;
                }
                room.sockets.values().for_each(|socket| frames.push_to(socket, None, &self.limits));
            }
            Target::Client(client_id) => {
                let sequence = frames.event_text().and_then(|(text, topic)| {
                    room.replays.get_mut(&client_id).map(|replay| replay.record(text, topic, &self.limits))
                });
                if let Some(socket) = room.by_client.get(&client_id).and_then(|number| room.sockets.get(number)) {
                    frames.push_to(socket, sequence, &self.limits);
                }
            }
        }
    }
}

impl Room {
    /// Gives a client id to a socket and returns what the client missed.
    fn adopt(&mut self, client_id: &str, number: u64, limits: &ServerLimits) -> Vec<Item> {
        if let Some(former) = self.by_client.insert(client_id.to_owned(), number)
            && let Some(former) = self.sockets.get(&former)
        {
            former.outbox.retire();
        }
        self.forget_old_replays(limits);
        self.replays.entry(client_id.to_owned()).or_default().missed()
    }

    /// Whether a message is a count that the many sockets of this room get a little later, or a newer one instead.
    fn holds_back(&mut self, message: &Message) -> bool {
        let Message::Event(event @ Event::Status(_)) = message else { return false };
        if self.sockets.len() <= MANY_SOCKETS {
            return false;
        }
        if self.status_sent.is_some_and(|sent| sent.elapsed() < STATUS_INTERVAL) {
            self.status_held = Some(event.clone());
            return true;
        }
        self.status_sent = Some(Instant::now());
        self.status_held = None;
        false
    }

    fn owns(&self, socket: &Socket) -> bool {
        self.by_client.get(&socket.client_id) == Some(&socket.number)
    }

    fn forget_old_replays(&mut self, limits: &ServerLimits) {
        self.replays.retain(|_, replay| replay.gone_since().is_none_or(|since| since.elapsed() < limits.replay_age));
        while self.replays.len() >= limits.replay_clients.max(self.by_client.len()) {
            let gone = self.replays.iter().filter_map(|(id, replay)| Some((replay.gone_since()?, id)));
            let Some(oldest) = gone.min().map(|(_, id)| id.clone()) else { return };
            self.replays.remove(&oldest);
        }
    }
}

impl Socket {
    fn new(number: u64, client_id: String) -> Self {
        Self {
            number,
            client_id,
            outbox: Outbox::default(),
            supports_preview_metadata: AtomicBool::new(false),
            wants_logs: AtomicBool::new(false),
        }
    }

    /// The client can read binary frame 4.
    pub(crate) fn set_supports_preview_metadata(&self, supported: bool) {
        self.supports_preview_metadata.store(supported, Ordering::Relaxed);
    }
}

/// The frames of one message, made once however many sockets get it, and only in the forms that are needed.
struct Frames {
    message: Message,
    text: OnceLock<Utf8Bytes>,
    with_metadata: OnceLock<Bytes>,
    without_metadata: OnceLock<Bytes>,
}

impl Frames {
    fn new(message: Message) -> Self {
        Self { message, text: OnceLock::new(), with_metadata: OnceLock::new(), without_metadata: OnceLock::new() }
    }

    fn event_text(&self) -> Option<(Utf8Bytes, Option<Topic>)> {
        match &self.message {
            Message::Event(event) => Some((self.text.get_or_init(|| event.to_json().into()).clone(), topic(event))),
            _ => None,
        }
    }

    fn push_to(&self, socket: &Socket, sequence: Option<u64>, limits: &ServerLimits) {
        let item = match &self.message {
            Message::Event(_) => match self.event_text() {
                Some((text, topic)) => Item::Event { text, sequence, topic },
                None => return,
            },
            Message::Preview { .. } => {
                Item::Preview(self.preview(socket.supports_preview_metadata.load(Ordering::Relaxed)))
            }
            Message::Text { node_id, text } => {
                let frame = || Frame::Text { prompt_id: None, node_id: node_id.clone(), text: text.clone() };
                Item::Binary(self.without_metadata.get_or_init(|| frame().encode().into()).clone())
            }
        };
        socket.outbox.push(item, limits);
    }

    fn preview(&self, with_metadata: bool) -> Bytes {
        let Message::Preview { image, image_type, metadata } = &self.message else { return Bytes::new() };
        if with_metadata {
            let frame = || Frame::PreviewImageWithMetadata { metadata: metadata.clone(), image: Arc::clone(image) };
            self.with_metadata.get_or_init(|| frame().encode().into()).clone()
        } else {
            let frame = || Frame::PreviewImage { image_type: *image_type, image: Arc::clone(image) };
            self.without_metadata.get_or_init(|| frame().encode().into()).clone()
        }
    }
}

fn event_item(event: &Event, sequence: Option<u64>) -> Item {
    Item::Event { text: event.to_json().into(), sequence, topic: None }
}

fn topic(event: &Event) -> Option<Topic> {
    match event {
        Event::Status(_) => Some(Topic::Status),
        Event::Progress { prompt_id, node, .. } => Some(Topic::Progress(prompt_id.clone(), node.clone())),
        Event::ProgressState { prompt_id, .. } => Some(Topic::ProgressState(prompt_id.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vivarium_protocol::frame::{ImageType, PreviewMetadata};

    use super::*;

    fn start(prompt_id: &str) -> Message {
        Message::Event(Event::ExecutionStart { prompt_id: prompt_id.to_owned(), timestamp: 1 })
    }

    fn preview() -> Message {
        let metadata = PreviewMetadata {
            node_id: "1".to_owned(),
            prompt_id: "p".to_owned(),
            display_node_id: "1".to_owned(),
            parent_node_id: None,
            real_node_id: "1".to_owned(),
            image_type: ImageType::Png,
        };
        Message::Preview { image: vec![7; 3].into(), image_type: ImageType::Png, metadata }
    }

    fn names(socket: &Socket) -> Vec<String> {
        let name = |item: Item| match item {
            Item::Event { text, .. } => {
                let event: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
                let prompt = event["data"]["prompt_id"].as_str().unwrap_or("-").to_owned();
                format!("{} {prompt}", event["type"].as_str().unwrap())
            }
            Item::Preview(bytes) | Item::Binary(bytes) => format!("binary {}", bytes[3]),
        };
        socket.outbox.drain().into_iter().map(name).collect()
    }

    fn hub() -> (Hub, TenantId) {
        (Hub::new(&ServerLimits::default()), TenantId::default_tenant())
    }

    fn to(client: &str) -> Target {
        Target::Client(client.to_owned())
    }

    #[test]
    fn messages_reach_their_client_and_no_other_tenant() {
        let (hub, tenant) = hub();
        let stranger = TenantId::new("stranger").unwrap();
        let mine = hub.join(&tenant, "c".to_owned(), 0).unwrap();
        let other = hub.join(&tenant, "d".to_owned(), 0).unwrap();
        let theirs = hub.join(&stranger, "c".to_owned(), 0).unwrap();
        hub.send(&tenant, to("c"), start("p"));
        hub.send(&tenant, Target::Tenant, Message::Event(Event::status(1)));
        assert_eq!(names(&mine), ["status -", "execution_start p", "status -"]);
        assert_eq!(names(&other), ["status -", "status -"]);
        assert_eq!(names(&theirs), ["status -"]);
    }

    #[test]
    fn an_old_socket_that_closes_does_not_silence_the_new_one() {
        let (hub, tenant) = hub();
        let old = hub.join(&tenant, "c".to_owned(), 0).unwrap();
        let new = hub.join(&tenant, "c".to_owned(), 0).unwrap();
        hub.leave(&tenant, &old, true);
        hub.send(&tenant, to("c"), start("p"));
        assert_eq!(names(&new), ["status -", "execution_start p"]);
        assert!(names(&old).is_empty());
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_missed() {
        let (hub, tenant) = hub();
        let first = hub.join(&tenant, "c".to_owned(), 0).unwrap();
        hub.send(&tenant, to("c"), start("seen"));
        hub.wrote(&tenant, &first, 1);
        hub.leave(&tenant, &first, true);
        hub.send(&tenant, to("c"), start("missed"));
        hub.send(&tenant, to("c"), preview());
        let second = hub.join(&tenant, "c".to_owned(), 0).unwrap();
        hub.send(&tenant, to("c"), start("live"));
        assert_eq!(names(&second), ["status -", "execution_start missed", "execution_start live"]);
    }

    #[test]
    fn nothing_is_kept_for_a_client_that_never_came() {
        let (hub, tenant) = hub();
        hub.join(&tenant, "other".to_owned(), 0).unwrap();
        hub.send(&tenant, to("c"), start("p"));
        assert_eq!(names(&hub.join(&tenant, "c".to_owned(), 0).unwrap()), ["status -"]);
    }

    #[test]
    fn previews_come_in_the_form_that_was_negotiated() {
        let (hub, tenant) = hub();
        let new = hub.join(&tenant, "new".to_owned(), 0).unwrap();
        let old = hub.join(&tenant, "old".to_owned(), 0).unwrap();
        new.set_supports_preview_metadata(true);
        hub.send(&tenant, Target::Tenant, preview());
        assert_eq!(names(&new), ["status -", "binary 4"]);
        assert_eq!(names(&old), ["status -", "binary 1"]);
    }

    #[test]
    fn many_sockets_hear_the_first_and_the_last_count() {
        let (hub, tenant) = hub();
        let sockets: Vec<_> =
            (0..=MANY_SOCKETS).map(|index| hub.join(&tenant, index.to_string(), 0).unwrap()).collect();
        sockets.iter().for_each(|socket| drop(socket.outbox.drain()));
        (1..=5).for_each(|count| hub.send_status(&tenant, || count));
        hub.send(&tenant, to("0"), start("p"));
        assert_eq!(names(&sockets[0]), ["status -", "execution_start p"]);
        hub.send_held_statuses();
        match &sockets[0].outbox.drain()[..] {
            [Item::Event { text, .. }] => assert!(text.as_str().contains("\"queue_remaining\":5"), "{text}"),
            other => panic!("{other:?}"),
        }
        hub.send_held_statuses();
        assert!(sockets[0].outbox.drain().is_empty());
    }

    #[test]
    fn sockets_and_kept_clients_are_bounded() {
        let limits = ServerLimits { sockets_per_tenant: 2, replay_clients: 3, ..ServerLimits::default() };
        let hub = Hub::new(&limits);
        let tenant = TenantId::default_tenant();
        for index in 0..50 {
            let socket = hub.join(&tenant, index.to_string(), 0).unwrap();
            hub.leave(&tenant, &socket, true);
        }
        assert!(hub.room(&tenant).lock().replays.len() <= 3);
        hub.join(&tenant, "a".to_owned(), 0).unwrap();
        hub.join(&tenant, "b".to_owned(), 0).unwrap();
        assert_eq!(hub.join(&tenant, "c".to_owned(), 0).unwrap_err(), Refused::Full { limit: 2 });
    }
}
