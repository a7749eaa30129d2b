//! Scratch files: what a pack keeps for a tenant between prompts. One flat folder per pack and tenant, of bounded size.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use vivarium_protocol::tenant::TenantId;

use crate::path::RESERVED_PREFIX;
use crate::place;
use crate::root::Root;
use crate::{BlobError, RelativePath};

/// Longest name of a scratch file, bytes.
const NAME_BYTES: usize = 100;

/// All scratch folders.
#[derive(Clone, Debug)]
pub struct ScratchFolders {
    path: PathBuf,
}

/// What one scratch folder may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchQuota {
    /// Of all files together.
    pub bytes: u64,
    /// How many.
    pub files: u64,
}

impl ScratchFolders {
    /// Below a folder, which need not exist.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The files of a pack for a tenant: names and bytes, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, pack: &str, tenant: &TenantId) -> Result<Vec<(String, u64)>, BlobError> {
        let folder = self.folder(pack, tenant)?;
        let mut files = contents(&Root::open(&folder, "scratch")?, &folder)?;
        files.retain(|(name, _)| !name.starts_with(RESERVED_PREFIX));
        files.sort();
        Ok(files)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// Not a name, not there, more than `limit` bytes, or not readable.
    pub fn read(&self, pack: &str, tenant: &TenantId, name: &str, limit: u64) -> Result<Vec<u8>, BlobError> {
        let name = checked(name)?;
        let folder = self.folder(pack, tenant)?;
        let opened = Root::open(&folder, "scratch")?.open_file(&name)?;
        if opened.len > limit {
            return Err(BlobError::TooLarge { limit });
        }
        let mut data = Vec::new();
        let read = opened.file.take(limit).read_to_end(&mut data);
        read.map_err(|source| BlobError::machine("read", &folder.join(name.as_str()), source))?;
        Ok(data)
    }

    /// Replaces a file as a whole, if there is room for both until it is done.
    ///
    /// # Errors
    /// Not a name, no room, or not writable.
    pub fn write(
        &self,
        pack: &str,
        tenant: &TenantId,
        name: &str,
        data: &[u8],
        quota: ScratchQuota,
    ) -> Result<(), BlobError> {
        let name = checked(name)?;
        let folder = self.folder(pack, tenant)?;
        let root = Root::open(&folder, "scratch")?;
        // Two nodes may write at once, also of two processes.
        let _lock = lock(&folder)?;
        let others: Vec<u64> = contents(&root, &folder)?
            .into_iter()
            .filter(|(other, _)| other != name.as_str())
            .map(|(_, bytes)| bytes)
            .collect();
        let bytes = others.iter().sum::<u64>().saturating_add(data.len() as u64);
        if bytes > quota.bytes {
            return Err(BlobError::ScratchFull { what: "bytes", limit: quota.bytes, name: "scratch_bytes" });
        }
        if others.len() as u64 >= quota.files {
            return Err(BlobError::ScratchFull { what: "files", limit: quota.files, name: "scratch_files" });
        }
        place::write_file(&root.dir, name.as_str(), data, true)
            .map_err(|source| BlobError::machine("write", &folder.join(name.as_str()), source))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Not a name, not there, or not removable.
    pub fn remove(&self, pack: &str, tenant: &TenantId, name: &str) -> Result<(), BlobError> {
        let name = checked(name)?;
        let root = Root::open(&self.folder(pack, tenant)?, "scratch")?;
        root.dir.remove_file(name.as_str()).map_err(|source| root.failed("remove", &name, source))
    }

    /// Removes everything that a pack kept, for every tenant.
    ///
    /// # Errors
    /// A folder cannot be removed.
    pub fn remove_pack(&self, pack: &str) -> Result<(), BlobError> {
        let folder = self.path.join(checked(pack)?.as_str());
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BlobError::machine("remove", &folder, error)),
            _ => Ok(()),
        }
    }

    fn folder(&self, pack: &str, tenant: &TenantId) -> Result<PathBuf, BlobError> {
        Ok(self.path.join(checked(pack)?.as_str()).join(tenant.as_str()))
    }
}

/// A name that is one name on every file system.
fn checked(name: &str) -> Result<RelativePath, BlobError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(BlobError::ScratchName { name: name.chars().take(NAME_BYTES).collect() });
    }
    RelativePath::parse_file(name)
}

