//! The client: one thread per request, so that whoever waits for an answer can stop waiting.

use std::{
    collections::HashMap,
    io::{self, Read},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ureq::{
    Agent,
    config::Config,
    http::{self, StatusCode, Uri, header},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};
use vivarium_protocol::host_rule::HostRule;

use crate::{
    Bounds, HttpClient, HttpError, Request, Response,
    address::not_public,
    request::{Checked, may_have_body},
    target::{Target, shown},
};

/// How often somebody who waits looks whether to go on.
const LOOK: Duration = Duration::from_millis(20);
/// What is waited beyond the limit for a thread that is about to notice it.
const GRACE: Duration = Duration::from_secs(1);
/// Of an answer; the largest that common servers send.
const RESPONSE_HEADER_BYTES: usize = 64 << 10;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;
const USER_AGENT: &str = concat!("vivarium/", env!("CARGO_PKG_VERSION"));

/// From names to addresses.
pub trait Resolve: Send + Sync {
    /// Every address of a name.
    ///
    /// # Errors
    /// There is no such name, or nobody to ask.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// As this machine does it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// The client that uses the network.
pub struct Outbound {
    resolver: Arc<dyn Resolve>,
    under_way: Arc<Mutex<HashMap<String, u64>>>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::resolving_with(Arc::new(SystemResolver))
    }
}

impl Outbound {
    /// With another way to resolve names.
    #[must_use]
    pub fn resolving_with(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, under_way: Arc::default() }
    }
}

impl HttpClient for Outbound {
    fn send(
        &self,
        account: &str,
        request: Request,
        rules: &[HostRule],
        bounds: &Bounds,
        stop: &dyn Fn() -> bool,
    ) -> Result<Response, HttpError> {
        let (url, request) = Checked::of(request)?;
        let target = Target::parse(&url)?;
        allowed_host(&target, rules)?;
        let slot = Slot::take(&self.under_way, account, bounds.at_once)?;
        let host = target.host.clone();
        let stopped = Arc::new(AtomicBool::new(false));
        let exchange = Exchange {
            resolver: self.resolver.clone(),
            rules: rules.to_vec(),
            bounds: *bounds,
            deadline: Instant::now() + bounds.time,
            stopped: stopped.clone(),
        };
        let (sender, answer) = mpsc::sync_channel(1);
        let run = move || {
            // Held by the thread: a look-up that nobody waits for any more still is under way.
            let _slot = slot;
            // Nobody may wait any more.
            sender.send(exchange.run(target, request)).ok();
        };
        let failed = |reason: String| HttpError::Failed { host: host.clone(), reason };
        thread::Builder::new()
            .name("outbound".into())
            .spawn(run)
            .map_err(|error| failed(format!("no thread for it: {error}")))?;
        let give_up = Instant::now() + bounds.time + GRACE;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(failed("the client failed".into())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let reason = match (stop(), Instant::now() >= give_up) {
                (true, _) => HttpError::Interrupted,
                (false, true) => HttpError::Timeout { limit: bounds.time },
                (false, false) => continue,
            };
            stopped.store(true, Ordering::Relaxed);
            return Err(reason);
        }
    }
}

/// One of an account's requests under way.
struct Slot {
    under_way: Arc<Mutex<HashMap<String, u64>>>,
    account: String,
}

