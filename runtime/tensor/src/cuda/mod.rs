//! Operations on NVIDIA's GPUs, through `cudarc` and kernels in CUDA C.
//!
//! Nothing of CUDA is needed to build this, nor to start it: driver and compiler (NVRTC) are looked for at run time, and
//! what is missing is said in a sentence. A kernel is compiled at its first use for the GPU at hand, and the result is
//! kept on disk.
//!
//! A [`Gpu`] is opened once. Each job gets a [`GpuJob`] of it: a stream of its own and the tenant's account of device
//! memory. Work is queued; nothing waits for the GPU but a read of results. Every buffer is written by the kernel that it
//! was made for, completely, before anybody can see it.
//!
//! Several GPUs may be open at once. A job is on one of them; what a tensor has on another is copied through this machine's
//! memory. One that failed is [retired](RetiredGpu) and may be opened anew.
//!
//! Not here: several GPUs for one job, graphs. An operation without a kernel runs on the CPU, for which its
//! operands are copied back; [`Gpu::counters`] counts that.
//!
//! # Layout
//! - `gpu`: opening a GPU, jobs, counters; `retired`: one that failed, on its way back; `meter`: how long kernels run
//! - `driver`: what is installed, and whether it goes together; `compile`: kernels; `code`: what they are compiled to, and the cache of it
//! - `buffer`: device memory and copies; `staging`: page-locked memory that large ones go through; `launch`: arguments as kernels take them
//! - `cublaslt`: products by NVIDIA's library, where it is installed
//! - one file for each group of kernels, beside its source in `kernels/`

mod attention;
mod buffer;
mod code;
mod color;
mod compile;
mod convolve;
mod create;
mod cublaslt;
mod driver;
mod elementwise;
mod fourier;
mod gemm;
mod gpu;
mod lanczos;
mod launch;
mod lookup;
mod meter;
mod neighbors;
mod ordering;
mod pictures;
mod reduce;
mod retired;
mod rows;
mod sample;
mod scatter;
mod staging;
mod windows;

pub(crate) use buffer::DeviceBuffer;
pub use compile::{KernelSource, kernel_sources};
pub use gpu::{Gpu, GpuJob};
pub use retired::RetiredGpu;

use crate::device::Task;
use crate::{OpContext, Tensor, TensorError};

impl GpuJob {
    /// Runs a task, or answers `None` where there is no kernel for it.
    pub(crate) fn run(&self, op: &'static str, task: Task<'_>, cx: &OpContext) -> Result<Option<Tensor>, TensorError> {
        match task {
            Task::Elementwise { operands, layout, order, dtype, code } => {
                self.elementwise(op, operands, (layout, order), dtype, code, cx)
            }
            Task::Reduce { source, layout, reduced, shape, op: fold } => {
                self.reduce(op, (source, layout), reduced, shape, fold, cx)
            }
            Task::Rows { source, layout, rows, norm, weight, bias } => {
                self.rows(op, source, layout, rows, norm, [weight, bias], cx)
            }
            Task::Multiply { left, right, bias, shape, dtype } => {
                self.multiply(op, left, right, bias, shape, dtype, cx)
            }
            Task::Convolve { input, weight, bias, axes, layout, dtype } => {
                self.convolve(op, input, weight, bias, axes, (layout, dtype), cx)
            }
            Task::Attend { query, key, value, mask, shape, causal, scale } => {
                self.attend(op, [query, key, value], mask, shape, (causal, scale), cx)
            }
            Task::Gather { source, layout, dim, index, shape } => {
                self.gather(op, (source, layout), dim, index, shape, cx)
            }
            Task::Resample { source, layout, axis, taps } => self.resample(op, (source, layout), axis, taps, cx),
            Task::Assemble { layout, dtype, fill, pieces } => self.assemble(op, layout, dtype, fill, pieces, cx),
            Task::Accumulate { source, product } => self.accumulate(op, source, product, cx),
            Task::Argmax { source, smallest } => self.argmax(op, source, smallest, cx),
            Task::SortedPlaces { source, kept, descending } => self.sorted_places(op, source, kept, descending, cx),
            Task::Scatter { target, dim, index, source, adds } => {
                self.scatter(op, (target, dim), index, source, adds, cx)
            }
            Task::Recolor { source, pixel } => self.recolor(op, source, pixel, cx),
            Task::GridSample { source, grid, mode, border, align_corners, shape } => {
                self.grid_sample(op, [source, grid], (mode, border), align_corners, shape, cx)
            }
            Task::AffineGrid { matrices, align_corners, shape } => {
                self.affine_grid(op, matrices, align_corners, shape, cx)
            }
            Task::Lanczos { source, layout, shape } => self.lanczos(op, (source, layout), shape, cx),
            Task::Extremes { source, footprint, largest } => self.extremes(op, source, footprint, largest, cx),
            Task::Median { source, median } => self.median(source, median, cx),
            Task::Histogram { source, bins, range: [low, high], shape } => {
                self.histogram(op, source, (bins, low, high), shape, cx)
            }
            Task::Distances { zero } => self.distances(op, zero, cx),
            Task::Edges { across, down, thresholds } => self.edges(op, [across, down], thresholds, cx),
            Task::Transform { lines, inverse } => self.transform(op, lines, inverse, cx),
            Task::Create { shape, series } => self.create(op, shape, series, cx),
            Task::Pool { source, window, shape } => self.pool(source, window, shape, cx),
            Task::Fold { source, folding, shape } => self.fold(source, folding, shape, cx),
        }
    }
}
