//! The file of tenants as the running server sees it, and failed attempts.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use vivarium_protocol::tenant::TenantId;

use super::{Quotas, Registry, RegistryError, Scope, Tenants, Token, now};
use crate::config::ServerConfig;

/// How often the file is looked at, at most: a revoked token works no longer than this.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Wrong tokens from one address within [`FAILURES_WITHIN`] before it has to wait.
const MAX_FAILURES: u32 = 10;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond that all are forgotten. Tokens cannot be guessed anyway: this keeps the log and the work small.
const MAX_ADDRESSES: usize = 10_000;

/// Who sent a request and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tenant: TenantId,
    scopes: Vec<Scope>,
    /// The token's hash; nobody logged in without.
    token: Option<String>,
}

impl Access {
    /// Everything, as the default tenant: for a server without tenants.
    pub(crate) fn open() -> Self {
        Self { tenant: TenantId::default_tenant(), scopes: vec![Scope::Submit, Scope::Read, Scope::Admin], token: None }
    }

    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    pub(crate) fn scopes(&self) -> String {
        self.scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It shows no token.
    Missing,
    /// It shows one that is unknown, revoked or expired.
    Wrong,
    /// Too many wrong ones came from there.
    TooMany {
        /// When to try again.
        seconds: u32,
    },
    /// Nobody can log in, and it does not come from this machine.
    Remote,
}

/// See the [module](super).
pub(crate) struct Accounts {
    registry: Option<Registry>,
    allow_remote: bool,
    seen: RwLock<Seen>,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

struct Seen {
    stamp: Option<Stamp>,
    looked: Instant,
    tenants: Arc<Tenants>,
    /// From the hash of a token to its tenant and its place there.
    tokens: HashMap<String, (TenantId, usize)>,
    /// Never false again once it was true.
    required: bool,
}

type Stamp = (SystemTime, u64, u64);

impl Seen {
    fn take(&mut self, tenants: Tenants) {
        self.required |= !tenants.tenants.is_empty();
        self.tokens = tenants
            .tenants
            .iter()
            .flat_map(|(name, tenant)| tenant.tokens.iter().enumerate().map(move |found| (name, found)))
            .map(|(name, (index, token))| (token.sha256.clone(), (name.clone(), index)))
            .collect();
        self.tenants = Arc::new(tenants);
    }
}

impl Accounts {
    /// Reads the file. Without one there are no tenants, and there never will be.
    pub(crate) fn open(registry: Option<Registry>, allow_remote: bool) -> Result<Self, RegistryError> {
        let mut seen = Seen {
            stamp: registry.as_ref().and_then(stamp),
            looked: Instant::now(),
            tenants: Arc::default(),
            tokens: HashMap::new(),
            required: false,
        };
        if let Some(registry) = &registry {
            seen.take(registry.read()?);
        }
        Ok(Self { registry, allow_remote, seen: RwLock::new(seen), failures: Mutex::default() })
    }

    /// As the settings say.
    pub(crate) fn of(config: &ServerConfig) -> Result<Self, RegistryError> {
        Self::open(config.tenants_file.as_ref().map(Registry::at), config.allow_unauthenticated_remote)
    }

    /// Whether requests must show a token.
    pub(crate) fn required(&self) -> bool {
        self.look();
        self.seen.read().required
    }

    /// The quotas of a tenant; none while nobody has to log in. What a removed tenant left in the queue keeps to the defaults.
    pub(crate) fn quotas(&self, tenant: &TenantId) -> Option<Quotas> {
        self.look();
        let seen = self.seen.read();
        seen.required.then(|| seen.tenants.tenants.get(tenant).map(|tenant| tenant.quotas).unwrap_or_default())
    }

    /// Whose request it is. `local` says that it came over loopback.
    pub(crate) fn admit(&self, shown: Option<&str>, peer: Option<IpAddr>, local: bool) -> Result<Access, Denied> {
        if !self.required() {
            return if local || self.allow_remote { Ok(Access::open()) } else { Err(Denied::Remote) };
        }
        let shown = shown.ok_or(Denied::Missing)?;
        self.find(shown).ok_or_else(|| self.failed(peer))
    }

    /// As [`Accounts::admit`] for the login page, where an address that failed too often waits even with a good token.
    pub(crate) fn log_in(&self, shown: &str, peer: Option<IpAddr>) -> Result<Access, Denied> {
        self.look();
        if let Some(seconds) = self.waits(peer) {
            return Err(Denied::TooMany { seconds });
        }
        self.find(shown).ok_or_else(|| self.failed(peer))
    }

    /// When a token ends, in seconds from now; `None` when it does not.
    pub(crate) fn lasts(&self, access: &Access) -> Option<u64> {
        let hash = access.token.as_ref()?;
        let seen = self.seen.read();
        let (tenant, index) = seen.tokens.get(hash)?;
        let token = seen.tenants.tenants.get(tenant)?.tokens.get(*index)?;
        token.expires.map(|expires| expires.saturating_sub(now()))
    }

    /// Whether what was admitted would be admitted still; for connections that stay.
    pub(crate) fn still_good(&self, access: &Access) -> bool {
        self.look();
        match &access.token {
            None => !self.seen.read().required,
            Some(hash) => self.by_hash(hash).is_some(),
        }
    }

    fn find(&self, shown: &str) -> Option<Access> {
        self.by_hash(&Token::parse(shown)?.hash())
    }

