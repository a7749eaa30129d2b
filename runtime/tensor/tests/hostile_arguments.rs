//! Whatever a pack asks for, it gets an error that explains, before memory is taken; never a panic.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use vivarium_tensor::{
    BinaryOp, Budget, DType, ErrorKind, InterpolateMode, MAX_RANK, OpContext, Operand, PadMode, ReduceOp, Tensor,
    UnaryOp,
};

#[test]
fn overflowing_shapes_are_refused_before_allocation() {
    let (cx, budget) = budgeted(1 << 20);
    for shape in [
        vec![u64::MAX],
        vec![1 << 32, 1 << 32],
        vec![1 << 33, 1 << 33, 0],
        vec![3, u64::MAX / 2, 2],
        vec![1 << 48, 2],
        vec![1 << 40],
    ] {
        for dtype in DType::ALL {
            let refused = Tensor::zeros(&shape, dtype, &cx).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused}");
            assert!(Tensor::full(&shape, 1.0, dtype, &cx).is_err());
            assert!(Tensor::from_bytes(&shape, dtype, &[0; 16], &cx).is_err());
        }
    }
    assert_eq!(budget.peak(), 0);
}

#[test]
fn too_many_dimensions_are_refused() {
    let cx = context();
    let refused = Tensor::zeros(&[1; 255], DType::Float32, &cx).unwrap_err();
    assert!(refused.to_string().contains("the number of dimensions is 255, the limit is 12"), "{refused}");
    let mut tensor = Tensor::zeros(&[], DType::Float32, &cx).unwrap();
    for _ in 0..MAX_RANK {
        tensor = tensor.unsqueeze(-1, &cx).unwrap();
    }
    assert!(tensor.unsqueeze(0, &cx).is_err());
    assert!(tensor.reshape(&[1; 255], &cx).is_err());
    assert!(tensor.expand(&[1; 255], &cx).is_err());
    assert!(tensor.repeat(&[1; 255], &cx).is_err());
    assert!(tensor.permute(&[0; 255], &cx).is_err());
    assert!(tensor.repeat(&[1; MAX_RANK], &cx).is_ok());
}

#[test]
fn the_error_of_an_exhausted_budget_names_everything() {
    // On the CPU: a GPU's memory is charged apart from the bookkeeping.
    let cx = OpContext::new(Budget::root(1000));
    let held = Tensor::zeros(&[100], DType::Float32, &cx).unwrap();
    let refused = Tensor::zeros(&[200], DType::Float32, &cx).unwrap_err().to_string();
    for part in ["zeros", "limited to 1000 bytes", "656 are used", "1056 more"] {
        assert!(refused.contains(part), "{refused}");
    }
    drop(held);
    assert!(Tensor::zeros(&[150], DType::Float32, &cx).is_ok());
}

#[test]
fn broadcast_bombs_do_not_go_off() {
    let (cx, budget) = budgeted(1 << 24);
    let one = Tensor::zeros(&[1, 1], DType::Float32, &cx).unwrap();
    assert!(one.expand(&[1 << 40, 1], &cx).is_err());
    let tall = one.expand(&[1 << 21, 1], &cx).unwrap();
    let wide = one.expand(&[1, 1 << 21], &cx).unwrap();
    let refused = tall.binary(BinaryOp::Add, Operand::Tensor(&wide), &cx).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert!(tall.repeat(&[u64::MAX, u64::MAX], &cx).is_err());
    assert!(tall.repeat(&[1 << 30, 1], &cx).is_err());
    assert!(budget.used() < 1000);
}

