//! Products by NVIDIA's cuBLASLt against the CPU: every way that its matrices can say how operands lie, and those that they
//! cannot. Runs with `cargo xtask cuda test`, on a simulated library where there is no GPU; where there is no library, nothing is
//! tested here: our kernels have tests of their own.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use support::*;
use vivarium_tensor::{Budget, ConvGeometry, DType, Gpu, OpContext, ProductsBy, Tensor, TensorError};

type Answer = Result<Tensor, TensorError>;

/// A GPU with the library, of its own for each test: its counters are nobody else's.
fn open() -> Option<Gpu> {
    test_gpu()?;
    let cache = std::env::var_os("VIVARIUM_TEST_KERNELS").map(std::path::PathBuf::from);
    let gpu = Gpu::open(0, cache.as_deref()).unwrap();
    let found = matches!(gpu.info().products, ProductsBy::CublasLt { .. });
    let wanted = std::env::var("VIVARIUM_TEST_CUBLASLT").is_ok_and(|value| value == "1");
    assert!(found || !wanted, "{}", gpu.info());
    found.then_some(gpu)
}

fn job(gpu: &Gpu, bytes: u64) -> (OpContext, Arc<Budget>) {
    let budget = Budget::root(bytes);
    let job = gpu.job(Arc::clone(&budget)).unwrap();
    (OpContext::new(Budget::root(1 << 30)).on_gpu(job), budget)
}

/// Does it on the CPU and on the GPU, and says how many products the library computed. Operands are small multiples of a
/// sixteenth, so that sums are exact, and the only rounding is that of the result.
fn compared(gpu: &Gpu, work: impl Fn(&OpContext) -> Answer) -> u64 {
    let before = gpu.counters().library_products;
    let (wanted, got) = (work(&cpu_context()).unwrap(), work(&job(gpu, 1 << 28).0).unwrap());
    assert_eq!((wanted.dtype(), wanted.strides()), (got.dtype(), got.strides()));
    Slow::of(&wanted).assert_close(&got, 0.0);
    gpu.counters().library_products - before
}

fn each_type(test: impl Fn(&dyn Fn(&str, u64, &dyn Fn(&OpContext) -> Answer), DType)) {
    let Some(gpu) = open() else { return };
    for dtype in [DType::Float32, DType::Float16, DType::Bfloat16] {
        let knows = dtype != DType::Bfloat16 || gpu.info().capability >= (8, 0);
        let check = |name: &str, products: u64, work: &dyn Fn(&OpContext) -> Answer| {
            let wanted = if knows { products } else { 0 };
            eprintln!("{name} of {dtype}");
            assert_eq!(compared(&gpu, work), wanted, "products by the library: {name} of {dtype}");
        };
        test(&check, dtype);
    }
}

#[test]
fn matrices_in_rows_and_in_columns() {
    each_type(|check, dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let (left, right) = (x(&[64, 72], 1), x(&[72, 80], 2));
        let (left_turned, right_turned) = (x(&[72, 64], 3), x(&[80, 72], 4));
        check("rows by rows", 1, &|cx| left.matmul(&right, cx));
        check("columns by rows", 1, &|cx| left_turned.permute(&[1, 0], cx)?.matmul(&right, cx));
        check("rows by columns", 1, &|cx| left.matmul(&right_turned.permute(&[1, 0], cx)?, cx));
        check("columns by columns", 1, &|cx| {
            left_turned.permute(&[1, 0], cx)?.matmul(&right_turned.permute(&[1, 0], cx)?, cx)
        });
        // Parts of wider matrices, which begin at odd elements.
        let (wide, tall) = (x(&[65, 90], 5), x(&[90, 91], 6));
        check("from the middle", 1, &|cx| {
            wide.slice(0, 1, 65, 1, cx)?
                .slice(1, 3, 75, 1, cx)?
                .matmul(&tall.slice(0, 5, 77, 1, cx)?.slice(1, 7, 90, 1, cx)?, cx)
        });
        check("backwards", 0, &|cx| left.flip(&[1], cx)?.matmul(&right.flip(&[0], cx)?, cx));
        check("every other column", 0, &|cx| left.matmul(&tall.slice(0, 0, 72, 1, cx)?.slice(1, 0, 91, 2, cx)?, cx));
        check("one number over and over", 0, &|cx| left.matmul(&x(&[1, 1], 7).expand(&[72, 80], cx)?, cx));
        check("a small one", 0, &|cx| x(&[8, 8], 8).matmul(&x(&[8, 8], 9), cx));
    });
}

#[test]
fn vectors_and_single_rows() {
    each_type(|check, dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let square = x(&[520, 520], 1);
        check("a row", 1, &|cx| x(&[520], 2).matmul(&square, cx));
        check("a column", 1, &|cx| square.matmul(&x(&[520], 3), cx));
        check("a strided row", 1, &|cx| x(&[1040], 4).slice(0, 0, 1040, 2, cx)?.matmul(&square, cx));
        check("an outer product", 1, &|cx| x(&[520, 1], 5).matmul(&x(&[1, 520], 6), cx));
        check("one result", 1, &|cx| x(&[1 << 18], 7).slice(0, 0, 1 << 18, 1, cx)?.matmul(&x(&[1 << 18], 8), cx));
    });
}

