//! Elementwise results that are put off until somebody needs them, so that a chain of operations goes through memory once.
//!
//! A large result of floats on the CPU is an [`Expression`] at first: what is done to each element, and to elements of what.
//! Operands that are expressions themselves become part of it, unless somebody else still holds them by the time that the
//! elements are needed; then they are computed first, and nothing is computed twice. Numbers are those of one operation after
//! the other, bit for bit: each step still rounds to float32.
//!
//! A normalisation is such a result as well. Others may begin with it, one each: it decides the order in which all is computed.
//!
//! A result is charged in full when it is asked for, and operands stay alive until it is computed. Then it is written over one of
//! them, if there is one that lies as the result does and that nothing else holds.

use crate::cpu::convert::Store;
use crate::cpu::fused::{BlockStep, Program};
use crate::cpu::norm::Norm;
use crate::ops::Operand;
use crate::shape::{Layout, Order};
use crate::storage::{Buffer, Storage, Stored, unfilled_vec, with_dtype};
use crate::{DType, OpContext, Tensor, TensorError};
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};

/// Operands are computed first where an expression would have more steps or tensors: beyond this, scratch memory leaves the
/// nearest cache, and too much is kept alive.
const MAX_STEPS: usize = 48;
const MAX_TENSORS: usize = 8;

/// What is done to the elements of the operands.
pub(crate) enum Step {
    Floats(Arc<BlockStep<f32>>),
    Test(Arc<BlockStep<bool>>),
    /// What every row or group begins with: it has no operand but its own input, and goes through that in its order.
    Norm(Box<Norm>),
}

/// A result that has not been computed.
pub(crate) struct Expression {
    pub(crate) step: Step,
    pub(crate) sources: Vec<Source>,
    dtype: DType,
    pub(crate) layout: Layout,
    pub(crate) order: Order,
    /// Where the result is or will be, as long as somebody holds it.
    result: Mutex<Weak<Storage>>,
}

/// An operand of an expression.
#[allow(clippy::large_enum_variant)] // There are at most three in each.
pub(crate) enum Source {
    Scalar(f32),
    /// Elements in this machine's memory.
    Tensor(Tensor),
    /// Of the same shape.
    Expression(Arc<Expression>),
    /// Elements that lie where the result is written, each until it is.
    Spare,
}

impl Source {
    /// An expression where the operand is one that can be a part: the whole of its result, not broadcast.
    fn of(op: &'static str, operand: Operand<'_>, layout: &Layout, cx: &OpContext) -> Result<Source, TensorError> {
        let tensor = match operand {
            Operand::Scalar(value) => return Ok(Source::Scalar(value as f32)),
            Operand::Tensor(tensor) => tensor,
        };
        if let Some(expression) = tensor.storage.expression()
            && expression.can_be_part()
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
}

/// What an expression is made of, each once.
#[derive(Default)]
struct Parts {
    steps: Vec<*const Expression>,
    tensors: Vec<*const Storage>,
    /// Of normalisations.
    norms: Vec<Layout>,
}

impl Parts {
    fn of(sources: &[Source]) -> Parts {
        let mut parts = Parts::default();
        parts.add(sources);
        parts
    }

    fn add(&mut self, sources: &[Source]) {
        for source in sources {
            match source {
                Source::Scalar(_) | Source::Spare => {}
                Source::Tensor(tensor) => {
                    let storage = Arc::as_ptr(&tensor.storage);
                    if !self.tensors.contains(&storage) {
                        self.tensors.push(storage);
                    }
                }
                Source::Expression(expression) => {
                    let place = Arc::as_ptr(expression);
                    if !self.steps.contains(&place) {
                        self.steps.push(place);
                        if let Step::Norm(norm) = &expression.step {
                            self.tensors.push(Arc::as_ptr(&norm.input.storage));
                            self.norms.push(expression.layout);
                        }
                        self.add(&expression.sources);
                    }
                }
            }
        }
    }

