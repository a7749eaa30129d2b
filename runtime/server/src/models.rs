//! What UIs show of model files beyond their names: the preview beside one, the header of a safetensors file.
//!
//! Where models lie, what they are called and how one is opened is [`ModelFolders`]' business. Nothing here reads weights.

use std::{
    fs::File,
    io::{self, Read},
};

use serde_json::{Map, Value};
use vivarium_blobs::{BlobError, ModelFolders};

/// The longest safetensors header that is read, in bytes, as in ComfyUI.
const HEADER_BYTES: u64 = 1024 * 1024;
/// What a preview beside a model may end with.
const PREVIEW_EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "gif"];

/// Why a safetensors header cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error(transparent)]
    File(#[from] BlobError),
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the safetensors header is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The bytes of the image that lies beside a model, `limit` at most; `None` when there is none.
pub(crate) fn preview(
    models: &ModelFolders,
    folder: &str,
    path_index: usize,
    name: &str,
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    let listed = models.files(folder).unwrap_or_default();
    if !listed.iter().any(|file| file.path_index == path_index && file.name == name) {
        return Ok(None);
    }
    let Some(root) = models.paths(folder).and_then(|paths| paths.get(path_index).cloned()) else { return Ok(None) };
    let stem = root.join(name).with_extension("");
    let Some(stem_name) = stem.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let candidates = PREVIEW_EXTENSIONS
        .iter()
        .flat_map(|extension| [format!("{stem_name}.{extension}"), format!("{stem_name}.preview.{extension}")]);
    let Some(path) = candidates.map(|candidate| stem.with_file_name(candidate)).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The `__metadata__` of a safetensors file; `None` when there is no such file or it has none.
pub(crate) fn metadata(
    models: &ModelFolders,
    folder: &str,
    name: &str,
) -> Result<Option<Map<String, Value>>, HeaderError> {
    if !name.to_ascii_lowercase().ends_with(".safetensors") {
        return Ok(None);
    }
    match models.open(folder, name) {
        Ok(file) => read_metadata(file),
        Err(BlobError::NotFound { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

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
        let base = tempfile::tempdir().unwrap();
        let loras = base.path().join("models/loras");
        fs::create_dir_all(loras.join("sub")).unwrap();
        let secret = base.path().join("models/secret.safetensors");
        fs::write(&secret, safetensors(r#"{"__metadata__":{}}"#)).unwrap();
        fs::write(secret.with_extension("png"), "secret").unwrap();
        fs::write(loras.join("sub/a.b.safetensors"), safetensors(r#"{"__metadata__":{"k":"v"}}"#)).unwrap();
        fs::write(loras.join("sub/a.b.preview.png"), "image").unwrap();
        let models = ModelFolders::below(base.path());
        let preview = |index, name| preview(&models, "loras", index, name, 3).unwrap();
        assert_eq!(preview(0, "sub/a.b.safetensors").as_deref(), Some(&b"ima"[..]));
        assert_eq!(preview(1, "sub/a.b.safetensors"), None);
        assert!(metadata(&models, "loras", "sub/a.b.safetensors").unwrap().is_some());
        for name in ["../secret.safetensors", "sub/../../secret.safetensors", "sub/./a.b.safetensors", ""] {
            assert_eq!(preview(0, name), None, "{name}");
        }
        assert!(metadata(&models, "loras", "../secret.safetensors").is_err());
        assert!(metadata(&models, "loras", "none.safetensors").unwrap().is_none());
        assert!(metadata(&models, "none", "a.safetensors").unwrap().is_none());
    }
}
