//! candle's CPU kernels.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::ops;

use crate::case::{Case, Kind};
use crate::side::Side;

/// What candle has of the case; two ways to attention.
pub(crate) fn sides(case: &Case) -> Result<Vec<Side<'_>>> {
    let mut inputs = Vec::new();
    for (shape, numbers) in &case.inputs {
        inputs.push(Tensor::from_slice(numbers, shape.as_slice(), &Device::Cpu)?.to_dtype(dtype(case))?);
    }
    let kind = case.kind;
    if let Kind::Attention { .. } = kind {
        let swapped: Vec<Tensor> =
            inputs.iter().map(|tensor| tensor.transpose(1, 2)?.contiguous()).collect::<candle_core::Result<_>>()?;
        return Ok(vec![
            Side::making("candle", move || attention(&inputs), numbers),
            Side::making("candle, flash_attn", move || flash_attention(&swapped), numbers),
        ]);
    }
    let has = matches!(kind, Kind::Matmul { .. } | Kind::Linear { .. } | Kind::Conv { .. });
    let has = has || matches!(kind, Kind::Softmax { .. } | Kind::LayerNorm { .. } | Kind::Gelu { .. });
    Ok(if has { vec![Side::making("candle", move || operation(kind, &inputs), numbers)] } else { Vec::new() })
}

fn dtype(case: &Case) -> DType {
    match case.dtype {
        vivarium_tensor::DType::Float16 => DType::F16,
        vivarium_tensor::DType::Bfloat16 => DType::BF16,
        _ => DType::F32,
    }
}

fn numbers(result: &Tensor) -> Result<Vec<f32>> {
    Ok(result.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn operation(kind: Kind, inputs: &[Tensor]) -> Result<Tensor> {
    let x = &inputs[0];
    Ok(match kind {
        Kind::Matmul { .. } => x.matmul(&inputs[1])?,
        Kind::Linear { .. } => x.matmul(&inputs[1].t()?)?,
        Kind::Conv { window, .. } => x.conv2d(&inputs[1], window / 2, 1, 1, 1)?,
        Kind::Softmax { .. } => ops::softmax_last_dim(x)?,
        Kind::LayerNorm { .. } => ops::layer_norm(x, &inputs[1], &inputs[2], 1e-5)?,
        Kind::Gelu { .. } => x.gelu_erf()?,
        _ => anyhow::bail!("candle is not asked for {kind:?}"),
    })
}

/// As its models write it.
fn attention(inputs: &[Tensor]) -> Result<Tensor> {
    let width = inputs[0].dim(3)? as f64;
    let scores = (inputs[0].matmul(&inputs[1].t()?)? * (1.0 / width.sqrt()))?;
    Ok(ops::softmax_last_dim(&scores)?.matmul(&inputs[2])?)
}

/// Of `[1,tokens,heads,width]`.
fn flash_attention(inputs: &[Tensor]) -> Result<Tensor> {
    let scale = 1.0 / (inputs[0].dim(3)? as f32).sqrt();
    Ok(flash_attn::<f32>(&inputs[0], &inputs[1], &inputs[2], scale, AttnMask::None, None, None)?)
}
