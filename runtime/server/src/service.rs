//! What every request passes before it reaches its route, outermost first.
//!
//! One function around the whole table, not a layer around each route: layers are boxed and cloned for every request, five of
//! them cost more than a small answer itself.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, StatusCode, Version, header},
    response::Response,
};
use tower::{Service, ServiceExt};
use tower_http::compression::{CompressionLayer, predicate::Predicate};

use crate::{
    access_log::access_log, auth, caching::cache_control, guard::guard, routes, slow_body::slow_body, state::AppState,
};

/// The routes and what stands before them. Requests need a [`axum::extract::ConnectInfo`] of their peer's address; without
/// one they count as coming over loopback, for which the guard is strictest.
#[derive(Clone)]
pub struct Application {
    routes: Router,
    body_limit: DefaultBodyLimit,
    state: AppState,
}

impl Application {
    /// All routes over a state.
    #[must_use]
    pub fn new(state: AppState) -> Self {
        let limit = usize::try_from(state.config().max_upload_size).unwrap_or(usize::MAX);
        let routes = routes::table().merge(auth::routes().finish().0);
        let routes = match state.config().compress_responses {
            true => routes.layer(CompressionLayer::new().compress_when(is_text)),
            false => routes,
        };
        Self { routes: routes.with_state(state.clone()), body_limit: DefaultBodyLimit::max(limit), state }
    }

    async fn respond(self, request: Request) -> Response {
        let Self { routes, body_limit, state } = &self;
        access_log(request, |request| {
            guard(state, request, |request| {
                auth::gate(state, request, |request| {
                    slow_body(state, request, |request| {
                        cache_control(request, async |mut request| {
                            body_limit.apply(&mut request);
                            match routes.clone().oneshot(request).await {
                                Ok(response) => response,
                                Err(never) => match never {},
                            }
                        })
                    })
                })
            })
        })
        .await
    }
}

impl Service<Request<Body>> for Application {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let application = self.clone();
        Box::pin(async move { Ok(application.respond(request).await) })
    }
}

/// Images are compressed already, and a part of a file must stay that part.
fn is_text(status: StatusCode, _: Version, headers: &HeaderMap, _: &axum::http::Extensions) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    status != StatusCode::PARTIAL_CONTENT
        && (content_type.starts_with("application/json") || content_type.starts_with("text/plain"))
}

// `is_text` is a predicate by its signature.
const _: fn() = || {
    fn is_predicate(_: impl Predicate) {}
    is_predicate(is_text);
};
