//! Results that are put off: the same bits as computed at once, the same charges, and nothing done for nobody.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use std::sync::{Arc, atomic::Ordering};
use support::cpu_context;
use vivarium_tensor::{
    Activation, BinaryOp, Budget, DType, ErrorKind, OpContext, Operand, ReduceOp, Tensor, TensorError, UnaryOp,
};

fn lazy() -> OpContext {
    OpContext { put_off_from: 1, ..cpu_context() }
}

fn eager() -> OpContext {
    OpContext { put_off_from: usize::MAX, ..cpu_context() }
}

fn ramp(shape: &[u64], cx: &OpContext) -> Tensor {
    let elements: u64 = shape.iter().product();
    let values: Vec<f32> = (0..elements).map(|place| place as f32 * 0.37 - 3.0).collect();
    Tensor::from_vec(shape, values, cx).unwrap()
}

fn bytes(tensor: &Tensor, cx: &OpContext) -> Vec<u8> {
    tensor.read(0, tensor.elements() as u64, cx).unwrap()
}

fn is_waiting(tensor: &Tensor) -> bool {
    tensor.as_slice::<f32>().is_none()
}

/// One step of a random program: what to do with which of the results so far.
#[derive(Debug, Clone)]
struct Move {
    kind: u8,
    first: usize,
    second: usize,
    number: f64,
    drop: bool,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let number = prop_oneof![Just(0.5), Just(-2.0), Just(0.0), Just(3.0), Just(f64::NAN), -1.0..1.0f64];
    let one = (0u8..19, any::<prop::sample::Index>(), any::<prop::sample::Index>(), number, any::<bool>());
    let one = one.prop_map(|(kind, first, second, number, drop)| Move {
        kind,
        first: first.index(1000),
        second: second.index(1000),
        number,
        drop,
    });
    prop::collection::vec(one, 1..40)
}

/// A view with the dimensions the other way around.
fn turned(tensor: &Tensor, cx: &OpContext) -> Tensor {
    let dims: Vec<i32> = (0..tensor.rank() as i32).rev().collect();
    tensor.permute(&dims, cx).unwrap()
}

