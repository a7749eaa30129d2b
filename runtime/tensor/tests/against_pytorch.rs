//! Every operation against what PyTorch and others answered (`pytorch/compare.py` and `peers.py` wrote it down).
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::*;
use vivarium_tensor::{
    Activation, BlockFormat, ConvGeometry, DType, Generator, MorphologyOp, OpContext, PadMode, SampleBorder,
    SampleMode, Tensor, TensorError, VolumeGeometry,
};

fn unpack(value: &Value, cx: &OpContext) -> Tensor {
    let dtype = DType::ALL.into_iter().find(|dtype| value["dtype"] == dtype.name()).unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap());
    let values: Vec<f64> = value["values"].as_array().unwrap().iter().map(number).collect();
    let shape = unsigned(&value["shape"]);
    if dtype.is_float() {
        let floats: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        return Tensor::from_vec(&shape, floats, cx).unwrap().cast(dtype, cx).unwrap();
    }
    let whole: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    Tensor::from_vec(&shape, whole, cx).unwrap().cast(dtype, cx).unwrap()
}

fn unsigned(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect()
}

fn pair(value: &Value) -> [u64; 2] {
    unsigned(value).try_into().unwrap()
}

fn signed(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
}

fn dims(value: &Value) -> Vec<i32> {
    signed(value).into_iter().map(|dim| dim as i32).collect()
}

/// A tensor of the same elements whose strides are not what they seem.
fn twisted(tensor: &Tensor, cx: &OpContext) -> Tensor {
    let rank = tensor.rank() as i32;
    let backwards: Vec<i32> = (0..rank).rev().collect();
    tensor.permute(&backwards, cx).unwrap().contiguous(cx).unwrap().permute(&backwards, cx).unwrap()
}

