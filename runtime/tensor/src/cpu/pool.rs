//! Windows over planes.

use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};

/// What is made of the elements under a window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pool {
    Max,
    Mean { count_padding: bool },
}

/// How windows move over planes; height first.
pub(crate) struct Window {
    pub(crate) op: &'static str,
    pub(crate) size: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) window: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) pool: Pool,
}

impl Window {
    pub(crate) fn run(&self, input: &[f32], out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let [height, width] = self.size;
        let [rows, columns] = self.output;
        let cost = self.window[0].saturating_mul(self.window[1]);
        fill_rows(self.op, out, columns, cost, cx, &|first, pieces| {
            for (index, out) in pieces.chunks_exact_mut(columns).enumerate() {
                let (plane, y) = ((first + index) / rows, (first + index) % rows);
                let plane = &input[plane * height * width..][..height * width];
                for (x, out) in out.iter_mut().enumerate() {
                    *out = self.value(plane, y, x);
                }
                if cx.is_cancelled() {
                    return;
                }
            }
        })
    }

    fn value(&self, plane: &[f32], y: usize, x: usize) -> f32 {
        // The part of a window inside the plane.
        let range = |axis: usize, at: usize| {
            let start = at * self.stride[axis];
            let low = start.max(self.padding[axis]) - self.padding[axis];
            let high = (start + self.window[axis]).saturating_sub(self.padding[axis]).min(self.size[axis]);
            low..high.max(low)
        };
        let (rows, columns) = (range(0, y), range(1, x));
        let lines = rows.clone().map(|row| &plane[row * self.size[1]..][columns.clone()]);
        match self.pool {
            Pool::Max => {
                let larger = |a: f32, v: &f32| if *v > a || v.is_nan() { *v } else { a };
                lines.fold(f32::NEG_INFINITY, |a, line| line.iter().fold(a, larger))
            }
            Pool::Mean { count_padding } => {
                let sum: f64 = lines.map(|line| line.iter().map(|v| f64::from(*v)).sum::<f64>()).sum();
                let inside = rows.len() * columns.len();
                let count = if count_padding { self.window[0] * self.window[1] } else { inside };
                (sum / count as f64) as f32
            }
        }
    }
}
