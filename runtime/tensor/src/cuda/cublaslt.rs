//! Products of matrices by NVIDIA's cuBLASLt, where its library is installed: it knows each GPU better than our kernels do.
//!
//! It takes what its matrices can say: operands of one floating type, whose rows or columns lie together, at most one
//! dimension of a batch, and a bias of the result's type. Everything else, and what is too small to be worth the call, is
//! left to our kernels. Sums are float32 in both, float32 is multiplied as such (no TF32), and parts of a sum are never
//! rounded to 16 bits on the way.
//!
//! The library counts in columns. A result in rows is the transposed result in columns, so its first operand is our right
//! one, and its rows are our columns.

use super::buffer::DeviceBuffer;
use super::gemm::{Gemm, suits_tensor_cores};
use super::gpu::{GpuJob, add, bind, failed};
use super::launch::View;
use crate::{DType, TensorError};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::{CudaContext, DevicePtrMut};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Major versions whose interface is the one that we call.
const VERSIONS: RangeInclusive<usize> = 12..=13;

/// Products of fewer multiplications are done before the library has thought about them.
const WORTH_THE_CALL: u64 = 1 << 18;

/// What a grid has room for in every algorithm of the library.
const MAX_BATCH: i64 = 65_535;

/// Algorithms read at most so many bytes at once. Memory of the driver starts at multiples of more.
const MAX_ALIGNMENT: usize = 16;

/// What NVIDIA recommends: on Hopper and newer, and before.
const WORKSPACE: [usize; 2] = [32 << 20, 4 << 20];

/// Distinct products whose algorithms are remembered; past it, all are forgotten.
const MAX_REMEMBERED: usize = 4096;

/// The library, for one GPU.
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    algorithms: Mutex<HashMap<Problem, Option<Algorithm>>>,
    context: Arc<CudaContext>,
    workspace: usize,
}

// SAFETY: the library's functions may be called with one handle from any threads at once.
#[allow(unsafe_code)]
unsafe impl Send for CublasLt {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for CublasLt {}

/// A matrix, or several, as the library counts: columns of `leading` elements. Its rows are taken for columns if `turned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Matrix {
    dtype: DType,
    rows: u64,
    columns: u64,
    leading: i64,
    turned: bool,
    step: i64,
    alignment: u32,
}

/// All that an algorithm is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    first: Matrix,
    second: Matrix,
    out: Matrix,
    batch: i32,
    bias: bool,
}

#[derive(Debug, Clone, Copy)]
struct Algorithm {
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

impl Matrix {
    /// `rows` × `columns` elements at the strides `down` and `across`, if they lie in columns or in rows.
    fn of(view: &View, (rows, columns): (i64, i64), (down, across): (i64, i64), step: i64) -> Option<Matrix> {
        let dtype = *DType::ALL.get(usize::try_from(view.dtype).ok()?)?;
        // Where there is only one, the distance to the next is of no account.
        let columns_apart = if columns == 1 { rows } else { across };
        let rows_apart = if rows == 1 { columns } else { down };
        let (turned, leading) = if (down == 1 || rows == 1) && columns_apart >= rows {
            (false, columns_apart)
        } else if (across == 1 || columns == 1) && rows_apart >= columns {
            (true, rows_apart)
        } else {
            return None;
        };
        let (rows, columns) = if turned { (columns, rows) } else { (rows, columns) };
        let (rows, columns) = (u64::try_from(rows).ok()?, u64::try_from(columns).ok()?);
        let alignment = alignment_of(usize::try_from(view.offset).ok()? * dtype.size()) as u32;
        (step >= 0).then_some(Matrix { dtype, rows, columns, leading, turned, step, alignment })
    }

    fn layout(&self, batch: i32) -> Result<Layout, CublasError> {
        let handle = result::create_matrix_layout(data_type(self.dtype), self.rows, self.columns, self.leading)?;
        let layout = Layout(handle);
        layout.set(sys::cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch)?;
        layout.set(sys::cublasLtMatrixLayoutAttribute_t::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &self.step)?;
        Ok(layout)
    }
}

/// The largest power of two, up to what is of use, that divides a distance from the start of a buffer.
fn alignment_of(offset: usize) -> usize {
    1 << (offset | MAX_ALIGNMENT).trailing_zeros()
}

fn data_type(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::Float16 => sys::cudaDataType::CUDA_R_16F,
        DType::Bfloat16 => sys::cudaDataType::CUDA_R_16BF,
        _ => sys::cudaDataType::CUDA_R_32F,
    }
}

