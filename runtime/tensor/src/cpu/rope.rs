//! Pairs of numbers, turned.

use crate::cpu::elementwise::Input;
use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};

/// What turns rows of `length` numbers; the angles are read in the order of the rows' halves.
pub(crate) struct Rotation<'a> {
    pub(crate) length: usize,
    pub(crate) interleaved: bool,
    pub(crate) cos: Input<'a>,
    pub(crate) sin: Input<'a>,
}

pub(crate) fn rotate(
    op: &'static str,
    input: &[f32],
    rotation: &Rotation<'_>,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let (length, half) = (rotation.length, rotation.length / 2);
    fill_rows(op, out, length, 2, cx, &|first, rows| {
        let (mut cos, mut sin) = (vec![0.0f32; half], vec![0.0f32; half]);
        for (index, out) in rows.chunks_exact_mut(length).enumerate() {
            let row = first + index;
            let source = &input[row * length..][..length];
            let cos = rotation.cos.block(row * half, half, &mut cos);
            let sin = rotation.sin.block(row * half, half, &mut sin);
            if rotation.interleaved {
                let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(source.as_chunks::<2>().0);
                for (([out_a, out_b], [a, b]), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
                    (*out_a, *out_b) = (a * cos - b * sin, b * cos + a * sin);
                }
            } else {
                let ((out_a, out_b), (a, b)) = (out.split_at_mut(half), source.split_at(half));
                for place in 0..half {
                    out_a[place] = a[place] * cos[place] - b[place] * sin[place];
                    out_b[place] = b[place] * cos[place] + a[place] * sin[place];
                }
            }
        }
    })
}
