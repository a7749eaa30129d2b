//! The operations of models against slow ones, over random shapes, strides and types.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use vivarium_tensor::{Budget, ConvGeometry, DType, OpContext, Tensor};

/// A random tensor, dense, reversed in memory, or flipped.
fn any_layout(shape: &[u64], seed: u64) -> Tensor {
    let cx = context();
    let tensor = random(shape, DType::Float32, seed).binary(vivarium_tensor::BinaryOp::Div, 4.0.into(), &cx).unwrap();
    let backwards: Vec<i32> = (0..shape.len() as i32).rev().collect();
    match seed % 4 {
        0 => tensor.permute(&backwards, &cx).unwrap().contiguous(&cx).unwrap().permute(&backwards, &cx).unwrap(),
        1 => tensor.flip(&backwards, &cx).unwrap(),
        _ => tensor,
    }
}

fn stretched(slow: &Slow, batch: &[usize], tail: [usize; 2]) -> f64 {
    let own = slow.shape.len() - 2;
    let mut index: Vec<usize> = batch[batch.len() - own..]
        .iter()
        .zip(&slow.shape)
        .map(|(at, length)| if *length == 1 { 0 } else { *at })
        .collect();
    index.extend(tail);
    slow.at(&index)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matmul_sums_products(
        batch in prop::collection::vec((1u64..4, any::<bool>(), any::<bool>()), 0..3),
        (rows, inner, columns) in (0u64..20, 0u64..40, 0u64..20),
        seed in any::<u64>(),
    ) {
        let cx = context();
        let lengths = |side: usize| batch.iter().map(move |(length, left, right)| if [left, right][side] == &true { 1 } else { *length });
        let left: Vec<u64> = lengths(0).chain([rows, inner]).collect();
        let right: Vec<u64> = lengths(1).chain([inner, columns]).collect();
        let (a, b) = (any_layout(&left, seed), any_layout(&right, seed / 7));
        let (slow_a, slow_b) = (Slow::of(&a), Slow::of(&b));
        let mut shape: Vec<usize> = batch.iter().map(|(length, l, r)| if *l && *r { 1 } else { *length as usize }).collect();
        shape.extend([rows as usize, columns as usize]);
        let wanted = Slow::build(&shape, |index| {
            let (outer, tail) = index.split_at(index.len() - 2);
            (0..inner as usize).map(|k| stretched(&slow_a, outer, [tail[0], k]) * stretched(&slow_b, outer, [k, tail[1]])).sum()
        });
        wanted.assert_close(&a.matmul(&b, &cx).unwrap(), 1e-4);
    }

    #[test]
    fn convolutions_sum_what_lies_under_the_window(
        (batch, groups, inputs, outputs) in (1u64..3, 1u64..4, 1u64..4, 1u64..4),
        (height, width) in (1u64..9, 1u64..9),
        window in (1u64..4, 1u64..4),
        (stride, padding, dilation) in ((1u64..4, 1u64..4), (0u64..3, 0u64..3), (1u64..3, 1u64..3)),
        seed in any::<u64>(),
    ) {
        let cx = context();
        let geometry = ConvGeometry { stride: stride.into(), padding: padding.into(), dilation: dilation.into(), groups };
        let x = any_layout(&[batch, groups * inputs, height, width], seed);
        let bias = any_layout(&[groups * outputs], seed / 3);
        let (slow_x, slow_bias) = (Slow::of(&x), Slow::of(&bias));
        let (side, step, pad, spread) = ([height, width], geometry.stride, geometry.padding, geometry.dilation);
        let taps = [window.0, window.1];
        let (inputs, outputs) = (inputs as usize, outputs as usize);

        let w = any_layout(&[groups * outputs as u64, inputs as u64, taps[0], taps[1]], seed / 5);
        let slow_w = Slow::of(&w);
        let room = |axis: usize| (side[axis] + 2 * pad[axis]).checked_sub(spread[axis] * (taps[axis] - 1) + 1);
        let result = x.conv2d(&w, Some(&bias), &geometry, &cx);
        if let (Some(high), Some(wide)) = (room(0), room(1)) {
            let shape = [batch as usize, groups as usize * outputs, (high / step[0] + 1) as usize, (wide / step[1] + 1) as usize];
            let wanted = Slow::build(&shape, |at| {
                let mut sum = slow_bias.values[at[1]];
                for ci in 0..inputs {
                    for (ty, tx) in (0..taps[0]).flat_map(|ty| (0..taps[1]).map(move |tx| (ty, tx))) {
                        let y = (at[2] as u64 * step[0] + ty * spread[0]).checked_sub(pad[0]).filter(|y| *y < height);
                        let x = (at[3] as u64 * step[1] + tx * spread[1]).checked_sub(pad[1]).filter(|x| *x < width);
                        if let (Some(y), Some(x)) = (y, x) {
                            let source = slow_x.at(&[at[0], at[1] / outputs * inputs + ci, y as usize, x as usize]);
                            sum += source * slow_w.at(&[at[1], ci, ty as usize, tx as usize]);
                        }
                    }
                }
                sum
            });
            wanted.assert_close(&result.unwrap(), 1e-4);
        } else {
            prop_assert!(result.is_err());
        }

        let w = any_layout(&[groups * inputs as u64, outputs as u64, taps[0], taps[1]], seed / 11);
        let slow_w = Slow::of(&w);
        let extra = [0, 1].map(|axis| (seed >> (20 + axis) & 1).min(step[axis].max(spread[axis]) - 1));
        let size = |axis: usize| ((side[axis] - 1) * step[axis] + spread[axis] * (taps[axis] - 1) + 1 + extra[axis]).checked_sub(2 * pad[axis]).filter(|size| *size > 0);
        let result = x.conv_transpose2d(&w, None, &geometry, extra, &cx);
        let (Some(high), Some(wide)) = (size(0), size(1)) else {
            prop_assert!(result.is_err());
            return Ok(());
        };
        let mut wanted = Slow::build(&[batch as usize, groups as usize * outputs, high as usize, wide as usize], |_| 0.0);
        for (place, value) in slow_x.values.iter().enumerate() {
            let at = coordinates(&slow_x.shape, place);
            for co in 0..outputs {
                for (ty, tx) in (0..taps[0]).flat_map(|ty| (0..taps[1]).map(move |tx| (ty, tx))) {
                    let y = (at[2] as u64 * step[0] + ty * spread[0]).checked_sub(pad[0]).filter(|y| *y < high);
                    let x = (at[3] as u64 * step[1] + tx * spread[1]).checked_sub(pad[1]).filter(|x| *x < wide);
                    if let (Some(y), Some(x)) = (y, x) {
                        let channel = at[1] / inputs * outputs + co;
                        let to = ((at[0] * groups as usize * outputs + channel) * high as usize + y as usize) * wide as usize + x as usize;
                        wanted.values[to] += value * slow_w.at(&[at[1], co, ty as usize, tx as usize]);
                    }
                }
            }
        }
        wanted.assert_close(&result.unwrap(), 1e-4);
    }

    #[test]
    fn attention_weighs_values(
        (heads, queries, width, value_width) in (1u64..3, 1u64..80, 1u64..9, 1u64..9),
        // Sometimes more than one tile of keys.
        keys in prop_oneof![3 => 1u64..20, 1 => 500u64..1100],
        causal in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let cx = context();
        let q = any_layout(&[heads, queries, width], seed);
        let k = any_layout(&[heads, keys, width], seed / 3);
        let v = any_layout(&[heads, keys, value_width], seed / 5);
        let (slow_q, slow_k, slow_v) = (Slow::of(&q), Slow::of(&k), Slow::of(&v));
        let wanted = Slow::build(&[heads as usize, queries as usize, value_width as usize], |at| {
            let seen = if causal { (at[1] + 1).min(keys as usize) } else { keys as usize };
            let score = |key: usize| {
                (0..width as usize).map(|e| slow_q.at(&[at[0], at[1], e]) * slow_k.at(&[at[0], key, e])).sum::<f64>() / (width as f64).sqrt()
            };
            let scores: Vec<f64> = (0..seen).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().enumerate().map(|(key, weight)| weight * slow_v.at(&[at[0], key, at[2]])).sum::<f64>() / sum
        });
        wanted.assert_close(&q.scaled_dot_product_attention(&k, &v, None, causal, None, &cx).unwrap(), 1e-4);
    }

    #[test]
    fn norms_have_mean_zero_and_variance_one(
        (batch, groups, each, height, width) in (1u64..3, 1u64..4, 1u64..4, 1u64..5, 1u64..5),
        last in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let cx = context();
        let x = random(&[batch, groups * each, height, width], DType::Float32, seed);
        let x = if last { x.permute(&[0, 2, 3, 1], &cx).unwrap().contiguous(&cx).unwrap().permute(&[0, 3, 1, 2], &cx).unwrap() } else { x };
        let slow = Slow::of(&x);
        let part = |at: &[usize], eps: f64| {
            let group = at[1] / each as usize;
            let values: Vec<f64> = (0..slow.values.len())
                .filter(|place| {
                    let other = coordinates(&slow.shape, *place);
                    other[0] == at[0] && other[1] / each as usize == group
                })
                .map(|place| slow.values[place])
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (slow.at(at) - mean) / (variance + eps).sqrt()
        };
        let wanted = Slow::build(&slow.shape.clone(), |at| part(at, 1e-3));
        wanted.assert_close(&x.group_norm(groups, None, None, 1e-3, &cx).unwrap(), 1e-4);
        let row: usize = slow.shape[2] * slow.shape[3];
        let wanted = Slow::build(&slow.shape.clone(), |at| {
            let values: Vec<f64> = (0..row).map(|place| slow.at(&[at[0], at[1], place / slow.shape[3], place % slow.shape[3]])).collect();
            let mean = values.iter().sum::<f64>() / row as f64;
            (slow.at(at) - mean) / (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row as f64 + 1e-3).sqrt()
        });
        wanted.assert_close(&x.layer_norm(2, None, None, 1e-3, &cx).unwrap(), 1e-4);
    }

    #[test]
    fn orders_and_indices_agree((tensor, slow) in tensors(), dim in 0usize..4, descending in any::<bool>(), seed in any::<u64>()) {
        let cx = context();
        if slow.shape.is_empty() {
            prop_assert!(tensor.sort(0, descending, &cx).is_err());
            return Ok(());
        }
        let dim = dim % slow.shape.len();
        let (at, length) = (dim as i32, slow.shape[dim]);
        let line = |index: &[usize]| -> Vec<f64> {
            (0..length).map(|place| { let mut index = index.to_vec(); index[dim] = place; slow.at(&index) }).collect()
        };
        let sorted = |index: &[usize]| {
            let mut line: Vec<(f64, usize)> = line(index).into_iter().zip(0..).collect();
            line.sort_by(|a, b| if descending { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
            line[index[dim]]
        };
        let (values, places) = tensor.sort(at, descending, &cx).unwrap();
        Slow::build(&slow.shape, |index| sorted(index).0).assert_close(&values, 0.0);
        Slow::build(&slow.shape, |index| sorted(index).1 as f64).assert_close(&places, 0.0);
        tensor.gather(at, &places, &cx).unwrap();
        Slow::of(&values).assert_close(&tensor.gather(at, &places, &cx).unwrap(), 0.0);
        let back = tensor.scatter(at, &places, &values, &cx).unwrap();
        slow.assert_close(&back, 0.0);
        if length > 0 {
            let k = seed % (length as u64 + 1);
            let (top, _) = tensor.topk(k, at, descending, &cx).unwrap();
            Slow::of(&values.slice(at, 0, k as i64, 1, &cx).unwrap()).assert_close(&top, 0.0);
            let best = tensor.argmax(at, !descending, true, &cx).unwrap();
            Slow::of(&places.slice(at, 0, 1, 1, &cx).unwrap()).assert_close(&best, 0.0);
            let picked: Vec<i64> = (0..3).map(|i| (seed >> i) as i64 & i64::MAX).map(|i| i % length as i64).collect();
            let index = Tensor::from_vec(&[3], picked.clone(), &cx).unwrap();
            let mut shape = slow.shape.clone();
            shape[dim] = 3;
            let wanted = Slow::build(&shape, |index| line(index_at(index, dim).as_slice())[picked[index[dim]] as usize]);
            wanted.assert_close(&tensor.index_select(at, &index, &cx).unwrap(), 0.0);
        }
        if tensor.dtype().size() != 2 {
            let sums = Slow::build(&slow.shape, |index| line(index)[..=index[dim]].iter().sum());
            sums.assert_close(&tensor.cumsum(at, &cx).unwrap(), 1e-5);
        }
        let shift = seed as i64 % 11;
        let rolled = Slow::build(&slow.shape, |index| line(index)[(index[dim] as i64 - shift).rem_euclid(length as i64) as usize]);
        rolled.assert_close(&tensor.roll(&[shift], &[at], &cx).unwrap(), 0.0);
    }
}

/// A window of one pixel that moves by one, and a result that is larger than the input all the same.
#[test]
fn a_transposed_convolution_of_one_pixel_grows_by_its_output_padding() {
    let cx = context();
    let x = Tensor::from_vec(&[2, 1, 2, 1], vec![1.0f32, 2.0, 3.0, 4.0], &cx).unwrap();
    let w = Tensor::from_vec(&[1, 2, 1, 1], vec![10.0f32, 100.0], &cx).unwrap();
    let geometry = ConvGeometry { dilation: [1, 2], ..ConvGeometry::default() };
    let result = x.conv_transpose2d(&w, None, &geometry, [0, 1], &cx).unwrap();
    assert_eq!(result.shape(), [2, 2, 2, 2]);
    let wanted = [10.0, 0.0, 20.0, 0.0, 100.0, 0.0, 200.0, 0.0, 30.0, 0.0, 40.0, 0.0, 300.0, 0.0, 400.0, 0.0];
    assert_eq!(Slow::of(&result).values, wanted);
}

/// Rows of pixels, groups of them and of output channels that don't come out even.
#[test]
fn convolutions_from_few_channels_and_to_few_sum_what_lies_under_the_window() {
    let cx = context();
    for (inputs, outputs, height, width) in [(3, 40, 7, 19), (17, 6, 11, 70)] {
        let (x, bias) = (any_layout(&[2, inputs, height, width], 4), any_layout(&[outputs], 6));
        let w = any_layout(&[outputs, inputs, 3, 2], 7);
        let (slow_x, slow_w, slow_bias) = (Slow::of(&x), Slow::of(&w), Slow::of(&bias));
        let geometry = ConvGeometry { padding: [2, 1], ..ConvGeometry::default() };
        let [inputs, outputs, height, width] = [inputs, outputs, height, width].map(|length| length as usize);
        let wanted = Slow::build(&[2, outputs, height + 2, width + 1], |at| {
            let mut sum = slow_bias.values[at[1]];
            for (channel, ty, tx) in (0..inputs * 6).map(|tap| (tap / 6, tap / 2 % 3, tap % 2)) {
                let (y, x) = ((at[2] + ty).wrapping_sub(2), (at[3] + tx).wrapping_sub(1));
                if y < height && x < width {
                    sum += slow_x.at(&[at[0], channel, y, x]) * slow_w.at(&[at[1], channel, ty, tx]);
                }
            }
            sum
        });
        wanted.assert_close(&x.conv2d(&w, Some(&bias), &geometry, &cx).unwrap(), 1e-4);
    }
}

/// More rows than run side by side.
#[test]
fn sums_along_many_long_rows() {
    let x = any_layout(&[37, 150], 2);
    let slow = Slow::of(&x);
    let wanted = Slow::build(&[37, 150], |at| (0..=at[1]).map(|place| slow.at(&[at[0], place])).sum());
    wanted.assert_close(&x.cumsum(1, &context()).unwrap(), 1e-5);
}

/// Channels first and channels last, whose squares are beyond float32.
#[test]
fn large_numbers_are_normalised_in_any_memory() {
    let cx = OpContext::new(Budget::root(1 << 24));
    let x = any_layout(&[2, 6, 9, 10], 3).binary(vivarium_tensor::BinaryOp::Mul, 1e25.into(), &cx).unwrap();
    let last = x.permute(&[0, 2, 3, 1], &cx).unwrap().contiguous(&cx).unwrap().permute(&[0, 3, 1, 2], &cx).unwrap();
    let first = Slow::of(&x.group_norm(3, None, None, 1e-5, &cx).unwrap());
    assert!(first.values.iter().any(|value| value.abs() > 0.5), "nothing is left of the numbers");
    first.assert_close(&last.group_norm(3, None, None, 1e-5, &cx).unwrap(), 1e-4);
}

/// The index with the coordinate that is looked up elsewhere set to the first.
fn index_at(index: &[usize], dim: usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[dim] = 0;
    index
}

/// The squares of such numbers are beyond float32, their mean is not. (A GPU adds up in float32.)
#[test]
fn large_numbers_are_normalised() {
    let cx = OpContext::new(Budget::root(1 << 20));
    let x = Tensor::from_vec(&[1, 4], vec![1e30f32, -1e30, 3e30, 1e30], &cx).unwrap();
    let (mean, deviation) = (1e30, 2e30f64.powi(2) * 0.5);
    let wanted = Slow {
        shape: vec![1, 4],
        values: [1e30, -1e30, 3e30, 1e30].map(|v: f64| (v - mean) / deviation.sqrt()).to_vec(),
    };
    wanted.assert_close(&x.layer_norm(1, None, None, 0.0, &cx).unwrap(), 1e-5);
}
