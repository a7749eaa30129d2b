//! The event stream of a server.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};
use vivarium_protocol::event::Event;

use super::api::Api;
use crate::failure::{Exit, OrFail, Outcome, fail};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a read may wait before the caller looks after other things.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// An open WebSocket.
pub(super) struct Socket(WebSocket<TcpStream>);

/// What a read brought.
pub(super) enum Heard {
    /// An event.
    Event(Box<Event>),
    /// Something that is no event we know, for example a preview.
    Other,
    /// Nothing within a tick.
    Nothing,
    /// The connection is gone.
    Closed,
}

impl Socket {
    /// Connects under a client id.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub(super) fn connect(api: &Api, client_id: &str) -> Outcome<Self> {
        let stream = connect(api.host())?;
        let doing = || format!("could not open the event stream of {}", api.base());
        stream.set_read_timeout(Some(CONNECT_LIMIT)).or_fail(Exit::Server, doing)?;
        let url = format!("{}/ws?clientId={client_id}", api.base().replacen("http", "ws", 1));
        let uri = url.parse().or_fail(Exit::Usage, || format!("{url} is not a URL"))?;
        let mut request = ClientRequestBuilder::new(uri);
        for (name, value) in api.headers() {
            request = request.with_header(name, value);
        }
        let (socket, _) = match tungstenite::client(request, stream) {
            Ok(open) => open,
            Err(error) => fail!(Exit::Server, "{}: {error}", doing()),
        };
        socket.get_ref().set_read_timeout(Some(TICK)).or_fail(Exit::Server, doing)?;
        Ok(Self(socket))
    }

    /// Waits a tick for the next message. Pings are answered on the way.
    pub(super) fn hear(&mut self) -> Heard {
        match self.0.read() {
            // An event in a form that we don't know is none of ours: newer servers have more of them.
            Ok(Message::Text(text)) => match serde_json::from_str(&text) {
                Ok(event) => Heard::Event(Box::new(event)),
                Err(_) => Heard::Other,
            },
            Ok(Message::Close(_)) => Heard::Closed,
            Ok(_) => Heard::Other,
            Err(Error::Io(error)) if is_timeout(&error) => Heard::Nothing,
            Err(_) => Heard::Closed,
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn connect(host: &str) -> Outcome<TcpStream> {
    let doing = || format!("could not connect to {host}");
    let mut failure = None;
    for address in host.to_socket_addrs().or_fail(Exit::Server, doing)? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT).or_fail(Exit::Server, doing) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => fail!(Exit::Server, "{host} has no address"),
    }
}
