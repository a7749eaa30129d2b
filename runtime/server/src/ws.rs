//! `/ws`: one client's socket, from the upgrade to the end.
//!
//! A socket reads (feature flags, pongs, the end) and writes (its outbox, pings) side by side. Writing has a time limit, so
//! that a client that stopped reading is cut off; being cut off by the outbox ends even a write that is stuck.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{
        Extension, Query, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, timeout};
use vivarium_protocol::{event::Event, tenant::TenantId};

use crate::{
    auth::Access,
    error::ApiError,
    hub::{Refused, Socket},
    outbox::{Cut, Item},
    routes::system::features_for,
    state::AppState,
    tenant::Tenant,
};

/// How often a client that was sent events is asked whether they arrived.
const CONFIRM_EVERY: Duration = Duration::from_secs(10);

/// How long the close frame of a socket that is cut off may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Small messages that gathered go out in one write.
const WRITE_BUFFER: usize = 8 * 1024;

#[derive(Deserialize)]
pub(crate) struct Parameters {
    #[serde(rename = "clientId", default)]
    client_id: String,
}

/// `GET /ws?clientId=…`
pub(crate) async fn connect(
    State(state): State<AppState>,
    Tenant(tenant): Tenant,
    Extension(access): Extension<Access>,
    Query(parameters): Query<Parameters>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(_) => {
            return ApiError::text(
                StatusCode::BAD_REQUEST,
                "No WebSocket UPGRADE hdr: None\n Can \"Upgrade\" only to \"WebSocket\".",
            )
            .into_response();
        }
    };
    let limits = &state.config().limits;
    if parameters.client_id.len() > limits.client_id_bytes {
        let message = format!("clientId is longer than {} bytes", limits.client_id_bytes);
        return ApiError::bad_request("client_id_too_long", message).into_response();
    }
    let client_id = match parameters.client_id {
        id if id.is_empty() => uuid::Uuid::new_v4().simple().to_string(),
        id => id,
    };
    let incoming = limits.socket_incoming_bytes;
    upgrade
        // Thousands of idle sockets are normal: no large buffers.
        .read_buffer_size(4096)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(incoming)
        .max_frame_size(incoming)
        .on_upgrade(move |socket| serve_socket(state, tenant, access, client_id, socket))
}

async fn serve_socket(state: AppState, tenant: TenantId, access: Access, client_id: String, mut websocket: WebSocket) {
    let queue_remaining = state.queue().remaining(&tenant);
    let socket = match state.hub().join(&tenant, client_id, Some(access), queue_remaining) {
        Ok(socket) => socket,
        Err(refused) => {
            let _ = timeout(CLOSE_TIMEOUT, websocket.send(Message::Close(Some(refusal(refused))))).await;
            return;
        }
    };
    // What changed between counting and joining was told to the others only.
    let now = state.queue().remaining(&tenant);
    if now != queue_remaining {
        state.hub().answer(&socket, &Event::status(now));
    }
    tell_running_node(&state, &tenant, &socket);

    let (mut sink, stream) = websocket.split();
    let politely = tokio::select! {
        politely = read(&state, &tenant, &socket, stream) => politely,
        () = write(&state, &tenant, &socket, &mut sink) => false,
        () = socket.outbox.cut_off.cancelled() => false,
    };
    let politely = politely || socket.outbox.why_cut() == Some(Cut::NotAdmitted);
    state.hub().leave(&tenant, &socket, politely);
    if let Some(cut) = socket.outbox.why_cut() {
        tracing::info!(client_id = socket.client_id, ?cut, "closing a socket");
        let _ = timeout(CLOSE_TIMEOUT, sink.send(Message::Close(Some(farewell(cut))))).await;
    }
}

fn tell_running_node(state: &AppState, tenant: &TenantId, socket: &Socket) {
    if let Some(running) = state.engine().running_node(tenant)
        && running.client_id.as_deref() == Some(&socket.client_id)
    {
        state.hub().answer(socket, &Event::executing_on_reconnect(running.display_node));
    }
}

