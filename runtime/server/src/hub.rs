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
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, task::yield_now, time::sleep};
use vivarium_protocol::{event::Event, tenant::TenantId};
use vivarium_worker::events::{EventSink, Message, Target};

use crate::{
    auth::Access,
    config::ServerLimits,
    crowd::{CROWDED, GROUP, Held, Pace},
    frames::{Frames, event_item},
    outbox::{Cut, Item, Outbox},
    replay::Replay,
};

/// All sockets of the server.
#[derive(Debug)]
pub struct Hub {
    rooms: RwLock<HashMap<TenantId, Arc<Mutex<Room>>>>,
    next_socket: AtomicU64,
    limits: ServerLimits,
    /// Told when something waits for a crowd.
    crowd_waits: Notify,
}

/// The sockets of one tenant.
#[derive(Debug, Default)]
struct Room {
    sockets: HashMap<u64, Arc<Socket>>,
    by_client: HashMap<String, u64>,
    replays: HashMap<String, Replay>,
    closed: bool,
    /// What all sockets are to hear a little later.
    held: Held,
    /// Some sockets have not got yet what others have: newer messages have to wait, or they would come first.
    is_handing_out: bool,
}

/// One connected client.
#[derive(Debug)]
pub(crate) struct Socket {
    number: u64,
    /// The id that the client brought or was given.
    pub(crate) client_id: String,
    /// With which it was let in; none in tests of this file.
    access: Option<Access>,
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
        Self {
            rooms: RwLock::default(),
            next_socket: AtomicU64::new(1),
            limits: limits.clone(),
            crowd_waits: Notify::new(),
        }
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

    /// Lets no new socket in, and ends every one after what is queued for it, also what waits for a crowd.
    pub fn close(&self) {
        for room in self.rooms.read().values() {
            let mut room = room.lock();
            room.closed = true;
            let (sockets, held) = room.hand_out();
            self.push_all(&sockets, &held);
            room.sockets.values().for_each(|socket| socket.outbox.close(Cut::GoingAway));
        }
    }

    /// Ends those that did not take it.
    pub(crate) fn break_off(&self) {
        for room in self.rooms.read().values() {
            room.lock().sockets.values().for_each(|socket| socket.outbox.cut(Cut::GoingAway));
        }
    }

    /// Hands out what waits for crowds, for as long as it is polled.
    pub(crate) async fn serve_crowds(&self) {
        let mut pace = Pace::new(Instant::now());
        loop {
            self.crowd_waits.notified().await;
            let rooms: Vec<_> = self.rooms.read().values().map(Arc::clone).collect();
            for room in rooms {
                let (sockets, held) = room.lock().hand_out();
                for group in sockets.chunks(GROUP) {
                    self.push_all(group, &held);
                    let rest = pace.rest_after(group.len(), Instant::now());
                    // A sleep of no time would take a millisecond.
                    if rest.is_zero() { yield_now().await } else { sleep(rest).await }
                }
                room.lock().is_handing_out = false;
            }
        }
    }

    fn push_all(&self, sockets: &[Arc<Socket>], messages: &[Arc<Frames>]) {
        for socket in sockets {
            socket.outbox.push_all(messages.iter().map(|frames| socket.item(frames, None)), &self.limits);
        }
    }

    /// Ends the sockets whose client would not be let in any more.
    pub(crate) fn cut_unadmitted(&self, is_admitted: impl Fn(&Access) -> bool) {
        let rooms: Vec<_> = self.rooms.read().values().map(Arc::clone).collect();
        for room in rooms {
            let sockets: Vec<_> = room.lock().sockets.values().map(Arc::clone).collect();
            let is_refused = |socket: &&Arc<Socket>| socket.access.as_ref().is_some_and(|access| !is_admitted(access));
            sockets.iter().filter(is_refused).for_each(|socket| socket.outbox.cut(Cut::NotAdmitted));
        }
    }

