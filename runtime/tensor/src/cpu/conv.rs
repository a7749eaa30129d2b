//! Convolution as a product of matrices: the pixels under each window, gathered as the product asks for them, times the
//! weight.

use crate::cpu::gemm::{Kernel, Left, Matrix, MatrixType, Panels, ROW, Right, Rows, Start, product_packed};
use crate::cpu::transpose::transpose;
use crate::device::TapAxis;
use crate::ops::{ConvGeometry, workspace};
use crate::storage::scratch;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Which input pixel lies under an element of the window, along one axis.
#[derive(Debug, Clone, Copy)]
struct AxisTaps {
    taps: usize,
    /// Input position · divide = output position · step + tap · tap_step − shift.
    step: isize,
    tap_step: isize,
    shift: isize,
    divide: isize,
}

impl AxisTaps {
    fn input(&self, output: usize, tap: usize, length: usize) -> Option<usize> {
        let position = output as isize * self.step + tap as isize * self.tap_step - self.shift;
        if position < 0 || position % self.divide != 0 {
            return None;
        }
        Some((position / self.divide) as usize).filter(|position| *position < length)
    }
}

/// The window along both axes, height first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taps([AxisTaps; 2]);

impl Taps {
    pub(crate) fn of_convolution(geometry: &ConvGeometry, window: [usize; 2]) -> Taps {
        Taps([0, 1].map(|axis| AxisTaps {
            taps: window[axis],
            step: geometry.stride[axis] as isize,
            tap_step: geometry.dilation[axis] as isize,
            shift: geometry.padding[axis] as isize,
            divide: 1,
        }))
    }

    pub(crate) fn of_transpose(geometry: &ConvGeometry, window: [usize; 2]) -> Taps {
        Taps([0, 1].map(|axis| AxisTaps {
            taps: window[axis],
            step: 1,
            tap_step: -(geometry.dilation[axis] as isize),
            shift: -(geometry.padding[axis] as isize),
            divide: geometry.stride[axis] as isize,
        }))
    }

    /// The same for a GPU.
    pub(crate) fn axes(&self) -> [TapAxis; 2] {
        self.0.map(|AxisTaps { step, tap_step, shift, divide, .. }| TapAxis { step, tap_step, shift, divide })
    }

    /// The padding, if this is a dense window of 3×3 that moves by one.
    pub(crate) fn plain_three(&self) -> Option<[usize; 2]> {
        let plain = |axis: &AxisTaps| {
            axis.taps == 3 && axis.step == 1 && axis.tap_step == 1 && axis.divide == 1 && axis.shift >= 0
        };
        self.0.iter().all(plain).then(|| self.0.map(|axis| axis.shift as usize))
    }

    /// Every output pixel is made of the input pixel at the same place. The sizes count: a transposed convolution can be larger
    /// than its input by its output padding.
    pub(crate) fn pointwise(&self, input: &[usize], output: &[usize]) -> bool {
        let here = |axis: &AxisTaps| axis.taps == 1 && axis.step == 1 && axis.shift == 0 && axis.divide == 1;
        input == output && self.0.iter().all(here)
    }
}

/// One convolution over dense operands.
pub(crate) struct Convolution<'a, T> {
    pub(crate) op: &'static str,
    /// `[B, height, width, channels]`
    pub(crate) input: &'a [f32],
    /// The input is `[B, channels, height, width]`; only for windows of [`Taps::pointwise`].
    pub(crate) planar: bool,
    /// Height, width, channels of the input.
    pub(crate) size: [usize; 3],
    /// `[out, in/groups, window height, window width]`
    pub(crate) weight: &'a [T],
    pub(crate) taps: &'a Taps,
    /// Height, width, channels of the output.
    pub(crate) output: [usize; 3],
    pub(crate) groups: usize,
    /// A number for each output channel.
    pub(crate) bias: Option<&'a [f32]>,
}

/// Input channels whose weights are turned around at a time.
const TURNED: usize = 64;

