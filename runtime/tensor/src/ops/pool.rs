//! Pooling of `[B,C,H,W]`. Needs floats, keeps the type.

use crate::cpu::pool::{Pool, Window};
use crate::device::Task;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, Tensor, TensorError};

/// The most that a side of a window can be.
const MAX_WINDOW: u64 = 1 << 20;

impl Tensor {
    /// The largest element under each window (height, width); what `padding` adds never wins. Not-a-number does.
    pub fn max_pool2d(
        &self,
        window: [u64; 2],
        stride: [u64; 2],
        padding: [u64; 2],
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.pooled("max-pool2d", window, stride, padding, Pool::Max, cx)
    }

    /// The mean under each window (height, width). `count_padding` divides by the whole window even at the border.
    pub fn avg_pool2d(
        &self,
        window: [u64; 2],
        stride: [u64; 2],
        padding: [u64; 2],
        count_padding: bool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.pooled("avg-pool2d", window, stride, padding, Pool::Mean { count_padding }, cx)
    }

    fn pooled(
        &self,
        op: &'static str,
        window: [u64; 2],
        stride: [u64; 2],
        padding: [u64; 2],
        pool: Pool,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        self.check_float(op, "self")?;
        self.check_rank(op, "self", 4, "[B,C,H,W]")?;
        for (argument, values) in [("window", window), ("stride", stride)] {
            if !values.iter().all(|value| (1..=MAX_WINDOW).contains(value)) {
                return Err(TensorError::argument(op, argument, format!("is {values:?}; 1 to {MAX_WINDOW} will do")));
            }
        }
        let mut size = [0usize; 2];
        for (dim, slot) in size.iter_mut().enumerate() {
            if padding[dim] > window[dim] / 2 {
                let message = format!("is {padding:?}, more than half of the window {window:?}");
                return Err(TensorError::argument(op, "padding", message));
            }
            let room = self.dims()[2 + dim] + 2 * padding[dim] as usize;
            let Some(left) = room.checked_sub(window[dim] as usize) else {
                let message = format!("is {window:?}, larger than shape {} with its padding", self.lengths_shape());
                return Err(TensorError::argument(op, "window", message));
            };
            *slot = left / stride[dim] as usize + 1;
        }
        let shape = self.lengths_shape().with_length(op, 2, size[0])?.with_length(op, 3, size[1])?;
        let small = |values: [u64; 2]| values.map(|value| value as usize);
        cx.check_cost(op, &[shape.elements(), window[0] as usize, window[1] as usize])?;
        let window = Window {
            op,
            size: [self.dims()[2], self.dims()[3]],
            output: size,
            window: small(window),
            stride: small(stride),
            padding: small(padding),
            pool,
        };
        if let Some(source) = self.dense_for_gpu(cx)?
            && let Some(result) = cx.on_device(op, Task::Pool { source: &source, window: &window, shape })?
        {
            return Ok(result);
        }
        let input = self.dense_floats(op, "self", cx)?;
        let mut result = Allocation::<f32>::zeroed(op, shape.elements(), cx)?;
        if shape.elements() > 0 {
            window.run(input.floats(), &mut result.values, cx)?;
        }
        Tensor::of(Layout::contiguous(shape), result).cast(self.dtype(), cx)
    }
}
