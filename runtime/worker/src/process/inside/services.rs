//! The services of a tenant, by asking the server. What needs nobody's files is done here: progress and previews.

use std::{fs::File, sync::Arc};

use vivarium_outbound::{Bounds, Request as HttpRequest, Response};
use vivarium_protocol::{permission::Permission, tenant::TenantId};
use vivarium_sandbox::{
    CallError, FolderEntry, HostServices, LimitTable, Limits, LogLevel, OutputFolder, PreviewPixels, SaveRequest,
    SavedImage, ScratchEntry,
};

use super::{
    super::message::{Answer, Level, Request},
    link::{Answered, Link, nonsense},
};
use crate::progress::ProgressTracker;

pub(super) struct AskedServices {
    pub(super) link: Arc<Link>,
    pub(super) tenant: TenantId,
    pub(super) limits: Arc<LimitTable>,
    pub(super) save_metadata: bool,
    /// Absent outside of a run.
    pub(super) progress: Option<Arc<ProgressTracker>>,
}

impl AskedServices {
    fn ask(&self, request: Request) -> Result<Answered, CallError> {
        self.link.ask(&self.tenant, request, &[])
    }

    fn done(&self, request: Request, tail: &[u8]) -> Result<(), CallError> {
        match self.link.ask(&self.tenant, request, tail)?.answer {
            Answer::Done => Ok(()),
            _ => Err(nonsense()),
        }
    }

    fn yes(&self, request: Request) -> bool {
        matches!(self.ask(request), Ok(Answered { answer: Answer::YesNo(true), .. }))
    }

    fn text(&self, request: Request) -> Result<Option<String>, CallError> {
        match self.ask(request)?.answer {
            Answer::Text(text) => Ok(text),
            _ => Err(nonsense()),
        }
    }

    fn bytes(&self, request: Request) -> Result<Vec<u8>, CallError> {
        match self.ask(request)? {
            Answered { answer: Answer::Bytes, tail, .. } => Ok(tail),
            _ => Err(nonsense()),
        }
    }

    fn file(&self, request: Request) -> Result<File, CallError> {
        self.ask(request)?.file.ok_or_else(nonsense)
    }

    fn entries(&self, request: Request) -> Result<Vec<(String, bool, u64)>, CallError> {
        match self.ask(request)?.answer {
            Answer::Entries(entries) => Ok(entries),
            _ => Err(nonsense()),
        }
    }
}

impl HostServices for AskedServices {
    fn image_exists(&self, name: &str) -> bool {
        self.yes(Request::ImageExists { name: name.to_owned() })
    }

    fn image_fingerprint(&self, name: &str) -> Result<String, CallError> {
        self.text(Request::ImageFingerprint { name: name.to_owned() })?.ok_or_else(nonsense)
    }

    fn image_bytes(&self, name: &str) -> Result<Vec<u8>, CallError> {
        self.bytes(Request::ImageBytes { name: name.to_owned() })
    }

    fn save_images(
        &self,
        request: &SaveRequest<'_>,
        encode: &mut dyn FnMut(usize) -> Result<Vec<u8>, CallError>,
    ) -> Result<Vec<SavedImage>, CallError> {
        let save = |index: usize| {
            let save = Request::Save {
                temporary: request.folder == OutputFolder::Temp,
                prefix: request.prefix.to_owned(),
                width: request.width,
                height: request.height,
                number: index as u64,
            };
            match self.link.ask(&self.tenant, save, &encode(index)?)?.answer {
                Answer::Saved(filename, subfolder) => Ok(SavedImage { filename, subfolder, folder: request.folder }),
                _ => Err(nonsense()),
            }
        };
        (0..request.count).map(save).collect()
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
        let level = Level::from(level);
        let (pack, node_id, message) = (pack.to_owned(), node_id.to_owned(), message.to_owned());
        // A line that is lost is no reason to stop.
        self.done(Request::Log { pack, node_id, level, message }, &[]).ok();
    }

    fn limits(&self, pack: &str) -> Option<Arc<Limits>> {
        Some(self.limits.of(&self.tenant, Some(pack)))
    }

    fn allows(&self, pack: &str, permission: &Permission) -> bool {
        self.yes(Request::Allows { pack: pack.to_owned(), permission: permission.to_string() })
    }

    fn model_files(&self, folder: &str) -> Result<Vec<String>, CallError> {
        match self.ask(Request::ModelFiles { folder: folder.to_owned() })?.answer {
            Answer::Names(names) => Ok(names),
            _ => Err(nonsense()),
        }
    }

    fn open_model(&self, folder: &str, name: &str) -> Result<File, CallError> {
        self.file(Request::OpenModel { folder: folder.to_owned(), name: name.to_owned() })
    }

    fn secret(&self, name: &str) -> Result<Option<String>, CallError> {
        self.text(Request::Secret { name: name.to_owned() })
    }

    fn http(
        &self,
        pack: &str,
        request: HttpRequest,
        bounds: &Bounds,
        stop: &dyn Fn() -> bool,
    ) -> Result<Response, CallError> {
        let HttpRequest { method, url, headers, body } = request;
        let request = Request::Http { pack: pack.to_owned(), method, url, headers, bounds: bounds.into() };
        match self.link.ask_until(&self.tenant, request, &body, Some(stop))? {
            Answered { answer: Answer::Http(status, url, headers), tail, .. } => {
                Ok(Response { status, url, headers, body: tail })
            }
            _ => Err(nonsense()),
        }
    }

    fn scratch_files(&self, pack: &str) -> Result<Vec<ScratchEntry>, CallError> {
        let entries = self.entries(Request::ScratchFiles { pack: pack.to_owned() })?;
        Ok(entries.into_iter().map(|(name, _, bytes)| ScratchEntry { name, bytes }).collect())
    }

    fn read_scratch(&self, pack: &str, name: &str, limit: u64) -> Result<Vec<u8>, CallError> {
        self.bytes(Request::ReadScratch { pack: pack.to_owned(), name: name.to_owned(), limit })
    }

    fn write_scratch(&self, pack: &str, name: &str, data: &[u8], _limits: &Limits) -> Result<(), CallError> {
        // The server knows the limits.
        self.done(Request::WriteScratch { pack: pack.to_owned(), name: name.to_owned() }, data)
    }

    fn remove_scratch(&self, pack: &str, name: &str) -> Result<(), CallError> {
        self.done(Request::RemoveScratch { pack: pack.to_owned(), name: name.to_owned() }, &[])
    }

    fn list_folder(&self, folder: &str, path: &str, limit: u64) -> Result<Vec<FolderEntry>, CallError> {
        let request = Request::ListFolder { folder: folder.to_owned(), path: path.to_owned(), limit };
        let entry = |(name, is_folder, bytes)| FolderEntry { name, is_folder, bytes };
        Ok(self.entries(request)?.into_iter().map(entry).collect())
    }

    fn open_in_folder(&self, folder: &str, path: &str) -> Result<File, CallError> {
        self.file(Request::OpenInFolder { folder: folder.to_owned(), path: path.to_owned() })
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
        }
    }
}
