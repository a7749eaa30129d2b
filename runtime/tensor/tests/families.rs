//! The operations that the other tests of random tensors leave out, against plain loops: all float types, odd strides; and
//! what they refuse, before memory is taken.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use vivarium_tensor::{
    BlockFormat, ConvGeometry, DType, ErrorKind, MorphologyOp, OpContext, PadMode, SampleBorder, SampleMode, Tensor,
    TensorError, VolumeGeometry,
};

const FLOATS: [DType; 5] = [DType::Float32, DType::Float16, DType::Bfloat16, DType::Float8E4m3, DType::Float8E5m2];

/// Quarters from −2 to 2 of any float type: dense, backwards in memory, flipped, or every other of more.
fn floats(shape: &[u64], seed: u64) -> Tensor {
    let cx = context();
    let dtype = FLOATS[(seed >> 8) as usize % FLOATS.len()];
    let backwards: Vec<i32> = (0..shape.len() as i32).rev().collect();
    let make = |shape: &[u64]| {
        random(shape, DType::Float32, seed)
            .binary(vivarium_tensor::BinaryOp::Div, 4.0.into(), &cx)
            .unwrap()
            .cast(dtype, &cx)
    };
    match seed % 5 {
        0 => {
            let turned = make(shape).unwrap().permute(&backwards, &cx).unwrap().contiguous(&cx).unwrap();
            turned.permute(&backwards, &cx).unwrap()
        }
        1 => make(shape).unwrap().flip(&backwards, &cx).unwrap(),
        2 if !shape.is_empty() => {
            let mut wide = shape.to_vec();
            wide[0] *= 2;
            make(&wide).unwrap().slice(0, 1, i64::MAX, 2, &cx).unwrap()
        }
        _ => make(shape).unwrap(),
    }
}

/// How far a result of this type may be off.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::Float16 => 2e-3,
        DType::Bfloat16 => 1e-2,
        DType::Float8E4m3 => 0.07,
        DType::Float8E5m2 => 0.14,
        _ => 1e-4,
    }
}

fn close(wanted: &Slow, got: &Tensor) {
    wanted.assert_close(got, tolerance(got.dtype()));
}

/// The element, or nothing for a coordinate that is outside.
fn inside(slow: &Slow, index: &[i64]) -> Option<f64> {
    let within = index.iter().zip(&slow.shape).all(|(at, length)| (0..*length as i64).contains(at));
    within.then(|| slow.at(&index.iter().map(|at| *at as usize).collect::<Vec<_>>()))
}

/// Every coordinate of a box.
fn places(lengths: &[u64]) -> Vec<Vec<i64>> {
    let shape: Vec<usize> = lengths.iter().map(|length| *length as usize).collect();
    let count = shape.iter().product();
    (0..count).map(|place| coordinates(&shape, place).iter().map(|at| *at as i64).collect()).collect()
}

