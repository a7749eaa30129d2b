//! How long the operations take that image nodes use, at 2048² RGB. Run with `--release`.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};
use vivarium_tensor::{
    BinaryOp, Budget, DType, InterpolateMode, OpContext, Operand, PadMode, ReduceOp, Tensor, TensorError, UnaryOp,
};

const SIDE: u64 = 2048;

fn main() -> Result<(), TensorError> {
    let cx = &OpContext::new(Budget::root(8 << 30));
    let elements = SIDE * SIDE * 3;
    let image = Tensor::linspace(0.0, 1.0, elements, cx)?.reshape(&[1, SIDE as i64, SIDE as i64, 3], cx)?;
    let other = image.binary(BinaryOp::Mul, Operand::Scalar(0.5), cx)?;
    let mask = Tensor::full(&[1, SIDE, SIDE, 1], 0.5, DType::Float32, cx)?;
    let channels_first = image.permute(&[0, 3, 1, 2], cx)?;
    let planar = channels_first.contiguous(cx)?;
    let half = image.cast(DType::Float16, cx)?;
    let bytes = image.cast(DType::Uint8, cx)?;
    let kernel: Vec<f32> = vec![1.0 / 63.0; 63];
    let resize = |tensor: &Tensor, side: u64, mode| tensor.interpolate(side, side, mode, cx);
    let time = |name: &str, work: &dyn Fn() -> Result<Tensor, TensorError>| {
        let best = (0..5).map(|_| timed(work, cx)).min().unwrap_or_default();
        println!("{name:40} {:8.2} ms", best.as_secs_f64() * 1e3);
    };
    time("zeros", &|| Tensor::zeros(&[elements], DType::Float32, cx));
    time("full", &|| Tensor::full(&[elements], 1.0, DType::Float32, cx));
    time("add scalar", &|| image.binary(BinaryOp::Add, Operand::Scalar(1.0), cx));
    time("mul tensor", &|| image.binary(BinaryOp::Mul, Operand::Tensor(&other), cx));
    time("mul by mask [B,H,W,1]", &|| image.binary(BinaryOp::Mul, Operand::Tensor(&mask), cx));
    time("mul f16", &|| half.binary(BinaryOp::Mul, Operand::Tensor(&half), cx));
    time("add u8", &|| bytes.binary(BinaryOp::Add, Operand::Tensor(&bytes), cx));
    time("less than scalar", &|| image.binary(BinaryOp::Lt, Operand::Scalar(0.5), cx));
    time("pow 2.2", &|| image.binary(BinaryOp::Pow, Operand::Scalar(2.2), cx));
    time("exp", &|| image.unary(UnaryOp::Exp, cx));
    time("log", &|| image.unary(UnaryOp::Log, cx));
    time("sin", &|| image.unary(UnaryOp::Sin, cx));
    time("tanh", &|| image.unary(UnaryOp::Tanh, cx));
    time("sigmoid", &|| image.unary(UnaryOp::Sigmoid, cx));
    time("gelu", &|| image.unary(UnaryOp::Gelu, cx));
    time("round", &|| image.unary(UnaryOp::Round, cx));
    time("sqrt", &|| image.unary(UnaryOp::Sqrt, cx));
    time("clamp", &|| image.clamp(Some(0.0), Some(1.0), cx));
    time("lerp by mask", &|| image.lerp(&other, Operand::Tensor(&mask), cx));
    time("f32 to f16", &|| image.cast(DType::Float16, cx));
    time("f32 to u8", &|| image.cast(DType::Uint8, cx));
    time("NHWC to NCHW", &|| channels_first.contiguous(cx));
    time("NCHW to NHWC", &|| planar.permute(&[0, 2, 3, 1], cx)?.contiguous(cx));
    time("flip width, contiguous", &|| image.flip(&[2], cx)?.contiguous(cx));
    time("cat batch", &|| Tensor::cat(&[&image, &image], 0, cx));
    time("cat channels (RGB + alpha)", &|| Tensor::cat(&[&image, &mask], -1, cx));
    time("repeat batch", &|| image.repeat(&[2, 1, 1, 1], cx));
    time("pad reflect 64", &|| image.pad(&[0, 64, 64, 0], &[0, 64, 64, 0], PadMode::Reflect, 0.0, cx));
    time("paste 1024²", &|| {
        image.paste(&image.slice(1, 0, 1024, 1, cx)?.slice(2, 0, 1024, 1, cx)?, &[0, 500, 500, 0], cx)
    });
    time("sum all", &|| image.reduce(ReduceOp::Sum, &[], false, cx));
    time("mean channels", &|| image.reduce(ReduceOp::Mean, &[3], false, cx));
    time("mean height, width", &|| image.reduce(ReduceOp::Mean, &[1, 2], false, cx));
    time("amax height (NCHW)", &|| planar.reduce(ReduceOp::Amax, &[2], false, cx));
    time("blur radius 31, channels last", &|| channels_first.separable_filter(&kernel, &kernel, PadMode::Reflect, cx));
    time("blur radius 31, planar", &|| planar.separable_filter(&kernel, &kernel, PadMode::Reflect, cx));
    for (name, mode) in [
        ("nearest-exact", InterpolateMode::NearestExact),
        ("bilinear", InterpolateMode::Bilinear),
        ("bicubic", InterpolateMode::Bicubic),
        ("area", InterpolateMode::Area),
        ("lanczos", InterpolateMode::Lanczos),
    ] {
        time(&format!("{name} to 1024², channels last"), &|| resize(&channels_first, 1024, mode));
        time(&format!("{name} to 1024², planar"), &|| resize(&planar, 1024, mode));
        let small = channels_first.slice(2, 0, 1024, 1, cx)?.slice(3, 0, 1024, 1, cx)?;
        time(&format!("{name} from 1024² to 1536², channels last"), &|| resize(&small, 1536, mode));
    }
    Ok(())
}

fn timed(work: &dyn Fn() -> Result<Tensor, TensorError>, cx: &OpContext) -> Duration {
    let start = Instant::now();
    // Elementwise results would wait for somebody who needs them.
    let result = work().and_then(|result| result.settle(cx));
    let taken = start.elapsed();
    assert!(result.is_ok());
    taken
}
