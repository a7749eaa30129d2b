//! What the host lends to a node in a test: files, models and secrets that the test made up, and a notebook of what the
//! node did.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Seek, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};
use vivarium_image_codec::encode_png;
use vivarium_outbound::{Bounds, Request, Response};
use vivarium_protocol::{permission::Permission, tenant::TenantId};
use vivarium_sandbox::{
    CallContext, CallError, CallErrorKind, FolderEntry, HostServices, Limits, LogLevel, PreviewPixels, SaveRequest,
    SavedImage, ScratchEntry,
};
use vivarium_tensor::{Budget, Tensor as HostTensor};
use vivarium_testkit::{
    Image, LogLine, Progress, Saved, Tensor,
    wire::{self, Blob, HttpAnswer, ImageFile, Notebook},
};

use super::{
    terms,
    values::{to_host, unlimited},
};

/// Previews and what is shown have bytes.
const WHITE: f32 = 255.0;

/// What a call may use.
pub(super) struct Powers {
    pub(super) grants: Vec<Permission>,
    images: HashMap<String, Vec<u8>>,
    /// Folder, then file name, then the bytes of a safetensors file.
    models: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    secrets: BTreeMap<String, String>,
    pub(super) http: BTreeMap<String, HttpAnswer>,
    pub(super) folders: BTreeMap<String, BTreeMap<String, Blob>>,
    interrupt_at: Option<f64>,
    interrupt: Arc<AtomicBool>,
    notebook: Mutex<Notebook>,
}

pub(super) fn context(powers: &Arc<Powers>, node_id: &str, limits: &Arc<Limits>) -> CallContext {
    CallContext {
        tenant: TenantId::default_tenant(),
        prompt_id: Arc::from("test"),
        node_id: Arc::from(node_id),
        limits: limits.clone(),
        budget: Budget::root(limits.tenant_tensor_bytes),
        gpu: None,
        interrupt: powers.interrupt.clone(),
        deadline: None,
        services: powers.clone(),
        depth: 0,
    }
}

impl Powers {
    /// Makes the files that the test described.
    pub(super) fn new(given: wire::Powers) -> Result<Self, String> {
        let image = |(name, file): (String, ImageFile)| match file {
            ImageFile::Bytes(Blob(bytes)) => Ok((name, bytes)),
            ImageFile::Picture(picture) => match png(&picture) {
                Ok(bytes) => Ok((name, bytes)),
                Err(message) => Err(format!("the image file {name}: {message}")),
            },
        };
        let mut models = BTreeMap::new();
        for (folder, files) in given.models {
            let model = |(name, tensors): (String, Vec<(String, Tensor)>)| match safetensors_file(&tensors) {
                Ok(bytes) => Ok((name, bytes)),
                Err(error) => Err(format!("the model {folder}/{name}: {error}")),
            };
            let files = files.into_iter().map(model).collect::<Result<_, _>>()?;
            models.insert(folder, files);
        }
        let scratch = given.scratch.into_iter().map(|(name, Blob(bytes))| (name, bytes)).collect();
        Ok(Self {
            grants: given.grants,
            images: given.images.into_iter().map(image).collect::<Result<_, _>>()?,
            models,
            secrets: given.secrets,
            http: given.http,
            folders: given.folders,
            interrupt_at: given.interrupt_at,
            interrupt: Arc::new(AtomicBool::new(given.interrupted)),
            notebook: Mutex::new(Notebook { scratch, ..Notebook::default() }),
        })
    }

    pub(super) fn notebook(&self) -> MutexGuard<'_, Notebook> {
        // A panic while it was held leaves at most a line less.
        self.notebook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, name: &str) -> Result<&[u8], CallError> {
        let plain = name.trim_end_matches(" [input]");
        let missing = || not_found(format!("the test gives the node no image file {name:?}; see `image_file`"));
        self.images.get(plain).map(Vec::as_slice).ok_or_else(missing)
    }
}

/// The first picture of an IMAGE as a file.
fn png(picture: &Tensor) -> Result<Vec<u8>, String> {
    let host: HostTensor = to_host(picture)?;
    let numbers = host.to_vec::<f32>(&unlimited()).map_err(|error| error.to_string())?;
    let &[_, height, width, channels] = host.dims() else {
        return Err(format!("an IMAGE is [batch, height, width, channels], got {:?}", host.dims()));
    };
    let byte = |number: &f32| (number.clamp(0.0, 1.0) * WHITE).round() as u8;
    let bytes: Vec<u8> = numbers.iter().take(height * width * channels).map(byte).collect();
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let channels = u8::try_from(channels).unwrap_or(u8::MAX);
    encode_png(&bytes, side(width), side(height), channels, 1, &[]).map_err(|error| error.to_string())
}

fn safetensors_file(tensors: &[(String, Tensor)]) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let view = |(key, tensor): &(String, Tensor)| {
        let shape = tensor.shape().into_iter().map(|length| usize::try_from(length).unwrap_or(usize::MAX)).collect();
        (key.clone(), terms::stored(tensor.dtype()), shape)
    };
    let described: Vec<(String, safetensors::Dtype, Vec<usize>)> = tensors.iter().map(view).collect();
    let views = described.into_iter().zip(tensors).map(|((key, dtype, shape), (_, tensor))| {
        TensorView::new(dtype, shape, tensor.bytes()).map(|view| (key, view))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, None)
}

/// A file with this content, which is gone when it is closed.
pub(super) fn file_of(bytes: &[u8]) -> Result<File, CallError> {
    let write = || -> io::Result<File> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file)
    };
    write().map_err(|error| CallError::new(CallErrorKind::Internal, error.to_string()))
}

pub(super) fn not_found(message: String) -> CallError {
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
            let folder = terms::folder(request.folder);
            notebook.saved.push(Saved { prefix: request.prefix.to_owned(), folder, png });
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
            let numbers: Vec<f32> = pixels.rgb.iter().map(|byte| f32::from(*byte) / WHITE).collect();
            Image::of(Tensor::new([1, pixels.height.into(), pixels.width.into(), 3], numbers))
        });
        self.notebook().progress.push(Progress { value, max, preview });
        if self.interrupt_at.is_some_and(|at| value >= at) {
            self.interrupt.store(true, Ordering::Relaxed);
        }
    }

    fn log(&self, _pack: &str, _node_id: &str, level: LogLevel, message: &str) {
        self.notebook().log.push(LogLine { level: terms::level(level), message: message.to_owned() });
    }

    fn allows(&self, _pack: &str, permission: &Permission) -> bool {
        self.grants.contains(permission)
    }

    fn model_files(&self, folder: &str) -> Result<Vec<String>, CallError> {
        let files = self.models.get(folder).ok_or_else(|| not_found(format!("there is no model folder {folder:?}")))?;
        Ok(files.keys().cloned().collect())
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
