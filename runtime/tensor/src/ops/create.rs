//! Tensors out of nothing, out of bytes, and back to bytes.

use crate::cpu::copy::{Source, copy, copy_turned};
use crate::cpu::fill;
use crate::cpu::reader::Reader;
use crate::device::{Piece, Series, Task};
use crate::shape::Layout;
use crate::storage::{Allocation, Buffer, Stored, with_buffer, with_dtype};
use crate::{DType, Element, OpContext, Shape, Tensor, TensorError};

/// The most bytes one [`Tensor::read`] answers.
pub const MAX_READ: u64 = 1 << 30;

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(shape: &[u64], dtype: DType, cx: &OpContext) -> Result<Tensor, TensorError> {
        let shape = Shape::new("zeros", shape)?;
        if let Some(result) = filled_on_device("zeros", shape, 0.0, dtype, cx)? {
            return Ok(result);
        }
        with_dtype!(dtype, T => {
            Ok(Tensor::of(Layout::contiguous(shape), Allocation::<T>::zeroed("zeros", shape.elements(), cx)?))
        })
    }

    /// A tensor of one value: floats are rounded to the type; for integers it must be in range, and is truncated.
    pub fn full(shape: &[u64], value: f64, dtype: DType, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "full";
        let shape = Shape::new(OP, shape)?;
        check_value(OP, "value", value, dtype)?;
        if let Some(result) = filled_on_device(OP, shape, value, dtype, cx)? {
            return Ok(result);
        }
        with_dtype!(dtype, T => {
            let mut result = Allocation::<T>::unfilled(OP, shape.elements(), cx)?;
            let value = <T as Element>::from_f64(value);
            fill(OP, &mut result.values, cx, &|_, chunk| chunk.fill(value))?;
            Ok(Tensor::of(Layout::contiguous(shape), result))
        })
    }

    /// start, start + step, … below `end` (above it for a negative step), as float32; each computed in double precision.
    pub fn arange(start: f64, end: f64, step: f64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "arange";
        check_finite(OP, "start", start)?;
        check_finite(OP, "end", end)?;
        check_finite(OP, "step", step)?;
        if step == 0.0 {
            return Err(TensorError::argument(OP, "step", "is zero"));
        }
        if (end - start) * step.signum() < 0.0 {
            let message = format!("is {step}, which leads away from the end: from {start} to {end}");
            return Err(TensorError::argument(OP, "step", message));
        }
        // A count beyond what fits saturates and is refused by the shape.
        let shape = Shape::new(OP, &[((end - start) / step).ceil() as u64])?;
        progression(OP, shape, (start, end, step), shape.elements(), cx)
    }

    /// `steps` values from `start` to `end`, both included, as float32. One step gives `start`.
    pub fn linspace(start: f64, end: f64, steps: u64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "linspace";
        check_finite(OP, "start", start)?;
        check_finite(OP, "end", end)?;
        let shape = Shape::new(OP, &[steps])?;
        let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
        // From both ends, so that both are exact.
        let half = if steps == 1 { 1 } else { (steps / 2) as usize };
        progression(OP, shape, (start, end, step), half, cx)
    }

    /// A tensor of little-endian, row-major bytes; their number must fit the shape exactly. Any non-zero byte is true.
    pub fn from_bytes(shape: &[u64], dtype: DType, data: &[u8], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "from-bytes";
        let shape = Shape::new(OP, shape)?;
        let wanted = shape.elements() * dtype.size();
        if data.len() != wanted {
            let message = format!("has {} bytes, but {dtype} of shape {shape} takes {wanted}", data.len());
            return Err(TensorError::argument(OP, "data", message));
        }
        with_dtype!(dtype, T => {
            let mut result = Allocation::<T>::unfilled(OP, shape.elements(), cx)?;
            fill(OP, &mut result.values, cx, &|start, chunk| {
                let from = start * dtype.size();
                T::read_le(&data[from..from + chunk.len() * dtype.size()], chunk);
            })?;
            Ok(Tensor::of(Layout::contiguous(shape), result))
        })
    }

    /// `length` elements from `offset` in row-major order, as little-endian bytes. The caller meters them.
    pub fn read(&self, offset: u64, length: u64, cx: &OpContext) -> Result<Vec<u8>, TensorError> {
        const OP: &str = "read";
        let elements = self.elements() as u64;
        if offset.checked_add(length).is_none_or(|end| end > elements) {
            let message = format!("{offset} and length {length} reach beyond the {elements} elements");
            return Err(TensorError::argument(OP, "offset", message));
        }
        let bytes = length * self.dtype().size() as u64;
        if bytes > MAX_READ {
            let what = "the number of bytes read at once";
            return Err(TensorError::Limit { op: OP, what, asked: bytes.to_string(), limit: MAX_READ });
        }
        cx.check(OP)?;
        let (start, length) = (offset as usize, length as usize);
        let mut out = Vec::with_capacity(bytes as usize);
        self.storage.settle(OP, Some(cx))?;
        if self.storage.host().is_none() {
            // Only what was asked for leaves the GPU.
            let dense = self.contiguous(cx)?;
            if dense.storage.host().is_none() {
                return dense.storage.read_device(OP, dense.layout.offset + start, length);
            }
        }
        with_buffer!(self.buffer(OP, cx)?, values => read_bytes(values, &self.layout, start, length, &mut out));
        Ok(out)
    }

    /// The value of a tensor of exactly one element.
    pub fn item(&self) -> Result<f64, TensorError> {
        if self.elements() != 1 {
            let message = format!("has shape {} and not exactly one element", self.lengths_shape());
            return Err(TensorError::argument("item", "self", message));
        }
        self.storage.settle("item", None)?;
        match self.storage.host() {
            Some(buffer) => Ok(with_buffer!(buffer, values => values[self.layout.offset].to_f64())),
            None => {
                let bytes = self.storage.read_device("item", self.layout.offset, 1)?;
                Ok(with_dtype!(self.dtype(), T => {
                    let mut value = [T::default()];
                    T::read_le(&bytes, &mut value);
                    value[0].to_f64()
                }))
            }
        }
    }

    /// A second handle to the same tensor.
    pub fn share(&self) -> Result<Tensor, TensorError> {
        Ok(self.clone())
    }

    /// The same elements, row-major without gaps; the tensor itself if it is so already.
    pub fn contiguous(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "contiguous";
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let dense = Layout::contiguous(self.layout.shape);
        let piece = Piece { source: self, from: self.layout, to: dense };
        if let Some(result) =
            cx.on_device(OP, Task::Assemble { layout: dense, dtype: self.dtype(), fill: None, pieces: &[piece] })?
        {
            return Ok(result);
        }
        if let Buffer::Float32(values) = self.buffer(OP, cx)? {
            let source = Source { values, reader: Reader::new(&self.layout) };
            let mut result = Allocation::<f32>::unfilled(OP, self.elements(), cx)?;
            copy_turned(OP, &source, &mut result.values, cx)?;
            return Ok(Tensor::of(Layout::contiguous(*self.lengths_shape()), result));
        }
        with_buffer!(self.buffer(OP, cx)?, values => copied(OP, values, &self.layout, cx))
    }
}

