//! What a worker tells the outside while it runs prompts. The server's hub implements [`EventSink`]; `vivarium run` has a
//! printing one.

use std::sync::Arc;

use vivarium_protocol::{
    event::Event,
    frame::{ImageType, PreviewMetadata},
    tenant::TenantId,
};

/// Who gets a message. A message never leaves its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The socket that adopted this client id.
    Client(String),
    /// Every socket of the tenant.
    Tenant,
}

/// One message for a client.
#[derive(Clone, Debug)]
pub enum Message {
    /// A JSON text frame.
    Event(Event),
    /// A preview image, sent as binary frame 4 or 1, whichever the client negotiated. May be dropped for a slow socket.
    Preview {
        /// The encoded image.
        image: Arc<[u8]>,
        /// How it is encoded.
        image_type: ImageType,
        /// Which node of which prompt it belongs to.
        metadata: PreviewMetadata,
    },
    /// A text beside a node, sent as binary frame 3.
    Text {
        /// The node that shows it.
        node_id: String,
        /// What it shows.
        text: String,
    },
}

/// Takes messages for clients. Must not block: whoever implements it queues, and drops previews of slow clients first.
pub trait EventSink: Send + Sync {
    /// Queues one message. Messages to the same target arrive in the order of the calls.
    fn send(&self, tenant: &TenantId, target: Target, message: Message);
}

/// Drops everything; for validation-only use.
#[derive(Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn send(&self, _tenant: &TenantId, _target: Target, _message: Message) {}
}
