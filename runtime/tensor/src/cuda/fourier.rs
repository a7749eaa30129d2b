//! Fourier transforms of lines, one pass for each factor of their length.

use super::DeviceBuffer;
use super::compile::FOURIER;
use super::gpu::GpuJob;
use super::launch::{Start, View};
use crate::shape::Layout;
use crate::{DType, OpContext, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// What a pass can take a length apart by, and its name; four before two.
const RADICES: [(usize, &str); 5] = [(4, "4"), (2, "2"), (3, "3"), (5, "5"), (7, "7")];

/// `Arguments` of `fourier.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pass {
    out: u64,
    source: View,
    butterflies: u64,
    length: i64,
    done: i64,
    inverse: i32,
    scale: f32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Pass {}

/// The factors of a length, for each of which there is a pass; a length of 1 takes one that copies. `None` where others remain.
fn factors(length: usize) -> Option<Vec<(usize, &'static str)>> {
    let (mut left, mut factors) = (length, Vec::new());
    for (radix, name) in RADICES {
        while left > 1 && left.is_multiple_of(radix) {
            left /= radix;
            factors.push((radix, name));
        }
    }
    if length == 1 {
        factors.push((1, "1"));
    }
    (left == 1).then_some(factors)
}

impl GpuJob {
    /// `lines` is row-major `[…,length,2]`.
    pub(super) fn transform(
        &self,
        op: &'static str,
        lines: &Tensor,
        inverse: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let length = lines.dims()[lines.rank() - 2];
        let Some(factors) = factors(length).filter(|_| lines.elements() > 0) else { return Ok(None) };
        let source = self.resident(op, lines, cx)?;
        let bytes = lines.elements() * size_of::<f32>();
        let mut before: Option<DeviceBuffer> = None;
        let mut spare: Option<DeviceBuffer> = None;
        let mut done = 1;
        for (index, (radix, name)) in factors.iter().enumerate() {
            let butterflies = lines.elements() / 2 / radix;
            let mut out = match spare.take() {
                Some(buffer) => buffer,
                None => self.allocate(op, bytes)?,
            };
            let defines = [("RADIX", *name)];
            let start = Start::over(op, FOURIER, &defines, butterflies);
            let last = index + 1 == factors.len();
            self.start(&start, &[before.as_ref().unwrap_or(&source)], &mut out, |pointers, out| Pass {
                out,
                source: match index {
                    0 => View::new(pointers[0], lines.dtype(), lines.layout.offset, &[]),
                    _ => View::new(pointers[0], DType::Float32, 0, &[]),
                },
                butterflies: butterflies as u64,
                length: length as i64,
                done: done as i64,
                inverse: i32::from(inverse),
                scale: if last && inverse { 1.0 / length as f32 } else { 1.0 },
            })?;
            spare = before.replace(out);
            done *= radix;
        }
        let Some(out) = before else { return Ok(None) };
        self.tensor(op, Layout::contiguous(*lines.lengths_shape()), DType::Float32, out, cx).map(Some)
    }
}
