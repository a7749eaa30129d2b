//! Elements picked by tensors of indices. An index out of range is an error, never read or written past.

use super::create::check_value;
use super::interpolate::workspace;
use crate::cpu::fill_rows;
use crate::cpu::reader::Reader;
use crate::device::Task;
use crate::dtype::is_whole;
use crate::shape::Layout;
use crate::storage::{Allocation, Stored, with_buffer};
use crate::{Charge, DType, OpContext, Operand, ReduceOp, Shape, Tensor, TensorError, UnaryOp};

/// Indices that are known to be in range.
struct Indices<'a> {
    op: &'static str,
    index: &'a Tensor,
    length: usize,
    /// Row-major. Not there, until they are asked for, where a GPU looked at them.
    places: Option<(Vec<usize>, Charge)>,
}

impl<'a> Indices<'a> {
    /// Looks at all of them. Where they lie on a GPU alone, that finds the extremes, and two numbers come back instead of all.
    fn new(op: &'static str, index: &'a Tensor, length: usize, cx: &OpContext) -> Result<Indices<'a>, TensorError> {
        if !matches!(index.dtype(), DType::Int64 | DType::Int32) {
            let found = index.dtype();
            return Err(TensorError::Type { op, argument: "index", found, expected: "int64 or int32" });
        }
        let mut indices = Indices { op, index, length, places: None };
        if cx.gpu.is_none() || index.elements() == 0 || index.storage.host().is_some() {
            indices.places(cx)?;
            return Ok(indices);
        }
        for extreme in [ReduceOp::Amin, ReduceOp::Amax] {
            let value = index.reduce(extreme, &[], false, cx)?.item()?;
            if !(0.0..length as f64).contains(&value) {
                return Err(indices.outside(value));
            }
        }
        Ok(indices)
    }

    /// For a loop of the CPU.
    fn places(&mut self, cx: &OpContext) -> Result<&[usize], TensorError> {
        if self.places.is_none() {
            let charge = workspace(self.op, self.index.elements().saturating_mul(size_of::<usize>()), cx)?;
            // They are looked at here, so nothing about them goes to a GPU.
            let cpu = cx.without_gpu();
            let whole = self.index.cast(DType::Int64, &cpu)?.contiguous(&cpu)?;
            cx.check(self.op)?;
            whole.buffer(self.op, cx)?;
            let place = |value: &i64| usize::try_from(*value).ok().filter(|place| *place < self.length).ok_or(*value);
            let values = whole.as_slice::<i64>().unwrap_or_default();
            let places = values.iter().map(place).collect::<Result<Vec<_>, _>>();
            self.places = Some((places.map_err(|value| self.outside(value))?, charge));
        }
        Ok(self.places.as_ref().map_or(&[], |(places, _)| places))
    }

    fn outside(&self, value: impl std::fmt::Display) -> TensorError {
        let message = format!("holds {value}, but the dimension has {} elements", self.length);
        TensorError::argument(self.op, "index", message)
    }
}

/// The places of `tensor` that an index of `shape` stands for, `dim` left out: it is added by the index.
fn bases(tensor: &Tensor, shape: &Shape, dim: usize) -> Reader {
    let strides = tensor.layout.strides().iter().enumerate();
    let dims = strides.map(|(at, stride)| (shape.lengths()[at], if at == dim { 0 } else { *stride }));
    Reader::of_dims(tensor.layout.offset, dims)
}

/// Visits `length` positions from `start`: where each lies without its index.
fn each_base(reader: &Reader, start: usize, length: usize, mut visit: impl FnMut(usize, isize)) {
    let mut position = 0;
    reader.visit(start, length, |rectangle| {
        for row in 0..rectangle.rows {
            for column in 0..rectangle.columns {
                let base = rectangle.offset as isize
                    + row as isize * rectangle.row_stride
                    + column as isize * rectangle.column_stride;
                visit(position, base);
                position += 1;
            }
        }
    });
}

fn check_inside(
    op: &'static str,
    index: &Tensor,
    argument: &'static str,
    other: &Tensor,
    except: Option<usize>,
) -> Result<(), TensorError> {
    let fits = index.rank() == other.rank()
        && (0..index.rank()).all(|dim| Some(dim) == except || index.dims()[dim] <= other.dims()[dim]);
    if fits {
        return Ok(());
    }
    let message =
        format!("of shape {} is too small for the index of shape {}", other.lengths_shape(), index.lengths_shape());
    Err(TensorError::argument(op, argument, message))
}

