//! Products of matrices, convolutions and attention that are large enough for every method there is, a matrix unit among them:
//! their rounding, measured against double precision, and what they do with numbers that are not finite.
//!
//! Only on the CPU: a simulated GPU would take hours.
//!
//! Bounds are those of adding up float32 products one by one, or tighter: no method may be less exact.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use vivarium_tensor::{ConvGeometry, DType, Tensor};

const TYPES: [DType; 5] = [DType::Float32, DType::Float16, DType::Bfloat16, DType::Float8E4m3, DType::Float8E5m2];

/// Random numbers of a type.
fn noise(shape: &[u64], dtype: DType, seed: u64) -> Tensor {
    let cx = cpu_context();
    Tensor::randn(shape, seed, vivarium_tensor::Generator::Philox, &cx).unwrap().cast(dtype, &cx).unwrap()
}

/// The error that numbers of a type have by themselves, relative.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::Float16 => 2f64.powi(-11),
        DType::Bfloat16 => 2f64.powi(-8),
        _ => 0.0,
    }
}

/// Sums of float32, of the absolute sum: eight times what a sum of hundreds is off by as a rule. (At five times, one of some
/// million sums was beyond.) Lost parts of numbers would show as a hundred times as much.
const ROUNDING: f64 = 5e-7;

/// Each value must be that sum, within rounding of the absolute sum; `sums` gives both. Looks at one in a few.
fn assert_sums(result: &Tensor, own: f64, sums: impl Fn(&[usize]) -> (f64, f64)) {
    let got = Slow::of(result);
    let each = got.values.len() / 400 + 1;
    for (place, value) in got.values.iter().enumerate().step_by(each) {
        let at = coordinates(&got.shape, place);
        let (sum, size) = sums(&at);
        let error = (value - sum).abs();
        assert!(
            error <= ROUNDING * size + own * sum.abs(),
            "at {at:?}: {value}, expected {sum}, of products of {size}"
        );
    }
}

/// Sum of products, and of their absolute values.
fn sums(products: impl Iterator<Item = f64>) -> (f64, f64) {
    products.fold((0.0, 0.0), |(sum, size), product| (sum + product, size + product.abs()))
}

fn result_type(left: DType, right: DType) -> DType {
    let cx = cpu_context();
    let one = |dtype| Tensor::full(&[1, 1], 1.0, dtype, &cx).unwrap();
    one(left).matmul(&one(right), &cx).unwrap().dtype()
}

