//! Weights that were quantised in blocks, as GGUF files hold them.

use crate::cpu::blocks;
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, Shape, Tensor, TensorError};
use half::f16;

/// How a block of weights is packed; the names are GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

impl BlockFormat {
    /// The elements of a block, and its bytes.
    pub const fn block(self) -> (usize, usize) {
        match self {
            BlockFormat::Q4_0 | BlockFormat::Iq4Nl => (32, 18),
            BlockFormat::Q4_1 => (32, 20),
            BlockFormat::Q5_0 => (32, 22),
            BlockFormat::Q5_1 => (32, 24),
            BlockFormat::Q8_0 => (32, 34),
            BlockFormat::Q2K => (256, 84),
            BlockFormat::Q3K => (256, 110),
            BlockFormat::Q4K => (256, 144),
            BlockFormat::Q5K => (256, 176),
            BlockFormat::Q6K => (256, 210),
            BlockFormat::Iq4Xs => (256, 136),
        }
    }

    /// The bytes of a tensor of this shape; `None` if its rows are not whole blocks, or it is too large.
    pub fn bytes(self, shape: &[u64]) -> Option<u64> {
        let (elements, bytes) = self.block();
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(elements as u64) {
            return None;
        }
        let all = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length))?;
        (all / elements as u64).checked_mul(bytes as u64)
    }
}

impl Tensor {
    /// A float16 tensor of quantised weights, row-major. The number of bytes must fit the shape.
    pub fn from_blocks(shape: &[u64], format: BlockFormat, data: &[u8], cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "from-blocks";
        let (elements, bytes) = format.block();
        let checked = Shape::new(OP, shape)?;
        if format.bytes(shape) != Some(data.len() as u64) {
            let message = format!(
                "has {} bytes, but shape {checked} in blocks of {elements} elements and {bytes} bytes is needed",
                data.len()
            );
            return Err(TensorError::argument(OP, "data", message));
        }
        let mut result = Allocation::<f16>::unfilled(OP, checked.elements(), cx)?;
        blocks::unpack(OP, format, data, &mut result.values, cx)?;
        Ok(Tensor::of(Layout::contiguous(checked), result))
    }
}
