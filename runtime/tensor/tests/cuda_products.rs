//! Products and convolutions of float16 and bfloat16 on tensor cores against the CPU: every way that their kernels read
//! operands, in both sizes of tiles. Runs with `cargo xtask cuda test`, for two architectures where the GPU is simulated.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use vivarium_tensor::{ConvGeometry, DType, OpContext, Tensor, TensorError};

type Answer = Result<Tensor, TensorError>;

/// Does it on the CPU and on the GPU. Sums come in another order, so results may be rounded the other way.
fn agree(name: &str, dtype: DType, work: impl Fn(&OpContext) -> Answer) {
    let (wanted, got) = (work(&cpu_context()).unwrap(), work(&context()).unwrap());
    assert_eq!((wanted.dtype(), wanted.strides()), (got.dtype(), got.strides()), "{name} of {dtype}");
    let tolerance = if dtype == DType::Float16 { 2e-3 } else { 2e-2 };
    eprintln!("{name} of {dtype}");
    Slow::of(&wanted).assert_close(&got, tolerance);
}

fn each_type(test: impl Fn(DType)) {
    if test_gpu().is_some() {
        [DType::Float16, DType::Bfloat16].into_iter().for_each(test);
    }
}

#[test]
fn matrices_of_any_size_and_order() {
    each_type(|dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        // The simulated GPU has two multiprocessors, which four large tiles keep busy.
        let (rows, columns) = (x(&[130, 72], 1), x(&[72, 136], 2));
        agree("large tiles", dtype, |cx| rows.matmul(&columns, cx));
        let turned = x(&[72, 130], 3);
        agree("left transposed", dtype, |cx| turned.permute(&[1, 0], cx)?.matmul(&columns, cx));
        let (a, b) = (x(&[2, 1, 33, 19], 4), x(&[3, 19, 17], 5));
        agree("a batch of odd sizes", dtype, |cx| a.matmul(&b, cx));
        let (a, b) = (x(&[3, 20, 24], 6), x(&[3, 40, 24], 7));
        agree("a batch of transposed ones", dtype, |cx| a.matmul(&b.permute(&[0, 2, 1], cx)?, cx));
        agree("backwards", dtype, |cx| rows.flip(&[1], cx)?.matmul(&columns.flip(&[0, 1], cx)?, cx));
        agree("from the middle", dtype, |cx| {
            rows.slice(1, 3, 67, 1, cx)?.matmul(&columns.slice(0, 5, 69, 1, cx)?.slice(1, 2, 130, 2, cx)?, cx)
        });
        agree("one number", dtype, |cx| x(&[1], 8).matmul(&x(&[1], 9), cx));
        agree("vectors", dtype, |cx| x(&[72], 8).matmul(&columns, cx));
    });
}

#[test]
fn layers_with_bias() {
    each_type(|dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let (input, bias) = (x(&[2, 70, 40], 1), x(&[131], 2));
        agree("large tiles", dtype, |cx| input.linear(&x(&[131, 40], 3), Some(&bias), cx));
        let float_bias = random(&[7], DType::Float32, 4);
        agree("few outputs", dtype, |cx| input.linear(&x(&[7, 40], 5), Some(&float_bias), cx));
        agree("odd inputs", dtype, |cx| input.slice(2, 0, 13, 1, cx)?.linear(&x(&[8, 13], 6), None, cx));
        let (a, b) = (x(&[9, 16], 7), x(&[16, 24], 8));
        // As float32 up to the end, so the sum is rounded once.
        agree("addmm", dtype, |cx| x(&[24], 9).addmm(&a, &b, 0.5, 2.0, cx));
        agree("addmm to float32", dtype, |cx| random(&[24], DType::Float32, 9).addmm(&a, &b, 1.0, 1.0, cx));
    });
}

#[test]
fn convolutions_of_any_geometry() {
    each_type(|dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let plain = ConvGeometry::default();
        let same = ConvGeometry { padding: [1, 1], ..plain };
        let (image, weight, bias) = (x(&[2, 16, 9, 7], 1), x(&[24, 16, 3, 3], 2), x(&[24], 3));
        agree("3×3", dtype, |cx| image.conv2d(&weight, Some(&bias), &same, cx));
        let last = x(&[2, 9, 7, 16], 4);
        agree("channels last", dtype, |cx| last.permute(&[0, 3, 1, 2], cx)?.conv2d(&weight, None, &same, cx));
        let small = x(&[1, 8, 12, 12], 5);
        agree("large tiles", dtype, |cx| small.conv2d(&x(&[136, 8, 3, 3], 6), None, &same, cx));
        let sparse = ConvGeometry { stride: [2, 1], padding: [0, 3], dilation: [1, 2], groups: 2 };
        agree("groups", dtype, |cx| image.conv2d(&x(&[6, 8, 3, 3], 7), Some(&x(&[6], 8)), &sparse, cx));
        let few = x(&[2, 3, 10, 9], 9);
        agree("three channels", dtype, |cx| few.conv2d(&x(&[5, 3, 4, 3], 10), None, &same, cx));
        agree("upwards", dtype, |cx| {
            image.conv_transpose2d(&x(&[16, 5, 4, 4], 11), None, &ConvGeometry { stride: [2, 2], ..same }, [0, 0], cx)
        });
        agree("upwards, odd", dtype, |cx| {
            few.conv_transpose2d(&x(&[3, 4, 3, 3], 12), None, &ConvGeometry { stride: [3, 2], ..plain }, [1, 0], cx)
        });
    });
}

/// Those of one element, which are plain products of the pixels.
#[test]
fn pointwise_convolutions() {
    each_type(|dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let plain = ConvGeometry::default();
        let (last, weight) = (x(&[2, 9, 7, 16], 1), x(&[24, 16, 1, 1], 2));
        agree("channels last", dtype, |cx| {
            last.permute(&[0, 3, 1, 2], cx)?.conv2d(&weight, Some(&x(&[24], 3)), &plain, cx)
        });
        agree("one image", dtype, |cx| x(&[1, 5, 9, 7], 4).conv2d(&x(&[3, 5, 1, 1], 5), None, &plain, cx));
        agree("two images", dtype, |cx| x(&[2, 5, 9, 7], 6).conv2d(&x(&[3, 5, 1, 1], 7), None, &plain, cx));
        let halved = ConvGeometry { stride: [2, 2], groups: 2, ..plain };
        agree("with a stride", dtype, |cx| x(&[1, 16, 9, 7], 8).conv2d(&x(&[6, 8, 1, 1], 9), None, &halved, cx));
        let padded = ConvGeometry { padding: [1, 0], ..plain };
        agree("padded", dtype, |cx| x(&[1, 8, 4, 4], 10).conv2d(&x(&[3, 8, 1, 1], 11), None, &padded, cx));
    });
}