fn three() -> impl Strategy<Value = [u64; 3]> {
    [1u64..4, 1u64..3, 1u64..4]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_and_pools_agree(
        (rows, inner, columns) in (0u64..7, 1u64..9, 1u64..7),
        (side, window, stride) in ([1u64..7, 1u64..7], [1u64..4, 1u64..4], [1u64..3, 1u64..3]),
        seed in any::<u64>(),
    ) {
        let cx = context();
        let (x, w, b) = (floats(&[rows, inner], seed), floats(&[columns, inner], seed / 3), floats(&[columns], seed / 5));
        let (slow_x, slow_w, slow_b) = (Slow::of(&x), Slow::of(&w), Slow::of(&b));
        let product = |i: usize, j: usize| -> f64 {
            (0..inner as usize).map(|k| slow_x.at(&[i, k]) * slow_w.at(&[j, k])).sum()
        };
        let shape = [rows as usize, columns as usize];
        close(&Slow::build(&shape, |at| product(at[0], at[1]) + slow_b.at(&at[1..])), &x.linear(&w, Some(&b), &cx).unwrap());
        let turned = w.permute(&[1, 0], &cx).unwrap();
        let wanted = Slow::build(&shape, |at| 0.5 * slow_b.at(&at[1..]) + 2.0 * product(at[0], at[1]));
        close(&wanted, &b.addmm(&x, &turned, 0.5, 2.0, &cx).unwrap());
        let wanted = Slow::build(&[columns as usize, rows as usize], |at| product(at[1], at[0]));
        close(&wanted, &Tensor::einsum("ik,jk->ji", &[&x, &w], &cx).unwrap());

        let image = floats(&[2, 3, side[0], side[1]], seed / 7);
        let slow = Slow::of(&image);
        let results = [
            image.max_pool2d(window, stride, [0, 0], &cx),
            image.avg_pool2d(window, stride, [0, 0], true, &cx),
        ];
        if (0..2).any(|axis| window[axis] > side[axis]) {
            prop_assert!(results.iter().all(Result::is_err));
        } else {
            let count = |axis: usize| ((side[axis] - window[axis]) / stride[axis] + 1) as usize;
            let seen = |at: &[usize]| -> Vec<f64> {
                let place = |step: &Vec<i64>| [
                    at[0], at[1],
                    at[2] * stride[0] as usize + step[0] as usize,
                    at[3] * stride[1] as usize + step[1] as usize,
                ];
                places(&window).iter().map(|step| slow.at(&place(step))).collect()
            };
            let shape = [2, 3, count(0), count(1)];
            let [max, mean] = results;
            close(&Slow::build(&shape, |at| seen(at).into_iter().fold(f64::MIN, f64::max)), &max.unwrap());
            let wanted = Slow::build(&shape, |at| seen(at).iter().sum::<f64>() / (window[0] * window[1]) as f64);
            close(&wanted, &mean.unwrap());
        }
        let parts = |at: usize, length: u64, parts: u64| {
            let (at, length, parts) = (at as u64, length, parts);
            (at * length / parts) as usize..((at + 1) * length).div_ceil(parts) as usize
        };
        let wanted = Slow::build(&[2, 3, window[0] as usize, window[1] as usize], |at| {
            let (ys, xs) = (parts(at[2], side[0], window[0]), parts(at[3], side[1], window[1]));
            let count = (ys.len() * xs.len()) as f64;
            ys.map(|y| xs.clone().map(|x| slow.at(&[at[0], at[1], y, x])).sum::<f64>()).sum::<f64>() / count
        });
        close(&wanted, &image.adaptive_avg_pool2d(window[0], window[1], &cx).unwrap());
    }

    #[test]
    fn windows_become_columns_and_back(
        (size, window, stride) in ([1u64..7, 1u64..7], [1u64..4, 1u64..4], [1u64..4, 1u64..4]),
        (padding, dilation) in ([0u64..3, 0u64..3], [1u64..3, 1u64..3]),
        seed in any::<u64>(),
    ) {
        let cx = context();
        let geometry = ConvGeometry { stride, padding, dilation, groups: 1 };
        let x = floats(&[2, 2, size[0], size[1]], seed);
        let slow = Slow::of(&x);
        let room = |axis: usize| (size[axis] + 2 * padding[axis]).checked_sub((window[axis] - 1) * dilation[axis] + 1);
        let result = x.unfold(window, &geometry, &cx);
        let (Some(high), Some(wide)) = (room(0), room(1)) else {
            prop_assert!(result.is_err());
            return Ok(());
        };
        let counts = [high / stride[0] + 1, wide / stride[1] + 1];
        let taps = (window[0] * window[1]) as usize;
        let source = |at: &[usize]| {
            let (tap, column) = ((at[1] % taps) as u64, at[2] as u64);
            let (tap, column) = ([tap / window[1], tap % window[1]], [column / counts[1], column % counts[1]]);
            let place = |axis: usize| (column[axis] * stride[axis] + tap[axis] * dilation[axis]) as i64 - padding[axis] as i64;
            [at[0] as i64, (at[1] / taps) as i64, place(0), place(1)]
        };
        let columns = [2, 2 * taps, (counts[0] * counts[1]) as usize];
        let result = result.unwrap();
        Slow::build(&columns, |at| inside(&slow, &source(at)).unwrap_or(0.0)).assert_close(&result, 0.0);
        let lengths = columns.map(|length| length as u64);
        let y = floats(&lengths, seed / 3);
        let slow_y = Slow::of(&y);
        let mut wanted = Slow::build(&slow.shape, |_| 0.0);
        for place in places(&lengths) {
            let at: Vec<usize> = place.iter().map(|at| *at as usize).collect();
            let target = source(&at);
            if inside(&wanted, &target).is_some() {
                let place = target.iter().zip(&slow.shape).fold(0, |place, (at, length)| place * length + *at as usize);
                wanted.values[place] += slow_y.at(&at);
            }
        }
        close(&wanted, &y.fold(size, window, &geometry, &cx).unwrap());
    }

    #[test]
    fn volumes_are_convolved(
        (size, window, stride) in (three(), three(), three()),
        (padding, dilation, extra) in ([0u64..3, 0u64..2, 0u64..3], three(), [0u64..3, 0u64..3, 0u64..3]),
        (groups, seed) in (1u64..3, any::<u64>()),
    ) {
        let cx = context();
        let geometry = VolumeGeometry { stride, padding, dilation, groups };
        let x = floats(&[2, 2 * groups, size[0], size[1], size[2]], seed);
        let w = floats(&[2 * groups, 2, window[0], window[1], window[2]], seed / 3);
        let (slow_x, slow_w) = (Slow::of(&x), Slow::of(&w));
        let span = |axis: usize| (window[axis] - 1) * dilation[axis] + 1;
        let counts: Option<Vec<usize>> = (0..3)
            .map(|axis| (size[axis] + 2 * padding[axis]).checked_sub(span(axis)).map(|left| (left / stride[axis] + 1) as usize))
            .collect();
        let result = x.conv3d(&w, None, &geometry, &cx);
        prop_assert_eq!(result.is_ok(), counts.is_some());
        let taps = places(&window);
        if let Some(counts) = counts {
            let shape = [2, 2 * groups as usize, counts[0], counts[1], counts[2]];
            let wanted = Slow::build(&shape, |at| {
                (0..2).flat_map(|channel| taps.iter().map(move |tap| (channel, tap))).map(|(channel, tap)| {
                    let place = |axis: usize| at[2 + axis] as i64 * stride[axis] as i64 + tap[axis] * dilation[axis] as i64 - padding[axis] as i64;
                    let from = [at[0] as i64, (at[1] / 2 * 2 + channel) as i64, place(0), place(1), place(2)];
                    let weight = [at[1], channel, tap[0] as usize, tap[1] as usize, tap[2] as usize];
                    inside(&slow_x, &from).unwrap_or(0.0) * slow_w.at(&weight)
                }).sum()
            });
            close(&wanted, &result.unwrap());
        }
        // The transpose: every element is spread over a window of the result.
        let extra: [u64; 3] = std::array::from_fn(|axis| extra[axis].min(stride[axis].max(dilation[axis]) - 1));
        let result = x.conv_transpose3d(&w, None, &geometry, extra, &cx);
        let lengths: Vec<i64> = (0..3)
            .map(|axis| ((size[axis] - 1) * stride[axis] + span(axis) + extra[axis]) as i64 - 2 * padding[axis] as i64)
            .collect();
        if lengths.iter().any(|length| *length <= 0) {
            prop_assert!(result.is_err());
            return Ok(());
        }
        let shape: Vec<usize> = [2, 2 * groups as usize].into_iter().chain(lengths.iter().map(|length| *length as usize)).collect();
        let mut wanted = Slow::build(&shape, |_| 0.0);
        for from in places(&x.shape()) {
            for (out, tap) in (0..2).flat_map(|out| taps.iter().map(move |tap| (out, tap))) {
                let place = |axis: usize| from[2 + axis] * stride[axis] as i64 + tap[axis] * dilation[axis] as i64 - padding[axis] as i64;
                let to = [from[0], from[1] / 2 * 2 + out, place(0), place(1), place(2)];
                if inside(&wanted, &to).is_some() {
                    let weight: Vec<usize> = [from[1], out, tap[0], tap[1], tap[2]].iter().map(|at| *at as usize).collect();
                    let place = to.iter().zip(&shape).fold(0, |place, (at, length)| place * length + *at as usize);
                    wanted.values[place] += inside(&slow_x, &from).unwrap() * slow_w.at(&weight);
                }
            }
        }
        close(&wanted, &result.unwrap());
    }

    #[test]
    fn pictures_are_filtered(
        (shape, window) in ([1u64..3, 1u64..3, 1u64..8, 1u64..8], [0u64..4, 0u64..4]),
        (border, seed, mask) in (0usize..4, any::<u64>(), any::<u16>()),
    ) {
        let cx = context();
        let x = floats(&shape, seed);
        let slow = Slow::of(&x);
        let border = [PadMode::Constant, PadMode::Reflect, PadMode::Replicate, PadMode::Circular][border];
        let odd = window.map(|radius| 2 * radius + 1);
        let around = places(&odd);
        let mirrored = |place: i64, length: i64| match border {
            PadMode::Reflect if place < 0 => -place,
            PadMode::Reflect if place >= length => 2 * (length - 1) - place,
            PadMode::Replicate => place.clamp(0, length - 1),
            PadMode::Circular => place.rem_euclid(length),
            _ => place,
        };
        let result = x.median_filter(odd, border, &cx);
        let room = |axis: usize| match border {
            PadMode::Reflect => window[axis] < shape[2 + axis],
            PadMode::Circular => window[axis] <= shape[2 + axis],
            _ => true,
        };
        prop_assert_eq!(result.is_ok(), room(0) && room(1));
        if let Ok(result) = result {
            let wanted = Slow::build(&slow.shape, |at| {
                let mut seen: Vec<f64> = around.iter().map(|step| {
                    let y = mirrored(at[2] as i64 + step[0] - window[0] as i64, shape[2] as i64);
                    let x = mirrored(at[3] as i64 + step[1] - window[1] as i64, shape[3] as i64);
                    inside(&slow, &[at[0] as i64, at[1] as i64, y, x]).unwrap_or(0.0)
                }).collect();
                seen.sort_by(f64::total_cmp);
                seen[seen.len() / 2]
            });
            wanted.assert_close(&result, 0.0);
        }
        let lengths = window.map(|length| length + 1);
        let mut seen: Vec<bool> = (0..lengths[0] * lengths[1]).map(|bit| mask >> bit & 1 == 1).collect();
        if mask % 5 == 0 {
            seen.fill(true);
        }
        let footprint = Tensor::from_vec(&lengths, seen.clone(), &cx).unwrap();
        let steps = places(&lengths);
        for op in [MorphologyOp::Erode, MorphologyOp::Dilate] {
            let result = x.morphology(op, &footprint, &cx);
            prop_assert_eq!(result.is_ok(), seen.contains(&true));
            let Ok(result) = result else { continue };
            let wanted = Slow::build(&slow.shape, |at| {
                let values = steps.iter().zip(&seen).filter(|(_, seen)| **seen).filter_map(|(step, _)| {
                    let y = at[2] as i64 + step[0] - (lengths[0] / 2) as i64;
                    let x = at[3] as i64 + step[1] - (lengths[1] / 2) as i64;
                    inside(&slow, &[at[0] as i64, at[1] as i64, y, x])
                });
                match op {
                    MorphologyOp::Erode => values.fold(f64::INFINITY, f64::min),
                    MorphologyOp::Dilate => values.fold(f64::NEG_INFINITY, f64::max),
                }
            });
            // There is no infinity in e4m3.
            if result.dtype() != DType::Float8E4m3 {
                wanted.assert_close(&result, 0.0);
            }
        }
        let wanted = Slow::build(&slow.shape, |at| {
            places(&shape[2..]).iter().filter_map(|zero| {
                let value = slow.at(&[at[0], at[1], zero[0] as usize, zero[1] as usize]);
                (value == 0.0).then(|| ((zero[0] - at[2] as i64).pow(2) + (zero[1] - at[3] as i64).pow(2)) as f64)
            }).fold(f64::INFINITY, f64::min).sqrt()
        });
        wanted.assert_close(&x.distance_transform(&cx).unwrap(), 1e-6);
    }

    #[test]
    fn places_between_pixels_are_found(
        (shape, size) in ([1u64..3, 1u64..4, 1u64..6, 1u64..6], [1u64..5, 1u64..5]),
        (seed, corners) in (any::<u64>(), any::<bool>()),
    ) {
        let cx = context();
        let (x, theta) = (floats(&shape, seed), floats(&[shape[0], 2, 3], seed / 3));
        let (slow, slow_theta) = (Slow::of(&x), Slow::of(&theta));
        let grid = theta.affine_grid(size[0], size[1], corners, &cx).unwrap();
        let base = |at: usize, length: u64| match (corners, length) {
            (true, 1) => 0.0,
            (true, length) => 2.0 * at as f64 / (length - 1) as f64 - 1.0,
            (false, length) => (2 * at + 1) as f64 / length as f64 - 1.0,
        };
        let wanted = Slow::build(&[shape[0] as usize, size[0] as usize, size[1] as usize, 2], |at| {
            let row = |column: usize| slow_theta.at(&[at[0], at[3], column]);
            row(0) * base(at[2], size[1]) + row(1) * base(at[1], size[0]) + row(2)
        });
        close(&wanted, &grid);
        let slow_grid = Slow::of(&grid);
        let seen = x.grid_sample(&grid, SampleMode::Bilinear, SampleBorder::Zeros, corners, &cx).unwrap();
        let pixel = |place: f64, length: u64| match corners {
            true => (place + 1.0) / 2.0 * (length - 1) as f64,
            false => ((place + 1.0) * length as f64 - 1.0) / 2.0,
        };
        let wanted = Slow::build(&[shape[0] as usize, shape[1] as usize, size[0] as usize, size[1] as usize], |at| {
            let place = |axis: usize| slow_grid.at(&[at[0], at[2], at[3], axis]);
            let (px, py) = (pixel(place(0), shape[3]), pixel(place(1), shape[2]));
            places(&shape[2..]).iter().map(|pixel| {
                let part = |at: f64, pixel: i64| (1.0 - (at - pixel as f64).abs()).max(0.0);
                let value = slow.at(&[at[0], at[1], pixel[0] as usize, pixel[1] as usize]);
                value * part(py, pixel[0]) * part(px, pixel[1])
            }).sum()
        });
        wanted.assert_close(&seen, tolerance(seen.dtype()).max(1e-3));
    }

    #[test]
    fn rows_are_turned_counted_and_transformed(
        (outer, half, bins) in (prop::collection::vec(1u64..4, 0..3), 1u64..5, 1u64..9),
        (seed, flag) in (any::<u64>(), any::<bool>()),
    ) {
        let cx = context();
        let with = |length: u64| outer.iter().copied().chain([length]).collect::<Vec<u64>>();
        let (x, cos, sin) = (floats(&with(2 * half), seed), floats(&[half], seed / 3), floats(&[half], seed / 5));
        let (slow, slow_cos, slow_sin) = (Slow::of(&x), Slow::of(&cos), Slow::of(&sin));
        let (last, half) = (outer.len(), half as usize);
        let wanted = Slow::build(&slow.shape, |at| {
            let (pair, second) = if flag { (at[last] / 2, at[last] % 2) } else { (at[last] % half, at[last] / half) };
            let part = |second: usize| {
                let mut index = at.to_vec();
                index[last] = if flag { 2 * pair + second } else { second * half + pair };
                slow.at(&index)
            };
            let (a, b, cos, sin) = (part(0), part(1), slow_cos.values[pair], slow_sin.values[pair]);
            if second == 0 { a * cos - b * sin } else { b * cos + a * sin }
        });
        close(&wanted, &x.rope(&cos, &sin, flag, &cx).unwrap());

        let mut shape = slow.shape.clone();
        shape[last] = bins as usize;
        let row = |at: &[usize]| (0..2 * half).map(|place| { let mut at = at.to_vec(); at[last] = place; slow.at(&at) }).collect::<Vec<_>>();
        let wanted = Slow::build(&shape, |at| {
            let (low, high) = (-1.0, 1.5);
            let part = |value: f64| (((value - low) / (high - low) * bins as f64) as usize).min(bins as usize - 1);
            row(at).into_iter().filter(|value| (low..=high).contains(value) && part(*value) == at[last]).count() as f64
        });
        wanted.assert_close(&x.histogram(bins, -1.0, 1.5, &cx).unwrap(), 0.0);

        let complex = floats(&with(2), seed / 7);
        let slow = Slow::of(&complex);
        for dim in 0..last {
            let length = slow.shape[dim];
            let wanted = Slow::build(&slow.shape, |at| {
                (0..length).map(|place| {
                    let part = |part: usize| { let mut index = at.to_vec(); (index[dim], index[last]) = (place, part); slow.at(&index) };
                    let turn = std::f64::consts::TAU * (at[dim] * place) as f64 / length as f64 * if flag { 1.0 } else { -1.0 };
                    let value = if at[last] == 0 { part(0) * turn.cos() - part(1) * turn.sin() } else { part(0) * turn.sin() + part(1) * turn.cos() };
                    if flag { value / length as f64 } else { value }
                }).sum()
            });
            close(&wanted, &complex.fft(&[dim as i32], flag, &cx).unwrap());
        }
    }

    #[test]
    fn elements_are_arranged((a, slow) in tensors(), (dim, times) in (0usize..8, 1u64..4), seed in any::<u64>()) {
        let cx = context();
        if slow.shape.is_empty() {
            return Ok(());
        }
        let dim = dim % slow.shape.len();
        let at = dim as i32;
        let longer = |length: usize| { let mut shape = slow.shape.clone(); shape[dim] = length; shape };
        let wanted = Slow::build(&longer(slow.shape[dim] * times as usize), |index| {
            let mut index = index.to_vec();
            index[dim] /= times as usize;
            slow.at(&index)
        });
        wanted.assert_close(&a.repeat_interleave(times, at, &cx).unwrap(), 0.0);
        let mut shape = slow.shape.clone();
        shape.insert(dim, 2);
        let flipped = a.flip(&[at], &cx).unwrap();
        let slow_flipped = Slow::of(&flipped);
        let wanted = Slow::build(&shape, |index| {
            let mut rest = index.to_vec();
            if rest.remove(dim) == 0 { slow.at(&rest) } else { slow_flipped.at(&rest) }
        });
        let stacked = Tensor::stack(&[&a, &flipped], at, &cx).unwrap();
        wanted.assert_close(&stacked, 0.0);
        let parts = stacked.split(&[1, 1], at, &cx).unwrap();
        slow.assert_close(&parts[0].squeeze(at, &cx).unwrap(), 0.0);
        let mask = random(&a.shape(), DType::Boolean, seed);
        let slow_mask = Slow::of(&mask);
        let wanted = Slow::build(&slow.shape, |index| if slow_mask.at(index) != 0.0 { 1.0 } else { slow.at(index) });
        wanted.assert_close(&a.masked_fill(&mask, 1.0, &cx).unwrap(), 0.0);
    }
}

