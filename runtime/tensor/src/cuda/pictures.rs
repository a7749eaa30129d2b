//! Histograms, distances to the nearest zero, Canny's edges.

use super::compile::{CANNY, DISTANCE, HISTOGRAM};
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, grid_of};
use crate::shape::Layout;
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// Elements that a block counts.
const PIECE: usize = 1 << 14;

/// Bins that are counted in shared memory.
const SHARED_BINS: (usize, &str) = (4096, "4096");

/// Launches that bring every label near its root: 64 steps each, so that four do for any picture that is no labyrinth.
const FLATTENINGS: usize = 4;

/// `Arguments` of `histogram.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Histogram {
    out: u64,
    source: View,
    length: i64,
    piece: i64,
    bins: i64,
    low: f64,
    high: f64,
}

/// `Arguments` of `distance.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Distance {
    out: u64,
    source: View,
    items: u64,
    height: i64,
    width: i64,
}

/// `Arguments` of `canny.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Canny {
    out: u64,
    across: u64,
    down: u64,
    labels: u64,
    marks: u64,
    elements: u64,
    height: i64,
    width: i64,
    low: f32,
    high: f32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Histogram {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Distance {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Canny {}

impl GpuJob {
    pub(super) fn histogram(
        &self,
        op: &'static str,
        source: &Tensor,
        (bins, low, high): (usize, f64, f64),
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let Some(length) = source.dims().last().copied().filter(|length| *length > 0) else { return Ok(None) };
        let blocks = source.elements() / length * length.div_ceil(PIECE);
        let Some(grid) = grid_of(blocks) else { return Ok(None) };
        let shared = if bins <= SHARED_BINS.0 { [("SHARED", SHARED_BINS.1)].as_slice() } else { &[] };
        let resident = self.resident(op, source, cx)?;
        let mut out = self.zeros(op, shape.elements() * size_of::<i64>())?;
        let start = Start { op, source: HISTOGRAM, defines: shared, grid, threads: THREADS };
        self.start(&start, &[&resident], &mut out, |pointers, out| Histogram {
            out,
            source: View::new(pointers[0], source.dtype(), source.layout.offset, &[]),
            length: length as i64,
            piece: PIECE as i64,
            bins: bins as i64,
            low,
            high,
        })?;
        self.tensor(op, Layout::contiguous(shape), DType::Int64, out, cx).map(Some)
    }

    pub(super) fn distances(
        &self,
        op: &'static str,
        zero: &Tensor,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let [height, width] = [2, 1].map(|from_last| zero.dims()[zero.rank() - from_last]);
        // Without a zero, every place is looked at from every other one of its row.
        if self.too_long(zero.elements(), &[width]) {
            return Ok(None);
        }
        let layout = Layout::contiguous(*zero.lengths_shape());
        let arguments = |views: &[View], items: usize, out: u64| Distance {
            out,
            source: views[0],
            items: items as u64,
            height: height as i64,
            width: width as i64,
        };
        let columns = zero.elements() / height.max(1);
        let start = Start::over(op, DISTANCE, &[("STEP", "COLUMNS")], columns);
        let rows = self.make(&start, (&[zero], &[]), (layout, DType::Float32), cx, |views, _, out| {
            arguments(views, columns, out)
        })?;
        let Some(rows) = rows else { return Ok(None) };
        let start = Start::over(op, DISTANCE, &[("STEP", "ROWS")], zero.elements());
        self.make(&start, (&[&rows], &[]), (layout, DType::Float32), cx, |views, _, out| {
            arguments(views, zero.elements(), out)
        })
    }

    pub(super) fn edges(
        &self,
        op: &'static str,
        [across, down]: [&Tensor; 2],
        [low, high]: [f32; 2],
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = across.elements();
        // Places are counted in 32 bits, and the last stands for none.
        if elements == 0 || elements >= u32::MAX as usize {
            return Ok(None);
        }
        let (first, second) = (self.resident(op, across, cx)?, self.resident(op, down, cx)?);
        let gradient = |pointers: &[u64], out: u64| Canny {
            out,
            across: pointers[0] + (across.layout.offset * size_of::<f32>()) as u64,
            down: pointers[1] + (down.layout.offset * size_of::<f32>()) as u64,
            elements: elements as u64,
            height: across.dims()[2] as i64,
            width: across.dims()[3] as i64,
            low,
            high,
            ..Canny::default()
        };
        let reads = [&*first, &*second];
        let mut labels = self.allocate(op, elements * size_of::<u32>())?;
        let steps = ["RIDGES", "UNITE"].into_iter().chain(std::iter::repeat_n("FLATTEN", FLATTENINGS));
        for step in steps {
            let defines = [("STEP", step)];
            let start = Start::over(op, CANNY, &defines, elements);
            self.start(&start, &reads, &mut labels, |pointers, out| gradient(pointers, out))?;
        }
        let mut marks = self.zeros(op, elements * size_of::<u32>())?;
        let start = Start::over(op, CANNY, &[("STEP", "MARK")], elements);
        self.start(&start, &[&*first, &*second, &labels], &mut marks, |pointers, out| Canny {
            labels: pointers[2],
            ..gradient(pointers, out)
        })?;
        let start = Start::over(op, CANNY, &[("STEP", "EDGES")], elements);
        let layout = Layout::contiguous(*across.lengths_shape());
        self.make(&start, (&[across, down], &[&labels, &marks]), (layout, DType::Float32), cx, |views, tables, out| {
            Canny { labels: tables[0], marks: tables[1], ..gradient(&[views[0].data, views[1].data], out) }
        })
    }
}
