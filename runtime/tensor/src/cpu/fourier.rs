//! Fourier transforms of lines, by `rustfft`.

use crate::cpu::fill_rows;
use crate::cpu::reader::Reader;
use crate::{OpContext, TensorError};
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

/// What the tables of a transform and the scratch memory of all threads may take: lengths with large prime factors go through
/// a power of two of up to four times the length.
pub(crate) fn workspace_bytes(length: usize) -> usize {
    let each = length.saturating_mul(10).saturating_mul(size_of::<Complex<f32>>());
    each.saturating_mul(1 + rayon::current_num_threads())
}

/// Lines of complex numbers wherever they lie in memory; the two parts of a number are neighbours.
pub(crate) struct Lines<'a> {
    pub(crate) values: &'a [f32],
    /// Where each line begins.
    pub(crate) starts: Reader,
    /// From one number of a line to the next, in floats.
    pub(crate) stride: isize,
    /// Numbers of a line.
    pub(crate) length: usize,
    /// How many lines there are.
    pub(crate) count: usize,
}

impl Lines<'_> {
    /// Lines that are gathered together: of neighbours, all that share a line of the cache. Fewer where threads would wait.
    fn in_group(&self) -> usize {
        const NEIGHBOURS: usize = 8;
        let are_apart = self.starts.innermost().1 != 2 || self.stride == 2;
        if are_apart { 1 } else { (self.count / (4 * rayon::current_num_threads())).clamp(1, NEIGHBOURS) }
    }

    /// Copies lines from `first` on, as many as fill `out`, one after the other.
    fn gather(&self, first: usize, out: &mut [f32]) {
        let lines = out.len() / (2 * self.length);
        let starts: Vec<isize> = (first..first + lines).map(|line| self.starts.locate(line)).collect();
        if self.stride == 2 {
            for (line, start) in out.chunks_exact_mut(2 * self.length).zip(starts) {
                line.copy_from_slice(&self.values[start as usize..][..2 * self.length]);
            }
            return;
        }
        for place in 0..self.length {
            for (index, start) in starts.iter().enumerate() {
                let from = (start + place as isize * self.stride) as usize;
                let to = 2 * (index * self.length + place);
                out[to..to + 2].copy_from_slice(&self.values[from..from + 2]);
            }
        }
    }
}

/// Transforms lines; the results lie one after the other.
pub(crate) fn transform(
    op: &'static str,
    input: &Lines<'_>,
    inverse: bool,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    if out.is_empty() {
        return cx.check(op);
    }
    let length = input.length;
    let mut planner = FftPlanner::<f32>::new();
    let transform = if inverse { planner.plan_fft_inverse(length) } else { planner.plan_fft_forward(length) };
    let scale = if inverse { 1.0 / length as f32 } else { 1.0 };
    let group = input.in_group();
    let cost = 4 + length.ilog2() as usize;
    fill_rows(op, out, 2 * length * group, cost, cx, &|first, lines| {
        let mut line = vec![Complex::default(); length];
        let mut scratch = vec![Complex::default(); transform.get_inplace_scratch_len()];
        for (index, lines) in lines.chunks_mut(2 * length * group).enumerate() {
            input.gather((first + index) * group, lines);
            for out in lines.chunks_exact_mut(2 * length) {
                for (number, [re, im]) in line.iter_mut().zip(out.as_chunks::<2>().0) {
                    *number = Complex::new(*re, *im);
                }
                transform.process_with_scratch(&mut line, &mut scratch);
                for ([re, im], number) in out.as_chunks_mut::<2>().0.iter_mut().zip(&line) {
                    (*re, *im) = (number.re * scale, number.im * scale);
                }
                if cx.is_cancelled() {
                    return;
                }
            }
        }
    })
}
