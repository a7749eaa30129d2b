//! A GPU, and what a job has of it.

use super::compile::Kernels;
use crate::{Budget, TensorError};
use cudarc::driver::{CudaContext, CudaStream, DriverError, sys};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why there is no GPU to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuUnavailable {
    /// The driver's library is not installed.
    #[error("no NVIDIA driver is installed (the library libcuda was not found)")]
    NoDriver,
    /// The compiler's library is not installed.
    #[error(
        "NVIDIA's run-time compiler is not installed (the library libnvrtc was not found); \
         it is in the CUDA toolkit and in the package nvidia-cuda-nvrtc-cu12 of PyPI"
    )]
    NoCompiler,
    /// The driver is there, but has no such device.
    #[error("the driver has {found} GPUs, and number {asked} was asked for")]
    NoDevice {
        /// Devices of the driver.
        found: usize,
        /// The one that was wanted.
        asked: usize,
    },
    /// The driver refuses.
    #[error("the NVIDIA driver refuses: {0}")]
    Driver(String),
}

impl From<DriverError> for GpuUnavailable {
    fn from(error: DriverError) -> Self {
        GpuUnavailable::Driver(describe(error))
    }
}

/// The driver's name for an error.
pub(super) fn describe(error: DriverError) -> String {
    error.error_name().map_or_else(|_| format!("error {}", error.0 as u32), |name| name.to_string_lossy().into_owned())
}

/// What is known about a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Number, as the driver counts.
    pub ordinal: usize,
    /// The driver's name for it.
    pub name: String,
    /// Compute capability, such as (8, 9).
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The newest CUDA that the driver knows, such as 12080.
    pub driver_version: i32,
    /// Version of the run-time compiler.
    pub compiler_version: (i32, i32),
}

/// What a GPU has been asked to do since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels started.
    pub launches: u64,
    /// Copies of tensors to the GPU.
    pub uploads: u64,
    /// Bytes of them.
    pub uploaded_bytes: u64,
    /// Copies of whole tensors back, for an operation that has no kernel or for a reader.
    pub downloads: u64,
    /// Bytes of them.
    pub downloaded_bytes: u64,
    /// Kernels compiled.
    pub compiled: u64,
    /// Kernels taken from the cache on disk.
    pub cached: u64,
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
    pub(super) kernels: Kernels,
    pub(super) count: Count,
}

impl Gpu {
    /// Opens a GPU. Compiled kernels are kept in the folder `cache`, which nobody else may be able to write to.
    pub fn open(ordinal: usize, cache: Option<&Path>) -> Result<Gpu, GpuUnavailable> {
        if !driver_is_present() {
            return Err(GpuUnavailable::NoDriver);
        }
        let found = CudaContext::device_count()? as usize;
        if ordinal >= found {
            return Err(GpuUnavailable::NoDevice { found, asked: ordinal });
        }
        if !compiler_is_present() {
            return Err(GpuUnavailable::NoCompiler);
        }
        let context = CudaContext::new(ordinal)?;
        let (major, minor) = context.compute_capability()?;
        let info = GpuInfo {
            ordinal,
            name: context.name()?,
            capability: (major as u32, minor as u32),
            memory_bytes: context.total_mem()? as u64,
            driver_version: driver_version()?,
            compiler_version: super::compile::compiler_version(),
        };
        let kernels = Kernels::new(&info, cache);
        Ok(Gpu(Arc::new(Shared { context, info, kernels, count: Count::default() })))
    }

    /// In words: the first GPU, or why there is none.
    ///
    /// # Errors
    /// The reason.
    pub fn probe() -> Result<String, String> {
        let gpu = Gpu::open(0, None).map_err(|error| error.to_string())?;
        let GpuInfo { name, capability, memory_bytes, driver_version, compiler_version, .. } = gpu.info();
        let driver = (driver_version / 1000, driver_version % 1000 / 10);
        Ok(format!(
            "{name}, compute capability {}.{}, {} MiB, driver for CUDA {}.{}, NVRTC {}.{}",
            capability.0,
            capability.1,
            memory_bytes >> 20,
            driver.0,
            driver.1,
            compiler_version.0,
            compiler_version.1
        ))
    }

    /// What is known about it.
    pub fn info(&self) -> &GpuInfo {
        &self.0.info
    }

    /// What it has been asked to do.
    pub fn counters(&self) -> Counters {
        let Count { launches, uploads, uploaded_bytes, downloads, downloaded_bytes, compiled, cached } = &self.0.count;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            launches: get(launches),
            uploads: get(uploads),
            uploaded_bytes: get(uploaded_bytes),
            downloads: get(downloads),
            downloaded_bytes: get(downloaded_bytes),
            compiled: get(compiled),
            cached: get(cached),
        }
    }

    /// A stream for one job, whose tensors on the GPU are charged to `memory`.
    pub fn job(&self, memory: Arc<Budget>) -> Result<GpuJob, GpuUnavailable> {
        let stream = self.0.context.new_stream()?;
        Ok(GpuJob { gpu: self.clone(), stream, memory })
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

#[allow(unsafe_code)]
fn driver_is_present() -> bool {
    // SAFETY: loads a library of the system and runs its initialisers, as the first call into it would.
    unsafe { sys::is_culib_present() }
}

#[allow(unsafe_code)]
fn compiler_is_present() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

#[allow(unsafe_code)]
fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: writes one integer through a pointer to one.
    unsafe { sys::cuDriverGetVersion(&mut version).result()? };
    Ok(version)
}
