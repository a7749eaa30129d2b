//! The driver's entry points, as `cuda.h` declares them. Each checks its pointers as far as a driver does: not at all.
//! SAFETY, for all of them: the caller keeps the driver's contract, as `cudarc` does.
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

use crate::code::Code as Image;
use crate::device::{
    Answer, CONTEXT_IS_DESTROYED, DEVICES, Device, INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NOT_FOUND,
    NOT_SUPPORTED, SUCCESS, architecture, device_of, setting, version_number,
};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use vivarium_ptx::memory::ANYBODY;

type Code = u32;

/// Contexts are numbers: this and the device. As with a driver, that does not change when a device is reset.
const CONTEXT: u64 = 0xc0de << 40;
/// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`.
const RELEASE_THRESHOLD: c_uint = 4;
/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;
/// `Simulated`, so that nobody takes figures from it.
const NAME: &[u8] = b"Simulated CUDA device (no GPU)\0";

thread_local! {
    /// The thread's context, and how often its device had been reset when the thread took it.
    static CURRENT: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

fn code(answer: Answer<()>) -> Code {
    answer.err().unwrap_or(SUCCESS)
}

unsafe fn put<T>(to: *mut T, answer: Answer<T>) -> Code {
    match answer {
        Ok(value) => {
            unsafe { to.write(value) };
            SUCCESS
        }
        Err(error) => error,
    }
}

/// The legacy default stream is one like any other here. It may not be 0, which stands for the host.
pub fn stream(handle: u64) -> u64 {
    if handle <= 2 { 1 } else { handle }
}

fn device(ordinal: c_int) -> Answer<&'static Device> {
    usize::try_from(ordinal).ok().and_then(|ordinal| DEVICES.get(ordinal)).ok_or(INVALID_DEVICE)
}

/// The device of the thread's context.
pub fn current() -> Answer<&'static Device> {
    let (context, resets) = CURRENT.get();
    let device = of_context(context)?;
    if device.resets() != resets {
        device.outlived();
        return Err(CONTEXT_IS_DESTROYED);
    }
    Ok(device)
}

fn of_context(context: u64) -> Answer<&'static Device> {
    if context & CONTEXT != CONTEXT {
        return Err(INVALID_CONTEXT);
    }
    device((context & 0xff) as c_int)
}

