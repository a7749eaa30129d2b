//! Scaled dot-product attention.

use super::compile::ATTENTION;
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, Walk, padded};
use crate::shape::{Layout, MAX_RANK};
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// Queries of one block, see `attention.cu`.
const QUERIES: usize = 32;

/// Widths that the kernel is compiled for: the next one that has room. Wider heads run on the CPU.
const WIDTHS: [(usize, &str); 7] =
    [(16, "16"), (32, "32"), (40, "40"), (64, "64"), (80, "80"), (96, "96"), (128, "128")];

/// `Arguments` of `attention.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attention {
    out: u64,
    query: View,
    key: View,
    value: View,
    mask: View,
    batch_lengths: [i64; MAX_RANK],
    batches: [[i64; MAX_RANK]; 4],
    queries: i64,
    keys: i64,
    width: i64,
    value_width: i64,
    scale: f32,
    causal: i32,
    boolean_mask: i32,
    batch_rank: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Attention {}

impl GpuJob {
    pub(super) fn attend(
        &self,
        op: &'static str,
        [query, key, value]: [&Tensor; 3],
        mask: Option<(&Tensor, Layout)>,
        shape: Shape,
        (causal, scale): (bool, f32),
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let at = shape.rank() - 2;
        let (queries, width) = (query.dims()[at], query.dims()[at + 1]);
        let (keys, value_width) = (value.dims()[at], value.dims()[at + 1]);
        let Some((_, room)) = WIDTHS.iter().find(|(room, _)| *room >= width.max(value_width)) else { return Ok(None) };
        let batch: usize = shape.lengths()[..at].iter().product();
        let blocks = batch.checked_mul(queries.div_ceil(QUERIES)).and_then(|blocks| u32::try_from(blocks).ok());
        let Some(blocks) = blocks.filter(|blocks| (1..1 << 31).contains(blocks)) else { return Ok(None) };
        if width == 0 {
            return Ok(None);
        }
        let zeros = [0isize; MAX_RANK];
        let mask_strides = mask.as_ref().map_or(&zeros[..at + 2], |(_, layout)| layout.strides());
        let strides = [query.strides(), key.strides(), value.strides(), mask_strides];
        let walk = Walk::new(&shape.lengths()[..at], &strides.map(|strides| &strides[..at]));
        let mut residents = Vec::new();
        for tensor in [query, key, value].into_iter().chain(mask.as_ref().map(|(tensor, _)| *tensor)) {
            residents.push(self.resident(op, tensor, cx)?);
        }
        let mut out = self.allocate(op, shape.elements() * size_of::<f32>())?;
        let start =
            Start { op, source: ATTENTION, defines: &[("WIDTH", room)], grid: (blocks, 1, 1), threads: THREADS };
        let reads: Vec<_> = residents.iter().map(|buffer| &**buffer).collect();
        let view = |pointer: u64, tensor: &Tensor, layout: &Layout| {
            View::new(pointer, tensor.dtype(), layout.offset, &layout.strides()[at..])
        };
        self.start(&start, &reads, &mut out, |pointers, target| Attention {
            out: target,
            query: view(pointers[0], query, &query.layout),
            key: view(pointers[1], key, &key.layout),
            value: view(pointers[2], value, &value.layout),
            mask: mask.as_ref().map_or(View::default(), |(tensor, layout)| view(pointers[3], tensor, layout)),
            batch_lengths: padded(&walk.lengths),
            batches: [0, 1, 2, 3].map(|index| padded(&walk.strides[index])),
            queries: queries as i64,
            keys: keys as i64,
            width: width as i64,
            value_width: value_width as i64,
            scale,
            causal: i32::from(causal),
            boolean_mask: i32::from(mask.is_some_and(|(tensor, _)| tensor.dtype() == DType::Boolean)),
            batch_rank: walk.lengths.len() as i32,
        })?;
        self.tensor(op, Layout::contiguous(shape), DType::Float32, out, cx).map(Some)
    }
}
