//! The cache of compiled components. A compiled component is native code, so an entry is loaded only when its MAC, made
//! with a key that only this host knows, covers it together with the engine's configuration and the component's digest.
//!
//! An entry begins with what the component says about itself, sealed by itself: a start reads that much of every pack, and
//! the code of none.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::SandboxError;

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"VIVAOT02";

/// A folder of compiled components, written by the host only.
pub(crate) struct AotCache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

/// A description has no more bytes than this, whatever the file claims.
const DESCRIPTION_BYTES: u64 = 64 << 20;

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

    fn mac(&self, engine_hash: &str, digest: &str, part: Part, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        for text in [engine_hash.as_bytes(), digest.as_bytes(), &[part as u8]] {
            mac.update(&(text.len() as u64).to_le_bytes());
            mac.update(text);
        }
        mac.update(body);
        Some(mac)
    }

    /// What the component said about itself, if there is an entry and this host wrote it.
    pub(crate) fn description(&self, engine_hash: &str, digest: &str) -> Option<String> {
        let mut file = fs::File::open(self.path(engine_hash, digest)).ok()?;
        self.noticing(engine_hash, digest, || {
            String::from_utf8(self.read_part(&mut file, engine_hash, digest, Part::Description)?).ok()
        })
    }

    /// The code, if there is an entry and it is exactly what this host wrote.
    pub(crate) fn code(&self, engine_hash: &str, digest: &str) -> Option<Vec<u8>> {
        let mut file = fs::File::open(self.path(engine_hash, digest)).ok()?;
        self.noticing(engine_hash, digest, || {
            self.read_part(&mut file, engine_hash, digest, Part::Description)?;
            self.read_part(&mut file, engine_hash, digest, Part::Code)
        })
    }

    fn noticing<T>(&self, engine_hash: &str, digest: &str, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let read = read();
        if read.is_none() {
            let path = self.path(engine_hash, digest);
            tracing::warn!(path = %path.display(), "a compiled component is damaged or was not written by this host; compiling again");
        }
        read
    }

    fn read_part(&self, file: &mut fs::File, engine_hash: &str, digest: &str, part: Part) -> Option<Vec<u8>> {
        let mut head = [0; MAGIC.len() + MAC_BYTES + 8];
        file.read_exact(&mut head).ok()?;
        let (tag, length) = head.strip_prefix(MAGIC)?.split_at_checked(MAC_BYTES)?;
        let length = u64::from_le_bytes(length.try_into().ok()?);
        let most = match part {
            Part::Description => DESCRIPTION_BYTES,
            Part::Code => u64::MAX,
        };
        // A length that lies is cut short by the end of the file before it is believed.
        let mut body = Vec::new();
        file.take(length.min(most)).read_to_end(&mut body).ok()?;
        (body.len() as u64 == length).then_some(())?;
        self.mac(engine_hash, digest, part, &body)?.verify_slice(tag).ok()?;
        Some(body)
    }

    /// Writes an entry: whole or not at all.
    pub(crate) fn store(
        &self,
        engine_hash: &str,
        digest: &str,
        description: &str,
        code: &[u8],
    ) -> Result<(), SandboxError> {
        let path = self.path(engine_hash, digest);
        let write = || -> io::Result<()> {
            let temporary = temporary_name(&path);
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            for (part, body) in [(Part::Description, description.as_bytes()), (Part::Code, code)] {
                let mac = self.mac(engine_hash, digest, part, body).ok_or_else(|| io::Error::other("no key"))?;
                file.write_all(MAGIC)?;
                file.write_all(&mac.finalize().into_bytes())?;
                file.write_all(&(body.len() as u64).to_le_bytes())?;
                file.write_all(body)?;
            }
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| SandboxError::AotFolder { path: path.clone(), source })
    }
}

/// The parts of an entry; the number goes into the seal, so that none passes for the other.
#[derive(Clone, Copy)]
enum Part {
    Description = 1,
    Code = 2,
}

/// A name beside a file that no other thread or process writes to.
fn temporary_name(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.part", std::process::id()))
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
    let temporary = temporary_name(path);
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

    const CODE: [u8; 1000] = [7; 1000];

    #[test]
    fn what_was_stored_is_loaded_by_a_second_host_process() {
        let folder = tempfile::tempdir().unwrap();
        AotCache::open(folder.path()).unwrap().store("engine", "digest", "{}", &CODE).unwrap();
        let cache = AotCache::open(folder.path()).unwrap();
        assert_eq!(cache.description("engine", "digest").unwrap(), "{}");
        assert_eq!(cache.code("engine", "digest").unwrap(), CODE);
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = AotCache::open(folder.path()).unwrap();
        cache.store("engine", "digest", "{}", &CODE).unwrap();
        let path = cache.path("engine", "digest");
        let good = fs::read(&path).unwrap();
        for position in (0..good.len()).step_by(97).chain([0, 8, 40, good.len() - 1]) {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(cache.code("engine", "digest").is_none(), "byte {position}");
        }
        for length in [0, 8, 47, 49, 60, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(cache.code("engine", "digest").is_none(), "{length} bytes");
        }
    }

    #[test]
    fn an_entry_of_another_engine_component_or_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = AotCache::open(folder.path()).unwrap();
        cache.store("engine", "digest", "{}", &CODE).unwrap();
        fs::copy(cache.path("engine", "digest"), cache.path("engine", "other")).unwrap();
        fs::copy(cache.path("engine", "digest"), cache.path("newer", "digest")).unwrap();
        assert!(cache.code("engine", "other").is_none() && cache.description("engine", "other").is_none());
        assert!(cache.code("newer", "digest").is_none() && cache.description("newer", "digest").is_none());
        fs::write(folder.path().join("key"), [1; 32]).unwrap();
        let another = AotCache::open(folder.path()).unwrap();
        assert!(another.code("engine", "digest").is_none() && another.description("engine", "digest").is_none());
    }

    #[test]
    fn engines_that_start_at_the_same_time_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let open = || AotCache::open(folder.path()).unwrap().key;
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_description_does_not_pass_for_code() {
        let folder = tempfile::tempdir().unwrap();
        let cache = AotCache::open(folder.path()).unwrap();
        cache.store("engine", "digest", "same", b"same").unwrap();
        let path = cache.path("engine", "digest");
        let good = fs::read(&path).unwrap();
        let (description, _) = good.split_at(good.len() / 2);
        fs::write(&path, [description, description].concat()).unwrap();
        assert!(cache.code("engine", "digest").is_none());
    }
}
