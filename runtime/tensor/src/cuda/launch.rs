//! Arguments as kernels take them, and how a kernel is started.

use super::buffer::DeviceBuffer;
use super::compile::Source;
use super::gpu::{GpuJob, add, failed};
use super::meter::Meter;
use crate::shape::{Layout, MAX_RANK};
use crate::storage::Storage;
use crate::{DType, OpContext, Operand, Tensor, TensorError};
use cudarc::driver::{DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop};
use std::sync::Arc;

/// Threads of a block, unless a kernel says otherwise.
pub(super) const THREADS: u32 = 256;

/// Blocks that keep any GPU busy; with more elements, each thread does several.
const MAX_BLOCKS: u64 = 1 << 16;

/// What one launch may look at: some seconds on the smallest GPUs. More is left to the CPU, which can be stopped in between, as a kernel
/// cannot.
const MAX_LOOKS: usize = 1 << 38;

/// The same where a screen hangs on the GPU, too, and the system breaks off what keeps it waiting for some seconds.
const MAX_WATCHED_LOOKS: usize = 1 << 34;

/// More elements than this are counted in 64 bits.
const NARROW: usize = 1 << 31;

/// `View` of `common.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct View {
    pub(super) data: u64,
    pub(super) offset: i64,
    pub(super) strides: [i64; MAX_RANK],
    pub(super) whole: i64,
    pub(super) number: f32,
    pub(super) dtype: i32,
}

impl View {
    pub(super) fn new(pointer: u64, dtype: DType, offset: usize, strides: &[isize]) -> View {
        View { data: pointer, offset: offset as i64, strides: padded(strides), dtype: number(dtype), ..View::default() }
    }

    pub(super) fn scalar(value: f64) -> View {
        View { whole: value as i64, number: value as f32, ..View::default() }
    }
}

/// A type's number in kernels: its place in [`DType::ALL`].
pub(super) fn number(dtype: DType) -> i32 {
    DType::ALL.iter().position(|other| *other == dtype).unwrap_or_default() as i32
}

pub(super) fn padded<T: Copy + Into<Wide>>(values: &[T]) -> [i64; MAX_RANK] {
    let mut out = [0; MAX_RANK];
    for (slot, value) in out.iter_mut().zip(values) {
        *slot = (*value).into().0;
    }
    out
}

/// A length or stride as kernels take it.
pub(super) struct Wide(i64);

impl From<usize> for Wide {
    fn from(value: usize) -> Self {
        Wide(value as i64)
    }
}

impl From<isize> for Wide {
    fn from(value: isize) -> Self {
        Wide(value as i64)
    }
}

/// Dimensions over which several views walk together: those of length 1 are dropped, neighbours that every view steps
/// through evenly become one.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) lengths: Vec<usize>,
    /// Of each view, in its order.
    pub(super) strides: Vec<Vec<isize>>,
}

impl Walk {
    pub(super) fn new(lengths: &[usize], views: &[&[isize]]) -> Walk {
        let mut walk = Walk { lengths: Vec::new(), strides: vec![Vec::new(); views.len()] };
        for (dim, length) in lengths.iter().enumerate().filter(|(_, length)| **length != 1) {
            let joins = walk.lengths.last().is_some()
                && views
                    .iter()
                    .zip(&walk.strides)
                    .all(|(view, own)| own.last().is_some_and(|outer| *outer == view[dim] * *length as isize));
            for (view, own) in views.iter().zip(&mut walk.strides) {
                if joins {
                    own.pop();
                }
                own.push(view[dim]);
            }
            match walk.lengths.last_mut().filter(|_| joins) {
                Some(last) => *last *= length,
                None => walk.lengths.push(*length),
            }
        }
        walk
    }
}

/// A type of CUDA C of the size of an element, for kernels that only move them.
pub(super) fn element_type(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        _ => "u64",
    }
}

/// The type that a kernel counts elements in.
pub(super) fn index_type(elements: usize) -> (&'static str, &'static str) {
    ("INDEX", if elements < NARROW { "u32" } else { "u64" })
}

/// One thread per item, as far as that makes sense.
fn blocks_for(items: usize) -> (u32, u32, u32) {
    ((items as u64).div_ceil(u64::from(THREADS)).clamp(1, MAX_BLOCKS) as u32, 1, 1)
}

/// A grid of exactly so many blocks; `None` where a grid has no room for them, or there are none.
pub(super) fn grid_of(blocks: usize) -> Option<(u32, u32, u32)> {
    let blocks = u32::try_from(blocks).ok().filter(|blocks| (1..1 << 31).contains(blocks))?;
    Some((blocks, 1, 1))
}

/// A kernel about to be started.
pub(super) struct Start<'a> {
    pub(super) op: &'static str,
    pub(super) source: Source,
    pub(super) defines: &'a [(&'a str, &'a str)],
    pub(super) grid: (u32, u32, u32),
    pub(super) threads: u32,
}

impl<'a> Start<'a> {
    /// A kernel with about one thread for each of so many items.
    pub(super) fn over(op: &'static str, source: Source, defines: &'a [(&'a str, &'a str)], items: usize) -> Start<'a> {
        Start { op, source, defines, grid: blocks_for(items), threads: THREADS }
    }
}

impl GpuJob {
    /// Whether so many results, each of so many looks, take too long for one launch.
    pub(super) fn too_long(&self, results: usize, looks: &[usize]) -> bool {
        let most = if self.gpu.0.is_watched { MAX_WATCHED_LOOKS } else { MAX_LOOKS };
        looks.iter().fold(results, |product, factor| product.saturating_mul(*factor)) > most
    }

