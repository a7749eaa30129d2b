//! Several GPUs: what one has another gets through this machine's memory, and one that failed comes back. Needs two, which
//! `cargo xtask cuda test` simulates; what is done to the second one only the simulated driver offers.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cudarc::driver::CudaContext;
use support::{Slow, cpu_context, random, simulated::break_device};
use vivarium_tensor::{BinaryOp, Budget, DType, ErrorKind, Gpu, GpuUnavailable, OpContext, Operand, Tensor, UnaryOp};

/// Both GPUs, in one test at a time.
fn two() -> Option<([Gpu; 2], MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    support::test_gpu()?;
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = std::env::var_os("VIVARIUM_TEST_KERNELS").map(std::path::PathBuf::from);
    (Gpu::count().unwrap() >= 2).then(|| ([0, 1].map(|ordinal| Gpu::open(ordinal, cache.as_deref()).unwrap()), alone))
}

/// A job with an account of the GPU's memory.
fn job(gpu: &Gpu) -> (OpContext, Arc<Budget>) {
    let memory = Budget::root(1 << 20);
    (OpContext::new(Budget::root(1 << 20)).on_gpu(gpu.job(Arc::clone(&memory)).unwrap()), memory)
}

fn copies(gpu: &Gpu) -> (u64, u64) {
    (gpu.counters().uploads, gpu.counters().downloads)
}

#[test]
fn tensors_go_from_one_gpu_to_another_once_and_stay_on_both() {
    let Some(([first, second], _alone)) = two() else { return };
    let ((on_first, first_memory), (on_second, second_memory)) = (job(&first), job(&second));
    let x = random(&[50, 3], DType::Float32, 1);
    let y = x.unary(UnaryOp::Exp, &on_first).unwrap();
    let before = (copies(&first), copies(&second));
    let sums: Vec<Tensor> = [&on_second, &on_first, &on_second, &on_first]
        .map(|cx| y.binary(BinaryOp::Add, Operand::Scalar(1.0), cx).unwrap())
        .into();
    let after = (copies(&first), copies(&second));
    assert_eq!(after.0, (before.0.0, before.0.1 + 1), "it came from the first GPU once");
    assert_eq!(after.1, (before.1.0 + 1, before.1.1), "it went to the second once");
    let wanted = x.unary(UnaryOp::Exp, &cpu_context()).unwrap();
    let wanted = Slow::of(&wanted.binary(BinaryOp::Add, Operand::Scalar(1.0), &cpu_context()).unwrap());
    sums.iter().for_each(|sum| wanted.assert_close(sum, 1e-6));
    // One operand from each.
    let mixed = sums[0].binary(BinaryOp::Sub, Operand::Tensor(&sums[1]), &on_second).unwrap();
    assert!(Slow::of(&mixed).values.iter().all(|difference| *difference == 0.0));
    drop((x, y, sums, mixed));
    assert_eq!((first_memory.used(), second_memory.used()), (0, 0));
}

#[test]
fn room_is_made_on_the_gpu_that_needs_it_only() {
    let Some(([first, second], _alone)) = two() else { return };
    let (on_first, first_memory) = job(&first);
    let tight = Budget::root(3000);
    let on_second = OpContext::new(Budget::root(1 << 20)).on_gpu(second.job(Arc::clone(&tight)).unwrap());
    let weights: Vec<Tensor> = (0..4).map(|seed| random(&[128], DType::Float32, seed)).collect();
    let run = |cx: &OpContext| weights.iter().map(|weight| weight.unary(UnaryOp::Neg, cx).unwrap()).collect::<Vec<_>>();
    let on_both = (run(&on_first), run(&on_second));
    assert!(second.counters().spilled > 0 && first.counters().spilled == 0);
    assert_eq!(first_memory.used(), 8 * 512);
    drop((on_both, weights));
    assert_eq!((first_memory.used(), tight.used()), (0, 0));
}

/// A thread that has had the context of a GPU, and frees tensors.
fn thread_that_frees(gpu: &Gpu) -> (Sender<Tensor>, JoinHandle<()>) {
    let (sender, tensors) = channel();
    let (ready, is_ready) = channel();
    let gpu = gpu.clone();
    let thread = std::thread::spawn(move || {
        gpu.check().unwrap();
        drop(gpu);
        ready.send(()).unwrap();
        tensors.iter().for_each(drop);
    });
    is_ready.recv().unwrap();
    (sender, thread)
}

#[test]
fn a_gpu_that_failed_is_opened_anew_when_nothing_of_it_is_left() {
    let Some(([first, second], _alone)) = two() else { return };
    let (on_second, memory) = job(&second);
    let here_too = random(&[64], DType::Float32, 1);
    let lost = here_too.unary(UnaryOp::Exp, &on_second).unwrap();
    let launches = second.counters().launches;
    let (frees, freeing) = thread_that_frees(&second);
    if !break_device(1) {
        return;
    }
    assert!(second.check().is_err() && first.check().is_ok());
    assert_eq!(here_too.unary(UnaryOp::Neg, &on_second).unwrap_err().kind(), ErrorKind::DeviceFailed);
    let retired = second.retire();
    assert_eq!(retired.reopen().unwrap_err(), GpuUnavailable::InUse, "a job and a result are left");
    drop(on_second);
    assert_eq!(retired.reopen().unwrap_err(), GpuUnavailable::InUse, "a result is left");
    drop(lost);
    // The copy of what is in this machine's memory too is no hindrance.
    let reopen = || {
        let second = retired.reopen().unwrap();
        let (on_second, memory) = job(&second);
        (here_too.unary(UnaryOp::Exp, &on_second).unwrap(), second, memory)
    };
    let (again, second, memory_again) = std::thread::scope(|scope| scope.spawn(reopen).join().unwrap());
    assert_eq!(memory.used(), 0);
    assert!(second.counters().launches > launches, "it goes on counting");
    // Two threads that have had the old context go on with what belongs to the new one.
    let bytes = again.read(0, 64, &cpu_context()).unwrap();
    frees.send(again).unwrap();
    drop(frees);
    freeing.join().unwrap();
    assert_eq!(second.check(), Ok(()));
    assert_eq!(memory_again.used(), 512 / 2, "what is left is the copy of the operand");
    drop(here_too);
    assert_eq!(memory_again.used(), 0);
    let cpu = cpu_context();
    let got = Tensor::from_bytes(&[64], DType::Float32, &bytes, &cpu).unwrap();
    Slow::of(&random(&[64], DType::Float32, 1).unary(UnaryOp::Exp, &cpu).unwrap()).assert_close(&got, 1e-6);
}

/// What our code never does, and the simulated driver has to notice if it ever did.
#[test]
fn the_simulated_driver_notices_memory_of_another_device() {
    let Some((gpus, _alone)) = two() else { return };
    if !gpus[0].info().name.starts_with("Simulated") {
        return;
    }
    let [first, second] = [0, 1].map(|ordinal| CudaContext::new(ordinal).unwrap().new_stream().unwrap());
    let bytes = first.clone_htod(&[1u8; 64]).unwrap();
    assert_eq!(first.clone_dtoh(&bytes).unwrap(), [1; 64]);
    let error = second.clone_dtoh(&bytes).unwrap_err();
    assert!(error.to_string().contains("ILLEGAL_ADDRESS"), "{error}");
    // On the stream where that happened everything fails now, elsewhere nothing.
    assert!(second.synchronize().is_err() && first.synchronize().is_ok());
    drop((bytes, first, second));
    let [_, second] = gpus;
    assert!(second.retire().reopen().unwrap().check().is_ok());
}