    /// Whether a result of `layout` can be computed in one pass, of few enough things.
    fn fit(&self, layout: &Layout) -> bool {
        let one_order = self.norms.len() <= 1 && self.norms.iter().all(|norm| norm == layout);
        one_order && self.steps.len() < MAX_STEPS && self.tensors.len() <= MAX_TENSORS
    }
}

impl Expression {
    /// A result of `layout`, dense in `order`, that is charged now and computed later. That of a test is booleans.
    pub(crate) fn put_off(
        op: &'static str,
        operands: &[Operand<'_>],
        (layout, order): (Layout, Order),
        dtype: DType,
        step: Step,
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        cx.check(op)?;
        let sources = operands.iter().map(|operand| Source::of(op, *operand, &layout, cx));
        let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
        if !Parts::of(&sources).fit(&layout) {
            for (source, operand) in sources.iter_mut().zip(operands) {
                if let (Source::Expression(_), Operand::Tensor(tensor)) = (&source, operand) {
                    *source = Source::computed(op, tensor, cx)?;
                }
            }
        }
        let expression = Expression { step, sources, dtype, layout, order, result: Mutex::default() };
        let storage = Storage::put_off(op, dtype, layout.shape.elements(), expression, cx)?;
        Ok(Tensor { storage, layout, label: None })
    }

    /// The result of a normalisation, as [`Expression::put_off`].
    pub(crate) fn put_off_norm(
        norm: Norm,
        (layout, order): (Layout, Order),
        cx: &OpContext,
    ) -> Result<Tensor, TensorError> {
        let op = norm.op;
        cx.check(op)?;
        let step = Step::Norm(Box::new(norm));
        let dtype = DType::Float32;
        let expression = Expression { step, sources: Vec::new(), dtype, layout, order, result: Mutex::default() };
        let storage = Storage::put_off(op, dtype, layout.shape.elements(), expression, cx)?;
        Ok(Tensor { storage, layout, label: None })
    }

    /// Other types round what is stored; what comes after has to begin with that.
    fn can_be_part(&self) -> bool {
        matches!(self.dtype, DType::Float32 | DType::Boolean)
    }

    /// Whether one of the operands waits to be computed, and could be so on the way.
    pub(crate) fn is_among(operands: &[Operand<'_>]) -> bool {
        operands.iter().any(|operand| match operand {
            Operand::Tensor(tensor) => tensor.storage.expression().is_some_and(|expression| expression.can_be_part()),
            Operand::Scalar(_) => false,
        })
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

    /// The elements. Where this was stopped half-way, what was written over is lost, and so is the result.
    pub(crate) fn compute(
        expression: &mut Arc<Expression>,
        op: &'static str,
        cx: &OpContext,
    ) -> Result<Buffer, TensorError> {
        cx.check(op)?;
        let spare = Arc::get_mut(expression).and_then(Expression::take_spare);
        let elements = expression.layout.shape.elements();
        match &expression.step {
            Step::Norm(norm) => filled(op, elements, |out| norm.run(out, cx)),
            Step::Test(step) => {
                let program = Program::new(op, expression, cx)?;
                filled(op, elements, |out| program.run(op, out, cx, &**step))
            }
            Step::Floats(step) => {
                let program = Program::new(op, expression, cx)?;
                match spare {
                    Some(mut values) => {
                        program.run_over(op, &mut values, cx, &**step)?;
                        Ok(Buffer::Float32(values))
                    }
                    None => with_dtype!(expression.dtype, T => {
                        let step = Arc::clone(step);
                        let last = move |operands: &[&[f32]], out: &mut [T]| {
                            T::with_block(out, |out| step(operands, out));
                        };
                        filled(op, elements, |out| program.run(op, out, cx, &last))
                    }),
                }
            }
        }
    }

    /// The elements of an operand that lie as those of the result will, and that nobody else has any more.
    fn take_spare(&mut self) -> Option<Vec<f32>> {
        let layout = self.layout;
        let fits = self.dtype == DType::Float32 && matches!(self.step, Step::Floats(_));
        if fits { self.take_spare_of(&layout) } else { None }
    }

    fn take_spare_of(&mut self, layout: &Layout) -> Option<Vec<f32>> {
        self.sources.iter_mut().find_map(|source| {
            let values = match source {
                Source::Tensor(tensor) if tensor.layout == *layout => {
                    Arc::get_mut(&mut tensor.storage)?.take_floats(layout.shape.elements())?
                }
                Source::Expression(inner) => return Arc::get_mut(inner)?.take_spare_of(layout),
                _ => return None,
            };
            *source = Source::Spare;
            Some(values)
        })
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
        let parts = Parts::of(&self.sources);
        write!(formatter, "Expression({} steps on {} tensors)", parts.steps.len() + 1, parts.tensors.len())
    }
}
