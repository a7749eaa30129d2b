//! Elements by index, and weighted sums of elements that tables name.

use super::compile::{GATHER, RESAMPLE};
use super::gpu::GpuJob;
use super::launch::{Start, View, element_type, padded};
use crate::device::Taps;
use crate::shape::{Layout, MAX_RANK};
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `gather.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Gather {
    from: u64,
    out: u64,
    index: View,
    offset: i64,
    step: i64,
    elements: u64,
    lengths: [i64; MAX_RANK],
    strides: [i64; MAX_RANK],
    rank: i64,
}

/// `Arguments` of `resample.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Resample {
    source: View,
    out: u64,
    starts: u64,
    indices: u64,
    weights: u64,
    elements: u64,
    lengths: [i64; 4],
    axis: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Gather {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Resample {}

impl GpuJob {
    pub(super) fn gather(
        &self,
        op: &'static str,
        (source, layout): (&Tensor, Layout),
        dim: usize,
        (index, index_layout): (&Tensor, Layout),
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = shape.elements();
        if elements == 0 || source.elements() == 0 {
            return Ok(None);
        }
        let (from, places) = (self.resident(op, source, cx)?, self.resident(op, index, cx)?);
        let mut out = self.allocate(op, elements * source.dtype().size())?;
        let mut strides = layout.strides().to_vec();
        let step = std::mem::take(&mut strides[dim]);
        let defines = [("ELEMENT", element_type(source.dtype()))];
        let start = Start::over(op, GATHER, &defines, elements);
        self.start(&start, &[&from, &places], &mut out, |pointers, target| Gather {
            from: pointers[0],
            out: target,
            index: View::new(pointers[1], index.dtype(), index_layout.offset, index_layout.strides()),
            offset: layout.offset as i64,
            step: step as i64,
            elements: elements as u64,
            lengths: padded(shape.lengths()),
            strides: padded(&strides),
            rank: shape.rank() as i64,
        })?;
        self.tensor(op, Layout::contiguous(shape), source.dtype(), out, cx).map(Some)
    }

    pub(super) fn resample(
        &self,
        op: &'static str,
        (source, layout): (&Tensor, Layout),
        axis: usize,
        taps: Taps<'_>,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let shape = layout.shape.with_length(op, axis, taps.starts.len() - 1)?;
        let elements = shape.elements();
        if elements == 0 || source.elements() == 0 {
            return Ok(None);
        }
        let from = self.resident(op, source, cx)?;
        let (starts, indices) = (self.table(op, taps.starts)?, self.table(op, taps.indices)?);
        let weights = self.table(op, taps.weights)?;
        let mut out = self.allocate(op, elements * size_of::<f32>())?;
        let start = Start::over(op, RESAMPLE, &[], elements);
        self.start(&start, &[&from, &starts, &indices, &weights], &mut out, |pointers, target| Resample {
            source: View::new(pointers[0], source.dtype(), layout.offset, layout.strides()),
            out: target,
            starts: pointers[1],
            indices: pointers[2],
            weights: pointers[3],
            elements: elements as u64,
            lengths: [0, 1, 2, 3].map(|dim| shape.lengths()[dim] as i64),
            axis: axis as i64,
        })?;
        self.tensor(op, Layout::contiguous(shape), DType::Float32, out, cx).map(Some)
    }
}
