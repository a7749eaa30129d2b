//! A GPU, and what a job has of it.

use super::buffer::DeviceBuffer;
use super::code::Target;
use super::compile::Kernels;
use super::cublaslt::CublasLt;
use super::driver::{self, Compiler};
use super::meter::Meter;
use super::staging::Staging;
use crate::storage::Storage;
use crate::{Budget, Counters, GpuInfo, GpuUnavailable, ProductsBy, TensorError};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

impl From<DriverError> for GpuUnavailable {
    fn from(error: DriverError) -> Self {
        GpuUnavailable::Driver(describe(error))
    }
}

/// The part of a GPU's memory, one in so many, that stays with the server while no tensor needs it.
const KEPT_UNUSED: u64 = 4;

/// The driver's name for an error.
pub(super) fn describe(error: DriverError) -> String {
    error.error_name().map_or_else(|_| format!("error {}", error.0 as u32), |name| name.to_string_lossy().into_owned())
}

#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) launches: AtomicU64,
    pub(super) uploads: AtomicU64,
    pub(super) uploaded_bytes: AtomicU64,
    pub(super) downloads: AtomicU64,
    pub(super) downloaded_bytes: AtomicU64,
    pub(super) compiled: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) spilled: AtomicU64,
    pub(super) library_products: AtomicU64,
}

impl Count {
    pub(super) fn read(&self) -> Counters {
        let Count {
            launches,
            uploads,
            uploaded_bytes,
            downloads,
            downloaded_bytes,
            compiled,
            cached,
            spilled,
            library_products,
        } = self;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            launches: get(launches),
            uploads: get(uploads),
            uploaded_bytes: get(uploaded_bytes),
            downloads: get(downloads),
            downloaded_bytes: get(downloaded_bytes),
            compiled: get(compiled),
            cached: get(cached),
            spilled: get(spilled),
            library_products: get(library_products),
            ..Counters::default()
        }
    }
}

pub(super) fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

/// An open GPU. Clones are the same one.
#[derive(Clone)]
pub struct Gpu(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) context: Arc<CudaContext>,
    pub(super) info: GpuInfo,
    pub(super) multiprocessors: u32,
    /// Whether the system breaks off kernels that run for some seconds.
    pub(super) is_watched: bool,
    pub(super) kernels: Kernels,
    pub(super) cublaslt: Option<CublasLt>,
    pub(super) staging: Staging,
    /// Goes on counting when the GPU is opened anew.
    pub(super) count: Arc<Count>,
    /// Tensors that are in this machine's memory too, those that came first in front.
    copies: Mutex<VecDeque<Weak<Storage>>>,
}

/// Makes a context this thread's. `cudarc` does that too, unless the thread has a context of the same handle; after a reset, that
/// may be the one from before. So where work of a thread may begin, it is taken anew.
#[allow(unsafe_code)]
pub(super) fn bind(context: &CudaContext) -> Result<(), DriverError> {
    // SAFETY: the context is held, so it is there.
    unsafe { result::ctx::set_current(context.cu_ctx()) }
}

impl Shared {
    /// As [`bind`].
    pub(super) fn bind(&self) -> Result<(), DriverError> {
        bind(&self.context)
    }

    /// Notes a tensor that may leave again when room is needed.
    pub(super) fn may_leave(&self, storage: &Arc<Storage>) {
        self.copies.lock().push_back(Arc::downgrade(storage));
    }

    /// Lets copies leave, the oldest first, until so many bytes of an account (or of all) are given back. Nothing is lost:
    /// they are in this machine's memory too. What was arranged for a kernel goes before what it can be made of again.
    pub(super) fn spill(&self, bytes: u64, of: Option<&Arc<Budget>>) {
        let mut copies = std::mem::take(&mut *self.copies.lock());
        let leaves = |buffer: &DeviceBuffer| buffer.belongs_to(self, of);
        let mut freed = 0;
        for storage in copies.iter().filter_map(Weak::upgrade) {
            if freed < bytes {
                freed += storage.leave_arranged(leaves).unwrap_or_default();
            }
        }
        copies.retain(|place| {
            let Some(storage) = place.upgrade() else { return false };
            if freed < bytes {
                freed += storage.leave_gpu(leaves).unwrap_or_default();
            }
            storage.is_on_gpu(|buffer| buffer.belongs_to(self, None))
        });
        // Those that came meanwhile stand behind.
        let mut place = self.copies.lock();
        copies.append(&mut place);
        *place = copies;
    }
}

impl Gpu {
    /// How many GPUs the driver has.
    ///
    /// # Errors
    /// Why there is no driver to ask.
    pub fn count() -> Result<usize, GpuUnavailable> {
        driver::version()?;
        Ok(usize::try_from(CudaContext::device_count()?).unwrap_or_default())
    }

    /// Opens a GPU, and has it run two small kernels. Compiled kernels are kept in the folder `cache`, which nobody else may be able to write to.
    pub fn open(ordinal: usize, cache: Option<&Path>) -> Result<Gpu, GpuUnavailable> {
        Gpu::open_counting(ordinal, cache, Arc::default())
    }