/// Reads until the client goes; true when it said so.
async fn read(state: &AppState, tenant: &TenantId, socket: &Socket, mut stream: SplitStream<WebSocket>) -> bool {
    let mut may_negotiate = true;
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) if may_negotiate => may_negotiate = !negotiate(state, tenant, socket, text.as_str()),
            Message::Pong(payload) => {
                if let Some(sequence) = read_sequence(&payload) {
                    state.hub().confirm(tenant, socket, sequence);
                }
            }
            Message::Close(_) => return true,
            Message::Text(_) | Message::Binary(_) | Message::Ping(_) => {}
        }
    }
    false
}

/// Only the first message that is JSON counts, whatever it is. True when this was one.
fn negotiate(state: &AppState, tenant: &TenantId, socket: &Socket, text: &str) -> bool {
    let Ok(message) = serde_json::from_str::<Value>(text) else { return false };
    if message.get("type").and_then(Value::as_str) == Some("feature_flags") {
        let flag = message.pointer("/data/supports_preview_metadata");
        socket.set_supports_preview_metadata(flag.and_then(Value::as_bool).unwrap_or(false));
        state.hub().answer(socket, &Event::FeatureFlags(features_for(state, tenant)));
    }
    true
}

/// Writes what is queued until the socket is cut off or broken.
async fn write(state: &AppState, tenant: &TenantId, socket: &Socket, sink: &mut SplitSink<WebSocket, Message>) {
    let write_timeout = state.config().limits.socket_write_timeout;
    let mut ticks = interval(CONFIRM_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut written, mut asked) = (0_u64, 0_u64);
    loop {
        let (messages, sequence) = tokio::select! {
            items = socket.outbox.next() => match items {
                Ok(items) => batch(items),
                Err(_) => return,
            },
            _ = ticks.tick(), if written > asked => {
                asked = written;
                (vec![Message::Ping(Bytes::copy_from_slice(&written.to_be_bytes()))], None)
            }
        };
        match timeout(write_timeout, send_at_once(sink, messages)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return socket.outbox.cut(Cut::TooSlow),
        }
        if let Some(sequence) = sequence {
            written = sequence;
            state.hub().wrote(tenant, socket, sequence);
        }
    }
}

/// The frames of messages, and the last number among them.
fn batch(items: Vec<Item>) -> (Vec<Message>, Option<u64>) {
    let mut last = None;
    let frame = |item: Item| match item {
        Item::Event { text, sequence, .. } => {
            last = sequence.or(last);
            Message::Text(text)
        }
        Item::Preview(bytes) | Item::Binary(bytes) => Message::Binary(bytes),
    };
    let frames = items.into_iter().map(frame).collect();
    (frames, last)
}

async fn send_at_once(sink: &mut SplitSink<WebSocket, Message>, messages: Vec<Message>) -> Result<(), axum::Error> {
    for message in messages {
        sink.feed(message).await?;
    }
    sink.flush().await
}

fn read_sequence(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_be_bytes)
}

fn farewell(cut: Cut) -> CloseFrame {
    match cut {
        Cut::TooSlow => CloseFrame {
            code: close_code::AGAIN,
            reason: "read too slowly; reconnect with the same clientId to get what was missed".into(),
        },
        Cut::NotAdmitted => CloseFrame {
            code: close_code::POLICY,
            reason: "the token that opened this socket is revoked or expired".into(),
        },
        Cut::GoingAway => CloseFrame { code: close_code::AWAY, reason: "the server stops".into() },
    }
}

fn refusal(refused: Refused) -> CloseFrame {
    match refused {
        Refused::Full { limit } => {
            CloseFrame { code: close_code::AGAIN, reason: format!("too many sockets: the limit is {limit}").into() }
        }
        Refused::Closing => farewell(Cut::GoingAway),
    }
}
