//! Every operation against a slow one, over random shapes, types and strides.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use vivarium_tensor::{BinaryOp, DType, Operand, PadMode, ReduceOp, Tensor, UnaryOp};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn views_and_reads_agree((tensor, slow) in tensors()) {
        let cx = context();
        slow.assert_close(&tensor, 0.0);
        slow.assert_close(&tensor.contiguous(&cx).unwrap(), 0.0);
        let total = tensor.elements() as u64;
        let (from, to) = (total / 3, total - total / 4);
        let bytes = tensor.read(from, to - from, &cx).unwrap();
        let all = tensor.read(0, total, &cx).unwrap();
        let size = tensor.dtype().size();
        prop_assert_eq!(&bytes[..], &all[from as usize * size..to as usize * size]);
    }

    #[test]
    fn reshape_keeps_row_major_order((tensor, slow) in tensors(), split in 1usize..4) {
        let cx = context();
        let flat = tensor.reshape(&[-1], &cx);
        if tensor.elements() == 0 {
            return Ok(());
        }
        Slow { shape: vec![slow.values.len()], values: slow.values.clone() }.assert_close(&flat.unwrap(), 0.0);
        if slow.values.len() % split == 0 {
            let shape = vec![split, 1, slow.values.len() / split];
            let wanted: Vec<i64> = shape.iter().map(|length| *length as i64).collect();
            Slow { shape, values: slow.values }.assert_close(&tensor.reshape(&wanted, &cx).unwrap(), 0.0);
        }
    }

    #[test]
    fn casts_convert_every_value((tensor, slow) in tensors(), to in 0usize..7) {
        let cx = context();
        let to = DType::ALL[to];
        let from_float = tensor.dtype().is_float();
        let convert = |value: f64| match to {
            DType::Boolean => f64::from(u8::from(value != 0.0)),
            DType::Uint8 if from_float => value.trunc().clamp(0.0, 255.0),
            DType::Uint8 => (value as i64 as u8).into(),
            DType::Int32 | DType::Int64 => value.trunc(),
            _ => value,
        };
        let wanted = Slow::build(&slow.shape, |index| convert(slow.at(index)));
        wanted.assert_close(&tensor.cast(to, &cx).unwrap(), 0.0);
    }

    #[test]
    fn binary_operations_broadcast((a, slow_a) in float_tensors(), (b, slow_b) in float_tensors(), op in 0usize..19) {
        let cx = context();
        let op = ALL_BINARY[op];
        let Some(shape) = broadcast(&slow_a.shape, &slow_b.shape) else {
            prop_assert!(a.binary(op, Operand::Tensor(&b), &cx).is_err());
            return Ok(());
        };
        let wanted = Slow::build(&shape, |index| binary(op, stretched(&slow_a, index), stretched(&slow_b, index)));
        wanted.assert_close(&a.binary(op, Operand::Tensor(&b), &cx).unwrap(), 1e-5);
    }

    #[test]
    fn scalars_stand_on_either_side((a, slow) in tensors(), op in 0usize..19, scalar in -3i32..4) {
        let cx = context();
        let op = ALL_BINARY[op];
        let scalar = f64::from(scalar);
        let dtype = a.dtype();
        if !dtype.is_float() && (scalar <= 0.0 || matches!(op, BinaryOp::Pow) || dtype == DType::Uint8) {
            return Ok(());
        }
        let tolerance = if dtype.size() == 2 { 1e-2 } else { 1e-5 };
        let div = |x: f64, y: f64| binary(op, x, y);
        let wanted = Slow::build(&slow.shape, |index| div(slow.at(index), scalar));
        // Half precision overflows where the reference does not.
        if wanted.values.iter().all(|value| value.abs() < 60000.0) {
            wanted.assert_close(&a.binary(op, Operand::Scalar(scalar), &cx).unwrap(), tolerance);
        }
        let wanted = Slow::build(&slow.shape, |index| div(scalar, slow.at(index)));
        let by_zero = !dtype.is_float() && slow.values.contains(&0.0);
        if wanted.values.iter().all(|value| value.abs() < 60000.0) && !by_zero {
            wanted.assert_close(&a.binary_from(op, scalar, &cx).unwrap(), tolerance);
        }
    }

    #[test]
    fn unary_operations_agree((a, slow) in float_tensors(), op in 0usize..22) {
        let cx = context();
        let op = ALL_UNARY[op];
        let wanted = Slow::build(&slow.shape, |index| unary(op, slow.at(index)));
        wanted.assert_close(&a.unary(op, &cx).unwrap(), 1e-5);
    }

    #[test]
    fn clamp_lerp_and_where_agree((a, slow) in float_tensors(), seed in any::<u64>()) {
        let cx = context();
        let wanted = Slow::build(&slow.shape, |index| slow.at(index).clamp(-1.5, 3.0));
        wanted.assert_close(&a.clamp(Some(-1.5), Some(3.0), &cx).unwrap(), 0.0);
        let end = random(&a.shape(), DType::Float32, seed);
        let slow_end = Slow::of(&end);
        let wanted = Slow::build(&slow.shape, |index| slow.at(index) + 0.3 * (slow_end.at(index) - slow.at(index)));
        wanted.assert_close(&a.lerp(&end, Operand::Scalar(0.3), &cx).unwrap(), 1e-5);
        let condition = end.binary(BinaryOp::Gt, Operand::Scalar(0.0), &cx).unwrap();
        let wanted = Slow::build(&slow.shape, |index| if slow_end.at(index) > 0.0 { slow.at(index) } else { slow_end.at(index) });
        wanted.assert_close(&a.where_(&condition, Operand::Tensor(&end), &cx).unwrap(), 0.0);
    }

    #[test]
    fn reductions_agree((a, slow) in tensors(), op in 0usize..7, picked in 0usize..16, keep in any::<bool>()) {
        let cx = context();
        let op = [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Prod, ReduceOp::Amin, ReduceOp::Amax, ReduceOp::Any, ReduceOp::All][op];
        let rank = slow.shape.len();
        let dims: Vec<usize> = (0..rank).filter(|dim| picked >> dim & 1 == 1).collect();
        let over = if dims.is_empty() { (0..rank).collect() } else { dims.clone() };
        let result = a.reduce(op, &dims.iter().map(|dim| *dim as i32).collect::<Vec<_>>(), keep, &cx);
        let empty = over.iter().any(|dim| slow.shape[*dim] == 0);
        if (op == ReduceOp::Mean && !a.dtype().is_float()) || (empty && matches!(op, ReduceOp::Amin | ReduceOp::Amax)) {
            prop_assert!(result.is_err());
            return Ok(());
        }
        let mut shape = slow.shape.clone();
        over.iter().for_each(|dim| shape[*dim] = 1);
        let inner: Vec<usize> = over.iter().map(|dim| slow.shape[*dim]).collect();
        // What a product can grow to on the way, in whatever order it is made.
        let mut largest = 0.0f64;
        let mut wanted = Slow::build(&shape, |index| {
            let values = Slow::build(&inner, |part| {
                let mut source = index.to_vec();
                over.iter().zip(part).for_each(|(dim, place)| source[*dim] = *place);
                slow.at(&source)
            });
            largest = largest.max(values.values.iter().map(|value| value.abs().max(1.0)).product());
            reduce(op, &values.values)
        });
        if !keep {
            wanted.shape = (0..rank).filter(|dim| !over.contains(dim)).map(|dim| shape[dim]).collect();
        }
        let exact = matches!(op, ReduceOp::Any | ReduceOp::All | ReduceOp::Amin | ReduceOp::Amax);
        let tolerance = if exact { 0.0 } else if a.dtype().size() == 2 { 1e-2 } else { 1e-5 };
        let bounded = wanted.values.iter().all(|value| value.abs() < 60000.0);
        if exact || bounded && (op != ReduceOp::Prod || largest < 60000.0) {
            wanted.assert_close(&result.unwrap(), tolerance);
        }
    }

    #[test]
    fn cat_joins((a, slow) in tensors(), dim in 0usize..4, more in 1u64..4, seed in any::<u64>()) {
        let cx = context();
        if slow.shape.is_empty() {
            prop_assert!(Tensor::cat(&[&a], 0, &cx).is_err());
            return Ok(());
        }
        let dim = dim % slow.shape.len();
        let mut shape = a.shape();
        shape[dim] = more;
        let b = random(&shape, a.dtype(), seed);
        let slow_b = Slow::of(&b);
        let mut shape = slow.shape.clone();
        shape[dim] = 2 * shape[dim] + more as usize;
        let wanted = Slow::build(&shape, |index| {
            let mut index = index.to_vec();
            if index[dim] < slow.shape[dim] {
                return slow.at(&index);
            }
            index[dim] -= slow.shape[dim];
            if index[dim] < more as usize {
                return slow_b.at(&index);
            }
            index[dim] -= more as usize;
            slow.at(&index)
        });
        wanted.assert_close(&Tensor::cat(&[&a, &b, &a], dim as i32 - slow.shape.len() as i32, &cx).unwrap(), 0.0);
    }

    #[test]
    fn repeat_repeats((a, slow) in tensors(), mut counts in prop::collection::vec(0u64..3, 0..6)) {
        let cx = context();
        while counts.len() < slow.shape.len() {
            counts.insert(0, 1);
        }
        let added = counts.len() - slow.shape.len();
        let shape: Vec<usize> = (0..counts.len())
            .map(|dim| counts[dim] as usize * dim.checked_sub(added).map_or(1, |dim| slow.shape[dim]))
            .collect();
        let wanted = Slow::build(&shape, |index| {
            let source: Vec<usize> = slow.shape.iter().enumerate().map(|(dim, length)| index[dim + added] % length).collect();
            slow.at(&source)
        });
        wanted.assert_close(&a.repeat(&counts, &cx).unwrap(), 0.0);
    }

    #[test]
    fn paste_overwrites((a, slow) in tensors(), places in prop::collection::vec((0u64..5, 0u64..5), 8), seed in any::<u64>()) {
        let cx = context();
        let rank = slow.shape.len();
        let offsets: Vec<u64> = (0..rank).map(|dim| places[dim].0.min(slow.shape[dim] as u64)).collect();
        let lengths: Vec<u64> = (0..rank).map(|dim| places[dim].1.min(slow.shape[dim] as u64 - offsets[dim])).collect();
        let source = random(&lengths, a.dtype(), seed);
        let slow_source = Slow::of(&source);
        let wanted = Slow::build(&slow.shape, |index| {
            let inside: Option<Vec<usize>> = (0..rank)
                .map(|dim| index[dim].checked_sub(offsets[dim] as usize).filter(|place| *place < lengths[dim] as usize))
                .collect();
            inside.map_or(slow.at(index), |inside| slow_source.at(&inside))
        });
        wanted.assert_close(&a.paste(&source, &offsets, &cx).unwrap(), 0.0);
    }

    #[test]
    fn pad_grows((a, slow) in tensors(), amounts in prop::collection::vec((0u64..4, 0u64..4), 4), mode in 0usize..4) {
        let cx = context();
        let mode = ALL_BORDERS[mode];
        let rank = slow.shape.len();
        let amount = |dim: usize| amounts.get(dim).copied().unwrap_or_default();
        let before: Vec<u64> = (0..rank).map(|dim| amount(dim).0).collect();
        let after: Vec<u64> = (0..rank).map(|dim| amount(dim).1).collect();
        let most = |length: usize| match mode {
            PadMode::Constant => usize::MAX,
            PadMode::Reflect => length.saturating_sub(1),
            PadMode::Replicate => if length == 0 { 0 } else { usize::MAX },
            PadMode::Circular => length,
        };
        let result = a.pad(&before, &after, mode, 7.0, &cx);
        if (0..rank).any(|dim| before[dim].max(after[dim]) as usize > most(slow.shape[dim])) {
            prop_assert!(result.is_err());
            return Ok(());
        }
        let seven = if a.dtype() == DType::Boolean { 1.0 } else { 7.0 };
        let shape: Vec<usize> = (0..rank).map(|dim| slow.shape[dim] + (before[dim] + after[dim]) as usize).collect();
        let wanted = Slow::build(&shape, |index| {
            let source: Option<Vec<usize>> = (0..rank)
                .map(|dim| bordered(mode, index[dim] as i64 - before[dim] as i64, slow.shape[dim] as i64))
                .collect();
            source.map_or(seven, |source| slow.at(&source))
        });
        wanted.assert_close(&result.unwrap(), 0.0);
    }
}

fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], dim: usize| (dim + shape.len()).checked_sub(rank).map_or(1, |dim| shape[dim]);
    (0..rank)
        .map(|dim| match (at(a, dim), at(b, dim)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

fn stretched(slow: &Slow, index: &[usize]) -> f64 {
    let skipped = index.len() - slow.shape.len();
    let own: Vec<usize> = slow
        .shape
        .iter()
        .enumerate()
        .map(|(dim, length)| if *length == 1 { 0 } else { index[dim + skipped] })
        .collect();
    slow.at(&own)
}

const ALL_BINARY: [BinaryOp; 19] = {
    use BinaryOp::*;
    [
        Add, Sub, Mul, Div, Pow, Fmod, Remainder, Minimum, Maximum, Atan2, Eq, Ne, Lt, Le, Gt, Ge, LogicalAnd,
        LogicalOr, LogicalXor,
    ]
};

const ALL_UNARY: [UnaryOp; 22] = {
    use UnaryOp::*;
    [
        Abs, Neg, Sign, Exp, Log, Sqrt, Rsqrt, Reciprocal, Square, Sin, Cos, Tan, Tanh, Sigmoid, Silu, Relu, Gelu,
        Floor, Ceil, Round, Trunc, LogicalNot,
    ]
};

fn binary(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |value: bool| f64::from(u8::from(value));
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Fmod => a % b,
        BinaryOp::Remainder => a - b * (a / b).floor(),
        BinaryOp::Minimum => a.min(b),
        BinaryOp::Maximum => a.max(b),
        BinaryOp::Atan2 => a.atan2(b),
        BinaryOp::Eq => truth(a == b),
        BinaryOp::Ne => truth(a != b),
        BinaryOp::Lt => truth(a < b),
        BinaryOp::Le => truth(a <= b),
        BinaryOp::Gt => truth(a > b),
        BinaryOp::Ge => truth(a >= b),
        BinaryOp::LogicalAnd => truth(a != 0.0 && b != 0.0),
        BinaryOp::LogicalOr => truth(a != 0.0 || b != 0.0),
        BinaryOp::LogicalXor => truth((a != 0.0) != (b != 0.0)),
    }
}

fn unary(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Abs => x.abs(),
        UnaryOp::Neg => -x,
        UnaryOp::Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Reciprocal => 1.0 / x,
        UnaryOp::Square => x * x,
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Silu => x / (1.0 + (-x).exp()),
        UnaryOp::Relu => x.max(0.0),
        UnaryOp::Gelu => x * normal(x),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Trunc => x.trunc(),
        UnaryOp::LogicalNot => f64::from(u8::from(x == 0.0)),
    }
}

