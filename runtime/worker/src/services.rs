//! What a running node may reach of its tenant: files by name, progress, log, models that were granted.

use std::{fs::File, io::Read, sync::Arc};

use vivarium_blobs::{AnnotatedName, BlobError, Durability, Folder, ModelFolders, OutputName, TenantFiles};
use vivarium_packs::Grants;
use vivarium_protocol::{permission::Permission, tenant::TenantId};
use vivarium_sandbox::{
    CallError, CallErrorKind, HostServices, LogLevel, OutputFolder, PreviewPixels, SaveRequest, SavedImage,
};

use crate::progress::ProgressTracker;

/// A node reads no image file larger than this; its pixels are limited apart.
const IMAGE_FILE_BYTES: u64 = 512 << 20;

/// The services of one tenant for one prompt.
pub(crate) struct NodeServices {
    pub(crate) tenant: TenantId,
    pub(crate) files: Arc<TenantFiles>,
    pub(crate) models: Arc<ModelFolders>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) save_metadata: bool,
    /// Absent outside of a run, for validators and fingerprints.
    pub(crate) progress: Option<Arc<ProgressTracker>>,
}

fn file_error(error: &BlobError) -> CallError {
    let kind = match error {
        BlobError::NotFound { .. } => CallErrorKind::NotFound,
        BlobError::Name { .. } | BlobError::Outside { .. } => CallErrorKind::PermissionDenied,
        error if error.is_clients_fault() => CallErrorKind::InvalidArgument,
        _ => CallErrorKind::Internal,
    };
    CallError::new(kind, error.to_string())
}

impl HostServices for NodeServices {
    fn image_exists(&self, name: &str) -> bool {
        self.files.exists(&AnnotatedName::parse(name), Folder::Input)
    }

    fn image_fingerprint(&self, name: &str) -> Result<String, CallError> {
        let digest = self.files.digest_named(&AnnotatedName::parse(name), Folder::Input);
        digest.map(|digest| digest.to_string()).map_err(|error| file_error(&error))
    }

    fn image_bytes(&self, name: &str) -> Result<Vec<u8>, CallError> {
        let opened = self.files.open_named(&AnnotatedName::parse(name), Folder::Input);
        let mut opened = opened.map_err(|error| file_error(&error))?;
        if opened.len > IMAGE_FILE_BYTES {
            let message =
                format!("{name} has {} bytes; nodes read image files of up to {IMAGE_FILE_BYTES}", opened.len);
            return Err(CallError::new(CallErrorKind::LimitExceeded, message));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(opened.len).unwrap_or_default());
        // The file may grow while it is read.
        let read = (&mut opened.file).take(IMAGE_FILE_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| CallError::new(CallErrorKind::Internal, format!("{name} cannot be read: {error}")))?;
        Ok(bytes)
    }

    fn save_images(
        &self,
        request: &SaveRequest<'_>,
        encode: &mut dyn FnMut(usize) -> Result<Vec<u8>, CallError>,
    ) -> Result<Vec<SavedImage>, CallError> {
        let failed = |error: BlobError| file_error(&error);
        let name =
            OutputName::new(request.prefix, u64::from(request.width), u64::from(request.height)).map_err(failed)?;
        let mut saved = Vec::new();
        for index in 0..request.count {
            let (bytes, number) = (encode(index)?, index as u64);
            let file = match request.folder {
                // Previews are gone after a restart anyway, so nobody waits for the disk because of them.
                OutputFolder::Temp => self.files.save_temporary(&name, number, "png", &bytes),
                OutputFolder::Output => {
                    let blob = self.files.store().put(&bytes, Durability::Synced).map_err(failed)?;
                    self.files.save_output(Folder::Output, &name, number, "png", &blob)
                }
            };
            let file = file.map_err(failed)?;
            saved.push(SavedImage { filename: file.name, subfolder: file.subfolder, folder: request.folder });
        }
        Ok(saved)
    }

    fn saves_metadata(&self) -> bool {
        self.save_metadata
    }

    fn wants_preview(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.wants_preview())
    }

    fn progress(&self, node_id: &str, value: f64, max: f64, preview: Option<PreviewPixels>) {
        if let Some(progress) = &self.progress {
            progress.report(node_id, value, max, preview);
        }
    }

    fn log(&self, pack: &str, node_id: &str, level: LogLevel, message: &str) {
        let tenant = self.tenant.as_str();
        match level {
            LogLevel::Trace => tracing::trace!(target: "node", tenant, pack, node = node_id, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "node", tenant, pack, node = node_id, "{message}"),
            LogLevel::Info => tracing::info!(target: "node", tenant, pack, node = node_id, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "node", tenant, pack, node = node_id, "{message}"),
            LogLevel::Error => tracing::error!(target: "node", tenant, pack, node = node_id, "{message}"),
        }
    }

    fn allows(&self, pack: &str, permission: &Permission) -> bool {
        self.grants.allows(&self.tenant, pack, permission)
    }

    fn model_files(&self, folder: &str) -> Result<Vec<String>, CallError> {
        self.models
            .names(folder)
            .ok_or_else(|| CallError::new(CallErrorKind::NotFound, format!("there is no model folder {folder:?}")))
    }

    fn open_model(&self, folder: &str, name: &str) -> Result<File, CallError> {
        self.models.open(folder, name).map_err(|error| file_error(&error))
    }

    fn secret(&self, name: &str) -> Result<Option<String>, CallError> {
        self.grants
            .secret(&self.tenant, name)
            .map_err(|error| CallError::new(CallErrorKind::Internal, error.to_string()))
    }
}
