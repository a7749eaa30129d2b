//! The file of tenants.
//!
//! JSON, readable by its owner only, in the folder that only Vivarium touches. It is replaced as a whole under a lock, so
//! that a reader sees the old one or the new one.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vivarium_protocol::tenant::TenantId;

use super::{Quotas, Scope, Token, now};

/// Counted up with every change that older versions cannot read.
const FORMAT: u32 = 1;
/// Bytes of a hash that name a token in lists: enough to be unique, useless for guessing.
const ID_LENGTH: usize = 12;

/// What went wrong with the file of tenants.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be read or written.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no file of tenants.
    #[error("{} is not a readable list of tenants ({reason}); restore it from a backup, or move it away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no randomness for a token.
    #[error("the system gave no random numbers for a token: {reason}")]
    Random {
        /// What it says.
        reason: String,
    },
    /// There is a tenant of that name.
    #[error("there is a tenant {tenant} already; `vivarium tenant token add {tenant}` makes another token for it")]
    TenantExists {
        /// Its name.
        tenant: TenantId,
    },
    /// There is no tenant of that name.
    #[error("there is no tenant {tenant}; `vivarium tenant list` lists them")]
    NoTenant {
        /// The name.
        tenant: TenantId,
    },
    /// The tenant has no such token.
    #[error("{tenant} has no token {id}; `vivarium tenant list` shows the ids of its tokens")]
    NoToken {
        /// The tenant.
        tenant: TenantId,
        /// The id.
        id: String,
    },
}

/// A token as it is stored: without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// SHA-256 of the token, hexadecimal.
    pub sha256: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970; never, if null.
    pub expires: Option<u64>,
}

impl TokenRecord {
    /// How people name the token: the beginning of its hash.
    #[must_use]
    pub fn id(&self) -> &str {
        self.sha256.get(..ID_LENGTH).unwrap_or(&self.sha256)
    }

    /// Whether it has expired at a time in seconds since 1970.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// A tenant's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Seconds since 1970.
    pub created: u64,
    /// What it may use.
    #[serde(default)]
    pub quotas: Quotas,
    /// Its tokens.
    #[serde(default)]
    pub tokens: Vec<TokenRecord>,
}

/// All tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenants {
    format: u32,
    /// By name.
    pub tenants: BTreeMap<TenantId, Tenant>,
}

impl Default for Tenants {
    fn default() -> Self {
        Self { format: FORMAT, tenants: BTreeMap::new() }
    }
}

impl Tenants {
    /// Adds a tenant without a token.
    ///
    /// # Errors
    /// [`RegistryError::TenantExists`].
    pub fn add(&mut self, name: &TenantId, quotas: Quotas) -> Result<(), RegistryError> {
        if self.tenants.contains_key(name) {
            return Err(RegistryError::TenantExists { tenant: name.clone() });
        }
        self.tenants.insert(name.clone(), Tenant { created: now(), quotas, tokens: Vec::new() });
        Ok(())
    }

    /// Removes a tenant and its tokens. Its files stay where they are.
    ///
    /// # Errors
    /// [`RegistryError::NoTenant`].
    pub fn remove(&mut self, name: &TenantId) -> Result<Tenant, RegistryError> {
        self.tenants.remove(name).ok_or_else(|| RegistryError::NoTenant { tenant: name.clone() })
    }

    /// A tenant, to be changed.
    ///
    /// # Errors
    /// [`RegistryError::NoTenant`].
    pub fn get_mut(&mut self, name: &TenantId) -> Result<&mut Tenant, RegistryError> {
        self.tenants.get_mut(name).ok_or_else(|| RegistryError::NoTenant { tenant: name.clone() })
    }

    /// Makes a token that lasts for some seconds, or for ever. It cannot be shown again.
    ///
    /// # Errors
    /// [`RegistryError::NoTenant`], [`RegistryError::Random`].
    pub fn add_token(
        &mut self,
        name: &TenantId,
        scopes: &[Scope],
        lasts: Option<u64>,
    ) -> Result<(Token, TokenRecord), RegistryError> {
        let tenant = self.get_mut(name)?;
        let token = Token::generate()?;
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        let created = now();
        let expires = lasts.map(|seconds| created.saturating_add(seconds));
        let record = TokenRecord { sha256: token.hash(), scopes, created, expires };
        tenant.tokens.push(record.clone());
        Ok((token, record))
    }

