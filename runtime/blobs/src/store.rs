//! Bytes under their SHA-256.
//!
//! ```text
//! <root>/sha256/ab/<64 hex digits>    a blob: complete, read-only, never written again
//! <root>/staging/<process>/<n>        an upload on its way
//! <root>/staging/<process>/lock       held while that process lives
//! ```
//! A blob appears by one rename of a file that is already complete, so a crash at any moment leaves either the whole blob or
//! a staged file, and staged files of dead processes are removed at the next start.
//!
//! The files carry no write permission because several names may share them: an editor that replaces files works on such a
//! name, one that writes in place is told no instead of changing every other name too. Should somebody force it, the next
//! upload of the same bytes notices and puts the blob right; the edited names keep their edit.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{BlobError, place};

/// The SHA-256 of some bytes. Shown, parsed and ordered as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of what a reader yields.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// What a power cut may cost. A killed process never costs anything. The system writes names when it likes, so that the
/// newest may be gone after a power cut; whether those that stay lead to whole files is what this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The bytes are on the disk before they get a name.
    Synced,
    /// The system writes them when it likes: for previews and whatever can be made again.
    Fast,
}

/// Bytes that are in the store. While the value lives, [`BlobStore::collect`] leaves them alone.
#[derive(Clone, Debug)]
pub struct Blob {
    digest: Digest,
    len: u64,
    _pin: Arc<Pin>,
}

impl Blob {
    /// The SHA-256 of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[derive(Debug)]
struct Pin {
    digest: Digest,
    store: Arc<BlobStore>,
}

impl Pin {
    fn new(store: &Arc<BlobStore>, digest: Digest) -> Arc<Self> {
        *store.pins.lock().entry(digest).or_insert(0) += 1;
        Arc::new(Self { digest, store: Arc::clone(store) })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.store.pins.lock();
        if let Some(count) = pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.digest);
            }
        }
    }
}

/// What [`BlobStore::collect`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The content-addressed store of one base directory. All tenants share it; only names are per tenant.
pub struct BlobStore {
    root: PathBuf,
    blobs: Dir,
    staging: Dir,
    staging_path: PathBuf,
    next_staged: AtomicU64,
    pins: Mutex<HashMap<Digest, usize>>,
    // Held open: tells other processes that our staging directory is in use.
    _staging_lock: File,
}

impl fmt::Debug for BlobStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlobStore").field("root", &self.root).finish_non_exhaustive()
    }
}

impl BlobStore {
    /// Opens the store below `root`, creating it where needed, and removes what dead processes left half-done.
    ///
    /// # Errors
    /// The path and the cause when a directory cannot be created or written.
    pub fn open(root: &Path) -> Result<Arc<Self>, BlobError> {
        let blobs_path = root.join("sha256");
        let all_staging = root.join("staging");
        for path in [&blobs_path, &all_staging] {
            fs::create_dir_all(path).map_err(|source| BlobError::machine("create the directory", path, source))?;
        }
        let (staging_path, staging_lock) = own_staging(&all_staging)
            .map_err(|source| BlobError::machine("prepare uploads in", &all_staging, source))?;
        let open = |path: &Path| {
            Dir::open_ambient_dir(path, ambient_authority())
                .map_err(|source| BlobError::machine("open the directory", path, source))
        };
        Ok(Arc::new(Self {
            root: root.to_path_buf(),
            blobs: open(&blobs_path)?,
            staging: open(&staging_path)?,
            staging_path,
            next_staged: AtomicU64::new(0),
            pins: Mutex::new(HashMap::new()),
            _staging_lock: staging_lock,
        }))
    }

