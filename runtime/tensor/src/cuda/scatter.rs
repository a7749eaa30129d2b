//! Elements written to places that indices name.

use super::DeviceBuffer;
use super::compile::SCATTER;
use super::gpu::{GpuJob, failed};
use super::launch::{Start, View, element_type, padded};
use crate::shape::{Layout, MAX_RANK};
use crate::{OpContext, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `scatter.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Scatter {
    out: u64,
    claims: u64,
    index: View,
    source: View,
    elements: u64,
    lengths: [i64; MAX_RANK],
    strides: [i64; MAX_RANK],
    step: i64,
    rank: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Scatter {}

impl GpuJob {
    /// `target` is row-major; for an addition, it is float32 or int64.
    pub(super) fn scatter(
        &self,
        op: &'static str,
        (target, dim): (&Tensor, usize),
        index: &Tensor,
        source: &Tensor,
        adds: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = index.elements();
        // They are counted in 32 bits.
        if elements == 0 || target.elements() == 0 || elements >= u32::MAX as usize {
            return Ok(None);
        }
        let (places, values) = (self.resident(op, index, cx)?, self.resident(op, source, cx)?);
        let mut out = self.copied(op, target, cx)?;
        let layout = Layout::contiguous(*target.lengths_shape());
        let mut strides = layout.strides().to_vec();
        let step = std::mem::take(&mut strides[dim]) as i64;
        let arguments = |out: u64, pointers: &[u64]| Scatter {
            out,
            claims: pointers.get(2).copied().unwrap_or_default(),
            index: View::new(pointers[0], index.dtype(), index.layout.offset, index.strides()),
            source: View::new(pointers[1], source.dtype(), source.layout.offset, source.strides()),
            elements: elements as u64,
            lengths: padded(index.dims()),
            strides: padded(&strides),
            step,
            rank: index.rank() as i64,
        };
        if adds {
            let number = if target.dtype().is_float() { ("FLOATS", "1") } else { ("INTEGERS", "1") };
            let defines = [("STEP", "ADD"), number];
            let start = Start::over(op, SCATTER, &defines, elements);
            self.start(&start, &[&places, &values], &mut out, |pointers, out| arguments(out, pointers))?;
        } else {
            let mut claims = self.zeros(op, target.elements() * size_of::<u32>())?;
            let start = Start::over(op, SCATTER, &[("STEP", "CLAIM")], elements);
            self.start(&start, &[&places, &values], &mut claims, |pointers, out| arguments(out, pointers))?;
            let defines = [("STEP", "WRITE"), ("ELEMENT", element_type(target.dtype()))];
            let start = Start::over(op, SCATTER, &defines, elements);
            self.start(&start, &[&places, &values, &claims], &mut out, |pointers, out| arguments(out, pointers))?;
        }
        self.tensor(op, layout, target.dtype(), out, cx).map(Some)
    }

    /// The elements of a row-major tensor, to be changed.
    fn copied(&self, op: &'static str, tensor: &Tensor, cx: &OpContext) -> Result<DeviceBuffer, TensorError> {
        let resident = self.resident(op, tensor, cx)?;
        let mut out = self.allocate(op, tensor.bytes() as usize)?;
        let start = tensor.layout.offset * tensor.dtype().size();
        let Some(part) = resident.slice.try_slice(start..start + tensor.bytes() as usize) else {
            return Err(TensorError::Device { op, message: "a tensor beyond its buffer".to_owned() });
        };
        self.stream.memcpy_dtod(&part, &mut out.slice).map_err(|error| failed(op, error))?;
        resident.read_by(&self.stream).map_err(|error| failed(op, error))?;
        Ok(out)
    }
}
