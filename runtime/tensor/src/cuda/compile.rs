//! Kernels: their sources, and those that are loaded.

use super::code::{CodeStore, Origin, Target};
use super::driver::Compiler;
use super::gpu::{Count, add, failed};
use crate::{ReduceOp, TensorError};
use cudarc::driver::{CudaContext, CudaFunction};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    CHIRP "chirp",
    CREATE "create",
    WINDOWS "windows",
);

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
        let failed = |message: String| TensorError::Device { op: self.name, message };
        let compiler = Compiler::installed().map_err(|error| failed(error.to_string()))?;
        let unknown = || failed(format!("the compiler makes no code for {capability}"));
        let target = Target::ptx(capability, &compiler).ok_or_else(unknown)?;
        let (ptx, _) = CodeStore::new(target, compiler.version, Some(cache)).get(self.name, &self.source)?;
        Ok(String::from_utf8_lossy(&ptx).into_owned())
    }
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
        one(CHIRP, "spread", &[("STEP", "SPREAD")]),
        one(CREATE, "normal", &[("SERIES", "NORMAL")]),
        one(WINDOWS, "max pool", &[("WORK", "LARGEST")]),
        one(WINDOWS, "fold", &[("WORK", "FOLD")]),
    ]
}

fn full_text(source: Source, defines: &[(&str, &str)]) -> String {
    let defines: String = defines.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect();
    format!("{defines}{COMMON}\n{}", source.text)
}

/// All kernels in use.
pub(super) struct Kernels {
    loaded: Mutex<HashMap<String, Arc<KernelPlace>>>,
    store: CodeStore,
}

/// Where a kernel is or will be. Locked while it is compiled: who needs the same one waits for it, who needs another does not.
type KernelPlace = Mutex<Option<Arc<CudaFunction>>>;

impl Kernels {
    pub(super) fn new(target: Target, compiler_version: (i32, i32), cache: Option<&Path>) -> Kernels {
        Kernels { loaded: Mutex::default(), store: CodeStore::new(target, compiler_version, cache) }
    }

    /// Where compiled kernels are kept.
    pub(super) fn folder(&self) -> Option<&PathBuf> {
        self.store.folder()
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
        let text = full_text(source, defines);
        let (code, origin) = self.store.get(op, &text)?;
        let module = match self.store.load(code, context) {
            // What lies on disk may have been cut off or changed.
            Err(_) if origin == Origin::Cache => {
                add(&count.compiled, 1);
                self.store.compile_anew(op, &text).map(|code| self.store.load(code, context))?
            }
            module => {
                add(if origin == Origin::Cache { &count.cached } else { &count.compiled }, 1);
                module
            }
        };
        let module = module.map_err(|error| failed(op, error))?;
        let kernel = Arc::new(module.load_function(source.name).map_err(|error| failed(op, error))?);
        *loaded = Some(Arc::clone(&kernel));
        Ok(kernel)
    }
}
