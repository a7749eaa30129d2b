//! Fourier transforms of lines: one pass for each factor of their length, or, where that has a factor for which there is no pass, by
//! way of three transforms of a length that has none (`chirp.cu`).

use super::DeviceBuffer;
use super::compile::{CHIRP, FOURIER};
use super::gpu::GpuJob;
use super::launch::{Start, View};
use crate::shape::Layout;
use crate::{DType, OpContext, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// What a pass can take a length apart by, and its name; four before two.
const RADICES: [(usize, &str); 5] = [(4, "4"), (2, "2"), (3, "3"), (5, "5"), (7, "7")];

/// The longest line: up to here angles come out exact in float32.
const MAX_LENGTH: usize = 1 << 24;

/// Bytes of a complex number.
const NUMBER: usize = 2 * size_of::<f32>();

/// `Arguments` of `fourier.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pass {
    out: u64,
    source: View,
    butterflies: u64,
    length: i64,
    done: i64,
    inverse: i32,
    scale: f32,
}

/// `Arguments` of `chirp.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Chirp {
    out: u64,
    source: View,
    table: u64,
    numbers: u64,
    length: i64,
    padded: i64,
    inverse: i32,
    scale: f32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Pass {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Chirp {}

/// The factors of a length, for each of which there is a pass; a length of 1 takes one that copies. `None` where others remain.
fn factors(length: usize) -> Option<Vec<(usize, &'static str)>> {
    let (mut left, mut factors) = (length, Vec::new());
    for (radix, name) in RADICES {
        while left > 1 && left.is_multiple_of(radix) {
            left /= radix;
            factors.push((radix, name));
        }
    }
    if length == 1 {
        factors.push((1, "1"));
    }
    (left == 1).then_some(factors)
}

/// The least length of few passes in which lines of another one can be convolved.
fn padded(length: usize) -> usize {
    let with_odd = |odd: usize| (2 * length - 1).div_ceil(odd).next_power_of_two() * odd;
    [1, 3, 5, 7].map(with_odd).into_iter().min().unwrap_or_default()
}

/// Lines of complex numbers, one after the other.
enum Lines<'a> {
    /// A tensor's, row-major.
    Of(&'a DeviceBuffer, &'a Tensor),
    /// Of float32.
    Own(DeviceBuffer),
}

impl Lines<'_> {
    fn buffer(&self) -> &DeviceBuffer {
        match self {
            Lines::Of(buffer, _) => buffer,
            Lines::Own(buffer) => buffer,
        }
    }

    fn view(&self, pointer: u64) -> View {
        match self {
            Lines::Of(_, tensor) => View::new(pointer, tensor.dtype(), tensor.layout.offset, &[]),
            Lines::Own(_) => View::new(pointer, DType::Float32, 0, &[]),
        }
    }
}

impl GpuJob {
    /// `lines` is row-major `[…,length,2]`.
    pub(super) fn transform(
        &self,
        op: &'static str,
        lines: &Tensor,
        inverse: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let length = lines.dims()[lines.rank() - 2];
        if lines.elements() == 0 || length > MAX_LENGTH {
            return Ok(None);
        }
        let numbers = lines.elements() / 2;
        let resident = self.resident(op, lines, cx)?;
        let source = Lines::Of(&resident, lines);
        let scale = if inverse { 1.0 / length as f32 } else { 1.0 };
        let out = if factors(length).is_some() {
            self.passes(op, source, numbers, length, (inverse, scale))?
        } else if 2 * length <= MAX_LENGTH && padded(length) <= MAX_LENGTH {
            match self.by_chirps(op, &source, numbers, length, (inverse, scale), cx) {
                // The CPU needs less.
                Err(TensorError::Budget { .. } | TensorError::OutOfMemory { .. }) => return Ok(None),
                out => out?,
            }
        } else {
            return Ok(None);
        };
        self.tensor(op, Layout::contiguous(*lines.lengths_shape()), DType::Float32, out, cx).map(Some)
    }

    /// Transforms lines whose length has no other factors than there are passes for, one at least.
    fn passes(
        &self,
        op: &'static str,
        mut lines: Lines<'_>,
        numbers: usize,
        length: usize,
        (inverse, scale): (bool, f32),
    ) -> Result<DeviceBuffer, TensorError> {
        let mut spare: Option<DeviceBuffer> = None;
        let mut done = 1;
        for (radix, name) in factors(length).unwrap_or_default() {
            let butterflies = numbers / radix;
            let mut out = match spare.take() {
                Some(buffer) => buffer,
                None => self.allocate(op, numbers * NUMBER)?,
            };
            let defines = [("RADIX", name)];
            let start = Start::over(op, FOURIER, &defines, butterflies);
            let is_last = done * radix == length;
            self.start(&start, &[lines.buffer()], &mut out, |pointers, out| Pass {
                out,
                source: lines.view(pointers[0]),
                butterflies: butterflies as u64,
                length: length as i64,
                done: done as i64,
                inverse: i32::from(inverse),
                scale: if is_last { scale } else { 1.0 },
            })?;
            if let Lines::Own(before) = std::mem::replace(&mut lines, Lines::Own(out)) {
                spare = Some(before);
            }
            done *= radix;
        }
        match lines {
            Lines::Own(out) => Ok(out),
            Lines::Of(..) => Err(TensorError::Device { op, message: format!("no pass for lines of {length}") }),
        }
    }

    /// Transforms lines of any length. Memory besides the result: two times the lines, filled up to some two and a half times their
    /// length.
    fn by_chirps(
        &self,
        op: &'static str,
        source: &Lines<'_>,
        numbers: usize,
        length: usize,
        (inverse, scale): (bool, f32),
        cx: &OpContext,
    ) -> Result<DeviceBuffer, TensorError> {
        let padded = padded(length);
        let all = numbers / length * padded;
        let step = |step: &str, reads: &[&DeviceBuffer], view: &dyn Fn(u64) -> View, numbers: usize| {
            cx.check(op)?;
            let mut out = self.allocate(op, numbers * NUMBER)?;
            let defines = [("STEP", step)];
            self.start(&Start::over(op, CHIRP, &defines, numbers), reads, &mut out, |pointers, out| Chirp {
                out,
                source: pointers.first().map_or_else(View::default, |pointer| view(*pointer)),
                table: pointers.get(1).copied().unwrap_or_default(),
                numbers: numbers as u64,
                length: length as i64,
                padded: padded as i64,
                inverse: i32::from(inverse),
                scale,
            })?;
            Ok::<_, TensorError>(out)
        };
        let own = |pointer: u64| View::new(pointer, DType::Float32, 0, &[]);
        let table = Lines::Own(step("TABLE", &[], &own, padded)?);
        let table = self.passes(op, table, padded, padded, (false, 1.0))?;
        let spread = Lines::Own(step("SPREAD", &[source.buffer()], &|pointer| source.view(pointer), all)?);
        let spread = self.passes(op, spread, all, padded, (false, 1.0))?;
        let product = Lines::Own(step("MULTIPLY", &[&spread, &table], &own, all)?);
        drop(spread);
        let convolved = self.passes(op, product, all, padded, (true, 1.0 / padded as f32))?;
        step("GATHER", &[&convolved], &own, numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_up_lines_have_room_for_a_convolution_and_factors_with_passes() {
        for length in (1..3000).chain([65_537, (1 << 23) - 15]) {
            let padded = padded(length);
            assert!(padded >= 2 * length - 1 && padded * 4 <= 10 * length + 8, "{padded} for {length}");
            assert!(factors(padded).is_some(), "{padded}");
        }
    }
}
