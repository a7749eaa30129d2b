//! What the sandbox needs from outside to serve a guest: files, events, models. The worker implements it for a tenant.

use std::{
    collections::HashSet,
    fs::File,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use vivarium_outbound::{Bounds, Request, Response};
use vivarium_protocol::{
    definition::{NodeDefinition, Section},
    permission::Permission,
    tenant::TenantId,
};
use vivarium_tensor::{Budget, GpuJob};

use crate::{
    error::{CallError, CallErrorKind},
    limits::Limits,
    value::NodeValue,
};

/// One call into a guest: for whom, inside which limits, with what powers.
#[derive(Clone)]
pub struct CallContext {
    /// Whose prompt it is.
    pub tenant: TenantId,
    /// The prompt, or empty outside of one.
    pub prompt_id: Arc<str>,
    /// The node, or empty outside of one.
    pub node_id: Arc<str>,
    /// Limits in force.
    pub limits: Arc<Limits>,
    /// What tensors of this call are charged to; usually the tenant's.
    pub budget: Arc<Budget>,
    /// What the prompt has of a GPU; without one, tensors are computed on the CPU.
    pub gpu: Option<GpuJob>,
    /// Set when the prompt shall stop.
    pub interrupt: Arc<AtomicBool>,
    /// When the time of the whole prompt is up; absent outside of a run.
    pub deadline: Option<Instant>,
    /// Files, events and models of the tenant.
    pub services: Arc<dyn HostServices>,
    /// How many object methods are above this call.
    pub depth: u64,
}

impl CallContext {
    /// With the limits of a pack, where it has some of its own.
    pub(crate) fn within(self, pack: &str) -> Self {
        match self.services.limits(pack) {
            Some(limits) => Self { limits, ..self },
            None => self,
        }
    }
}

/// Where a node saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFolder {
    /// Kept.
    Output,
    /// Emptied at start.
    Temp,
}

/// One saved file, as ComfyUI's `ui.images` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedImage {
    /// File name.
    pub filename: String,
    /// Folder inside the output or temp folder.
    pub subfolder: String,
    /// Which of the two.
    pub folder: OutputFolder,
}

/// A batch of images to save under one prefix.
#[derive(Clone, Debug)]
pub struct SaveRequest<'a> {
    /// Where.
    pub folder: OutputFolder,
    /// ComfyUI's filename prefix with its `%variables%`.
    pub prefix: &'a str,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How many.
    pub count: usize,
}

/// A preview picture, 8 bits per channel.
#[derive(Clone, Debug)]
pub struct PreviewPixels {
    /// Row-major RGB.
    pub rgb: Vec<u8>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Normal.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// A scratch file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScratchEntry {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What an input folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Inside of the folder.
    pub name: String,
    /// A folder, else a file.
    pub is_folder: bool,
    /// 0 for a folder.
    pub bytes: u64,
}

fn not_offered() -> CallError {
    CallError::new(CallErrorKind::Unsupported, "this host does not offer it")
}

/// The tenant's side of a call.
pub trait HostServices: Send + Sync {
    /// Whether an image file of this name exists. `name` may end in ` [input]`, ` [output]` or ` [temp]`.
    fn image_exists(&self, name: &str) -> bool;

    /// SHA-256 of the file in hexadecimal digits.
    ///
    /// # Errors
    /// Not found, or not readable.
    fn image_fingerprint(&self, name: &str) -> Result<String, CallError>;

    /// The bytes of the file.
    ///
    /// # Errors
    /// Not found, not readable, or too large.
    fn image_bytes(&self, name: &str) -> Result<Vec<u8>, CallError>;

    /// Saves PNG files under a prefix; `encode` makes the bytes of one image when it is its turn.
    ///
    /// # Errors
    /// A prefix that leaves the folder, a full disk, a quota, or the error of `encode`.
    fn save_images(
        &self,
        request: &SaveRequest<'_>,
        encode: &mut dyn FnMut(usize) -> Result<Vec<u8>, CallError>,
    ) -> Result<Vec<SavedImage>, CallError>;

    /// Whether saved images carry text chunks (`--disable-metadata` turns them off).
    fn saves_metadata(&self) -> bool;

    /// Whether anybody wants previews now: the time since the last one and the configured method decide.
    fn wants_preview(&self) -> bool;

    /// Progress of the running node.
    fn progress(&self, node_id: &str, value: f64, max: f64, preview: Option<PreviewPixels>);

    /// A text beside the running node, bounded and clean. Who shows no progress needs none.
    fn progress_text(&self, _node_id: &str, _text: String) {}

    /// A log line of the running node.
    fn log(&self, pack: &str, node_id: &str, level: LogLevel, message: &str);

    /// The limits of a pack, where they may differ from those of the call's tenant.
    fn limits(&self, _pack: &str) -> Option<Arc<Limits>> {
        None
    }

    /// Whether a pack may do something. The sandbox asks before it calls what follows.
    fn allows(&self, pack: &str, permission: &Permission) -> bool;

    /// Files of a model folder.
    ///
    /// # Errors
    /// The folder does not exist.
    fn model_files(&self, folder: &str) -> Result<Vec<String>, CallError>;

    /// Opens a model file for reading.
    ///
    /// # Errors
    /// The file does not exist.
    fn open_model(&self, folder: &str, name: &str) -> Result<File, CallError>;

    /// One of the tenant's secrets, if there is one of that name.
    ///
    /// # Errors
    /// The secrets cannot be read.
    fn secret(&self, name: &str) -> Result<Option<String>, CallError>;

