//! What an operator can set about the server, and every limit it keeps, with the defaults and their reasons.
//!
//! Folders are not here: they belong to the blob store, which resolves every path of a tenant.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use vivarium_image_codec::DecodeLimits;
use vivarium_worker::report::LimitReport;

/// Settings of the HTTP server. `Default` is a server for one person on this machine.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// IP addresses or host names to listen on.
    pub listen: Vec<String>,
    /// TCP port for all of them; 0 lets the system choose.
    pub port: u16,
    /// Lets `serve` listen where other machines can reach it, although nobody has to log in.
    pub allow_unauthenticated_remote: bool,
    /// The file of tenants (see [`crate::auth::Registry`]). Without one nobody ever has to log in.
    pub tenants_file: Option<PathBuf>,
    /// Host names, beside `localhost` and IP addresses, that browsers may know this server by (a reverse proxy's name).
    pub allowed_hosts: Vec<String>,
    /// Whether a tenant has several users, of which the header `comfy-user` names one.
    pub multi_user: bool,
    /// `--enable-cors-header`: the web origin whose pages may call this server, or `*` for all of them.
    pub cors_origin: Option<String>,
    /// The largest request body in bytes, uploads included.
    pub max_upload_size: u64,
    /// Whether `max_upload_size` was given by the operator: ComfyUI then shows it as a float.
    pub max_upload_size_given: bool,
    /// Compress JSON and text answers for clients that accept it.
    pub compress_responses: bool,
    /// A folder with the official front end (or any other); the embedded page is served when there is none.
    pub front_end_root: Option<PathBuf>,
    /// The workflow that `/vivarium/example-workflow` hands out, instead of the built-in one.
    pub example_workflow: Option<PathBuf>,
    /// The command line, as `/system_stats` shows it.
    pub argv: Vec<String>,
    /// What the server keeps to whatever clients do.
    pub limits: ServerLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1".to_owned()],
            port: 8188,
            allow_unauthenticated_remote: false,
            tenants_file: None,
            allowed_hosts: Vec::new(),
            multi_user: false,
            cors_origin: None,
            max_upload_size: 100 * 1024 * 1024,
            max_upload_size_given: false,
            compress_responses: false,
            front_end_root: None,
            example_workflow: None,
            argv: vec!["vivarium".to_owned(), "serve".to_owned()],
            limits: ServerLimits::default(),
        }
    }
}

impl ServerConfig {
    /// The limits that people should know of, as `/vivarium/limits` lists them.
    pub(crate) fn report(&self, sockets: u64) -> Vec<LimitReport> {
        let limits = &self.limits;
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let report = |name: &str, value: u64, unit: &str, description: &str| LimitReport {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            description: description.to_owned(),
            packs: BTreeMap::new(),
            used: None,
        };
        vec![
            report(
                "upload_size",
                self.max_upload_size,
                "bytes",
                "Largest request body; raise it with --max-upload-size",
            ),
            report(
                "view_pixels",
                limits.decode.max_pixels,
                "count",
                "Pixels of an image that /view or the mask editor decodes",
            ),
            LimitReport {
                used: Some(sockets),
                ..report("sockets", limits.sockets_per_tenant as u64, "count", "Open WebSockets per tenant")
            },
            report(
                "socket_messages",
                limits.socket_messages as u64,
                "count",
                "Messages waiting for one WebSocket before it is cut off",
            ),
            report(
                "socket_bytes",
                limits.socket_bytes as u64,
                "bytes",
                "Bytes waiting for one WebSocket before it is cut off",
            ),
            report(
                "connections",
                limits.connections as u64,
                "count",
                "Open connections; more wait. Raise it with --max-connections",
            ),
            report(
                "connections_per_address",
                limits.connections_per_address as u64,
                "count",
                "Open connections from one address but this machine's own; raise it with --max-connections-per-address",
            ),
            report(
                "header_timeout",
                milliseconds(limits.header_timeout),
                "ms",
                "How long the head of a request may take, and how long a connection may be idle",
            ),
            report(
                "body_rate",
                limits.body_bytes_per_second,
                "bytes/s",
                "How fast a request's body has to come, after half a minute of waiting",
            ),
            report(
                "replay_age",
                milliseconds(limits.replay_age),
                "ms",
                "How long events are kept for a client that lost its connection",
            ),
        ]
    }
}

/// Limits of the server. Limits of nodes and tensors are the worker's.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Messages waiting for one socket; when more come, the socket is cut off. A client that reads loses nothing: 4096
    /// events are minutes of work.
    pub socket_messages: usize,
    /// Bytes waiting for one socket, previews included.
    pub socket_bytes: usize,
    /// Previews waiting for one socket; the oldest is dropped for a newer one.
    pub socket_previews: usize,
    /// How long one write to a socket may take before the socket is cut off.
    pub socket_write_timeout: Duration,
    /// Open sockets per tenant.
    pub sockets_per_tenant: usize,
    /// The largest message that a client may send on a socket, in bytes.
    pub socket_incoming_bytes: usize,
    /// Client ids per tenant whose events are kept for a reconnect.
    pub replay_clients: usize,
    /// Events kept per client id.
    pub replay_events: usize,
    /// Bytes of events kept per client id.
    pub replay_bytes: usize,
    /// How long events are kept after the socket went away.
    pub replay_age: Duration,
    /// The longest client id in bytes.
    pub client_id_bytes: usize,
    /// Open connections, WebSockets among them, over all addresses. More wait until others end.
    pub connections: usize,
    /// Open connections from one address (IPv6: one network of 64 bits); more are turned away. Not for loopback, where a
    /// reverse proxy's come from.
    pub connections_per_address: usize,
    /// How long the head of a request may take, counted from the end of the one before: so also how long a connection
    /// may be idle. As long as ComfyUI keeps idle ones.
    pub header_timeout: Duration,
    /// How long a request's body may be waited for, beyond the time that its bytes earn.
    pub body_grace: Duration,
    /// Bytes of a body that earn a second.
    pub body_bytes_per_second: u64,
    /// How long a client may take nothing of what is sent to it (Linux only).
    pub stalled_write_timeout: Duration,
    /// How long running prompts get to end when the server stops; then they go back into the queue.
    pub prompt_grace: Duration,
    /// How long open requests and sockets get to finish when the server stops.
    pub shutdown_grace: Duration,
    /// Log lines kept for `/internal/logs`.
    pub log_lines: usize,
    /// What `/view` decodes for previews and channels, and `/upload/mask` for composing.
    pub decode: DecodeLimits,
    /// The largest file in bytes that is read for that: it is whole in memory then.
    pub image_file_bytes: u64,
    /// Images decoded at the same time, over all tenants.
    pub concurrent_decodes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            socket_messages: 4096,
            socket_bytes: 32 * 1024 * 1024,
            socket_previews: 8,
            socket_write_timeout: Duration::from_secs(30),
            sockets_per_tenant: 4096,
            socket_incoming_bytes: 4 * 1024 * 1024,
            replay_clients: 256,
            replay_events: 2048,
            replay_bytes: 1024 * 1024,
            replay_age: Duration::from_secs(300),
            client_id_bytes: 256,
            connections: 16_384,
            connections_per_address: 1024,
            header_timeout: Duration::from_secs(75),
            body_grace: Duration::from_secs(30),
            body_bytes_per_second: 1024,
            stalled_write_timeout: Duration::from_secs(60),
            prompt_grace: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(10),
            log_lines: 300,
            decode: DecodeLimits::default(),
            image_file_bytes: 512 * 1024 * 1024,
            concurrent_decodes: 4,
        }
    }
}
