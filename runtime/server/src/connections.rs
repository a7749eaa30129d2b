//! Connections: how many there may be, and how long one may do nothing useful.
//!
//! A connection costs memory and a file handle from its first byte on, before anybody knows whose it is. So each has to send
//! its request's head in time, which also ends kept-alive ones that nobody uses; one that takes no answers is given up by
//! the system; and one address has only so many. Bodies have a limit of their own (`slow_body`), WebSockets too (`outbox`).

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use crate::{auth::household, config::ServerLimits};

/// How long to wait when the system has no more file handles.
const OUT_OF_HANDLES: Duration = Duration::from_millis(100);
/// How long a peer gets to read why it was turned away.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often an idle connection is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The connections of all listeners of a server.
pub(crate) struct Connections<S>(Arc<Inner<S>>);

impl<S> Clone for Connections<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<S> {
    /// Answers requests.
    service: S,
    limits: ServerLimits,
    /// One permit for each connection that may be there: `all_places` of them.
    places: Arc<Semaphore>,
    all_places: u32,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl<S> Connections<S>
where
    S: Service<axum::extract::Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    pub(crate) fn new(service: S, limits: &ServerLimits) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let places = limits.connections.clamp(1, most);
        Self(Arc::new(Inner {
            service,
            limits: limits.clone(),
            places: Arc::new(Semaphore::new(places)),
            all_places: u32::try_from(places).unwrap_or(u32::MAX),
            by_address: Arc::default(),
        }))
    }

    /// Takes connections until told to stop.
    pub(crate) async fn accept(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        loop {
            // When there are too many, new ones wait with the system until others end.
            let place = tokio::select! {
                place = Arc::clone(&self.0.places).acquire_owned() => place.map_err(io::Error::other)?,
                () = stop.cancelled() => return Ok(()),
            };
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        wait_after(&error).await;
                        continue;
                    }
                },
                () = stop.cancelled() => return Ok(()),
            };
            let seat = Seat::take(&self.0.by_address, self.0.limits.connections_per_address, peer.ip(), place);
            tokio::spawn(Arc::clone(&self.0).serve(stream, peer, seat, stop.clone()));
        }
    }

    /// Waits until all connections have ended, WebSockets too. To be called when no more are taken.
    pub(crate) async fn ended(&self) {
        // Never closed, so this can't fail.
        let _ = self.0.places.acquire_many(self.0.all_places).await;
    }
}

impl<S> Inner<S>
where
    S: Service<axum::extract::Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, seat: Option<Seat>, stop: CancellationToken) {
        let Some(seat) = seat else { return self.refuse(stream, peer).await };
        if let Err(error) = self.set_options(&stream) {
            tracing::debug!(%peer, %error, "a connection's options could not be set");
        }
        let io = TokioIo::new(Seated { stream, _seat: seat });
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            self.service.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }

    fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        // Events are small and must not wait for more to send.
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(self.limits.stalled_write_timeout))?;
        Ok(())
    }

    async fn refuse(&self, mut stream: TcpStream, peer: SocketAddr) {
        let limit = self.limits.connections_per_address;
        tracing::warn!(%peer, limit, "too many connections from one address; see --max-connections-per-address");
        let text = format!(
            "Too many connections from your address: the limit is {limit}. The operator raises it with \
             --max-connections-per-address\n"
        );
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             retry-after: 5\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        // Best effort: who is turned away may be gone already.
        let _ = timeout(REFUSAL_TIMEOUT, async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        })
        .await;
    }
}

