//! Elementwise results that are put off until somebody needs them, so that a chain of operations goes through memory once.
//!
//! A large result of floats on the CPU is an [`Expression`] at first: what is done to each element, and to elements of what.
//! Operands that are expressions themselves become part of it, unless somebody else still holds them by the time that the
//! elements are needed; then they are computed first, and nothing is computed twice. Numbers are those of one operation after
//! the other, bit for bit: each step still rounds to float32.
//!
//! A result is charged in full when it is asked for, and operands stay alive until it is computed.

use crate::cpu::fused::{FloatStep, Program, TestStep};
use crate::ops::Operand;
use crate::shape::{Layout, Order};
use crate::storage::{Buffer, Storage, Stored, unfilled_vec};
use crate::{DType, OpContext, Tensor, TensorError};
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};

/// An expression of more steps or tensors is computed before it becomes part of another: beyond this, scratch memory leaves
/// the nearest cache, and too much is kept alive.
const MAX_STEPS: usize = 24;
const MAX_LEAVES: usize = 6;

/// What is done to the elements of the operands.
pub(crate) enum Step {
    Floats(FloatStep),
    Test(TestStep),
}

/// A result that has not been computed.
pub(crate) struct Expression {
    pub(crate) step: Step,
    pub(crate) sources: Vec<Source>,
    layout: Layout,
    order: Order,
    /// Of this expression and those inside, counted again wherever they are used again.
    steps: usize,
    leaves: usize,
    /// Where the result is or will be, as long as somebody holds it.
    result: Mutex<Weak<Storage>>,
}

/// An operand of an expression.
pub(crate) enum Source {
    Scalar(f32),
    /// Elements in this machine's memory.
    Tensor(Tensor),
    /// Of the same shape.
    Expression(Arc<Expression>),
}

impl Source {
    /// An expression where the operand is one that can be a part: the whole of its result, not broadcast.
    fn of(op: &'static str, operand: Operand<'_>, layout: &Layout, cx: &OpContext) -> Result<Source, TensorError> {
        let tensor = match operand {
            Operand::Scalar(value) => return Ok(Source::Scalar(value as f32)),
            Operand::Tensor(tensor) => tensor,
        };
        if let Some(expression) = tensor.storage.expression()
            && tensor.layout == expression.layout
            && tensor.layout.shape == layout.shape
        {
            return Ok(Source::Expression(expression));
        }
        Source::computed(op, tensor, cx)
    }

    fn computed(op: &'static str, tensor: &Tensor, cx: &OpContext) -> Result<Source, TensorError> {
        tensor.buffer(op, cx)?;
        Ok(Source::Tensor(tensor.clone().labelled(None)))
    }

    fn size(&self) -> (usize, usize) {
        match self {
            Source::Scalar(_) => (0, 0),
            Source::Tensor(_) => (0, 1),
            Source::Expression(expression) => (expression.steps, expression.leaves),
        }
    }
}

impl Expression {
    /// A result of `layout`, dense in `order`, that is charged now and computed later: float32, or booleans of a test.
    pub(crate) fn put_off(
        op: &'static str,
        operands: &[Operand<'_>],
        (layout, order): (Layout, Order),
        step: Step,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        cx.check(op)?;
        let sources = operands.iter().map(|operand| Source::of(op, *operand, &layout, cx));
        let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
        let size = |sources: &[Source]| {
            sources
                .iter()
                .map(Source::size)
                .fold((1, 0), |(steps, leaves), (more, further)| (steps + more, leaves + further))
        };
        let (mut steps, mut leaves) = size(&sources);
        if steps > MAX_STEPS || leaves > MAX_LEAVES {
            for (source, operand) in sources.iter_mut().zip(operands) {
                if let (Source::Expression(_), Operand::Tensor(tensor)) = (&source, operand) {
                    *source = Source::computed(op, tensor, cx)?;
                }
            }
            (steps, leaves) = size(&sources);
        }
        let dtype = match step {
            Step::Floats(_) => DType::Float32,
            Step::Test(_) => DType::Boolean,
        };
        let expression = Expression { step, sources, layout, order, steps, leaves, result: Mutex::default() };
        let storage = Storage::put_off(op, dtype, layout.shape.elements(), expression, cx)?;
        Ok(Tensor { storage, layout, label: None })
    }

    /// Where the result will be.
    pub(crate) fn belongs_to(&self, storage: &Arc<Storage>) {
        *self.result.lock() = Arc::downgrade(storage);
    }

    /// The result, if somebody holds it.
    pub(crate) fn held(&self) -> Option<Tensor> {
        let storage = self.result.lock().upgrade()?;
        Some(Tensor { storage, layout: self.layout, label: None })
    }

    /// The elements.
    pub(crate) fn compute(&self, op: &'static str, cx: &OpContext) -> Result<Buffer, TensorError> {
        let program = Program::new(op, self, (self.layout, self.order), cx)?;
        let elements = self.layout.shape.elements();
        match self.step {
            Step::Floats(_) => filled(op, elements, |out| program.floats(op, out, cx)),
            Step::Test(_) => filled(op, elements, |out| program.tests(op, out, cx)),
        }
    }
}

fn filled<T: Stored>(
    op: &'static str,
    elements: usize,
    fill: impl FnOnce(&mut [T]) -> Result<(), TensorError>,
) -> Result<Buffer, TensorError> {
    let bytes = elements as u64 * size_of::<T>() as u64;
    let mut values = unfilled_vec::<T>(elements).ok_or(TensorError::OutOfMemory { op, bytes })?;
    fill(&mut values)?;
    Ok(T::wrap(values))
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Expression({} steps of {} tensors)", self.steps, self.leaves)
    }
}
