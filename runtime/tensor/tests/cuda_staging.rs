//! Large copies to the GPU and back, which go through page-locked memory: that it holds the right bytes at the right time, that
//! uploads wait for nothing, that there is only so much of it. The simulated driver reports memory that is used too early.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use vivarium_tensor::{Budget, Counters, DType, Gpu, OpContext, Tensor, UnaryOp};

/// A GPU of its own for each test: its counters and its memory are nobody else's. The lock keeps the count of waits, which is the
/// driver's, to one test at a time.
fn open() -> Option<(Gpu, parking_lot::MutexGuard<'static, ()>)> {
    static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    test_gpu()?;
    let alone = ALONE.lock();
    let cache = std::env::var_os("VIVARIUM_TEST_KERNELS").map(std::path::PathBuf::from);
    Some((Gpu::open(0, cache.as_deref()).unwrap(), alone))
}

fn job(gpu: &Gpu) -> OpContext {
    let job = gpu.job(Budget::root(1 << 30)).unwrap();
    OpContext::new(Budget::root(1 << 30)).on_gpu(job)
}

/// How often the host has waited for the simulated device; 0 on a real one, where that is not counted.
#[allow(unsafe_code)]
fn waits() -> u64 {
    // SAFETY: a library that is loaded already, and a name in it.
    let found =
        unsafe { libc::dlsym(libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW), c"simulatedCudaWaits".as_ptr()) };
    if found.is_null() {
        return 0;
    }
    // SAFETY: the function of that name takes nothing and answers a number.
    let function: extern "C" fn() -> u64 = unsafe { std::mem::transmute(found) };
    function()
}

/// Numbers of 8 bytes, all different.
fn numbers(count: i64) -> Tensor {
    Tensor::from_vec(&[count as u64], (0..count).map(|index| index * 0x0101_0101_0101).collect(), &cpu_context())
        .unwrap()
}

/// Copies the whole tensor to the GPU for the sake of one number.
fn touch(tensor: &Tensor, cx: &OpContext) {
    tensor.slice(0, 5, 6, 1, cx).unwrap().unary(UnaryOp::Neg, cx).unwrap();
}

#[test]
fn more_than_a_block_arrives_whole_in_both_directions() {
    let Some((gpu, _alone)) = open() else { return };
    let cx = job(&gpu);
    let count = 560_000;
    let x = numbers(count);
    let backwards = x.flip(&[0], &cx).unwrap().contiguous(&cx).unwrap();
    let bytes = backwards.read(0, count as u64, &cx).unwrap();
    let wanted = x.flip(&[0], &cpu_context()).unwrap().read(0, count as u64, &cpu_context()).unwrap();
    assert!(bytes == wanted);
    // As a whole, for an operation on the CPU, and in a part that begins anywhere.
    assert!(backwards.read(7, 300_000, &cx).unwrap() == wanted[56..56 + 2_400_000]);
    let home = backwards.flip(&[0], &cpu_context()).unwrap().contiguous(&cpu_context()).unwrap();
    assert!(home.read(0, count as u64, &cpu_context()).unwrap() == x.read(0, count as u64, &cpu_context()).unwrap());
    let Counters { staged_bytes, pinned_bytes, .. } = gpu.counters();
    assert_eq!(staged_bytes, 3 * 8 * 560_000 + 2_400_000);
    assert!(pinned_bytes <= 4 * (4 << 20), "{pinned_bytes}");
}

#[test]
fn an_upload_waits_for_nothing_and_may_be_forgotten_at_once() {
    let Some((gpu, _alone)) = open() else { return };
    let cx = job(&gpu);
    touch(&numbers(1000), &cx);
    let before = waits();
    for _ in 0..3 {
        touch(&numbers(700_000), &cx);
    }
    assert_eq!(waits(), before, "an upload waited");
    assert_eq!(gpu.counters().staged_bytes, 3 * 8 * 700_000);
}

#[test]
fn small_copies_go_straight() {
    let Some((gpu, _alone)) = open() else { return };
    let cx = job(&gpu);
    let x = random(&[1000], DType::Float32, 1);
    touch(&x, &cx);
    let Counters { staged_bytes, pinned_bytes, uploads, .. } = gpu.counters();
    assert_eq!((staged_bytes, pinned_bytes, uploads), (0, 0, 1));
}

#[test]
fn page_locked_memory_has_a_limit_that_all_jobs_share() {
    let Some((gpu, _alone)) = open() else { return };
    let x = numbers(400_000);
    let bytes = x.read(0, 400_000, &cpu_context()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cx = job(&gpu);
                for _ in 0..6 {
                    // Of its own each time, or it would be on the GPU already.
                    touch(&Tensor::from_bytes(&[400_000], DType::Int64, &bytes, &cpu_context()).unwrap(), &cx);
                }
            });
        }
    });
    let Counters { uploaded_bytes, pinned_bytes, .. } = gpu.counters();
    assert_eq!(uploaded_bytes, 24 * 8 * 400_000);
    assert_eq!(pinned_bytes, 64 << 20);
}
