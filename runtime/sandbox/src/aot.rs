//! The cache of compiled components. A compiled component is native code, so an entry is loaded only when its MAC, made
//! with a key that only this host knows, covers it together with the engine's configuration and the component's digest.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::SandboxError;

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"VIVAOT01";

/// A folder of compiled components, written by the host only.
pub(crate) struct AotCache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

/// What is kept about a component: its native code and what its `describe` answered.
pub(crate) struct AotEntry {
    pub(crate) code: Vec<u8>,
    pub(crate) description: String,
}

impl AotCache {
    /// Opens or makes the folder, private to this user, and its key.
    pub(crate) fn open(folder: &Path) -> Result<Self, SandboxError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SandboxError::AotFolder { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed(folder))?;
        let key_path = folder.join("key");
        let key = read_or_make_key(&key_path).map_err(failed(&key_path))?;
        Ok(Self { folder: folder.to_owned(), key })
    }

    fn path(&self, engine_hash: &str, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{engine_hash}.aot"))
    }

    fn mac(&self, engine_hash: &str, digest: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        for part in [engine_hash.as_bytes(), digest.as_bytes()] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.update(body);
        Some(mac)
    }

    /// The entry, if there is one and it is exactly what this host wrote.
    pub(crate) fn load(&self, engine_hash: &str, digest: &str) -> Option<AotEntry> {
        let path = self.path(engine_hash, digest);
        let bytes = fs::read(&path).ok()?;
        let entry = self.open_sealed(engine_hash, digest, &bytes);
        if entry.is_none() {
            tracing::warn!(path = %path.display(), "a compiled component is damaged or was not written by this host; compiling again");
        }
        entry
    }

    fn open_sealed(&self, engine_hash: &str, digest: &str, bytes: &[u8]) -> Option<AotEntry> {
        let body = bytes.strip_prefix(MAGIC)?;
        let (tag, body) = body.split_at_checked(MAC_BYTES)?;
        self.mac(engine_hash, digest, body)?.verify_slice(tag).ok()?;
        let (length, rest) = body.split_at_checked(8)?;
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (description, code) = rest.split_at_checked(length)?;
        Some(AotEntry { code: code.to_vec(), description: String::from_utf8(description.to_vec()).ok()? })
    }

    /// Writes an entry: whole or not at all.
    pub(crate) fn store(&self, engine_hash: &str, digest: &str, entry: &AotEntry) -> Result<(), SandboxError> {
        let path = self.path(engine_hash, digest);
        let mut body = Vec::with_capacity(8 + entry.description.len() + entry.code.len());
        body.extend_from_slice(&(entry.description.len() as u64).to_le_bytes());
        body.extend_from_slice(entry.description.as_bytes());
        body.extend_from_slice(&entry.code);
        let write = || -> io::Result<()> {
            let mac = self.mac(engine_hash, digest, &body).ok_or_else(|| io::Error::other("no key"))?;
            let temporary = path.with_extension(format!("{}.part", std::process::id()));
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&mac.finalize().into_bytes())?;
            file.write_all(&body)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| SandboxError::AotFolder { path: path.clone(), source })
    }
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match fs::read(path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; KEY_BYTES] = rand::random();
    // Through a temporary name, so that a second process never reads half a key; the first rename wins.
    let temporary = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            let bytes = fs::read(path)?;
            bytes.try_into().or_else(|_| {
                // A damaged key only makes old entries unreadable.
                fs::write(path, key)?;
                Ok(key)
            })
        }
        other => {
            fs::remove_file(&temporary)?;
            other?;
            Ok(key)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn entry() -> AotEntry {
        AotEntry { code: vec![7; 1000], description: "{}".into() }
    }

    #[test]
    fn what_was_stored_is_loaded_by_a_second_host_process() {
        let folder = tempfile::tempdir().unwrap();
        AotCache::open(folder.path()).unwrap().store("engine", "digest", &entry()).unwrap();
        let loaded = AotCache::open(folder.path()).unwrap().load("engine", "digest").unwrap();
        assert_eq!(loaded.code, entry().code);
        assert_eq!(loaded.description, "{}");
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = AotCache::open(folder.path()).unwrap();
        cache.store("engine", "digest", &entry()).unwrap();
        let path = cache.path("engine", "digest");
        let good = fs::read(&path).unwrap();
        for position in (0..good.len()).step_by(97).chain([0, 8, 40, good.len() - 1]) {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(cache.load("engine", "digest").is_none(), "byte {position}");
        }
    }

    #[test]
    fn an_entry_of_another_engine_component_or_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = AotCache::open(folder.path()).unwrap();
        cache.store("engine", "digest", &entry()).unwrap();
        fs::copy(cache.path("engine", "digest"), cache.path("engine", "other")).unwrap();
        fs::copy(cache.path("engine", "digest"), cache.path("newer", "digest")).unwrap();
        assert!(cache.load("engine", "other").is_none());
        assert!(cache.load("newer", "digest").is_none());
        fs::write(folder.path().join("key"), [1; 32]).unwrap();
        assert!(AotCache::open(folder.path()).unwrap().load("engine", "digest").is_none());
    }
}
