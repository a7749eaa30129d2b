//! Page-locked memory used too early, on purpose: the simulated driver must tell, or the tests of `cuda_staging.rs` would prove
//! little. In a process of its own, since a mistake spoils the device.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

use cudarc::driver::{CudaContext, CudaStream, DevicePtr, DevicePtrMut, result};
use std::sync::Arc;

const BYTES: usize = 4096;

/// Page-locked memory, and as much on the device.
struct Pair {
    stream: Arc<CudaStream>,
    host: *mut u8,
    device: u64,
}

type Use = fn(&Pair);

/// What is done with a pair, and what is said of it.
const USES: &[(&str, Use, &str)] = &[
    ("in turn", |pair| (pair.leave(), pair.wait(), pair.fill(2), pair.leave(), pair.wait()).0, ""),
    (
        "overwritten before the wait",
        |pair| (pair.leave(), pair.fill(2), pair.wait()).0,
        "overwritten while it was copied",
    ),
    (
        "overwritten before the next copy",
        |pair| (pair.leave(), pair.fill(2), pair.leave()).0,
        "overwritten while it was",
    ),
    ("freed before the wait", |pair| (pair.leave(), pair.free()).0, "freed while it was copied"),
    ("copied to before the wait", |pair| (pair.leave(), pair.arrive()).0, "before another copy is done"),
];

#[allow(unsafe_code)]
impl Pair {
    fn fill(&self, byte: u8) {
        // SAFETY: memory of that size, unless it was freed, which is the last thing that any use does.
        unsafe { self.host.write_bytes(byte, BYTES) };
    }

    fn leave(&self) {
        // SAFETY: as above; what may happen to the bytes meanwhile is what is tested.
        let bytes = unsafe { std::slice::from_raw_parts(self.host, BYTES) };
        // SAFETY: memory of the device of that size.
        unsafe { result::memcpy_htod_async(self.device, bytes, self.stream.cu_stream()) }.unwrap();
    }

    fn arrive(&self) {
        // SAFETY: as for `leave`.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(self.host, BYTES);
            result::memcpy_dtoh_async(bytes, self.device, self.stream.cu_stream()).unwrap();
        }
    }

    fn first(&self) -> u8 {
        // SAFETY: as above. Volatile, since the driver writes it too.
        unsafe { self.host.read_volatile() }
    }

    fn wait(&self) {
        // What is wrong is asked for elsewhere.
        let _ = self.stream.synchronize();
    }

    fn free(&self) {
        // SAFETY: made by `malloc_host`.
        let _ = unsafe { result::free_host(self.host.cast()) };
    }
}

/// Everything that the simulated driver found so far, which it forgets then. `None` on another driver.
#[allow(unsafe_code)]
fn faults() -> Option<String> {
    // SAFETY: a library that is loaded already, and a name in it.
    let found =
        unsafe { libc::dlsym(libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW), c"simulatedCudaFaults".as_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: the function of that name fills so many bytes at most and answers how many.
    let function: extern "C" fn(*mut u8, usize) -> usize = unsafe { std::mem::transmute(found) };
    let mut text = vec![0; 1 << 12];
    let length = function(text.as_mut_ptr(), text.len());
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[allow(unsafe_code)]
fn with_pair<T>(with: impl FnOnce(&Pair) -> T) -> T {
    // Of its own each time: `cudarc` remembers errors in it.
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let mut device = stream.alloc_zeros::<u8>(BYTES).unwrap();
    let (address, order) = device.device_ptr_mut(&stream);
    drop(order);
    // SAFETY: bytes have no invalid values, and are written next.
    let host = unsafe { result::malloc_host(BYTES, 0) }.unwrap().cast();
    let pair = Pair { stream: Arc::clone(&stream), host, device: address };
    pair.fill(1);
    let answer = with(&pair);
    assert_eq!(device.device_ptr(&stream).0, address);
    answer
}

#[test]
fn every_early_use_is_told() {
    let wanted = std::env::var("VIVARIUM_TEST_GPU").is_ok_and(|value| value == "1");
    if !wanted {
        return;
    }
    let _driver = CudaContext::new(0).unwrap();
    if faults().is_none() {
        return;
    }
    for (what, act, told) in USES {
        with_pair(act);
        let found = faults().unwrap();
        assert!(if told.is_empty() { found.is_empty() } else { found.contains(told) }, "{what}: {found:?}");
    }
    // What is copied back is not there before somebody has waited for it.
    let seen = with_pair(|pair| {
        pair.fill(9);
        pair.arrive();
        let early = pair.first();
        pair.wait();
        (early, pair.first())
    });
    assert!(seen.0 != 0 && seen.1 == 0, "{seen:?}");
    assert_eq!(faults().unwrap(), "");
}
