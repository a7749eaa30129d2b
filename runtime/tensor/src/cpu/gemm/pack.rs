//! Matrices rearranged for the kernel: panels of neighbouring columns, one after the other, in float32; or the same split for
//! the matrix unit.

use super::kernel::{Kernel, MOST_COLUMNS};
use super::split::{Lines, Tiling, split_steps};
use super::{Matrix, MatrixType, Right, splitting_pays};
use crate::cpu::transpose::transpose;
use crate::ops::workspace;
use crate::storage::scratch;
use crate::{Charge, OpContext, TensorError};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Writes one whole panel.
pub(crate) type FillPanel<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// The right side of a product as it suits this machine, and what its memory is charged to.
pub(crate) struct Packed {
    numbers: Numbers,
    _charge: Charge,
}

enum Numbers {
    Floats(Panels, Vec<f32>),
    Split(Tiling, Lines),
}

impl Packed {
    /// For a product with so many rows on the left.
    pub(crate) fn of_matrix<T: MatrixType>(
        op: &'static str,
        rows: usize,
        b: Matrix<'_, T>,
        cx: &OpContext,
    ) -> Result<Packed, TensorError> {
        b.assert_inside();
        let sizes = Panels { inner: b.rows, columns: b.columns };
        Packed::new(op, rows, (sizes, T::PARTS), &|panel, out| sizes.pack_panel(panel, b, out), cx)
    }

    /// As [`Packed::of_matrix`], of numbers of so many parts that `fill` writes.
    pub(crate) fn new(
        op: &'static str,
        rows: usize,
        (sizes, parts): (Panels, usize),
        fill: FillPanel<'_>,
        cx: &OpContext,
    ) -> Result<Packed, TensorError> {
        if splitting_pays(rows, sizes.inner, sizes.columns) {
            let tiling = Tiling { length: sizes.columns, inner: sizes.inner, parts };
            if let Some(packed) = Packed::split(op, tiling, fill, cx)? {
                return Ok(packed);
            }
        }
        let charge = workspace(op, sizes.numbers().saturating_mul(size_of::<f32>()), cx)?;
        let mut values = scratch(sizes.numbers());
        let full = Kernel::get().columns * sizes.inner;
        let each = (TASK / full.max(1)).max(1);
        if full > 0 {
            values.par_chunks_mut(full * each).enumerate().try_for_each(|(task, out)| {
                cx.check(op)?;
                out.chunks_mut(full).enumerate().for_each(|(index, out)| fill(task * each + index, out));
                Ok(())
            })?;
        }
        Ok(Packed { numbers: Numbers::Floats(sizes, values), _charge: charge })
    }

    /// Nothing when a number is not finite.
    fn split(
        op: &'static str,
        tiling: Tiling,
        fill: FillPanel<'_>,
        cx: &OpContext,
    ) -> Result<Option<Packed>, TensorError> {
        let panel_numbers = tiling.inner * Kernel::get().columns;
        let threads = panel_numbers.saturating_mul(rayon::current_num_threads()).saturating_mul(size_of::<f32>());
        let charge = workspace(op, Lines::bytes(tiling.lines()).saturating_add(threads), cx)?;
        let mut lines = Lines::new(tiling.lines());
        let finite = AtomicBool::new(true);
        let full = tiling.chunks() * tiling.chunk(0);
        let out = &mut lines.get_mut()[..tiling.lines()];
        out.par_chunks_mut(full).enumerate().try_for_each_init(Vec::new, |numbers, (panel, out)| {
            cx.check(op)?;
            let step = Panels { inner: tiling.inner, columns: tiling.length }.step(panel);
            numbers.resize(panel_numbers, 0.0);
            let numbers = &mut numbers[..tiling.inner * step];
            fill(panel, numbers);
            if !split_steps(numbers, step, tiling.inner, (tiling.tiles(panel), tiling.parts), out) {
                finite.store(false, Ordering::Relaxed);
            }
            Ok(())
        })?;
        let numbers = Numbers::Split(tiling, lines);
        Ok(finite.into_inner().then_some(Packed { numbers, _charge: charge }))
    }

    pub(crate) fn right(&self) -> Right<'_> {
        match &self.numbers {
            Numbers::Floats(panels, values) => Right::Packed(*panels, values),
            Numbers::Split(tiling, lines) => Right::Split(*tiling, lines.get()),
        }
    }
}
