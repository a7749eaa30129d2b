//! The model folders as UIs browse them: names, sizes, previews and the header of safetensors files.
//!
//! Clients name files; a name is only ever looked up in the listing that we made ourselves, so it cannot lead elsewhere.
//! The folders are the operator's: links in them are followed. Nothing here reads weights.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::ModelFolder;

/// The longest safetensors header that is read, in bytes, as in ComfyUI.
const HEADER_BYTES: u64 = 1024 * 1024;
/// How deep folders are searched; a link may lead in circles.
const MAX_DEPTH: usize = 16;
/// How many files of a type are listed.
const MAX_FILES: usize = 100_000;
/// What a preview beside a model may end with.
const PREVIEW_EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "gif"];

/// All model folders.
#[derive(Debug)]
pub(crate) struct Models {
    folders: Vec<ModelFolder>,
}

/// One model file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ModelFile {
    /// Relative to its directory, parts joined by `/`.
    pub(crate) name: String,
    #[serde(rename = "pathIndex")]
    pub(crate) directory: usize,
    /// Seconds since 1970.
    modified: f64,
    /// Seconds since 1970.
    created: f64,
    /// Bytes.
    size: u64,
    #[serde(skip)]
    path: PathBuf,
}

impl Models {
    pub(crate) fn new(folders: Vec<ModelFolder>) -> Self {
        Self { folders }
    }

    pub(crate) fn folders(&self) -> &[ModelFolder] {
        &self.folders
    }

    pub(crate) fn folder(&self, name: &str) -> Option<&ModelFolder> {
        self.folders.iter().find(|folder| folder.name == name)
    }

    /// The files of a type in all its directories. A directory that is missing or unreadable has none.
    pub(crate) fn files(&self, folder: &ModelFolder) -> Vec<ModelFile> {
        let mut files = Vec::new();
        for (index, directory) in folder.directories.iter().enumerate() {
            walk(directory, "", 0, &mut |name, path, metadata| {
                if files.len() < MAX_FILES && folder.takes(&name) {
                    files.push(ModelFile::new(name, index, path, metadata));
                }
            });
        }
        files
    }

    /// The names of a type, sorted, each once.
    pub(crate) fn names(&self, folder: &ModelFolder) -> Vec<String> {
        let mut names: Vec<String> = self.files(folder).into_iter().map(|file| file.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The image that lies beside a model.
    pub(crate) fn preview(&self, folder: &ModelFolder, directory: usize, name: &str) -> Option<PathBuf> {
        let file = self.files(folder).into_iter().find(|file| file.directory == directory && file.name == name)?;
        let stem = file.path.file_stem()?.to_str()?.to_owned();
        let candidates = PREVIEW_EXTENSIONS
            .iter()
            .flat_map(|extension| [format!("{stem}.{extension}"), format!("{stem}.preview.{extension}")]);
        candidates.map(|candidate| file.path.with_file_name(candidate)).find(|path| path.is_file())
    }

    /// The `__metadata__` of a safetensors file; `None` when there is no such file or it has none.
    pub(crate) fn metadata(&self, folder: &ModelFolder, name: &str) -> Result<Option<Map<String, Value>>, HeaderError> {
        if !name.to_ascii_lowercase().ends_with(".safetensors") {
            return Ok(None);
        }
        let Some(file) = self.files(folder).into_iter().find(|file| file.name == name) else { return Ok(None) };
        read_metadata(File::open(&file.path)?)
    }
}

/// Why a safetensors header cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the safetensors header is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

fn read_metadata(mut file: impl Read) -> Result<Option<Map<String, Value>>, HeaderError> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    let mut header: Map<String, Value> = serde_json::from_slice(&header)?;
    match header.remove("__metadata__") {
        Some(Value::Object(metadata)) => Ok(Some(metadata)),
        _ => Ok(None),
    }
}

impl ModelFolder {
    fn takes(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.extensions.is_empty() || self.extensions.iter().any(|extension| name.ends_with(extension))
    }
}

impl ModelFile {
    fn new(name: String, directory: usize, path: PathBuf, metadata: &fs::Metadata) -> Self {
        let modified = metadata.modified().ok();
        let created = metadata.created().ok().or(modified);
        Self { name, directory, modified: seconds(modified), created: seconds(created), size: metadata.len(), path }
    }

    /// Files and folders that begin with a dot are not shown with details, as in ComfyUI.
    pub(crate) fn is_hidden(&self) -> bool {
        self.name.split('/').any(|part| part.starts_with('.'))
    }
}

fn walk(directory: &Path, below: &str, depth: usize, visit: &mut dyn FnMut(String, PathBuf, &fs::Metadata)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && depth < MAX_DEPTH && !name.ends_with(".git") => {
                walk(&path, &name, depth + 1, visit);
            }
            Ok(metadata) if metadata.is_file() => visit(name, path, &metadata),
            _ => {}
        }
    }
}

fn seconds(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |age| age.as_secs_f64())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn safetensors(header: &str) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    }

    #[test]
    fn hostile_headers_are_refused_without_reading_them() {
        assert!(read_metadata(&u64::MAX.to_le_bytes()[..]).unwrap().is_none());
        assert!(read_metadata(&b"abc"[..]).is_err());
        assert!(read_metadata(&safetensors("{")[..]).is_err());
        assert!(read_metadata(&safetensors("{}")[..]).unwrap().is_none());
        let metadata = read_metadata(&safetensors(r#"{"__metadata__":{"a":"b"}}"#)[..]).unwrap().unwrap();
        assert_eq!(metadata["a"], "b");
    }

    #[test]
    fn only_listed_names_lead_to_files() {
        let root = tempfile::tempdir().unwrap();
        let loras = root.path().join("loras");
        fs::create_dir_all(loras.join("sub")).unwrap();
        fs::write(root.path().join("secret.safetensors"), safetensors(r#"{"__metadata__":{}}"#)).unwrap();
        fs::write(root.path().join("secret.png"), "").unwrap();
        fs::write(loras.join("sub/a.safetensors"), safetensors(r#"{"__metadata__":{"k":"v"}}"#)).unwrap();
        fs::write(loras.join("sub/a.preview.png"), "").unwrap();
        fs::write(loras.join("notes.txt"), "").unwrap();
        let folder = ModelFolder {
            name: "loras".to_owned(),
            directories: vec![loras],
            extensions: vec![".safetensors".to_owned()],
        };
        let models = Models::new(vec![folder.clone()]);
        assert_eq!(models.names(&folder), ["sub/a.safetensors"]);
        assert!(models.preview(&folder, 0, "sub/a.safetensors").is_some());
        assert!(models.metadata(&folder, "sub/a.safetensors").unwrap().is_some());
        for name in ["../secret.safetensors", "sub/../../secret.safetensors", "sub/./a.safetensors", ""] {
            assert!(models.preview(&folder, 0, name).is_none(), "{name}");
            assert!(models.metadata(&folder, name).unwrap().is_none(), "{name}");
        }
    }
}
