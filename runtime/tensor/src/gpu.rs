//! What there is to say about a GPU, whether the back end for it is built in or not.

use std::fmt;

/// Why there is no GPU to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuUnavailable {
    /// This program was built without the feature `cuda`.
    #[error("the CUDA back end is not built into this binary")]
    NotBuilt,
    /// The driver's library is not installed.
    #[error("no NVIDIA driver is installed (the library libcuda was not found)")]
    NoDriver,
    /// The compiler's library is not installed.
    #[error(
        "NVIDIA's run-time compiler is not installed (the library libnvrtc was not found); \
         it is in the CUDA toolkit from 11.2 on and in the package nvidia-cuda-nvrtc-cu12 of PyPI"
    )]
    NoCompiler,
    /// The driver's library lacks a function of CUDA 11.2.
    #[error("the NVIDIA driver is too old: its library has no {function}, which is there from driver 460 on")]
    DriverTooOld {
        /// What is missing.
        function: &'static str,
    },
    /// The GPU is of a generation that no kernels are compiled for.
    #[error(
        "the GPU is too old: its compute capability is {}.{}, and 7.5 is the least", capability / 10, capability % 10
    )]
    GpuTooOld {
        /// Such as 61 for 6.1.
        capability: u32,
    },
    /// What the installed compiler makes, the installed driver or the GPU cannot run.
    #[error(
        "NVIDIA's run-time compiler is of CUDA {}.{}, and makes no code for a GPU of compute capability {}.{} with a driver of \
         CUDA {}.{}: install a newer driver, or the compiler (libnvrtc) of the driver's version",
        compiler.0, compiler.1, capability / 10, capability % 10, driver.0, driver.1
    )]
    CompilerUnsuited {
        /// Version of the compiler.
        compiler: (i32, i32),
        /// Version of CUDA that the driver is for.
        driver: (i32, i32),
        /// Such as 89 for 8.9.
        capability: u32,
    },
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
    /// It failed, and tensors or jobs of that time are still around.
    #[error("something of the GPU is still in use")]
    InUse,
    /// It was opened, and what it was asked to compute as a test did not come out right.
    #[error("the GPU does not pass its test: {0}")]
    TestFailed(String),
}

/// What computes products of matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductsBy {
    /// NVIDIA's library, where products are large and plain enough.
    CublasLt {
        /// As the library says it, such as 120901 for 12.9.1.
        version: usize,
    },
    /// The kernels of this program, all of them.
    OwnKernels {
        /// Why not the library.
        reason: String,
    },
}

impl fmt::Display for ProductsBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProductsBy::CublasLt { version } => {
                let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
                write!(formatter, "products by cuBLASLt {major}.{minor}.{patch}")
            }
            ProductsBy::OwnKernels { reason } => write!(formatter, "products by Vivarium's kernels ({reason})"),
        }
    }
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
    /// What computes products of matrices.
    pub products: ProductsBy,
}

impl fmt::Display for GpuInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GpuInfo { ordinal, name, capability, memory_bytes, driver_version, compiler_version, products } = self;
        let driver = (driver_version / 1000, driver_version % 1000 / 10);
        write!(
            formatter,
            "cuda:{ordinal} {name}, compute capability {}.{}, {} MiB, driver for CUDA {}.{}, NVRTC {}.{}, {products}",
            capability.0,
            capability.1,
            memory_bytes >> 20,
            driver.0,
            driver.1,
            compiler_version.0,
            compiler_version.1
        )
    }
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
    /// Tensors that left the GPU's memory to make room; they are in this machine's memory too.
    pub spilled: u64,
    /// Products that NVIDIA's library computed.
    pub library_products: u64,
    /// Bytes that went through page-locked memory, to the GPU or back.
    pub staged_bytes: u64,
    /// Bytes of page-locked memory that were taken for that, at most 64 MiB.
    pub pinned_bytes: u64,
}
