//! What the operator granted. Asking for a permission grants nothing.

use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use vivarium_protocol::{host_rule::HostRule, permission::Permission, tenant::TenantId};

use crate::{
    PackError,
    secrets::SecretFile,
    store::{Grantee, PackState, PackStore},
};

/// How old the answer of a running server may be after `vivarium pack grant` or `revoke`.
const FRESH: Duration = Duration::from_millis(500);

/// One permission for one pack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The pack's name.
    pub pack: String,
    /// What it may do.
    pub permission: Permission,
}

impl FromStr for Grant {
    type Err = PackError;

    /// Reads `PACK:PERMISSION`.
    fn from_str(text: &str) -> Result<Self, PackError> {
        let invalid = |reason: String| PackError::InvalidGrant { text: text.to_owned(), reason };
        match text.split_once(':') {
            Some((pack, permission)) if !pack.is_empty() => {
                let permission = permission.parse().map_err(|error| invalid(format!("{error}")))?;
                Ok(Self { pack: pack.to_owned(), permission })
            }
            _ => Err(invalid("write PACK:PERMISSION, for example my-pack:models/vae".into())),
        }
    }
}

/// Every grant in force: those of the command line, and those of the store, which may change while a server runs.
#[derive(Debug, Default)]
pub struct Grants {
    every_tenant: HashSet<Grant>,
    kept: Option<Kept>,
    secrets: Option<SecretFile>,
}

#[derive(Debug)]
struct Kept {
    store: PackStore,
    state: Mutex<ReadState>,
}

#[derive(Debug, Default)]
struct ReadState {
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
    state: Arc<PackState>,
}

impl Grants {
    /// Grants that hold for every tenant.
    #[must_use]
    pub fn for_every_tenant(grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { every_tenant: grants.into_iter().collect(), ..Self::default() }
    }

    /// Those of a store too.
    #[must_use]
    pub fn with_store(self, store: PackStore) -> Self {
        Self { kept: Some(Kept { store, state: Mutex::default() }), ..self }
    }

    /// And the secrets that can be granted.
    #[must_use]
    pub fn with_secrets(self, secrets: SecretFile) -> Self {
        Self { secrets: Some(secrets), ..self }
    }

    /// A tenant's secret. Whether a pack may have it is for [`Grants::allows`] to say.
    ///
    /// # Errors
    /// The file of secrets cannot be read.
    pub fn secret(&self, tenant: &TenantId, name: &str) -> Result<Option<String>, PackError> {
        self.secrets.as_ref().map_or(Ok(None), |secrets| secrets.get(tenant, name))
    }

    /// Whether a pack has a permission when it works for a tenant.
    #[must_use]
    pub fn allows(&self, tenant: &TenantId, pack: &str, permission: &Permission) -> bool {
        let by_flag = || {
            let wanted = Grant { pack: pack.to_owned(), permission: permission.clone() };
            self.every_tenant.contains(&wanted)
        };
        by_flag() || self.kept.as_ref().is_some_and(|kept| kept.state().grants(tenant, pack, permission))
    }
}

impl Grants {
    /// Whether any pack has a permission when it works for a tenant: all that can be asked on behalf of a worker process, whose
    /// word about which pack is asking is worth nothing once a pack has broken out in it.
    #[must_use]
    pub fn allows_any(&self, tenant: &TenantId, permission: &Permission) -> bool {
        let holds = |grantee: &Grantee| match grantee {
            Grantee::EveryTenant => true,
            Grantee::Tenant(name) => name == tenant,
        };
        let kept = |state: Arc<PackState>| {
            let mut packs =
                state.grants.iter().filter(|(grantee, _)| holds(grantee)).flat_map(|(_, packs)| packs.values());
            packs.any(|granted| granted.contains(permission))
        };
        self.every_tenant.iter().any(|grant| grant.permission == *permission)
            || self.kept.as_ref().is_some_and(|kept_there| kept(kept_there.state()))
    }

    /// The hosts that a pack may reach when it works for a tenant.
    #[must_use]
    pub fn hosts(&self, tenant: &TenantId, pack: &str) -> Vec<HostRule> {
        let host = |permission: &Permission| match permission {
            Permission::Http { host } => Some(host.clone()),
            _ => None,
        };
        let by_flag = self.every_tenant.iter().filter(|grant| grant.pack == pack).map(|grant| &grant.permission);
        let mut hosts: Vec<HostRule> = by_flag.filter_map(host).collect();
        if let Some(kept) = &self.kept {
            let state = kept.state();
            let holds = |grantee: &Grantee| match grantee {
                Grantee::EveryTenant => true,
                Grantee::Tenant(name) => name == tenant,
            };
            hosts.extend(state.grants_of(pack).filter(|(grantee, _)| holds(grantee)).filter_map(|(_, one)| host(one)));
        }
        hosts
    }
}

