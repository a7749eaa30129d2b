//! The one place where errors become HTTP answers.
//!
//! ComfyUI answers errors of prompts as JSON, a few routes as text, and the rest with an empty body. Vivarium keeps the
//! status and the first two, and says in JSON what is wrong where ComfyUI says nothing.

use std::{borrow::Cow, fmt, net::SocketAddr, path::PathBuf};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use vivarium_blobs::{BlobError, PathProblem};
use vivarium_image_codec::CodecError;
use vivarium_protocol::error::{Invalid, PromptError};
use vivarium_queue::QueueError;

use crate::{auth::RegistryError, json::json_response};

const DISK_FULL: &str = "The server's disk is full; its operator has to free some space";

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, not of this machine, or needs more rights.
    #[error(
        "cannot listen on {address}: {source}; choose another --port or --listen address, or stop what uses this one"
    )]
    Bind {
        /// What was asked for.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Other machines could reach the server, and nothing would ask them who they are.
    #[error(
        "refusing to listen on {address}: it can be reached from other machines, and this server asks nobody to log in. \
         Make a tenant with `vivarium tenant add NAME`, or listen on 127.0.0.1 and let a reverse proxy or an SSH tunnel authenticate people, or say \
         --allow-unauthenticated-remote if everybody who can reach it may use it"
    )]
    Unauthenticated {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// `--front-end-root` is no folder that can be read.
    #[error("the front end folder {} cannot be opened: {source}; --front-end-root must name the folder that holds index.html", path.display())]
    FrontEnd {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file named in the settings cannot be used.
    #[error("{what} {} cannot be used: {reason}", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// As given.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A setting has a value that means nothing.
    #[error("{setting} {value:?} is not usable: {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// Why.
        reason: &'static str,
    },
    /// The file of tenants cannot be used.
    #[error(transparent)]
    Tenants(#[from] RegistryError),
    /// The listener broke while serving.
    #[error("the server stopped: {0}")]
    Serve(#[from] std::io::Error),
}

/// An answer that says no.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Body,
    retry_after_seconds: Option<u32>,
}

#[derive(Debug)]
enum Body {
    Empty,
    Text(Cow<'static, str>),
    Json(Value),
}

impl ApiError {
    /// An answer in ComfyUI's error shape: `{"error": {"type", "message", "details", "extra_info"}}`.
    pub fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        let error = PromptError::new(kind, message, "");
        Self::with_body(status, Body::Json(json!({ "error": error, "node_errors": {} })))
    }

    /// A plain-text answer, where ComfyUI has one.
    pub fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self::with_body(status, Body::Text(text.into()))
    }

    /// Only a status.
    pub fn empty(status: StatusCode) -> Self {
        Self::with_body(status, Body::Empty)
    }

    /// A JSON answer of another shape, where ComfyUI has one.
    pub fn json(status: StatusCode, body: Value) -> Self {
        Self::with_body(status, Body::Json(body))
    }

    /// 400 with a sentence that names the thing.
    pub fn bad_request(kind: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }

    /// 404 with a sentence that names the thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 413 as aiohttp words it.
    pub fn too_large(limit: u64) -> Self {
        Self::text(StatusCode::PAYLOAD_TOO_LARGE, format!("Maximum request body size {limit} exceeded."))
    }

    /// A failure of ours. The cause goes to the log, not to the client: it may name paths.
    pub fn internal(doing: &str, cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "{doing} failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            format!("{doing} failed; the server's log says why"),
        )
    }

    /// Tells the client when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn with_body(status: StatusCode, body: Body) -> Self {
        Self { status, body, retry_after_seconds: None }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Body::Empty => self.status.into_response(),
            Body::Text(text) => {
                (self.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
            }
            Body::Json(value) => json_response(self.status, &value),
        };
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        match serde_json::to_value(&invalid) {
            Ok(body) => Self::json(StatusCode::BAD_REQUEST, body),
            Err(error) => Self::internal("writing the validation errors", error),
        }
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        Invalid::from(error).into()
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let (status, kind) = match &error {
            BlobError::Name { problem: PathProblem::ParentDirectory | PathProblem::Absolute, .. }
            | BlobError::Outside { .. } => (StatusCode::FORBIDDEN, "outside_folder"),
            BlobError::Name { .. } | BlobError::ScratchName { .. } => (StatusCode::BAD_REQUEST, "bad_name"),
            BlobError::NotFound { .. } | BlobError::NoFolder { .. } => (StatusCode::NOT_FOUND, "not_found"),
            BlobError::Exists { .. } | BlobError::NoFreeName { .. } => (StatusCode::CONFLICT, "exists"),
            BlobError::IsDirectory { .. } | BlobError::NotAFile { .. } => (StatusCode::FORBIDDEN, "not_a_file"),
            BlobError::NotADirectory { .. } => (StatusCode::BAD_REQUEST, "not_a_directory"),
            BlobError::TooLarge { .. } | BlobError::ScratchFull { .. } | BlobError::TooManyFiles { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            BlobError::Quota { .. } => {
                let message = raise(&error, "--storage");
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "storage_quota", message);
            }
            BlobError::User { .. } => (StatusCode::BAD_REQUEST, "bad_user"),
            BlobError::UnknownUser { .. } => (StatusCode::UNAUTHORIZED, "unknown_user"),
            BlobError::DiskFull { .. } => {
                tracing::error!(%error, "a disk is full");
                return Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", DISK_FULL);
            }
            BlobError::Settings { .. } | BlobError::Denied { .. } | BlobError::Io { .. } => {
                return Self::internal("using a file", error);
            }
        };
        Self::new(status, kind, error.to_string())
    }
}

