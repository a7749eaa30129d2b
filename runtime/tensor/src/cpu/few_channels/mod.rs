//! Convolutions to few channels or from few, like the first and the last one of a picture decoder: straight over the planes of
//! the input, since a product of matrices would spend its time on gathering pixels for few multiplications.
//!
//! # Layout
//! `to_few` keeps neighbouring pixels side by side in registers, `from_few` neighbouring output channels.

mod from_few;
mod to_few;

use super::gemm::MatrixType;
use crate::{OpContext, TensorError};

/// One dense convolution of stride 1 over planes.
pub(crate) struct FewChannels<'a, T> {
    pub(crate) op: &'static str,
    /// `[B, channels, height, width]`
    pub(crate) input: &'a [f32],
    /// Height, width, channels of the input.
    pub(crate) size: [usize; 3],
    /// `[outputs, channels, window height, window width]`
    pub(crate) weight: &'a [T],
    pub(crate) window: [usize; 2],
    pub(crate) padding: [usize; 2],
    /// Height, width, channels of the output.
    pub(crate) output: [usize; 3],
    pub(crate) bias: Option<&'a [f32]>,
}

impl<T: MatrixType> FewChannels<'_, T> {
    pub(crate) fn pays(window: [usize; 2], inputs: usize, outputs: usize) -> bool {
        to_few::pays(window, inputs, outputs) || from_few::pays(window, inputs, outputs)
    }

    fn goes_to_few(&self) -> bool {
        to_few::pays(self.window, self.size[2], self.output[2])
    }

    /// The weight once more, and some rows for each thread.
    pub(crate) fn workspace_bytes(&self) -> usize {
        let (together, of_thread) =
            if self.goes_to_few() { (to_few::CHANNELS, 0) } else { (from_few::CHANNELS, self.bytes_of_lines()) };
        let weight = self.weight.len() / self.output[2] * self.output[2].next_multiple_of(together) * size_of::<f32>();
        weight.saturating_add(of_thread.saturating_mul(rayon::current_num_threads()))
    }

    /// Fills `out`: `[B, height, width, outputs]`.
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        if self.goes_to_few() { self.run_to_few(out, cx) } else { self.run_from_few(out, cx) }
    }

    /// `[groups of outputs, channels, window height, window width, outputs of a group]`; zeros where there are no more outputs.
    fn grouped_weight<const TOGETHER: usize>(&self) -> Vec<[f32; TOGETHER]> {
        let outputs = self.output[2];
        let each = self.weight.len() / outputs;
        let mut weight = vec![[0.0; TOGETHER]; each * outputs.div_ceil(TOGETHER)];
        for (output, values) in self.weight.chunks_exact(each).enumerate() {
            for (index, value) in values.iter().enumerate() {
                weight[output / TOGETHER * each + index][output % TOGETHER] = value.load();
            }
        }
        weight
    }
}
