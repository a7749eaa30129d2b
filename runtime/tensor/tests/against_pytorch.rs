//! Every operation against what PyTorch answered (`pytorch/compare.py` wrote it down).
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::*;
use vivarium_tensor::{Activation, ConvGeometry, DType, Generator, OpContext, Tensor, TensorError};

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
        unknown => panic!("no operation is called {unknown}"),
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
fn difference(wanted: &Tensor, got: &Tensor, exact: bool) -> Option<String> {
    if wanted.dtype() != got.dtype() || wanted.dims() != got.dims() {
        return Some(format!("{got:?} instead of {wanted:?}"));
    }
    let tolerance = match wanted.dtype() {
        DType::Float32 if !exact => 1e-5,
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
    let cx = context();
    let cases: Vec<Value> = serde_json::from_str(include_str!("pytorch/goldens.json")).unwrap();
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
                if let Some(difference) = difference(&unpack(wanted, &cx), got, op == "sort") {
                    failures.push(format!("case {number}, {op} {} {how}: {difference}", case["args"]));
                }
            }
        }
    }
    assert!(cases.len() > 150 && failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
