//! Pillow's Lanczos filter on 8 bits.

use super::DeviceBuffer;
use super::compile::LANCZOS;
use super::gpu::GpuJob;
use super::launch::{Start, View, number};
use crate::cpu::lanczos::{Weights, has_alpha};
use crate::shape::Layout;
use crate::{OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `lanczos.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Lanczos {
    out: u64,
    source: View,
    bytes: u64,
    firsts: u64,
    starts: u64,
    weights: u64,
    elements: u64,
    length: i64,
    row: i64,
    height: i64,
    width: i64,
    channels: i64,
    has_alpha: i32,
    dtype: i32,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Lanczos {}

impl GpuJob {
    /// `layout` is `[images, height, width, channels]`; so is `shape`, the result's.
    pub(super) fn lanczos(
        &self,
        op: &'static str,
        (source, layout): (&Tensor, Layout),
        shape: Shape,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let [images, from_height, from_width, channels] = [0, 1, 2, 3].map(|dim| layout.lengths()[dim]);
        let (height, width) = (shape.lengths()[1], shape.lengths()[2]);
        if shape.elements() == 0 {
            return Ok(None);
        }
        let alpha = has_alpha((from_height, from_width), (height, width), channels);
        let common = Lanczos {
            row: (width * channels) as i64,
            width: width as i64,
            channels: channels as i64,
            has_alpha: i32::from(alpha),
            dtype: number(source.dtype()),
            ..Lanczos::default()
        };
        let narrowed = images * from_height * width * channels;
        let resident = self.resident(op, source, cx)?;
        let tables = self.weights(op, from_width, width)?;
        let mut bytes = self.allocate(op, narrowed)?;
        let reads: Vec<&DeviceBuffer> = std::iter::once(&*resident).chain(&tables).collect();
        let start = Start::over(op, LANCZOS, &[("AXIS", "COLUMNS")], narrowed);
        self.start(&start, &reads, &mut bytes, |pointers, out| Lanczos {
            out,
            source: View::new(pointers[0], source.dtype(), layout.offset, layout.strides()),
            elements: narrowed as u64,
            length: from_width as i64,
            height: from_height as i64,
            ..with_tables(common, &pointers[1..])
        })?;
        let tables = self.weights(op, from_height, height)?;
        let reads: Vec<&DeviceBuffer> = std::iter::once(&bytes).chain(&tables).collect();
        let start = Start::over(op, LANCZOS, &[("AXIS", "ROWS")], shape.elements());
        self.make(&start, (&[], &reads), (Layout::contiguous(shape), source.dtype()), cx, |_, pointers, out| Lanczos {
            out,
            bytes: pointers[0],
            elements: shape.elements() as u64,
            length: from_height as i64,
            height: height as i64,
            ..with_tables(common, &pointers[1..])
        })
    }

    /// First taps, starts and weights along one axis; none where its length stays.
    fn weights(&self, op: &'static str, from: usize, to: usize) -> Result<Vec<DeviceBuffer>, TensorError> {
        if from == to {
            return Ok(Vec::new());
        }
        let Weights { firsts, starts, weights } = Weights::new(from, to);
        let weights: Vec<u32> = weights.into_iter().map(i32::cast_unsigned).collect();
        [&firsts, &starts, &weights].into_iter().map(|values| self.table(op, values)).collect()
    }
}

fn with_tables(arguments: Lanczos, pointers: &[u64]) -> Lanczos {
    match *pointers {
        [firsts, starts, weights] => Lanczos { firsts, starts, weights, ..arguments },
        _ => arguments,
    }
}
