//! A client for servers that shall not use the network.

use vivarium_protocol::host_rule::HostRule;

use crate::{Bounds, HttpClient, HttpError, Request, Response};

/// Refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

impl HttpClient for Offline {
    fn send(
        &self,
        _account: &str,
        _request: Request,
        _rules: &[HostRule],
        _bounds: &Bounds,
        _stop: &dyn Fn() -> bool,
    ) -> Result<Response, HttpError> {
        Err(HttpError::Offline)
    }
}
