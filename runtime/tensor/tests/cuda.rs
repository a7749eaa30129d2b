//! What holds for the CUDA back end besides the results: work really runs there, nothing leaks, what is seen was written,
//! jobs do not disturb each other. Runs with `cargo xtask cuda test`.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use support::*;
use vivarium_tensor::{
    Activation, BinaryOp, Budget, ConvGeometry, Copies, DType, ErrorKind, Generator, Gpu, InterpolateMode,
    MorphologyOp, OpContext, Operand, PadMode, ReduceOp, SampleBorder, SampleMode, Tensor, TensorError, UnaryOp,
};

type Making = fn(&OpContext) -> Result<Tensor, TensorError>;
type Work = fn(&Tensor, &OpContext) -> Result<Tensor, TensorError>;

/// Operations on a `[2,8,12,10]` tensor of floats that must not leave the GPU.
const ON_THE_GPU: &[(&str, Work)] = &[
    ("unary", |x, cx| x.unary(UnaryOp::Silu, cx)),
    ("activate", |x, cx| x.activate(Activation::GeluTanh, 1.0, cx)),
    ("binary", |x, cx| x.binary(BinaryOp::Mul, Operand::Tensor(x), cx)),
    ("comparison", |x, cx| x.binary(BinaryOp::Lt, Operand::Scalar(0.5), cx)),
    ("clamp", |x, cx| x.clamp(Some(-1.0), Some(2.0), cx)),
    ("lerp", |x, cx| x.lerp(x, Operand::Scalar(0.25), cx)),
    ("cast", |x, cx| x.cast(DType::Int32, cx)),
    ("contiguous", |x, cx| x.permute(&[3, 1, 0, 2], cx)?.contiguous(cx)),
    ("cat", |x, cx| Tensor::cat(&[x, x, x], 1, cx)),
    ("stack", |x, cx| Tensor::stack(&[x, x], 0, cx)),
    ("repeat", |x, cx| x.permute(&[1, 0, 2, 3], cx)?.slice(3, 2, 9, 3, cx)?.repeat(&[2, 1, 3, 1, 2], cx)),
    ("paste", |x, cx| x.paste(&x.slice(2, 0, 5, 1, cx)?, &[0, 0, 3, 0], cx)),
    ("pad", |x, cx| x.pad(&[0, 0, 1, 2], &[0, 0, 3, 0], PadMode::Constant, 7.0, cx)),
    ("sum", |x, cx| x.reduce(ReduceOp::Sum, &[1, 3], false, cx)),
    ("mean of all", |x, cx| x.reduce(ReduceOp::Mean, &[], true, cx)),
    ("amax", |x, cx| x.reduce(ReduceOp::Amax, &[-1], true, cx)),
    ("variance", |x, cx| x.variance(&[2, 3], 1.0, true, cx)),
    ("softmax", |x, cx| x.softmax(1, cx)),
    ("layer-norm", |x, cx| x.layer_norm(2, None, None, 1e-5, cx)),
    ("rms-norm", |x, cx| x.rms_norm(1, None, 1e-6, cx)),
    ("group-norm", |x, cx| x.group_norm(4, None, None, 1e-6, cx)),
    ("matmul", |x, cx| x.matmul(&x.permute(&[0, 1, 3, 2], cx)?, cx)),
    ("linear", |x, cx| x.linear(&x.slice(0, 0, 1, 1, cx)?.reshape(&[96, 10], cx)?, None, cx)),
    ("conv2d", |x, cx| {
        let weight = x.slice(2, 0, 3, 1, cx)?.slice(3, 0, 3, 1, cx)?;
        x.conv2d(&weight, None, &ConvGeometry { padding: [1, 1], ..ConvGeometry::default() }, cx)
    }),
    ("conv-transpose2d", |x, cx| {
        let weight = x.permute(&[1, 0, 2, 3], cx)?.slice(2, 0, 4, 1, cx)?.slice(3, 0, 4, 1, cx)?;
        x.conv_transpose2d(&weight, None, &ConvGeometry { stride: [2, 2], ..ConvGeometry::default() }, [0, 0], cx)
    }),
    ("index-select", |x, cx| {
        x.permute(&[0, 2, 1, 3], cx)?.index_select(1, &Tensor::from_vec(&[4], vec![11i64, 0, 3, 3], cx)?, cx)
    }),
    ("gather", |x, cx| x.gather(3, &Tensor::from_vec(&[2, 1, 1, 2], vec![9i32, 0, 4, 5], cx)?, cx)),
    ("attention", |x, cx| x.scaled_dot_product_attention(x, x, None, true, None, cx)),
    ("nearest", |x, cx| x.interpolate(24, 20, InterpolateMode::NearestExact, cx)),
    ("bilinear", |x, cx| x.interpolate(7, 31, InterpolateMode::Bilinear, cx)),
    ("bicubic", |x, cx| x.interpolate(17, 9, InterpolateMode::Bicubic, cx)),
    ("separable-filter", |x, cx| {
        x.separable_filter(&[0.2, 0.5, 0.3], &[0.1, 0.2, 0.4, 0.2, 0.1], PadMode::Reflect, cx)
    }),
    ("area", |x, cx| x.interpolate(5, 4, InterpolateMode::Area, cx)),
    ("sort", |x, cx| x.sort(2, true, cx).map(|(values, _)| values)),
    ("places of sort", |x, cx| x.slice(1, 1, 4, 1, cx)?.sort(1, false, cx).map(|(_, places)| places)),
    ("topk", |x, cx| x.topk(3, -1, true, cx).map(|(values, _)| values)),
    ("argmax", |x, cx| x.argmax(1, false, true, cx)),
    ("argmin", |x, cx| x.permute(&[3, 1, 0, 2], cx)?.argmax(-1, true, false, cx)),
    ("cumsum", |x, cx| x.cumsum(0, cx)),
    ("cumprod", |x, cx| x.binary(BinaryOp::Div, Operand::Scalar(4.0), cx)?.cumprod(1, cx)),
    ("median", |x, cx| x.median(2, false, cx)),
    ("quantile", |x, cx| x.quantile(0.3, 3, true, cx)),
    ("scatter", |x, cx| {
        let index = Tensor::from_vec(&[2, 1, 3, 2], vec![7i64, 0, 4, 5, 7, 1, 0, 0, 3, 3, 2, 6], cx)?;
        x.scatter(1, &index, &x.unary(UnaryOp::Neg, cx)?, cx)
    }),
    ("scatter-add", |x, cx| {
        let index = Tensor::from_vec(&[1, 2, 3, 2], vec![9i32, 0, 4, 4, 4, 1, 0, 0, 3, 3, 2, 9], cx)?;
        x.permute(&[0, 1, 3, 2], cx)?.scatter_add(2, &index, x, cx)
    }),
    ("rgb-to-hsv", |x, cx| colors(x, cx)?.rgb_to_hsv(cx)),
    ("hsv-to-rgb", |x, cx| x.slice(3, 0, 3, 1, cx)?.hsv_to_rgb(cx)),
    // Differences of numbers of up to 100, so those are what the last bit is of.
    ("rgb-to-lab", |x, cx| colors(x, cx)?.rgb_to_lab(cx)?.binary(BinaryOp::Div, Operand::Scalar(100.0), cx)),
    ("lab-to-rgb", |x, cx| x.slice(3, 1, 4, 1, cx)?.binary(BinaryOp::Mul, Operand::Scalar(8.0), cx)?.lab_to_rgb(cx)),
    ("rgb-to-ycbcr", |x, cx| colors(x, cx)?.rgb_to_ycbcr(cx)),
    ("ycbcr-to-rgb", |x, cx| colors(x, cx)?.ycbcr_to_rgb(cx)),
    ("grid-sample, nearest", |x, cx| sampled(x, SampleMode::Nearest, SampleBorder::Reflection, true, cx)),
    ("grid-sample, bilinear", |x, cx| sampled(x, SampleMode::Bilinear, SampleBorder::Zeros, false, cx)),
    ("grid-sample, bicubic", |x, cx| sampled(x, SampleMode::Bicubic, SampleBorder::Border, false, cx)),
    ("grid-sample, mirrored", |x, cx| sampled(x, SampleMode::Bicubic, SampleBorder::Reflection, false, cx)),
    ("affine-grid", |x, cx| x.slice(3, 1, 7, 1, cx)?.reshape(&[192, 2, 3], cx)?.affine_grid(1, 3, true, cx)),
    ("lanczos", |x, cx| colors(x, cx)?.permute(&[0, 3, 1, 2], cx)?.interpolate(5, 17, InterpolateMode::Lanczos, cx)),
    ("lanczos with alpha", |x, cx| {
        let bright = x.binary(BinaryOp::Div, Operand::Scalar(9.0), cx)?;
        bright.slice(1, 2, 6, 1, cx)?.interpolate(20, 10, InterpolateMode::Lanczos, cx)
    }),
    ("lanczos along rows", |x, cx| colors(x, cx)?.interpolate(12, 7, InterpolateMode::Lanczos, cx)),
    ("nearest of integers", |x, cx| {
        x.cast(DType::Int32, cx)?.permute(&[0, 2, 3, 1], cx)?.interpolate(5, 11, InterpolateMode::Nearest, cx)
    }),
    ("gather by places", |x, cx| x.gather(3, &x.topk(4, 3, true, cx)?.1, cx)),
    ("scatter by places", |x, cx| x.scatter(1, &x.argmax(1, true, true, cx)?, &x.unary(UnaryOp::Abs, cx)?, cx)),
    ("dilate", |x, cx| {
        let footprint = Tensor::from_vec(&[2, 3], vec![true, false, true, false, true, true], cx)?;
        x.morphology(MorphologyOp::Dilate, &footprint, cx)
    }),
    ("erode a square", |x, cx| x.morphology(MorphologyOp::Erode, &Tensor::from_vec(&[3, 5], vec![true; 15], cx)?, cx)),
    ("median-filter", |x, cx| {
        x.permute(&[0, 1, 3, 2], cx)?.slice(1, 0, 2, 1, cx)?.median_filter([3, 5], PadMode::Reflect, cx)
    }),
    ("histogram", |x, cx| x.reshape(&[2, 960], cx)?.histogram(7, -3.0, 6.5, cx)),
    ("histogram of many bins", |x, cx| x.reshape(&[1, 1920], cx)?.histogram(5000, -8.0, 8.0, cx)),
    ("distance-transform", |x, cx| x.binary(BinaryOp::Gt, Operand::Scalar(-7.0), cx)?.distance_transform(cx)),
    ("canny", |x, cx| x.slice(1, 0, 3, 1, cx)?.canny(2.5, 6.0, cx)),
    // Errors are those of the largest numbers.
    ("fft", |x, cx| {
        x.reshape(&[2, 8, 60, 2], cx)?.binary(BinaryOp::Div, Operand::Scalar(32.0), cx)?.fft(&[1, 2], false, cx)
    }),
    ("fft of a prime length", |x, cx| {
        x.reshape(&[16, 60, 2], cx)?.slice(1, 0, 59, 1, cx)?.binary(BinaryOp::Div, Operand::Scalar(32.0), cx)?.fft(
            &[1],
            false,
            cx,
        )
    }),
    ("inverse fft of a length with a large factor", |x, cx| {
        x.reshape(&[96, 10, 2], cx)?.slice(0, 0, 94, 1, cx)?.fft(&[0], true, cx)
    }),
    ("inverse fft", |x, cx| x.reshape(&[96, 10, 2], cx)?.slice(0, 0, 84, 2, cx)?.fft(&[0], true, cx)),
    ("pad by reflection", |x, cx| x.pad(&[0, 0, 3, 0], &[0, 0, 2, 9], PadMode::Reflect, 0.0, cx)),
    ("pad by the border", |x, cx| {
        x.permute(&[0, 2, 3, 1], cx)?.pad(&[1, 0, 4, 0], &[0, 2, 1, 0], PadMode::Replicate, 0.0, cx)
    }),
    ("pad around", |x, cx| x.pad(&[2, 0, 5, 0], &[0, 1, 0, 10], PadMode::Circular, 0.0, cx)),
    ("max-pool2d", |x, cx| x.permute(&[0, 1, 3, 2], cx)?.max_pool2d([3, 2], [2, 1], [1, 0], cx)),
    ("avg-pool2d", |x, cx| x.avg_pool2d([4, 3], [3, 2], [2, 1], true, cx)),
    ("avg-pool2d inside", |x, cx| x.avg_pool2d([2, 3], [2, 2], [1, 1], false, cx)),
    ("fold", |x, cx| {
        let geometry = ConvGeometry { stride: [2, 1], padding: [1, 2], dilation: [1, 2], groups: 1 };
        x.reshape(&[2, 96, 10], cx)?.fold([3, 8], [4, 2], &geometry, cx)
    }),
];