/// Colours of all float types come back.
/// Neighbours in memory are gathered several at a time, and not always as many as that: the same numbers, bit for bit.
#[test]
fn lines_of_neighbours_are_transformed_like_others() {
    let cx = context();
    let x = random(&[3, 50, 70, 2], DType::Float32, 7);
    for (x, dim) in [(x.slice(1, 2, 47, 1, &cx), 1), (x.slice(2, 1, i64::MAX, 1, &cx), 1), (x.flip(&[2], &cx), 0)] {
        let (x, mut order) = (x.unwrap(), [0, 1, 2, 3]);
        order.swap(dim, 2);
        let alone = x.permute(&order, &cx).unwrap().contiguous(&cx).unwrap().fft(&[2], false, &cx).unwrap();
        let wanted: Vec<f32> = alone.permute(&order, &cx).unwrap().to_vec(&cx).unwrap();
        assert_eq!(x.fft(&[dim as i32], false, &cx).unwrap().to_vec::<f32>(&cx).unwrap(), wanted);
    }
}

#[test]
fn colors_come_back() {
    let cx = context();
    let rgb = Tensor::rand(&[40, 3], 3, vivarium_tensor::Generator::Philox, &cx).unwrap();
    let wanted = Slow::of(&rgb);
    wanted.assert_close(&rgb.rgb_to_lab(&cx).unwrap().lab_to_rgb(&cx).unwrap(), 1e-4);
    wanted.assert_close(&rgb.rgb_to_ycbcr(&cx).unwrap().ycbcr_to_rgb(&cx).unwrap(), 1e-5);
    wanted.assert_close(&rgb.rgb_to_hsv(&cx).unwrap().hsv_to_rgb(&cx).unwrap(), 1e-5);
}

