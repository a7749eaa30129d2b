//! Installed packs: the files, under their digests, and one file that says which of them are in force, whose keys are known
//! and what was granted.
//!
//! The file is replaced as a whole under a lock, so that a running server reads the old state or the new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vivarium_protocol::{permission::Permission, tenant::TenantId};

use crate::{PackError, file::PackFile, manifest::Request, signature::PublicKey};

/// Counted up with every change that older versions cannot read.
const FORMAT: u32 = 1;
const STATE_FILE: &str = "packs.json";

/// What is installed, known and granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackState {
    format: u32,
    /// By name.
    #[serde(default)]
    pub installed: BTreeMap<String, Installed>,
    /// What was learnt about a name when it was first installed. Survives removal.
    #[serde(default)]
    pub known: BTreeMap<String, Known>,
    /// Per tenant, per pack.
    #[serde(default)]
    pub grants: BTreeMap<Grantee, BTreeMap<String, BTreeSet<Permission>>>,
}

/// An installed pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its version.
    pub version: semver::Version,
    /// SHA-256 of its file, hexadecimal.
    pub digest: String,
    /// Who signed it.
    pub signer: Option<PublicKey>,
    /// What it asks for, as whoever installed it was told.
    pub requests: Vec<Request>,
    /// Seconds since 1970.
    pub installed: u64,
    /// The file, folder or address that it came from.
    pub source: String,
}

/// What is known about a name, whether or not it is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Who may publish under this name: whoever signed it first.
    pub signer: Option<PublicKey>,
    /// The highest version that was installed.
    pub highest: semver::Version,
}

/// To whom a permission is granted: the pack has it when it works for this tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grantee {
    /// All of them.
    EveryTenant,
    /// One of them.
    Tenant(TenantId),
}

impl TryFrom<String> for Grantee {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "*" => Ok(Self::EveryTenant),
            name => name.parse().map(Self::Tenant).map_err(|error| format!("{error}")),
        }
    }
}

impl From<Grantee> for String {
    fn from(grantee: Grantee) -> Self {
        match grantee {
            Grantee::EveryTenant => "*".to_owned(),
            Grantee::Tenant(tenant) => tenant.to_string(),
        }
    }
}

impl Default for PackState {
    fn default() -> Self {
        Self { format: FORMAT, installed: BTreeMap::new(), known: BTreeMap::new(), grants: BTreeMap::new() }
    }
}

impl PackState {
    /// Whether a pack has a permission when it works for a tenant.
    #[must_use]
    pub fn grants(&self, tenant: &TenantId, pack: &str, permission: &Permission) -> bool {
        let granted = |grantee: &Grantee| {
            self.grants.get(grantee).and_then(|packs| packs.get(pack)).is_some_and(|set| set.contains(permission))
        };
        granted(&Grantee::EveryTenant) || granted(&Grantee::Tenant(tenant.clone()))
    }

    /// Grants a permission.
    pub fn grant(&mut self, grantee: Grantee, pack: &str, permission: Permission) {
        self.grants.entry(grantee).or_default().entry(pack.to_owned()).or_default().insert(permission);
    }

    /// Takes a permission back, or all of a pack's; answers how many there were.
    pub fn revoke(&mut self, grantee: &Grantee, pack: &str, permission: Option<&Permission>) -> usize {
        let Some(packs) = self.grants.get_mut(grantee) else { return 0 };
        let Some(granted) = packs.get_mut(pack) else { return 0 };
        let before = granted.len();
        granted.retain(|one| permission.is_some_and(|permission| one != permission));
        let revoked = before - granted.len();
        self.forget_empty_grants();
        revoked
    }

    /// Every grant of a pack.
    pub fn grants_of<'a>(&'a self, pack: &'a str) -> impl Iterator<Item = (&'a Grantee, &'a Permission)> {
        self.grants.iter().flat_map(move |(grantee, packs)| {
            packs.get(pack).into_iter().flatten().map(move |permission| (grantee, permission))
        })
    }

    /// Puts a pack in force. Grants of what it no longer asks for end; nothing new is granted.
    pub fn install(&mut self, file: &PackFile, source: String, now: u64) -> Result<(), PackError> {
        let manifest = file.manifest().ok_or_else(|| no_manifest(&source))?;
        let name = &manifest.name;
        let known =
            self.known.entry(name.clone()).or_insert_with(|| Known { signer: None, highest: manifest.version.clone() });
        known.signer = known.signer.or(file.signer().copied());
        known.highest = known.highest.clone().max(manifest.version.clone());
        for packs in self.grants.values_mut() {
            if let Some(granted) = packs.get_mut(name) {
                granted.retain(|permission| manifest.asks_for(permission));
            }
        }
        self.forget_empty_grants();
        let record = Installed {
            version: manifest.version.clone(),
            digest: file.digest().to_owned(),
            signer: file.signer().copied(),
            requests: manifest.permissions.clone(),
            installed: now,
            source,
        };
        self.installed.insert(name.clone(), record);
        Ok(())
    }

    /// Takes a pack out of force, and all that it was granted with it. Its key stays known.
    ///
    /// # Errors
    /// [`PackError::NotInstalled`].
    pub fn remove(&mut self, name: &str) -> Result<Installed, PackError> {
        let removed = self.installed.remove(name).ok_or_else(|| PackError::NotInstalled { name: name.to_owned() })?;
        for packs in self.grants.values_mut() {
            packs.remove(name);
        }
        self.forget_empty_grants();
        Ok(removed)
    }

    fn forget_empty_grants(&mut self) {
        for packs in self.grants.values_mut() {
            packs.retain(|_, granted| !granted.is_empty());
        }
        self.grants.retain(|_, packs| !packs.is_empty());
    }
}

