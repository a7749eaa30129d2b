//! The installed driver and run-time compiler: whether they are there, new enough for us, and suited to each other; and the few
//! calls of the driver that `cudarc` has no safe name for.
//!
//! `cudarc` looks a function up when it is first called, and panics where the driver has none of that name. So all of them are looked
//! up here, before anything else happens.

use crate::GpuUnavailable;
use cudarc::driver::{CudaContext, CudaEvent, DriverError, result, sys};
use cudarc::nvrtc;
use std::ffi::c_void;
use std::ptr::from_mut;

/// What we call, by ourselves or through `cudarc`. The youngest are those of the memory pools: CUDA 11.2, driver 460.
const FUNCTIONS: [&str; 43] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetDefaultMemPool",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxReset_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxSetFlags_v2",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    ELAPSED,
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemPoolSetAttribute",
    "cuMemPoolTrimTo",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// The same of the compiler: CUDA 11.2.
const COMPILER_FUNCTIONS: [&str; 11] = [
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetPTX",
    "nvrtcGetPTXSize",
    "nvrtcGetProgramLog",
    "nvrtcGetSupportedArchs",
    "nvrtcVersion",
];

/// `cudarc` calls its second version, which only drivers from CUDA 12.8 on have.
const ELAPSED: &str = "cuEventElapsedTime";

/// The driver's version, such as 12080, if it is there and has all that is called.
///
/// # Errors
/// [`GpuUnavailable::NoDriver`] or [`GpuUnavailable::DriverTooOld`].
#[allow(unsafe_code)]
pub(super) fn version() -> Result<i32, GpuUnavailable> {
    // SAFETY: loads a library of the system and runs its initialisers, as the first call into it would.
    if !unsafe { sys::is_culib_present() } {
        return Err(GpuUnavailable::NoDriver);
    }
    // SAFETY: as above. A name is only looked up, and not called.
    let lacks = |name: &str| unsafe { sys::culib().get::<*const c_void>(name.as_bytes()) }.is_err();
    if let Some(name) = FUNCTIONS.into_iter().find(|name| lacks(name)) {
        return Err(GpuUnavailable::DriverTooOld { function: name });
    }
    let mut version = 0;
    // SAFETY: writes one integer through a pointer to one. It may be called before all others.
    unsafe { sys::cuDriverGetVersion(&mut version).result()? };
    Ok(version)
}

/// The run-time compiler.
#[derive(Debug, Clone)]
pub(super) struct Compiler {
    /// Such as (12, 9).
    pub(super) version: (i32, i32),
    /// Architectures that it makes code for, such as 89.
    pub(super) architectures: Vec<u32>,
}

impl Compiler {
    /// The one that is installed.
    ///
    /// # Errors
    /// [`GpuUnavailable::NoCompiler`], also where it is too old.
    #[allow(unsafe_code)]
    pub(super) fn installed() -> Result<Compiler, GpuUnavailable> {
        // SAFETY: loads a library of the system and runs its initialisers, as the first call into it would.
        if !unsafe { nvrtc::sys::is_culib_present() } {
            return Err(GpuUnavailable::NoCompiler);
        }
        // SAFETY: as above. A name is only looked up, and not called.
        let has = |name: &str| unsafe { nvrtc::sys::culib().get::<*const c_void>(name.as_bytes()) }.is_ok();
        if !COMPILER_FUNCTIONS.into_iter().all(has) {
            return Err(GpuUnavailable::NoCompiler);
        }
        let ((mut major, mut minor), mut count) = ((0, 0), 0);
        // SAFETY: the functions are there, and write integers through pointers to them.
        let known = unsafe {
            nvrtc::sys::nvrtcVersion(&mut major, &mut minor).result().is_ok()
                && nvrtc::sys::nvrtcGetNumSupportedArchs(&mut count).result().is_ok()
        };
        let mut architectures = vec![0; usize::try_from(count).unwrap_or_default()];
        // SAFETY: there is room for as many integers as it says it writes.
        if !known || unsafe { nvrtc::sys::nvrtcGetSupportedArchs(architectures.as_mut_ptr()).result().is_err() } {
            return Err(GpuUnavailable::NoCompiler);
        }
        let architectures = architectures.into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
        Ok(Compiler { version: (major, minor), architectures })
    }
}

/// Lets threads that wait for a GPU sleep; the driver's own choice keeps a processor busy for as long. To be said before the primary
/// context is made.
#[allow(unsafe_code)]
pub(super) fn sleep_while_waiting(ordinal: usize) -> Result<(), DriverError> {
    result::init()?;
    let device = result::device::get(ordinal as i32)?;
    // SAFETY: the device is the driver's.
    unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32).result() }
}

/// Lets the pool that memory comes from keep so many bytes that nobody uses. Without that, everything goes back to the system
/// whenever somebody waits for a stream, and the next prompt begins with asking for it again. Where there are no pools, nothing is kept.
#[allow(unsafe_code)]
pub(super) fn keep_unused_memory(context: &CudaContext, bytes: u64) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut bytes = bytes;
    // SAFETY: the device is that of a context, its pool lives as long, and the attribute is a number of 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, attribute, from_mut(&mut bytes).cast())
    }
}

/// Gives back what the pool keeps unused.
#[allow(unsafe_code)]
pub(super) fn give_unused_memory_back(context: &CudaContext) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    // SAFETY: as in `keep_unused_memory`.
    unsafe { result::mem_pool::trim_to(result::device::get_default_mem_pool(context.cu_device())?, 0) }
}

/// Milliseconds between two events that take the time. Waits for both.
#[allow(unsafe_code)]
pub(super) fn milliseconds(begun: &CudaEvent, ended: &CudaEvent) -> Result<f32, DriverError> {
    type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    begun.synchronize()?;
    ended.synchronize()?;
    let mut milliseconds = 0.0;
    // SAFETY: the function of that name has this type in every version of the driver. Both events live, and it writes one number
    // through a pointer to one.
    unsafe {
        let Ok(elapsed) = sys::culib().get::<Elapsed>(ELAPSED.as_bytes()) else {
            return Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND));
        };
        elapsed(&mut milliseconds, begun.cu_event(), ended.cu_event()).result()?;
    }
    Ok(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the tests run on has nothing else, so whatever they call is in the list.
    #[test]
    fn every_function_of_the_simulated_driver_is_looked_up_before_anything_happens() {
        let entry = include_str!("../../../../tests/libcuda/src/entry.rs");
        let names = entry.split("extern \"C\" fn ").skip(1).filter_map(|rest| rest.split('(').next());
        // The compiler calls that one, and does without.
        let called: Vec<&str> = names.filter(|name| name.starts_with("cu") && *name != "cuGetExportTable").collect();
        for name in &called {
            assert!(FUNCTIONS.contains(name), "{name} is not looked up");
        }
        assert_eq!(called.len(), FUNCTIONS.len(), "the simulated driver lacks something");
    }
}