    /// Takes a socket in. Its outbox then holds the welcome and whatever the client missed while it was away.
    pub(crate) fn join(
        &self,
        tenant: &TenantId,
        client_id: String,
        access: Option<Access>,
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
        let socket = Arc::new(Socket::new(number, client_id.clone(), access));
        let welcome = Event::welcome(queue_remaining, client_id.clone());
        socket.outbox.push(event_item(&welcome), &self.limits);
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
        socket.outbox.push(event_item(event), &self.limits);
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
                let item = event_item(event);
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
                if !room.must_hold() {
                    return room.sockets.values().for_each(|socket| socket.push(&frames, None, &self.limits));
                }
                room.held.add(frames);
                if room.held.len() > self.limits.socket_messages {
                    let was_handing_out = room.is_handing_out;
                    let (sockets, held) = room.hand_out();
                    self.push_all(&sockets, &held);
                    room.is_handing_out = was_handing_out;
                }
                self.crowd_waits.notify_one();
            }
            Target::Client(client_id) => {
                let sequence = frames.event_text().and_then(|(text, topic)| {
                    room.replays.get_mut(&client_id).map(|replay| replay.record(text, topic, &self.limits))
                });
                if let Some(socket) = room.by_client.get(&client_id).and_then(|number| room.sockets.get(number)) {
                    socket.push(&frames, sequence, &self.limits);
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

    fn must_hold(&self) -> bool {
        self.sockets.len() > CROWDED || self.is_handing_out || !self.held.is_empty()
    }

    /// What waits, and for whom. Whoever takes it clears `is_handing_out` when all have it.
    fn hand_out(&mut self) -> (Vec<Arc<Socket>>, Vec<Arc<Frames>>) {
        if self.held.is_empty() {
            return Default::default();
        }
        self.is_handing_out = true;
        (self.sockets.values().map(Arc::clone).collect(), self.held.take())
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
    fn new(number: u64, client_id: String, access: Option<Access>) -> Self {
        Self {
            number,
            client_id,
            access,
            outbox: Outbox::default(),
            supports_preview_metadata: AtomicBool::new(false),
            wants_logs: AtomicBool::new(false),
        }
    }

    fn item(&self, frames: &Frames, sequence: Option<u64>) -> Item {
        frames.item(sequence, self.supports_preview_metadata.load(Ordering::Relaxed))
    }

    fn push(&self, frames: &Frames, sequence: Option<u64>, limits: &ServerLimits) {
        self.outbox.push(self.item(frames, sequence), limits);
    }

    /// The client can read binary frame 4.
    pub(crate) fn set_supports_preview_metadata(&self, supported: bool) {
        self.supports_preview_metadata.store(supported, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vivarium_protocol::frame::{ImageType, PreviewMetadata};

    use super::*;
    use crate::crowd::time_of;

    fn start(prompt_id: &str) -> Message {
        Message::Event(Event::ExecutionStart { prompt_id: prompt_id.to_owned(), timestamp: 1, device: None })
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

    fn join(hub: &Hub, tenant: &TenantId, client: &str) -> Arc<Socket> {
        hub.join(tenant, client.to_owned(), None, 0).unwrap()
    }

    fn to(client: &str) -> Target {
        Target::Client(client.to_owned())
    }

    #[test]
    fn messages_reach_their_client_and_no_other_tenant() {
        let (hub, tenant) = hub();
        let stranger = TenantId::new("stranger").unwrap();
        let mine = join(&hub, &tenant, "c");
        let other = join(&hub, &tenant, "d");
        let theirs = join(&hub, &stranger, "c");
        hub.send(&tenant, to("c"), start("p"));
        hub.send(&tenant, Target::Tenant, Message::Event(Event::status(1)));
        assert_eq!(names(&mine), ["status -", "execution_start p", "status -"]);
        assert_eq!(names(&other), ["status -", "status -"]);
        assert_eq!(names(&theirs), ["status -"]);
    }

    #[test]
    fn an_old_socket_that_closes_does_not_silence_the_new_one() {
        let (hub, tenant) = hub();
        let old = join(&hub, &tenant, "c");
        let new = join(&hub, &tenant, "c");
        hub.leave(&tenant, &old, true);
        hub.send(&tenant, to("c"), start("p"));
        assert_eq!(names(&new), ["status -", "execution_start p"]);
        assert!(names(&old).is_empty());
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_missed() {
        let (hub, tenant) = hub();
        let first = join(&hub, &tenant, "c");
        hub.send(&tenant, to("c"), start("seen"));
        hub.wrote(&tenant, &first, 1);
        hub.leave(&tenant, &first, true);
        hub.send(&tenant, to("c"), start("missed"));
        hub.send(&tenant, to("c"), preview());
        let second = join(&hub, &tenant, "c");
        hub.send(&tenant, to("c"), start("live"));
        assert_eq!(names(&second), ["status -", "execution_start missed", "execution_start live"]);
    }

    #[test]
    fn nothing_is_kept_for_a_client_that_never_came() {
        let (hub, tenant) = hub();
        join(&hub, &tenant, "other");
        hub.send(&tenant, to("c"), start("p"));
        assert_eq!(names(&join(&hub, &tenant, "c")), ["status -"]);
    }

    #[test]
    fn previews_come_in_the_form_that_was_negotiated() {
        let (hub, tenant) = hub();
        let new = join(&hub, &tenant, "new");
        let old = join(&hub, &tenant, "old");
        new.set_supports_preview_metadata(true);
        hub.send(&tenant, Target::Tenant, preview());
        assert_eq!(names(&new), ["status -", "binary 4"]);
        assert_eq!(names(&old), ["status -", "binary 1"]);
    }

    fn crowd(hub: &Hub, tenant: &TenantId, count: usize) -> Vec<Arc<Socket>> {
        let sockets: Vec<_> = (0..count).map(|index| join(hub, tenant, &index.to_string())).collect();
        sockets.iter().for_each(|socket| drop(socket.outbox.drain()));
        sockets
    }

    fn progress(prompt_id: &str, value: f64) -> Message {
        let (prompt_id, node) = (prompt_id.to_owned(), "1".to_owned());
        Message::Event(Event::Progress { value, max: 100.0, prompt_id, node })
    }

    #[test]
    fn in_a_crowd_prompts_touch_nobody_but_their_client_and_everybody_gets_the_newest_once() {
        let (hub, tenant) = hub();
        let sockets = crowd(&hub, &tenant, 2_200);
        for prompt in ["a", "b"] {
            for value in 0..100 {
                hub.send_status(&tenant, || value);
                hub.send(&tenant, Target::Tenant, progress(prompt, value as f64));
                hub.send(&tenant, to("7"), start(prompt));
            }
        }
        let touched: usize = sockets.iter().map(|socket| socket.outbox.drain().len()).sum();
        assert_eq!(touched, 200, "only the client of the prompts heard something, and all of it");
        let (all, held) = hub.room(&tenant).lock().hand_out();
        hub.push_all(&all, &held);
        for socket in &sockets {
            assert_eq!(names(socket), ["progress a", "status -", "progress b"]);
        }
    }

    #[tokio::test]
    async fn a_crowd_hears_everything_in_order_while_it_is_handed_out_and_after() {
        let (hub, tenant) = hub();
        let hub = Arc::new(hub);
        let sockets = crowd(&hub, &tenant, 2 * GROUP + 1);
        let serving = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.serve_crowds().await }
        });
        let last = sockets.len() - 1;
        let mut heard = vec![Vec::new(); sockets.len()];
        for prompt in 0..30 {
            hub.send(&tenant, Target::Tenant, start(&prompt.to_string()));
            sleep(time_of(GROUP) / 3).await;
            if prompt == 20 {
                // No crowd any more, in the middle of it.
                sockets[CROWDED..last].iter().for_each(|socket| hub.leave(&tenant, socket, true));
            }
        }
        let all: Vec<String> = (0..30).map(|prompt| format!("execution_start {prompt}")).collect();
        for index in (0..CROWDED).chain([last]) {
            while heard[index].len() < all.len() {
                heard[index].extend(names(&sockets[index]));
                sleep(time_of(1)).await;
            }
            assert_eq!(heard[index], all);
        }
        serving.abort();
    }

    #[test]
    fn a_socket_whose_token_is_gone_is_cut_off() {
        let (hub, tenant) = hub();
        let access = Access::open();
        let socket = hub.join(&tenant, "c".to_owned(), Some(access), 0).unwrap();
        hub.cut_unadmitted(|_| true);
        assert_eq!(socket.outbox.why_cut(), None);
        hub.cut_unadmitted(|_| false);
        assert_eq!(socket.outbox.why_cut(), Some(Cut::NotAdmitted));
    }

    #[test]
    fn sockets_and_kept_clients_are_bounded() {
        let limits = ServerLimits { sockets_per_tenant: 2, replay_clients: 3, ..ServerLimits::default() };
        let hub = Hub::new(&limits);
        let tenant = TenantId::default_tenant();
        for index in 0..50 {
            let socket = join(&hub, &tenant, &index.to_string());
            hub.leave(&tenant, &socket, true);
        }
        assert!(hub.room(&tenant).lock().replays.len() <= 3);
        join(&hub, &tenant, "a");
        join(&hub, &tenant, "b");
        assert_eq!(hub.join(&tenant, "c".to_owned(), None, 0).unwrap_err(), Refused::Full { limit: 2 });
    }
}
