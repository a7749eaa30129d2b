//! The HTTP and WebSocket server: ComfyUI's protocol in front of a queue, a worker and the files of tenants.
//!
//! It translates: requests into calls, results and errors into what ComfyUI's clients read, events into frames. It decides
//! who may call (the guard), what may be shown in a browser (user bytes) and what a slow client loses (the outbox). It knows
//! nothing of graphs, nodes or tensors, and never waits for a prompt to run.
//!
//! ```no_run
//! # async fn example(parts: vivarium_server::Parts) -> Result<(), vivarium_server::ServerError> {
//! let config = vivarium_server::ServerConfig::default();
//! let listeners = vivarium_server::bind(&config).await?;
//! let state = vivarium_server::AppState::new(config, parts)?;
//! vivarium_server::serve(listeners, state, async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await
//! # }
//! ```
//!
//! # Layout
//! A request passes, outermost first: `access_log` → `guard` → the gate of [`auth`] → `slow_body` → `caching` → `routes` → a handler.
//! - [`config`]: settings and limits with their defaults
//! - [`state`]: what handlers can reach
//! - `serve`, `connections`: listening and stopping; how many connections, and how idle
//! - `service`: what every request passes
//! - `routes`: the table of routes, and a file per group of handlers
//! - [`auth`], `tenant`: whose request it is, and what it may do; tokens, scopes, quotas, the login page
//! - `guard`: which web pages may call; CORS
//! - `user_bytes`, `serve_file`: what browsers may show of files, and HTTP's way with files
//! - `front_end`: static files; `legacy`: a warning about deprecated ones
//! - `ws`, [`hub`], `outbox`, `replay`: sockets, who gets which event, what a slow one loses, what a lost one gets again
//! - `frames`, `crowd`: a message made once for all sockets; what thousands of them hear, and when
//! - `models`: what is shown of model files
//! - `node_schema`, `openapi`: inputs of nodes as JSON Schema; the routes as an OpenAPI document
//! - [`logs`]: the last lines of the log
//! - [`error`], `json`: the one place where errors become answers; JSON in and out

#![forbid(unsafe_code)]

mod access_log;
pub mod auth;
mod caching;
pub mod config;
mod connections;
mod crowd;
pub mod error;
mod frames;
mod front_end;
mod guard;
pub mod hub;
mod json;
mod legacy;
pub mod logs;
mod models;
mod node_schema;
mod openapi;
mod outbox;
mod replay;
mod routes;
mod serve;
mod serve_file;
mod service;
mod slow_body;
pub mod state;
mod tenant;
#[cfg(test)]
mod tests;
mod user_bytes;
mod ws;

pub use config::{ServerConfig, ServerLimits};
pub use error::ServerError;
pub use hub::Hub;
pub use logs::{LogRing, LogWriter};
pub use serve::{bind, serve};
pub use service::Application;
pub use state::{AppState, Parts};
