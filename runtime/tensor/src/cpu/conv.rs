//! Convolution as a product of matrices: the pixels under each window, gathered tile by tile, times the weight.

use crate::cpu::gemm::{Matrix, multiply};
use crate::ops::ConvGeometry;
use crate::{OpContext, TensorError};
use rayon::prelude::*;

/// Output pixels per tile, and the most numbers that one gathers.
const TILE: usize = 256;
const TILE_NUMBERS: usize = 4 << 20;
/// Fewer output pixels are cut into halves, so that two threads have work.
const FEW_TILES: usize = 4;

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

    /// Every output pixel is made of the input pixel at the same place.
    fn pointwise(&self) -> bool {
        self.0.iter().all(|axis| axis.taps == 1 && axis.step == 1 && axis.shift == 0 && axis.divide == 1)
    }
}

/// One convolution over dense operands.
pub(crate) struct Convolution<'a> {
    pub(crate) op: &'static str,
    /// `[B, height, width, channels]`
    pub(crate) input: &'a [f32],
    /// Height, width, channels of the input.
    pub(crate) size: [usize; 3],
    /// `[groups, window height, window width, in/groups, out/groups]`
    pub(crate) weight: &'a [f32],
    pub(crate) taps: &'a Taps,
    /// Height, width, channels of the output.
    pub(crate) output: [usize; 3],
    pub(crate) groups: usize,
}

impl Convolution<'_> {
    /// Numbers under one window, of one group.
    fn inner(&self) -> usize {
        self.taps.0[0].taps * self.taps.0[1].taps * (self.size[2] / self.groups)
    }

    /// Output pixels per tile.
    fn tile(&self, pixels: usize) -> usize {
        let most = (TILE_NUMBERS / self.inner().max(1)).clamp(16, TILE);
        if pixels < FEW_TILES * most { pixels.div_ceil(FEW_TILES).next_multiple_of(16).min(most) } else { most }
    }

    /// What all threads gather into together.
    pub(crate) fn workspace_bytes(&self) -> usize {
        if self.taps.pointwise() {
            return 0;
        }
        rayon::current_num_threads().saturating_mul(self.inner()).saturating_mul(TILE * size_of::<f32>())
    }

    /// Adds the products to `out`: `[B, height, width, channels]`.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        let channels = self.output[2];
        let tile = self.tile(out.len() / channels);
        let gathers = !self.taps.pointwise();
        out.par_chunks_mut(tile * channels).enumerate().try_for_each_init(Vec::new, |patches, (index, out)| {
            cx.check(self.op)?;
            let pixels = out.len() / channels;
            if gathers {
                patches.resize(tile * self.inner(), 0.0f32);
            }
            for group in 0..self.groups {
                self.tile_of_group(group, index * tile, pixels, patches, out);
            }
            Ok(())
        })?;
        cx.check(self.op)
    }

    fn tile_of_group(&self, group: usize, first: usize, pixels: usize, patches: &mut [f32], out: &mut [f32]) {
        let (inputs, outputs) = (self.size[2] / self.groups, self.output[2] / self.groups);
        let inner = self.inner();
        let weight = Matrix::dense(&self.weight[group * inner * outputs..][..inner * outputs], inner, outputs);
        let patches = if self.taps.pointwise() {
            let values = &self.input[first * self.size[2] + group * inputs..];
            Matrix { values, rows: pixels, columns: inputs, row_stride: self.size[2], column_stride: 1 }
        } else {
            for (index, patch) in patches.chunks_exact_mut(inner).take(pixels).enumerate() {
                self.gather(first + index, group * inputs, inputs, patch);
            }
            Matrix::dense(patches, pixels, inner)
        };
        multiply(patches, weight, &mut out[group * outputs..], self.output[2], true);
    }

    /// Writes what lies under the window of one output pixel; zeros beyond the border.
    fn gather(&self, pixel: usize, channel: usize, channels: usize, patch: &mut [f32]) {
        let [height, width, all] = self.size;
        let [output_height, output_width, _] = self.output;
        let (x, y) = (pixel % output_width, pixel / output_width % output_height);
        let batch = pixel / output_width / output_height;
        let [rows, columns] = &self.taps.0;
        for (tap_y, line) in patch.chunks_exact_mut(columns.taps * channels).enumerate() {
            let Some(source_y) = rows.input(y, tap_y, height) else {
                line.fill(0.0);
                continue;
            };
            for (tap_x, target) in line.chunks_exact_mut(channels).enumerate() {
                match columns.input(x, tap_x, width) {
                    Some(source_x) => {
                        let from = ((batch * height + source_y) * width + source_x) * all + channel;
                        target.copy_from_slice(&self.input[from..from + channels]);
                    }
                    None => target.fill(0.0),
                }
            }
        }
    }
}