/// The normal distribution function by numeric integration (Simpson's rule).
fn normal(x: f64) -> f64 {
    let steps = 2000;
    let width = x / f64::from(steps);
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let sum: f64 = (0..steps)
        .map(|step| {
            let from = width * f64::from(step);
            density(from) + 4.0 * density(from + 0.5 * width) + density(from + width)
        })
        .sum();
    0.5 + sum * width / 6.0
}

fn reduce(op: ReduceOp, values: &[f64]) -> f64 {
    match op {
        ReduceOp::Sum => values.iter().sum(),
        ReduceOp::Mean => values.iter().sum::<f64>() / values.len() as f64,
        ReduceOp::Prod => values.iter().product(),
        ReduceOp::Amin => values.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceOp::Amax => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceOp::Any => f64::from(u8::from(values.iter().any(|value| *value != 0.0))),
        ReduceOp::All => f64::from(u8::from(values.iter().all(|value| *value != 0.0))),
    }
}

/// Tensors that are worked on in several pieces, whose borders fall anywhere.
#[test]
fn pieces_fit_together() {
    let cx = context();
    for channels_last in [false, true] {
        let a = image(&[2, 3, 157, 211], 5, channels_last);
        let slow = Slow::of(&a);
        let shape = slow.shape.clone();
        slow.assert_close(&a.contiguous(&cx).unwrap(), 0.0);
        let flipped = a.flip(&[1, 3], &cx).unwrap();
        let wanted = Slow::build(&shape, |i| slow.at(&[i[0], 2 - i[1], i[2], 210 - i[3]]));
        wanted.assert_close(&flipped.contiguous(&cx).unwrap(), 0.0);

        let mask = random(&[2, 1, 157, 211], DType::Float32, 6);
        let slow_mask = Slow::of(&mask);
        let wanted = Slow::build(&shape, |i| slow.at(i) * slow_mask.at(&[i[0], 0, i[2], i[3]]));
        wanted.assert_close(&a.binary(BinaryOp::Mul, Operand::Tensor(&mask), &cx).unwrap(), 1e-6);

        let joined = Tensor::cat(&[&a, &mask, &flipped], 1, &cx).unwrap();
        let slow_flipped = Slow::of(&flipped);
        let wanted = Slow::build(&[2, 7, 157, 211], |i| match i[1] {
            0..3 => slow.at(i),
            3 => slow_mask.at(&[i[0], 0, i[2], i[3]]),
            channel => slow_flipped.at(&[i[0], channel - 4, i[2], i[3]]),
        });
        wanted.assert_close(&joined, 0.0);

        let padded = a.pad(&[0, 0, 9, 5], &[0, 1, 3, 7], PadMode::Replicate, 0.0, &cx).unwrap();
        let wanted = Slow::build(&[2, 4, 169, 223], |i| {
            let place = |at: usize, before: usize, length: usize| at.saturating_sub(before).min(length - 1);
            slow.at(&[i[0], i[1].min(2), place(i[2], 9, 157), place(i[3], 5, 211)])
        });
        wanted.assert_close(&padded, 0.0);

        for dims in [vec![], vec![0], vec![1], vec![2], vec![3], vec![2, 3], vec![0, 1], vec![1, 3]] {
            let over: Vec<usize> = if dims.is_empty() { vec![0, 1, 2, 3] } else { dims.clone() };
            let mut wanted = Slow::build(
                &shape.iter().enumerate().map(|(d, n)| if over.contains(&d) { 1 } else { *n }).collect::<Vec<_>>(),
                |_| 0.0,
            );
            for (place, value) in slow.values.iter().enumerate() {
                let mut target = 0;
                for (dim, at) in coordinates(&shape, place).into_iter().enumerate() {
                    target = target * wanted.shape[dim] + if over.contains(&dim) { 0 } else { at };
                }
                wanted.values[target] += value;
            }
            let dims: Vec<i32> = dims.iter().map(|dim| *dim as i32).collect();
            wanted.assert_close(&a.reduce(ReduceOp::Sum, &dims, true, &cx).unwrap(), 1e-6);
        }
        let halves = a.cast(DType::Float16, &cx).unwrap().cast(DType::Float32, &cx).unwrap();
        slow.assert_close(&halves, 1e-3);
    }
}

/// A part of nothing, from further on: it still lies inside the memory of nothing.
#[test]
fn parts_of_nothing_are_padded_and_added_up() {
    let cx = context();
    let nothing = Tensor::full(&[3, 0], 1.0, DType::Float32, &cx).unwrap().slice(0, 2, 3, 1, &cx).unwrap();
    let padded = nothing.pad(&[0, 0], &[0, 2], PadMode::Constant, 7.0, &cx).unwrap();
    assert_eq!((padded.shape(), Slow::of(&padded).values), (vec![1, 2], vec![7.0, 7.0]));
    let sum = nothing.reduce(ReduceOp::Sum, &[1], false, &cx).unwrap();
    assert_eq!((sum.shape(), Slow::of(&sum).values), (vec![1], vec![0.0]));
    let twice = Tensor::cat(&[&nothing, &padded], 1, &cx).unwrap();
    assert_eq!(twice.shape(), [1, 2]);
}
