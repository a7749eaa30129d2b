//! Products whose results are stored as another type than they are summed up in: a block of rows at a time, which does not leave
//! the cache in between.

use super::part::{Part, Target, multiply_part};
use super::{Left, Packed, ROWS_OF_BLOCK, Right, Start, amx, split_rows_at_once};
use crate::cpu::convert::Store;
use crate::ops::workspace;
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Rows from which on there are blocks for several threads.
const ROWS: usize = 256;

/// Whether a product of so many rows should be stored so.
pub(crate) fn storing_pays(rows: usize) -> bool {
    rows >= ROWS
}

/// `out = from + a · b`, dense rows. Workspace: some rows in float32 for each thread.
pub(crate) fn product_stored<O: Store<f32>>(
    op: &'static str,
    a: Left<'_>,
    b: &Packed,
    out: &mut [O],
    from: Start<'_>,
    cx: &OpContext,
) -> Result<(), TensorError> {
    let b = b.right();
    let sizes = b.sizes();
    let block = match b {
        Right::Split(..) => split_rows_at_once(&a).next_multiple_of(amx::BLOCK),
        _ => ROWS_OF_BLOCK,
    };
    let numbers = block.saturating_mul(sizes.columns);
    let bytes = numbers.saturating_mul(size_of::<f32>()).saturating_mul(rayon::current_num_threads());
    let _workspace = workspace(op, bytes, cx)?;
    out.par_chunks_mut(numbers.max(1)).enumerate().try_for_each_init(
        || scratch(numbers),
        |sums, (index, out)| {
            cx.check(op)?;
            let rows = out.len() / sizes.columns;
            let part = Part { first_row: index * block, rows, first_panel: 0, panels: sizes.count() };
            let sums = &mut sums[..out.len()];
            multiply_part(a, b, part, Target::of_rows(sums, sizes.columns, part.first_row), from);
            O::store_slice(sums, out);
            Ok(())
        },
    )?;
    cx.check(op)
}