impl Problem {
    /// The library's words for a plain product, if it has any and the product is worth them.
    pub(super) fn of(
        gemm: &Gemm,
        operands: [DType; 2],
        (has_bias, out): (bool, DType),
        capability: (u32, u32),
    ) -> Option<Problem> {
        let Gemm { a, b, bias, rows, columns, inner, .. } = *gemm;
        let (batch, steps) = match gemm.batch_rank {
            0 => (1, [0; 3]),
            1 => (gemm.batch_lengths[0], [gemm.b_batch[0], gemm.a_batch[0], gemm.out_batch]),
            _ => return None,
        };
        let work = [batch, rows, columns, inner].iter().fold(1u64, |work, length| work.saturating_mul(*length as u64));
        let floats = operands == [DType::Float32; 2] || suits_tensor_cores(&operands, capability);
        if !floats || work < WORTH_THE_CALL || batch > MAX_BATCH || ![operands[0], DType::Float32].contains(&out) {
            return None;
        }
        if has_bias && !suits_as_bias(&bias, out, columns, batch) {
            return None;
        }
        let first = Matrix::of(&b, (columns, inner), (b.strides[1], b.strides[0]), steps[0])?;
        let second = Matrix::of(&a, (inner, rows), (a.strides[1], a.strides[0]), steps[1])?;
        let target = View { dtype: super::launch::number(out), ..View::default() };
        let out = Matrix::of(&target, (columns, rows), (1, gemm.out_row), steps[2])?;
        Some(Problem { first, second, out, batch: batch as i32, bias: has_bias })
    }

    fn description(&self, bias: Option<u64>) -> Result<Description, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Description(result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?);
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(self.first.turned))?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(self.second.turned))?;
        if self.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        }
        if let Some(bias) = bias {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(description)
    }

    fn preference(&self, workspace: usize) -> Result<Preference, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(result::create_matmul_pref()?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace)?;
        // The others round parts of sums to the type of the result.
        let reductions = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &self.first.alignment)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &self.second.alignment)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &self.out.alignment)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &self.out.alignment)?;
        Ok(preference)
    }
}

/// Whether the library can add it: one number for each of our columns, the same for every matrix of a batch.
fn suits_as_bias(bias: &View, out: DType, columns: i64, batch: i64) -> bool {
    let in_order = bias.strides[0] == 1 || columns == 1;
    let same = bias.strides[1] == 0 || batch == 1;
    let aligned = (bias.offset as usize * out.size()).is_multiple_of(MAX_ALIGNMENT);
    bias.dtype == super::launch::number(out) && in_order && same && aligned
}