#[test]
fn views_share_one_charge_and_give_it_back() {
    let (cx, budget) = budgeted(1 << 20);
    let tensor = Tensor::zeros(&[10, 10], DType::Float32, &cx).unwrap();
    let used = budget.used();
    let view = tensor.permute(&[1, 0], &cx).unwrap().slice(0, 2, 5, 1, &cx).unwrap().flip(&[0], &cx).unwrap();
    assert_eq!(budget.used(), used);
    drop(tensor);
    assert_eq!(budget.used(), used);
    drop(view);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_kept_result_moves_to_the_tenants_account() {
    let (cx, tenant) = budgeted(1 << 20);
    let call = vivarium_tensor::OpContext::new(cx.budget.child(1 << 19));
    let kept = Tensor::zeros(&[100], DType::Float32, &call).unwrap();
    let passing = Tensor::zeros(&[100], DType::Float32, &call).unwrap();
    kept.charge_to(&tenant).unwrap();
    assert_eq!(call.budget.used(), passing.charged_bytes());
    drop(passing);
    drop(call);
    assert_eq!(tenant.used(), kept.charged_bytes());
    drop(kept);
    assert_eq!(tenant.used(), 0);
}

#[test]
fn operations_stop_when_cancelled() {
    let cx = context();
    let tensor = Tensor::zeros(&[1, 3, 64, 64], DType::Float32, &cx).unwrap();
    cx.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    let kinds = [
        tensor.binary(BinaryOp::Add, Operand::Scalar(1.0), &cx).unwrap_err().kind(),
        tensor.reduce(ReduceOp::Sum, &[], false, &cx).unwrap_err().kind(),
        tensor.interpolate(9, 9, InterpolateMode::Lanczos, &cx).unwrap_err().kind(),
        tensor.separable_filter(&[1.0, 1.0, 1.0], &[1.0], PadMode::Reflect, &cx).unwrap_err().kind(),
        Tensor::cat(&[&tensor, &tensor], 0, &cx).unwrap_err().kind(),
    ];
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Interrupted));
}

#[test]
fn odd_numbers_are_refused_or_harmless() {
    let cx = context();
    for (start, end, step) in [
        (0.0, 1.0, 0.0),
        (0.0, 1.0, f64::NAN),
        (f64::NAN, 1.0, 1.0),
        (0.0, f64::INFINITY, 1.0),
        (0.0, 1.0, -1.0),
        (0.0, 1e300, 1e-300),
        (-1e308, 1e308, 1.0),
        (0.0, 1.0, f64::MIN_POSITIVE),
    ] {
        assert!(Tensor::arange(start, end, step, &cx).is_err(), "{start} {end} {step}");
    }
    assert_eq!(Tensor::arange(0.0, 1.0, 0.25, &cx).unwrap().to_vec::<f32>(&cx).unwrap(), [0.0, 0.25, 0.5, 0.75]);
    assert_eq!(Tensor::arange(3.0, 0.0, -2.0, &cx).unwrap().to_vec::<f32>(&cx).unwrap(), [3.0, 1.0]);
    assert_eq!(Tensor::linspace(-1.0, 1.0, 5, &cx).unwrap().to_vec::<f32>(&cx).unwrap(), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    assert_eq!(Tensor::linspace(2.0, 9.0, 1, &cx).unwrap().to_vec::<f32>(&cx).unwrap(), [2.0]);
    assert_eq!(Tensor::linspace(2.0, 9.0, 0, &cx).unwrap().elements(), 0);
    assert!(Tensor::linspace(0.0, 1.0, u64::MAX, &cx).is_err());
    assert!(Tensor::full(&[2], 256.0, DType::Uint8, &cx).is_err());
    assert!(Tensor::full(&[2], f64::NAN, DType::Int32, &cx).is_err());
}

#[test]
fn not_a_number_spreads_as_in_pytorch() {
    let cx = context();
    let tensor = Tensor::from_vec(&[3], vec![1.0f32, f32::NAN, 3.0], &cx).unwrap();
    for op in [ReduceOp::Amin, ReduceOp::Amax, ReduceOp::Sum] {
        assert!(tensor.reduce(op, &[], false, &cx).unwrap().item().unwrap().is_nan());
    }
    for op in [BinaryOp::Minimum, BinaryOp::Maximum] {
        assert!(tensor.binary(op, Operand::Scalar(2.0), &cx).unwrap().to_vec::<f32>(&cx).unwrap()[1].is_nan());
        assert!(tensor.binary_from(op, 2.0, &cx).unwrap().to_vec::<f32>(&cx).unwrap()[1].is_nan());
    }
    assert!(tensor.clamp(Some(0.0), None, &cx).unwrap().to_vec::<f32>(&cx).unwrap()[1].is_nan());
    assert_eq!(tensor.reduce(ReduceOp::All, &[], false, &cx).unwrap().item().unwrap(), 1.0);
    assert_eq!(tensor.cast(DType::Int32, &cx).unwrap().to_vec::<i32>(&cx).unwrap(), [1, 0, 3]);
    assert!(tensor.unary(UnaryOp::Relu, &cx).unwrap().to_vec::<f32>(&cx).unwrap()[1].is_nan());
}

/// What is saved has to be what ComfyUI saves.
#[test]
fn pixels_are_truncated_and_cut_to_range() {
    let cx = context();
    let values = vec![0.0f32, 0.999, 1.0, 1.5, -0.5, 0.5, f32::NAN, f32::INFINITY, 1.0 / 255.0];
    let pixels = Tensor::from_vec(&[9], values, &cx).unwrap().to_pixels(&cx).unwrap();
    assert_eq!(pixels.to_vec::<u8>(&cx).unwrap(), [0, 254, 255, 255, 0, 127, 0, 255, 1]);
}

fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, Just(u64::MAX), Just(1 << 31), Just(1 << 32), Just(1 << 47), Just(1 << 63), any::<u64>()]
}