/// Three numbers from 0 to 1 in the last dimension.
fn colors(x: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
    x.slice(3, 2, 8, 2, cx)?.binary(BinaryOp::Div, Operand::Scalar(16.0), cx)?.binary(BinaryOp::Add, 0.5.into(), cx)
}

/// At places in the picture and around it.
fn sampled(
    x: &Tensor,
    mode: SampleMode,
    border: SampleBorder,
    corners: bool,
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    let grid = x.slice(1, 0, 3, 1, cx)?.slice(3, 0, 9, 8, cx)?.binary(BinaryOp::Div, Operand::Scalar(4.0), cx)?;
    x.permute(&[0, 1, 3, 2], cx)?.grid_sample(&grid, mode, border, corners, cx)
}

/// What is made of nothing must be made on the GPU.
const MADE_ON_THE_GPU: &[(&str, Making)] = &[
    ("zeros", |cx| Tensor::zeros(&[3, 7], DType::Float8E4m3, cx)),
    ("full", |cx| Tensor::full(&[5, 2], -7.9, DType::Int64, cx)),
    ("arange", |cx| Tensor::arange(2.5, -900.0, -1.1, cx)),
    ("linspace", |cx| Tensor::linspace(-1.0, 0.3, 300, cx)),
    ("eye", |cx| Tensor::eye(5, 7, DType::Bfloat16, cx)),
    ("linspace of one", |cx| Tensor::linspace(4.0, 5.0, 1, cx)),
    ("rand", |cx| Tensor::rand(&[3, 341], 1 << 40 | 5, Generator::Philox, cx)),
    ("randn", |cx| Tensor::randn(&[3, 341], 77, Generator::Philox, cx)),
];

