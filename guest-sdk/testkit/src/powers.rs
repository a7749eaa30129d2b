//! What the host lends to a node in a test: files, models and secrets that the test made up, and a notebook of what the
//! node did.

mod outside;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{self, Seek, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest, Sha256};
use vivarium_image_codec::{DecodeLimits, decode_first};
use vivarium_outbound::{Bounds, Request, Response};
use vivarium_protocol::{permission::Permission, tenant::TenantId};
use vivarium_sandbox::{
    CallContext, CallError, CallErrorKind, FolderEntry, HostServices, Limits, LogLevel, OutputFolder, PreviewPixels,
    SaveRequest, SavedImage, ScratchEntry,
};
use vivarium_tensor::{Budget, DType};

use self::outside::Outside;
use crate::{Image, Progress, Tensor};

/// A line that a node logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How important.
    pub level: LogLevel,
    /// What it says.
    pub message: String,
}

/// An image that a node saved.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The prefix that it asked for, with its `%variables%`.
    pub prefix: String,
    /// Where to.
    pub folder: OutputFolder,
    /// The file: a PNG.
    pub png: Vec<u8>,
}

impl Saved {
    /// The picture in it.
    ///
    /// # Panics
    /// When the host wrote no PNG.
    #[must_use]
    #[track_caller]
    pub fn image(&self) -> Image {
        let frame = decode_first(&self.png, &DecodeLimits::default()).unwrap_or_else(|error| panic!("{error}"));
        Image::of(Tensor::new([1, frame.height.into(), frame.width.into(), 3], frame.rgb.to_f32()))
    }
}

/// Models: folder, then file name, then the bytes of a safetensors file.
type Models = HashMap<String, HashMap<String, Vec<u8>>>;

/// What a call may use.
#[derive(Clone, Default)]
pub(crate) struct Powers {
    pub(crate) grants: HashSet<Permission>,
    pub(crate) images: HashMap<String, Vec<u8>>,
    pub(crate) models: Models,
    pub(crate) secrets: HashMap<String, String>,
    pub(crate) outside: Outside,
    pub(crate) interrupt_at: Option<f64>,
    pub(crate) notebook: Arc<Mutex<Notebook>>,
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// What the node did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notebook {
    pub(crate) progress: Vec<Progress>,
    pub(crate) log: Vec<LogLine>,
    pub(crate) saved: Vec<Saved>,
    pub(crate) requests: Vec<Request>,
    /// Also what was there before.
    pub(crate) scratch: BTreeMap<String, Vec<u8>>,
}

impl Powers {
    pub(crate) fn context(&self, node_id: &str, limits: &Limits) -> CallContext {
        CallContext {
            tenant: TenantId::default_tenant(),
            prompt_id: Arc::from("test"),
            node_id: Arc::from(node_id),
            limits: Arc::new(limits.clone()),
            budget: Budget::root(limits.tenant_tensor_bytes),
            gpu: None,
            interrupt: self.interrupt.clone(),
            deadline: None,
            services: Arc::new(self.clone()),
            depth: 0,
        }
    }

    pub(crate) fn notebook(&self) -> MutexGuard<'_, Notebook> {
        // A panic while it was held leaves at most a line less.
        self.notebook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a file of these tensors into a model folder.
    #[track_caller]
    pub(crate) fn add_model(&mut self, folder: &str, name: &str, tensors: &[(&str, Tensor)]) {
        let stored: Vec<_> = tensors.iter().map(|(key, tensor)| (*key, stored(tensor))).collect();
        let views = stored.iter().map(|(key, (dtype, shape, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap_or_else(|error| panic!("{key}: {error}"));
            (*key, view)
        });
        let file = safetensors::serialize(views, None).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.models.entry(folder.to_owned()).or_default().insert(name.to_owned(), file);
    }

    fn image(&self, name: &str) -> Result<&[u8], CallError> {
        let plain = name.trim_end_matches(" [input]");
        let missing = || not_found(format!("the test gives the node no image file {name:?}; see `image_file`"));
        self.images.get(plain).map(Vec::as_slice).ok_or_else(missing)
    }
}

fn stored(tensor: &Tensor) -> (Dtype, Vec<usize>, Vec<u8>) {
    let shape = tensor.shape().into_iter().map(|length| usize::try_from(length).unwrap_or(usize::MAX)).collect();
    let dtype = match tensor.dtype() {
        DType::Int64 => Dtype::I64,
        DType::Int32 => Dtype::I32,
        DType::Uint8 => Dtype::U8,
        // Half precision is kept as float32: a test looks at numbers, not at how they are stored.
        _ => Dtype::F32,
    };
    (dtype, shape, tensor.bytes())
}

/// A file with this content, which is gone when it is closed.
fn file_of(bytes: &[u8]) -> Result<File, CallError> {
    let write = || -> io::Result<File> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file)
    };
    write().map_err(|error| CallError::new(CallErrorKind::Internal, error.to_string()))
}

