//! Convolution as a product of matrices: the pixels under each window, gathered as the product asks for them, times the
//! weight; on a matrix unit read where they lie.

use crate::cpu::convert::Store;
use crate::cpu::gemm::{
    ConvertedRows, Kernel, Left, Line, Matrix, MatrixType, Packed, Panels, Pixels, ROW, Right, Rows, SplitLines, Start,
    TiledWindows, can_split, product_packed, split_run, splitting_pays, turned_packed,
};
use crate::cpu::transpose::transpose;
use crate::device::TapAxis;
use crate::ops::{ConvGeometry, workspace};
use crate::{OpContext, TensorError};
use std::ops::Range;

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

    /// Size and padding of the window, if it is dense and moves by one.
    pub(crate) fn plain(&self) -> Option<([usize; 2], [usize; 2])> {
        let plain = |axis: &AxisTaps| axis.step == 1 && axis.tap_step == 1 && axis.divide == 1 && axis.shift >= 0;
        let sizes = (self.0.map(|axis| axis.taps), self.0.map(|axis| axis.shift as usize));
        self.0.iter().all(plain).then_some(sizes)
    }

    /// The padding, if [`Taps::plain`] is a window of 3×3.
    pub(crate) fn plain_three(&self) -> Option<[usize; 2]> {
        self.plain().filter(|(window, _)| *window == [3, 3]).map(|(_, padding)| padding)
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
    /// How many bfloat16 make up a number of the input; see [`MatrixType::PARTS`].
    pub(crate) input_parts: usize,
    /// The input is `[B, channels, height, width]`; only for windows of [`Taps::pointwise`].
    pub(crate) planar: bool,
    /// Pictures.
    pub(crate) batch: usize,
    /// Height, width, channels of the input, which may have no pixels.
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

/// Pixels up to which the transposed result is computed where there is a matrix unit, and up to which it is the fastest way.
const FEW_PIXELS: usize = 512;
const VERY_FEW_PIXELS: usize = 128;
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
        let pixels = self.pixels();
        let panels = self.panels();
        if self.turns_around() {
            return self.turned(out, cx);
        }
        for group in 0..self.groups {
            let weight = &self.weight[group * outputs * panels.inner..][..outputs * panels.inner];
            let fill = |panel: usize, out: &mut [f32]| self.pack_panel(weight, panels, panel, out);
            let packed = Packed::new(self.op, pixels, (panels, T::PARTS), &fill, cx)?;
            let right = packed.right();
            let from = self.bias.map_or(Start::Nothing, |bias| Start::Row(&bias[group * outputs..][..outputs]));
            if self.planar {
                self.planes(group, right, from, out, cx)?;
                continue;
            }
            let windows = Windows { convolution: self, channel: group * inputs, channels: inputs };
            let a = if self.taps.pointwise(&self.size[..2], &self.output[..2]) {
                let values = &self.input[group * inputs..];
                Left::plain(Matrix {
                    values,
                    rows: pixels,
                    columns: inputs,
                    row_stride: self.size[2],
                    column_stride: 1,
                })
            } else {
                Left::gathered(&windows, pixels, panels.inner)
            };
            let a = a.of_parts(self.input_parts);
            product_packed(self.op, a, right, (&mut out[group * outputs..], channels), from, cx)?;
        }
        Ok(())
    }

    /// On the matrix unit, which reads the pixels where they lie once they are split. False where something is not finite; then `out`
    /// holds anything. Workspace: the weight split, and some lines of the picture.
    pub(crate) fn run_tiled<O: Store<f32>>(
        &self,
        windows: TiledWindows,
        out: &mut [O],
        cx: &OpContext,
    ) -> Result<bool, TensorError> {
        let panels = self.panels();
        let fill = |panel: usize, out: &mut [f32]| self.pack_panel(self.weight, panels, panel, out);
        let packed = Packed::new(self.op, self.pixels(), (panels, T::PARTS), &fill, cx)?;
        let Right::Split(tiling, weight) = packed.right() else { return Ok(false) };
        let padded = PaddedLines { convolution: self, width: windows.size[1] };
        let pixels = Pixels::Split(&padded);
        let _workspace = workspace(self.op, windows.workspace_bytes(tiling, pixels), cx)?;
        let from = self.bias.map_or(Start::Nothing, Start::Row);
        let finite = windows.product(self.op, pixels, (tiling, weight), out, from, cx)?;
        // Of one part each, what is not finite is multiplied as anything else.
        Ok(finite || self.input_parts.max(T::PARTS) == 1)
    }

    /// For [`Convolution::run_tiled`], where that is the way to go: the windows over a picture with all its padding, if it is not
    /// much larger than that without.
    pub(crate) fn tiled_windows(&self) -> Option<TiledWindows> {
        let axes = &self.taps.0;
        let forward = axes.iter().all(|axis| axis.divide == 1 && axis.tap_step > 0 && axis.step > 0 && axis.shift >= 0);
        // Single pixels are split once either way: unless that can be left out, their own way is the shorter one.
        let single = self.window() == 1 && self.input_parts > 1;
        if self.groups != 1 || self.planar || !forward || single || self.turns_around() {
            return None;
        }
        let [window, stride, dilation] = [
            [0, 1].map(|axis| axes[axis].taps),
            [0, 1].map(|axis| axes[axis].step as usize),
            [0, 1].map(|axis| axes[axis].tap_step as usize),
        ];
        let pays = splitting_pays(self.pixels(), self.panels().inner, self.output[2]);
        if !pays || !TiledWindows::fits(self.output[1], self.size[2], dilation[0]) {
            return None;
        }
        let results = [self.output[0], TiledWindows::line(self.output[1])];
        let span = |axis: usize| TiledWindows::span(results[axis], window[axis], stride[axis], dilation[axis]);
        let (size, channels) = ([span(0), span(1)], self.size[2]);
        let output = [self.batch, self.output[0], self.output[1]];
        let worth = size[0].saturating_mul(size[1]) <= 2 * self.size[0] * self.size[1];
        worth.then_some(TiledWindows { parts: self.input_parts, channels, size, output, window, stride, dilation })
    }

    /// Whether the matrix unit makes it faster than any method that saves products: bfloat16 by bfloat16 takes it one product
    /// where float32 takes six, and of few pixels, rearranging the weight is most of the work.
    pub(crate) fn is_faster_direct(&self) -> bool {
        can_split() && self.groups == 1 && (self.input_parts * T::PARTS <= 2 || self.pixels() <= VERY_FEW_PIXELS)
    }

    /// How the weight of a group is packed.
    fn panels(&self) -> Panels {
        Panels { inner: self.window() * (self.size[2] / self.groups), columns: self.output[2] / self.groups }
    }

    fn pixels(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    fn turns_around(&self) -> bool {
        let (pixels, outputs) = (self.pixels(), self.output[2]);
        self.groups == 1 && can_split() && (16..=FEW_PIXELS).contains(&pixels) && 2 * outputs >= pixels
    }

    /// By way of the transposed result: the weight, which is more than the pixels, is read where it lies.
    fn turned(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let (channels, window) = (self.output[2], self.window());
        let sizes = Panels { inner: self.size[2] * window, columns: self.pixels() };
        let weight = ConvertedRows(Matrix::dense(self.weight, channels, sizes.inner));
        let from = self.bias.map_or(Start::Nothing, Start::Row);
        let fill = |panel: usize, out: &mut [f32]| self.pixels_under(panel, sizes, out);
        turned_packed(self.op, (sizes, self.input_parts, &fill), weight.left(), (out, channels), from, cx)
    }

    /// A panel of output pixels: for each input channel and each tap of the window, the pixels that lie under it.
    fn pixels_under(&self, panel: usize, sizes: Panels, out: &mut [f32]) {
        let ([height, width, channels], window) = (self.size, self.window());
        let (count, step) = (sizes.width(panel).0, sizes.step(panel));
        let first = panel * Kernel::get().columns;
        let [rows, columns] = &self.taps.0;
        let place = |pixel: usize, tap: usize| {
            let (x, y) = (pixel % self.output[1], pixel / self.output[1] % self.output[0]);
            let picture = pixel / self.output[1] / self.output[0];
            let (y, x) = (rows.input(y, tap / columns.taps, height)?, columns.input(x, tap % columns.taps, width)?);
            Some((picture, y * width + x))
        };
        let mut lines = vec![0.0f32; step * channels];
        for tap in 0..window {
            for (index, line) in lines.chunks_exact_mut(channels).take(count).enumerate() {
                match place(first + index, tap) {
                    None => line.fill(0.0),
                    Some((picture, pixel)) if self.planar => {
                        let plane = &self.input[picture * channels * height * width + pixel..];
                        line.iter_mut().zip(plane.iter().step_by(height * width)).for_each(|(to, from)| *to = *from);
                    }
                    Some((picture, pixel)) => {
                        let from = (picture * height * width + pixel) * channels;
                        line.copy_from_slice(&self.input[from..from + channels]);
                    }
                }
            }
            transpose(&lines, channels, (step, channels), &mut out[tap * step..], window * step);
        }
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
            product_packed(self.op, Left::plain(a).of_parts(self.input_parts), right, (out, outputs), from, cx)?;
        }
        Ok(())
    }

    /// A panel of the weight of one group, with the input channels innermost: a window is gathered in that order.
    fn pack_panel(&self, weight: &[T], panels: Panels, panel: usize, out: &mut [f32]) {
        let (full, window) = (Kernel::get().columns, self.window());
        let inputs = panels.inner / window;
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

/// The lines of the input with all their padding.
struct PaddedLines<'a, T> {
    convolution: &'a Convolution<'a, T>,
    width: usize,
}

impl<T: MatrixType> SplitLines for PaddedLines<'_, T> {
    fn split(&self, picture: usize, line: usize, channels: Range<usize>, out: &mut [Line]) -> bool {
        let [height, width, all] = self.convolution.size;
        let [top, left] = [0, 1].map(|axis| self.convolution.taps.0[axis].shift as usize);
        let pixel = out.len() / self.width;
        let y = line.wrapping_sub(top);
        // Those of the picture, of the pixels that are asked for.
        let inside = width.min(self.width.saturating_sub(left));
        if y >= height || inside == 0 {
            out.fill(Line::ZERO);
            return true;
        }
        let (before, rest) = out.split_at_mut(left * pixel);
        let (own, behind) = rest.split_at_mut(inside * pixel);
        before.fill(Line::ZERO);
        behind.fill(Line::ZERO);
        let from = (picture * height + y) * width * all;
        let mut finite = true;
        for (x, out) in own.chunks_exact_mut(pixel).enumerate() {
            let values = &self.convolution.input[from + x * all..][channels.clone()];
            finite &= split_run(values, self.convolution.input_parts, out);
        }
        finite
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