/// A description of the library's that is destroyed with this.
macro_rules! described {
    ($name:ident($handle:ty), $attribute:ty, $set:path, $destroy:path) => {
        struct $name($handle);

        impl $name {
            #[allow(unsafe_code)]
            fn set<T>(&self, attribute: $attribute, value: &T) -> Result<(), CublasError> {
                // SAFETY: the handle lives as long as this, and the library copies `size_of::<T>()` bytes at most; it refuses
                // attributes of another size.
                unsafe { $set(self.0, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
            }
        }

        impl Drop for $name {
            #[allow(unsafe_code)]
            fn drop(&mut self) {
                // SAFETY: made by the library and destroyed only here. A refusal leaves a few bytes behind.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}
described!(
    Layout(sys::cublasLtMatrixLayout_t),
    sys::cublasLtMatrixLayoutAttribute_t,
    result::set_matrix_layout_attribute,
    result::destroy_matrix_layout
);
described!(
    Description(sys::cublasLtMatmulDesc_t),
    sys::cublasLtMatmulDescAttributes_t,
    result::set_matmul_desc_attribute,
    result::destroy_matmul_desc
);
described!(
    Preference(sys::cublasLtMatmulPreference_t),
    sys::cublasLtMatmulPreferenceAttributes_t,
    result::set_matmul_pref_attribute,
    result::destroy_matmul_pref
);

impl CublasLt {
    /// The library and its version, or why it is not used.
    #[allow(unsafe_code)]
    pub(super) fn open(context: &Arc<CudaContext>) -> Result<(CublasLt, usize), String> {
        // SAFETY: loads a library of the system and runs its initialisers, as the first call into it would.
        if !unsafe { sys::is_culib_present() } {
            return Err("the library libcublasLt was not found".to_owned());
        }
        // SAFETY: takes nothing and answers a number, in every version.
        let version = unsafe { sys::cublasLtGetVersion() };
        if !VERSIONS.contains(&(version / 10_000)) {
            return Err(format!("libcublasLt has version {version}, which is not known here"));
        }
        bind(context).map_err(super::gpu::describe)?;
        let handle = result::create_handle().map_err(|error| format!("libcublasLt refuses: {:?}", error.0))?;
        let (major, _) = context.compute_capability().map_err(super::gpu::describe)?;
        let workspace = WORKSPACE[usize::from(major < 9)];
        Ok((CublasLt { handle, algorithms: Mutex::default(), context: Arc::clone(context), workspace }, version))
    }

    /// How it would compute a product; `None` where it cannot.
    fn algorithm(&self, problem: &Problem) -> Result<Option<Algorithm>, CublasError> {
        if let Some(known) = self.algorithms.lock().get(problem) {
            return Ok(*known);
        }
        let found = match self.find(problem) {
            Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => None,
            found => Some(found?),
        };
        let mut algorithms = self.algorithms.lock();
        if algorithms.len() >= MAX_REMEMBERED {
            algorithms.clear();
        }
        algorithms.insert(*problem, found);
        Ok(found)
    }

    #[allow(unsafe_code)]
    fn find(&self, problem: &Problem) -> Result<Algorithm, CublasError> {
        let Problem { first, second, out, batch, .. } = problem;
        // It wants a place for the bias, and does not look there.
        let description = problem.description(problem.bias.then_some(MAX_ALIGNMENT as u64))?;
        let (first, second, out) = (first.layout(*batch)?, second.layout(*batch)?, out.layout(*batch)?);
        let preference = problem.preference(self.workspace)?;
        // SAFETY: all handles are alive until the end of this function.
        let found = unsafe {
            let (first, second, out) = (first.0, second.0, out.0);
            result::get_matmul_algo_heuristic(self.handle, description.0, first, second, out, out, preference.0)?
        };
        Ok(Algorithm { algorithm: found.algo, workspace: found.workspaceSize })
    }

    /// Queues a product on a job's stream, for operands that the caller has ordered there.
    #[allow(unsafe_code)]
    fn launch(
        &self,
        problem: &Problem,
        algorithm: &Algorithm,
        places: &Places,
        (workspace, stream): (u64, sys::cudaStream_t),
    ) -> Result<(), CublasError> {
        let Problem { first, second, out, batch, .. } = problem;
        let description = problem.description(places.bias)?;
        let (first, second, out) = (first.layout(*batch)?, second.layout(*batch)?, out.layout(*batch)?);
        let (one, zero) = (1.0f32, 0.0f32);
        let address = |place: u64| place as *const c_void;
        // SAFETY: all handles are alive, and the library has copied what they say when it returns. The operation has checked
        // that shapes and strides stay inside the operands, and `Problem::of` says just that to the library; the simulated
        // library reports any element outside. The workspace is as large as the algorithm asks. With a zero, the third operand
        // is not read.
        unsafe {
            result::matmul(
                self.handle,
                description.0,
                std::ptr::from_ref(&one).cast(),
                std::ptr::from_ref(&zero).cast(),
                address(places.first),
                first.0,
                address(places.second),
                second.0,
                address(places.out),
                out.0,
                address(places.out).cast_mut(),
                out.0,
                &raw const algorithm.algorithm,
                address(workspace).cast_mut(),
                algorithm.workspace,
                stream,
            )
        }
    }
}

impl Drop for CublasLt {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        self.context.record_err(bind(&self.context));
        // SAFETY: made by the library and destroyed only here, when nobody can call it any more.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// Where the first elements are.
struct Places {
    first: u64,
    second: u64,
    bias: Option<u64>,
    out: u64,
}

impl GpuJob {
    /// Has the library compute a product of `reads`, which are left, right and perhaps a bias. False where it cannot, or where the
    /// account has no room for its workspace: our kernels need none.
    pub(super) fn multiply_by_cublaslt(
        &self,
        op: &'static str,
        (library, problem): (&CublasLt, &Problem),
        gemm: &Gemm,
        reads: &[&DeviceBuffer],
        out: &mut DeviceBuffer,
    ) -> Result<bool, TensorError> {
        bind(&library.context).map_err(|error| failed(op, error))?;
        let refused = |error: CublasError| TensorError::Device { op, message: format!("cuBLASLt: {:?}", error.0) };
        let Some(algorithm) = library.algorithm(problem).map_err(refused)? else { return Ok(false) };
        let mut workspace = match self.allocate_if_needed(op, algorithm.workspace) {
            Err(TensorError::Budget { .. } | TensorError::OutOfMemory { .. }) => return Ok(false),
            workspace => workspace?,
        };
        self.queue(op, reads, out, |pointers, target| {
            let place = |view: &View, pointer: u64, dtype: DType| pointer + view.offset as u64 * dtype.size() as u64;
            let places = Places {
                first: place(&gemm.b, pointers[1], problem.first.dtype),
                second: place(&gemm.a, pointers[0], problem.second.dtype),
                bias: pointers.get(2).map(|pointer| place(&gemm.bias, *pointer, problem.out.dtype)),
                out: target,
            };
            let workspace = workspace.as_mut().map(|buffer| buffer.slice.device_ptr_mut(&self.stream));
            let pointer = workspace.as_ref().map_or(0, |(pointer, _)| *pointer);
            let stream = self.stream.cu_stream().cast();
            library.launch(problem, &algorithm, &places, (pointer, stream)).map_err(refused)
        })?;
        add(&self.gpu.0.count.library_products, 1);
        Ok(true)
    }

    fn allocate_if_needed(&self, op: &'static str, bytes: usize) -> Result<Option<DeviceBuffer>, TensorError> {
        if bytes == 0 { Ok(None) } else { self.allocate(op, bytes).map(Some) }
    }
}