/// A job with accounts of its own for both memories.
fn job(gpu: &Gpu) -> (OpContext, Arc<Budget>, Arc<Budget>) {
    let (host, device) = (Budget::root(1 << 30), Budget::root(1 << 30));
    let cx = OpContext::new(Arc::clone(&host)).on_gpu(gpu.job(Arc::clone(&device)).unwrap());
    (cx, host, device)
}

fn compare(name: &str, dtype: DType, wanted: &Tensor, got: &Tensor) {
    assert_eq!(wanted.dtype(), got.dtype(), "{name}");
    assert_eq!(wanted.strides(), got.strides(), "{name} of {dtype}: another order in memory");
    // Sums come in another order, so results may be rounded the other way.
    let tolerance = match dtype {
        DType::Float32 => 1e-5,
        DType::Float16 => 2e-3,
        _ => 2e-2,
    };
    Slow::of(wanted).assert_close(got, tolerance);
}

/// A GPU may be asked for in one test at a time: they look at its counters.
fn alone() -> Option<(&'static Gpu, std::sync::MutexGuard<'static, ()>)> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let gpu = test_gpu()?;
    Some((gpu, ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
}

#[test]
fn operations_stay_on_the_gpu_and_answer_what_the_cpu_answers() {
    let Some((gpu, _alone)) = alone() else { return };
    let cpu = cpu_context();
    for dtype in [DType::Float32, DType::Float16, DType::Bfloat16] {
        let source = support::random(&[2, 8, 12, 10], dtype, 7).cast(dtype, &cpu).unwrap();
        for (name, work) in ON_THE_GPU {
            let bytes = source.read(0, source.elements() as u64, &cpu).unwrap();
            let (cx, host, device) = job(gpu);
            let input = Tensor::from_bytes(&source.shape(), dtype, &bytes, &cx).unwrap();
            let before = gpu.counters();
            let got = work(&input, &cx).unwrap();
            let after = gpu.counters();
            assert!(after.launches > before.launches, "{name} started no kernel");
            assert_eq!(after.downloads, before.downloads, "{name} of {dtype} went back to the CPU");
            compare(name, dtype, &work(&source, &cpu).unwrap(), &got);
            drop((input, got));
            assert_eq!((host.used(), device.used()), (0, 0), "{name} keeps memory");
        }
    }
}

#[test]
fn what_is_made_of_nothing_is_made_on_the_gpu() {
    let Some((gpu, _alone)) = alone() else { return };
    for (name, work) in MADE_ON_THE_GPU {
        let (cx, host, device) = job(gpu);
        let before = gpu.counters();
        let got = work(&cx).unwrap();
        let after = gpu.counters();
        assert!(after.launches > before.launches, "{name} started no kernel");
        assert_eq!((after.uploads, after.downloads), (before.uploads, before.downloads), "{name} was copied");
        compare(name, DType::Float32, &work(&cpu_context()).unwrap(), &got);
        drop(got);
        assert_eq!((host.used(), device.used()), (0, 0), "{name} keeps memory");
    }
}

#[test]
fn sizes_beyond_one_tile_agree() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    let cpu = cpu_context();
    let (a, b) = (support::random(&[3, 70, 45], DType::Float16, 1), support::random(&[45, 131], DType::Float32, 2));
    compare("matmul", DType::Float32, &a.matmul(&b, &cpu).unwrap(), &a.matmul(&b, &cx).unwrap());
    let image = support::random(&[1, 40, 15, 13], DType::Float32, 3);
    let weight = support::random(&[70, 20, 3, 3], DType::Float32, 4);
    let bias = support::random(&[70], DType::Bfloat16, 5);
    let geometry = ConvGeometry { stride: [2, 1], padding: [1, 1], groups: 2, ..ConvGeometry::default() };
    let convolve = |cx: &OpContext| image.conv2d(&weight, Some(&bias), &geometry, cx).unwrap();
    compare("conv2d", DType::Float32, &convolve(&cpu), &convolve(&cx));
    let [q, k, v] =
        [(6, 70), (7, 90), (8, 90)].map(|(seed, length)| support::random(&[2, length, 40], DType::Float16, seed));
    let mask =
        support::random(&[1, 70, 90], DType::Float32, 9).binary(BinaryOp::Gt, Operand::Scalar(-2.0), &cpu).unwrap();
    let attend = |cx: &OpContext| q.scaled_dot_product_attention(&k, &v, Some(&mask), false, Some(0.05), cx).unwrap();
    compare("attention", DType::Float16, &attend(&cpu), &attend(&cx));
    let long = support::random(&[2, 3000], DType::Float32, 10);
    for op in [ReduceOp::Sum, ReduceOp::Amin, ReduceOp::Any] {
        compare(
            "reduce",
            DType::Float32,
            &long.reduce(op, &[1], false, &cpu).unwrap(),
            &long.reduce(op, &[1], false, &cx).unwrap(),
        );
    }
    compare("softmax", DType::Float32, &long.softmax(1, &cpu).unwrap(), &long.softmax(1, &cx).unwrap());
}

