//! What the simulated driver can be asked for, and no other.

/// Breaks a device. False where the driver is not ours.
#[allow(unsafe_code)]
pub fn break_device(number: i32) -> bool {
    // SAFETY: a library that is loaded already, and a name in it.
    let found = unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            return false;
        }
        libc::dlsym(library, c"simulatedCudaBreak".as_ptr())
    };
    if found.is_null() {
        return false;
    }
    // SAFETY: the function of that name takes the number of a device and answers nothing.
    let function: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(found) };
    function(number);
    true
}
