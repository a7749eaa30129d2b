//! Elementwise operations on tensors that are large enough for kernels that know their types, against the CPU. Runs with
//! `cargo xtask cuda test`.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use vivarium_tensor::{BinaryOp, DType, OpContext, Operand, Tensor, TensorError, UnaryOp};

/// More than the least, and not a multiple of eight.
const SHAPE: [u64; 3] = [5, 37, 89];

fn agree(name: &str, tolerance: f64, work: impl Fn(&OpContext) -> Result<Tensor, TensorError>) {
    let (wanted, got) = (work(&cpu_context()).unwrap(), work(&context()).unwrap());
    assert_eq!((wanted.dtype(), wanted.strides()), (got.dtype(), got.strides()), "{name}");
    eprintln!("{name}");
    Slow::of(&wanted).assert_close(&got, tolerance);
}

#[test]
fn every_type_becomes_every_other() {
    if test_gpu().is_none() {
        return;
    }
    // Which reads and writes each type in vectors; 8-bit floats, whose values all others have, come first.
    for from in [DType::Float8E5m2, DType::Float16, DType::Float32, DType::Int64, DType::Boolean] {
        let x = random(&SHAPE, from, 3);
        agree(&format!("{from} to float32"), 0.0, |cx| x.cast(DType::Float32, cx));
    }
    let x = random(&SHAPE, DType::Float32, 4);
    for to in [DType::Bfloat16, DType::Uint8, DType::Int32, DType::Int64, DType::Float8E4m3] {
        agree(&format!("float32 to {to}"), 0.0, |cx| x.cast(to, cx));
    }
}

#[test]
fn operands_that_lie_alike_and_others() {
    if test_gpu().is_none() {
        return;
    }
    let [a, b] = [1, 2].map(|seed| random(&SHAPE, DType::Float16, seed));
    let add = |a: &Tensor, b: &Tensor, cx: &OpContext| a.binary(BinaryOp::Add, Operand::Tensor(b), cx);
    agree("sum", 0.0, |cx| add(&a, &b, cx));
    agree("sum in another order", 0.0, |cx| add(&a.permute(&[2, 0, 1], cx)?, &b.permute(&[2, 0, 1], cx)?, cx));
    agree("sum of two orders", 0.0, |cx| {
        add(&a.permute(&[0, 2, 1], cx)?, &b.permute(&[0, 2, 1], cx)?.contiguous(cx)?, cx)
    });
    agree("sum with a row", 0.0, |cx| add(&a, &b.slice(0, 0, 1, 1, cx)?, cx));
    agree("mixed types", 1e-6, |cx| add(&a, &b.cast(DType::Float32, cx)?, cx));
    agree("with a number", 2e-3, |cx| a.unary(UnaryOp::Silu, cx)?.binary(BinaryOp::Mul, Operand::Scalar(0.3), cx));
    agree("comparison", 0.0, |cx| a.binary(BinaryOp::Lt, Operand::Tensor(&b), cx));
    // The second part begins in the middle of a vector.
    let long = random(&[40_003], DType::Float32, 5);
    agree("from the middle", 0.0, |cx| {
        add(&long.slice(0, 0, 20_000, 1, cx)?, &long.slice(0, 20_003, 40_003, 1, cx)?, cx)
    });
    agree("from a whole vector on", 0.0, |cx| {
        add(&long.slice(0, 16, 20_000, 1, cx)?, &long.slice(0, 8, 19_992, 1, cx)?, cx)
    });
}
