//! Rotary position embedding.

use crate::cpu::elementwise::Input;
use crate::cpu::rope::{Rotation, rotate};
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, Shape, Tensor, TensorError};

impl Tensor {
    /// Turns pairs of the last dimension by angles, whose cosines and sines broadcast to `[…,E/2]`: (a, b) becomes
    /// (a·cos − b·sin, b·cos + a·sin). Pairs are neighbours with `interleaved`, else elements half the dimension apart. As
    /// ONNX' RotaryEmbedding. Floats; the type stays.
    pub fn rope(&self, cos: &Tensor, sin: &Tensor, interleaved: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "rope";
        self.check_float(OP, "self")?;
        let Some(length) = self.dims().last().copied().filter(|length| length.is_multiple_of(2)) else {
            let message = format!("has shape {}, but a last dimension of even length is needed", self.lengths_shape());
            return Err(TensorError::argument(OP, "self", message));
        };
        let halves = self.lengths_shape().with_length(OP, self.rank() - 1, length / 2)?;
        for (argument, tensor) in [("cos", cos), ("sin", sin)] {
            tensor.check_float(OP, argument)?;
            if halves.broadcast(tensor.lengths_shape(), OP, argument)? != halves {
                let (left, right) = (Box::new(halves), Box::new(*tensor.lengths_shape()));
                let rule = "it must broadcast to self's with half the last dimension";
                return Err(TensorError::Shapes { op: OP, argument, left, right, rule });
            }
        }
        if cx.gpu.is_some() {
            return self.rotated(cos, sin, interleaved, cx);
        }
        let mut result = Allocation::<f32>::unfilled(OP, self.elements(), cx)?;
        if self.elements() > 0 {
            let input = self.dense_floats(OP, "self", cx)?;
            let (cos, sin) = (cos.dense_floats(OP, "cos", cx)?, sin.dense_floats(OP, "sin", cx)?);
            let rotation = Rotation {
                length,
                interleaved,
                cos: spread(OP, &cos, halves, cx)?,
                sin: spread(OP, &sin, halves, cx)?,
            };
            rotate(OP, input.floats(), &rotation, &mut result.values, cx)?;
        }
        Tensor::of(Layout::contiguous(*self.lengths_shape()), result).cast(self.dtype(), cx)
    }

    /// The same out of operations that a GPU has.
    fn rotated(&self, cos: &Tensor, sin: &Tensor, interleaved: bool, cx: &OpContext) -> Result<Tensor, TensorError> {
        use crate::BinaryOp::{Add, Mul, Sub};
        let wide = self.cast(crate::DType::Float32, cx)?;
        let half = self.dims()[self.rank() - 1] as i64 / 2;
        let part = |second: i64| match interleaved {
            true => wide.slice(-1, second, i64::MAX, 2, cx),
            false => wide.slice(-1, second * half, (second + 1) * half, 1, cx),
        };
        let (a, b) = (part(0)?, part(1)?);
        let times = |left: &Tensor, right: &Tensor| left.binary(Mul, right.into(), cx);
        let turned = [
            times(&a, cos)?.binary(Sub, (&times(&b, sin)?).into(), cx)?,
            times(&b, cos)?.binary(Add, (&times(&a, sin)?).into(), cx)?,
        ];
        let turned = [&turned[0], &turned[1]];
        let joined = match interleaved {
            true => {
                let shape: Vec<i64> = self.dims().iter().map(|length| *length as i64).collect();
                Tensor::stack(&turned, -1, cx)?.reshape(&shape, cx)?
            }
            false => Tensor::cat(&turned, -1, cx)?,
        };
        joined.cast(self.dtype(), cx)
    }
}

fn spread<'a>(op: &'static str, tensor: &'a Tensor, shape: Shape, cx: &OpContext) -> Result<Input<'a>, TensorError> {
    Ok(Input::new(tensor.buffer(op, cx)?, &tensor.layout.expanded(shape)))
}