impl Slot {
    fn take(under_way: &Arc<Mutex<HashMap<String, u64>>>, account: &str, limit: u64) -> Result<Self, HttpError> {
        let mut counts = under_way.lock();
        let count = counts.entry(account.to_owned()).or_default();
        if *count >= limit {
            return Err(HttpError::TooMany { limit });
        }
        *count += 1;
        Ok(Self { under_way: under_way.clone(), account: account.to_owned() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.under_way.lock();
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

fn allowed_host(target: &Target, rules: &[HostRule]) -> Result<(), HttpError> {
    if rules.iter().any(|rule| rule.covers(&target.host, target.port, target.usual_port)) {
        return Ok(());
    }
    Err(HttpError::HostNotAllowed { host: target.host.clone(), port: target.port, usual_port: target.usual_port })
}

/// One request with its redirects.
struct Exchange {
    resolver: Arc<dyn Resolve>,
    rules: Vec<HostRule>,
    bounds: Bounds,
    deadline: Instant,
    stopped: Arc<AtomicBool>,
}

impl Exchange {
    fn run(&self, mut target: Target, mut request: Checked) -> Result<Response, HttpError> {
        let mut addresses = self.addresses(&target)?;
        for hop in 0.. {
            let response = self.ask(&target, &request, &addresses)?;
            let status = response.status();
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            let Some(location) = location.filter(|_| is_redirect(status)) else {
                return self.read(&target, response);
            };
            if hop >= self.bounds.redirects {
                return Err(HttpError::Redirects { limit: self.bounds.redirects });
            }
            let (next, its_addresses) = self
                .follow(&target, location)
                .map_err(|reason| HttpError::Redirect { to: shown(location), reason: Box::new(reason) })?;
            if !target.same_origin(&next) {
                request.without_what_is_private();
            }
            if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                request.as_get();
            }
            (target, addresses) = (next, its_addresses);
        }
        Err(HttpError::Redirects { limit: self.bounds.redirects })
    }

    /// A redirect has to be allowed as if it had been asked for.
    fn follow(&self, from: &Target, location: &str) -> Result<(Target, Vec<SocketAddr>), HttpError> {
        let next = from.redirect(location)?;
        if from.is_encrypted() && !next.is_encrypted() {
            return Err(HttpError::Downgrade);
        }
        allowed_host(&next, &self.rules)?;
        let addresses = self.addresses(&next)?;
        Ok((next, addresses))
    }

    /// The addresses of a host that may be connected to. Looked up once: what is checked is what is used.
    fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, HttpError> {
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, target.port)],
            Err(_) => self.resolver.resolve(host, target.port).map_err(|error| HttpError::NotFound {
                host: target.host.clone(),
                reason: shown(&error.to_string()),
            })?,
        };
        if self.out_of_time() {
            return Err(HttpError::Timeout { limit: self.bounds.time });
        }
        let named =
            |address: IpAddr| self.rules.iter().any(|rule| rule.names_address(address, target.port, target.usual_port));
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found.into_iter().take(ADDRESSES) {
            match not_public(address.ip()) {
                Some(what) if !named(address.ip()) => {
                    refused =
                        Some(HttpError::AddressNotAllowed { host: target.host.clone(), address: address.ip(), what });
                }
                _ => allowed.push(SocketAddr::new(address.ip(), target.port)),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refused)) => Err(refused),
            (true, None) => Err(HttpError::NotFound { host: target.host.clone(), reason: "it has no address".into() }),
        }
    }

    fn ask(
        &self,
        target: &Target,
        request: &Checked,
        addresses: &[SocketAddr],
    ) -> Result<http::Response<ureq::Body>, HttpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // One of the environment would make the connection in our place, to wherever it likes.
            .proxy(None)
            .timeout_global(Some(left.max(Duration::from_millis(1))))
            .max_response_header_size(RESPONSE_HEADER_BYTES)
            .max_idle_connections(0)
            .user_agent(USER_AGENT)
            .accept_encoding("identity")
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), CheckedAddresses(addresses.to_vec()));
        let mut head = http::Request::builder().method(request.method.clone()).uri(target.uri.clone());
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        let invalid =
            |error: http::Error| HttpError::InvalidUrl { url: shown(&target.url()), reason: error.to_string() };
        let answer = match may_have_body(&request.method) {
            true => agent.run(head.body(request.body.as_slice()).map_err(invalid)?),
            false => agent.run(head.body(()).map_err(invalid)?),
        };
        answer.map_err(|error| self.explain(target, error))
    }

    fn read(&self, target: &Target, response: http::Response<ureq::Body>) -> Result<Response, HttpError> {
        let (head, body) = response.into_parts();
        let limit = self.bounds.response_bytes;
        let mut content = Vec::new();
        let mut reader = body.into_reader().take(limit.saturating_add(1));
        let mut block = [0; 16 << 10];
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(HttpError::Interrupted);
            }
            match reader.read(&mut block) {
                Ok(0) => break,
                Ok(read) => content.extend_from_slice(&block[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(target, error.into())),
            }
            if content.len() as u64 > limit {
                return Err(HttpError::ResponseTooLarge { limit });
            }
        }
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            Some((name.to_string(), value.to_str().ok()?.to_owned()))
        };
        Ok(Response {
            status: head.status.as_u16(),
            url: target.url(),
            headers: head.headers.iter().filter_map(text).collect(),
            body: content,
        })
    }

    fn out_of_time(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn explain(&self, target: &Target, error: ureq::Error) -> HttpError {
        match error {
            ureq::Error::Timeout(_) => HttpError::Timeout { limit: self.bounds.time },
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut && self.out_of_time() => {
                HttpError::Timeout { limit: self.bounds.time }
            }
            error => HttpError::Failed { host: target.host.clone(), reason: shown(&error.to_string()) },
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// Answers with addresses that were looked up and checked before.
#[derive(Debug)]
struct CheckedAddresses(Vec<SocketAddr>);

impl Resolver for CheckedAddresses {
    fn resolve(&self, _uri: &Uri, _config: &Config, _timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        self.0.iter().take(ADDRESSES).for_each(|address| addresses.push(*address));
        Ok(addresses)
    }
}
