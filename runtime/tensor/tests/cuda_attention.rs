//! Attention on the GPU against the CPU: widths and lengths around the ends of tiles, wide heads, masks, strides. Runs with
//! `cargo xtask cuda test`, for two architectures where the GPU is simulated.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use vivarium_tensor::{BinaryOp, DType, OpContext, Operand, Tensor, TensorError};

/// Does it on the CPU and on the GPU, where nothing may leave it. Weights are rounded to the type there.
fn agree(name: &str, dtype: DType, work: impl Fn(&OpContext) -> Result<Tensor, TensorError>) {
    // One at a time, since the counters are those of the GPU.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let gpu = test_gpu().unwrap();
    let wanted = work(&cpu_context()).unwrap();
    let before = gpu.counters();
    let got = work(&context()).unwrap();
    let after = gpu.counters();
    assert!(after.launches > before.launches, "{name} of {dtype} started no kernel");
    assert_eq!(after.downloads, before.downloads, "{name} of {dtype} went back to the CPU");
    assert_eq!(wanted.dtype(), got.dtype(), "{name} of {dtype}");
    let tolerance = match dtype {
        DType::Float32 => 1e-5,
        DType::Float16 => 4e-3,
        _ => 3e-2,
    };
    eprintln!("{name} of {dtype}");
    Slow::of(&wanted).assert_close(&got, tolerance);
}

fn each_type(test: impl Fn(DType)) {
    if test_gpu().is_some() {
        [DType::Float32, DType::Float16, DType::Bfloat16].into_iter().for_each(test);
    }
}

/// Query, key and value of `[1, 2, length, width]`.
fn operands(dtype: DType, [queries, keys]: [u64; 2], [width, values]: [u64; 2]) -> [Tensor; 3] {
    let part = |seed, length, width| {
        let numbers = random(&[1, 2, length, width], DType::Float32, seed);
        numbers
            .binary(BinaryOp::Mul, Operand::Scalar(0.25), &cpu_context())
            .unwrap()
            .cast(dtype, &cpu_context())
            .unwrap()
    };
    [part(1, queries, width), part(2, keys, width), part(3, keys, values)]
}

#[test]
fn lengths_and_widths_around_the_ends_of_tiles() {
    each_type(|dtype| {
        for (lengths, widths) in [([1, 1], [1, 1]), ([65, 77], [40, 40]), ([33, 130], [8, 24]), ([20, 9], [61, 67])] {
            let [q, k, v] = operands(dtype, lengths, widths);
            let name = format!("{lengths:?} of {widths:?}");
            agree(&name, dtype, |cx| q.scaled_dot_product_attention(&k, &v, None, false, None, cx));
        }
        let [q, k, v] = operands(dtype, [70, 90], [16, 16]);
        agree("causal", dtype, |cx| q.scaled_dot_product_attention(&k, &v, None, true, None, cx));
    });
}

#[test]
fn wide_heads() {
    each_type(|dtype| {
        let [q, k, v] = operands(dtype, [9, 35], [144, 136]);
        agree("both", dtype, |cx| q.scaled_dot_product_attention(&k, &v, None, false, Some(0.05), cx));
        let [q, k, v] = operands(dtype, [5, 7], [512, 512]);
        agree("as the VAE's", dtype, |cx| q.scaled_dot_product_attention(&k, &v, None, false, None, cx));
        let [q, k, v] = operands(dtype, [3, 5], [20, 150]);
        agree("values", dtype, |cx| q.scaled_dot_product_attention(&k, &v, None, false, None, cx));
        let [q, k, v] = operands(dtype, [3, 5], [150, 20]);
        agree("keys", dtype, |cx| q.scaled_dot_product_attention(&k, &v, None, false, Some(0.1), cx));
    });
}

#[test]
fn masks_hide_and_shift() {
    each_type(|dtype| {
        let cpu = cpu_context();
        let [q, k, v] = operands(dtype, [18, 70], [24, 24]);
        let numbers = random(&[1, 1, 18, 70], DType::Float32, 4);
        let seen = numbers.binary(BinaryOp::Gt, Operand::Scalar(2.0), &cpu).unwrap();
        agree("booleans", dtype, |cx| q.scaled_dot_product_attention(&k, &v, Some(&seen), false, None, cx));
        agree("numbers", dtype, |cx| q.scaled_dot_product_attention(&k, &v, Some(&numbers), false, None, cx));
        // The first 64 keys hidden, then all of them, then all of them by a number that is no infinity.
        let late = Tensor::from_vec(&[70], (0..70).map(|key| key >= 64).collect::<Vec<_>>(), &cpu).unwrap();
        let low = k.binary(BinaryOp::Mul, Operand::Scalar(-40.0), &cpu).unwrap();
        agree("late keys", dtype, |cx| q.scaled_dot_product_attention(&low, &v, Some(&late), false, None, cx));
        let none = Tensor::from_vec(&[1], vec![false], &cpu).unwrap();
        agree("nothing", dtype, |cx| q.scaled_dot_product_attention(&k, &v, Some(&none), false, None, cx));
        let least = Tensor::from_vec(&[1], vec![f32::MIN], &cpu).unwrap();
        agree("all alike", dtype, |cx| q.scaled_dot_product_attention(&k, &v, Some(&least), false, None, cx));
        let broken = Tensor::from_vec(&[18, 1], (0..18).map(|row| [0.0, f32::NAN][row % 2]).collect(), &cpu).unwrap();
        agree("no number", dtype, |cx| q.scaled_dot_product_attention(&k, &v, Some(&broken), false, None, cx));
    });
}

#[test]
fn heads_that_lie_side_by_side() {
    each_type(|dtype| {
        let x = random(&[2, 20, 3, 2, 16], dtype, 5);
        // Of one projection: [batch, length, 3, heads, width], as models split it.
        agree("split", dtype, |cx| {
            let part = |index: i64| x.slice(2, index, index + 1, 1, cx)?.squeeze(2, cx)?.permute(&[0, 2, 1, 3], cx);
            part(0)?.scaled_dot_product_attention(&part(1)?, &part(2)?, None, false, Some(0.02), cx)
        });
        let odd = random(&[2, 16, 21], dtype, 6);
        agree("turned", dtype, |cx| {
            let turned = odd.permute(&[0, 2, 1], cx)?.slice(1, 1, 21, 1, cx)?;
            turned.scaled_dot_product_attention(&turned, &turned.flip(&[1], cx)?, None, false, Some(0.02), cx)
        });
    });
}
