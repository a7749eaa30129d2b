//! Convolutions that are large enough for Winograd's method: its rounding, and what it does with numbers that would spread.
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use vivarium_tensor::{BinaryOp, ConvGeometry, DType, Generator, OpContext, Operand, Tensor};

const GEOMETRY: ConvGeometry = ConvGeometry { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 };

/// The convolution in double precision, and the sum of the absolute products, at one place of the result.
fn exact(x: &Slow, w: &Slow, [batch, output, y, width]: [usize; 4]) -> (f64, f64) {
    let (mut sum, mut size) = (0.0, 0.0);
    for (input, tap) in (0..x.shape[1]).flat_map(|input| (0..9).map(move |tap| (input, tap))) {
        let (row, column) = ((y + tap / 3).wrapping_sub(1), (width + tap % 3).wrapping_sub(1));
        if row < x.shape[2] && column < x.shape[3] {
            let product = x.at(&[batch, input, row, column]) * w.at(&[output, input, tap / 3, tap % 3]);
            sum += product;
            size += product.abs();
        }
    }
    (sum, size)
}

fn noise(shape: &[u64], seed: u64, cx: &OpContext) -> Tensor {
    Tensor::randn(shape, seed, Generator::Philox, cx).unwrap()
}

#[test]
fn rounding_stays_near_that_of_adding_products_up() {
    // With one thread, a task has several of many panels.
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one_thread.install(|| rounding_of(&[([1, 70, 12, 15], 300, 0.0)]));
    // Sizes that are no multiples of a tile, channels that fill no panel; the last with large mean, small differences.
    rounding_of(&[([2, 17, 13, 10], 5, 0.0), ([1, 70, 12, 15], 35, 0.0), ([1, 64, 16, 16], 8, 100.0)]);
}

/// Checks shapes of inputs, with numbers of output channels and what is added to noise.
fn rounding_of(cases: &[([u64; 4], u64, f64)]) {
    let cx = context();
    for (shape, outputs, shift) in cases {
        let x = noise(shape, 1, &cx).binary(BinaryOp::Add, Operand::Scalar(*shift), &cx).unwrap();
        let (w, b) = (noise(&[*outputs, shape[1], 3, 3], 2, &cx), noise(&[*outputs], 3, &cx));
        let got = Slow::of(&x.conv2d(&w, Some(&b), &GEOMETRY, &cx).unwrap());
        let (x, w, b) = (Slow::of(&x), Slow::of(&w), Slow::of(&b));
        for (place, value) in got.values.iter().enumerate().step_by(7) {
            let at = coordinates(&got.shape, place);
            let (sum, size) = exact(&x, &w, [at[0], at[1], at[2], at[3]]);
            let error = (value - sum - b.values[at[1]]).abs();
            assert!(error <= 2e-6 * size, "{shape:?} at {at:?}: off by {error:e} where products add up to {size}");
        }
    }
}

#[test]
fn weights_of_half_precision_give_what_they_are_worth() {
    let cx = context();
    let (x, w) = (noise(&[1, 32, 16, 16], 1, &cx), noise(&[48, 32, 3, 3], 2, &cx));
    for dtype in [DType::Float16, DType::Bfloat16] {
        let half = w.cast(dtype, &cx).unwrap();
        let wide = half.cast(DType::Float32, &cx).unwrap();
        let wanted = x.conv2d(&wide, None, &GEOMETRY, &cx).unwrap();
        Slow::of(&wanted).assert_close(&x.conv2d(&half, None, &GEOMETRY, &cx).unwrap(), 0.0);
    }
}

#[test]
fn what_is_not_finite_stays_under_its_window() {
    let cx = context();
    for odd in [f32::INFINITY, f32::NAN, 3e38] {
        let mut values = vec![1.0f32; 32 * 16 * 16];
        values[5 * 16 + 5] = odd;
        let x = Tensor::from_vec(&[1, 32, 16, 16], values, &cx).unwrap();
        let w = Tensor::full(&[16, 32, 3, 3], 1.0, DType::Float32, &cx).unwrap();
        let got = Slow::of(&x.conv2d(&w, None, &GEOMETRY, &cx).unwrap());
        for (place, value) in got.values.iter().enumerate() {
            let at = coordinates(&got.shape, place);
            let near = at[2].abs_diff(5) <= 1 && at[3].abs_diff(5) <= 1;
            let fits = if near { !value.is_finite() || odd == 3e38 } else { value.is_finite() && *value <= 288.0 };
            assert!(fits, "{odd} made {value} at {at:?}");
        }
    }
}