/// What a quota says, and how it is raised.
fn raise(error: &dyn fmt::Display, flag: &str) -> String {
    format!("{error}. The operator can raise a tenant's quota with `vivarium tenant quota NAME {flag} N`")
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            // A prompt takes seconds; whoever waits less only asks in vain.
            QueueError::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", raise(&error, "--queue-length")).retry_after(5)
            }
            QueueError::Spent { retry_after_seconds, what, .. } => {
                let (flag, kind) = match what {
                    "GPUs" => ("--gpu-seconds", "gpu_seconds_used_up"),
                    _ => ("--cpu-seconds", "cpu_seconds_used_up"),
                };
                let message = raise(&error, flag);
                Self::new(StatusCode::TOO_MANY_REQUESTS, kind, message).retry_after(retry_after_seconds)
            }
            QueueError::Number { .. } => Self::bad_request("bad_number", error.to_string()),
            QueueError::DiskFull { .. } => {
                tracing::error!(%error, "a disk is full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", DISK_FULL)
            }
            other => Self::internal("using the queue", other),
        }
    }
}

impl From<CodecError> for ApiError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "image_too_large", error.to_string())
            }
            CodecError::UnknownFormat | CodecError::Unreadable { .. } | CodecError::Argument { .. } => {
                Self::bad_request("bad_image", error.to_string())
            }
            CodecError::Unwritable { .. } | CodecError::GivenUp => Self::internal("encoding an image", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_machine_do_not_show_its_paths() {
        let source = std::io::Error::other("boom");
        let error = ApiError::from(BlobError::Io { doing: "open", path: "/secret/place".into(), source });
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!format!("{error:?}").contains("secret"));
    }

    #[test]
    fn errors_of_names_say_what_is_wrong() {
        let name = || "a".to_owned();
        for (error, status) in [
            (BlobError::NotFound { name: name() }, 404),
            (BlobError::Outside { name: name() }, 403),
            (BlobError::Exists { name: name() }, 409),
            (BlobError::Name { name: name(), problem: PathProblem::Backslash }, 400),
            (BlobError::Name { name: name(), problem: PathProblem::ParentDirectory }, 403),
        ] {
            let sentence = error.to_string();
            let answer = ApiError::from(error);
            assert_eq!(answer.status().as_u16(), status);
            assert!(format!("{answer:?}").contains(&format!("{sentence:?}")[1..10]), "{sentence}");
        }
    }
}
