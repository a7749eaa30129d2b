//! The entry points of `libcublasLt` that `vivarium-tensor` calls, as `cublasLt.h` declares them.
//! SAFETY, for all of them: the caller keeps the library's contract, as `cudarc` does.
#![allow(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

use crate::cublaslt::{
    Algorithm, Call, Description, INVALID_VALUE, LIBRARY, Layout, Library, NOT_SUPPORTED, Places, Preference,
    heuristic, mistake, multiply,
};
use crate::device::{Answer, DEVICES, SUCCESS};
use crate::entry::{current, stream};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};

type Status = u32;

const NOT_INITIALIZED: Status = 1;
const VERSION: usize = 120_900;
/// Every scheme of adding up partial sums, and alignments as of fresh allocations: what the library takes for granted.
const DEFAULTS: Preference = Preference { workspace: 0, reductions: 7, alignments: [256; 4] };

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
pub struct Heuristic {
    algorithm: Algorithm,
    workspace: usize,
    state: Status,
    waves: f32,
    reserved: [c_int; 4],
}

fn status(answer: Answer<()>) -> Status {
    answer.err().unwrap_or(SUCCESS)
}

/// A handle of what `put` has stored under it.
unsafe fn create(to: *mut u64, put: impl FnOnce(&mut Library, u64)) -> Status {
    let Some(device) = current().ok().or(DEVICES.first()) else { return NOT_INITIALIZED };
    let handle = device.handle();
    put(&mut LIBRARY.lock(), handle);
    unsafe { to.write(handle) };
    SUCCESS
}

fn destroy(found: bool, what: &str) -> Status {
    if found {
        return SUCCESS;
    }
    status(mistake(format!("{what} is destroyed that is none")))
}

/// Stores an attribute of exactly the size that the library reads.
unsafe fn set<S, T: Copy>(
    (all, handle): (&mut HashMap<u64, S>, u64),
    (value, bytes): (*const c_void, usize),
    place: impl FnOnce(&mut S) -> &mut T,
) -> Status {
    if bytes != size_of::<T>() {
        return INVALID_VALUE;
    }
    match all.get_mut(&handle) {
        Some(of) => {
            *place(of) = unsafe { value.cast::<T>().read_unaligned() };
            SUCCESS
        }
        None => destroy(false, "something"),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtGetVersion() -> usize {
    VERSION
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtCreate(handle: *mut u64) -> Status {
    if current().is_err() {
        return NOT_INITIALIZED;
    }
    unsafe {
        create(handle, |library, handle| {
            library.handles.insert(handle);
        })
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtDestroy(handle: u64) -> Status {
    destroy(LIBRARY.lock().handles.remove(&handle), "a handle")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatrixLayoutCreate(
    layout: *mut u64,
    dtype: u32,
    rows: u64,
    columns: u64,
    leading: i64,
) -> Status {
    let made = Layout { dtype, rows, columns, leading, batch: 1, step: 0 };
    unsafe {
        create(layout, |library, handle| {
            library.layouts.insert(handle, made);
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatrixLayoutSetAttribute(
    layout: u64,
    attribute: u32,
    value: *const c_void,
    bytes: usize,
) -> Status {
    let layouts = &mut LIBRARY.lock().layouts;
    match attribute {
        5 => unsafe { set((layouts, layout), (value, bytes), |layout| &mut layout.batch) },
        6 => unsafe { set((layouts, layout), (value, bytes), |layout| &mut layout.step) },
        _ => NOT_SUPPORTED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatrixLayoutDestroy(layout: u64) -> Status {
    destroy(LIBRARY.lock().layouts.remove(&layout).is_some(), "a layout")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulDescCreate(description: *mut u64, compute: u32, scale: u32) -> Status {
    let made = Description { compute, scale, turned: [0; 2], epilogue: 1, bias: 0 };
    unsafe {
        create(description, |library, handle| {
            library.descriptions.insert(handle, made);
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulDescSetAttribute(
    description: u64,
    attribute: u32,
    value: *const c_void,
    bytes: usize,
) -> Status {
    let of = (&mut LIBRARY.lock().descriptions, description);
    match attribute {
        3 => unsafe { set(of, (value, bytes), |description| &mut description.turned[0]) },
        4 => unsafe { set(of, (value, bytes), |description| &mut description.turned[1]) },
        7 => unsafe { set(of, (value, bytes), |description| &mut description.epilogue) },
        8 => unsafe { set(of, (value, bytes), |description| &mut description.bias) },
        _ => NOT_SUPPORTED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatmulDescDestroy(description: u64) -> Status {
    destroy(LIBRARY.lock().descriptions.remove(&description).is_some(), "a description")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulPreferenceCreate(preference: *mut u64) -> Status {
    unsafe {
        create(preference, |library, handle| {
            library.preferences.insert(handle, DEFAULTS);
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: u64,
    attribute: u32,
    value: *const c_void,
    bytes: usize,
) -> Status {
    let of = (&mut LIBRARY.lock().preferences, preference);
    match attribute {
        1 => unsafe { set(of, (value, bytes), |preference| &mut preference.workspace) },
        3 => unsafe { set(of, (value, bytes), |preference| &mut preference.reductions) },
        5..=8 => unsafe { set(of, (value, bytes), |preference| &mut preference.alignments[attribute as usize - 5]) },
        _ => NOT_SUPPORTED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatmulPreferenceDestroy(preference: u64) -> Status {
    destroy(LIBRARY.lock().preferences.remove(&preference).is_some(), "preferences")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    library: u64,
    description: u64,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    preference: u64,
    asked: c_int,
    results: *mut Heuristic,
    found: *mut c_int,
) -> Status {
    if current().is_err() || asked < 1 {
        return NOT_INITIALIZED;
    }
    match heuristic(&Call { library, description, layouts: [a, b, c, d] }, preference) {
        Ok((algorithm, workspace)) => {
            let result =
                Heuristic { algorithm, workspace: workspace as usize, state: SUCCESS, waves: 1.0, reserved: [0; 4] };
            unsafe {
                results.write(result);
                found.write(1);
            }
            SUCCESS
        }
        Err(error) => error,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmul(
    library: u64,
    description: u64,
    alpha: *const f32,
    a: u64,
    a_layout: u64,
    b: u64,
    b_layout: u64,
    beta: *const f32,
    c: u64,
    c_layout: u64,
    d: u64,
    d_layout: u64,
    algorithm: *const Algorithm,
    workspace: u64,
    workspace_bytes: usize,
    on: u64,
) -> Status {
    if current().and_then(|device| device.owns(on)).is_err() {
        return NOT_INITIALIZED;
    }
    if algorithm.is_null() {
        return NOT_SUPPORTED;
    }
    let (scales, algorithm) = unsafe { ([*alpha, *beta], *algorithm) };
    let call = Call { library, description, layouts: [a_layout, b_layout, c_layout, d_layout] };
    let places = Places { matrices: [a, b, c, d], workspace, workspace_bytes: workspace_bytes as u64 };
    status(multiply(&call, &places, scales, &algorithm, stream(on)))
}

/// Not of the library: descriptors that were created and not destroyed.
#[unsafe(no_mangle)]
pub extern "C" fn simulatedCublasDescriptors() -> usize {
    let library = LIBRARY.lock();
    library.layouts.len() + library.descriptions.len() + library.preferences.len()
}
