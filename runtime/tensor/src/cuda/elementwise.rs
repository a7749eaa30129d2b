//! Elementwise operations, and copies between layouts.

use super::compile::{COPY, ELEMENTWISE, ELEMENTWISE_DENSE};
use super::gpu::GpuJob;
use super::launch::{Start, View, Walk, element_type, index_type, number, padded};
use crate::device::{DeviceCode, Piece};
use crate::shape::{Layout, MAX_RANK, Order};
use crate::{DType, OpContext, Operand, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// `Arguments` of `elementwise.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Elementwise {
    out: u64,
    elements: u64,
    lengths: [i64; MAX_RANK],
    operands: [View; 3],
    whole: [i64; 2],
    numbers: [f32; 2],
    dtype: i32,
    rank: i32,
}

/// `Arguments` of `copy.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Copy {
    from: u64,
    to: u64,
    from_offset: i64,
    to_offset: i64,
    elements: u64,
    lengths: [i64; MAX_RANK],
    from_strides: [i64; MAX_RANK],
    to_strides: [i64; MAX_RANK],
    /// The bits of an element, lowest first.
    fill: u64,
    rank: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Elementwise {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Copy {}

/// Elements from which on a kernel is compiled for their types: fewer take no longer than the launch.
const WORTH_COMPILING: usize = 1 << 14;

/// Elements that the kernel for dense operands takes at a time.
const VECTOR: usize = 8;

/// A type's name in kernels.
fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::Float32 => "FLOAT32",
        DType::Float16 => "FLOAT16",
        DType::Bfloat16 => "BFLOAT16",
        DType::Uint8 => "UINT8",
        DType::Int32 => "INT32",
        DType::Int64 => "INT64",
        DType::Boolean => "BOOLEAN",
        DType::Float8E4m3 => "FLOAT8_E4M3",
        DType::Float8E5m2 => "FLOAT8_E5M2",
    }
}