/// The folder of installed packs.
#[derive(Clone, Debug)]
pub struct PackStore {
    folder: PathBuf,
}

impl PackStore {
    /// The store in a folder, which need not exist.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that says what is in force.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.folder.join(STATE_FILE)
    }

    /// Where a pack of a digest is kept.
    #[must_use]
    pub fn file(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    /// What is installed. Without a file that is nothing.
    ///
    /// # Errors
    /// [`PackError::File`], [`PackError::State`].
    pub fn read(&self) -> Result<PackState, PackError> {
        let path = self.state_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PackState::default()),
            Err(source) => return Err(PackError::File { path, source }),
        };
        let state: Result<PackState, String> = serde_json::from_slice(&text).map_err(|error| error.to_string());
        let state = state.and_then(|state| match state.format {
            FORMAT => Ok(state),
            other => Err(format!("its format is {other}, this version knows {FORMAT}")),
        });
        state.map_err(|reason| PackError::State { path, reason })
    }

    /// Reads the state, changes it and writes it, as one step for everybody else. Nothing is written when `change` fails.
    /// Files of packs that are no longer in force are deleted.
    ///
    /// # Errors
    /// As [`PackStore::read`], and what `change` says.
    pub fn change<T>(&self, change: impl FnOnce(&mut PackState) -> Result<T, PackError>) -> Result<T, PackError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PackError::File { path, source }
        };
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let path = self.folder.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(failed(&path))?;
        lock.lock().map_err(failed(&path))?;
        let mut state = self.read()?;
        let before: BTreeSet<String> = state.installed.values().map(|pack| pack.digest.clone()).collect();
        let changed = change(&mut state)?;
        let text = serde_json::to_vec_pretty(&state)
            .map_err(|error| PackError::State { path: self.state_file(), reason: error.to_string() })?;
        write_whole(&self.state_file(), &text).map_err(failed(&self.state_file()))?;
        let after: BTreeSet<&String> = state.installed.values().map(|pack| &pack.digest).collect();
        for digest in before.iter().filter(|digest| !after.contains(digest)) {
            // A running server has read what it needs; a file that stays behind takes only space.
            fs::remove_file(self.file(digest)).ok();
        }
        Ok(changed)
    }

    /// Keeps a pack's file. It is not in force before [`PackState::install`].
    ///
    /// # Errors
    /// [`PackError::File`].
    pub fn keep(&self, file: &PackFile) -> Result<(), PackError> {
        let path = self.file(file.digest());
        let write = || {
            fs::create_dir_all(&self.folder)?;
            write_whole(&path, file.bytes())
        };
        write().map_err(|source| PackError::File { path: path.clone(), source })
    }
}

/// Whole or not at all, readable by its owner only.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn no_manifest(source: &str) -> PackError {
    PackError::Format {
        message: format!("{source} has no manifest: it is a bare component; `vivarium pack build` makes a pack of it"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_grant_is_for_one_tenant_or_for_all() {
        let (alice, bob): (TenantId, TenantId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (vae, clock): (Permission, Permission) = ("models/vae".parse().unwrap(), Permission::FineClock);
        let mut state = PackState::default();
        state.grant(Grantee::Tenant(alice.clone()), "x", vae.clone());
        state.grant(Grantee::EveryTenant, "x", clock.clone());
        assert!(state.grants(&alice, "x", &vae) && !state.grants(&bob, "x", &vae) && !state.grants(&alice, "y", &vae));
        assert!(state.grants(&alice, "x", &clock) && state.grants(&bob, "x", &clock));
        assert_eq!(state.revoke(&Grantee::Tenant(alice.clone()), "x", Some(&clock)), 0);
        assert_eq!(state.revoke(&Grantee::Tenant(alice.clone()), "x", None), 1);
        assert!(!state.grants(&alice, "x", &vae) && state.grants(&alice, "x", &clock));
    }

    #[test]
    fn a_damaged_state_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = PackStore::at(folder.path());
        assert_eq!(store.read().unwrap(), PackState::default());
        for text in ["", "{}", r#"{"format": 2}"#, r#"{"format": 1, "grants": {"default": {"x": ["everything"]}}}"#] {
            fs::write(store.state_file(), text).unwrap();
            assert!(matches!(store.read(), Err(PackError::State { .. })), "{text}");
        }
        let failed = store.change(|_| Ok(()));
        assert!(failed.is_err());
    }
}
