//! Giving bytes a name in one step: readers see no file, the old file or the new file, never a part of one.
//!
//! A name is a hard link onto the blob. Where that cannot be (another disk, a file system without links, too many links), the
//! bytes are copied to a hidden file beside the name, which is then renamed. Such a hidden file survives only a crash; it is
//! removed when its folder is next looked through.

use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, DirEntry, OpenOptions};

use crate::path::RESERVED_PREFIX;
use crate::store::{Blob, BlobStore, blob_name};

/// A hidden file this old belongs to no call that is still going on.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Gives a blob a new name; [`io::ErrorKind::AlreadyExists`] if it is taken.
pub(crate) fn link_new(store: &BlobStore, blob: &Blob, dir: &Dir, name: &str) -> io::Result<()> {
    match link(store, blob, dir, name) {
        Err(error) if cannot_link(&error) => {
            let copy = copy_beside(store, blob, dir)?;
            copy.rename_to_new(name)
        }
        other => other,
    }
}

fn link(store: &BlobStore, blob: &Blob, dir: &Dir, name: &str) -> io::Result<()> {
    let link = || store.blobs().hard_link(blob_name(blob.digest()), dir, name);
    match link() {
        // A damaged blob was put right by another upload, just between finding the file and linking it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => link(),
        other => other,
    }
}

/// Gives a blob a name, taking it from whatever had it.
pub(crate) fn link_over(store: &BlobStore, blob: &Blob, dir: &Dir, name: &str) -> io::Result<()> {
    let hidden = Hidden::new(dir);
    match link(store, blob, dir, &hidden.name) {
        Err(error) if cannot_link(&error) => copy_beside(store, blob, dir)?.rename_over(name),
        Err(error) => Err(error),
        Ok(()) => hidden.rename_over(name),
    }
}

/// Writes bytes under a name of their own, not shared with the store.
pub(crate) fn write_file(dir: &Dir, name: &str, bytes: &[u8], replace: bool) -> io::Result<()> {
    use std::io::Write;
    let hidden = Hidden::new(dir);
    let mut file = hidden.create()?;
    file.write_all(bytes)?;
    file.sync_data()?;
    drop(file);
    if replace { hidden.rename_over(name) } else { hidden.rename_to_new(name) }
}

/// Writes bytes under a new name, in the open: only for who tells nobody the name before the end. What fails leaves nothing.
pub(crate) fn write_new(dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut file = dir.open_with(name, OpenOptions::new().write(true).create_new(true))?;
    file.write_all(bytes).inspect_err(|_| {
        // Best effort: what stays goes when its folder is emptied.
        let _ = dir.remove_file(name);
    })
}

/// Moves a name; without `replace`, [`io::ErrorKind::AlreadyExists`] if the new one is taken.
pub(crate) fn rename(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str, replace: bool) -> io::Result<()> {
    if replace { from_dir.rename(from, to_dir, to) } else { rename_no_replace(from_dir, from, to_dir, to) }
}

/// Removes a hidden file that a crash left behind. To be called for entries whose name begins with the reserved prefix.
pub(crate) fn sweep(dir: &Dir, entry: &DirEntry) {
    let old = entry
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|time| SystemTime::now().duration_since(time.into_std()).is_ok_and(|age| age > ABANDONED_AFTER));
    if old && let Err(error) = dir.remove_file(entry.file_name()) {
        tracing::warn!(name = ?entry.file_name(), %error, "a half-made file of an earlier crash could not be removed");
    }
}

fn cannot_link(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    // PermissionDenied also covers file systems that know no links; were it a true lack of rights, the copy fails likewise.
    matches!(error.kind(), CrossesDevices | TooManyLinks | Unsupported)
        || (error.kind() == PermissionDenied && error.raw_os_error().is_some())
}

fn copy_beside<'a>(store: &BlobStore, blob: &Blob, dir: &'a Dir) -> io::Result<Hidden<'a>> {
    let hidden = Hidden::new(dir);
    let mut source = store.blobs().open(blob_name(blob.digest()))?.into_std();
    let mut target = hidden.create()?.into_std();
    io::copy(&mut source, &mut target)?;
    Ok(hidden)
}

/// A file under a hidden name; removed when dropped, unless it got its proper name.
struct Hidden<'a> {
    dir: &'a Dir,
    name: String,
}

impl<'a> Hidden<'a> {
    fn new(dir: &'a Dir) -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(crate::store::random);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{RESERVED_PREFIX}{:016x}-{}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
        Self { dir, name }
    }

    fn create(&self) -> io::Result<cap_std::fs::File> {
        self.dir.open_with(&self.name, OpenOptions::new().write(true).create_new(true))
    }

    fn rename_over(self, name: &str) -> io::Result<()> {
        // Renaming onto another link of the same file does nothing and keeps both names: dropping `self` removes the hidden one.
        self.dir.rename(&self.name, self.dir, name)
    }

    fn rename_to_new(self, name: &str) -> io::Result<()> {
        rename_no_replace(self.dir, &self.name, self.dir, name)
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // Usually it is gone by now, having its proper name.
        let _ = self.dir.remove_file(&self.name);
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_no_replace(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    match renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            rename_onto_claim(from_dir, from, to_dir, to)
        }
        other => other.map_err(Into::into),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_no_replace(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<()> {
    rename_onto_claim(from_dir, from, to_dir, to)
}

/// For file systems that cannot refuse to replace: an empty file claims the name first.
fn rename_onto_claim(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<()> {
    to_dir.open_with(to, OpenOptions::new().write(true).create_new(true))?;
    from_dir.rename(from, to_dir, to)
}