fn run(op: &str, inputs: &[Option<Tensor>], args: &Value, cx: &OpContext) -> Result<Vec<Tensor>, TensorError> {
    let input = |index: usize| inputs[index].as_ref().unwrap();
    let maybe = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let integer = |name: &str| args[name].as_u64().unwrap();
    let float = |name: &str| args[name].as_f64().unwrap();
    let dim = || args["dim"].as_i64().unwrap() as i32;
    let flag = |name: &str| args[name].as_bool().unwrap();
    let geometry = || ConvGeometry {
        stride: pair(&args["stride"]),
        padding: pair(&args["padding"]),
        dilation: pair(&args["dilation"]),
        groups: integer("groups"),
    };
    let seed = || args["seed"].as_str().unwrap().parse::<u64>().unwrap();
    let one = |tensor: Result<Tensor, TensorError>| tensor.map(|tensor| vec![tensor]);
    let two = |pair: Result<(Tensor, Tensor), TensorError>| pair.map(|(a, b)| vec![a, b]);
    match op {
        "matmul" => one(input(0).matmul(input(1), cx)),
        "linear" => one(input(0).linear(input(1), maybe(2), cx)),
        "addmm" => one(input(0).addmm(input(1), input(2), float("beta"), float("alpha"), cx)),
        "einsum" => {
            let tensors: Vec<&Tensor> = inputs.iter().flatten().collect();
            one(Tensor::einsum(args["equation"].as_str().unwrap(), &tensors, cx))
        }
        "conv2d" => one(input(0).conv2d(input(1), maybe(2), &geometry(), cx)),
        "conv_transpose2d" => {
            one(input(0).conv_transpose2d(input(1), maybe(2), &geometry(), pair(&args["output_padding"]), cx))
        }
        "group_norm" => one(input(0).group_norm(integer("groups"), maybe(1), maybe(2), float("eps"), cx)),
        "layer_norm" => one(input(0).layer_norm(integer("dims") as u32, maybe(1), maybe(2), float("eps"), cx)),
        "rms_norm" => one(input(0).rms_norm(integer("dims") as u32, maybe(1), float("eps"), cx)),
        "softmax" => one(input(0).softmax(dim(), cx)),
        "attention" => {
            let (causal, scale) = (flag("causal"), args["scale"].as_f64());
            one(input(0).scaled_dot_product_attention(input(1), input(2), maybe(3), causal, scale, cx))
        }
        "activate" => {
            let name = args["name"].as_str().unwrap();
            one(input(0).activate(activation(name), float("parameter"), cx))
        }
        "sort" => two(input(0).sort(dim(), flag("descending"), cx)),
        "topk" => two(input(0).topk(integer("k"), dim(), flag("largest"), cx)),
        "argmax" => one(input(0).argmax(dim(), false, flag("keep"), cx)),
        "argmin" => one(input(0).argmax(dim(), true, flag("keep"), cx)),
        "cumprod" => one(input(0).cumprod(dim(), cx)),
        "median" => one(input(0).median(dim(), flag("keep"), cx)),
        "quantile" => one(input(0).quantile(float("q"), dim(), flag("keep"), cx)),
        "norm" => {
            let p = args["p"].as_f64().unwrap_or(f64::INFINITY);
            one(input(0).norm(p, &dims(&args["dims"]), flag("keep"), cx))
        }
        "eye" => one(Tensor::eye(integer("rows"), integer("columns"), DType::Float32, cx)),
        "batch_norm" => one(input(0).batch_norm(input(1), input(2), maybe(3), maybe(4), float("eps"), cx)),
        "instance_norm" => one(input(0).instance_norm(maybe(1), maybe(2), float("eps"), cx)),
        "conv1d" => one(input(0).conv1d(input(1), maybe(2), &geometry(), cx)),
        "cumsum" => one(input(0).cumsum(dim(), cx)),
        "variance" => one(input(0).variance(&dims(&args["dims"]), float("correction"), flag("keep"), cx)),
        "gather" => one(input(0).gather(dim(), input(1), cx)),
        "index_select" => one(input(0).index_select(dim(), input(1), cx)),
        "embedding" => one(input(0).embedding(input(1), cx)),
        "scatter" => one(input(0).scatter(dim(), input(1), input(2), cx)),
        "scatter_add" => one(input(0).scatter_add(dim(), input(1), input(2), cx)),
        "masked_fill" => one(input(0).masked_fill(input(1), float("value"), cx)),
        "stack" => one(Tensor::stack(&[input(0), input(1)], dim(), cx)),
        "split" => input(0).split(&unsigned(&args["lengths"]), dim(), cx),
        "roll" => one(input(0).roll(&signed(&args["shifts"]), &dims(&args["dims"]), cx)),
        "repeat_interleave" => one(input(0).repeat_interleave(integer("repeats"), dim(), cx)),
        "pixel_shuffle" => one(input(0).pixel_shuffle(integer("factor"), cx)),
        "pixel_unshuffle" => one(input(0).pixel_unshuffle(integer("factor"), cx)),
        "max_pool2d" => {
            one(input(0).max_pool2d(pair(&args["window"]), pair(&args["stride"]), pair(&args["padding"]), cx))
        }
        "avg_pool2d" => {
            let (window, stride, padding) = (pair(&args["window"]), pair(&args["stride"]), pair(&args["padding"]));
            one(input(0).avg_pool2d(window, stride, padding, flag("count_padding"), cx))
        }
        "randn" => one(Tensor::randn(&unsigned(&args["shape"]), seed(), Generator::Pytorch, cx).map(|t| bits(&t, cx))),
        "randn_digest" => {
            one(Tensor::randn(&unsigned(&args["shape"]), seed(), Generator::Pytorch, cx).map(|t| digest(&t, cx)))
        }
        "rand" => one(Tensor::rand(&unsigned(&args["shape"]), seed(), Generator::Pytorch, cx).map(|t| bits(&t, cx))),
        other => one(run_more(other, inputs, args, cx)),
    }
}

