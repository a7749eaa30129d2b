//! Arguments of models' operations that make no sense, or ask for too much: an error, before memory is taken.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use std::sync::Arc;
use support::*;
use vivarium_tensor::{Activation, Budget, ConvGeometry, DType, ErrorKind, Generator, OpContext, Tensor, TensorError};

type Work<'a> = &'a dyn Fn(&OpContext) -> Result<Tensor, TensorError>;

#[test]
fn endless_work_is_refused_before_memory_is_taken() {
    let (cx, budget) = budgeted(1 << 50);
    let one = Tensor::zeros(&[1, 1, 1, 1], DType::Float32, &cx).unwrap();
    let square = one.reshape(&[1, 1], &cx).unwrap().expand(&[1 << 20, 1 << 20], &cx).unwrap();
    let image = one.expand(&[1, 1 << 10, 1 << 14, 1 << 14], &cx).unwrap();
    let weight = one.expand(&[1 << 10, 1 << 10, 3, 3], &cx).unwrap();
    let heads = one.reshape(&[1, 1], &cx).unwrap().expand(&[1 << 22, 64], &cx).unwrap();
    let padded = ConvGeometry { padding: [1, 1], ..ConvGeometry::default() };
    let works: [Work<'_>; 7] = [
        &|cx| square.matmul(&square, cx),
        &|cx| square.linear(&square, None, cx),
        &|cx| Tensor::einsum("ij,jk->ik", &[&square, &square], cx),
        &|cx| image.conv2d(&weight, None, &padded, cx),
        &|cx| image.conv_transpose2d(&weight, None, &padded, [0, 0], cx),
        &|cx| heads.scaled_dot_product_attention(&heads, &heads, None, false, None, cx),
        &|cx| image.max_pool2d([1 << 13, 1 << 13], [1, 1], [0, 0], cx),
    ];
    let before = budget.peak();
    for (number, work) in works.iter().enumerate() {
        let refused = work(&cx).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{number}: {refused}");
        assert!(refused.to_string().contains("arithmetic operations"), "{refused}");
    }
    assert_eq!(budget.peak(), before);
}

#[test]
fn layers_stop_when_cancelled() {
    let cx = context();
    let image = Tensor::zeros(&[1, 4, 8, 8], DType::Float32, &cx).unwrap();
    let matrix = Tensor::zeros(&[4, 4], DType::Float32, &cx).unwrap();
    let index = Tensor::zeros(&[4], DType::Int64, &cx).unwrap();
    let window = Tensor::zeros(&[4, 4, 3, 3], DType::Float32, &cx).unwrap();
    cx.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    let works: [Work<'_>; 14] = [
        &|cx| matrix.matmul(&matrix, cx),
        &|cx| matrix.linear(&matrix, None, cx),
        &|cx| image.conv2d(&window, None, &ConvGeometry::default(), cx),
        &|cx| image.conv_transpose2d(&window, None, &ConvGeometry::default(), [0, 0], cx),
        &|cx| matrix.scaled_dot_product_attention(&matrix, &matrix, None, false, None, cx),
        &|cx| image.group_norm(2, None, None, 1e-5, cx),
        &|cx| image.layer_norm(1, None, None, 1e-5, cx),
        &|cx| image.softmax(1, cx),
        &|cx| matrix.sort(0, false, cx).map(|pair| pair.0),
        &|cx| matrix.cumsum(0, cx),
        &|cx| matrix.index_select(0, &index, cx),
        &|cx| Tensor::randn(&[64], 1, Generator::Pytorch, cx),
        &|cx| Tensor::rand(&[64], 1, Generator::Philox, cx),
        &|cx| image.max_pool2d([2, 2], [2, 2], [0, 0], cx),
    ];
    for (number, work) in works.iter().enumerate() {
        assert_eq!(work(&cx).unwrap_err().kind(), ErrorKind::Interrupted, "{number}");
    }
}