fn not_found(message: String) -> CallError {
    CallError::new(CallErrorKind::NotFound, message)
}

impl HostServices for Powers {
    fn image_exists(&self, name: &str) -> bool {
        self.image(name).is_ok()
    }

    fn image_fingerprint(&self, name: &str) -> Result<String, CallError> {
        Ok(hex::encode(Sha256::digest(self.image(name)?)))
    }

    fn image_bytes(&self, name: &str) -> Result<Vec<u8>, CallError> {
        self.image(name).map(<[u8]>::to_vec)
    }

    fn save_images(
        &self,
        request: &SaveRequest<'_>,
        encode: &mut dyn FnMut(usize) -> Result<Vec<u8>, CallError>,
    ) -> Result<Vec<SavedImage>, CallError> {
        let mut files = Vec::new();
        for index in 0..request.count {
            let png = encode(index)?;
            let mut notebook = self.notebook();
            let (subfolder, name) = request.prefix.rsplit_once('/').unwrap_or(("", request.prefix));
            files.push(SavedImage {
                filename: format!("{name}_{:05}_.png", notebook.saved.len() + 1),
                subfolder: subfolder.to_owned(),
                folder: request.folder,
            });
            notebook.saved.push(Saved { prefix: request.prefix.to_owned(), folder: request.folder, png });
        }
        Ok(files)
    }

    fn saves_metadata(&self) -> bool {
        true
    }

    fn wants_preview(&self) -> bool {
        true
    }

    fn progress(&self, _node_id: &str, value: f64, max: f64, preview: Option<PreviewPixels>) {
        let preview = preview.map(|pixels| {
            let numbers: Vec<f32> = pixels.rgb.iter().map(|byte| f32::from(*byte) / 255.0).collect();
            Image::of(Tensor::new([1, pixels.height.into(), pixels.width.into(), 3], numbers))
        });
        self.notebook().progress.push(Progress { value, max, preview });
        if self.interrupt_at.is_some_and(|at| value >= at) {
            self.interrupt.store(true, Ordering::Relaxed);
        }
    }

    fn log(&self, _pack: &str, _node_id: &str, level: LogLevel, message: &str) {
        self.notebook().log.push(LogLine { level, message: message.to_owned() });
    }

    fn allows(&self, _pack: &str, permission: &Permission) -> bool {
        self.grants.contains(permission)
    }

    fn model_files(&self, folder: &str) -> Result<Vec<String>, CallError> {
        let files = self.models.get(folder).ok_or_else(|| not_found(format!("there is no model folder {folder:?}")))?;
        let mut names: Vec<_> = files.keys().cloned().collect();
        names.sort();
        Ok(names)
    }

    fn open_model(&self, folder: &str, name: &str) -> Result<File, CallError> {
        let missing = || not_found(format!("the test gives the node no model {folder}/{name}; see `model`"));
        let bytes = self.models.get(folder).and_then(|files| files.get(name)).ok_or_else(missing)?;
        file_of(bytes)
    }

    fn secret(&self, name: &str) -> Result<Option<String>, CallError> {
        Ok(self.secrets.get(name).cloned())
    }

    fn http(
        &self,
        _pack: &str,
        request: Request,
        _bounds: &Bounds,
        _stop: &dyn Fn() -> bool,
    ) -> Result<Response, CallError> {
        self.answer_http(request)
    }

    fn scratch_files(&self, _pack: &str) -> Result<Vec<ScratchEntry>, CallError> {
        Ok(self.list_scratch())
    }

    fn read_scratch(&self, _pack: &str, name: &str, _limit: u64) -> Result<Vec<u8>, CallError> {
        self.scratch_file(name)
    }

    fn write_scratch(&self, _pack: &str, name: &str, data: &[u8], _limits: &Limits) -> Result<(), CallError> {
        self.notebook().scratch.insert(name.to_owned(), data.to_vec());
        Ok(())
    }

    fn remove_scratch(&self, _pack: &str, name: &str) -> Result<(), CallError> {
        self.scratch_file(name)?;
        self.notebook().scratch.remove(name);
        Ok(())
    }

    fn list_folder(&self, folder: &str, path: &str, _limit: u64) -> Result<Vec<FolderEntry>, CallError> {
        self.entries_of(folder, path)
    }

    fn open_in_folder(&self, folder: &str, path: &str) -> Result<File, CallError> {
        self.open_file(folder, path)
    }
}
