//! HTTP requests that leave this machine on behalf of somebody who is not trusted.
//!
//! A request goes to a host that a rule names, and to an address that is either public or named by a rule itself. The name is
//! resolved once and the connection made to what was checked, so a name that changes its mind leads nowhere. Redirects are
//! requests of their own. There are no cookies, no proxies, no connections that are kept, no compression.
//!
//! Not here: who was granted which host (packs), what nodes may spend on it (sandbox). [`HttpClient`] is all that the others
//! know, and takes and gives plain data, so that the process that runs nodes need not be the one that has the network.
//!
//! # Layout
//! - [`request`](Request): requests, answers, and what requests may hold
//! - [`error`](HttpError): why there is no answer
//! - [`target`]: from an address to host, port and path; redirects
//! - [`address`]: which addresses are nobody's own
//! - [`client`](Outbound): the client
//! - [`offline`](Offline): the one that refuses

#![forbid(unsafe_code)]

pub mod address;
mod client;
mod error;
mod offline;
mod request;
pub mod target;

pub use client::{Outbound, Resolve, SystemResolver};
pub use error::HttpError;
pub use offline::Offline;
pub use request::{Bounds, HttpClient, Request, Response};
