//! The frames of one message, made once however many sockets get it.

use std::sync::{Arc, OnceLock};

use axum::{body::Bytes, extract::ws::Utf8Bytes};
use vivarium_protocol::{event::Event, frame::Frame};
use vivarium_worker::events::Message;

use crate::outbox::{Item, Topic};

/// A message, and those of its forms that somebody needed so far.
#[derive(Debug)]
pub(crate) struct Frames {
    message: Message,
    topic: Option<Arc<Topic>>,
    text: OnceLock<Utf8Bytes>,
    with_metadata: OnceLock<Bytes>,
    without_metadata: OnceLock<Bytes>,
}

impl Frames {
    pub(crate) fn new(message: Message) -> Self {
        let topic = match &message {
            Message::Event(event) => topic(event).map(Arc::new),
            _ => None,
        };
        let (text, with_metadata, without_metadata) = Default::default();
        Self { message, topic, text, with_metadata, without_metadata }
    }

    /// The JSON text of an event, and what may replace it; `None` for binary messages.
    pub(crate) fn event_text(&self) -> Option<(Utf8Bytes, Option<Arc<Topic>>)> {
        match &self.message {
            Message::Event(event) => {
                Some((self.text.get_or_init(|| event.to_json().into()).clone(), self.topic.clone()))
            }
            _ => None,
        }
    }

    /// What a socket gets; `preview_metadata` says that its client reads frame 4. The bytes are shared, not copied.
    pub(crate) fn item(&self, sequence: Option<u64>, preview_metadata: bool) -> Item {
        match &self.message {
            Message::Event(event) => {
                let text = self.text.get_or_init(|| event.to_json().into()).clone();
                Item::Event { text, sequence, topic: self.topic.clone() }
            }
            Message::Preview { image, image_type, metadata } => Item::Preview(if preview_metadata {
                let frame = || Frame::PreviewImageWithMetadata { metadata: metadata.clone(), image: Arc::clone(image) };
                self.with_metadata.get_or_init(|| frame().encode().into()).clone()
            } else {
                let frame = || Frame::PreviewImage { image_type: *image_type, image: Arc::clone(image) };
                self.without_metadata.get_or_init(|| frame().encode().into()).clone()
            }),
            Message::Text { node_id, text } => {
                let frame = || Frame::Text { prompt_id: None, node_id: node_id.clone(), text: text.clone() };
                Item::Binary(self.without_metadata.get_or_init(|| frame().encode().into()).clone())
            }
        }
    }

    /// Whether nobody needs the other message, an earlier one, once there is this one.
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        match (&self.message, &other.message) {
            (Message::Event(_), Message::Event(_)) => self.topic.is_some() && self.topic == other.topic,
            (Message::Preview { metadata: new, .. }, Message::Preview { metadata: old, .. }) => {
                (&new.prompt_id, &new.node_id) == (&old.prompt_id, &old.node_id)
            }
            _ => false,
        }
    }
}

/// An event for one socket.
pub(crate) fn event_item(event: &Event) -> Item {
    Item::Event { text: event.to_json().into(), sequence: None, topic: None }
}

fn topic(event: &Event) -> Option<Topic> {
    match event {
        Event::Status(_) => Some(Topic::Status),
        Event::Progress { prompt_id, node, .. } => Some(Topic::Progress(prompt_id.clone(), node.clone())),
        Event::ProgressState { prompt_id, .. } => Some(Topic::ProgressState(prompt_id.clone())),
        _ => None,
    }
}
