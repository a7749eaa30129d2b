//! What the simulated driver can be asked for, and no other.

use std::ffi::{CStr, c_int, c_void};

/// What it knows of a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// Bytes that are allocated.
    pub used: u64,
    /// Bytes besides that its pool keeps.
    pub kept: u64,
    /// The flags of its context.
    pub flags: u64,
}

/// A function that no driver has but the simulated one; null on others.
#[allow(unsafe_code)]
fn find(name: &CStr) -> *mut c_void {
    // SAFETY: a library that is loaded already or is the system's, and a name in it.
    unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() { std::ptr::null_mut() } else { libc::dlsym(library, name.as_ptr()) }
    }
}

/// Whether tests run on it.
pub fn is_simulated() -> bool {
    std::env::var("VIVARIUM_TEST_GPU").is_ok_and(|value| value == "1") && !find(c"simulatedCudaBreak").is_null()
}

/// Breaks a device. False where the driver is not ours.
#[allow(unsafe_code)]
pub fn break_device(number: i32) -> bool {
    let found = find(c"simulatedCudaBreak");
    if found.is_null() {
        return false;
    }
    // SAFETY: the function of that name takes the number of a device and answers nothing.
    let function: extern "C" fn(c_int) = unsafe { std::mem::transmute(found) };
    function(number);
    true
}

/// How to ask for the state of a device; `None` where the driver is not ours.
#[allow(unsafe_code)]
pub fn state_of_device(number: i32) -> Option<impl Fn() -> State> {
    let found = find(c"simulatedCudaState");
    let ask = move || {
        let mut numbers = [0u64; 3];
        // SAFETY: the function of that name takes the number of a device and room for three numbers.
        let function: extern "C" fn(c_int, *mut [u64; 3]) = unsafe { std::mem::transmute(found) };
        function(number, &mut numbers);
        let [used, kept, flags] = numbers;
        State { used, kept, flags }
    };
    (!found.is_null()).then_some(ask)
}