#[test]
fn errors_name_what_does_not_fit() {
    let cx = context();
    let a = Tensor::zeros(&[2, 3], DType::Float32, &cx).unwrap();
    let index = Tensor::from_vec(&[2], vec![1i64, -1], &cx).unwrap();
    let image = Tensor::zeros(&[1, 4, 5, 5], DType::Float32, &cx).unwrap();
    let weight = Tensor::zeros(&[4, 3, 3, 3], DType::Float32, &cx).unwrap();
    let works: [(Work<'_>, &str); 9] = [
        (&|cx| a.matmul(&a, cx), "matmul: other has shape [2, 3]"),
        (&|cx| a.index_select(0, &index, cx), "index-select: index holds -1, but the dimension has 2 elements"),
        (&|cx| a.gather(0, &a, cx), "gather: index is float32, but int64 or int32 is needed"),
        (&|cx| image.conv2d(&weight, None, &ConvGeometry::default(), cx), "does not fit the channels"),
        (&|cx| image.group_norm(3, None, None, 1e-5, cx), "does not divide the 4 channels"),
        (&|cx| Tensor::einsum("ij,jk", &[&a, &a], cx), "einsum: equation has no `->`"),
        (&|cx| Tensor::einsum("ii->i", &[&a], cx), "twice in one operand"),
        (&|cx| a.topk(4, 0, true, cx).map(|pair| pair.0), "topk: k is 4, but the dimension has only 2"),
        (&|cx| image.pixel_shuffle(3, cx), "whose square does not divide the 4 channels"),
    ];
    for (work, wanted) in works {
        let refused = work(&cx).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
}

#[test]
fn indices_just_outside_are_refused_and_just_inside_are_not() {
    let cx = context();
    let line = Tensor::from_vec(&[4], vec![0.0f32, 1.0, 2.0, 3.0], &cx).unwrap();
    let source = Tensor::zeros(&[1], DType::Float32, &cx).unwrap();
    for (index, allowed) in [(i64::MIN, false), (-1, false), (0, true), (3, true), (4, false), (i64::MAX, false)] {
        let index = Tensor::from_vec(&[1], vec![index], &cx).unwrap();
        let works: [Work<'_>; 5] = [
            &|cx| line.gather(0, &index, cx),
            &|cx| line.index_select(0, &index, cx),
            &|cx| line.embedding(&index, cx),
            &|cx| line.scatter(0, &index, &source, cx),
            &|cx| line.scatter_add(0, &index, &source, cx),
        ];
        for (number, work) in works.iter().enumerate() {
            assert_eq!(
                work(&cx).map_err(|refused| refused.kind()).err(),
                (!allowed).then_some(ErrorKind::InvalidArgument),
                "{number}"
            );
        }
    }
}

#[test]
fn workspace_is_charged_and_given_back() {
    // It is the CPU's.
    let budget = Budget::root(2_000_000);
    let cx = OpContext::new(Arc::clone(&budget));
    let image = Tensor::zeros(&[1, 32, 16, 16], DType::Float32, &cx).unwrap();
    let weight = Tensor::zeros(&[32, 32, 3, 3], DType::Float32, &cx).unwrap();
    let used = budget.used();
    // The result and the picture in another order would fit, what Winograd's method and a product need does not.
    let small = OpContext::new(budget.child(64_000));
    let refused = image.conv2d(&weight, None, &ConvGeometry::default(), &small).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused}");
    assert_eq!(budget.used(), used);
}

fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..5, Just(u64::MAX), Just(1 << 32), Just(1 << 47), Just(1 << 63), any::<u64>()]
}

