//! Fourier transforms of lines, by `rustfft`.

use crate::cpu::fill_rows;
use crate::{OpContext, TensorError};
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

/// What the tables of a transform and the scratch memory of all threads may take: lengths with large prime factors go through
/// a power of two of up to four times the length.
pub(crate) fn workspace_bytes(length: usize) -> usize {
    let each = length.saturating_mul(10).saturating_mul(size_of::<Complex<f32>>());
    each.saturating_mul(1 + rayon::current_num_threads())
}

/// Transforms lines of `length` complex numbers.
pub(crate) fn lines(
    op: &'static str,
    input: &[f32],
    length: usize,
    inverse: bool,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    if out.is_empty() {
        return cx.check(op);
    }
    let mut planner = FftPlanner::<f32>::new();
    let transform = if inverse { planner.plan_fft_inverse(length) } else { planner.plan_fft_forward(length) };
    let scale = if inverse { 1.0 / length as f32 } else { 1.0 };
    fill_rows(op, out, 2 * length, 4 + length.ilog2() as usize, cx, &|first, lines| {
        let mut line = vec![Complex::default(); length];
        let mut scratch = vec![Complex::default(); transform.get_inplace_scratch_len()];
        for (index, out) in lines.chunks_exact_mut(2 * length).enumerate() {
            let source = input[(first + index) * 2 * length..].as_chunks::<2>().0;
            for (number, [re, im]) in line.iter_mut().zip(source) {
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
    })
}