    /// Begins an upload. With `limit`, more bytes than that are refused as they come.
    ///
    /// # Errors
    /// When the staging directory cannot be written.
    pub fn stage(self: &Arc<Self>, limit: Option<u64>) -> Result<Staged, BlobError> {
        let name = self.next_staged.fetch_add(1, Ordering::Relaxed).to_string();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o444);
        let file = self
            .staging
            .open_with(&name, &options)
            .map_err(|source| BlobError::machine("create", &self.staging_path.join(&name), source))?
            .into_std();
        Ok(Staged { store: Arc::clone(self), file, name, hasher: Sha256::new(), len: 0, limit, moved: false })
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// When the disk is full or not writable.
    pub fn put(self: &Arc<Self>, bytes: &[u8], durability: Durability) -> Result<Blob, BlobError> {
        let mut staged = self.stage(None)?;
        staged.write(bytes)?;
        staged.commit(durability)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] when the store does not hold it.
    pub fn open_blob(&self, digest: Digest) -> Result<File, BlobError> {
        let name = blob_name(digest);
        match self.blobs.open(&name) {
            Ok(file) => Ok(file.into_std()),
            Err(source) => Err(BlobError::named("open", format!("blob {digest}"), &self.blob_path(&name), source)),
        }
    }

    /// Removes blobs that no name uses any more and that are older than `minimum_age`. Where names are copies (another disk,
    /// a file system without hard links), every old blob counts as unused: the names keep their bytes.
    ///
    /// # Errors
    /// When a directory of the store cannot be read.
    pub fn collect(&self, minimum_age: Duration) -> Result<Collected, BlobError> {
        let fail = |source| BlobError::machine("look through", &self.root.join("sha256"), source);
        let mut collected = Collected::default();
        for shard in self.blobs.entries().map_err(fail)? {
            let shard = shard.map_err(fail)?;
            let Ok(directory) = shard.open_dir() else {
                continue;
            };
            for entry in directory.entries().map_err(fail)? {
                self.collect_one(&directory, &entry.map_err(fail)?, minimum_age, &mut collected);
            }
        }
        Ok(collected)
    }

    fn collect_one(
        &self,
        directory: &Dir,
        entry: &cap_std::fs::DirEntry,
        minimum_age: Duration,
        collected: &mut Collected,
    ) {
        let name = entry.file_name();
        let Some(digest) = name.to_str().and_then(|name| Digest::from_str(name).ok()) else {
            return;
        };
        // Looking at the pins, at the links and removing happen under one lock, else a name could be given in between.
        let pins = self.pins.lock();
        let Ok(metadata) = entry.metadata() else {
            return;
        };
        let old_enough = metadata
            .modified()
            .is_ok_and(|time| SystemTime::now().duration_since(time.into_std()).is_ok_and(|age| age >= minimum_age));
        if pins.contains_key(&digest) || links(&metadata) > 1 || !old_enough {
            return;
        }
        match directory.remove_file(&name) {
            Ok(()) => {
                collected.blobs += 1;
                collected.bytes += metadata.len();
            }
            Err(error) => tracing::warn!(%digest, %error, "an unused blob could not be removed"),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> &Dir {
        &self.blobs
    }

    fn blob_path(&self, name: &str) -> PathBuf {
        self.root.join("sha256").join(name)
    }

    /// Moves a complete staged file to its digest, or finds the same bytes there already.
    fn adopt(&self, staged: &str, digest: Digest, len: u64) -> Result<(), BlobError> {
        let name = blob_name(digest);
        let fail = |source| BlobError::machine("store", &self.blob_path(&name), source);
        if self.holds(staged, &name, len).map_err(fail)? {
            return self.staging.remove_file(staged).map_err(fail);
        }
        match self.move_in(staged, &name, false) {
            // The same bytes came in another upload meanwhile, and may be about to get a name: that file has to stay.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.holds(staged, &name, len).map_err(fail)? {
                    return self.staging.remove_file(staged).map_err(fail);
                }
                // Damaged.
                self.move_in(staged, &name, true).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }

    fn move_in(&self, staged: &str, name: &str, replace: bool) -> io::Result<()> {
        match place::rename(&self.staging, staged, &self.blobs, name, replace) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.blobs.create_dir_all(&name[..2])?;
                place::rename(&self.staging, staged, &self.blobs, name, replace)
            }
            other => other,
        }
    }

    /// Whether the blob is there and truly has these bytes: comparing is cheaper than hashing, and heals what was edited.
    fn holds(&self, staged: &str, name: &str, len: u64) -> io::Result<bool> {
        let existing = match self.blobs.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if existing.metadata()?.len() != len {
            return Ok(false);
        }
        same_bytes(existing, self.staging.open(staged)?)
    }
}

