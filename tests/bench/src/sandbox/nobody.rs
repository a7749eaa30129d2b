//! A tenant without files, models or listeners.

use std::fs::File;

use vivarium_protocol::permission::Permission;
use vivarium_sandbox::{CallError, CallErrorKind, HostServices, LogLevel, PreviewPixels, SaveRequest, SavedImage};

/// Refuses everything that leaves the sandbox.
pub(super) struct Nobody;

impl Nobody {
    fn refuses<T>() -> Result<T, CallError> {
        Err(CallError {
            kind: CallErrorKind::PermissionDenied,
            message: "there are no files in a benchmark of the sandbox".to_owned(),
            frames: Vec::new(),
        })
    }
}

impl HostServices for Nobody {
    fn image_exists(&self, _name: &str) -> bool {
        false
    }

    fn image_fingerprint(&self, _name: &str) -> Result<String, CallError> {
        Self::refuses()
    }

    fn image_bytes(&self, _name: &str) -> Result<Vec<u8>, CallError> {
        Self::refuses()
    }

    fn save_images(
        &self,
        _request: &SaveRequest<'_>,
        _encode: &mut dyn FnMut(usize) -> Result<Vec<u8>, CallError>,
    ) -> Result<Vec<SavedImage>, CallError> {
        Self::refuses()
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
        Self::refuses()
    }

    fn open_model(&self, _folder: &str, _name: &str) -> Result<File, CallError> {
        Self::refuses()
    }

    fn secret(&self, _name: &str) -> Result<Option<String>, CallError> {
        Self::refuses()
    }
}