/// Many equal elements, not-a-number, both zeros and the ends of the range, in one row that takes several blocks and in many.
#[test]
fn rows_are_ordered_to_the_last_place() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    let cpu = cpu_context();
    let mut values: Vec<f32> =
        (0..3000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as f32 - 128.0).collect();
    for (place, odd) in
        [f32::NAN, -0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40].into_iter().cycle().take(60).enumerate()
    {
        values[place * 47 + 3] = odd;
    }
    let floats = Tensor::from_vec(&[3000], values, &cpu).unwrap();
    // Beyond what float64 tells apart.
    let whole = |index: i64| (index * 7919 % 1000 - 500) * 9_007_199_254_740_993 + index % 3;
    let wide = Tensor::from_vec(&[1, 3000], (0..3000).map(whole).collect(), &cpu).unwrap();
    let short = floats.reshape(&[75, 40], &cpu).unwrap();
    let small = short.cast(DType::Uint8, &cpu).unwrap();
    let bytes = |tensor: &Tensor| tensor.read(0, tensor.elements() as u64, &cpu_context()).unwrap();
    for tensor in [&floats, &wide, &short, &small] {
        for flag in [false, true] {
            let [wanted, got] = [&cpu, &cx].map(|cx| {
                let (sorted, places) = tensor.sort(-1, flag, cx).unwrap();
                let best = tensor.argmax(-1, flag, false, cx).unwrap();
                [sorted, places, best].map(|tensor| bytes(&tensor))
            });
            assert!(wanted == got, "{tensor:?} {flag}");
            for k in [1, 30, 128, 129].into_iter().filter(|k| *k <= *tensor.shape().last().unwrap()) {
                let [wanted, got] = [&cpu, &cx].map(|cx| {
                    let (kept, places) = tensor.topk(k, -1, flag, cx).unwrap();
                    [kept, places].map(|tensor| bytes(&tensor))
                });
                assert!(wanted == got, "the first {k} of {tensor:?} {flag}");
            }
        }
    }
    // So many tiles that their heads are more than one tile again.
    let long = Tensor::cat(&[&floats, &floats, &floats, &floats], 0, &cpu).unwrap();
    let long = long.slice(0, 0, 11_800, 1, &cpu).unwrap().reshape(&[1, 11_800], &cpu).unwrap();
    let [wanted, got] = [&cpu, &cx].map(|cx| bytes(&long.topk(100, 1, true, cx).unwrap().1));
    assert!(wanted == got);
    let finite = floats.clamp(Some(-100.0), Some(100.0), &cpu).unwrap().slice(0, 4, 3000, 47, &cpu).unwrap();
    let sums = |cx: &OpContext| [&wide, &small, &finite, &short].map(|tensor| tensor.cumsum(-1, cx).unwrap());
    for (wanted, got) in sums(&cpu).iter().zip(&sums(&cx)) {
        compare("cumsum", wanted.dtype(), wanted, got);
    }
    assert!(bytes(&sums(&cpu)[0]) == bytes(&sums(&cx)[0]), "sums of int64 are exact");
}

