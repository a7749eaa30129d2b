//! Kernels: their sources, how they are compiled, and the cache on disk.

use super::gpu::{Count, add, failed};
use crate::{GpuInfo, ReduceOp, TensorError};
use cudarc::driver::{CudaContext, CudaFunction};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const COMMON: &str = include_str!("kernels/common.cuh");

/// A file of kernels, each called like its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source {
    name: &'static str,
    text: &'static str,
}

macro_rules! sources {
    ($($constant:ident $name:literal $(after $header:literal)*),+ $(,)?) => {
        $(pub(super) const $constant: Source = Source {
            name: $name,
            text: concat!(
                $(include_str!(concat!("kernels/", $header, ".cuh")),)*
                include_str!(concat!("kernels/", $name, ".cu")),
            ),
        };)+
    };
}
sources!(
    ELEMENTWISE "elementwise" after "elementwise",
    ELEMENTWISE_DENSE "elementwise_dense" after "elementwise",
    COPY "copy",
    REDUCE "reduce",
    ROWS "rows",
    GEMM "gemm" after "gemm",
    GEMM_TENSOR_CORES "gemm_tensor_cores" after "gemm" after "tensor_cores",
    ATTENTION "attention" after "attention",
    ATTENTION_TENSOR_CORES "attention_tensor_cores" after "attention" after "tensor_cores",
    GATHER "gather",
    RESAMPLE "resample",
    SCAN "scan",
    ARGMAX "argmax",
    SORT "sort",
    SCATTER "scatter",
    COLOR "color",
    SAMPLE "sample",
    LANCZOS "lanczos",
    NEIGHBORS "neighbors",
    HISTOGRAM "histogram",
    DISTANCE "distance",
    CANNY "canny",
    FOURIER "fourier",
    CREATE "create",
    WINDOWS "windows",
);

/// Virtual architectures that kernels are compiled for, in tenths; a GPU takes the newest that it can run. For those in between
/// (8.6, 8.9, 9.0) our kernels come out the same as for the one before, but for how far some loops are unrolled.
const ARCHITECTURES: [(u32, &str); 4] =
    [(75, "compute_75"), (80, "compute_80"), (100, "compute_100"), (120, "compute_120")];

/// What kernels are compiled for, for a GPU of a compute capability such as 89.
fn architecture_for(capability: u32) -> &'static str {
    let usable = ARCHITECTURES.iter().rev().find(|(number, _)| *number <= capability);
    usable.unwrap_or(&ARCHITECTURES[0]).1
}

/// A kernel with the definitions that it is compiled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSource {
    /// The kernel.
    pub name: &'static str,
    /// What tells it from others of that name.
    pub variant: String,
    /// CUDA C.
    pub source: String,
}

impl KernelSource {
    /// PTX for GPUs of a compute capability, such as 89 for sm_89, as they would get it; kept in the folder `cache`.
    ///
    /// # Errors
    /// NVRTC's.
    pub fn compile(&self, capability: u32, cache: &Path) -> Result<String, TensorError> {
        let store = PtxStore::new(capability, compiler_version(), Some(cache));
        store.get(self.name, &self.source).map(|(ptx, _)| ptx)
    }
}

fn compile(op: &'static str, architecture: &'static str, text: &str) -> Result<String, TensorError> {
    let options = CompileOptions { arch: Some(architecture), fmad: Some(false), ..CompileOptions::default() };
    compile_ptx_with_opts(text, options)
        .map(|ptx| ptx.to_src())
        .map_err(|error| TensorError::Device { op, message: format!("a kernel does not compile: {error:?}") })
}