#[test]
fn weights_of_8_bits_are_as_good_as_their_numbers() {
    let cx = context();
    for dtype in [DType::Float8E4m3, DType::Float8E5m2] {
        let x = random(&[2, 4, 6, 6], DType::Float32, 1);
        let w = random(&[4, 4, 3, 3], dtype, 2);
        let wide = w.cast(DType::Float32, &cx).unwrap();
        let answers = [&w, &wide].map(|w| x.conv2d(w, None, &ConvGeometry::default(), &cx).unwrap());
        Slow::of(&answers[1]).assert_close(&answers[0], 1e-6);
        let flat = [&w, &wide].map(|w| w.reshape(&[4, 36], &cx).unwrap());
        let rows = random(&[5, 36], DType::Float16, 3);
        let answers = flat.map(|w| rows.linear(&w, None, &cx).unwrap());
        assert_eq!((answers[0].dtype(), answers[1].dtype()), (DType::Float16, DType::Float32));
        Slow::of(&answers[1]).assert_close(&answers[0], 2e-3);
    }
}

type Work<'a> = &'a dyn Fn(&OpContext) -> Result<Tensor, TensorError>;

#[test]
fn wrong_arguments_are_refused_before_memory_is_taken() {
    let (cx, budget) = budgeted(1 << 50);
    let line = Tensor::zeros(&[1], DType::Float32, &cx).unwrap();
    let view = |shape: &[i64]| line.expand(shape, &cx).unwrap();
    let (image, volume) = (view(&[1, 3, 8, 8]), view(&[1, 2, 4, 4, 4]));
    let kernel = view(&[2, 2, 3, 3, 3]);
    let truth = line.cast(DType::Boolean, &cx).unwrap();
    let (none, some) = (truth.expand(&[3, 3], &cx).unwrap(), view(&[3, 3]));
    let whole = line.cast(DType::Int64, &cx).unwrap().expand(&[2, 2], &cx).unwrap();
    let plain = ConvGeometry::default();
    let volumes = VolumeGeometry::default();
    let invalid: [Work<'_>; 29] = [
        &|cx| image.unfold([0, 1], &plain, cx),
        &|cx| image.unfold([9, 1], &plain, cx),
        &|cx| image.unfold([1, u64::MAX], &plain, cx),
        &|cx| image.unfold([1, 1], &ConvGeometry { stride: [0, 1], ..plain }, cx),
        &|cx| image.unfold([1, 1], &ConvGeometry { groups: 3, ..plain }, cx),
        &|cx| view(&[1, 5, 4]).fold([3, 3], [2, 2], &plain, cx),
        &|cx| view(&[1, 4, 5]).fold([3, 3], [2, 2], &plain, cx),
        &|cx| image.adaptive_avg_pool2d(0, 3, cx),
        &|cx| volume.conv3d(&view(&[2, 3, 3, 3, 3]), None, &volumes, cx),
        &|cx| volume.conv3d(&view(&[2, 2, 5, 3, 3]), None, &volumes, cx),
        &|cx| volume.conv3d(&kernel, Some(&view(&[3])), &volumes, cx),
        &|cx| volume.conv3d(&kernel, None, &VolumeGeometry { dilation: [u64::MAX, 1, 1], ..volumes }, cx),
        &|cx| volume.conv3d(&kernel, None, &VolumeGeometry { groups: 0, ..volumes }, cx),
        &|cx| volume.conv_transpose3d(&kernel, None, &volumes, [1, 0, 0], cx),
        &|cx| volume.conv_transpose3d(&kernel, None, &VolumeGeometry { padding: [0, 0, 9], ..volumes }, [0; 3], cx),
        &|cx| view(&[1, 2, 4]).conv_transpose1d(&view(&[3, 1, 2]), None, &plain, 0, cx),
        &|cx| image.grid_sample(&view(&[2, 3, 3, 2]), SampleMode::Nearest, SampleBorder::Zeros, true, cx),
        &|cx| image.grid_sample(&view(&[1, 3, 3, 3]), SampleMode::Nearest, SampleBorder::Zeros, true, cx),
        &|cx| view(&[1, 3, 2]).affine_grid(2, 2, true, cx),
        &|cx| view(&[2, 3]).rope(&line, &line, true, cx),
        &|cx| view(&[2, 4]).rope(&view(&[3, 2]), &line, true, cx),
        &|cx| image.morphology(MorphologyOp::Erode, &some, cx),
        &|cx| image.median_filter([2, 3], PadMode::Constant, cx),
        &|cx| image.median_filter([17, 3], PadMode::Reflect, cx),
        &|cx| image.canny(0.3, 0.1, cx),
        &|cx| view(&[1, 2, 8, 8]).canny(0.1, 0.3, cx),
        &|cx| line.histogram(3, f64::NAN, 1.0, cx),
        &|cx| view(&[4, 2]).fft(&[-1], false, cx),
        &|cx| whole.fft(&[0], false, cx),
    ];
    let before = budget.peak();
    for (number, work) in invalid.iter().enumerate() {
        let refused = work(&cx).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{number}: {refused}");
    }
    let huge = view(&[1, 1 << 10, 1 << 8, 1 << 12, 1 << 12]);
    let wide = view(&[1, 1, 1 << 23, 1 << 23]);
    let endless: [Work<'_>; 9] = [
        &|cx| huge.conv3d(&view(&[1 << 10, 1 << 10, 3, 3, 3]), None, &volumes, cx),
        &|cx| huge.conv_transpose3d(&view(&[1 << 10, 1 << 10, 3, 3, 3]), None, &volumes, [0; 3], cx),
        &|cx| wide.unfold([1 << 11, 1 << 11], &plain, cx),
        &|cx| wide.median_filter([255, 255], PadMode::Constant, cx),
        &|cx| wide.morphology(MorphologyOp::Dilate, &truth.expand(&[1 << 10, 1 << 10], cx).unwrap(), cx),
        &|cx| wide.distance_transform(cx),
        &|cx| wide.canny(0.1, 0.2, cx),
        &|cx| view(&[1, 2, 3]).affine_grid(1 << 40, 1 << 40, false, cx),
        &|cx| view(&[1 << 30, 2]).fft(&[0], false, cx),
    ];
    for (number, work) in endless.iter().enumerate() {
        let refused = work(&cx).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{number}: {refused}");
    }
    assert_eq!(budget.peak(), before);
    assert!(
        image
            .morphology(MorphologyOp::Erode, &none, &cx)
            .unwrap_err()
            .to_string()
            .contains("has no element that is true")
    );
    let short = Tensor::from_blocks(&[2, 32], BlockFormat::Q8_0, &[0; 67], &cx).unwrap_err();
    assert!(short.to_string().contains("from-blocks: data has 67 bytes, but shape [2, 32] in blocks of 32"), "{short}");
    assert!(Tensor::from_blocks(&[u64::MAX, 32], BlockFormat::Q8_0, &[], &cx).is_err());
}

fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..5, Just(u64::MAX), Just(1 << 32), Just(1 << 47), Just(1 << 63), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_nothing_leaks(
        shapes in prop::collection::vec(prop::collection::vec(0u64..4, 0..6), 3),
        views in prop::collection::vec(views(), 3),
        dtypes in prop::collection::vec(0usize..9, 3),
        n in prop::collection::vec(wild(), 10),
        dims in prop::collection::vec(-5i32..5, 0..3),
        number in prop_oneof![any::<f64>(), Just(f64::INFINITY), Just(f64::NAN)],
        (flag, form) in (any::<bool>(), 0usize..4),
    ) {
        let (cx, budget) = budgeted(1 << 22);
        {
            let cx = &cx;
            let make = |at: usize| look(&random(&shapes[at], DType::ALL[dtypes[at]], n[0] ^ at as u64), &views[at]).0;
            let (a, b, c) = (make(0), make(1), make(2));
            let plane = ConvGeometry { stride: [n[0], n[1]], padding: [n[2], n[3]], dilation: [n[4], n[5]], groups: n[6] };
            let volume = VolumeGeometry { stride: [n[0], n[1], n[2]], padding: [n[3], n[4], n[5]], dilation: [n[6], n[7], 1], groups: n[8] };
            let mode = [SampleMode::Nearest, SampleMode::Bilinear, SampleMode::Bicubic][form % 3];
            let border = [SampleBorder::Zeros, SampleBorder::Border, SampleBorder::Reflection][n[0] as usize % 3];
            let pad = [PadMode::Constant, PadMode::Reflect, PadMode::Replicate, PadMode::Circular][form];
            let some = flag.then_some(&c);
            let _ = a.unfold([n[7], n[8]], &plane, cx);
            let _ = a.unfold([n[7], n[8]], &ConvGeometry::default(), cx);
            let _ = a.fold([n[7], n[8]], [n[8], n[9]], &plane, cx);
            let _ = a.fold([n[6], n[7]], [1, 1], &ConvGeometry::default(), cx);
            let _ = a.adaptive_avg_pool2d(n[0], n[1], cx);
            let _ = a.conv3d(&b, some, &volume, cx);
            let _ = a.conv3d(&b, some, &VolumeGeometry::default(), cx);
            let _ = a.conv_transpose3d(&b, some, &volume, [n[7], n[8], n[9]], cx);
            let _ = a.conv_transpose3d(&b, some, &VolumeGeometry { padding: [n[3], 0, 0], ..Default::default() }, [0; 3], cx);
            let _ = a.conv_transpose1d(&b, some, &plane, n[7], cx);
            let _ = a.grid_sample(&b, mode, border, flag, cx);
            let _ = a.affine_grid(n[0], n[1], flag, cx);
            let _ = a.rope(&b, &c, flag, cx);
            let _ = a.morphology(MorphologyOp::Erode, &b, cx);
            let _ = a.median_filter([n[0] | 1, n[1] | 1], pad, cx);
            let _ = a.distance_transform(cx);
            let _ = a.canny(number, 1.0, cx);
            let _ = a.histogram(n[0], number, 2.0, cx);
            let _ = a.fft(&dims, flag, cx);
            let _ = a.rgb_to_lab(cx).and_then(|lab| lab.lab_to_rgb(cx));
            let _ = a.rgb_to_ycbcr(cx).and_then(|lab| lab.ycbcr_to_rgb(cx));
            let _ = Tensor::from_blocks(&n[..2], BlockFormat::Q4K, &[0; 144], cx);
            let places = [number as f32, f32::NAN, f32::INFINITY, -3e38, 0.5, 1.0, -1.0, 3.4e38];
            let grid = Tensor::from_vec(&[1, 2, 2, 2], places.to_vec(), cx).unwrap();
            let picture = Tensor::full(&[1, 2, 3, 1], 1.0, DType::Float32, cx).unwrap();
            let _ = picture.grid_sample(&grid, mode, border, flag, cx).unwrap();
        }
        prop_assert_eq!(budget.used(), 0);
    }
}
