//! burn's CPU kernels: those of `burn-flex`, which its authors recommend now that `burn-ndarray` is deprecated.

use anyhow::Result;
use burn_tensor::ops::ConvOptions;
use burn_tensor::{DType, Device, Tensor, TensorData, activation, module};

use crate::case::{Case, Kind};
use crate::side::Side;

/// What burn has of the case.
pub(crate) fn sides(case: &Case) -> Vec<Side<'_>> {
    match case.kind {
        Kind::Matmul { .. } => {
            let (a, b) = (tensor::<2>(case, 0), tensor::<2>(case, 1));
            side(move || a.clone().matmul(b.clone()))
        }
        Kind::Linear { .. } => {
            // burn keeps a weight as `[in,out]`; a view of PyTorch's is as fast by its documentation.
            let (x, w) = (tensor::<2>(case, 0), tensor::<2>(case, 1).transpose());
            side(move || module::linear(x.clone(), w.clone(), None))
        }
        Kind::Conv { window, .. } => {
            let (x, w) = (tensor::<4>(case, 0), tensor::<4>(case, 1));
            side(move || {
                module::conv2d(x.clone(), w.clone(), None, ConvOptions::new([1; 2], [window / 2; 2], [1; 2], 1))
            })
        }
        Kind::Attention { .. } => {
            let (q, k, v) = (tensor::<4>(case, 0), tensor::<4>(case, 1), tensor::<4>(case, 2));
            side(move || module::attention(q.clone(), k.clone(), v.clone(), None, None, Default::default()))
        }
        Kind::Softmax { .. } => {
            let x = tensor::<2>(case, 0);
            side(move || activation::softmax(x.clone(), 1))
        }
        Kind::LayerNorm { .. } => {
            let (x, w, b) = (tensor::<2>(case, 0), tensor::<1>(case, 1), tensor::<1>(case, 2));
            side(move || module::layer_norm(x.clone(), w.clone(), Some(b.clone()), 1e-5))
        }
        Kind::Gelu { .. } => {
            let x = tensor::<2>(case, 0);
            side(move || activation::gelu(x.clone()))
        }
        _ => Vec::new(),
    }
}

fn side<'a, const D: usize>(work: impl Fn() -> Tensor<D> + 'a) -> Vec<Side<'a>> {
    vec![Side::making("burn", move || Ok(work()), numbers)]
}

fn numbers<const D: usize>(result: &Tensor<D>) -> Result<Vec<f32>> {
    result.clone().into_data().try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))
}

fn tensor<const D: usize>(case: &Case, index: usize) -> Tensor<D> {
    let (shape, numbers) = &case.inputs[index];
    let dtype = match case.dtype {
        vivarium_tensor::DType::Float16 => DType::F16,
        vivarium_tensor::DType::Bfloat16 => DType::BF16,
        _ => DType::F32,
    };
    Tensor::from_data(TensorData::new(numbers.clone(), shape.clone()), (&Device::new(burn_flex::FlexDevice), dtype))
}
