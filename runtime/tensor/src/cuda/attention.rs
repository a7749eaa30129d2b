//! Scaled dot-product attention.

use super::compile::{ATTENTION, ATTENTION_TENSOR_CORES, Source};
use super::gemm::{all_aligned, in_vectors, suits_tensor_cores};
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, Walk, grid_of, number, padded};
use crate::shape::{Layout, MAX_RANK};
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// Widths that the kernel in float32 is compiled for: the next one that has room, or for wider heads the last.
const WIDTHS: [(usize, &str); 7] =
    [(16, "16"), (32, "32"), (40, "40"), (64, "64"), (80, "80"), (96, "96"), (128, "128")];

/// The same for tensor cores, which take 16 at a time. Keys that are wider than all of these are taken 64 at a time.
const CORE_WIDTHS: [(usize, &str); 7] =
    [(16, "16"), (32, "32"), (48, "48"), (64, "64"), (80, "80"), (96, "96"), (128, "128")];
const CORE_CHUNK: &str = "64";

/// `Arguments` of `attention.cuh`. The operands' views have no pointers until a kernel starts.
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
    dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Attention {}

/// Which kernel, compiled how; what one block of it works on, and the type of its results.
struct Plan {
    source: Source,
    defines: Vec<(&'static str, &'static str)>,
    queries: usize,
    columns: usize,
    threads: u32,
    dtype: DType,
}

/// The least of some widths that has room, or the largest.
fn room(widths: &[(usize, &'static str)], width: usize) -> (usize, &'static str) {
    let fits = widths.iter().find(|(room, _)| *room >= width);
    fits.or(widths.last()).copied().unwrap_or_default()
}

impl Attention {
    /// How a GPU of this capability computes it, whose operands are of these types.
    fn plan(&self, dtypes: [DType; 3], capability: (u32, u32)) -> Plan {
        let (width, value_width) = (self.width as usize, self.value_width as usize);
        let mut defines = Vec::new();
        if !suits_tensor_cores(&dtypes, capability) {
            let (columns, name) = room(&WIDTHS, width.max(value_width));
            defines.push(("WIDTH", name));
            defines.extend((width > columns).then_some(("CHUNKED", "1")));
            let (source, dtype) = (ATTENTION, DType::Float32);
            return Plan { source, defines, queries: 32, columns, threads: THREADS, dtype };
        }
        let ((most, width_name), (columns, values_name)) = (room(&CORE_WIDTHS, width), room(&CORE_WIDTHS, value_width));
        match width > most {
            true => defines.extend([("WIDTH", CORE_CHUNK), ("CHUNKED", "1")]),
            false => defines.push(("WIDTH", width_name)),
        }
        defines.push(("VALUES", values_name));
        let whole = |view: &View, batch: &[i64], length: i64| {
            let fits = in_vectors(view, view.strides[1], length, &view.strides[..1]) && all_aligned(batch);
            if fits { "1" } else { "0" }
        };
        defines.push(("Q_WHOLE", whole(&self.query, &self.batches[0], self.width)));
        defines.push(("K_WHOLE", whole(&self.key, &self.batches[1], self.width)));
        defines.push(("V_WHOLE", whole(&self.value, &self.batches[2], self.value_width)));
        defines.extend((dtypes[0] == DType::Bfloat16).then_some(("BRAIN", "1")));
        Plan { source: ATTENTION_TENSOR_CORES, defines, queries: 64, columns, threads: 128, dtype: dtypes[0] }
    }

    /// The blocks of a plan over a batch, if a grid has room for them.
    fn grid(&self, plan: &Plan, batch: usize) -> Option<(u32, u32, u32)> {
        let tiles = (self.queries as usize).div_ceil(plan.queries);
        let slices = (self.value_width as usize).div_ceil(plan.columns);
        grid_of(batch.checked_mul(tiles)?.checked_mul(slices)?)
    }

    /// The same with the addresses of query, key, value and perhaps mask, and of the result.
    fn at(mut self, pointers: &[u64], target: u64, dtype: DType) -> Attention {
        self.out = target;
        self.dtype = number(dtype);
        let views = [&mut self.query, &mut self.key, &mut self.value, &mut self.mask];
        for (view, pointer) in views.into_iter().zip(pointers) {
            view.data = *pointer;
        }
        self
    }
}

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
        if width == 0 {
            return Ok(None);
        }
        let zeros = [0isize; MAX_RANK];
        let mask_strides = mask.as_ref().map_or(&zeros[..at + 2], |(_, layout)| layout.strides());
        let strides = [query.strides(), key.strides(), value.strides(), mask_strides];
        let walk = Walk::new(&shape.lengths()[..at], &strides.map(|strides| &strides[..at]));
        let view =
            |tensor: &Tensor, layout: &Layout| View::new(0, tensor.dtype(), layout.offset, &layout.strides()[at..]);
        let attention = Attention {
            out: 0,
            query: view(query, &query.layout),
            key: view(key, &key.layout),
            value: view(value, &value.layout),
            mask: mask.as_ref().map_or(View::default(), |(tensor, layout)| view(tensor, layout)),
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
            dtype: 0,
        };
        let plan = attention.plan([query, key, value].map(Tensor::dtype), self.gpu.0.info.capability);
        let batch = shape.lengths()[..at].iter().product();
        let Some(grid) = attention.grid(&plan, batch) else { return Ok(None) };
        let mut residents = Vec::new();
        for tensor in [query, key, value].into_iter().chain(mask.as_ref().map(|(tensor, _)| *tensor)) {
            residents.push(self.resident(op, tensor, cx)?);
        }
        let reads: Vec<_> = residents.iter().map(|buffer| &**buffer).collect();
        let mut out = self.allocate(op, shape.elements() * plan.dtype.size())?;
        let Plan { source, defines, threads, dtype, .. } = &plan;
        let start = Start { op, source: *source, defines, grid, threads: *threads };
        self.start(&start, &reads, &mut out, |pointers, target| attention.at(pointers, target, *dtype))?;
        self.tensor(op, Layout::contiguous(shape), *dtype, out, cx).map(Some)
    }
}
