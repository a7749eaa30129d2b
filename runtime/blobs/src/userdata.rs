//! What the user interface keeps for a user: workflows, settings, style sheets.
//!
//! Ordinary files, not blobs: people edit them with their own tools. They are replaced whole, so that neither a crash nor a
//! full disk costs the old content.

use std::io::Read;
use std::path::PathBuf;
use std::time::SystemTime;

use cap_std::fs::{Dir, Metadata};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::files::OpenFile;
use crate::path::RESERVED_PREFIX;
use crate::root::{Root, is_visible};
use crate::{BlobError, RelativePath, place};

const SETTINGS_FILE: &str = "comfy.settings.json";
/// How deep listings go.
const MAX_DEPTH: usize = 64;

/// A file as listings describe it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileInfo {
    /// Where it is, parts joined by `/`; relative to the folder that was listed, or to the user's folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: f64,
    /// Seconds since 1970; when the system does not know, the same as `modified`.
    pub created: f64,
}

/// A file or directory as the second form of listings describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum DirectoryEntry {
    /// A directory.
    Directory {
        /// Its last name.
        name: String,
        /// Relative to the user's folder.
        path: String,
    },
    /// A file.
    File {
        /// Its last name.
        name: String,
        /// Relative to the user's folder.
        path: String,
        /// Bytes.
        size: u64,
        /// Seconds since 1970.
        modified: f64,
    },
}

impl DirectoryEntry {
    fn sort_key(&self) -> (bool, String) {
        match self {
            Self::Directory { name, .. } => (false, name.to_lowercase()),
            Self::File { name, .. } => (true, name.to_lowercase()),
        }
    }
}

/// The files that the user interface keeps for one user.
#[derive(Debug)]
pub struct UserData {
    path: PathBuf,
    // Changing settings is reading, merging and writing; two at once would lose one.
    settings: Mutex<()>,
}

impl UserData {
    /// Opens the folder of a user, creating it where needed.
    ///
    /// # Errors
    /// The path and the cause when that fails.
    pub fn open(path: PathBuf) -> Result<Self, BlobError> {
        Root::open(&path, "user")?;
        Ok(Self { path, settings: Mutex::new(()) })
    }

    fn root(&self) -> Result<Root, BlobError> {
        Root::open(&self.path, "user")
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`BlobError::Name`], [`BlobError::Outside`], [`BlobError::NotFound`], [`BlobError::IsDirectory`], or what the machine says.
    pub fn open_file(&self, path: &str) -> Result<OpenFile, BlobError> {
        self.root()?.open_file(&RelativePath::parse_file(path)?)
    }

    /// Writes a file whole, creating its folders. The answer's path is relative to the user's folder.
    ///
    /// # Errors
    /// [`BlobError::Exists`] without `overwrite`; else as [`UserData::open_file`].
    pub fn write(&self, path: &str, bytes: &[u8], overwrite: bool) -> Result<FileInfo, BlobError> {
        let (root, path) = (self.root()?, RelativePath::parse_file(path)?);
        let spot = root.spot(&path, true)?;
        place::write_file(&spot.dir, spot.name, bytes, overwrite)
            .map_err(|source| root.failed("write", &path, source))?;
        Ok(info(path.to_string(), &root.metadata(&path)?))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`BlobError::IsDirectory`] for directories; else as [`UserData::open_file`].
    pub fn delete(&self, path: &str) -> Result<(), BlobError> {
        let (root, path) = (self.root()?, RelativePath::parse_file(path)?);
        let spot = root.spot(&path, false)?;
        let fail = |source| root.failed("delete", &path, source);
        if spot.dir.symlink_metadata(spot.name).map_err(fail)?.is_dir() {
            return Err(BlobError::IsDirectory { name: root.named(&path) });
        }
        spot.dir.remove_file(spot.name).map_err(fail)
    }

    /// Renames a file, creating the folders of the new name.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] for the old name, [`BlobError::Exists`] for the new one without `overwrite`; else as
    /// [`UserData::open_file`].
    pub fn rename(&self, from: &str, to: &str, overwrite: bool) -> Result<FileInfo, BlobError> {
        let root = self.root()?;
        let (from, to) = (RelativePath::parse_file(from)?, RelativePath::parse_file(to)?);
        let source = root.spot(&from, false)?;
        // Before folders of the new name are created.
        let metadata = root.metadata(&from)?;
        if metadata.is_dir() {
            return Err(BlobError::IsDirectory { name: root.named(&from) });
        }
        let target = root.spot(&to, true)?;
        place::rename(&source.dir, source.name, &target.dir, target.name, overwrite)
            .map_err(|source| root.failed("rename to", &to, source))?;
        Ok(info(to.to_string(), &metadata))
    }