/// A ridge as long as the picture is wide, many times over, strong at one end only: across blocks, and along a spiral.
#[test]
fn edges_are_followed_to_their_end() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    let side = 40u64;
    // A spiral of lines four pixels apart, fading along its way; and so much noise that no two neighbours are equally strong.
    let noise = |place: u32| (place.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 * 0.02;
    let mut picture: Vec<f32> = (0..(side * side) as u32).map(noise).collect();
    let (mut x, mut y, mut step, mut bright) = (2i64, 2i64, (1i64, 0i64), 1.0f32);
    for turn in 0..17i64 {
        for _ in 0..if turn < 3 { 36 } else { 32 - (turn - 3) / 2 * 4 } {
            picture[(y * side as i64 + x) as usize] += bright;
            bright = (bright * 0.985).max(0.3);
            (x, y) = (x + step.0, y + step.1);
        }
        step = (-step.1, step.0);
    }
    let picture = Tensor::from_vec(&[1, 1, side, side], picture, &cpu_context()).unwrap();
    let [wanted, got] = [&cpu_context(), &cx].map(|cx| picture.canny(0.1, 0.9, cx).unwrap());
    let kept = Slow::of(&wanted).values.iter().sum::<f64>();
    let strong = Slow::of(&picture.canny(0.9, 0.9, &cx).unwrap()).values.iter().sum::<f64>();
    assert!(strong > 0.0 && kept > 3.0 * strong, "the picture is no test: {strong} of {kept} places are strong");
    Slow::of(&wanted).assert_close(&got, 0.0);
}