/// The kernels that work of SD 1.5 spends its time in, and of the others those that need most, for tools that look at them without a GPU.
pub fn kernel_sources() -> Vec<KernelSource> {
    let float = [("COMPUTE", "float"), ("INDEX", "u32")];
    let one = |source: Source, variant: &str, defines: &[(&str, &str)]| KernelSource {
        name: source.name,
        variant: variant.to_owned(),
        source: full_text(source, defines),
    };
    let elementwise = |variant: &str, expression: &str, operands: &str| {
        let defines = [&float[..], &[("EXPRESSION", expression), ("OPERANDS", operands)]].concat();
        one(ELEMENTWISE, variant, &defines)
    };
    let tensor_cores = |variant: &str, tile: &str, whole: &str, defines: &[(&str, &str)]| {
        let defines = [defines, &[("A_WHOLE", whole), ("B_WHOLE", whole), ("TILE", tile)]].concat();
        one(GEMM_TENSOR_CORES, variant, &defines)
    };
    let dense = |variant: &str, expression: &str, [a, b, out]: [&str; 3]| {
        let types = [("A_TYPE", a), ("B_TYPE", b), ("C_TYPE", "SCALAR"), ("OUT_TYPE", out)];
        one(ELEMENTWISE_DENSE, variant, &[&float[..], &[("EXPRESSION", expression)], &types].concat())
    };
    let attention = |variant: &str, width: &str, defines: &[(&str, &str)]| {
        let whole = [("WIDTH", width), ("Q_WHOLE", "1"), ("K_WHOLE", "1"), ("V_WHOLE", "1")];
        one(ATTENTION_TENSOR_CORES, variant, &[defines, &whole].concat())
    };
    vec![
        elementwise("add", "a + b", "2"),
        elementwise("silu", "a * sigmoid(a)", "1"),
        elementwise("sin", "sinf(a)", "1"),
        elementwise("where", "b != 0 ? a : c", "3"),
        dense("add of float16", "a + b", ["FLOAT16"; 3]),
        dense("silu of float16", "a * sigmoid(a)", ["FLOAT16", "SCALAR", "FLOAT16"]),
        dense("cast of float32 to bfloat16", "a", ["FLOAT32", "SCALAR", "BFLOAT16"]),
        one(COPY, "2 bytes", &[("ELEMENT", "u16"), ("INDEX", "u32")]),
        one(COPY, "4 bytes", &[("ELEMENT", "u32"), ("INDEX", "u32")]),
        one(REDUCE, "sum by warps", &super::reduce::defines(ReduceOp::Sum, true, false)),
        one(REDUCE, "amax by blocks", &super::reduce::defines(ReduceOp::Amax, true, true)),
        one(ROWS, "softmax", &[("MODE", "SOFTMAX")]),
        one(ROWS, "layer norm", &[("MODE", "LAYER")]),
        one(ROWS, "group norm", &[("MODE", "LAYER"), ("BY_RUN", "1")]),
        one(ROWS, "rms norm", &[("MODE", "RMS")]),
        one(GEMM, "matmul", &[("RIGHT_BY_ROWS", "1")]),
        one(GEMM, "linear", &[]),
        one(GEMM, "convolution", &[("CONVOLUTION", "1")]),
        tensor_cores("matmul", "128", "1", &[("RIGHT_BY_ROWS", "1")]),
        tensor_cores("linear", "128", "1", &[]),
        tensor_cores("convolution", "128", "1", &[("CONVOLUTION", "1")]),
        tensor_cores("matmul in small tiles", "64", "1", &[("RIGHT_BY_ROWS", "1")]),
        tensor_cores("convolution of odd sizes", "64", "0", &[("CONVOLUTION", "1")]),
        one(ATTENTION, "width 40", &[("WIDTH", "40")]),
        one(ATTENTION, "width 64", &[("WIDTH", "64")]),
        one(ATTENTION, "width 128", &[("WIDTH", "128")]),
        one(ATTENTION, "wide", &[("WIDTH", "128"), ("CHUNKED", "1")]),
        attention("width 40", "48", &[("VALUES", "48")]),
        attention("width 64", "64", &[("VALUES", "64")]),
        attention("width 128", "128", &[("VALUES", "128")]),
        attention("wide", "64", &[("VALUES", "128"), ("CHUNKED", "1")]),
        one(GATHER, "2 bytes", &[("ELEMENT", "u16")]),
        one(RESAMPLE, "any", &[]),
        one(SORT, "tiles of floats", &[("STEP", "TILES"), ("TILE", "1024"), ("FLOATS", "1")]),
        one(SORT, "first of tiles of floats", &[("STEP", "HEADS"), ("TILE", "1024"), ("FLOATS", "1")]),
        one(SORT, "merge of floats", &[("STEP", "MERGE"), ("FLOATS", "1")]),
        one(SCATTER, "add", &[("STEP", "ADD"), ("FLOATS", "1")]),
        one(COLOR, "rgb to lab", &[("PIXEL", "rgb_to_lab")]),
        one(SAMPLE, "bicubic", &[("WORK", "SAMPLE"), ("MODE", "BICUBIC"), ("BORDER", "REFLECTION")]),
        one(LANCZOS, "columns", &[("AXIS", "COLUMNS")]),
        one(NEIGHBORS, "median", &[("WORK", "MEDIAN"), ("BORDER", "REFLECT")]),
        one(HISTOGRAM, "in shared memory", &[("SHARED", "4096")]),
        one(DISTANCE, "rows", &[("STEP", "ROWS")]),
        one(CANNY, "unite", &[("STEP", "UNITE")]),
        one(FOURIER, "by 4", &[("RADIX", "4")]),
        one(FOURIER, "by 7", &[("RADIX", "7")]),
        one(CREATE, "normal", &[("SERIES", "NORMAL")]),
        one(WINDOWS, "max pool", &[("WORK", "LARGEST")]),
        one(WINDOWS, "fold", &[("WORK", "FOLD")]),
    ]
}

