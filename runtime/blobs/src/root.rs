//! A folder as a handle. Everything below it is opened relative to the handle, which cannot be left.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};

use crate::files::OpenFile;
use crate::path::RESERVED_PREFIX;
use crate::{BlobError, RelativePath};

/// An open folder. Opened anew for every call: people delete and mount over folders while the server runs.
pub(crate) struct Root {
    pub(crate) dir: Dir,
    path: PathBuf,
    label: &'static str,
}

/// The directory that holds (or shall hold) a file, and the file's last name.
pub(crate) struct Spot<'a> {
    pub(crate) dir: Dir,
    pub(crate) name: &'a str,
}

impl Root {
    /// Opens a folder, creating it where needed. `label` names it in errors.
    pub(crate) fn open(path: &Path, label: &'static str) -> Result<Self, BlobError> {
        let dir = match Dir::open_ambient_dir(path, ambient_authority()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Dir::create_ambient_dir_all(path, ambient_authority())
                    .map_err(|source| BlobError::machine("create the directory", path, source))?;
                Dir::open_ambient_dir(path, ambient_authority())
            }
            other => other,
        }
        .map_err(|source| BlobError::machine("open the directory", path, source))?;
        Ok(Self { dir, path: path.to_path_buf(), label })
    }

    /// Sorts a failure that happened to `file`.
    pub(crate) fn failed(&self, doing: &'static str, file: &RelativePath, source: io::Error) -> BlobError {
        BlobError::named(doing, self.named(file), &self.path.join(file.as_str()), source)
    }

    /// Folder and name, for errors.
    pub(crate) fn named(&self, file: &RelativePath) -> String {
        if file.is_folder_itself() { self.label.to_owned() } else { format!("{}/{file}", self.label) }
    }

    /// Opens a directory below, creating it if asked.
    pub(crate) fn directory(&self, folder: &RelativePath, create: bool) -> Result<Dir, BlobError> {
        if folder.is_folder_itself() {
            return self.dir.try_clone().map_err(|source| self.failed("open the directory", folder, source));
        }
        match self.dir.open_dir(folder.as_str()) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                self.dir.create_dir_all(folder.as_str()).map_err(|source| match source.kind() {
                    // A dangling link, or a file where a directory is needed.
                    io::ErrorKind::AlreadyExists => BlobError::NotADirectory { name: self.named(folder) },
                    _ => self.failed("create the directory", folder, source),
                })?;
                self.dir.open_dir(folder.as_str())
            }
            other => other,
        }
        .map_err(|source| self.failed("open the directory", folder, source))
    }

    /// The directory of a file and its last name.
    pub(crate) fn spot<'a>(&self, file: &'a RelativePath, create: bool) -> Result<Spot<'a>, BlobError> {
        let name = file.as_str().rsplit('/').next().unwrap_or_default();
        let (folder, _) = file.split();
        Ok(Spot { dir: self.directory(&folder, create)?, name })
    }

    /// What is known about a file or directory; links are followed, as far as they stay inside.
    pub(crate) fn metadata(&self, file: &RelativePath) -> Result<Metadata, BlobError> {
        let path = if file.is_folder_itself() { "." } else { file.as_str() };
        self.dir.metadata(path).map_err(|source| self.failed("look at", file, source))
    }

    /// Opens an ordinary file for reading.
    pub(crate) fn open_file(&self, file: &RelativePath) -> Result<OpenFile, BlobError> {
        let fail = |source| self.failed("open", file, source);
        let mut options = OpenOptions::new();
        options.read(true);
        // A named pipe would keep the thread until somebody writes to it.
        #[cfg(unix)]
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        let opened = self.dir.open_with(file.as_str(), &options).map_err(fail)?;
        let metadata = opened.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(BlobError::IsDirectory { name: self.named(file) });
        }
        if !metadata.is_file() {
            return Err(BlobError::NotAFile { name: self.named(file) });
        }
        let modified = metadata.modified().map_err(fail)?.into_std();
        Ok(OpenFile { len: metadata.len(), modified, inode: inode(&metadata), file: opened.into_std() })
    }
}

/// Whether a name found in a directory is one a client could also ask for.
pub(crate) fn is_visible(name: &str) -> bool {
    !name.starts_with(RESERVED_PREFIX) && RelativePath::parse(name).is_ok()
}

#[cfg(unix)]
pub(crate) fn inode(metadata: &Metadata) -> u64 {
    use cap_std::fs::MetadataExt;
    metadata.ino()
}

#[cfg(not(unix))]
pub(crate) fn inode(_: &Metadata) -> u64 {
    0
}