impl Tensor {
    /// For each element of `index`, the element at its place with the coordinate `dim` replaced by the index.
    pub fn gather(&self, dim: i32, index: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "gather";
        let dim = self.lengths_shape().dim(OP, "dim", dim)?;
        check_inside(OP, index, "self", self, Some(dim))?;
        let shape = *index.lengths_shape();
        let mut indices = Indices::new(OP, index, self.dims()[dim], cx)?;
        let task = Task::Gather { source: self, layout: self.layout, dim, index: (index, index.layout), shape };
        if let Some(result) = cx.on_device(OP, task)? {
            return Ok(result);
        }
        let places = indices.places(cx)?;
        let reader = bases(self, &shape, dim);
        let stride = self.layout.strides()[dim];
        with_buffer!(self.buffer(OP, cx)?, values => {
            let mut result = Allocation::zeroed(OP, shape.elements(), cx)?;
            fill_rows(OP, &mut result.values, 1, 4, cx, &|start, chunk| {
                each_base(&reader, start, chunk.len(), |position, base| {
                    let place = base + places[start + position] as isize * stride;
                    chunk[position] = values[place as usize];
                });
            })?;
            Ok(Tensor::of(Layout::contiguous(shape), result))
        })
    }

    /// The slices along `dim` that the one-dimensional `index` names, in its order.
    pub fn index_select(&self, dim: i32, index: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "index-select";
        let dim = self.lengths_shape().dim(OP, "dim", dim)?;
        index.check_rank(OP, "index", 1, "[n]")?;
        let shape = self.lengths_shape().with_length(OP, dim, index.elements())?;
        let mut indices = Indices::new(OP, index, self.dims()[dim], cx)?;
        if cx.gpu.is_some() {
            // The index lies along `dim`, the same for all other coordinates.
            let mut lengths = vec![1i64; self.rank()];
            lengths[dim] = index.elements() as i64;
            let along = index.reshape(&lengths, cx)?;
            let index = (&along, along.layout.expanded(shape));
            if let Some(result) =
                cx.on_device(OP, Task::Gather { source: self, layout: self.layout, dim, index, shape })?
            {
                return Ok(result);
            }
        }
        let dense = self.contiguous(cx)?;
        let places = indices.places(cx)?;
        let (length, count) = (self.dims()[dim], places.len());
        let inner: usize = self.dims()[dim + 1..].iter().product();
        with_buffer!(dense.buffer(OP, cx)?, values => {
            let values = &values[dense.layout.offset.min(values.len())..];
            let mut result = Allocation::zeroed(OP, shape.elements(), cx)?;
            fill_rows(OP, &mut result.values, inner.max(1), 1, cx, &|first, rows| {
                for (at, out) in rows.chunks_exact_mut(inner).enumerate() {
                    let (outer, place) = ((first + at) / count, places[(first + at) % count]);
                    out.copy_from_slice(&values[(outer * length + place) * inner..][..inner]);
                }
            })?;
            Ok(Tensor::of(Layout::contiguous(shape), result))
        })
    }

    /// The rows of this table of `[n,…]` that `index` names, in its shape.
    pub fn embedding(&self, index: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "embedding";
        if self.rank() == 0 {
            return Err(TensorError::argument(OP, "self", "has no dimensions, but [n,…] is needed"));
        }
        let lengths: Vec<usize> = index.dims().iter().chain(&self.dims()[1..]).copied().collect();
        let shape = Shape::from_lengths(OP, &lengths)?;
        let flat = index.reshape(&[index.elements() as i64], cx)?;
        let wanted: Vec<i64> = shape.lengths().iter().map(|length| *length as i64).collect();
        self.index_select(0, &flat, cx)?.reshape(&wanted, cx)
    }

    /// `value` where `mask` (booleans, broadcasting) is true. The type stays.
    pub fn masked_fill(&self, mask: &Tensor, value: f64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "masked-fill";
        if mask.dtype() != DType::Boolean {
            let found = mask.dtype();
            return Err(TensorError::Type { op: OP, argument: "mask", found, expected: "boolean" });
        }
        check_value(OP, "value", value, self.dtype())?;
        if !self.dtype().is_float() && !is_whole(value) {
            let message = format!("is {value}, which {} cannot hold", self.dtype());
            return Err(TensorError::argument(OP, "value", message));
        }
        let kept = mask.unary(UnaryOp::LogicalNot, cx)?;
        self.where_(&kept, Operand::Scalar(value), cx)?.cast(self.dtype(), cx)
    }