fn assert_convolution((x, w, b): (&Tensor, &Tensor, &Tensor), geometry: &ConvGeometry) {
    let result = x.conv2d(w, Some(b), geometry, &cpu_context()).unwrap();
    let own = rounding(result_type(x.dtype(), w.dtype()));
    let (x, w, b) = (Slow::of(x), Slow::of(w), Slow::of(b));
    let [inputs, height, width] = [1, 2, 3].map(|dim| x.shape[dim]);
    let window = [w.shape[2], w.shape[3]];
    let taps = window[0] * window[1];
    let place = |axis: usize, out: usize, tap: usize| {
        let [stride, dilation, padding] = [geometry.stride, geometry.dilation, geometry.padding].map(|all| all[axis]);
        (out * stride as usize + tap * dilation as usize).wrapping_sub(padding as usize)
    };
    // Winograd's method rounds a few times as much.
    assert_sums(&result, own, |at| {
        let products = (0..inputs * taps).map(|index| {
            let (input, tap) = (index / taps, index % taps);
            let (tap_y, tap_x) = (tap / window[1], tap % window[1]);
            let (y, x_at) = (place(0, at[2], tap_y), place(1, at[3], tap_x));
            let inside = y < height && x_at < width;
            if inside { x.at(&[at[0], input, y, x_at]) * w.at(&[at[1], input, tap_y, tap_x]) } else { 0.0 }
        });
        let (sum, size) = sums(products);
        (sum + b.at(&[at[1]]), 6.0 * size + b.at(&[at[1]]).abs())
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matmul_and_linear_round_no_worse_than_float32(
        (rows, inner, columns) in (40u64..200, 10u64..900, 10u64..150),
        (left, right) in (0usize..5, 0usize..5),
        seed in any::<u64>(),
    ) {
        let cx = cpu_context();
        let (left, right) = (TYPES[left], TYPES[right]);
        let (a, b) = (noise(&[rows, inner], left, seed), noise(&[inner, columns], right, seed / 3));
        let (slow_a, slow_b) = (Slow::of(&a), Slow::of(&b));
        let own = rounding(result_type(left, right));
        let wanted = |at: &[usize]| sums((0..inner as usize).map(|k| slow_a.at(&[at[0], k]) * slow_b.at(&[k, at[1]])));
        if !matches!(result_type(left, right), DType::Float8E4m3 | DType::Float8E5m2) {
            assert_sums(&a.matmul(&b, &cx).unwrap(), own, wanted);
            let weight = b.permute(&[1, 0], &cx).unwrap().contiguous(&cx).unwrap();
            assert_sums(&a.linear(&weight, None, &cx).unwrap(), own, wanted);
        }
    }

    #[test]
    fn convolutions_round_no_worse_than_float32(
        (inputs, outputs) in (16u64..70, 1u64..140),
        (height, width) in (8u64..26, 8u64..26),
        (window, stride) in (prop_oneof![Just(1u64), Just(3), Just(5)], 1u64..3),
        (left, right, last) in (0usize..3, 0usize..3, any::<bool>()),
        seed in any::<u64>(),
    ) {
        let cx = cpu_context();
        let (left, right) = (TYPES[left], TYPES[right]);
        let x = noise(&[1, inputs, height, width], left, seed);
        let x = if last {
            x.permute(&[0, 2, 3, 1], &cx).unwrap().contiguous(&cx).unwrap().permute(&[0, 3, 1, 2], &cx).unwrap()
        } else {
            x
        };
        let (w, b) = (noise(&[outputs, inputs, window, window], right, seed / 3), noise(&[outputs], DType::Float32, 1));
        let (padding, stride) = (window / 2, [stride, stride]);
        let geometry = ConvGeometry { stride, padding: [padding, padding], dilation: [1, 1], groups: 1 };
        assert_convolution((&x, &w, &b), &geometry);
    }

    /// Whole chunks of channels and lines of about whole tiles, in any place.
    #[test]
    fn windows_of_many_channels_may_lie_anywhere(
        (pictures, inputs, outputs) in (1u64..3, 1u64..5, 16u64..100),
        (height, width) in (6u64..40, 14u64..50),
        window in (1u64..4, 1u64..4),
        (stride, dilation, padding) in ((1u64..3, 1u64..3), (1u64..3, 1u64..3), (0u64..3, 0u64..3)),
        (left, right) in (0usize..5, 0usize..5),
        seed in any::<u64>(),
    ) {
        let pair = |(first, second): (u64, u64)| [first, second];
        let geometry =
            ConvGeometry { stride: pair(stride), padding: pair(padding), dilation: pair(dilation), groups: 1 };
        let x = noise(&[pictures, 32 * inputs, height, width], TYPES[left], seed);
        let w = noise(&[outputs, 32 * inputs, window.0, window.1], TYPES[right], seed / 3);
        if matches!(result_type(TYPES[left], TYPES[right]), DType::Float8E4m3 | DType::Float8E5m2) {
            return Ok(());
        }
        assert_convolution((&x, &w, &noise(&[outputs], DType::Float32, 1)), &geometry);
    }

    #[test]
    fn rows_of_few_bits_are_multiplied_where_they_lie(
        (rows, inputs, outputs) in (250u64..700, 1u64..20, 16u64..200),
        skipped in 0u64..3,
        right in 0usize..5,
        seed in any::<u64>(),
    ) {
        let cx = cpu_context();
        let x = noise(&[rows + skipped, 32 * inputs], DType::Bfloat16, seed);
        let x = x.slice(0, skipped as i64, (rows + skipped) as i64, 1, &cx).unwrap();
        let (w, b) = (noise(&[outputs, 32 * inputs], TYPES[right], seed / 3), noise(&[outputs], DType::Float32, 1));
        let result = x.linear(&w, Some(&b), &cx).unwrap();
        let own = rounding(result.dtype());
        let (x, w, b) = (Slow::of(&x), Slow::of(&w), Slow::of(&b));
        assert_sums(&result, own, |at| {
            let products = (0..32 * inputs as usize).map(|step| x.at(&[at[0], step]) * w.at(&[at[1], step]));
            let (sum, size) = sums(products);
            (sum + b.at(&[at[1]]), size + b.at(&[at[1]]).abs())
        });
    }

    #[test]
    fn attention_weighs_values_of_wide_heads(
        (queries, keys) in (1u64..150, 1u64..400),
        (width, value_width) in (8u64..150, 8u64..150),
        (dtype, causal) in (0usize..3, any::<bool>()),
        seed in any::<u64>(),
    ) {
        let cx = cpu_context();
        let dtype = TYPES[dtype];
        let q = noise(&[2, queries, width], DType::Float32, seed);
        let (k, v) = (noise(&[2, keys, width], dtype, seed / 3), noise(&[2, keys, value_width], dtype, seed / 5));
        let result = q.scaled_dot_product_attention(&k, &v, None, causal, None, &cx).unwrap();
        let (q, k, v) = (Slow::of(&q), Slow::of(&k), Slow::of(&v));
        let got = Slow::of(&result);
        for (place, value) in got.values.iter().enumerate().step_by(got.values.len() / 100 + 1) {
            let at = coordinates(&got.shape, place);
            let seen = if causal { (at[1] + 1).min(keys as usize) } else { keys as usize };
            let score = |key: usize| {
                let products = (0..width as usize).map(|e| q.at(&[at[0], at[1], e]) * k.at(&[at[0], key, e]));
                (products.sum::<f64>() / (width as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..seen).map(score).collect();
            let weighed = scores.iter().enumerate().map(|(key, score)| score * v.at(&[at[0], key, at[2]]));
            let wanted = weighed.sum::<f64>() / scores.iter().sum::<f64>();
            assert!((value - wanted).abs() <= 5e-6, "at {at:?}: {value}, expected {wanted}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row_and_column() {
    let cx = cpu_context();
    for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
        for (row, column) in [(Some(70), None), (None, Some(33)), (Some(3), Some(3))] {
            let (mut left, mut right) = (vec![1.0f32; 128 * 64], vec![1.0f32; 64 * 128]);
            if let Some(row) = row {
                left[row * 64 + 5] = odd;
            }
            if let Some(column) = column {
                right[9 * 128 + column] = odd;
            }
            let a = Tensor::from_vec(&[128, 64], left, &cx).unwrap();
            let b = Tensor::from_vec(&[64, 128], right, &cx).unwrap();
            let got = Slow::of(&a.matmul(&b, &cx).unwrap());
            for (place, value) in got.values.iter().enumerate() {
                let (own_row, own_column) = (Some(place / 128) == row, Some(place % 128) == column);
                let wanted = match (own_row, own_column) {
                    (false, false) => 64.0,
                    _ if odd.is_nan() => f64::NAN,
                    (true, true) => 2.0 * f64::from(odd) + 62.0,
                    _ => f64::from(odd) + 63.0,
                };
                let wanted = f64::from(wanted as f32);
                let same = wanted.is_nan() == value.is_nan() && (wanted.is_nan() || wanted == *value);
                assert!(same, "{odd} at row {row:?}, column {column:?} made {value} at {place}, not {wanted}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_the_windows_that_see_it() {
    let cx = cpu_context();
    for dtype in [DType::Float32, DType::Float16, DType::Bfloat16] {
        for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut pixels = vec![1.0f32; 64 * 40 * 48];
            pixels[(7 * 40 + 9) * 48 + 11] = odd;
            let x = Tensor::from_vec(&[1, 64, 40, 48], pixels, &cx).unwrap().cast(dtype, &cx).unwrap();
            let w = Tensor::full(&[32, 64, 3, 3], 1.0, dtype, &cx).unwrap();
            let geometry = ConvGeometry { stride: [1, 2], padding: [0, 0], ..ConvGeometry::default() };
            let got = Slow::of(&x.conv2d(&w, None, &geometry, &cx).unwrap());
            for (place, value) in got.values.iter().enumerate() {
                let at = coordinates(&got.shape, place);
                let sees = (7..10).contains(&at[2]) && (9..12).contains(&(2 * at[3]));
                let wanted = if sees { f64::from(odd) } else { 576.0 };
                assert!(*value == wanted || value.is_nan() && wanted.is_nan(), "{dtype:?} {odd}: {value} at {at:?}");
            }
        }
    }
}

#[test]
fn attention_sees_numbers_that_are_not_finite() {
    let cx = cpu_context();
    let ones = |shape: &[u64]| Tensor::full(shape, 1.0, DType::Float32, &cx).unwrap();
    let (q, k) = (ones(&[1, 64, 32]), ones(&[1, 64, 32]));
    let mut values = vec![1.0f32; 64 * 32];
    values[7 * 32 + 3] = f32::INFINITY;
    let v = Tensor::from_vec(&[1, 64, 32], values, &cx).unwrap();
    let got = Slow::of(&q.scaled_dot_product_attention(&k, &v, None, false, None, &cx).unwrap());
    for (place, value) in got.values.iter().enumerate() {
        assert!(
            if place % 32 == 3 { *value == f64::INFINITY } else { (value - 1.0).abs() < 1e-6 },
            "{value} at {place}"
        );
    }
}

#[test]
fn heads_without_width_weigh_all_values_alike() {
    let cx = cpu_context();
    let empty = Tensor::full(&[1, 64, 0], 1.0, DType::Float32, &cx).unwrap();
    let v = noise(&[1, 64, 20], DType::Float32, 1);
    let got = empty.scaled_dot_product_attention(&empty, &v, None, false, None, &cx).unwrap();
    let v = Slow::of(&v);
    for (place, value) in Slow::of(&got).values.iter().enumerate() {
        let mean = (0..64).map(|key| v.at(&[0, key, place % 20])).sum::<f64>() / 64.0;
        assert!((value - mean).abs() < 1e-6, "{value} instead of {mean}");
    }
}

/// Everything above once more, as on a machine that has none.
#[test]
fn a_matrix_unit_is_not_needed() {
    const SWITCH: &str = "VIVARIUM_MATRIX_UNIT";
    if std::env::var_os(SWITCH).is_none() {
        let again = std::process::Command::new(std::env::current_exe().unwrap()).env(SWITCH, "off").output().unwrap();
        let (out, errors) = (String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
        assert!(again.status.success(), "{out}\n{errors}");
    }
}

#[test]
fn pictures_without_rows_are_all_padding() {
    let cx = cpu_context();
    let x = Tensor::full(&[2, 32, 0, 8], 1.0, DType::Float32, &cx).unwrap();
    for (outputs, window) in [(4, 3), (48, 3), (48, 5)] {
        let w = noise(&[outputs, 32, window, window], DType::Float32, 1);
        let b = noise(&[outputs], DType::Float32, 2);
        let geometry = ConvGeometry { stride: [1, 1], padding: [30, 30], dilation: [1, 1], groups: 1 };
        let got = Slow::of(&x.conv2d(&w, Some(&b), &geometry, &cx).unwrap());
        let b = Slow::of(&b);
        for (place, value) in got.values.iter().enumerate() {
            assert_eq!(*value, b.at(&[coordinates(&got.shape, place)[1]]));
        }
    }
}