fn wild_dim() -> impl Strategy<Value = i32> {
    prop_oneof![-5i32..5, Just(i32::MIN), Just(i32::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_nothing_leaks(
        shapes in prop::collection::vec(prop::collection::vec(0u64..4, 0..5), 3),
        views in prop::collection::vec(views(), 3),
        dtypes in prop::collection::vec(0usize..7, 3),
        n in prop::collection::vec(wild(), 8),
        dims in prop::collection::vec(wild_dim(), 2),
        number in any::<f64>(),
        (flag, form) in (any::<bool>(), 0usize..4),
    ) {
        let (cx, budget) = budgeted(1 << 22);
        {
            let cx = &cx;
            let make = |at: usize| {
                let shape = &shapes[at];
                let tensor = random(shape, DType::ALL[dtypes[at]], n[0] ^ at as u64);
                look(&tensor, &views[at]).0
            };
            let (a, b, c) = (make(0), make(1), make(2));
            let geometry = ConvGeometry { stride: [n[0], n[1]], padding: [n[2], n[3]], dilation: [n[4], n[5]], groups: n[6] };
            let some = flag.then_some(&c);
            let _ = a.matmul(&b, cx);
            let _ = a.linear(&b, some, cx);
            let _ = a.addmm(&b, &c, number, 2.0, cx);
            let _ = Tensor::einsum(["ij,jk->ik", "ab,b->a", "abc->", "i,i->i"][form], &[&a, &b][..1 + usize::from(form != 2)], cx);
            let _ = a.conv2d(&b, some, &geometry, cx);
            let _ = a.conv_transpose2d(&b, some, &geometry, [n[6], n[7]], cx);
            let _ = a.conv2d(&b, some, &ConvGeometry::default(), cx);
            let _ = a.group_norm(n[0], some, None, number, cx);
            let _ = a.layer_norm(n[0] as u32, some, None, number, cx);
            let _ = a.rms_norm(n[1] as u32, some, 1e-5, cx);
            let _ = a.softmax(dims[0], cx);
            let _ = a.scaled_dot_product_attention(&b, &c, None, flag, Some(number), cx);
            let _ = a.scaled_dot_product_attention(&a, &a, some, false, None, cx);
            let _ = a.activate([Activation::Elu, Activation::Softplus, Activation::Mish, Activation::Erf][form], number, cx);
            let _ = a.sort(dims[0], flag, cx);
            let _ = a.topk(n[0], dims[0], flag, cx);
            let _ = a.argmax(dims[0], flag, true, cx);
            let _ = a.cumsum(dims[0], cx);
            let _ = a.variance(&dims, number, flag, cx);
            let _ = a.gather(dims[0], &b, cx);
            let _ = a.index_select(dims[0], &b, cx);
            let _ = a.embedding(&b, cx);
            let _ = a.masked_fill(&b, number, cx);
            let _ = a.scatter(dims[0], &b, &c, cx);
            let _ = a.scatter_add(dims[0], &b, &c, cx);
            let _ = Tensor::stack(&[&a, &b], dims[0], cx);
            let _ = a.split(&n[..2], dims[0], cx);
            let _ = a.roll(&[n[0] as i64, n[1] as i64], &dims, cx);
            let _ = a.repeat_interleave(n[0], dims[0], cx);
            let _ = a.pixel_shuffle(n[0], cx);
            let _ = a.pixel_unshuffle(n[0], cx);
            let _ = a.max_pool2d([n[0], n[1]], [n[2], n[3]], [n[4], n[5]], cx);
            let _ = a.avg_pool2d([n[0], n[1]], [n[2], n[3]], [n[4], n[5]], flag, cx);
            let _ = a.rgb_to_hsv(cx);
            let _ = a.hsv_to_rgb(cx);
            let _ = Tensor::rand(&n[..2], n[2], Generator::Philox, cx);
            let _ = Tensor::randn(&n[..1], n[2], Generator::Pytorch, cx);
        }
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn statistics_refuse_what_has_no_meaning_before_they_take_memory() {
    let (cx, budget) = budgeted(1 << 20);
    let x = Tensor::zeros(&[2, 3], DType::Float32, &cx).unwrap();
    let empty = Tensor::zeros(&[2, 0], DType::Float32, &cx).unwrap();
    let whole = Tensor::zeros(&[2, 3], DType::Int64, &cx).unwrap();
    let used = budget.used();
    let invalid = [
        x.quantile(1.5, 0, false, &cx).err(),
        x.quantile(f64::NAN, 0, false, &cx).err(),
        x.quantile(0.5, 7, false, &cx).err(),
        whole.quantile(0.5, 0, false, &cx).err(),
        empty.quantile(0.5, 1, false, &cx).err(),
        empty.median(1, false, &cx).err(),
        x.median(i32::MIN, false, &cx).err(),
        x.norm(-1.0, &[], false, &cx).err(),
        x.norm(f64::NAN, &[], false, &cx).err(),
        whole.norm(2.0, &[], false, &cx).err(),
        whole.cumprod(0, &cx).err(),
        x.cumprod(2, &cx).err(),
        x.batch_norm(&x, &x, None, None, 1e-5, &cx).err(),
        x.instance_norm(Some(&x), None, 1e-5, &cx).err(),
        x.conv1d(&x, None, &ConvGeometry::default(), &cx).err(),
    ];
    for (number, refused) in invalid.into_iter().enumerate() {
        let kind = refused.map(|refused| refused.kind());
        assert_eq!(kind, Some(ErrorKind::InvalidArgument), "{number}");
    }
    assert!(Tensor::eye(1 << 40, 1 << 40, DType::Float32, &cx).is_err());
    assert_eq!(Tensor::eye(1 << 20, 1 << 20, DType::Float32, &cx).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(budget.used(), used);
}

#[test]
fn products_of_expanded_matrices_are_computed() {
    let cx = context();
    let one = Tensor::full(&[1, 1], 2.0, DType::Float32, &cx).unwrap();
    let wide = one.expand(&[70, 300], &cx).unwrap();
    let product = wide.matmul(&one.expand(&[300, 300], &cx).unwrap(), &cx).unwrap();
    assert!(product.to_vec::<f32>(&cx).unwrap().iter().all(|value| *value == 1200.0));
}