    /// A copy with each element of `source` that has one in `index` written to its place, with the coordinate `dim`
    /// replaced by the index; of several for one place, the last in row-major order stays. `source` is cast to this type.
    pub fn scatter(&self, dim: i32, index: &Tensor, source: &Tensor, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "scatter";
        let source = source.cast(self.dtype(), cx)?;
        let mut scatter = Scatter::new(OP, self, dim, index, &source, cx)?;
        let dense = self.contiguous(cx)?;
        if let Some(result) = scatter.on_device(&dense, false, cx)? {
            return Ok(result);
        }
        with_buffer!(dense.buffer(OP, cx)?, values => scatter.run(values, &dense, cx, |_, new| new))
    }

    /// As [`Tensor::scatter`], but adds to what is there. Not for booleans. On a GPU, floats are added in an order that may
    /// change from call to call, and with it the last bit of sums of more than two.
    pub fn scatter_add(
        &self,
        dim: i32,
        index: &Tensor,
        source: &Tensor,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        const OP: &str = "scatter-add";
        if self.dtype() == DType::Boolean {
            let found = self.dtype();
            return Err(TensorError::Type { op: OP, argument: "self", found, expected: "a number" });
        }
        let compute = if self.dtype().is_float() { DType::Float32 } else { DType::Int64 };
        let source = source.cast(self.dtype(), cx)?.cast(compute, cx)?;
        let mut scatter = Scatter::new(OP, self, dim, index, &source, cx)?;
        let dense = self.cast(compute, cx)?.contiguous(cx)?;
        if let Some(sum) = scatter.on_device(&dense, true, cx)? {
            return sum.cast(self.dtype(), cx);
        }
        let buffer = dense.buffer(OP, cx)?;
        let sum = match (f32::view(buffer), i64::view(buffer)) {
            (Some(values), _) => scatter.run(values, &dense, cx, |old, new| old + new)?,
            (_, Some(values)) => scatter.run(values, &dense, cx, i64::wrapping_add)?,
            _ => dense,
        };
        sum.cast(self.dtype(), cx)
    }
}

/// Positions between two looks at the flag that cancels.
const STRIDE: usize = 1 << 16;

/// A scatter whose arguments are known to fit.
struct Scatter<'a> {
    op: &'static str,
    shape: Shape,
    dim: usize,
    indices: Indices<'a>,
    source: &'a Tensor,
}

impl<'a> Scatter<'a> {
    fn new(
        op: &'static str,
        target: &Tensor,
        dim: i32,
        index: &'a Tensor,
        source: &'a Tensor,
        cx: &OpContext,
    ) -> Result<Self, TensorError> {
        let dim = target.lengths_shape().dim(op, "dim", dim)?;
        check_inside(op, index, "self", target, Some(dim))?;
        check_inside(op, index, "source", source, None)?;
        let indices = Indices::new(op, index, target.dims()[dim], cx)?;
        Ok(Scatter { op, shape: *index.lengths_shape(), dim, indices, source })
    }

    fn on_device(&self, dense: &Tensor, adds: bool, cx: &OpContext) -> Result<Option<Tensor>, TensorError> {
        let (dim, index, source) = (self.dim, self.indices.index, self.source);
        cx.on_device(self.op, Task::Scatter { target: dense, dim, index, source, adds })
    }

    /// `dense` is the target, row-major; its elements are `values` from its offset on.
    fn run<T: Stored>(
        &mut self,
        values: &[T],
        dense: &Tensor,
        cx: &OpContext,
        combine: impl Fn(T, T) -> T,
    ) -> Result<Tensor, TensorError> {
        let mut result = Allocation::<T>::zeroed(self.op, dense.elements(), cx)?;
        let from = dense.layout.offset.min(values.len());
        result.values.copy_from_slice(&values[from..from + dense.elements()]);
        let layout = Layout::contiguous(*dense.lengths_shape());
        let target = Reader::of_dims(
            0,
            layout
                .strides()
                .iter()
                .enumerate()
                .map(|(at, stride)| (self.shape.lengths()[at], if at == self.dim { 0 } else { *stride })),
        );
        let source = Reader::of_dims(
            self.source.layout.offset,
            self.shape.lengths().iter().copied().zip(self.source.layout.strides().iter().copied()),
        );
        let new = T::view(self.source.buffer(self.op, cx)?).unwrap_or_default();
        let step = layout.strides().get(self.dim).copied().unwrap_or(0);
        let places = self.indices.places(cx)?;
        for start in (0..places.len()).step_by(STRIDE) {
            cx.check(self.op)?;
            let count = STRIDE.min(places.len() - start);
            each_base(&target, start, count, |position, base| {
                let index = places[start + position] as isize;
                let slot = &mut result.values[(base + index * step) as usize];
                *slot = combine(*slot, new[source.locate(start + position) as usize]);
            });
        }
        Ok(Tensor::of(layout, result))
    }
}