impl<T: MatrixType> Convolution<'_, T> {
    fn window(&self) -> usize {
        self.taps.0[0].taps * self.taps.0[1].taps
    }

    /// Fills `out`: `[B, height, width, channels]`. Workspace: the weight once more in float32.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let channels = self.output[2];
        let (inputs, outputs) = (self.size[2] / self.groups, channels / self.groups);
        let depthwise = inputs == 1 && outputs == 1;
        if depthwise || self.weight.is_empty() {
            self.bias.map_or(Start::Nothing, Start::Row).fill(out, channels);
            return if depthwise { self.depthwise(out, cx) } else { Ok(()) };
        }
        let pixels = out.len() / channels;
        let panels = Panels { inner: self.window() * inputs, columns: outputs };
        let _workspace = workspace(self.op, panels.numbers().saturating_mul(size_of::<f32>()), cx)?;
        let mut packed = scratch(panels.numbers());
        for group in 0..self.groups {
            let weight = &self.weight[group * outputs * panels.inner..][..outputs * panels.inner];
            self.pack(weight, panels, &mut packed, cx)?;
            let right = Right::Packed(panels, &packed);
            let from = self.bias.map_or(Start::Nothing, |bias| Start::Row(&bias[group * outputs..][..outputs]));
            if self.planar {
                self.planes(group, right, from, out, cx)?;
            } else if self.taps.pointwise(&self.size[..2], &self.output[..2]) {
                let values = &self.input[group * inputs..];
                let a = Matrix { values, rows: pixels, columns: inputs, row_stride: self.size[2], column_stride: 1 };
                product_packed(self.op, Left::Plain(a), right, (&mut out[group * outputs..], channels), from, cx)?;
            } else {
                let windows = Windows { convolution: self, channel: group * inputs, channels: inputs };
                let a = Left::Gathered(&windows, pixels, panels.inner);
                product_packed(self.op, a, right, (&mut out[group * outputs..], channels), from, cx)?;
            }
        }
        Ok(())
    }

    /// The products of one group where each channel of a picture is a plane.
    fn planes(
        &self,
        group: usize,
        right: Right<'_>,
        from: Start<'_>,
        out: &mut [f32],
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let ([height, width, channels], outputs) = (self.size, self.output[2]);
        let (pixels, inputs) = (height * width, channels / self.groups);
        let pictures = self.input.chunks_exact(channels * pixels).zip(out.chunks_exact_mut(outputs * pixels));
        for (picture, out) in pictures {
            let values = &picture[group * inputs * pixels..];
            let a = Matrix { values, rows: pixels, columns: inputs, row_stride: 1, column_stride: pixels };
            let out = &mut out[group * (outputs / self.groups)..];
            product_packed(self.op, Left::Plain(a), right, (out, outputs), from, cx)?;
        }
        Ok(())
    }

    /// Panels of the weight of one group, with the input channels innermost: a window is gathered in that order.
    fn pack(&self, weight: &[T], panels: Panels, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let (full, window) = (Kernel::get().columns, self.window());
        let inputs = panels.inner / window;
        out.par_chunks_mut(full * panels.inner).enumerate().try_for_each(|(panel, out)| {
            cx.check(self.op)?;
            let (width, step) = (panels.width(panel).0, panels.step(panel));
            let (mut lines, mut turned) = (vec![0.0f32; width * TURNED * window], vec![0.0f32; TURNED * window * step]);
            for first in (0..inputs).step_by(TURNED) {
                let steps = TURNED.min(inputs - first) * window;
                for (output, line) in lines.chunks_exact_mut(TURNED * window).enumerate() {
                    let from = (panel * full + output) * panels.inner + first * window;
                    T::load_slice(&weight[from..from + steps], &mut line[..steps]);
                }
                transpose(&lines, TURNED * window, (width, steps), &mut turned, step);
                for (index, line) in turned.chunks_exact(step).take(steps).enumerate() {
                    let (input, tap) = (first + index / window, index % window);
                    out[(tap * inputs + input) * step..][..step].copy_from_slice(line);
                }
            }
            Ok(())
        })
    }

    /// Every channel by itself, as a sum of shifted rows, added to `out`.
    fn depthwise(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let [height, width, channels] = self.size;
        let [rows, columns, _] = self.output;
        let window = self.window();
        let weight: Vec<f32> =
            (0..window * channels).map(|at| self.weight[at % channels * window + at / channels].load()).collect();
        crate::cpu::fill_rows(self.op, out, columns * channels, window, cx, &|first, lines| {
            for (index, line) in lines.chunks_exact_mut(columns * channels).enumerate() {
                let (picture, y) = ((first + index) / rows, (first + index) % rows);
                for (x, out) in line.chunks_exact_mut(channels).enumerate() {
                    for tap in 0..window {
                        let (tap_y, tap_x) = (tap / self.taps.0[1].taps, tap % self.taps.0[1].taps);
                        let place = (self.taps.0[0].input(y, tap_y, height), self.taps.0[1].input(x, tap_x, width));
                        if let (Some(source_y), Some(source_x)) = place {
                            let from = ((picture * height + source_y) * width + source_x) * channels;
                            add_products(&self.input[from..from + channels], &weight[tap * channels..], out);
                        }
                    }
                }
            }
        })
    }
}

crate::cpu::simd::multiversion! {
    fn add_products<>(a: &[f32], b: &[f32], out: &mut [f32]) where {} {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out += a * b;
        }
    }
}

/// The pixels under the windows of all output pixels, as rows: for each tap, the channels of one group.
struct Windows<'a, T> {
    convolution: &'a Convolution<'a, T>,
    channel: usize,
    channels: usize,
}

impl<T: MatrixType> Rows for Windows<'_, T> {
    fn gather(&self, first: usize, start: usize, inner: usize, out: &mut [f32]) {
        let [height, width, all] = self.convolution.size;
        let [output_height, output_width, _] = self.convolution.output;
        let [rows, columns] = &self.convolution.taps.0;
        for (index, out) in out.chunks_exact_mut(ROW).enumerate() {
            let pixel = first + index;
            let (x, y) = (pixel % output_width, pixel / output_width % output_height);
            let picture = pixel / output_width / output_height;
            let mut done = 0;
            while done < inner {
                let (tap, channel) = ((start + done) / self.channels, (start + done) % self.channels);
                let count = (self.channels - channel).min(inner - done);
                let target = &mut out[done..done + count];
                let source_y = rows.input(y, tap / columns.taps, height);
                match (source_y, columns.input(x, tap % columns.taps, width)) {
                    (Some(source_y), Some(source_x)) => {
                        let from = ((picture * height + source_y) * width + source_x) * all + self.channel + channel;
                        target.copy_from_slice(&self.convolution.input[from..from + count]);
                    }
                    _ => target.fill(0.0),
                }
                done += count;
            }
        }
    }
}
