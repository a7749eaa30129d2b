//! What a running node may reach of its tenant: files by name, progress, log, and what was granted: models, hosts, folders.

use std::{fs::File, io::Read, sync::Arc};

use vivarium_blobs::{
    AnnotatedName, BlobError, Durability, Folder, ModelFolders, OutputName, ScratchQuota, TenantFiles,
};
use vivarium_outbound::{Bounds, HttpError, Request, Response};
use vivarium_packs::Grants;
use vivarium_protocol::{permission::Permission, tenant::TenantId};
use vivarium_sandbox::{
    CallError, CallErrorKind, FolderEntry, HostServices, LimitTable, Limits, LogLevel, OutputFolder, PreviewPixels,
    SaveRequest, SavedImage, ScratchEntry,
};

use crate::{progress::ProgressTracker, shared::Outside};

/// A node reads no image file larger than this; its pixels are limited apart.
const IMAGE_FILE_BYTES: u64 = 512 << 20;

/// The services of one tenant for one prompt.
pub(crate) struct NodeServices {
    pub(crate) tenant: TenantId,
    pub(crate) files: Arc<TenantFiles>,
    pub(crate) models: Arc<ModelFolders>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) outside: Outside,
    pub(crate) limits: Arc<LimitTable>,
    pub(crate) save_metadata: bool,
    /// Absent outside of a run, for validators and fingerprints.
    pub(crate) progress: Option<Arc<ProgressTracker>>,
}

fn file_error(error: &BlobError) -> CallError {
    let kind = match error {
        BlobError::NotFound { .. } | BlobError::NoFolder { .. } => CallErrorKind::NotFound,
        BlobError::ScratchFull { .. } | BlobError::TooManyFiles { .. } | BlobError::TooLarge { .. } => {
            CallErrorKind::LimitExceeded
        }
        BlobError::Name { .. } | BlobError::Outside { .. } => CallErrorKind::PermissionDenied,
        error if error.is_clients_fault() => CallErrorKind::InvalidArgument,
        _ => CallErrorKind::Internal,
    };
    CallError::new(kind, error.to_string())
}

fn http_error(pack: &str, error: &HttpError) -> CallError {
    let kind = match error {
        HttpError::HostNotAllowed { host, port, usual_port } => {
            // A pack asks for `http/HOST`, and only what it asked for can be granted.
            let port_too = if port == usual_port { String::new() } else { format!(":{port}") };
            let permission = format!("http/{host}{port_too}");
            let message = format!(
                "pack {pack} has no permission to reach {host} at port {port}; `vivarium pack grant {pack} {permission}` gives \
                 it to an installed pack that asks for it, --grant {pack}:{permission} to one in a folder"
            );
            return CallError::new(CallErrorKind::PermissionDenied, message);
        }
        HttpError::Offline | HttpError::AddressNotAllowed { .. } | HttpError::Downgrade => {
            CallErrorKind::PermissionDenied
        }
        HttpError::InvalidUrl { .. } | HttpError::Method { .. } | HttpError::Header { .. } => {
            CallErrorKind::InvalidArgument
        }
        HttpError::NotFound { .. } => CallErrorKind::NotFound,
        HttpError::Redirect { to, reason } => {
            let reason = http_error(pack, reason);
            return CallError::new(reason.kind, format!("redirected to {to}: {}", reason.message));
        }
        HttpError::Redirects { .. }
        | HttpError::ResponseTooLarge { .. }
        | HttpError::Timeout { .. }
        | HttpError::TooMany { .. } => CallErrorKind::LimitExceeded,
        HttpError::Interrupted => return CallError::interrupted(),
        HttpError::Failed { .. } => CallErrorKind::Failed,
    };
    CallError::new(kind, error.to_string())
}

/// How files of a batch are called, from the prefix that a node asks for and the size of the pictures.
pub(crate) fn output_name(prefix: &str, width: u32, height: u32) -> Result<OutputName, CallError> {
    OutputName::new(prefix, u64::from(width), u64::from(height)).map_err(|error| file_error(&error))
}

