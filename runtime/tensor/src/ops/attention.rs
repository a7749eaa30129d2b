//! Scaled dot-product attention.

use super::interpolate::workspace;
use crate::cpu::attention::{Attention, Mask};
use crate::cpu::elementwise::Input;
use crate::cpu::gemm::parts_of;
use crate::cpu::reader::Reader;
use crate::device::Task;
use crate::shape::{Layout, MAX_RANK};
use crate::storage::Allocation;
use crate::{DType, OpContext, Shape, Tensor, TensorError};

const OP: &str = "scaled-dot-product-attention";

impl Tensor {
    /// softmax(self · keyᵀ · scale + mask) · value, with `self` as the query `[…,L,E]`, `key` `[…,S,E]` and `value`
    /// `[…,S,V]`; the dimensions before the last two must be equal. A boolean mask is true where a key may be seen, one
    /// of floats is added; it broadcasts to `[…,L,S]`. `causal` hides keys behind the query's own place. `scale` is
    /// 1/√E by default. A query that sees no key answers zeros.
    ///
    /// The scores are never held as a whole: workspace is linear in the lengths.
    pub fn scaled_dot_product_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        causal: bool,
        scale: Option<f64>,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let sizes = self.attention_sizes(key, value)?;
        let [batch, queries, keys, width, value_width] = sizes;
        if causal && mask.is_some() {
            return Err(TensorError::argument(OP, "causal", "cannot be combined with a mask"));
        }
        let scale = scale.unwrap_or_else(|| 1.0 / (width.max(1) as f64).sqrt());
        if !scale.is_finite() {
            return Err(TensorError::argument(OP, "scale", format!("is {scale}, not a finite number")));
        }
        let shape = self.lengths_shape().with_length(OP, self.rank() - 1, value_width)?;
        let scores = self.lengths_shape().with_length(OP, self.rank() - 1, keys)?;
        cx.check_cost(OP, &[batch, queries, keys, width + value_width])?;
        let dtype = self.dtype().promote(key.dtype()).promote(value.dtype());
        if let Some(mask) = mask {
            check_mask(mask, &scores)?;
        }
        if cx.gpu.is_some() && shape.elements() > 0 && keys > 0 {
            let (query, scale) = (self, scale as f32);
            let mask = mask.map(|mask| (mask, mask.layout.expanded(scores)));
            if let Some(result) = cx.on_device(OP, Task::Attend { query, key, value, mask, shape, causal, scale })? {
                return result.cast(dtype, cx);
            }
        }
        let mask = mask.map(|mask| prepared_mask(mask, cx)).transpose()?;
        let mut result = Allocation::<f32>::unfilled(OP, shape.elements(), cx)?;
        if shape.elements() > 0 && keys > 0 {
            let parts = parts_of(key.dtype()).max(parts_of(value.dtype()));
            let [query, key, value] = [(self, "self"), (key, "key"), (value, "value")]
                .map(|(tensor, argument)| tensor.rows_of_heads(argument, cx));
            let (query, key, value) = (query?, key?, value?);
            let attention = Attention {
                op: OP,
                query: query.rows(),
                key: key.rows(),
                value: value.rows(),
                queries,
                keys,
                width,
                value_width,
                mask: mask.as_ref().map(|mask| mask.view(scores, cx)).transpose()?,
                causal,
                scale: scale as f32,
                batch: shape.elements() / (queries * value_width),
                parts,
            };
            let _workspace = workspace(OP, attention.workspace_bytes(), cx)?;
            attention.run(&mut result.values, cx)?;
        } else {
            result.values.fill(0.0);
        }
        Tensor::of(Layout::contiguous(shape), result).cast(dtype, cx)
    }

    /// Batch, queries, keys, width of both, width of values.
    fn attention_sizes(&self, key: &Tensor, value: &Tensor) -> Result<[usize; 5], TensorError> {
        let rank = self.rank();
        let mut sizes = [1usize; 5];
        for (tensor, argument) in [(self, "self"), (key, "key"), (value, "value")] {
            tensor.check_float(OP, argument)?;
            if tensor.rank() < 2 || tensor.rank() != rank || tensor.dims()[..rank - 2] != self.dims()[..rank - 2] {
                return Err(self.misfit(argument, tensor, "all need the same dimensions before the last two"));
            }
        }
        let last = |tensor: &Tensor| (tensor.dims()[rank - 2], tensor.dims()[rank - 1]);
        let ((queries, width), (keys, key_width), (values, value_width)) = (last(self), last(key), last(value));
        if width != key_width {
            return Err(self.misfit("key", key, "the last lengths of query and key must be equal"));
        }
        if keys != values {
            return Err(self.misfit("value", value, "key and value need the same length before the last"));
        }
        sizes[0] = self.dims()[..rank - 2].iter().product();
        sizes[1..].copy_from_slice(&[queries, keys, width, value_width]);
        Ok(sizes)
    }

    fn misfit(&self, argument: &'static str, other: &Tensor, rule: &'static str) -> TensorError {
        let (left, right) = (Box::new(*self.lengths_shape()), Box::new(*other.lengths_shape()));
        TensorError::Shapes { op: OP, argument, left, right, rule }
    }

    /// As float32 whose last dimension is dense, so that heads split off by a permutation are not copied.
    fn rows_of_heads(&self, argument: &'static str, cx: &OpContext) -> Result<Heads, TensorError> {
        self.check_float(OP, argument)?;
        let tensor = self.cast(DType::Float32, cx)?;
        let rank = tensor.rank();
        let strides = tensor.layout.strides();
        let usable = (strides[rank - 1] == 1 || tensor.dims()[rank - 1] == 1) && strides[rank - 2] > 0;
        let tensor = if usable { tensor } else { tensor.contiguous(cx)? };
        tensor.buffer(OP, cx)?;
        Ok(Heads(tensor))
    }
}

struct Heads(Tensor);

impl Heads {
    fn rows(&self) -> crate::cpu::attention::Rows<'_> {
        let layout = &self.0.layout;
        let rank = self.0.rank();
        let dims = layout.lengths().iter().copied().zip(layout.strides().iter().copied());
        crate::cpu::attention::Rows {
            values: self.0.values(),
            batch: Reader::of_dims(layout.offset, dims.take(rank - 2)),
            stride: layout.strides()[rank - 2] as usize,
        }
    }
}

/// A mask broadcast to the scores, and whether it is one of booleans.
struct BroadMask(Tensor, bool);

fn check_mask(mask: &Tensor, scores: &Shape) -> Result<(), TensorError> {
    if mask.dtype() != DType::Boolean {
        mask.check_float(OP, "mask")?;
    }
    let fits = mask.lengths_shape().broadcast(scores, OP, "mask").is_ok_and(|shape| shape == *scores);
    if !fits {
        let message = format!("of shape {} does not broadcast to {scores}", mask.lengths_shape());
        return Err(TensorError::argument(OP, "mask", message));
    }
    debug_assert!(scores.rank() <= MAX_RANK);
    Ok(())
}

fn prepared_mask(mask: &Tensor, cx: &OpContext) -> Result<BroadMask, TensorError> {
    Ok(BroadMask(mask.cast(DType::Float32, cx)?, mask.dtype() == DType::Boolean))
}

impl BroadMask {
    fn view(&self, scores: Shape, cx: &OpContext) -> Result<Mask<'_>, TensorError> {
        let input = Input::new(self.0.buffer(OP, cx)?, &self.0.layout.expanded(scores));
        Ok(Mask { input, boolean: self.1 })
    }
}
