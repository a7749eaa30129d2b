//! Extremes, medians and distances over planes.

use crate::cpu::copy::border as inside;
use crate::cpu::fill_rows;
use crate::ops::PadMode;
use crate::{OpContext, TensorError};

/// Places around a pixel: rows up or down, columns left or right.
pub(crate) struct Footprint(Vec<(isize, isize)>);

impl Footprint {
    /// All of them.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn places(&self) -> &[(isize, isize)] {
        &self.0
    }

    /// One after the other they see what `seen`, of `size`, does: a full rectangle takes a column and a row. `None` when
    /// nothing is seen.
    pub(crate) fn passes(size: [usize; 2], seen: &[bool]) -> Option<Vec<Footprint>> {
        let middle = size.map(|length| (length / 2) as isize);
        let column = |length: usize| (0..length as isize).map(|row| (row - middle[0], 0)).collect();
        let row = |length: usize| (0..length as isize).map(|column| (0, column - middle[1])).collect();
        if !seen.contains(&true) {
            return None;
        }
        if seen.iter().all(|seen| *seen) {
            return Some(vec![Footprint(column(size[0])), Footprint(row(size[1]))]);
        }
        let places = seen.iter().enumerate().filter(|(_, seen)| **seen);
        let place = |index: usize| ((index / size[1]) as isize - middle[0], (index % size[1]) as isize - middle[1]);
        Some(vec![Footprint(places.map(|(index, _)| place(index)).collect())])
    }
}

/// The largest (or smallest) of what each pixel of planes sees.
pub(crate) fn extremes(
    op: &'static str,
    input: &[f32],
    [height, width]: [usize; 2],
    footprint: &Footprint,
    largest: bool,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let nothing = if largest { f32::NEG_INFINITY } else { f32::INFINITY };
    fill_rows(op, out, width.max(1), footprint.0.len(), cx, &|first, lines| {
        for (index, line) in lines.chunks_exact_mut(width).enumerate() {
            let (plane, y) = ((first + index) / height, (first + index) % height);
            line.fill(nothing);
            for (down, right) in &footprint.0 {
                let Some(from) = y.checked_add_signed(*down).filter(|row| *row < height) else { continue };
                let source = &input[(plane * height + from) * width..][..width];
                // The part of the line whose neighbour exists.
                let skipped = right.unsigned_abs().min(width);
                let (target, source) = match *right < 0 {
                    true => (&mut line[skipped..], &source[..width - skipped]),
                    false => (&mut line[..width - skipped], &source[skipped..]),
                };
                if largest { larger(source, target) } else { smaller(source, target) }
            }
            if cx.is_cancelled() {
                return;
            }
        }
    })
}

crate::cpu::simd::multiversion! {
    fn larger<>(a: &[f32], out: &mut [f32]) where {} {
        for (out, a) in out.iter_mut().zip(a) {
            *out = if *a > *out { *a } else { *out };
        }
    }
}

crate::cpu::simd::multiversion! {
    fn smaller<>(a: &[f32], out: &mut [f32]) where {} {
        for (out, a) in out.iter_mut().zip(a) {
            *out = if *a < *out { *a } else { *out };
        }
    }
}

/// The median in a window around each pixel of planes.
pub(crate) struct Median {
    pub(crate) op: &'static str,
    pub(crate) plane: [usize; 2],
    /// Odd lengths.
    pub(crate) window: [usize; 2],
    pub(crate) border: PadMode,
}

impl Median {
    /// For each thread: lines with their borders, and one window.
    pub(crate) fn workspace_bytes(&self) -> usize {
        let [rows, columns] = self.window;
        size_of::<f32>().saturating_mul(rows.saturating_mul(self.plane[1] + columns) + rows * columns)
    }

    pub(crate) fn run(&self, input: &[f32], out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let ([height, width], [rows, columns]) = (self.plane, self.window);
        let padded = width + columns - 1;
        fill_rows(self.op, out, width.max(1), rows * columns, cx, &|first, targets| {
            let (mut lines, mut seen) = (vec![0.0f32; rows * padded], vec![0.0f32; rows * columns]);
            for (index, target) in targets.chunks_exact_mut(width).enumerate() {
                let (plane, y) = ((first + index) / height, (first + index) % height);
                self.gather(&input[plane * height * width..][..height * width], y, &mut lines);
                if self.window == [3, 3] {
                    let lines = [0, 1, 2].map(|row| &lines[row * padded..][..padded]);
                    if lines.iter().all(|line| line.iter().all(|value| !value.is_nan())) {
                        middle_of_nine(lines, target);
                        continue;
                    }
                }
                for (x, out) in target.iter_mut().enumerate() {
                    for (row, part) in seen.chunks_exact_mut(columns).enumerate() {
                        part.copy_from_slice(&lines[row * padded + x..][..columns]);
                    }
                    *out = *seen.select_nth_unstable_by(rows * columns / 2, order).1;
                }
                if cx.is_cancelled() {
                    return;
                }
            }
        })
    }