#[test]
fn indices_that_are_on_the_gpu_are_checked_there() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    let line = support::random(&[1, 9], DType::Float32, 5);
    let place = line.argmax(1, false, true, &cx).unwrap();
    let before = gpu.counters().downloads;
    for (moved, allowed) in [(0.0, true), (-9.0, false), (9.0, false), (8e18, false)] {
        let index = place.binary(BinaryOp::Add, Operand::Scalar(moved), &cx).unwrap();
        let index = index.cast(DType::Int64, &cx).unwrap();
        for work in [Tensor::gather, |x, dim, index, cx| x.scatter(dim, index, x, cx)]
            as [fn(&Tensor, i32, &Tensor, &OpContext) -> _; 2]
        {
            let answer: Result<Tensor, TensorError> = work(&line, 1, &index, &cx);
            let refused =
                answer.map(drop).map_err(|refused| (refused.kind(), refused.to_string().contains("index holds")));
            assert_eq!(refused, if allowed { Ok(()) } else { Err((ErrorKind::InvalidArgument, true)) }, "{moved}");
        }
    }
    assert_eq!(gpu.counters().downloads, before);
}

#[test]
fn a_full_account_refuses_before_the_driver_is_asked() {
    let Some((gpu, _alone)) = alone() else { return };
    let device = Budget::named("GPU memory of the tenant", 1000);
    let cx = OpContext::new(Budget::root(1 << 20)).on_gpu(gpu.job(Arc::clone(&device)).unwrap());
    let x = Tensor::zeros(&[200], DType::Float32, &cx).unwrap();
    let refused = x.unary(UnaryOp::Neg, &cx).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert!(refused.to_string().contains("GPU memory of the tenant"), "{refused}");
    drop(x);
    assert_eq!(device.used(), 0);
}

