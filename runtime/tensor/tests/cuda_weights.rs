//! Weights of convolutions stay on the GPU in the order that kernels read. Runs with `cargo xtask cuda test`.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use support::*;
use vivarium_tensor::{BinaryOp, Budget, ConvGeometry, DType, Gpu, OpContext, Operand, Tensor};

/// Bytes of the weight of [`layer`].
const WEIGHT: u64 = 16 * 8 * 9 * 4;

/// A picture and a weight in this machine's memory.
fn layer() -> (Tensor, Tensor) {
    (random(&[1, 8, 12, 10], DType::Float32, 3), random(&[16, 8, 3, 3], DType::Float32, 4))
}

fn convolved(image: &Tensor, weight: &Tensor, cx: &OpContext) -> Tensor {
    image.conv2d(weight, None, &ConvGeometry { padding: [1, 1], ..ConvGeometry::default() }, cx).unwrap()
}

/// Tests look at the counters of the GPU, one after the other.
fn alone() -> Option<(&'static Gpu, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let gpu = test_gpu()?;
    Some((gpu, ONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn job(gpu: &Gpu, limit: u64) -> (OpContext, Arc<Budget>) {
    let device = Budget::named("GPU memory of the tenant", limit);
    (OpContext::new(Budget::root(1 << 30)).on_gpu(gpu.job(Arc::clone(&device)).unwrap()), device)
}

#[test]
fn a_weight_is_arranged_once_and_takes_its_bytes_once() {
    let Some((gpu, _alone)) = alone() else { return };
    let (image, weight) = layer();
    let wanted = Slow::of(&convolved(&image, &weight, &cpu_context()));
    let (cx, device) = job(gpu, 1 << 20);
    // On the GPU only, so that nothing but the weight comes and goes.
    let image = {
        let here = image;
        here.binary(BinaryOp::Mul, Operand::Scalar(1.0), &cx).unwrap()
    };
    let counted = |work: &dyn Fn() -> Tensor| {
        let before = gpu.counters();
        wanted.assert_close(&work(), 1e-5);
        let after = gpu.counters();
        (after.launches - before.launches, after.uploads - before.uploads)
    };
    let before = device.used();
    let (launches, uploads) = counted(&|| convolved(&image, &weight, &cx));
    assert_eq!((uploads, device.used() - before), (1, WEIGHT));
    assert_eq!(counted(&|| convolved(&image, &weight, &cx)), (launches - 1, 0));
    // Jobs that come later have it too.
    let (later, _) = job(gpu, 1 << 20);
    assert_eq!(counted(&|| convolved(&image, &weight, &later)), (launches - 1, 0));
    // Of another view of it, nothing of the first is used.
    let turned = weight.permute(&[0, 1, 3, 2], &cx).unwrap();
    wanted_of(&image, &turned).assert_close(&convolved(&image, &turned, &cx), 1e-5);
    drop((image, weight, turned));
    assert_eq!(device.used(), 0);
}

fn wanted_of(image: &Tensor, weight: &Tensor) -> Slow {
    Slow::of(&convolved(image, weight, &cpu_context()))
}

#[test]
fn an_arranged_weight_leaves_before_others_when_the_account_is_full() {
    let Some((gpu, _alone)) = alone() else { return };
    let (image, weight) = layer();
    let (other, large) = (random(&[300], DType::Float32, 5), random(&[1100], DType::Float32, 6));
    let (cx, device) = job(gpu, 30_000);
    let result = Slow::of(&convolved(&image, &weight, &cx));
    other.binary(BinaryOp::Add, Operand::Scalar(1.0), &cx).unwrap();
    // Then there is room for another tensor of 4400 bytes, and not for its result, which is less than the weight takes.
    let rest = Tensor::zeros(&[3000], DType::Float32, &cx).unwrap();
    let before = gpu.counters();
    let sum = large.binary(BinaryOp::Add, Operand::Scalar(1.0), &cx).unwrap();
    assert_eq!(gpu.counters().spilled, before.spilled + 1);
    let uploads = gpu.counters().uploads;
    other.binary(BinaryOp::Add, Operand::Scalar(2.0), &cx).unwrap();
    assert_eq!(gpu.counters().uploads, uploads, "the other one stayed");
    drop((sum, large, rest));
    result.assert_close(&convolved(&image, &weight, &cx), 0.0);
    drop((image, weight, other));
    assert_eq!(device.used(), 0);
}
