//! Fourier transforms. A complex number is a last dimension of length 2: real and imaginary part.

use super::interpolate::workspace;
use crate::cpu::fourier;
use crate::cpu::reader::Reader;
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{DType, OpContext, Tensor, TensorError};

/// The longest dimension of [`Tensor::fft`].
pub const MAX_FFT: usize = 1 << 24;

impl Tensor {
    /// The discrete Fourier transform of `[…,2]` along `dims`, none of which may be the last. `inverse` divides by the number
    /// of elements, as PyTorch's `ifftn`. Floats, computed in float32; answers float32.
    ///
    /// Workspace: the tensor twice more, and some ten numbers for each place of a dimension and thread; on a GPU, for lengths with
    /// prime factors beyond 7, up to five times more.
    pub fn fft(&self, dims: &[i32], inverse: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "fft";
        self.check_float(OP, "self")?;
        if self.dims().last() != Some(&2) {
            let message = format!("has shape {}, but a last dimension of length 2 is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        }
        let mask = self.lengths_shape().dims_mask(OP, "dims", dims)?;
        let (rank, last) = (self.rank(), self.rank() - 1);
        if mask[last] {
            return Err(TensorError::argument(
                OP,
                "dims",
                "names the last dimension, which holds the parts of a number",
            ));
        }
        let mut result = self.clone();
        for dim in (0..last).filter(|dim| mask[*dim]) {
            let length = self.dims()[dim];
            if length > MAX_FFT {
                let (what, asked) = ("the length of a dimension", length.to_string());
                return Err(TensorError::Limit { op: OP, what, asked, limit: MAX_FFT as u64 });
            }
            // A prime length takes three transforms of more than twice the length.
            let steps = length.max(1).ilog2() as usize + 1;
            cx.check_cost(OP, &[self.elements(), 16, steps])?;
        }
        for dim in (0..last).filter(|dim| mask[*dim]) {
            let mut order: Vec<usize> = (0..rank).filter(|other| *other != dim && *other != last).collect();
            order.extend([dim, last]);
            result = transformed(&result.with_layout(result.layout.permuted(&order)), inverse, cx)?;
            let mut back = vec![0; rank];
            order.iter().enumerate().for_each(|(place, dim)| back[*dim] = place);
            result = result.with_layout(result.layout.permuted(&back));
        }
        result.cast(DType::Float32, cx)
    }
}

/// Lines `[…,length,2]` transformed, row-major float32. They are read where they lie.
fn transformed(lines: &Tensor, inverse: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
    const OP: &str = "fft";
    if let Some(lines) = lines.dense_for_gpu(cx)?
        && let Some(result) = cx.on_device(OP, Task::Transform { lines: &lines, inverse })?
    {
        return Ok(result);
    }
    let last = lines.rank() - 1;
    let is_readable = lines.dtype() == DType::Float32 && lines.strides()[last] == 1;
    let lines = if is_readable { lines.clone() } else { lines.dense_floats(OP, "self", cx)? };
    lines.buffer(OP, cx)?;
    let (lengths, strides) = (lines.dims(), lines.strides());
    let starts = lengths.iter().copied().zip(strides.iter().copied()).take(last - 1);
    let length = lengths[last - 1];
    let input = fourier::Lines {
        values: lines.values(),
        starts: Reader::of_dims(lines.layout.offset, starts),
        stride: strides[last - 1],
        length,
        count: lines.elements() / (2 * length).max(1),
    };
    let mut out = Allocation::<f32>::unfilled(OP, lines.elements(), cx)?;
    let _workspace = workspace(OP, fourier::workspace_bytes(length), cx)?;
    fourier::transform(OP, &input, inverse, &mut out.values, cx)?;
    Ok(Tensor::of(Layout::contiguous(*lines.lengths_shape()), out))
}
