//! Which places of a gradient are edges.

use crate::cpu::{fill, fill_rows};
use crate::{OpContext, TensorError};

/// Keeps flat pictures from having a direction.
const EPSILON: f32 = 1e-6;

/// Planes of gradients.
pub(crate) struct Gradient<'a> {
    pub(crate) strength: &'a [f32],
    pub(crate) across: &'a [f32],
    pub(crate) down: &'a [f32],
    pub(crate) size: [usize; 2],
}

pub(crate) fn strength(
    op: &'static str,
    across: &[f32],
    down: &[f32],
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    fill(op, out, cx, &|start, out| {
        for ((out, across), down) in out.iter_mut().zip(&across[start..]).zip(&down[start..]) {
            *out = (across * across + down * down + EPSILON).sqrt();
        }
    })
}

/// Writes 1 where an edge is and 0 elsewhere. One plane is one task.
pub(crate) fn edges(
    op: &'static str,
    gradient: &Gradient<'_>,
    [low, high]: [f32; 2],
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    const WEAK: f32 = 0.5;
    let [height, width] = gradient.size;
    let plane = height * width;
    fill_rows(op, out, plane, 16, cx, &|first, planes| {
        let mut strong = Vec::new();
        for (index, out) in planes.chunks_exact_mut(plane).enumerate() {
            let from = (first + index) * plane;
            for (at, out) in out.iter_mut().enumerate() {
                let strength = gradient.strength[from + at];
                *out = 0.0;
                if strength > low && gradient.is_ridge(from, at) {
                    *out = WEAK;
                    if strength > high {
                        *out = 1.0;
                        strong.push(at);
                    }
                }
            }
            while let Some(at) = strong.pop() {
                let (y, x) = (at / width, at % width);
                for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                    for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                        let near = near_y * width + near_x;
                        if out[near] == WEAK {
                            out[near] = 1.0;
                            strong.push(near);
                        }
                    }
                }
            }
            out.iter_mut().filter(|out| **out == WEAK).for_each(|out| *out = 0.0);
            if cx.is_cancelled() {
                return;
            }
        }
    })
}

impl Gradient<'_> {
    /// Stronger than its neighbours on both sides, in the direction of the gradient to the nearest 45 degrees. Beyond the
    /// border there is nothing.
    fn is_ridge(&self, plane: usize, at: usize) -> bool {
        let [height, width] = self.size;
        let angle = 180.0 * self.down[plane + at].atan2(self.across[plane + at]) / std::f32::consts::PI;
        let (right, below) = match ((angle / 45.0).round_ties_even() as i8).rem_euclid(4) {
            0 => (1isize, 0isize),
            1 => (1, 1),
            2 => (0, 1),
            _ => (-1, 1),
        };
        let (y, x) = (at / width, at % width);
        [1, -1].iter().all(|side| {
            let row = y.checked_add_signed(below * side).filter(|row| *row < height);
            let column = x.checked_add_signed(right * side).filter(|column| *column < width);
            let neighbour = match (row, column) {
                (Some(row), Some(column)) => self.strength[plane + row * width + column],
                _ => 0.0,
            };
            self.strength[plane + at] - neighbour > 0.0
        })
    }
}
