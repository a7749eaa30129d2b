//! A GPU that fails, as the simulated driver can: in a process of its own, since nothing works on it afterwards. On a real
//! GPU there is nothing to ask for that, and nothing is tested.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use vivarium_tensor::{DType, ErrorKind, UnaryOp};

#[test]
fn a_failed_device_is_said_to_be_one_and_takes_nothing_else_along() {
    if test_gpu().is_none() {
        return;
    }
    let (cx, budget) = budgeted(1 << 20);
    let x = random(&[64], DType::Float32, 1);
    let on_gpu = x.unary(UnaryOp::Exp, &cx).unwrap();
    if !support::simulated::break_device(0) {
        return;
    }
    let failures = [
        x.unary(UnaryOp::Neg, &cx).map(drop).unwrap_err(),
        on_gpu.read(0, 1, &cx).map(drop).unwrap_err(),
        on_gpu.softmax(0, &cpu_context()).map(drop).unwrap_err(),
    ];
    for error in failures {
        assert_eq!(error.kind(), ErrorKind::DeviceFailed, "{error}");
        assert!(error.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    }
    assert!(test_gpu().unwrap().check().is_err());
    // What is in this machine's memory is still good, on the CPU.
    assert_eq!(x.unary(UnaryOp::Abs, &cpu_context()).unwrap().elements(), 64);
    drop((x, on_gpu, cx));
    assert_eq!(budget.used(), 0);
}
