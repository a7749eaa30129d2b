//! Matrices rearranged for the kernel: panels of neighbouring columns, one after the other, in float32.

use super::kernel::{Kernel, MOST_COLUMNS};
use super::{Matrix, MatrixType};
use crate::cpu::transpose::transpose;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Numbers that one task rearranges about.
const TASK: usize = 1 << 16;
/// Steps that are turned around at a time where they, and not the columns, are neighbours in memory.
const TURNED: usize = 64;

/// How the columns of a matrix are cut into panels, for the kernel of this machine. The last panel is a narrow one if
/// that is enough; columns that the matrix lacks are zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels {
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

impl Panels {
    pub(crate) fn count(self) -> usize {
        self.columns.div_ceil(Kernel::get().columns)
    }

    /// Real columns of a panel, and whether it is a narrow one.
    pub(crate) fn width(self, panel: usize) -> (usize, bool) {
        let kernel = Kernel::get();
        let left = (self.columns - panel * kernel.columns).min(kernel.columns);
        (left, left <= kernel.narrow)
    }

    /// Columns from one step of a panel to the next.
    pub(crate) fn step(self, panel: usize) -> usize {
        let kernel = Kernel::get();
        if self.width(panel).1 { kernel.narrow } else { kernel.columns }
    }

    /// Where a panel begins.
    pub(crate) fn start(self, panel: usize) -> usize {
        panel * Kernel::get().columns * self.inner
    }

    /// Numbers that all panels hold.
    pub(crate) fn numbers(self) -> usize {
        match self.count() {
            0 => 0,
            count => self.start(count - 1).saturating_add(self.step(count - 1).saturating_mul(self.inner)),
        }
    }

    /// Rearranges `b` into `out`, in parallel.
    pub(crate) fn pack<T: MatrixType>(
        self,
        op: &'static str,
        b: Matrix<'_, T>,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let full = Kernel::get().columns * self.inner;
        let each = (TASK / full.max(1)).max(1);
        if full == 0 {
            return Ok(());
        }
        out.par_chunks_mut(full * each).enumerate().try_for_each(|(task, out)| {
            cx.check(op)?;
            for (index, out) in out.chunks_mut(full).enumerate() {
                self.pack_panel(task * each + index, b, out);
            }
            Ok(())
        })
    }

    /// Rearranges one panel.
    pub(crate) fn pack_panel<T: MatrixType>(self, panel: usize, b: Matrix<'_, T>, out: &mut [f32]) {
        let ((width, _), step) = (self.width(panel), self.step(panel));
        let first = panel * Kernel::get().columns;
        let (inner, columns) = (b.row_stride, b.column_stride);
        if columns == 1 {
            for (row, out) in out.chunks_exact_mut(step).enumerate() {
                T::load_slice(&b.values[row * inner + first..][..width], &mut out[..width]);
                out[width..].fill(0.0);
            }
            return;
        }
        if width < step {
            out.fill(0.0);
        }
        if let (1, Some(values)) = (inner, T::as_floats(b.values)) {
            for (block, out) in out.chunks_mut(TURNED * step).enumerate() {
                let from = &values[block * TURNED + first * columns..];
                transpose(from, columns, (width, out.len() / step), out, step);
            }
            return;
        }
        let mut lines = [0.0f32; TURNED * MOST_COLUMNS];
        for (block, out) in out.chunks_mut(TURNED * step).enumerate() {
            let steps = out.len() / step;
            for (column, line) in lines.chunks_exact_mut(TURNED).take(width).enumerate() {
                let from = block * TURNED * inner + (first + column) * columns;
                if inner == 1 {
                    T::load_slice(&b.values[from..from + steps], &mut line[..steps]);
                } else {
                    // Not `step_by`: the distance of an expanded dimension is zero.
                    for (step, value) in line.iter_mut().take(steps).enumerate() {
                        *value = b.values[from + step * inner].load();
                    }
                }
            }
            transpose(&lines, TURNED, (width, steps), out, step);
        }
    }
}