#[test]
fn copies_of_what_is_here_too_leave_when_an_account_is_full_and_time_is_counted() {
    let Some((gpu, _alone)) = alone() else { return };
    let device = Budget::named("GPU memory of the tenant", 3000);
    let job = gpu.job(Arc::clone(&device)).unwrap();
    let cx = OpContext::new(Budget::root(1 << 20)).on_gpu(job.clone());
    let before = gpu.counters().spilled;
    let weights: Vec<Tensor> = (0..4).map(|seed| support::random(&[128], DType::Float32, seed)).collect();
    let cpu = cpu_context();
    // Each needs a copy and a result of 512 bytes: the copies of those that went before have to leave.
    let results: Vec<Tensor> = weights.iter().map(|weight| weight.unary(UnaryOp::Neg, &cx).unwrap()).collect();
    for (weight, result) in weights.iter().zip(&results) {
        Slow::of(&weight.unary(UnaryOp::Neg, &cpu).unwrap()).assert_close(result, 0.0);
    }
    assert!(gpu.counters().spilled > before && device.used() <= 3000);
    // Results are nowhere else, so nothing more has room.
    let refused = weights.iter().map(|weight| weight.unary(UnaryOp::Abs, &cx)).collect::<Result<Vec<_>, _>>();
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let seconds = job.seconds().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    drop((weights, results));
    assert_eq!(device.used(), 0);
}

#[test]
fn jobs_share_tensors_and_may_end_in_any_order() {
    let Some((gpu, _alone)) = alone() else { return };
    let (first, ..) = job(gpu);
    let weights = support::random(&[64, 64], DType::Float32, 3).unary(UnaryOp::Tanh, &first).unwrap();
    let wanted = Slow::of(&weights.binary(BinaryOp::Add, Operand::Scalar(1.0), &first).unwrap());
    drop(first);
    let results: Vec<Tensor> = std::thread::scope(|scope| {
        let run = |_| {
            let weights = weights.clone();
            scope.spawn(move || {
                let (cx, ..) = job(gpu);
                weights.binary(BinaryOp::Add, Operand::Scalar(1.0), &cx).unwrap()
            })
        };
        let threads: Vec<_> = (0..4).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    drop(weights);
    results.iter().for_each(|result| wanted.assert_close(result, 0.0));
}

#[test]
fn kernels_come_from_the_cache_the_second_time() {
    let Some((_gpu, _alone)) = alone() else { return };
    let folder = std::env::temp_dir().join(format!("vivarium-kernels-{}", std::process::id()));
    let counters = [0, 1].map(|_| {
        let gpu = Gpu::open(0, Some(&folder)).unwrap();
        let (cx, ..) = job(&gpu);
        support::random(&[9], DType::Float32, 1).unary(UnaryOp::Exp, &cx).unwrap();
        (gpu.counters().compiled, gpu.counters().cached)
    });
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(counters, [(1, 0), (0, 1)]);
}

#[test]
fn what_many_need_at_once_is_compiled_once() {
    let Some((_gpu, _alone)) = alone() else { return };
    const JOBS: usize = 6;
    let gpu = Gpu::open(0, None).unwrap();
    let start = std::sync::Barrier::new(JOBS);
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                let (cx, ..) = job(&gpu);
                let numbers = support::random(&[9], DType::Float32, 1);
                start.wait();
                numbers.unary(UnaryOp::Exp, &cx).unwrap();
            });
        }
    });
    assert_eq!((gpu.counters().compiled, gpu.counters().launches), (1, JOBS as u64));
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    let Some((_gpu, _alone)) = alone() else { return };
    let error = Gpu::open(99, None).unwrap_err();
    assert!(error.to_string().contains("number 99"), "{error}");
}