    /// Sends an HTTP request to a host that the pack was granted, and waits for the answer until `stop` says so.
    ///
    /// # Errors
    /// Not granted, refused on the way, over a limit, or failed.
    fn http(
        &self,
        _pack: &str,
        _request: Request,
        _bounds: &Bounds,
        _stop: &dyn Fn() -> bool,
    ) -> Result<Response, CallError> {
        Err(not_offered())
    }

    /// A pack's scratch files, sorted by name.
    ///
    /// # Errors
    /// They cannot be read.
    fn scratch_files(&self, _pack: &str) -> Result<Vec<ScratchEntry>, CallError> {
        Err(not_offered())
    }

    /// A scratch file of no more than `limit` bytes.
    ///
    /// # Errors
    /// Not a name, not there, too large, or not readable.
    fn read_scratch(&self, _pack: &str, _name: &str, _limit: u64) -> Result<Vec<u8>, CallError> {
        Err(not_offered())
    }

    /// Writes a scratch file within `limits`.
    ///
    /// # Errors
    /// Not a name, no room, or not writable.
    fn write_scratch(&self, _pack: &str, _name: &str, _data: &[u8], _limits: &Limits) -> Result<(), CallError> {
        Err(not_offered())
    }

    /// Removes a scratch file.
    ///
    /// # Errors
    /// Not a name, not there, or not removable.
    fn remove_scratch(&self, _pack: &str, _name: &str) -> Result<(), CallError> {
        Err(not_offered())
    }

    /// What an input folder holds at a path, sorted by name, up to `limit` entries.
    ///
    /// # Errors
    /// Not there, outside, or more than that.
    fn list_folder(&self, _folder: &str, _path: &str, _limit: u64) -> Result<Vec<FolderEntry>, CallError> {
        Err(not_offered())
    }

    /// Opens a file of an input folder for reading.
    ///
    /// # Errors
    /// Not there, or outside.
    fn open_in_folder(&self, _folder: &str, _path: &str) -> Result<File, CallError> {
        Err(not_offered())
    }
}

/// The texts among a call's inputs: names of the image files that it may read. What the host itself filled in (hidden
/// inputs such as the whole prompt) names files for other nodes, so it gives no access.
pub(crate) fn designated_names(inputs: &NodeValue, node: Option<&NodeDefinition>) -> HashSet<String> {
    fn collect(value: &NodeValue, names: &mut HashSet<String>) {
        match value {
            NodeValue::String(text) => {
                names.insert(text.to_string());
            }
            NodeValue::List(items) => items.iter().for_each(|item| collect(item, names)),
            NodeValue::Map(entries) => entries.values().for_each(|item| collect(item, names)),
            _ => {}
        }
    }
    let hidden =
        |name: &str| node.and_then(|node| node.input(name)).is_some_and(|input| input.section == Section::Hidden);
    let mut names = HashSet::new();
    if let NodeValue::Map(entries) = inputs {
        entries.iter().filter(|(name, _)| !hidden(name)).for_each(|(_, value)| collect(value, &mut names));
    }
    names
}

/// For a pack that describes itself: no files, no models, nobody listens.
pub(crate) struct NoServices;

impl NoServices {
    fn refused() -> CallError {
        CallError::new(CallErrorKind::PermissionDenied, "a pack that describes itself has no access to files")
    }
}

impl HostServices for NoServices {
    fn image_exists(&self, _name: &str) -> bool {
        false
    }

    fn image_fingerprint(&self, _name: &str) -> Result<String, CallError> {
        Err(Self::refused())
    }

    fn image_bytes(&self, _name: &str) -> Result<Vec<u8>, CallError> {
        Err(Self::refused())
    }

    fn save_images(
        &self,
        _request: &SaveRequest<'_>,
        _encode: &mut dyn FnMut(usize) -> Result<Vec<u8>, CallError>,
    ) -> Result<Vec<SavedImage>, CallError> {
        Err(Self::refused())
    }

    fn saves_metadata(&self) -> bool {
        false
    }

    fn wants_preview(&self) -> bool {
        false
    }

    fn progress(&self, _node_id: &str, _value: f64, _max: f64, _preview: Option<PreviewPixels>) {}

    fn log(&self, _pack: &str, _node_id: &str, _level: LogLevel, _message: &str) {}

    fn allows(&self, _pack: &str, _permission: &Permission) -> bool {
        false
    }

    fn model_files(&self, _folder: &str) -> Result<Vec<String>, CallError> {
        Err(Self::refused())
    }

    fn open_model(&self, _folder: &str, _name: &str) -> Result<File, CallError> {
        Err(Self::refused())
    }

    fn secret(&self, _name: &str) -> Result<Option<String>, CallError> {
        Err(Self::refused())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn the_whole_prompt_names_no_files_for_a_node() {
        let node: NodeDefinition = serde_json::from_value(json!({
            "class_type": "X", "display_name": "X", "category": "x",
            "inputs": [{"name": "image", "type": "COMBO"}, {"name": "prompt", "type": "PROMPT", "section": "hidden"}]
        }))
        .unwrap();
        let inputs = json!({"image": ["a.png"], "prompt": {"2": {"inputs": {"image": "secret.png"}}}});
        let names = designated_names(&NodeValue::from_json(&inputs), Some(&node));
        assert_eq!(names, HashSet::from(["a.png".to_owned()]));
    }
}