    fn by_hash(&self, hash: &str) -> Option<Access> {
        let seen = self.seen.read();
        let (tenant, index) = seen.tokens.get(hash)?;
        let token = seen.tenants.tenants.get(tenant)?.tokens.get(*index)?;
        if token.is_expired(now()) {
            return None;
        }
        Some(Access { tenant: tenant.clone(), scopes: token.scopes.clone(), token: Some(hash.to_owned()) })
    }

    fn failed(&self, peer: Option<IpAddr>) -> Denied {
        if let Some(seconds) = self.waits(peer) {
            return Denied::TooMany { seconds };
        }
        let mut failures = self.failures.lock();
        if failures.len() >= MAX_ADDRESSES {
            failures.clear();
        }
        let (count, _) = failures.entry(address(peer)).or_insert((0, Instant::now()));
        *count += 1;
        tracing::warn!(failures = *count, "a wrong or expired token was shown");
        Denied::Wrong
    }

    fn waits(&self, peer: Option<IpAddr>) -> Option<u32> {
        let mut failures = self.failures.lock();
        let (count, first) = *failures.get(&address(peer))?;
        let rest = FAILURES_WITHIN.saturating_sub(first.elapsed());
        if rest.is_zero() {
            failures.remove(&address(peer));
            return None;
        }
        (count >= MAX_FAILURES).then(|| u32::try_from(rest.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Reads the file again if it changed. A file that cannot be read changes nothing.
    fn look(&self) {
        let Some(registry) = &self.registry else { return };
        if self.seen.read().looked.elapsed() < LOOK_EVERY {
            return;
        }
        let mut seen = self.seen.write();
        if seen.looked.elapsed() < LOOK_EVERY {
            return;
        }
        seen.looked = Instant::now();
        let stamp = stamp(registry);
        if stamp == seen.stamp {
            return;
        }
        match registry.read() {
            Ok(tenants) => {
                seen.stamp = stamp;
                seen.take(tenants);
            }
            Err(error) => tracing::error!(%error, "the tenants stay as they were"),
        }
    }
}

fn stamp(registry: &Registry) -> Option<Stamp> {
    let metadata = fs::metadata(registry.path()).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}

fn address(peer: Option<IpAddr>) -> IpAddr {
    peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), household)
}

/// The address that stands for a peer's: a household of IPv6 addresses counts as one.
pub(crate) fn household(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn registry(folder: &tempfile::TempDir) -> (Registry, TenantId, Token) {
        let registry = Registry::at(folder.path().join("tenants.json"));
        let alice: TenantId = "alice".parse().unwrap();
        let (token, _) = registry
            .change(|tenants| {
                tenants.add(&alice, Quotas::default())?;
                tenants.add_token(&alice, &[Scope::Read], None)
            })
            .unwrap();
        (registry, alice, token)
    }

    fn wait() {
        std::thread::sleep(LOOK_EVERY + Duration::from_millis(50));
    }

    #[test]
    fn what_was_closed_does_not_open_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, alice, token) = registry(&folder);
        let accounts = Accounts::open(Some(registry.clone()), true).unwrap();
        let access = accounts.admit(Some(token.reveal()), None, true).unwrap();
        assert_eq!(access.tenant, alice);
        assert!(access.allows(Scope::Read) && !access.allows(Scope::Submit));
        assert_eq!(accounts.admit(None, None, true).unwrap_err(), Denied::Missing);
        registry.change(|tenants| tenants.remove(&alice)).unwrap();
        wait();
        assert!(!accounts.still_good(&access));
        assert_eq!(accounts.admit(Some(token.reveal()), None, true).unwrap_err(), Denied::Wrong);
        assert_eq!(accounts.admit(None, None, true).unwrap_err(), Denied::Missing);
    }

    #[test]
    fn the_first_tenant_closes_a_running_server_and_a_damaged_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tenants.json");
        let accounts = Accounts::open(Some(Registry::at(&path)), false).unwrap();
        let access = accounts.admit(None, None, true).unwrap();
        assert_eq!(accounts.admit(None, None, false).unwrap_err(), Denied::Remote);
        assert!(accounts.still_good(&access) && accounts.quotas(&access.tenant).is_none());
        let (_, alice, token) = registry(&folder);
        wait();
        assert!(!accounts.still_good(&access));
        assert_eq!(accounts.admit(None, None, true).unwrap_err(), Denied::Missing);
        fs::write(&path, "nonsense").unwrap();
        wait();
        assert_eq!(accounts.admit(Some(token.reveal()), None, true).unwrap().tenant, alice);
    }

    #[test]
    fn wrong_tokens_are_counted_per_address() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, _, token) = registry(&folder);
        let accounts = Accounts::open(Some(registry), false).unwrap();
        let (bad, other) = (Some("192.0.2.1".parse().unwrap()), Some("192.0.2.2".parse().unwrap()));
        for _ in 0..MAX_FAILURES {
            assert_eq!(accounts.log_in("wrong", bad).unwrap_err(), Denied::Wrong);
        }
        assert!(matches!(accounts.log_in(token.reveal(), bad), Err(Denied::TooMany { .. })));
        assert!(matches!(accounts.admit(Some("wrong"), bad, false), Err(Denied::TooMany { .. })));
        // Programs of the same address go on working.
        assert!(accounts.admit(Some(token.reveal()), bad, false).is_ok());
        assert!(accounts.log_in(token.reveal(), other).is_ok());
    }
}