    /// The files of a directory, sorted by path, which is relative to that directory. Names that begin with a dot are left
    /// out; links to directories are not followed.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::NotADirectory`]; else as [`UserData::open_file`].
    pub fn list(&self, directory: &str, recursive: bool) -> Result<Vec<FileInfo>, BlobError> {
        let (root, directory) = (self.root()?, RelativePath::parse(directory)?);
        let mut files = Vec::new();
        let depth = if recursive { MAX_DEPTH } else { 1 };
        walk(&root, &root.directory(&directory, false)?, &directory, depth, &mut |found| {
            if let Found::File { path, metadata } = found {
                let below = path.as_str().strip_prefix(directory.as_str()).unwrap_or(path.as_str());
                files.push(info(below.trim_start_matches('/').to_owned(), metadata));
            }
        })?;
        files.retain(|file| !file.path.split('/').any(|part| part.starts_with('.')));
        files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(files)
    }

    /// All files and directories below a directory: directories first, then by name without regard to case.
    ///
    /// # Errors
    /// As [`UserData::list`].
    pub fn list_entries(&self, directory: &str) -> Result<Vec<DirectoryEntry>, BlobError> {
        let (root, directory) = (self.root()?, RelativePath::parse(directory)?);
        let mut entries = Vec::new();
        walk(&root, &root.directory(&directory, false)?, &directory, MAX_DEPTH, &mut |found| {
            entries.push(match found {
                Found::Directory { path } => {
                    DirectoryEntry::Directory { name: path.split().1.to_owned(), path: path.to_string() }
                }
                Found::File { path, metadata } => DirectoryEntry::File {
                    name: path.split().1.to_owned(),
                    path: path.to_string(),
                    size: metadata.len(),
                    modified: seconds(metadata.modified().ok()),
                },
            });
        })?;
        entries.sort_by_cached_key(DirectoryEntry::sort_key);
        Ok(entries)
    }

    /// All settings; none when there is no settings file yet.
    ///
    /// # Errors
    /// [`BlobError::Settings`] when the file is not a JSON object, or what the machine says.
    pub fn settings(&self) -> Result<Map<String, Value>, BlobError> {
        read_object(&self.root()?, SETTINGS_FILE, self.path.join(SETTINGS_FILE))
    }

    /// Adds settings and replaces those of the same name, all at once.
    ///
    /// # Errors
    /// As [`UserData::settings`]; the old settings stay then.
    pub fn merge_settings(&self, changes: Map<String, Value>) -> Result<(), BlobError> {
        let _one_at_a_time = self.settings.lock();
        let mut settings = self.settings()?;
        settings.extend(changes);
        let path = self.path.join(SETTINGS_FILE);
        let bytes = indented(&settings).map_err(|source| BlobError::Settings { path, source })?;
        self.write(SETTINGS_FILE, &bytes, true)?;
        Ok(())
    }
}

/// A JSON object of a file in `root`, empty when there is no such file. `path` is for messages.
pub(crate) fn read_object(root: &Root, name: &str, path: PathBuf) -> Result<Map<String, Value>, BlobError> {
    let mut opened = match root.open_file(&RelativePath::parse_file(name)?) {
        Err(BlobError::NotFound { .. }) => return Ok(Map::new()),
        other => other?,
    };
    let mut bytes = Vec::new();
    opened.file.read_to_end(&mut bytes).map_err(|source| BlobError::machine("read", &path, source))?;
    serde_json::from_slice(&bytes).map_err(|source| BlobError::Settings { path, source })
}

/// JSON with four spaces, as ComfyUI writes it.
fn indented(settings: &Map<String, Value>) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    settings.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(bytes)
}

enum Found<'a> {
    Directory { path: &'a RelativePath },
    File { path: &'a RelativePath, metadata: &'a Metadata },
}

fn walk(
    root: &Root,
    directory: &Dir,
    path: &RelativePath,
    depth: usize,
    visit: &mut dyn FnMut(Found<'_>),
) -> Result<(), BlobError> {
    let fail = |source| root.failed("list", path, source);
    for entry in directory.entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with(RESERVED_PREFIX) {
            place::sweep(directory, &entry);
            continue;
        }
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if !is_visible(&name) {
            continue;
        }
        let Ok(below) = RelativePath::parse(&name).and_then(|name| path.join(&name)) else {
            continue;
        };
        if kind.is_dir() {
            visit(Found::Directory { path: &below });
            if depth > 1
                && let Ok(opened) = entry.open_dir()
            {
                walk(root, &opened, &below, depth - 1, visit)?;
            }
        } else if let Ok(metadata) = root.dir.metadata(below.as_str())
            && metadata.is_file()
        {
            visit(Found::File { path: &below, metadata: &metadata });
        }
    }
    Ok(())
}

fn info(path: String, metadata: &Metadata) -> FileInfo {
    let modified = metadata.modified().ok();
    let created = metadata.created().ok().or(modified);
    FileInfo { path, size: metadata.len(), modified: seconds(modified), created: seconds(created) }
}

fn seconds(time: Option<cap_std::time::SystemTime>) -> f64 {
    time.and_then(|time| time.into_std().duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0.0, |age| age.as_secs_f64())
}