    /// The lines around line `y`, with what stands beyond their ends.
    fn gather(&self, plane: &[f32], y: usize, lines: &mut [f32]) {
        let ([height, width], [rows, columns]) = (self.plane, self.window);
        let side = columns / 2;
        for (row, line) in lines.chunks_exact_mut(width + columns - 1).enumerate() {
            let Some(from) = inside(self.border, (y + row) as isize - (rows / 2) as isize, height) else {
                line.fill(0.0);
                continue;
            };
            let source = &plane[from * width..][..width];
            line[side..side + width].copy_from_slice(source);
            for x in (0..side).chain(side + width..width + columns - 1) {
                line[x] = inside(self.border, x as isize - side as isize, width).map_or(0.0, |x| source[x]);
            }
        }
    }
}

/// Not-a-number behind all numbers.
fn order(a: &f32, b: &f32) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

crate::cpu::simd::multiversion! {
    fn middle_of_nine<>(lines: [&[f32]; 3], out: &mut [f32]) where {} {
        let [above, line, below] = lines;
        for (x, out) in out.iter_mut().enumerate() {
            let column = |at: usize| {
                let (a, b, c) = (above[at], line[at], below[at]);
                let (low, high) = (a.min(b), a.max(b));
                [low.min(c), high.min(c).max(low), high.max(c)]
            };
            let (a, b, c) = (column(x), column(x + 1), column(x + 2));
            // The largest of the smallest, the middle one of the middle ones, the smallest of the largest.
            let low = a[0].max(b[0]).max(c[0]);
            let middle = a[1].max(b[1]).min(c[1]).max(a[1].min(b[1]));
            let high = a[2].min(b[2]).min(c[2]);
            *out = low.max(middle).min(high).max(low.min(middle));
        }
    }
}

/// Distances to the nearest `zero` of each plane: first squared along columns, then the lower envelope of the parabolas
/// that stand on a row.
pub(crate) fn distances(
    op: &'static str,
    zero: &[bool],
    [height, width]: [usize; 2],
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let plane = height * width;
    // In between, `out` holds how many rows away the nearest zero of the column is, as a whole number or infinity.
    fill_rows(op, out, plane.max(1), 2, cx, &|first, planes| {
        for (index, out) in planes.chunks_exact_mut(plane).enumerate() {
            let zero = &zero[(first + index) * plane..][..plane];
            columns(zero, width, out);
        }
    })?;
    fill_rows(op, out, width.max(1), 8, cx, &|_, lines| {
        let mut envelope = Envelope { places: vec![0; width], starts: vec![0.0; width], heights: vec![0.0; width] };
        for line in lines.chunks_exact_mut(width) {
            envelope.lower(line);
        }
    })
}

fn columns(zero: &[bool], width: usize, out: &mut [f32]) {
    if width == 0 {
        return;
    }
    for (y, zeros) in zero.chunks_exact(width).enumerate() {
        let (above, line) = out.split_at_mut(y * width);
        for x in 0..width {
            let from = if y == 0 { f32::INFINITY } else { above[(y - 1) * width + x] };
            line[x] = if zeros[x] { 0.0 } else { from + 1.0 };
        }
    }
    for y in (0..out.len() / width).rev().skip(1) {
        let (line, below) = out.split_at_mut((y + 1) * width);
        for (out, below) in line[y * width..].iter_mut().zip(below) {
            *out = out.min(*below + 1.0);
        }
    }
}

/// The lowest of parabolas of one shape, one for each pixel of a line.
struct Envelope {
    /// Where those that are lowest somewhere stand, from left to right.
    places: Vec<usize>,
    /// From where on each of them is lowest.
    starts: Vec<f64>,
    heights: Vec<f64>,
}

impl Envelope {
    fn lower(&mut self, line: &mut [f32]) {
        for (height, rows) in self.heights.iter_mut().zip(&*line) {
            *height = f64::from(*rows) * f64::from(*rows);
        }
        let mut count = 0usize;
        for place in 0..line.len() {
            if self.heights[place] == f64::INFINITY {
                continue;
            }
            while count > 0 && self.meeting(self.places[count - 1], place) <= self.starts[count - 1] {
                count -= 1;
            }
            self.starts[count] =
                if count == 0 { f64::NEG_INFINITY } else { self.meeting(self.places[count - 1], place) };
            self.places[count] = place;
            count += 1;
        }
        let mut lowest = 0;
        for (x, out) in line.iter_mut().enumerate() {
            while lowest + 1 < count && self.starts[lowest + 1] <= x as f64 {
                lowest += 1;
            }
            *out = match count {
                0 => f32::INFINITY,
                _ => {
                    let aside = x as f64 - self.places[lowest] as f64;
                    (aside * aside + self.heights[self.places[lowest]]).sqrt() as f32
                }
            };
        }
    }

    /// Where the parabola on `right` begins to be lower than that on `left`.
    fn meeting(&self, left: usize, right: usize) -> f64 {
        let at = |place: usize| self.heights[place] + (place as f64) * (place as f64);
        (at(right) - at(left)) / (2.0 * (right as f64 - left as f64))
    }
}