fn full_text(source: Source, defines: &[(&str, &str)]) -> String {
    let defines: String = defines.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect();
    format!("{defines}{COMMON}\n{}", source.text)
}

/// Version of the run-time compiler, or zeros.
#[allow(unsafe_code)]
pub(super) fn compiler_version() -> (i32, i32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two integers through pointers to them.
    let _ = unsafe { cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor) };
    (major, minor)
}

/// All kernels in use.
pub(super) struct Kernels {
    loaded: Mutex<HashMap<String, Arc<KernelPlace>>>,
    store: PtxStore,
}

/// Where a kernel is or will be. Locked while it is compiled: who needs the same one waits for it, who needs another does not.
type KernelPlace = Mutex<Option<Arc<CudaFunction>>>;

impl Kernels {
    pub(super) fn new(info: &GpuInfo, cache: Option<&Path>) -> Kernels {
        let capability = info.capability.0 * 10 + info.capability.1;
        Kernels { loaded: Mutex::default(), store: PtxStore::new(capability, info.compiler_version, cache) }
    }

    /// Where compiled kernels are kept.
    pub(super) fn folder(&self) -> Option<&PathBuf> {
        self.store.cache.as_ref()
    }

    /// The kernel of a file with these definitions, compiled if nobody has needed it before.
    pub(super) fn get(
        &self,
        op: &'static str,
        source: Source,
        defines: &[(&str, &str)],
        context: &Arc<CudaContext>,
        count: &Count,
    ) -> Result<Arc<CudaFunction>, TensorError> {
        let key = format!("{} {defines:?}", source.name);
        let place = Arc::clone(self.loaded.lock().entry(key).or_default());
        let mut loaded = place.lock();
        if let Some(kernel) = &*loaded {
            return Ok(Arc::clone(kernel));
        }
        let (ptx, origin) = self.store.get(op, &full_text(source, defines))?;
        add(if origin == Origin::Cache { &count.cached } else { &count.compiled }, 1);
        let module = context.load_module(Ptx::from_src(ptx)).map_err(|error| failed(op, error))?;
        let kernel = Arc::new(module.load_function(source.name).map_err(|error| failed(op, error))?);
        *loaded = Some(Arc::clone(&kernel));
        Ok(kernel)
    }
}

/// Where PTX came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Compiler,
    Cache,
}

/// PTX for one architecture: what NVRTC makes of sources, and the cache of it on disk.
struct PtxStore {
    architecture: &'static str,
    /// What PTX depends on besides the source.
    environment: String,
    cache: Option<PathBuf>,
}

impl PtxStore {
    fn new(capability: u32, compiler_version: (i32, i32), cache: Option<&Path>) -> PtxStore {
        let architecture = architecture_for(capability);
        let environment = format!("{architecture} {compiler_version:?}");
        PtxStore { architecture, environment, cache: cache.map(Path::to_owned) }
    }

    fn get(&self, op: &'static str, text: &str) -> Result<(String, Origin), TensorError> {
        if let Some(ptx) = self.read_cache(text) {
            return Ok((ptx, Origin::Cache));
        }
        let ptx = compile(op, self.architecture, text)?;
        self.write_cache(text, &ptx);
        Ok((ptx, Origin::Compiler))
    }

    fn path(&self, text: &str) -> Option<PathBuf> {
        let mut digest = Sha256::new();
        digest.update(self.environment.as_bytes());
        digest.update([0]);
        digest.update(text.as_bytes());
        Some(self.cache.as_ref()?.join(format!("{}.ptx", hex::encode(digest.finalize()))))
    }

    fn read_cache(&self, text: &str) -> Option<String> {
        std::fs::read_to_string(self.path(text)?).ok().filter(|ptx| ptx.trim_end().ends_with('}'))
    }

    /// A cache that cannot be written is a slower start, no error.
    fn write_cache(&self, text: &str, ptx: &str) {
        /// Jobs, also on different GPUs, may need the same kernel at the same time.
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let Some(path) = self.path(text) else { return };
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let written = path.parent().map(std::fs::create_dir_all).transpose().is_ok()
            && std::fs::write(&unfinished, ptx).is_ok()
            && std::fs::rename(&unfinished, &path).is_ok();
        if !written {
            let _ = std::fs::remove_file(&unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_gets_the_newest_code_that_it_can_run() {
        let given = [75, 79, 80, 89, 90, 100, 103, 121].map(architecture_for);
        let wanted = [75, 75, 80, 80, 80, 100, 100, 120].map(|number| format!("compute_{number}"));
        assert_eq!(given, wanted.each_ref().map(String::as_str));
    }
}