/// Everything in a folder, half-written files of a crash too.
fn contents(root: &Root, folder: &Path) -> Result<Vec<(String, u64)>, BlobError> {
    let failed = |source| BlobError::machine("list", folder, source);
    let mut files = Vec::new();
    for entry in root.dir.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(RESERVED_PREFIX) {
            place::sweep(&root.dir, &entry);
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => files.push((name, metadata.len())),
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(_) => {}
        }
    }
    Ok(files)
}

/// Held until it is dropped.
fn lock(folder: &Path) -> Result<File, BlobError> {
    let path = folder.with_extension("lock");
    let failed = |source| BlobError::machine("lock", &path, source);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const QUOTA: ScratchQuota = ScratchQuota { bytes: 10, files: 2 };

    fn names(folders: &ScratchFolders, pack: &str, tenant: &TenantId) -> Vec<(String, u64)> {
        folders.list(pack, tenant).unwrap()
    }

    #[test]
    fn each_pack_and_tenant_has_files_of_its_own() {
        let base = tempfile::tempdir().unwrap();
        let folders = ScratchFolders::at(base.path().join("scratch"));
        let (alice, bob): (TenantId, TenantId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        folders.write("a", &alice, "x.bin", b"12345", QUOTA).unwrap();
        folders.write("a", &alice, "x.bin", b"123", QUOTA).unwrap();
        assert_eq!(folders.read("a", &alice, "x.bin", 3).unwrap(), b"123");
        assert!(matches!(folders.read("a", &alice, "x.bin", 2), Err(BlobError::TooLarge { limit: 2 })));
        for (pack, tenant) in [("a", &bob), ("b", &alice)] {
            assert!(matches!(folders.read(pack, tenant, "x.bin", 9), Err(BlobError::NotFound { .. })));
            assert!(names(&folders, pack, tenant).is_empty());
        }
        assert_eq!(names(&folders, "a", &alice), [("x.bin".to_owned(), 3)]);
        folders.write("b", &alice, "y", b"", QUOTA).unwrap();
        folders.remove_pack("a").unwrap();
        assert!(names(&folders, "a", &alice).is_empty() && !names(&folders, "b", &alice).is_empty());
        folders.remove("b", &alice, "y").unwrap();
        assert!(matches!(folders.remove("b", &alice, "y"), Err(BlobError::NotFound { .. })));
    }

    #[test]
    fn a_full_folder_takes_no_more_bytes_and_no_more_files() {
        let base = tempfile::tempdir().unwrap();
        let folders = ScratchFolders::at(base.path());
        let tenant = TenantId::default_tenant();
        let write = |name: &str, bytes: usize| folders.write("a", &tenant, name, &vec![b'x'; bytes], QUOTA);
        assert!(matches!(write("x", 11), Err(BlobError::ScratchFull { name: "scratch_bytes", .. })));
        write("x", 10).unwrap();
        // Replacing counts the new one only.
        write("x", 9).unwrap();
        assert!(matches!(write("y", 2), Err(BlobError::ScratchFull { name: "scratch_bytes", .. })));
        write("y", 0).unwrap();
        assert!(matches!(write("z", 0), Err(BlobError::ScratchFull { name: "scratch_files", .. })));
        assert_eq!(names(&folders, "a", &tenant), [("x".to_owned(), 9), ("y".to_owned(), 0)]);
    }

    #[test]
    fn names_lead_nowhere_else() {
        let base = tempfile::tempdir().unwrap();
        let folders = ScratchFolders::at(base.path());
        let tenant = TenantId::default_tenant();
        let long = "a".repeat(101);
        for name in ["", ".", "..", ".hidden", "a/b", "../x", "/x", "a\\b", "a b", "a\0b", "ä", "x:y", &long] {
            assert!(matches!(folders.write("a", &tenant, name, b"", QUOTA), Err(BlobError::ScratchName { .. })));
            assert!(folders.read("a", &tenant, name, 1).is_err() && folders.remove("a", &tenant, name).is_err());
        }
        let outside = base.path().join("outside");
        fs::write(&outside, "secret").unwrap();
        folders.write("a", &tenant, "x", b"", QUOTA).unwrap();
        std::os::unix::fs::symlink(&outside, base.path().join("a/default/link")).unwrap();
        assert!(matches!(folders.read("a", &tenant, "link", 9), Err(BlobError::Outside { .. })));
    }
}