impl Drop for BlobStore {
    fn drop(&mut self) {
        // Best effort: what stays is removed by the next start.
        let _ = fs::remove_dir_all(&self.staging_path);
    }
}

/// An upload on its way: hashed while it is written. Dropping it removes what was written.
#[derive(Debug)]
pub struct Staged {
    store: Arc<BlobStore>,
    file: File,
    name: String,
    hasher: Sha256,
    len: u64,
    limit: Option<u64>,
    moved: bool,
}

impl Staged {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] beyond the limit, [`BlobError::DiskFull`] and the like from the system.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let len = self.len + bytes.len() as u64;
        if let Some(limit) = self.limit
            && len > limit
        {
            return Err(BlobError::TooLarge { limit });
        }
        self.file
            .write_all(bytes)
            .map_err(|source| BlobError::machine("write", &self.store.staging_path.join(&self.name), source))?;
        self.hasher.update(bytes);
        self.len = len;
        Ok(())
    }

    pub(crate) fn store(&self) -> &Arc<BlobStore> {
        &self.store
    }

    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// How many bytes were written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ends the upload: from here on the bytes are in the store, whole.
    ///
    /// # Errors
    /// When the system refuses; nothing is left behind then.
    pub fn commit(mut self, durability: Durability) -> Result<Blob, BlobError> {
        if durability == Durability::Synced {
            self.file
                .sync_data()
                .map_err(|source| BlobError::machine("write", &self.store.staging_path.join(&self.name), source))?;
        }
        let digest = Digest(std::mem::take(&mut self.hasher).finalize().into());
        // Pinned before looking, so that collecting cannot remove what was just found.
        let pin = Pin::new(&self.store, digest);
        self.store.adopt(&self.name, digest, self.len)?;
        self.moved = true;
        Ok(Blob { digest, len: self.len, _pin: pin })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.moved {
            // Best effort: what stays is removed by the next start.
            let _ = self.store.staging.remove_file(&self.name);
        }
    }
}

/// `ab/<hex>`, below `sha256`.
pub(crate) fn blob_name(digest: Digest) -> String {
    let hex = digest.to_string();
    format!("{}/{hex}", &hex[..2])
}

fn same_bytes(mut left: impl Read, mut right: impl Read) -> io::Result<bool> {
    let (mut left_buffer, mut right_buffer) = (Vec::new(), Vec::new());
    const CHUNK: u64 = 128 * 1024;
    loop {
        left_buffer.clear();
        right_buffer.clear();
        left.by_ref().take(CHUNK).read_to_end(&mut left_buffer)?;
        right.by_ref().take(CHUNK).read_to_end(&mut right_buffer)?;
        if left_buffer != right_buffer {
            return Ok(false);
        }
        if left_buffer.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(unix)]
fn links(metadata: &cap_std::fs::Metadata) -> u64 {
    use cap_std::fs::MetadataExt;
    metadata.nlink()
}

#[cfg(not(unix))]
fn links(_: &cap_std::fs::Metadata) -> u64 {
    // Unknown: nothing is collected.
    u64::MAX
}

/// Removes the staging directories of dead processes and makes one for this process.
fn own_staging(all: &Path) -> io::Result<(PathBuf, File)> {
    // One process at a time: a directory whose lock is not taken yet must not look abandoned.
    let gate = File::create(all.join("lock"))?;
    gate.lock()?;
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.is_dir() && !is_in_use(&path) {
            fs::remove_dir_all(&path)?;
        }
    }
    let path = all.join(format!("{}-{:016x}", std::process::id(), random()));
    fs::create_dir(&path)?;
    let lock = File::create(path.join("lock"))?;
    lock.lock()?;
    Ok((path, lock))
}

fn is_in_use(staging: &Path) -> bool {
    match File::open(staging.join("lock")) {
        Ok(lock) => lock.try_lock().is_err(),
        Err(_) => false,
    }
}

/// Not secret, only different in every process and call.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