fn in_context(answer: impl FnOnce(&'static Device) -> Answer<()>) -> Code {
    code(current().and_then(answer))
}

/// Work on a stream, which has to be of the thread's context.
fn on_stream(on: u64, work: impl FnOnce(&'static Device, u64) -> Answer<()>) -> Code {
    in_context(|device| {
        device.owns(on)?;
        work(device, stream(on))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> Code {
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Code {
    unsafe { put(version, Ok(version_number() as c_int)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(error: Code, text: *mut *const c_char) -> Code {
    let name = match error {
        SUCCESS => c"CUDA_SUCCESS",
        1 => c"CUDA_ERROR_INVALID_VALUE",
        2 => c"CUDA_ERROR_OUT_OF_MEMORY",
        101 => c"CUDA_ERROR_INVALID_DEVICE",
        201 => c"CUDA_ERROR_INVALID_CONTEXT",
        200 => c"CUDA_ERROR_INVALID_IMAGE",
        209 => c"CUDA_ERROR_NO_BINARY_FOR_GPU",
        218 => c"CUDA_ERROR_INVALID_PTX",
        222 => c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        400 => c"CUDA_ERROR_INVALID_HANDLE",
        700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        709 => c"CUDA_ERROR_CONTEXT_IS_DESTROYED",
        716 => c"CUDA_ERROR_MISALIGNED_ADDRESS",
        719 => c"CUDA_ERROR_LAUNCH_FAILED",
        801 => c"CUDA_ERROR_NOT_SUPPORTED",
        _ => c"CUDA_ERROR_UNKNOWN",
    };
    unsafe { put(text, Ok(name.as_ptr())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: Code, text: *mut *const c_char) -> Code {
    unsafe { cuGetErrorName(error, text) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Code {
    unsafe { put(count, Ok(DEVICES.len() as c_int)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(found: *mut c_int, ordinal: c_int) -> Code {
    unsafe { put(found, device(ordinal).map(|_| ordinal)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) -> Code {
    let count = NAME.len().min(length.max(0) as usize);
    unsafe { std::ptr::copy_nonoverlapping(NAME.as_ptr().cast(), name, count) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, of: c_int) -> Code {
    unsafe { put(bytes, device(of).map(|device| device.total() as usize)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, _device: c_int) -> Code {
    let arch = architecture() as i32;
    let found = match attribute {
        1 => 1024,       // threads of a block
        2 | 3 => 1024,   // along x, y
        4 => 64,         // along z
        5 => i32::MAX,   // blocks along x
        6 | 7 => 65_535, // along y, z
        8 => 48 << 10,   // shared memory of a block
        10 => 32,        // lanes of a warp
        16 => 2,         // multiprocessors: few, so that small products keep them busy
        75 => arch / 10, // compute capability
        76 => arch % 10,
        97 => 99 << 10,                            // shared memory of a block that asks for it
        115 => setting("SIMULATED_CUDA_POOLS", 1), // memory pools
        _ => 0,
    };
    unsafe { put(value, Ok(found)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut u64, of: c_int) -> Code {
    unsafe { put(context, device(of).map(Device::retain).map(|()| CONTEXT | of as u64)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(of: c_int) -> Code {
    code(device(of).and_then(Device::release))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset_v2(of: c_int) -> Code {
    code(device(of).map(Device::reset))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(of: c_int, flags: c_uint) -> Code {
    code(device(of).map(|device| device.set_flags(flags)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCurrent(context: *mut u64) -> Code {
    unsafe { put(context, Ok(CURRENT.get().0)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: u64) -> Code {
    let resets = of_context(context).map_or(0, Device::resets);
    CURRENT.set((context, resets));
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> Code {
    in_context(Device::synchronize_all)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(pointer: *mut u64, bytes: usize) -> Code {
    unsafe { put(pointer, current().and_then(|device| device.allocate(bytes, ANYBODY))) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(pointer: u64) -> Code {
    in_context(|device| {
        device.synchronize_all()?;
        device.free(pointer, 1)
    })
}

fn allocated(bytes: usize, on: u64) -> Answer<u64> {
    let device = current()?;
    device.owns(on)?;
    device.allocate(bytes, stream(on))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(pointer: *mut u64, bytes: usize, on: u64) -> Code {
    unsafe { put(pointer, allocated(bytes, on)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(pointer: u64, on: u64) -> Code {
    on_stream(on, |device, on| device.free(pointer, on))
}

/// A device's pool has its context's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut u64, of: c_int) -> Code {
    unsafe { put(pool, device(of).map(|_| CONTEXT | of as u64)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolSetAttribute(pool: u64, attribute: c_uint, value: *const u64) -> Code {
    match attribute {
        RELEASE_THRESHOLD => code(of_context(pool).map(|device| device.keep_unused(unsafe { value.read() }))),
        _ => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPoolTrimTo(pool: u64, bytes: usize) -> Code {
    code(of_context(pool).and_then(|device| device.trim(bytes as u64)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, on: u64) -> Code {
    let source = unsafe { std::slice::from_raw_parts(from, bytes) };
    on_stream(on, |device, on| {
        device.bytes(to, bytes, on, true, |allocation, at| {
            allocation.write(at, source);
            Ok(())
        })?;
        device.leaves_host(from as u64, bytes, on);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, on: u64) -> Code {
    on_stream(on, |device, on| {
        let data = device.bytes(from, bytes, on, false, |allocation, at| {
            if let Some(byte) = allocation.unwritten(at, bytes) {
                return Err(format!(
                    "Uninitialised: byte {byte} of a buffer is copied to the host, but nobody wrote it"
                ));
            }
            Ok(allocation.data[at..at + bytes].to_vec())
        })?;
        if !device.arrives_later(to as u64, &data, on) {
            unsafe { std::slice::from_raw_parts_mut(to, bytes) }.copy_from_slice(&data);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(memory: *mut u64, bytes: usize, _flags: c_uint) -> Code {
    unsafe { put(memory, current().and_then(|device| device.allocate_pinned(bytes))) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(memory: u64) -> Code {
    in_context(|device| device.free_pinned(memory))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, on: u64) -> Code {
    on_stream(on, |device, on| {
        let data = device.bytes(from, bytes, on, false, |allocation, at| match allocation.unwritten(at, bytes) {
            Some(byte) => Err(format!("Uninitialised: byte {byte} of a buffer is copied, but nobody wrote it")),
            None => Ok(allocation.data[at..at + bytes].to_vec()),
        })?;
        device.bytes(to, bytes, on, true, |allocation, at| {
            allocation.write(at, &data);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, on: u64) -> Code {
    on_stream(on, |device, on| {
        device.bytes(to, bytes, on, true, |allocation, at| {
            allocation.write(at, &vec![value; bytes]);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut u64, image: *const c_char) -> Code {
    let image = unsafe { image_at(image.cast()) };
    unsafe { put(module, current().and_then(|device| device.load(image))) }
}

/// A text up to its end, or an ELF file up to the end of its tables, which is all that a pointer tells.
unsafe fn image_at<'a>(start: *const u8) -> &'a [u8] {
    if unsafe { std::slice::from_raw_parts(start, 4) } != b"\x7fELF" {
        return unsafe { CStr::from_ptr(start.cast()) }.to_bytes();
    }
    let header = unsafe { std::slice::from_raw_parts(start, 64) };
    let number = |at: usize, bytes: usize| {
        header[at..at + bytes].iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let segments = number(0x20, 8) + number(0x36, 2) * number(0x38, 2);
    let sections = number(0x28, 8) + number(0x3a, 2) * number(0x3c, 2);
    unsafe { std::slice::from_raw_parts(start, segments.max(sections)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: u64) -> Code {
    code(device_of(module).and_then(|device| device.unload(module)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(function: *mut u64, module: u64, name: *const c_char) -> Code {
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    unsafe { put(function, device_of(module).and_then(|device| device.function(module, &name))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    on: u64,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Code {
    if !extra.is_null() {
        return INVALID_VALUE;
    }
    let handle = function;
    let function = match device_of(function).and_then(|device| device.find_function(function)) {
        Ok(function) => function,
        Err(error) => return error,
    };
    let Image::Ptx(module) = &function.module else { return NOT_SUPPORTED };
    let Some(kernel) = module.kernel(&function.name) else { return INVALID_VALUE };
    let mut bytes = vec![0u8; kernel.param_bytes()];
    for (index, (offset, length)) in kernel.params.iter().enumerate() {
        let from = unsafe { std::slice::from_raw_parts((*params.add(index)).cast::<u8>(), *length) };
        bytes[*offset..offset + length].copy_from_slice(from);
    }
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    on_stream(on, |device, on| {
        device.owns(handle)?;
        device.launch(&function, grid, block, shared, on, &bytes)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(handle: *mut u64, _flags: c_uint) -> Code {
    unsafe { put(handle, current().and_then(Device::new_stream)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(on: u64) -> Code {
    code(device_of(on).and_then(|device| device.drop_stream(stream(on))))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(on: u64) -> Code {
    on_stream(on, Device::synchronize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(on: u64, event: u64, _flags: c_uint) -> Code {
    on_stream(on, |device, on| {
        device.owns(event)?;
        device.wait(on, event)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut u64, flags: c_uint) -> Code {
    unsafe { put(event, current().and_then(|device| device.new_event(flags & DISABLE_TIMING == 0))) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: u64) -> Code {
    code(device_of(event).and_then(|device| device.drop_event(event)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: u64, on: u64) -> Code {
    on_stream(on, |device, on| {
        device.owns(event)?;
        device.record(event, on)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: u64) -> Code {
    in_context(|device| {
        device.owns(event)?;
        device.wait(0, event)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: u64) -> Code {
    code(device_of(event).and_then(|device| device.passed(event)))
}

/// Under this name only, as of drivers before 12.8; later ones have it too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, from: u64, to: u64) -> Code {
    unsafe { put(milliseconds, device_of(from).and_then(|device| device.elapsed(from, to))) }
}

/// NVRTC asks for tables that are not documented; it does without.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetExportTable(_table: *mut *const c_void, _id: *const c_void) -> Code {
    NOT_FOUND
}

/// Not of the driver: the mistakes found so far, one a line, cut to `length`; forgets them and lifts the sticky error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simulatedCudaFaults(text: *mut u8, length: usize) -> usize {
    let faults = DEVICES.iter().flat_map(Device::take_faults).collect::<Vec<_>>().join("\n");
    let count = faults.len().min(length);
    unsafe { std::ptr::copy_nonoverlapping(faults.as_ptr(), text, count) };
    count
}

/// Not of the driver: as if a kernel of a device had gone wrong. Everything on it fails from now on.
#[unsafe(no_mangle)]
pub extern "C" fn simulatedCudaBreak(of: c_int) {
    if let Ok(device) = device(of) {
        device.break_down();
    }
}

/// Not of the driver: of a device, the bytes that are allocated, those that its pool keeps besides, and its context's flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simulatedCudaState(of: c_int, numbers: *mut [u64; 3]) {
    if let Ok(device) = device(of) {
        let (used, kept) = device.held();
        unsafe { numbers.write([used, kept, u64::from(device.flags())]) };
    }
}

/// Not of the driver: how often the host waited for the device.
#[unsafe(no_mangle)]
pub extern "C" fn simulatedCudaWaits() -> u64 {
    DEVICES.iter().map(Device::waits).sum()
}

/// Not of the driver: instructions executed so far, counted per warp.
#[unsafe(no_mangle)]
pub extern "C" fn simulatedCudaInstructions() -> u64 {
    DEVICES.iter().map(Device::instructions).sum()
}