#[test]
fn batches() {
    each_type(|check, dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let (left, right) = (x(&[3, 40, 48], 1), x(&[3, 48, 56], 2));
        check("of pairs", 1, &|cx| left.matmul(&right, cx));
        check("of one with many", 1, &|cx| x(&[1, 40, 48], 3).matmul(&right, cx));
        check("turned", 1, &|cx| x(&[3, 56, 48], 4).permute(&[0, 2, 1], cx).and_then(|right| left.matmul(&right, cx)));
        // What the heads of attention look like: two dimensions that do not become one.
        let heads = x(&[2, 40, 4, 48], 5);
        check("of two dimensions", 0, &|cx| {
            let heads = heads.permute(&[0, 2, 1, 3], cx)?;
            heads.matmul(&heads.permute(&[0, 1, 3, 2], cx)?, cx)
        });
        check("backwards", 0, &|cx| left.flip(&[0], cx)?.matmul(&right, cx));
    });
}

#[test]
fn layers_with_bias() {
    each_type(|check, dtype| {
        let x = |shape: &[u64], seed| random(shape, dtype, seed);
        let (input, weight, bias) = (x(&[2, 40, 48], 1), x(&[72, 48], 2), x(&[80], 3));
        check("aligned", 1, &|cx| input.linear(&weight, Some(&bias.slice(0, 8, 80, 1, cx)?), cx));
        check("at an odd place", 0, &|cx| input.linear(&weight, Some(&bias.slice(0, 1, 73, 1, cx)?), cx));
        check("backwards", 0, &|cx| input.linear(&weight, Some(&bias.slice(0, 0, 72, 1, cx)?.flip(&[0], cx)?), cx));
        check("one number", 0, &|cx| input.linear(&weight, Some(&bias.slice(0, 0, 1, 1, cx)?.expand(&[72], cx)?), cx));
        let other = if dtype == DType::Float32 { DType::Float16 } else { DType::Float32 };
        check("of another type", 0, &|cx| input.linear(&weight, Some(&random(&[72], other, 4)), cx));
        let (a, b) = (x(&[64, 72], 5), x(&[72, 80], 6));
        check("addmm", 1, &|cx| bias.addmm(&a, &b, 0.5, 2.0, cx));
        let image = x(&[1, 48, 10, 8], 7);
        check("pixels", 1, &|cx| {
            image.conv2d(&x(&[72, 48, 1, 1], 8), Some(&x(&[72], 9)), &ConvGeometry::default(), cx)
        });
        let groups = ConvGeometry { groups: 2, ..ConvGeometry::default() };
        let weight = x(&[144, 24, 1, 1], 10);
        check("pixels of groups", 1, &|cx| image.conv2d(&weight, None, &groups, cx));
        check("pixels of groups with bias", 0, &|cx| image.conv2d(&weight, Some(&x(&[144], 11)), &groups, cx));
    });
}

#[test]
fn an_account_without_room_for_workspace_gets_the_product_from_our_kernels() {
    let Some(gpu) = open() else { return };
    let (left, right) = (random(&[64, 64], DType::Float32, 1), random(&[64, 64], DType::Float32, 2));
    let wanted = left.matmul(&right, &cpu_context()).unwrap();
    let matrices = 3 * 64 * 64 * 4;
    let products = [matrices, matrices + (64 << 20)].map(|bytes| {
        let (cx, budget) = job(&gpu, bytes);
        // Copies on another GPU of this machine, or of another account, are not this account's.
        let (left, right) = (fresh(&left), fresh(&right));
        let got = left.matmul(&right, &cx).unwrap();
        Slow::of(&wanted).assert_close(&got, 0.0);
        assert_eq!(budget.used(), matrices);
        drop((left, right, got));
        assert_eq!(budget.used(), 0);
        gpu.counters().library_products
    });
    assert_eq!(products, [0, 1]);
}

/// The same numbers in memory of its own.
fn fresh(tensor: &Tensor) -> Tensor {
    let cx = cpu_context();
    let bytes = tensor.read(0, tensor.elements() as u64, &cx).unwrap();
    Tensor::from_bytes(&tensor.shape(), tensor.dtype(), &bytes, &cx).unwrap()
}

#[test]
fn jobs_wait_for_each_others_operands_and_nothing_is_left_behind() {
    let Some(gpu) = open() else { return };
    let (made, budget) = job(&gpu, 1 << 28);
    let x = fresh(&random(&[96, 96], DType::Float16, 1));
    let wanted = x.matmul(&x, &cpu_context()).unwrap();
    let square = x.matmul(&x, &made).unwrap();
    let wanted_next = wanted.matmul(&wanted, &cpu_context()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (cx, _) = job(&gpu, 1 << 28);
                let next = square.matmul(&square, &cx).unwrap();
                Slow::of(&wanted_next).assert_close(&next, 4e-3);
            });
        }
    });
    drop((square, x, made));
    assert_eq!(budget.used(), 0);
}