/// The types of up to three operands where all of them lie in memory as the result does, and begin at a whole vector.
fn dense_types(operands: &[Operand<'_>], layouts: &[Option<Layout>], walk: &Walk) -> Option<[&'static str; 3]> {
    let mut types = ["SCALAR"; 3];
    for (index, operand) in operands.iter().enumerate() {
        let (Operand::Tensor(tensor), Some(layout)) = (operand, &layouts[index]) else { continue };
        if walk.strides[index] != [1] || !layout.offset.is_multiple_of(VECTOR) {
            return None;
        }
        types[index] = name(tensor.dtype());
    }
    Some(types)
}

/// Where elements go, and where they come from: nowhere for a fill.
struct Move<'a> {
    from: Option<(&'a Tensor, Layout)>,
    to: Layout,
    fill: u64,
}

impl GpuJob {
    pub(super) fn elementwise(
        &self,
        op: &'static str,
        operands: &[Operand<'_>],
        (layout, order): (Layout, Order),
        dtype: DType,
        code: &DeviceCode,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = layout.shape.elements();
        if elements == 0 {
            return Ok(None);
        }
        let residents = self.residents(op, operands, cx)?;
        let layouts: Vec<Option<Layout>> = operands
            .iter()
            .map(|operand| match operand {
                Operand::Tensor(tensor) => Some(tensor.layout.expanded(layout.shape).permuted(order.dims())),
                Operand::Scalar(_) => None,
            })
            .collect();
        let zeros = [0isize; MAX_RANK];
        let rank = layout.shape.rank();
        let strides: Vec<&[isize]> =
            layouts.iter().map(|layout| layout.as_ref().map_or(&zeros[..rank], Layout::strides)).collect();
        let lengths = layout.shape.permuted(order.dims());
        let walk = Walk::new(lengths.lengths(), &strides);
        let mut out = self.allocate(op, elements * dtype.size())?;
        let count = operands.len().to_string();
        let compute = ("COMPUTE", if code.integers { "i64" } else { "float" });
        let mut defines = vec![("EXPRESSION", code.expression), compute, index_type(elements)];
        let types = if elements < WORTH_COMPILING { None } else { dense_types(operands, &layouts, &walk) };
        let (source, items) = match types {
            Some([a, b, c]) => {
                defines.extend([("A_TYPE", a), ("B_TYPE", b), ("C_TYPE", c), ("OUT_TYPE", name(dtype))]);
                (ELEMENTWISE_DENSE, elements.div_ceil(VECTOR))
            }
            None => {
                defines.push(("OPERANDS", &count));
                (ELEMENTWISE, elements)
            }
        };
        let start = Start::over(op, source, &defines, items);
        let reads: Vec<_> = residents.iter().map(|buffer| &**buffer).collect();
        self.start(&start, &reads, &mut out, |pointers, target| {
            let mut pointers = pointers.iter();
            let mut views = [View::default(); 3];
            for (index, operand) in operands.iter().enumerate() {
                views[index] = match (operand, &layouts[index]) {
                    (Operand::Tensor(tensor), Some(layout)) => {
                        let pointer = pointers.next().copied().unwrap_or_default();
                        View::new(pointer, tensor.dtype(), layout.offset, &walk.strides[index])
                    }
                    (Operand::Scalar(value), _) => View::scalar(*value),
                    _ => View::default(),
                };
            }
            Elementwise {
                out: target,
                elements: elements as u64,
                lengths: padded(&walk.lengths),
                operands: views,
                whole: code.whole,
                numbers: code.floats.map(|value| value as f32),
                dtype: number(dtype),
                rank: walk.lengths.len() as i32,
            }
        })?;
        self.tensor(op, layout, dtype, out, cx).map(Some)
    }

    pub(super) fn assemble(
        &self,
        op: &'static str,
        layout: Layout,
        dtype: DType,
        fill: Option<f64>,
        pieces: &[Piece<'_>],
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let elements = layout.shape.elements();
        if elements == 0 {
            return Ok(None);
        }
        let mut out = self.allocate(op, elements * dtype.size())?;
        let filled = fill.map(|value| Move { from: None, to: layout, fill: bits(value, dtype) });
        let copied = pieces.iter().map(|piece| Move { from: Some((piece.source, piece.from)), to: piece.to, fill: 0 });
        for part in filled.into_iter().chain(copied) {
            self.copy(op, element_type(dtype), &part, &mut out, cx)?;
        }
        self.tensor(op, layout, dtype, out, cx).map(Some)
    }

    fn copy(
        &self,
        op: &'static str,
        element: &str,
        part: &Move<'_>,
        out: &mut super::DeviceBuffer,
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let elements = part.to.shape.elements();
        if elements == 0 {
            return Ok(());
        }
        // In the order of the target's memory, where writes are neighbours.
        let order = part.to.memory_order();
        let to = part.to.permuted(order.dims());
        let source = match part.from {
            Some((tensor, layout)) => Some((self.resident(op, tensor, cx)?, layout.permuted(order.dims()))),
            None => None,
        };
        let zeros = [0isize; MAX_RANK];
        let from_strides = source.as_ref().map_or(&zeros[..to.shape.rank()], |(_, layout)| layout.strides());
        let walk = Walk::new(to.lengths(), &[from_strides, to.strides()]);
        let defines = [("ELEMENT", element), index_type(elements)];
        let start = Start::over(op, COPY, &defines, elements);
        let reads: Vec<_> = source.iter().map(|(buffer, _)| &**buffer).collect();
        self.start(&start, &reads, out, |pointers, target| Copy {
            from: pointers.first().copied().unwrap_or_default(),
            to: target,
            from_offset: source.as_ref().map_or(0, |(_, layout)| layout.offset as i64),
            to_offset: to.offset as i64,
            elements: elements as u64,
            lengths: padded(&walk.lengths),
            from_strides: padded(&walk.strides[0]),
            to_strides: padded(&walk.strides[1]),
            fill: part.fill,
            rank: walk.lengths.len() as i64,
        })
    }
}

/// A number as an element's memory.
fn bits(value: f64, dtype: DType) -> u64 {
    use crate::storage::with_dtype;
    let mut bytes = Vec::new();
    with_dtype!(dtype, T => {
        <T as crate::Element>::write_le(&[<T as crate::Element>::from_f64(value)], &mut bytes);
    });
    bytes.resize(8, 0);
    u64::from_le_bytes(bytes.try_into().unwrap_or_default())
}
