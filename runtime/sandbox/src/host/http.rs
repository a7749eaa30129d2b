//! `http`: requests to hosts that were granted. The services know which; here they are counted and charged.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use vivarium_outbound::Bounds;

use super::{
    HostState,
    state::{interrupted, limit_error, to_guest},
};
use crate::bindings::vivarium::node::{
    http::{self, Request, Response},
    types::Error,
};

impl http::Host for HostState {
    fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, Error>> {
        Ok(self.send_request(request))
    }
}

impl HostState {
    fn send_request(&mut self, request: Request) -> Result<Response, Error> {
        if self.interrupted() {
            return Err(interrupted());
        }
        let limits = self.call.limits.clone();
        self.http_requests += 1;
        if self.http_requests > limits.http_requests {
            return Err(limit_error(format!(
                "this node sent {} HTTP requests, the limit (http_requests, limits.toml)",
                limits.http_requests
            )));
        }
        let bytes = request.body.len() as u64;
        if bytes > limits.http_request_bytes {
            return Err(limit_error(format!(
                "the request has {bytes} bytes, more than the limit of {} (http_request_bytes, limits.toml)",
                limits.http_request_bytes
            )));
        }
        self.charge_transfer(bytes)?;
        let bounds = Bounds {
            response_bytes: limits.http_response_bytes,
            redirects: limits.http_redirects,
            time: limits.http_time.min(self.time_left()),
            at_once: limits.http_at_once,
        };
        // What arrives lies in the host until the guest has it.
        let _held = self.op().budget.charge(bounds.response_bytes).map_err(|refused| {
            limit_error(format!("there is no room for an answer (http_response_bytes, limits.toml): {refused}"))
        })?;
        let request = vivarium_outbound::Request {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
        };
        let (interrupt, deadline) = (self.interrupt_flag(), self.deadline);
        let stop = move || interrupt.load(Ordering::Relaxed) || Instant::now() >= deadline;
        let answer = self.call.services.http(&self.pack, request, &bounds, &stop).map_err(|error| to_guest(&error))?;
        let headers: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.charge_transfer((headers + answer.body.len()) as u64)?;
        Ok(Response { status: answer.status, url: answer.url, headers: answer.headers, body: answer.body })
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
