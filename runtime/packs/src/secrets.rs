//! Secrets of tenants, by name. Kept in a file of their owner; a pack gets one only with the permission for its name.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use vivarium_protocol::{permission::Permission, tenant::TenantId};

use crate::{PackError, store::write_whole};

/// A secret has no more bytes than this.
pub const SECRET_BYTES: usize = 64 << 10;

type All = BTreeMap<String, BTreeMap<String, String>>;

/// The file of secrets.
#[derive(Clone, Debug)]
pub struct SecretFile {
    path: PathBuf,
}

impl SecretFile {
    /// The file at a path, which need not exist.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A tenant's secret.
    ///
    /// # Errors
    /// [`PackError::File`], [`PackError::State`].
    pub fn get(&self, tenant: &TenantId, name: &str) -> Result<Option<String>, PackError> {
        Ok(self.read()?.get_mut(tenant.as_str()).and_then(|secrets| secrets.remove(name)))
    }

    /// Names of a tenant's secrets.
    ///
    /// # Errors
    /// As [`SecretFile::get`].
    pub fn names(&self, tenant: &TenantId) -> Result<Vec<String>, PackError> {
        Ok(self.read()?.remove(tenant.as_str()).unwrap_or_default().into_keys().collect())
    }

    /// Sets a secret, or removes it; answers whether there was one.
    ///
    /// # Errors
    /// As [`SecretFile::get`]; the name is no name.
    pub fn set(&self, tenant: &TenantId, name: &str, value: Option<String>) -> Result<bool, PackError> {
        let named: Result<Permission, _> = format!("secret/{name}").parse();
        named.map_err(|error| PackError::InvalidGrant { text: name.to_owned(), reason: error.to_string() })?;
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|source| self.failed(source))?;
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|source| self.failed(source))?;
        lock.lock().map_err(|source| self.failed(source))?;
        let mut all = self.read()?;
        let secrets = all.entry(tenant.to_string()).or_default();
        let before = match value {
            Some(value) => secrets.insert(name.to_owned(), value),
            None => secrets.remove(name),
        };
        let text = serde_json::to_vec_pretty(&all).map_err(|error| self.damaged(&error))?;
        write_whole(&self.path, &text).map_err(|source| self.failed(source))?;
        Ok(before.is_some())
    }

    fn read(&self) -> Result<All, PackError> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| self.damaged(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(All::new()),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> PackError {
        PackError::File { path: self.path.clone(), source }
    }

    /// The parser's own words could repeat what stands in the file.
    fn damaged(&self, error: &serde_json::Error) -> PackError {
        let reason = format!("line {}, column {}", error.line(), error.column());
        PackError::State { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_its_tenants_and_its_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/secrets.json");
        let file = SecretFile::at(&path);
        let (alice, bob): (TenantId, TenantId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        assert!(!file.set(&alice, "key", Some("hush".into())).unwrap());
        assert_eq!(file.get(&alice, "key").unwrap().as_deref(), Some("hush"));
        assert_eq!(file.get(&bob, "key").unwrap(), None);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(file.set(&alice, "../key", Some("x".into())).is_err());
        assert_eq!(file.names(&alice).unwrap(), ["key"]);
        assert!(file.set(&alice, "key", None).unwrap());
        assert_eq!(file.get(&alice, "key").unwrap(), None);
        fs::write(&path, r#"{"alice": {"key": "hush" "#).unwrap();
        assert!(!file.get(&alice, "key").unwrap_err().to_string().contains("hush"));
    }
}