    pub(super) fn open_counting(
        ordinal: usize,
        cache: Option<&Path>,
        count: Arc<Count>,
    ) -> Result<Gpu, GpuUnavailable> {
        let found = Gpu::count()?;
        if ordinal >= found {
            return Err(GpuUnavailable::NoDevice { found, asked: ordinal });
        }
        let (driver_version, compiler) = (driver::version()?, Compiler::installed()?);
        driver::sleep_while_waiting(ordinal)?;
        let context = CudaContext::new(ordinal)?;
        let (major, minor) = context.compute_capability()?;
        let target = Target::of((major * 10 + minor) as u32, driver_version, &compiler)?;
        let memory_bytes = context.total_mem()? as u64;
        driver::keep_unused_memory(&context, memory_bytes / KEPT_UNUSED)?;
        let (cublaslt, products) = match CublasLt::open(&context) {
            Ok((library, version)) => (Some(library), ProductsBy::CublasLt { version }),
            Err(reason) => (None, ProductsBy::OwnKernels { reason }),
        };
        let info = GpuInfo {
            ordinal,
            name: context.name()?,
            capability: (major as u32, minor as u32),
            memory_bytes,
            driver_version,
            compiler_version: compiler.version,
            products,
        };
        let kernels = Kernels::new(target, compiler.version, cache);
        use sys::CUdevice_attribute as Attribute;
        let multiprocessors = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let is_watched = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT)? != 0;
        let staging = Staging::new(&context);
        let mut gpu = Gpu(Arc::new(Shared {
            context,
            info,
            multiprocessors: multiprocessors.max(1) as u32,
            is_watched,
            kernels,
            cublaslt,
            staging,
            count: Arc::default(),
            copies: Mutex::default(),
        }));
        gpu.test()?;
        // Nobody asked for what the test took.
        Arc::get_mut(&mut gpu.0).ok_or(GpuUnavailable::InUse)?.count = count;
        Ok(gpu)
    }

    /// In words: every GPU, or why it cannot be used.
    ///
    /// # Errors
    /// Why there is none.
    pub fn probe() -> Result<Vec<String>, GpuUnavailable> {
        let describe = |ordinal| match Gpu::open(ordinal, None) {
            Ok(gpu) => gpu.info().to_string(),
            Err(error) => format!("cuda:{ordinal} cannot be used: {error}"),
        };
        match Gpu::count()? {
            0 => Err(GpuUnavailable::NoDevice { found: 0, asked: 0 }),
            found => Ok((0..found).map(describe).collect()),
        }
    }

    /// Asks it for something small: once it has failed, it answers that to everything.
    ///
    /// # Errors
    /// How it failed.
    pub fn check(&self) -> Result<(), GpuUnavailable> {
        self.0.bind()?;
        Ok(self.0.context.new_stream().map(drop)?)
    }

    /// Whether both are the same GPU, opened at the same time.
    #[must_use]
    pub fn is_same(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What is known about it.
    pub fn info(&self) -> &GpuInfo {
        &self.0.info
    }

    /// What it has been asked to do.
    pub fn counters(&self) -> Counters {
        Counters {
            staged_bytes: self.0.staging.staged_bytes.load(Ordering::Relaxed),
            pinned_bytes: self.0.staging.pinned_bytes(),
            ..self.0.count.read()
        }
    }

    /// A stream for one job, whose tensors on the GPU are charged to `memory`.
    pub fn job(&self, memory: Arc<Budget>) -> Result<GpuJob, GpuUnavailable> {
        self.0.bind()?;
        let stream = self.0.context.new_stream()?;
        Ok(GpuJob { gpu: self.clone(), stream, memory, meter: Arc::default() })
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Gpu({} {})", self.0.info.ordinal, self.0.info.name)
    }
}

/// What one job has of a GPU.
#[derive(Clone)]
pub struct GpuJob {
    pub(super) gpu: Gpu,
    pub(super) stream: Arc<CudaStream>,
    pub(super) memory: Arc<Budget>,
    pub(super) meter: Arc<Meter>,
}

impl GpuJob {
    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Waits until everything that was queued is done. An error of any of it comes to light here, if not before.
    pub fn synchronize(&self) -> Result<(), TensorError> {
        self.stream.synchronize().map_err(|error| failed("synchronize", error))
    }

    /// Waits for what was queued, as [`GpuJob::synchronize`], and answers how many seconds kernels of this job have run so
    /// far.
    pub fn seconds(&self) -> Result<f64, TensorError> {
        self.synchronize()?;
        self.meter.settle(true).map_err(|error| failed("synchronize", error))?;
        Ok(self.meter.seconds())
    }

    /// The account that tensors on the GPU are charged to.
    pub fn memory(&self) -> &Arc<Budget> {
        &self.memory
    }
}

impl fmt::Debug for GpuJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GpuJob({:?})", self.gpu)
    }
}

pub(super) fn failed(op: &'static str, error: DriverError) -> TensorError {
    TensorError::Device { op, message: describe(error) }
}