fn copied<T: Stored>(op: &'static str, values: &[T], layout: &Layout, cx: &OpContext) -> Result<Tensor, TensorError> {
    let mut result = Allocation::<T>::unfilled(op, layout.shape.elements(), cx)?;
    copy(op, &Source { values, reader: Reader::new(layout) }, &mut result.values, cx)?;
    Ok(Tensor::of(Layout::contiguous(layout.shape), result))
}

fn read_bytes<T: Stored>(values: &[T], layout: &Layout, start: usize, length: usize, out: &mut Vec<u8>) {
    let source = Source { values, reader: Reader::new(layout) };
    if let Some(range) = source.reader.contiguous(start, length).filter(|_| length > 0) {
        return T::write_le(&values[range], out);
    }
    let mut block = vec![T::default(); length.min(crate::cpu::BLOCK)];
    let mut done = 0;
    while done < length {
        let count = block.len().min(length - done);
        source.read(start + done, &mut block[..count]);
        T::write_le(&block[..count], out);
        done += count;
    }
}

/// One value everywhere, on a GPU.
fn filled_on_device(
    op: &'static str,
    shape: Shape,
    value: f64,
    dtype: DType,
    cx: &OpContext,
) -> Result<Option<Tensor>, TensorError> {
    let layout = Layout::contiguous(shape);
    cx.on_device(op, Task::Assemble { layout, dtype, fill: Some(value), pieces: &[] })
}

/// The first `from_start` numbers count from `start`, the others back from `end`.
fn progression(
    op: &'static str,
    shape: Shape,
    (start, end, step): (f64, f64, f64),
    from_start: usize,
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    let series = Series::Progression { start, end, step, from_start };
    if let Some(result) = cx.on_device(op, Task::Create { shape, series })? {
        return Ok(result);
    }
    let last = shape.elements().saturating_sub(1);
    let value = |index: usize| {
        if index < from_start { start + index as f64 * step } else { end - (last - index) as f64 * step }
    };
    let mut result = Allocation::<f32>::unfilled(op, shape.elements(), cx)?;
    fill(op, &mut result.values, cx, &|first, chunk| {
        for (index, out) in chunk.iter_mut().enumerate() {
            *out = value(first + index) as f32;
        }
    })?;
    Ok(Tensor::of(Layout::contiguous(shape), result))
}

fn check_finite(op: &'static str, argument: &'static str, value: f64) -> Result<(), TensorError> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(TensorError::argument(op, argument, format!("is {value}, not a finite number")))
    }
}

/// Refuses a number that an element type cannot hold.
pub(super) fn check_value(
    op: &'static str,
    argument: &'static str,
    value: f64,
    dtype: DType,
) -> Result<(), TensorError> {
    let (low, high) = match dtype {
        DType::Uint8 => (0.0, 255.0),
        DType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::Int64 => (-9.223_372_036_854_775e18, 9.223_372_036_854_775e18),
        _ => return Ok(()),
    };
    let truncated = value.trunc();
    if truncated >= low && truncated <= high {
        return Ok(());
    }
    Err(TensorError::argument(op, argument, format!("is {value}, which {dtype} cannot hold")))
}
