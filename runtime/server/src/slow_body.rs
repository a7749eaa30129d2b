//! A request whose body comes too slowly is answered with 408 and its connection closed.
//!
//! A small body is taken before its request is answered, whether the route wants it or not: a client that is answered while
//! it still writes finds the connection closed, and may never see the answer.
//!
//! Only waiting for the client counts, not the time that we take to write to disk; and a rate is asked for, since a client
//! that sends one byte now and then would satisfy any limit on pauses.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::{config::ServerLimits, error::ApiError, state::AppState};

/// How many bytes a small body has at most.
const SMALL: u64 = 16 * 1024;

/// The middleware.
pub(crate) async fn slow_body<F>(state: &AppState, request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if request.body().is_end_stream() {
        return next(request).await;
    }
    let limits = &state.config().limits;
    let is_small = request.body().size_hint().exact().is_some_and(|bytes| bytes <= SMALL);
    let is_slow = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| timed(body, Pace::new(limits), Arc::clone(&is_slow)));
    let request = if is_small { take_body(request).await } else { request };
    let response = next(request).await;
    if is_slow.load(Ordering::Relaxed) {
        let message = format!(
            "The request's body came too slowly: after {} seconds of waiting the server wants {} bytes per second",
            limits.body_grace.as_secs(),
            limits.body_bytes_per_second
        );
        return ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message).into_response();
    }
    response
}

async fn take_body(request: Request) -> Request {
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(whole) => Body::new(whole),
        Err(error) => Body::from_stream(stream::iter([Err::<Bytes, _>(error)])),
    };
    Request::from_parts(parts, body)
}

fn timed(body: Body, pace: Pace, is_slow: Arc<AtomicBool>) -> Body {
    Body::from_stream(stream::unfold(Some((body.into_data_stream(), pace)), move |state| {
        next_piece(state, Arc::clone(&is_slow))
    }))
}

type Timed = Option<(BodyDataStream, Pace)>;

async fn next_piece(state: Timed, is_slow: Arc<AtomicBool>) -> Option<(Result<Bytes, axum::Error>, Timed)> {
    let (mut body, mut pace) = state?;
    let asked = Instant::now();
    match timeout(pace.rest(), body.next()).await {
        Ok(Some(Ok(bytes))) => {
            pace.got(bytes.len(), asked.elapsed());
            Some((Ok(bytes), Some((body, pace))))
        }
        Ok(Some(Err(error))) => Some((Err(error), None)),
        Ok(None) => None,
        Err(_) => {
            is_slow.store(true, Ordering::Relaxed);
            Some((Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut))), None))
        }
    }
}

/// How long a client may still be waited for.
struct Pace {
    rest: Duration,
    most: Duration,
    bytes_per_second: u64,
}

impl Pace {
    fn new(limits: &ServerLimits) -> Self {
        Self { rest: limits.body_grace, most: limits.body_grace, bytes_per_second: limits.body_bytes_per_second.max(1) }
    }

    fn rest(&self) -> Duration {
        self.rest
    }

    /// Bytes earn time, but nobody saves up more of it than there was at the beginning.
    fn got(&mut self, bytes: usize, waited: Duration) {
        let earned = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.rest = (self.rest.saturating_sub(waited) + earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_time_and_drops_do_not_keep_a_request_alive() {
        let second = Duration::from_secs(1);
        let mut pace = Pace { rest: 10 * second, most: 10 * second, bytes_per_second: 100 };
        pace.got(1000, 5 * second);
        assert_eq!(pace.rest(), 10 * second, "fast enough");
        pace.got(100, 2 * second);
        assert_eq!(pace.rest(), 9 * second);
        for _ in 0..10 {
            pace.got(1, second);
        }
        assert_eq!(pace.rest(), Duration::from_secs_f64(0.01), "nine seconds for ten bytes");
    }
}