impl NodeServices {
    /// Saves one file of a batch: the one of this number.
    pub(crate) fn save_image(
        &self,
        folder: OutputFolder,
        name: &OutputName,
        number: u64,
        bytes: &[u8],
    ) -> Result<SavedImage, CallError> {
        let failed = |error: BlobError| file_error(&error);
        let file = match folder {
            // Previews are gone after a restart anyway, so nobody waits for the disk because of them.
            OutputFolder::Temp => self.files.save_temporary(name, number, "png", bytes),
            OutputFolder::Output => {
                let blob = self.files.store().put(bytes, Durability::Synced).map_err(failed)?;
                self.files.save_output(Folder::Output, name, number, "png", &blob)
            }
        };
        let file = file.map_err(failed)?;
        Ok(SavedImage { filename: file.name, subfolder: file.subfolder, folder })
    }
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
        // Refused before anything is encoded.
        let name = output_name(request.prefix, request.width, request.height)?;
        (0..request.count).map(|index| self.save_image(request.folder, &name, index as u64, &encode(index)?)).collect()
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

    fn progress_text(&self, node_id: &str, text: String) {
        if let Some(progress) = &self.progress {
            progress.report_text(node_id, text);
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

    fn limits(&self, pack: &str) -> Option<Arc<Limits>> {
        Some(self.limits.of(&self.tenant, Some(pack)))
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

    fn http(
        &self,
        pack: &str,
        request: Request,
        bounds: &Bounds,
        stop: &dyn Fn() -> bool,
    ) -> Result<Response, CallError> {
        let rules = self.grants.hosts(&self.tenant, pack);
        let answer = self.outside.http.send(self.tenant.as_str(), request, &rules, bounds, stop);
        answer.map_err(|error| http_error(pack, &error))
    }

    fn scratch_files(&self, pack: &str) -> Result<Vec<ScratchEntry>, CallError> {
        let files = self.outside.scratch.list(pack, &self.tenant).map_err(|error| file_error(&error))?;
        Ok(files.into_iter().map(|(name, bytes)| ScratchEntry { name, bytes }).collect())
    }

    fn read_scratch(&self, pack: &str, name: &str, limit: u64) -> Result<Vec<u8>, CallError> {
        self.outside.scratch.read(pack, &self.tenant, name, limit).map_err(|error| file_error(&error))
    }

    fn write_scratch(&self, pack: &str, name: &str, data: &[u8], limits: &Limits) -> Result<(), CallError> {
        let quota = ScratchQuota { bytes: limits.scratch_bytes, files: limits.scratch_files };
        self.outside.scratch.write(pack, &self.tenant, name, data, quota).map_err(|error| file_error(&error))
    }

    fn remove_scratch(&self, pack: &str, name: &str) -> Result<(), CallError> {
        self.outside.scratch.remove(pack, &self.tenant, name).map_err(|error| file_error(&error))
    }

    fn list_folder(&self, folder: &str, path: &str, limit: u64) -> Result<Vec<FolderEntry>, CallError> {
        let entries = self.outside.folders.list(folder, path, limit).map_err(|error| file_error(&error))?;
        let entry = |entry: vivarium_blobs::NamedEntry| FolderEntry {
            name: entry.name,
            is_folder: entry.is_folder,
            bytes: entry.bytes,
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn open_in_folder(&self, folder: &str, path: &str) -> Result<File, CallError> {
        Ok(self.outside.folders.open(folder, path).map_err(|error| file_error(&error))?.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_host_is_told_as_the_permission_that_a_pack_asks_for() {
        for (port, usual_port, permission) in
            [(443, 443, "http/a.org"), (80, 443, "http/a.org:80"), (80, 80, "http/a.org")]
        {
            let refused = HttpError::HostNotAllowed { host: "a.org".to_owned(), port, usual_port };
            let message = http_error("some-pack", &refused).message;
            assert!(message.contains(&format!("pack grant some-pack {permission}`")), "{message}");
        }
    }
}