#[test]
fn casts_round_and_saturate_as_on_the_cpu() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    let cpu = cpu_context();
    // Many that need rounding, halves between neighbours of float16 and bfloat16, and the ends of every type.
    let mut values: Vec<f32> = (-300..300).map(|index| index as f32 * 0.737 + 1.0 / 3.0).collect();
    values.extend((0..200u32).map(|index| f32::from_bits(0x3f80_0000 + index * 0x0800)));
    values
        .extend([0.0, -0.0, 1e-8, 6e-8, 1e-40, 65_504.0, 65_519.0, 65_520.0, 255.5, 256.0, -1.0, 2e9, 3e9, -3e9, 1e19]);
    values.extend([-1e19, 1e30, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let shape = [values.len() as u64];
    let on = |cx: &OpContext| Tensor::from_vec(&shape, values.clone(), cx).unwrap();
    for dtype in DType::ALL {
        let (wanted, got) = (on(&cpu).cast(dtype, &cpu).unwrap(), on(&cx).cast(dtype, &cx).unwrap());
        Slow::of(&wanted).assert_close(&got, 0.0);
        for back in DType::ALL {
            Slow::of(&wanted.cast(back, &cpu).unwrap()).assert_close(&got.cast(back, &cx).unwrap(), 0.0);
        }
    }
}

#[test]
fn fourier_transforms_of_lengths_with_large_factors_are_as_exact_as_the_cpus() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    for (length, inverse) in [(11, false), (22, true), (97, false), (509, true), (1021, false), (2022, true)] {
        let x = support::random(&[2, length, 2], DType::Float32, length);
        let before = gpu.counters().downloads;
        let got = x.fft(&[1], inverse, &cx).unwrap();
        assert_eq!(gpu.counters().downloads, before, "{length} went to the CPU");
        let [got, wanted] = [&got, &x.fft(&[1], inverse, &cpu_context()).unwrap()].map(|x| Slow::of(x).values);
        let largest = wanted.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let off = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= 1e-6 * largest, "{off} of {largest} for {length}");
    }
}

#[test]
fn copies_without_end_are_refused_and_others_go_on() {
    let Some((gpu, _alone)) = alone() else { return };
    let (cx, ..) = job(gpu);
    let cx = OpContext { copies: Copies::up_to(100_000), ..cx };
    // Reflected in so many dimensions that the GPU would take too many pieces together.
    let x = support::random(&[3; 5], DType::Float32, 3);
    let inner = |x: &Tensor, cx: &OpContext| (0..5).try_fold(x.clone(), |x, dim| x.slice(dim, 1, 4, 1, cx));
    // There and back for every step: the CPU has it, the GPU takes the magnitudes, the CPU reflects them.
    let step = |x: &Tensor, cx: &OpContext| {
        inner(&x.unary(UnaryOp::Abs, cx)?.pad(&[1; 5], &[1; 5], PadMode::Reflect, 0.0, cx)?, cx)
    };
    let mut steps = 0;
    let mut last = x.clone();
    let error = loop {
        match step(&last, &cx) {
            Ok(next) => last = next,
            Err(error) => break error,
        }
        steps += 1;
    };
    assert_eq!((steps, error.kind()), (8, ErrorKind::LimitExceeded), "{error}");
    assert!(error.to_string().contains("gpu_transfer_bytes") && error.to_string().contains("100000"), "{error}");
    let (other, ..) = job(gpu);
    assert_eq!(Slow::of(&step(&x, &other).unwrap()).values, Slow::of(&step(&x, &cpu_context()).unwrap()).values);
}
