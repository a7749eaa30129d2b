//! What lies around a pixel: extremes, medians.

use super::compile::NEIGHBORS;
use super::gpu::GpuJob;
use super::launch::{Start, View, number};
use crate::cpu::morphology::{Footprint, Median};
use crate::ops::PadMode;
use crate::shape::Layout;
use crate::{DType, OpContext, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `neighbors.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Neighbors {
    out: u64,
    source: View,
    places: u64,
    elements: u64,
    seen: i64,
    size: [i64; 2],
    window: [i64; 2],
    dtype: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Neighbors {}

/// How often a median looks at its window: once for every two bits.
const PASSES: usize = 16;

/// Height and width of the planes of `[B,C,H,W]`.
fn plane(source: &Tensor) -> [i64; 2] {
    [2, 3].map(|dim| source.dims()[dim] as i64)
}

impl GpuJob {
    pub(super) fn extremes(
        &self,
        op: &'static str,
        source: &Tensor,
        footprint: &Footprint,
        largest: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        if self.too_long(source.elements(), &[footprint.places().len()]) {
            return Ok(None);
        }
        let narrow = |place: isize| (place as i32).cast_unsigned();
        let table: Vec<u32> =
            footprint.places().iter().flat_map(|(down, right)| [narrow(*down), narrow(*right)]).collect();
        let places = self.table(op, &table)?;
        let better = if largest { "((a) > (b))" } else { "((a) < (b))" };
        let defines = [("WORK", "EXTREME"), ("BETTER(a, b)", better)];
        let start = Start::over(op, NEIGHBORS, &defines, source.elements());
        let layout = Layout::contiguous(*source.lengths_shape());
        self.make(&start, (&[source], &[&places]), (layout, DType::Float32), cx, |views, tables, out| Neighbors {
            out,
            source: views[0],
            places: tables[0],
            elements: source.elements() as u64,
            seen: footprint.places().len() as i64,
            size: plane(source),
            window: [0; 2],
            dtype: number(DType::Float32).into(),
        })
    }

    pub(super) fn median(
        &self,
        source: &Tensor,
        median: &Median,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        if self.too_long(source.elements(), &[PASSES, median.window[0], median.window[1]]) {
            return Ok(None);
        }
        let border = match median.border {
            PadMode::Constant => "CONSTANT",
            PadMode::Reflect => "REFLECT",
            PadMode::Replicate => "REPLICATE",
            PadMode::Circular => "CIRCULAR",
        };
        let defines = [("WORK", "MEDIAN"), ("BORDER", border)];
        let start = Start::over(median.op, NEIGHBORS, &defines, source.elements());
        let layout = Layout::contiguous(*source.lengths_shape());
        self.make(&start, (&[source], &[]), (layout, source.dtype()), cx, |views, _, out| Neighbors {
            out,
            source: views[0],
            places: 0,
            elements: source.elements() as u64,
            seen: 0,
            size: plane(source),
            window: median.window.map(|side| side as i64),
            dtype: number(source.dtype()).into(),
        })
    }
}
