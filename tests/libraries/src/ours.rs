//! vivarium-tensor's side.

use anyhow::Result;
use vivarium_tensor::{ConvGeometry, DType, InterpolateMode, OpContext, Tensor, TensorError, UnaryOp};

use crate::case::{Case, Kind};
use crate::side::Side;

/// The operation as a node calls it.
pub(crate) fn side<'a>(case: &'a Case, cx: &'a OpContext) -> Result<Side<'a>> {
    let mut inputs = Vec::new();
    for (shape, numbers) in &case.inputs {
        let lengths: Vec<u64> = shape.iter().map(|length| *length as u64).collect();
        inputs.push(Tensor::from_vec(&lengths, numbers.clone(), cx)?.cast(case.dtype, cx)?);
    }
    let work = move || {
        let result = operation(case.kind, &inputs, cx)?;
        // Elementwise results would wait for somebody who needs them.
        result.settle(cx)?;
        Ok(result)
    };
    let is_picture = matches!(case.kind, Kind::Bilinear { .. } | Kind::Bicubic { .. } | Kind::Lanczos { .. });
    let numbers = move |result: &Tensor| {
        let result = if is_picture { result.permute(&[0, 2, 3, 1], cx)? } else { result.clone() };
        Ok(result.cast(DType::Float32, cx)?.to_vec(cx)?)
    };
    Ok(Side::making("vivarium-tensor", work, numbers))
}

fn operation(kind: Kind, inputs: &[Tensor], cx: &OpContext) -> Result<Tensor, TensorError> {
    let x = &inputs[0];
    let resized = |to: usize, mode| x.permute(&[0, 3, 1, 2], cx)?.interpolate(to as u64, to as u64, mode, cx);
    match kind {
        Kind::Matmul { .. } => x.matmul(&inputs[1], cx),
        Kind::Linear { .. } => x.linear(&inputs[1], None, cx),
        Kind::Conv { window, .. } => {
            let geometry = ConvGeometry { padding: [window as u64 / 2; 2], ..ConvGeometry::default() };
            x.conv2d(&inputs[1], None, &geometry, cx)
        }
        Kind::Attention { .. } => x.scaled_dot_product_attention(&inputs[1], &inputs[2], None, false, None, cx),
        Kind::Softmax { .. } => x.softmax(-1, cx),
        Kind::LayerNorm { .. } => x.layer_norm(1, Some(&inputs[1]), Some(&inputs[2]), 1e-5, cx),
        Kind::Gelu { .. } => x.unary(UnaryOp::Gelu, cx),
        Kind::Bilinear { to, .. } => resized(to, InterpolateMode::Bilinear),
        Kind::Bicubic { to, .. } => resized(to, InterpolateMode::Bicubic),
        Kind::Lanczos { to, .. } => resized(to, InterpolateMode::Lanczos),
        Kind::Fft { .. } => x.fft(&[0, 1], false, cx),
    }
}