    /// Removes a token by its id.
    ///
    /// # Errors
    /// [`RegistryError::NoTenant`], [`RegistryError::NoToken`].
    pub fn revoke(&mut self, name: &TenantId, id: &str) -> Result<(), RegistryError> {
        let tenant = self.get_mut(name)?;
        let before = tenant.tokens.len();
        tenant.tokens.retain(|token| token.id() != id);
        if tenant.tokens.len() == before {
            return Err(RegistryError::NoToken { tenant: name.clone(), id: id.to_owned() });
        }
        Ok(())
    }
}

/// The file of tenants of a base directory.
#[derive(Clone, Debug)]
pub struct Registry {
    path: PathBuf,
}

impl Registry {
    /// The file at a path. It need not exist.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. Without a file there are no tenants.
    ///
    /// # Errors
    /// [`RegistryError::Io`], [`RegistryError::Damaged`].
    pub fn read(&self) -> Result<Tenants, RegistryError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tenants::default()),
            Err(source) => return Err(self.failed("read", source)),
        };
        let damaged = |reason: String| RegistryError::Damaged { path: self.path.clone(), reason };
        let tenants: Tenants = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if tenants.format != FORMAT {
            return Err(damaged(format!("its format is {}, this version knows {FORMAT}", tenants.format)));
        }
        Ok(tenants)
    }

    /// Reads it, changes it and writes it, as one step for everybody else. Nothing is written when `change` fails.
    ///
    /// # Errors
    /// As [`Registry::read`], and what `change` says.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tenants) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|source| self.failed("create the folder of", source))?;
        }
        let lock = owner_only(OpenOptions::new().write(true).create(true).truncate(false))
            .open(self.path.with_extension("lock"))
            .map_err(|source| self.failed("lock", source))?;
        lock.lock().map_err(|source| self.failed("lock", source))?;
        let mut tenants = self.read()?;
        let changed = change(&mut tenants)?;
        self.write(&tenants).map_err(|source| self.failed("write", source))?;
        Ok(changed)
    }

    fn write(&self, tenants: &Tenants) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        // A leftover of a killed process may have other rights.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File = owner_only(OpenOptions::new().write(true).create_new(true)).open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(tenants)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> RegistryError {
        RegistryError::Io { doing, path: self.path.clone(), source }
    }
}

fn owner_only(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_are_kept_as_hashes_in_a_file_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::at(folder.path().join("below/tenants.json"));
        assert_eq!(registry.read().unwrap(), Tenants::default());
        let alice: TenantId = "alice".parse().unwrap();
        let (token, record) = registry
            .change(|tenants| {
                tenants.add(&alice, Quotas::default())?;
                tenants.add_token(&alice, &Scope::DEFAULT, Some(60))
            })
            .unwrap();
        let text = fs::read_to_string(registry.path()).unwrap();
        assert!(!text.contains(token.reveal()) && text.contains(&token.hash()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(registry.path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!record.is_expired(now()) && record.is_expired(now() + 61));
        let twice = registry.change(|tenants| tenants.add(&alice, Quotas::default()));
        assert!(matches!(twice, Err(RegistryError::TenantExists { .. })));
        registry.change(|tenants| tenants.revoke(&alice, record.id())).unwrap();
        assert!(registry.read().unwrap().tenants[&alice].tokens.is_empty());
        let error = registry.change(|tenants| tenants.revoke(&alice, record.id())).unwrap_err();
        assert!(error.to_string().contains("tenant list"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::at(folder.path().join("tenants.json"));
        for text in ["", "{}", r#"{"format": 9, "tenants": {}}"#, r#"{"format": 1, "tenants": {"A B": {}}}"#] {
            fs::write(registry.path(), text).unwrap();
            assert!(matches!(registry.read(), Err(RegistryError::Damaged { .. })), "{text}");
        }
    }
}
