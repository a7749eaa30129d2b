//! Numbers out of nothing: progressions, and Philox's random ones.

use super::compile::CREATE;
use super::gpu::GpuJob;
use super::launch::Start;
use crate::device::Series;
use crate::shape::Layout;
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `create.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Create {
    out: u64,
    elements: u64,
    start: f64,
    end: f64,
    step: f64,
    from_start: u64,
    key: [u32; 2],
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Create {}

impl GpuJob {
    pub(super) fn create(
        &self,
        op: &'static str,
        shape: Shape,
        series: Series,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = shape.elements();
        let key = |seed: u64| [seed as u32, (seed >> 32) as u32];
        let (name, items, numbers) = match series {
            Series::Progression { start, end, step, from_start } => {
                let from_start = from_start as u64;
                ("PROGRESSION", elements, Create { start, end, step, from_start, ..Create::default() })
            }
            Series::Uniform { seed } => {
                ("UNIFORM", elements.div_ceil(4), Create { key: key(seed), ..Create::default() })
            }
            Series::Normal { seed } => ("NORMAL", elements.div_ceil(4), Create { key: key(seed), ..Create::default() }),
        };
        let defines = [("SERIES", name)];
        let start = Start::over(op, CREATE, &defines, items);
        self.make(&start, (&[], &[]), (Layout::contiguous(shape), DType::Float32), cx, |_, _, out| Create {
            out,
            elements: elements as u64,
            ..numbers
        })
    }
}
