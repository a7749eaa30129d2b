//! A span and a line of log per request, and an id that the client can quote. The span names the tenant as soon as it is
//! known, and so does every line that is written while the request is served.

use std::{
    net::SocketAddr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderName, HeaderValue},
    response::Response,
};
use tracing::Instrument;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells the ids of this process from those of its predecessors in one log.
static PROCESS: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().simple().to_string()[..8].to_owned());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The outermost middleware. The query is not logged: it may hold names of files.
pub(crate) async fn access_log<F>(request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response> + Send,
{
    let id = format!("{}-{}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let span = tracing::debug_span!(
        "request",
        id,
        method = %request.method(),
        path = request.uri().path(),
        peer = peer.map(tracing::field::display),
        tenant = tracing::field::Empty
    );
    let begun = Instant::now();
    let answered = next(request);
    async move {
        let mut response = answered.await;
        let (status, milliseconds) = (response.status().as_u16(), begun.elapsed().as_secs_f64() * 1e3);
        if status >= 500 {
            tracing::warn!(status, milliseconds, "answered");
        } else {
            tracing::debug!(status, milliseconds, "answered");
        }
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        response
    }
    .instrument(span)
    .await
}
