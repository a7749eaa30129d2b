//! Why there is no answer.

use std::{net::IpAddr, time::Duration};

/// Everything that can go wrong in this crate. Hosts and headers in messages are the asker's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Nothing leaves this machine.
    #[error("the server is offline (--offline): no request leaves it")]
    Offline,
    /// Not an address that can be asked.
    #[error("{url:?} cannot be asked: {reason}")]
    InvalidUrl {
        /// Cut to what a message takes.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Not a method, or a body that the method does not have.
    #[error("{message}")]
    Method {
        /// What is wrong.
        message: String,
    },
    /// A header that is malformed, or that is not the asker's to set.
    #[error("the header {name:?} {reason}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// No rule names the host.
    #[error("no permission to reach {host} at port {port}")]
    HostNotAllowed {
        /// As the address spells it.
        host: String,
        /// The port.
        port: u16,
        /// That of the scheme, which a permission need not name.
        usual_port: u16,
    },
    /// The name stands for an address that is nobody's to give away.
    #[error(
        "{host} leads to {address}, which is {what}; a permission that names the address itself (http/{}) would allow it",
        bracketed(address)
    )]
    AddressNotAllowed {
        /// The name.
        host: String,
        /// What it stands for.
        address: IpAddr,
        /// What that is.
        what: &'static str,
    },
    /// There is no such name.
    #[error("the host {host} cannot be found: {reason}")]
    NotFound {
        /// The name.
        host: String,
        /// The system's words.
        reason: String,
    },
    /// More redirects than allowed.
    #[error("more than {limit} redirects (http_redirects, limits.toml)")]
    Redirects {
        /// The limit.
        limit: u64,
    },
    /// A redirect that is not followed.
    #[error("redirected to {to}: {reason}")]
    Redirect {
        /// Where to.
        to: String,
        /// Why not.
        reason: Box<HttpError>,
    },
    /// A redirect from https to http.
    #[error("that is not encrypted, and the first address was")]
    Downgrade,
    /// A larger answer than allowed.
    #[error("the answer has more than {limit} bytes (http_response_bytes, limits.toml)")]
    ResponseTooLarge {
        /// The limit.
        limit: u64,
    },
    /// It took too long.
    #[error("no complete answer within {} ms (http_time, limits.toml)", limit.as_millis())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// Too many at the same time.
    #[error("{limit} requests are under way already (http_at_once, limits.toml)")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// Nobody wants the answer any more.
    #[error("interrupted")]
    Interrupted,
    /// Connection, encryption or protocol failed.
    #[error("asking {host} failed: {reason}")]
    Failed {
        /// The host.
        host: String,
        /// What happened.
        reason: String,
    },
}

fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V6(address) => format!("[{address}]"),
        IpAddr::V4(address) => address.to_string(),
    }
}