fn wild_signed() -> impl Strategy<Value = i64> {
    prop_oneof![-6i64..6, Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

fn wild_dim() -> impl Strategy<Value = i32> {
    prop_oneof![-5i32..5, Just(i32::MIN), Just(i32::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_nothing_leaks(
        shape in prop::collection::vec(0u64..5, 0..6),
        views in views(),
        dims in prop::collection::vec(wild_dim(), 0..6),
        numbers in prop::collection::vec(wild(), 0..6),
        more in prop::collection::vec(wild(), 0..6),
        signed in prop::collection::vec(wild_signed(), 0..6),
        value in any::<f64>(),
        (dtype, mode) in (0usize..7, 0usize..6),
    ) {
        let (cx, budget) = budgeted(1 << 22);
        let dtype = DType::ALL[dtype];
        {
            let tensor = Tensor::full(&shape, 1.0, dtype, &cx).unwrap();
            let tensor = look(&tensor, &views).0;
            let number = |index: usize| numbers.get(index).copied().unwrap_or(1);
            let sign = |index: usize| signed.get(index).copied().unwrap_or(1);
            let dim = dims.first().copied().unwrap_or(0);
            let border = [PadMode::Constant, PadMode::Reflect, PadMode::Replicate, PadMode::Circular][mode % 4];
            let interpolation = [
                InterpolateMode::Nearest, InterpolateMode::NearestExact, InterpolateMode::Bilinear,
                InterpolateMode::Bicubic, InterpolateMode::Area, InterpolateMode::Lanczos,
            ][mode];
            let _ = Tensor::zeros(&numbers, dtype, &cx);
            let _ = Tensor::full(&numbers, value, dtype, &cx);
            let _ = Tensor::from_bytes(&numbers, dtype, &[1; 24], &cx);
            let _ = Tensor::arange(value, 1.0, value / 7.0, &cx);
            let _ = Tensor::linspace(value, 0.0, number(0), &cx);
            let _ = tensor.read(number(0), number(1), &cx);
            let _ = tensor.item();
            let _ = tensor.reshape(&signed, &cx);
            let _ = tensor.permute(&dims, &cx);
            let _ = tensor.expand(&signed, &cx).and_then(|view| view.reduce(ReduceOp::Sum, &dims, true, &cx));
            let _ = tensor.slice(dim, sign(0), sign(1), number(0), &cx).and_then(|view| view.contiguous(&cx));
            let _ = tensor.squeeze(dim, &cx);
            let _ = tensor.unsqueeze(dim, &cx);
            let _ = tensor.flip(&dims, &cx).and_then(|view| view.contiguous(&cx));
            let _ = tensor.repeat(&numbers, &cx);
            let _ = tensor.pad(&numbers, &more, border, value, &cx);
            let _ = tensor.paste(&tensor, &numbers, &cx);
            let _ = Tensor::cat(&[&tensor, &tensor], dim, &cx);
            let _ = tensor.clamp(Some(value), Some(-value), &cx);
            let _ = tensor.binary(BinaryOp::Remainder, Operand::Scalar(value), &cx);
            let _ = tensor.binary_from(BinaryOp::Pow, value, &cx);
            let _ = tensor.binary(BinaryOp::Fmod, Operand::Scalar(0.0), &cx);
            let _ = tensor.interpolate(number(0), number(1), interpolation, &cx);
            let _ = tensor.separable_filter(&vec![0.5; dims.len()], &vec![0.5; shape.len()], border, &cx);
            if let Ok(square) = tensor.reshape(&[1, -1, 1, 1], &cx) {
                let _ = square.interpolate(number(0), number(1), interpolation, &cx);
                let _ = square.separable_filter(&vec![0.5; dims.len()], &[1.0], border, &cx);
            }
        }
        prop_assert_eq!(budget.used(), 0);
    }
}