/// The operations of `peers.json`.
fn run_more(op: &str, inputs: &[Option<Tensor>], args: &Value, cx: &OpContext) -> Result<Tensor, TensorError> {
    let input = |index: usize| inputs[index].as_ref().unwrap();
    let bias = || inputs.get(2).and_then(Option::as_ref);
    let of = |name: &str| args[name].as_str().unwrap();
    let flag = |name: &str| args[name].as_bool().unwrap();
    let two = |name: &str| pair(&args[name]);
    let three = |name: &str| -> [u64; 3] { unsigned(&args[name]).try_into().unwrap() };
    let groups = || args["groups"].as_u64().unwrap();
    let plane =
        || ConvGeometry { stride: two("stride"), padding: two("padding"), dilation: two("dilation"), groups: groups() };
    let volume = || VolumeGeometry {
        stride: three("stride"),
        padding: three("padding"),
        dilation: three("dilation"),
        groups: groups(),
    };
    match op {
        "unfold" => input(0).unfold(two("window"), &plane(), cx),
        "fold" => input(0).fold(two("size"), two("window"), &plane(), cx),
        "adaptive_avg_pool2d" => input(0).adaptive_avg_pool2d(two("size")[0], two("size")[1], cx),
        "conv3d" => input(0).conv3d(input(1), bias(), &volume(), cx),
        "conv_transpose3d" => input(0).conv_transpose3d(input(1), bias(), &volume(), three("output_padding"), cx),
        "conv_transpose1d" => {
            input(0).conv_transpose1d(input(1), bias(), &plane(), args["output_padding"].as_u64().unwrap(), cx)
        }
        "grid_sample" => {
            let mode = match of("mode") {
                "nearest" => SampleMode::Nearest,
                "bilinear" => SampleMode::Bilinear,
                _ => SampleMode::Bicubic,
            };
            let border = match of("border") {
                "zeros" => SampleBorder::Zeros,
                "border" => SampleBorder::Border,
                _ => SampleBorder::Reflection,
            };
            input(0).grid_sample(input(1), mode, border, flag("corners"), cx)
        }
        "affine_grid" => input(0).affine_grid(two("size")[0], two("size")[1], flag("corners"), cx),
        "rope" => input(0).rope(input(1), input(2), flag("interleaved"), cx),
        "morphology" => {
            let op = if of("name") == "erode" { MorphologyOp::Erode } else { MorphologyOp::Dilate };
            input(0).morphology(op, input(1), cx)
        }
        "median_filter" => {
            let border = match of("border") {
                "constant" => PadMode::Constant,
                "reflect" => PadMode::Reflect,
                "replicate" => PadMode::Replicate,
                _ => PadMode::Circular,
            };
            input(0).median_filter(two("window"), border, cx)
        }
        "distance_transform" => input(0).distance_transform(cx),
        "rgb_to_lab" => input(0).rgb_to_lab(cx),
        "lab_to_rgb" => input(0).lab_to_rgb(cx),
        "rgb_to_ycbcr" => input(0).rgb_to_ycbcr(cx),
        "ycbcr_to_rgb" => input(0).ycbcr_to_rgb(cx),
        "histogram" => {
            let number = |name: &str| args[name].as_f64().unwrap();
            input(0).histogram(args["bins"].as_u64().unwrap(), number("min"), number("max"), cx)
        }
        "canny" => input(0).canny(args["low"].as_f64().unwrap(), args["high"].as_f64().unwrap(), cx),
        "fft" => input(0).fft(&dims(&args["dims"]), flag("inverse"), cx),
        "from_float8" | "to_float8" => {
            let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == of("name")).unwrap();
            let stored = match op {
                "to_float8" => input(0).cast(dtype, cx)?,
                _ => Tensor::from_bytes(&input(0).shape(), dtype, &input(0).read(0, 256, cx)?, cx)?,
            };
            stored.cast(DType::Float32, cx)
        }
        "from_blocks" => {
            let bytes = input(0).read(0, input(0).elements() as u64, cx)?;
            Tensor::from_blocks(&unsigned(&args["shape"]), block_format(of("format")), &bytes, cx)
        }
        unknown => panic!("no operation is called {unknown}"),
    }
}

fn block_format(name: &str) -> BlockFormat {
    match name {
        "Q4_0" => BlockFormat::Q4_0,
        "Q4_1" => BlockFormat::Q4_1,
        "Q5_0" => BlockFormat::Q5_0,
        "Q5_1" => BlockFormat::Q5_1,
        "Q8_0" => BlockFormat::Q8_0,
        "Q2_K" => BlockFormat::Q2K,
        "Q3_K" => BlockFormat::Q3K,
        "Q4_K" => BlockFormat::Q4K,
        "Q5_K" => BlockFormat::Q5K,
        "Q6_K" => BlockFormat::Q6K,
        "IQ4_NL" => BlockFormat::Iq4Nl,
        "IQ4_XS" => BlockFormat::Iq4Xs,
        unknown => panic!("no format is called {unknown}"),
    }
}