/// As long as it lives, a connection counts.
struct Seat {
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// `None` when the address has as many as it may. This machine's own is not limited: a reverse proxy has all its
    /// clients' connections come from there.
    fn take(
        by_address: &Arc<Mutex<HashMap<IpAddr, usize>>>,
        limit: usize,
        address: IpAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<Self> {
        let is_own = address.to_canonical().is_loopback();
        let address = household(address);
        let mut counts = by_address.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= limit && !is_own {
            return None;
        }
        *count += 1;
        Some(Self { by_address: Arc::clone(by_address), address, _place: place })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// A stream that keeps its seat, also when it becomes a WebSocket.
struct Seated {
    stream: TcpStream,
    _seat: Seat,
}

impl AsyncRead for Seated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn wait_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // These are the peer's doing and say nothing about the next connection.
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "no connection can be taken; trying again");
        sleep(OUT_OF_HANDLES).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::{
        Router,
        routing::{get, post},
    };
    use tokio::io::AsyncReadExt;

    use super::*;

    const LARGE: usize = 64 << 20;

    struct Serving {
        connections: Connections<Router>,
        address: SocketAddr,
        _stop: tokio_util::sync::DropGuard,
    }

    impl Serving {
        async fn start(limits: ServerLimits) -> Self {
            let router = Router::new()
                .route("/", get(|| async { "hello" }))
                .route("/large", get(|| async { vec![0_u8; LARGE] }))
                .route("/echo", post(|body: axum::body::Bytes| async { body }));
            let connections = Connections::new(router, &limits);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let stop = CancellationToken::new();
            tokio::spawn(connections.clone().accept(listener, stop.clone()));
            Self { connections, address, _stop: stop.drop_guard() }
        }

        async fn say(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        fn open(&self) -> usize {
            self.connections.0.by_address.lock().values().sum()
        }

        /// Hangs when it never happens.
        async fn until_open(&self, count: usize) {
            while self.open() != count {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn everything(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn hasty() -> ServerLimits {
        ServerLimits { header_timeout: Duration::from_millis(150), ..ServerLimits::default() }
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_and_an_idle_connection_are_given_up() {
        let server = Serving::start(hasty()).await;
        for begun in ["", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ", "POST /echo HTTP/1.1\r\n"] {
            assert_eq!(everything(&mut server.say(begun).await).await, "", "{begun:?}");
        }
        let mut kept_alive = server.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = everything(&mut kept_alive).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
        server.until_open(0).await;
    }

    #[tokio::test]
    async fn drops_of_a_head_do_not_keep_it_alive() {
        let server = Serving::start(hasty()).await;
        let (mut reading, mut writing) = server.say("GET / HTTP/1.1\r\n").await.into_split();
        let dripping = tokio::spawn(async move {
            while writing.write_all(b"x-drop: 1\r\n").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        // Closed or, since it goes on writing, reset.
        let _ = reading.read_to_end(&mut Vec::new()).await;
        server.until_open(0).await;
        dripping.await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn who_takes_no_answer_is_given_up() {
        let limits = ServerLimits { stalled_write_timeout: Duration::from_millis(500), ..ServerLimits::default() };
        let server = Serving::start(limits).await;
        let _deaf = server.say("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
        server.until_open(1).await;
        server.until_open(0).await;
    }

    #[tokio::test]
    async fn beyond_the_limit_connections_wait_for_others_to_end() {
        let server = Serving::start(ServerLimits { connections: 2, ..ServerLimits::default() }).await;
        let held = [server.say("").await, server.say("").await];
        server.until_open(2).await;
        let mut waiting = server.say("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let early = timeout(Duration::from_millis(200), waiting.read_u8()).await;
        assert!(early.is_err(), "answered although all places are taken");
        drop(held);
        assert!(everything(&mut waiting).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn one_address_has_only_so_many_and_is_told_so() {
        let server = Serving::start(ServerLimits { connections_per_address: 2, ..ServerLimits::default() }).await;
        let take = |address: &str| {
            let place = Arc::clone(&server.connections.0.places).try_acquire_owned().unwrap();
            Seat::take(&server.connections.0.by_address, 2, address.parse().unwrap(), place)
        };
        let first = take("2001:db8::1");
        let _second = take("2001:db8::2");
        assert!(take("2001:db8::3").is_none(), "one network of 64 bits is one client");
        assert!(take("2001:db8:0:1::1").is_some() && take("192.0.2.1").is_some());
        drop(first);
        assert!(take("2001:db8::4").is_some());
        let own: Vec<_> = (0..5).map(|_| take("127.0.0.1")).collect();
        assert!(own.iter().all(Option::is_some));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        server.connections.0.refuse(stream, peer).await;
        let answer = everything(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the limit is 2"), "{answer}");
    }
}
