//! Drives a kernel over blocks of its operands, whatever their types and strides.

use crate::cpu::convert::{Compute, Store};
use crate::cpu::reader::Reader;
use crate::cpu::{BLOCK, fill};
use crate::shape::Layout;
use crate::storage::Buffer;
use crate::{OpContext, TensorError};

/// An operand, read in the order of the output's memory.
#[allow(clippy::large_enum_variant)] // There are at most three, on the stack.
pub(crate) enum Input<'a> {
    Tensor { buffer: &'a Buffer, reader: Reader },
    Scalar(f64),
}

impl<'a> Input<'a> {
    /// `layout` has the output's shape and its dimensions in the order of the output's memory.
    pub(crate) fn new(buffer: &'a Buffer, layout: &Layout) -> Input<'a> {
        Input::Tensor { buffer, reader: Reader::new(layout) }
    }

    /// A block of elements as C.
    pub(crate) fn read<C: Compute>(&self, start: usize, out: &mut [C]) {
        match self {
            Input::Scalar(value) => out.fill(C::of_scalar(*value)),
            Input::Tensor { buffer, reader } => C::read(buffer, reader, start, out),
        }
    }

    /// Whether any block is a slice of C.
    pub(crate) fn is_slice<C: Compute>(&self) -> bool {
        self.slice::<C>(0, 0).is_some()
    }

    /// A block of elements where they lie so as C.
    pub(crate) fn slice<C: Compute>(&self, start: usize, length: usize) -> Option<&[C]> {
        let Input::Tensor { buffer, reader } = self else { return None };
        C::view(buffer)?.get(reader.contiguous(start, length)?)
    }

    /// A block of elements as C: borrowed where they lie so, else read into `scratch`.
    pub(crate) fn block<'s, C: Compute>(&'s self, start: usize, length: usize, scratch: &'s mut [C]) -> &'s [C] {
        if let Some(values) = self.slice(start, length) {
            return values;
        }
        self.read(start, &mut scratch[..length]);
        &scratch[..length]
    }
}

/// Makes a block of results of blocks of operands. Not a type parameter: that would compile the loop around for each.
pub(crate) type Kernel<'a, C, K, const N: usize> = dyn Fn([&[C]; N], &mut [K]) + Sync + 'a;

/// Fills `out` with what `kernel` makes of each block of the inputs. Operands are read as C, the kernel answers K.
pub(crate) fn elementwise<C: Compute, K, O: Store<K>, const N: usize>(
    op: &'static str,
    inputs: &[Input<'_>; N],
    out: &mut [O],
    cx: &OpContext,
    kernel: &Kernel<'_, C, K, N>,
) -> Result<(), TensorError> {
    fill(op, out, cx, &|start, chunk| {
        let mut scratch = [[C::default(); BLOCK]; N];
        for (index, piece) in chunk.chunks_mut(BLOCK).enumerate() {
            let (at, length) = (start + index * BLOCK, piece.len());
            let mut operands = inputs.iter().zip(&mut scratch);
            let blocks: [&[C]; N] = std::array::from_fn(|_| match operands.next() {
                Some((input, scratch)) => input.block(at, length, scratch),
                None => &[],
            });
            O::with_block(piece, |results| kernel(blocks, results));
        }
    })
}