fn bits(tensor: &Tensor, cx: &OpContext) -> Tensor {
    let bits: Vec<i32> = tensor.to_vec::<f32>(cx).unwrap().iter().map(|value| value.to_bits() as i32).collect();
    Tensor::from_vec(&tensor.shape(), bits, cx).unwrap()
}

/// All bits in one number, where they are too many to write down.
fn digest(tensor: &Tensor, cx: &OpContext) -> Tensor {
    let mix = |digest: u32, value: &f32| (digest ^ value.to_bits()).wrapping_mul(16_777_619);
    let digest = tensor.to_vec::<f32>(cx).unwrap().iter().fold(2_166_136_261, mix);
    Tensor::from_vec(&[], vec![i64::from(digest)], cx).unwrap()
}

fn activation(name: &str) -> Activation {
    match name {
        "leaky_relu" => Activation::LeakyRelu,
        "elu" => Activation::Elu,
        "softplus" => Activation::Softplus,
        "mish" => Activation::Mish,
        "quick_gelu" => Activation::QuickGelu,
        "gelu_tanh" => Activation::GeluTanh,
        "erf" => Activation::Erf,
        "expm1" => Activation::Expm1,
        "log1p" => Activation::Log1p,
        "log2" => Activation::Log2,
        "hard_swish" => Activation::HardSwish,
        unknown => panic!("no activation is called {unknown}"),
    }
}

/// Why the answers differ, if they do.
fn difference(wanted: &Tensor, got: &Tensor, op: &str) -> Option<String> {
    if wanted.dtype() != got.dtype() || wanted.dims() != got.dims() {
        return Some(format!("{got:?} instead of {wanted:?}"));
    }
    let tolerance = match wanted.dtype() {
        DType::Float32 if op == "sort" => 0.0,
        // Around 0 are differences of numbers up to 500.
        DType::Float32 if op == "rgb_to_lab" => 1e-4,
        DType::Float32 => 1e-5,
        DType::Float16 => 2e-3,
        DType::Bfloat16 => 1e-2,
        _ => 0.0,
    };
    let (wanted, got) = (Slow::of(wanted), Slow::of(got));
    let mut pairs = wanted.values.iter().zip(&got.values).enumerate();
    let differs = |(_, (wanted, got)): &(usize, (&f64, &f64))| {
        let near = (*wanted - *got).abs() <= tolerance * wanted.abs().max(1.0);
        !(near || wanted == got || (wanted.is_nan() && got.is_nan()))
    };
    let (place, (wanted_value, got)) = pairs.find(differs)?;
    Some(format!("{got} instead of {wanted_value} at {:?}", coordinates(&wanted.shape, place)))
}

#[test]
fn operations_answer_what_pytorch_answers() {
    check(include_str!("pytorch/goldens.json"), 150);
}

#[test]
fn operations_answer_what_scipy_opencv_and_others_answer() {
    check(include_str!("pytorch/peers.json"), 100);
}

fn check(goldens: &str, least: usize) {
    let cx = context();
    let cases: Vec<Value> = serde_json::from_str(goldens).unwrap();
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let op = case["op"].as_str().unwrap();
        let unpacked = |value: &Value| (!value.is_null()).then(|| unpack(value, &cx));
        let inputs: Vec<Option<Tensor>> = case["inputs"].as_array().unwrap().iter().map(unpacked).collect();
        let odd: Vec<_> = inputs.iter().map(|input| input.as_ref().map(|input| twisted(input, &cx))).collect();
        for (inputs, how) in [(&inputs, "dense"), (&odd, "strided")] {
            let outputs = match run(op, inputs, &case["args"], &cx) {
                Ok(outputs) => outputs,
                Err(error) => {
                    failures.push(format!("case {number}, {how}: {error}"));
                    continue;
                }
            };
            let wanted = case["outputs"].as_array().unwrap();
            assert_eq!(wanted.len(), outputs.len());
            for (wanted, got) in wanted.iter().zip(&outputs) {
                if let Some(difference) = difference(&unpack(wanted, &cx), got, op) {
                    failures.push(format!("case {number}, {op} {} {how}: {difference}", case["args"]));
                }
            }
        }
    }
    assert!(cases.len() > least && failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
