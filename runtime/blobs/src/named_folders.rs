//! Folders of this machine that the operator gave names to, so that nodes can be allowed to read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::OpenFile;
use crate::root::{Root, is_visible};
use crate::{BlobError, RelativePath};

/// Names and what they stand for.
#[derive(Clone, Debug, Default)]
pub struct NamedFolders(BTreeMap<String, PathBuf>);

/// A file or folder in a named folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedEntry {
    /// Inside of the folder that was listed.
    pub name: String,
    /// Not a file.
    pub is_folder: bool,
    /// 0 for a folder.
    pub bytes: u64,
}

impl NamedFolders {
    /// Takes names and folders.
    #[must_use]
    pub fn new(folders: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        Self(folders.into_iter().collect())
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What is in a folder at a path, sorted. Links count as what they lead to, if that is inside; anything that is neither
    /// file nor folder is left out.
    ///
    /// # Errors
    /// Nothing is there, it leads outside, it is no folder, or it holds more than `limit` entries.
    pub fn list(&self, folder: &str, path: &str, limit: u64) -> Result<Vec<NamedEntry>, BlobError> {
        let path = RelativePath::parse(path)?;
        let root = self.root(folder)?;
        let directory = root.directory(&path, false)?;
        let failed = |source| root.failed("list", &path, source);
        let mut entries = Vec::new();
        for (seen, entry) in directory.entries().map_err(failed)?.enumerate() {
            if seen as u64 >= limit {
                return Err(BlobError::TooManyFiles { name: root.named(&path), limit });
            }
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = directory.metadata(&name) else { continue };
            if is_visible(&name) && (metadata.is_file() || metadata.is_dir()) {
                let bytes = if metadata.is_file() { metadata.len() } else { 0 };
                entries.push(NamedEntry { name, is_folder: metadata.is_dir(), bytes });
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Nothing is there, it leads outside, or it is no file.
    pub fn open(&self, folder: &str, path: &str) -> Result<OpenFile, BlobError> {
        self.root(folder)?.open_file(&RelativePath::parse_file(path)?)
    }

    fn root(&self, folder: &str) -> Result<Root, BlobError> {
        let missing = || BlobError::NoFolder { name: folder.chars().take(100).collect() };
        let path: &Path = self.0.get(folder).ok_or_else(missing)?;
        // `Root::open` would make it.
        if !path.is_dir() {
            return Err(missing());
        }
        Root::open(path, "the input folder")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_inside_can_be_read_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let photos = base.path().join("photos");
        fs::create_dir_all(photos.join("2020")).unwrap();
        fs::write(photos.join("a.jpg"), "jpeg").unwrap();
        fs::write(photos.join("2020/b.jpg"), "").unwrap();
        fs::write(base.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", photos.join("out")).unwrap();
        std::os::unix::fs::symlink("2020/b.jpg", photos.join("in")).unwrap();
        let folders = NamedFolders::new([("photos".to_owned(), photos), ("gone".to_owned(), "/no/such".into())]);

        let names = |path: &str| -> Vec<String> {
            folders.list("photos", path, 10).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(""), ["2020", "a.jpg", "in"]);
        assert_eq!(names("2020"), ["b.jpg"]);
        let mut text = String::new();
        folders.open("photos", "a.jpg").unwrap().file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "jpeg");

        for path in ["out", "../secret", "/etc/passwd", "2020/../../secret", "2020", "", "nothing", "a.jpg\0"] {
            assert!(folders.open("photos", path).is_err(), "{path:?}");
        }
        assert!(folders.list("photos", "..", 10).is_err() && folders.list("photos", "a.jpg", 10).is_err());
        assert!(matches!(folders.list("photos", "", 3), Err(BlobError::TooManyFiles { limit: 3, .. })));
        for folder in ["gone", "other", "../photos", ""] {
            assert!(matches!(folders.list(folder, "", 10), Err(BlobError::NoFolder { .. })), "{folder}");
        }
    }
}
