//! Fourier transforms: `rustfft`, on which ours are built, as one would use it at first, and `phastft`.

use anyhow::Result;
use phastft::fft_f32_dit_with_planner_and_opts;
use phastft::options::Options;
use phastft::planner::{Direction, PlannerDit32};
use rayon::prelude::*;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use crate::case::{Case, Kind};
use crate::side::Side;

/// Both, over two dimensions: rows, transposed, rows, transposed.
pub(crate) fn sides(case: &Case) -> Vec<Side<'_>> {
    match case.kind {
        Kind::Fft { side } => vec![by_rustfft(case, side), by_phastft(case, side)],
        _ => Vec::new(),
    }
}

fn by_rustfft(case: &Case, side: usize) -> Side<'_> {
    let transform = FftPlanner::<f32>::new().plan_fft_forward(side);
    let input: Vec<Complex<f32>> = case.input(0).as_chunks().0.iter().map(|[re, im]| Complex::new(*re, *im)).collect();
    let work = move || {
        let mut rows = input.clone();
        for _ in 0..2 {
            rows.par_chunks_mut(side).for_each(|row| transform.process(row));
            rows = transposed(&rows, side);
        }
        Ok(rows)
    };
    Side::making("rustfft", work, |result| Ok(result.iter().flat_map(|number| [number.re, number.im]).collect()))
}

/// Has real and imaginary parts in two arrays; taking them apart is not part of the time.
fn by_phastft(case: &Case, side: usize) -> Side<'_> {
    let (planner, options) = (PlannerDit32::new(side), Options::guess_options(side));
    let (re, im): (Vec<f32>, Vec<f32>) = case.input(0).as_chunks().0.iter().map(|[re, im]| (*re, *im)).unzip();
    let work = move || {
        let (mut re, mut im) = (re.clone(), im.clone());
        for _ in 0..2 {
            re.par_chunks_mut(side).zip(im.par_chunks_mut(side)).for_each(|(re, im)| {
                fft_f32_dit_with_planner_and_opts(re, im, Direction::Forward, &planner, &options);
            });
            (re, im) = (transposed(&re, side), transposed(&im, side));
        }
        Ok((re, im))
    };
    let numbers = |(re, im): &(Vec<f32>, Vec<f32>)| -> Result<Vec<f32>> {
        Ok(re.iter().zip(im).flat_map(|(re, im)| [*re, *im]).collect())
    };
    Side::making("phastft", work, numbers)
}

/// A square, in blocks of which the cache holds both sides.
fn transposed<T: Copy + Default + Send + Sync>(square: &[T], side: usize) -> Vec<T> {
    const BLOCK: usize = 16;
    let mut result = vec![T::default(); square.len()];
    result.par_chunks_mut(BLOCK * side).enumerate().for_each(|(band, rows)| {
        for first in (0..side).step_by(BLOCK) {
            for (row, to) in rows.chunks_exact_mut(side).enumerate() {
                for column in first..(first + BLOCK).min(side) {
                    to[column] = square[column * side + band * BLOCK + row];
                }
            }
        }
    });
    result
}
