//! Routes and what is said about them, in one go: a route cannot be added without a description, so the OpenAPI document
//! that is made of them is complete.

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, on},
};

use crate::state::AppState;

/// A router under construction, with the descriptions of its routes.
pub(crate) struct Table {
    tag: &'static str,
    router: Router<AppState>,
    operations: Vec<Operation>,
}

/// A described route.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// As axum writes it.
    pub(crate) path: &'static str,
    /// Which group it belongs to.
    pub(crate) tag: &'static str,
    /// Whether it is below `/api`, too.
    pub(crate) twin: bool,
    pub(crate) about: About,
}

/// What is said about a route. A text alone is its summary.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) summary: &'static str,
    /// Names of query parameters; `!` at the end of one that must be given, `#` of one that is a whole number.
    pub(crate) query: &'static [&'static str],
    pub(crate) body: Option<Body>,
    pub(crate) answer: Answer,
}

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    /// JSON of this schema in `openapi.rs`.
    Json(&'static str),
    /// A form with files.
    Form(&'static [&'static str]),
    /// A form of texts.
    Fields(&'static [&'static str]),
    /// Any bytes.
    Bytes,
}

/// What comes back when all is well.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// JSON of this schema in `openapi.rs`.
    Json(&'static str),
    /// The bytes of a file.
    File,
    /// 200 without a body.
    Empty,
    /// 204.
    NoContent,
    /// 101: a WebSocket.
    Socket,
    /// For people's eyes.
    Page,
    /// 303: somewhere else.
    Redirect,
}

/// Begins a description.
pub(crate) const fn about(summary: &'static str) -> About {
    About { summary, query: &[], body: None, answer: Answer::Json("Any") }
}

impl About {
    pub(crate) const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    pub(crate) const fn body(mut self, schema: &'static str) -> Self {
        self.body = Some(Body::Json(schema));
        self
    }

    pub(crate) const fn form(mut self, fields: &'static [&'static str]) -> Self {
        self.body = Some(Body::Form(fields));
        self
    }

    pub(crate) const fn fields(mut self, fields: &'static [&'static str]) -> Self {
        self.body = Some(Body::Fields(fields));
        self
    }

    pub(crate) const fn bytes(mut self) -> Self {
        self.body = Some(Body::Bytes);
        self
    }

    pub(crate) const fn answers(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }
}

impl From<&'static str> for About {
    fn from(summary: &'static str) -> Self {
        about(summary)
    }
}

impl Table {
    /// An empty group.
    pub(crate) fn tagged(tag: &'static str) -> Self {
        Self { tag, router: Router::new(), operations: Vec::new() }
    }

    pub(crate) fn get<H, T>(self, path: &'static str, handler: H, about: impl Into<About>) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::GET, MethodFilter::GET, path, handler, about.into())
    }

    pub(crate) fn post<H, T>(self, path: &'static str, handler: H, about: impl Into<About>) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::POST, MethodFilter::POST, path, handler, about.into())
    }

    pub(crate) fn delete<H, T>(self, path: &'static str, handler: H, about: impl Into<About>) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::DELETE, MethodFilter::DELETE, path, handler, about.into())
    }

    pub(crate) fn patch<H, T>(self, path: &'static str, handler: H, about: impl Into<About>) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.add(Method::PATCH, MethodFilter::PATCH, path, handler, about.into())
    }

    fn add<H, T>(mut self, method: Method, filter: MethodFilter, path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        self.operations.push(Operation { method, path, tag: self.tag, twin: false, about });
        Self { router: self.router.route(path, on(filter, handler)), ..self }
    }

    /// Adds the routes of another group.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.operations.extend(other.operations);
        Self { router: self.router.merge(other.router), ..self }
    }

    /// Says that all of these are below `/api`, too.
    pub(crate) fn with_twins(mut self) -> Self {
        self.operations.iter_mut().for_each(|operation| operation.twin = true);
        self
    }

    /// The routes and their descriptions.
    pub(crate) fn finish(self) -> (Router<AppState>, Vec<Operation>) {
        (self.router, self.operations)
    }
}