impl Kept {
    /// The state as of half a second ago at most. A state that cannot be read grants nothing.
    fn state(&self) -> Arc<PackState> {
        let mut read = self.state.lock();
        if read.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return read.state.clone();
        }
        let stamp = stamp(&self.store.state_file());
        if read.looked.is_none() || stamp != read.stamp {
            read.state = Arc::new(self.store.read().unwrap_or_else(|error| {
                tracing::error!(%error, "grants cannot be read: nothing is granted");
                PackState::default()
            }));
        }
        read.stamp = stamp;
        read.looked = Some(Instant::now());
        read.state.clone()
    }
}

fn stamp(path: &PathBuf) -> Option<(SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    // The file is replaced with every change, so its number changes even where the clock of the disk is coarse.
    Some((metadata.modified().ok()?, metadata.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn vae() -> Permission {
        "models/vae".parse().unwrap()
    }

    #[test]
    fn nothing_is_granted_that_was_not_named() {
        let grants = Grants::for_every_tenant(["sampler:models/vae".parse().unwrap()]);
        let tenant = TenantId::default_tenant();
        assert!(grants.allows(&tenant, "sampler", &vae()));
        assert!(!grants.allows(&tenant, "sampler", &"models/checkpoints".parse().unwrap()));
        assert!(!grants.allows(&tenant, "sampler", &"models/vae/values".parse().unwrap()));
        assert!(!grants.allows(&tenant, "other", &vae()));
        assert!(!Grants::default().allows(&tenant, "sampler", &vae()));
    }

    #[test]
    fn a_grant_that_means_nothing_is_refused() {
        for text in ["", "x", "x:", ":models/vae", "x:models/", "x:models/a/b", "x:everything"] {
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts_are_those_of_the_pack_and_the_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let store = PackStore::at(folder.path());
        let (alice, bob): (TenantId, TenantId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        store
            .change(|state| {
                state.grant(Grantee::Tenant(alice.clone()), "x", "http/a.example".parse().unwrap());
                state.grant(Grantee::EveryTenant, "x", "http/b.example".parse().unwrap());
                state.grant(Grantee::EveryTenant, "y", "http/c.example".parse().unwrap());
                Ok(())
            })
            .unwrap();
        let grants = Grants::for_every_tenant(["x:http/d.example".parse().unwrap(), "x:scratch".parse().unwrap()]);
        let grants = grants.with_store(store);
        let hosts = |tenant: &TenantId, pack: &str| -> Vec<String> {
            let mut hosts: Vec<String> = grants.hosts(tenant, pack).iter().map(ToString::to_string).collect();
            hosts.sort();
            hosts
        };
        assert_eq!(hosts(&alice, "x"), ["a.example", "b.example", "d.example"]);
        assert_eq!(hosts(&bob, "x"), ["b.example", "d.example"]);
        assert_eq!(hosts(&bob, "y"), ["c.example"]);
        assert!(hosts(&bob, "z").is_empty());
    }

    #[test]
    fn a_running_server_notices_what_was_granted_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let store = PackStore::at(folder.path());
        let grants = Grants::default().with_store(store.clone());
        let tenant = TenantId::default_tenant();
        let soon = |wanted: bool| {
            let begun = Instant::now();
            while grants.allows(&tenant, "x", &vae()) != wanted {
                assert!(begun.elapsed() < Duration::from_secs(30));
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        soon(false);
        assert!(!grants.allows_any(&tenant, &vae()));
        let grant = |grantee: Grantee| {
            store
                .change(|state| {
                    state.grant(grantee, "x", vae());
                    Ok(())
                })
                .unwrap();
        };
        grant(Grantee::Tenant(tenant.clone()));
        soon(true);
        assert!(grants.allows_any(&tenant, &vae()) && !grants.allows_any(&"other".parse().unwrap(), &vae()));
        store.change(|state| Ok(state.revoke(&Grantee::Tenant(tenant.clone()), "x", None))).unwrap();
        soon(false);
        grant(Grantee::EveryTenant);
        soon(true);
        fs::write(store.state_file(), "damaged").unwrap();
        soon(false);
    }
}
