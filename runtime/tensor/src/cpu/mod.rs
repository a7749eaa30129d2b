//! The loops that do the work, and how they are spread over cores.
//!
//! Operations hand over checked arguments; nothing here refuses anything, except that every loop stops between chunks
//! once the context is cancelled.

pub(crate) mod attention;
pub(crate) mod blocks;
pub(crate) mod canny;
pub(crate) mod color;
pub(crate) mod conv;
pub(crate) mod convert;
pub(crate) mod copy;
pub(crate) mod elementwise;
pub(crate) mod few_channels;
pub(crate) mod filter;
pub(crate) mod fourier;
pub(crate) mod fused;
pub(crate) mod gemm;
pub(crate) mod kernels;
pub(crate) mod lanczos;
pub(crate) mod math;
pub(crate) mod morphology;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod random;
pub(crate) mod reader;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod sample;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod transpose;
pub(crate) mod windows;
pub(crate) mod winograd;

use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Elements that are computed at a time in scratch memory on the stack.
pub(crate) const BLOCK: usize = 1024;

/// Elements that one task computes before it looks whether it was cancelled.
const CHUNK: usize = 32 * BLOCK;

/// What of the processor operations use, in words. Says whether it may use the matrix unit, for which the system is asked the
/// first time: a process that is to be confined calls this before.
#[must_use]
pub fn instructions() -> String {
    #[cfg(target_arch = "x86_64")]
    let vectors = match (simd::has_widest(), simd::has_wide()) {
        (true, _) => "AVX-512",
        (_, true) => "AVX2",
        _ => "SSE2 (slow)",
    };
    #[cfg(target_arch = "aarch64")]
    let vectors = "NEON";
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let vectors = "whatever the compiler finds (slow)";
    if gemm::can_split() { format!("{vectors}, and the matrix unit AMX for products") } else { vectors.to_owned() }
}

/// Runs `work(start, piece)` over pieces of `out`, in parallel when that pays.
pub(crate) fn fill<T: Send>(
    op: &'static str,
    out: &mut [T],
    cx: &OpContext,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) -> Result<(), TensorError> {
    fill_rows(op, out, 1, 1, cx, work)
}

/// Runs `work(first_row, rows)` over pieces of whole rows of `out`. `cost` is about how many operations an element takes;
/// pieces are the smaller for it. (`work` is not a type parameter: that would compile the distribution for each caller.)
pub(crate) fn fill_rows<T: Send>(
    op: &'static str,
    out: &mut [T],
    row: usize,
    cost: usize,
    cx: &OpContext,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) -> Result<(), TensorError> {
    if out.is_empty() {
        return Ok(());
    }
    let rows = (CHUNK / cost.max(1) / row).max(1);
    let run = |(index, piece): (usize, &mut [T])| {
        cx.check(op)?;
        work(index * rows, piece);
        Ok(())
    };
    if out.len() <= rows * row {
        run((0, out))?;
    } else {
        out.par_chunks_mut(rows * row).enumerate().try_for_each(run)?;
    }
    // `work` may have returned early.
    cx.check(op)
}