/// Runs a program; the numbers of all results that were not dropped on the way.
fn run(moves: &[Move], cx: &OpContext) -> Vec<(Vec<u64>, DType, Vec<u8>)> {
    // More than one block and more than one piece of a thread would take too long for many cases; blocks are 512.
    let mut held =
        vec![ramp(&[5, 3, 70], cx), ramp(&[3, 1], cx), ramp(&[70, 3, 5], cx).permute(&[2, 1, 0], cx).unwrap()];
    for Move { kind, first, second, number, drop } in moves {
        let (a, b) = (held[first % held.len()].clone(), held[second % held.len()].clone());
        let result = match kind {
            0 => a.binary(BinaryOp::Add, Operand::Tensor(&b), cx),
            1 => a.binary(BinaryOp::Mul, Operand::Tensor(&b), cx),
            2 => a.binary(BinaryOp::Sub, Operand::Scalar(*number), cx),
            3 => a.binary_from(BinaryOp::Div, *number, cx),
            4 => a.unary(UnaryOp::Tanh, cx),
            5 => a.unary(UnaryOp::Neg, cx),
            6 => a.clamp(Some(-1.0), Some(*number), cx),
            7 => a.lerp(&b, Operand::Scalar(*number), cx),
            8 => {
                let condition = a.binary(BinaryOp::Le, Operand::Scalar(*number), cx).unwrap();
                a.where_(&condition, Operand::Tensor(&b), cx)
            }
            9 => a.activate(Activation::Elu, 1.0, cx),
            10 => a.cast(DType::Float16, cx).and_then(|half| half.cast(DType::Float32, cx)),
            11 => a.flip(&[0], cx),
            12 => a.reduce(ReduceOp::Amax, &[-1], true, cx),
            13 => a.binary(BinaryOp::Pow, Operand::Scalar(2.0), cx),
            14 => a.contiguous(cx),
            15 => a.group_norm(a.shape()[1], Some(&ramp(&a.shape()[1..2], cx)), None, 0.1, cx),
            16 => turned(&a, cx).layer_norm(1, None, Some(&ramp(&a.shape()[..1], cx)), 0.1, cx).map(|b| turned(&b, cx)),
            17 => a.rms_norm(2, Some(&ramp(&a.shape()[a.rank() - 2..], cx)), 0.1, cx),
            _ => a.cast(DType::Int32, cx).and_then(|whole| whole.cast(DType::Float32, cx)),
        };
        if *drop && held.len() > 1 {
            held.remove(first % held.len());
        }
        held.push(result.unwrap());
    }
    held.iter().map(|tensor| (tensor.shape(), tensor.dtype(), bytes(tensor, cx))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn waiting_changes_no_bit(moves in moves()) {
        let (cx, at_once) = (lazy(), eager());
        prop_assert_eq!(run(&moves, &cx), run(&moves, &at_once));
        prop_assert_eq!(cx.budget.used(), 0);
    }
}

/// Enough for several threads and for a last block that is not whole.
#[test]
fn large_results_are_the_same_too() {
    let soft_light = |cx: &OpContext| {
        let base = ramp(&[1, 211, 307, 3], cx).unary(UnaryOp::Sigmoid, cx).unwrap();
        let top = ramp(&[1, 3, 211, 307], cx).unary(UnaryOp::Sin, cx).unwrap().permute(&[0, 2, 3, 1], cx).unwrap();
        let inverse = base.binary_from(BinaryOp::Sub, 1.0, cx).unwrap();
        let dark = base.binary(BinaryOp::Mul, Operand::Tensor(&inverse), cx).unwrap();
        let dark = dark.binary(BinaryOp::Mul, Operand::Tensor(&top), cx).unwrap();
        let light = base.unary(UnaryOp::Sqrt, cx).unwrap().binary(BinaryOp::Sub, Operand::Tensor(&dark), cx).unwrap();
        let condition = top.binary(BinaryOp::Le, Operand::Scalar(0.5), cx).unwrap();
        bytes(&dark.where_(&condition, Operand::Tensor(&light), cx).unwrap(), cx)
    };
    assert_eq!(soft_light(&lazy()), soft_light(&eager()));
}

#[test]
fn nothing_is_computed_before_it_is_needed_and_then_with_all_that_only_it_needs() {
    let cx = lazy();
    let start = ramp(&[4000], &cx);
    let twice = start.binary(BinaryOp::Mul, Operand::Scalar(2.0), &cx).unwrap();
    let more = twice.binary(BinaryOp::Add, Operand::Scalar(1.0), &cx).unwrap();
    assert!(is_waiting(&twice) && is_waiting(&more));
    // Somebody holds `twice`, so it is computed for itself and not again.
    more.settle(&cx).unwrap();
    assert!(!is_waiting(&twice) && !is_waiting(&more));
    let square = more.unary(UnaryOp::Square, &cx).unwrap();
    let view = square.slice(0, 10, 11, 1, &cx).unwrap();
    assert!((view.item().unwrap() - (2.0f64 * (3.7 - 3.0) + 1.0).powi(2)).abs() < 1e-5);
    assert!(!is_waiting(&square));
}

/// One channel of a large picture is more than a block; parts of a group end within blocks.
#[test]
fn what_comes_after_a_normalisation_goes_along_with_it() {
    let silu = |normalized: Result<Tensor, TensorError>, cx: &OpContext| {
        let normalized = normalized.unwrap();
        if cx.put_off_from == 1 {
            assert!(is_waiting(&normalized));
        }
        normalized.unary(UnaryOp::Silu, cx).unwrap()
    };
    let all = |cx: &OpContext| -> Vec<Vec<u8>> {
        let picture = ramp(&[2, 12, 37, 41], cx).unary(UnaryOp::Sin, cx).unwrap();
        let last = picture.permute(&[0, 2, 3, 1], cx).unwrap().contiguous(cx).unwrap();
        let last = last.permute(&[0, 3, 1, 2], cx).unwrap();
        let channels = ramp(&[12], cx);
        let row = ramp(&[41 * 37], cx).reshape(&[37, 41], cx).unwrap();
        let results = [
            silu(picture.group_norm(4, Some(&channels), Some(&channels), 1e-5, cx), cx),
            silu(last.group_norm(4, Some(&channels), Some(&channels), 1e-5, cx), cx),
            silu(picture.slice(0, 0, 1, 1, cx).unwrap().group_norm(1, None, Some(&channels), 1e-5, cx), cx),
            silu(picture.layer_norm(2, Some(&row), Some(&row), 1e-5, cx), cx),
            silu(picture.layer_norm(1, None, None, 1e-5, cx), cx)
                .binary(BinaryOp::Add, Operand::Tensor(&last), cx)
                .unwrap(),
            last.binary(BinaryOp::Add, Operand::Tensor(&silu(picture.rms_norm(1, None, 1e-5, cx), cx)), cx).unwrap(),
            silu(picture.cast(DType::Float16, cx).unwrap().rms_norm(3, None, 1e-5, cx), cx),
            // Two of them in one pass would go through memory in two ways.
            silu(picture.rms_norm(1, None, 1e-5, cx), cx)
                .binary(BinaryOp::Mul, Operand::Tensor(&silu(picture.group_norm(2, None, None, 1e-5, cx), cx)), cx)
                .unwrap(),
        ];
        results.iter().map(|result| bytes(result, cx)).collect()
    };
    assert_eq!(all(&lazy()), all(&eager()));
}

#[test]
fn what_waits_is_paid_for_and_gives_everything_back() {
    let budget = Budget::root(1 << 20);
    let cx = OpContext { put_off_from: 1, ..OpContext::new(Arc::clone(&budget)) };
    let start = ramp(&[50_000], &cx);
    let result = start.binary(BinaryOp::Mul, Operand::Scalar(2.0), &cx).unwrap();
    let both = start.charged_bytes() + result.charged_bytes();
    assert_eq!(budget.used(), both);
    assert!(result.charged_bytes() >= 200_000);
    // The operand stays until the result is computed.
    drop(start);
    assert_eq!(budget.used(), both);
    result.settle(&cx).unwrap();
    assert_eq!(budget.used(), result.charged_bytes());
    // What is refused is refused when it is asked for.
    let refused = Tensor::cat(&[&result, &result, &result], 0, &cx).and_then(|long| long.unary(UnaryOp::Neg, &cx));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
    drop(result);
    assert_eq!(budget.used(), 0);
}

#[test]
fn long_chains_are_computed_on_the_way() {
    let cx = lazy();
    let mut tensor = Tensor::zeros(&[1000], DType::Float32, &cx).unwrap();
    for _ in 0..1000 {
        tensor = tensor.binary(BinaryOp::Add, Operand::Scalar(1.0), &cx).unwrap();
    }
    assert_eq!(tensor.slice(0, 0, 1, 1, &cx).unwrap().item().unwrap(), 1000.0);
    // A chain of what doubles is not computed an exponential number of times.
    let mut tensor = Tensor::full(&[1000], 1e-30, DType::Float32, &cx).unwrap();
    for _ in 0..100 {
        tensor = tensor.binary(BinaryOp::Add, Operand::Tensor(&tensor), &cx).unwrap();
    }
    assert_eq!(tensor.to_vec::<f32>(&cx).unwrap()[0], 1e-30f32 * 2f32.powi(100));
}

#[test]
fn computing_can_be_stopped_and_tried_again() {
    let cx = lazy();
    let result = ramp(&[4000], &cx).unary(UnaryOp::Exp, &cx).unwrap();
    cx.cancelled.store(true, Ordering::Relaxed);
    assert_eq!(result.settle(&cx).unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(is_waiting(&result));
    cx.cancelled.store(false, Ordering::Relaxed);
    result.settle(&cx).unwrap();
    assert!(!is_waiting(&result));
}

#[test]
fn results_are_written_over_operands_that_nobody_holds() {
    let cx = lazy();
    let place = |tensor: &Tensor| tensor.as_slice::<f32>().unwrap().as_ptr();
    let chain = |start: Tensor, other: &Tensor| {
        let scaled = start.binary(BinaryOp::Mul, Operand::Scalar(2.0), &cx).unwrap();
        scaled.binary(BinaryOp::Add, Operand::Tensor(other), &cx).unwrap()
    };
    let other = ramp(&[3, 4000], &cx);
    let wanted: Vec<f32> = other.as_slice::<f32>().unwrap().iter().map(|value| value * 2.0 + value).collect();
    let start = ramp(&[3, 4000], &cx);
    let before = place(&start);
    let result = chain(start, &other);
    result.settle(&cx).unwrap();
    assert_eq!(result.as_slice::<f32>().unwrap(), wanted);
    assert_eq!(place(&result), before);
    // Held by somebody, as a whole, in part, or for another result; or in another order.
    let start = ramp(&[3, 4000], &cx);
    let view = start.slice(0, 0, 1, 1, &cx).unwrap();
    let elsewhere = chain(start.clone(), &other);
    let results = [chain(start, &other), chain(ramp(&[4000, 3], &cx).permute(&[1, 0], &cx).unwrap(), &other)];
    results.iter().for_each(|result| result.settle(&cx).unwrap());
    assert_eq!(results[0].as_slice::<f32>().unwrap(), wanted);
    assert_eq!(elsewhere.to_vec::<f32>(&cx).unwrap(), wanted);
    assert_eq!(view.to_vec::<f32>(&cx).unwrap(), &ramp(&[3, 4000], &cx).as_slice::<f32>().unwrap()[..4000]);
    drop((view, elsewhere, results, result, other));
    assert_eq!(cx.budget.used(), 0);
}

/// Never numbers of which some were computed twice.
#[test]
fn what_was_stopped_on_the_way_is_right_or_lost() {
    for pause in 0..40 {
        let cx = lazy();
        let result = ramp(&[400_000], &cx).unary(UnaryOp::Exp, &cx).unwrap().unary(UnaryOp::Log, &cx).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_micros(20 * pause));
                cx.cancelled.store(true, Ordering::Relaxed);
            });
            let _ = result.settle(&cx);
        });
        cx.cancelled.store(false, Ordering::Relaxed);
        match result.settle(&cx) {
            Ok(()) => {
                let wanted = ramp(&[400_000], &eager()).unary(UnaryOp::Exp, &eager()).unwrap();
                assert_eq!(bytes(&result, &cx), bytes(&wanted.unary(UnaryOp::Log, &eager()).unwrap(), &cx));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
    }
}

#[test]
fn many_threads_may_need_the_same_result() {
    let cx = lazy();
    let shared = ramp(&[200_000], &cx).unary(UnaryOp::Sqrt, &cx).unwrap();
    let ends: Vec<Tensor> =
        (0..8).map(|number| shared.binary(BinaryOp::Add, Operand::Scalar(f64::from(number)), &cx).unwrap()).collect();
    std::thread::scope(|scope| {
        for end in &ends {
            scope.spawn(|| end.settle(&cx).unwrap());
        }
    });
    for (number, end) in ends.iter().enumerate() {
        let wanted = (199_999f32 * 0.37 - 3.0).sqrt() + number as f32;
        assert_eq!(end.as_slice::<f32>().unwrap()[199_999], wanted);
    }
}