    /// Starts a kernel that makes one tensor, dense in `layout`, of others and of tables. `arguments` makes its parameter of
    /// views of the tensors, and the addresses of the tables and of the result. `None` where there are no elements.
    pub(super) fn make<A: DeviceRepr>(
        &self,
        start: &Start<'_>,
        (inputs, tables): (&[&Tensor], &[&DeviceBuffer]),
        (layout, dtype): (Layout, DType),
        cx: &OpContext,
        arguments: impl FnOnce(&[View], &[u64], u64) -> A,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = layout.shape.elements();
        if elements == 0 || inputs.iter().any(|input| input.elements() == 0) {
            return Ok(None);
        }
        let residents = inputs.iter().map(|input| self.resident(start.op, input, cx)).collect::<Result<Vec<_>, _>>()?;
        let mut out = self.allocate(start.op, elements * dtype.size())?;
        let reads: Vec<&DeviceBuffer> =
            residents.iter().map(|buffer| &**buffer).chain(tables.iter().copied()).collect();
        self.start(start, &reads, &mut out, |pointers, target| {
            let view = |(input, pointer): (&&Tensor, &u64)| {
                View::new(*pointer, input.dtype(), input.layout.offset, input.layout.strides())
            };
            let views: Vec<View> = inputs.iter().zip(pointers).map(view).collect();
            arguments(&views, &pointers[inputs.len()..], target)
        })?;
        self.tensor(start.op, layout, dtype, out, cx).map(Some)
    }

    /// Starts a kernel that reads `reads` and writes `out`. `arguments` makes its parameter of their addresses.
    ///
    /// The parameter should have no padding: what happens to lie there would go to the GPU, and the simulated driver, which takes
    /// whatever looks like an address for one, has taken half of an old address there for a buffer.
    ///
    /// The kernel must stay inside these buffers for these arguments: shapes and strides were checked by the operation,
    /// and every kernel's tests run on the simulated driver, which reports any access outside.
    #[allow(unsafe_code)]
    pub(super) fn start<A: DeviceRepr>(
        &self,
        start: &Start<'_>,
        reads: &[&DeviceBuffer],
        out: &mut DeviceBuffer,
        arguments: impl FnOnce(&[u64], u64) -> A,
    ) -> Result<(), TensorError> {
        let shared = &self.gpu.0;
        let Start { op, source, defines, grid, threads } = *start;
        let kernel = shared.kernels.get(op, source, defines, &shared.context, &shared.count)?;
        self.queue(op, reads, out, |pointers, target| {
            let arguments = arguments(pointers, target);
            let config = LaunchConfig { grid_dim: grid, block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
            let mut launch = self.stream.launch_builder(&kernel);
            launch.arg(&arguments);
            // SAFETY: the argument has the layout of the kernel's only parameter (`repr(C)`, the same fields in the same order),
            // and the kernel stays inside the buffers, see above.
            unsafe { launch.launch(config) }.map(drop).map_err(|error| failed(op, error))
        })
    }

    /// Does `work`, which queues on the job's stream what reads `reads` and writes `out`, at their addresses: after those who
    /// wrote them, before those who will, and by the meter.
    pub(super) fn queue(
        &self,
        op: &'static str,
        reads: &[&DeviceBuffer],
        out: &mut DeviceBuffer,
        work: impl FnOnce(&[u64], u64) -> Result<(), TensorError>,
    ) -> Result<(), TensorError> {
        // Held until the launch is queued: they make this stream wait for writers, and later writers for it.
        let (pointers, _orders): (Vec<u64>, Vec<SyncOnDrop<'_>>) =
            reads.iter().map(|buffer| buffer.slice.device_ptr(&self.stream)).unzip();
        let (target, _order) = out.slice.device_ptr_mut(&self.stream);
        let begun = Meter::mark(&self.stream).map_err(|error| failed(op, error))?;
        work(&pointers, target)?;
        let ended = Meter::mark(&self.stream).map_err(|error| failed(op, error))?;
        self.meter.note(begun, ended).map_err(|error| failed(op, error))?;
        add(&self.gpu.0.count.launches, 1);
        reads.iter().try_for_each(|buffer| buffer.read_by(&self.stream)).map_err(|error| failed(op, error))?;
        Ok(())
    }

    /// The tensor that a buffer now holds.
    pub(super) fn tensor(
        &self,
        op: &'static str,
        layout: Layout,
        dtype: DType,
        buffer: impl Into<Arc<DeviceBuffer>>,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let charge =
            cx.budget.charge(crate::storage::STORAGE_OVERHEAD).map_err(|source| TensorError::Budget { op, source })?;
        Ok(Tensor { storage: Storage::on_device(dtype, buffer.into(), charge), layout, label: None })
    }

    /// The operands that are tensors, on this GPU.
    pub(super) fn residents(
        &self,
        op: &'static str,
        operands: &[Operand<'_>],
        cx: &OpContext,
    ) -> Result<Vec<Arc<DeviceBuffer>>, TensorError> {
        let tensors = operands.iter().filter_map(|operand| match operand {
            Operand::Tensor(tensor) => Some(*tensor),
            Operand::Scalar(_) => None,
        });
        tensors.map(|tensor| self.resident(op, tensor, cx)).collect()
    }
}
