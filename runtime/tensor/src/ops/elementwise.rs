//! Operations on elements of the same place.

use super::{BinaryOp, Operand, UnaryOp};
use crate::cpu::convert::{Compute, Store};
use crate::cpu::elementwise::{Input, Kernel, elementwise};
use crate::cpu::fused::BlockStep;
use crate::cpu::kernels::{Number, binary_float, binary_int, predicate, unary_float, unary_int};
use crate::cpu::simd::{map1, map3};
use crate::device::{DeviceCode, Task};
use crate::fusion::{Expression, Step};
use crate::shape::{Layout, Order};
use crate::storage::{Allocation, with_dtype};
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use std::sync::Arc;

impl UnaryOp {
    /// Operations that answer integers for integers; the others compute in float32.
    fn keeps_integers(self) -> bool {
        use UnaryOp::*;
        matches!(self, Abs | Neg | Sign | Square | Relu | Floor | Ceil | Round | Trunc)
    }
}

impl BinaryOp {
    /// Comparisons and logic.
    fn is_predicate(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge | LogicalAnd | LogicalOr | LogicalXor)
    }

    /// Operations that answer floats for integers.
    fn needs_floats(self) -> bool {
        matches!(self, BinaryOp::Div | BinaryOp::Atan2)
    }

    /// Operations that booleans have no meaning for.
    fn refuses_booleans(self) -> bool {
        use BinaryOp::*;
        matches!(self, Sub | Pow | Fmod | Remainder)
    }

    /// The name used by the node interface.
    pub fn name(self) -> &'static str {
        use BinaryOp::*;
        match self {
            Add => "add",
            Sub => "sub",
            Mul => "mul",
            Div => "div",
            Pow => "pow",
            Fmod => "fmod",
            Remainder => "remainder",
            Minimum => "minimum",
            Maximum => "maximum",
            Atan2 => "atan2",
            Eq => "eq",
            Ne => "ne",
            Lt => "lt",
            Le => "le",
            Gt => "gt",
            Ge => "ge",
            LogicalAnd => "logical-and",
            LogicalOr => "logical-or",
            LogicalXor => "logical-xor",
        }
    }
}

/// Operands that have been found to fit: the shape they broadcast to and the order of the result's memory.
struct Plan<'a, const N: usize> {
    operands: [Operand<'a>; N],
    order: Order,
    layout: Layout,
    elements: usize,
}

impl<'a, const N: usize> Plan<'a, N> {
    /// The result takes the memory order of the first operand that has its whole shape.
    fn new(op: &'static str, operands: [(&'static str, Operand<'a>); N]) -> Result<Self, TensorError> {
        let tensors = || {
            operands.iter().filter_map(|(name, operand)| match operand {
                Operand::Tensor(tensor) => Some((*name, *tensor)),
                Operand::Scalar(_) => None,
            })
        };
        let mut shape = Shape::new(op, &[])?;
        for (name, tensor) in tensors() {
            shape = shape.broadcast(tensor.lengths_shape(), op, name)?;
        }
        let full = tensors().find(|(_, tensor)| *tensor.lengths_shape() == shape);
        let order = full.map_or(Order::identity(shape.rank()), |(_, tensor)| tensor.layout.memory_order());
        let layout = Layout::dense_in_order(shape, order.dims());
        Ok(Plan { operands: operands.map(|(_, operand)| operand), order, layout, elements: shape.elements() })
    }

    /// The operands as the loops of the CPU read them.
    fn inputs(&self, op: &'static str, cx: &OpContext) -> Result<[Input<'a>; N], TensorError> {
        let mut inputs = [const { Input::Scalar(0.0) }; N];
        for (slot, operand) in inputs.iter_mut().zip(self.operands) {
            *slot = match operand {
                Operand::Scalar(value) => Input::Scalar(value),
                Operand::Tensor(tensor) => {
                    let layout = tensor.layout.expanded(self.layout.shape).permuted(self.order.dims());
                    Input::new(tensor.buffer(op, cx)?, &layout)
                }
            };
        }
        Ok(inputs)
    }

    fn on_device(
        &self,
        op: &'static str,
        dtype: DType,
        code: &DeviceCode,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let (operands, layout, order) = (&self.operands[..], self.layout, self.order);
        cx.on_device(op, Task::Elementwise { operands, layout, order, dtype, code })
    }

    /// Computes in float32, stores as `dtype`. `code` says for a GPU what `kernel` does.
    fn floats(
        &self,
        op: &'static str,
        dtype: DType,
        code: &DeviceCode,
        cx: &OpContext,
        kernel: impl Fn([&[f32]; N], &mut [f32]) + Send + Sync + 'static,
    ) -> Result<Tensor, TensorError> {
        // What nothing can be added to need not wait, unless it is itself added to what does.
        let fuses = dtype == DType::Float32 || Expression::is_among(&self.operands);
        if !fuses || !cx.puts_off(self.elements) {
            return self.run::<f32>(op, dtype, code, cx, &kernel);
        }
        let step = Step::Floats(block_step(kernel));
        Expression::put_off(op, &self.operands, (self.layout, self.order), dtype, step, cx)
    }

    /// What `kernel` finds true, in float32.
    fn test_floats(
        &self,
        op: &'static str,
        code: &DeviceCode,
        cx: &OpContext,
        kernel: impl Fn([&[f32]; N], &mut [bool]) + Send + Sync + 'static,
    ) -> Result<Tensor, TensorError> {
        if !cx.puts_off(self.elements) {
            return self.test::<f32>(op, code, cx, &kernel);
        }
        let step = Step::Test(block_step(kernel));
        Expression::put_off(op, &self.operands, (self.layout, self.order), DType::Boolean, step, cx)
    }

    /// Computes in C, stores as `dtype`. `code` says for a GPU what `kernel` does.
    fn run<C: Compute>(
        &self,
        op: &'static str,
        dtype: DType,
        code: &DeviceCode,
        cx: &OpContext,
        kernel: &Kernel<'_, C, C, N>,
    ) -> Result<Tensor, TensorError>
    where
        f32: Store<C>,
        half::f16: Store<C>,
        half::bf16: Store<C>,
        crate::float8::F8E4M3: Store<C>,
        crate::float8::F8E5M2: Store<C>,
        u8: Store<C>,
        i32: Store<C>,
        i64: Store<C>,
        bool: Store<C>,
    {
        if let Some(result) = self.on_device(op, dtype, code, cx)? {
            return Ok(result);
        }
        let inputs = self.inputs(op, cx)?;
        with_dtype!(dtype, T => {
            let mut result = Allocation::<T>::unfilled(op, self.elements, cx)?;
            elementwise::<C, C, T, N>(op, &inputs, &mut result.values, cx, kernel)?;
            Ok(Tensor::of(self.layout, result))
        })
    }

    /// Computes in C, stores what `kernel` finds true.
    fn test<C: Compute>(
        &self,
        op: &'static str,
        code: &DeviceCode,
        cx: &OpContext,
        kernel: &Kernel<'_, C, bool, N>,
    ) -> Result<Tensor, TensorError> {
        if let Some(result) = self.on_device(op, DType::Boolean, code, cx)? {
            return Ok(result);
        }
        let inputs = self.inputs(op, cx)?;
        let mut result = Allocation::<bool>::unfilled(op, self.elements, cx)?;
        elementwise::<C, bool, bool, N>(op, &inputs, &mut result.values, cx, kernel)?;
        Ok(Tensor::of(self.layout, result))
    }
}

/// A kernel of `N` operands as a step of an expression.
fn block_step<T, const N: usize>(kernel: impl Fn([&[f32]; N], &mut [T]) + Send + Sync + 'static) -> Arc<BlockStep<T>> {
    Arc::new(move |blocks, out| {
        if let Ok(blocks) = <[&[f32]; N]>::try_from(blocks) {
            kernel(blocks, out);
        }
    })
}

fn promoted(dtype: DType, operand: Operand<'_>) -> DType {
    match operand {
        Operand::Tensor(tensor) => dtype.promote(tensor.dtype()),
        Operand::Scalar(value) => dtype.promote_scalar(value),
    }
}

impl Tensor {
    /// The same numbers as another type. Floats become integers by truncation towards zero, cut to the type's range (0
    /// for not-a-number); integers wrap; anything but zero is true. The tensor itself if it has the type already.
    pub fn cast(&self, dtype: DType, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "cast";
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let plan = Plan::new(OP, [("self", Operand::Tensor(self))])?;
        if self.dtype().is_float() {
            plan.floats(OP, dtype, &DeviceCode::floats("a"), cx, move |[x], out| out.copy_from_slice(x))
        } else {
            plan.run::<i64>(OP, dtype, &DeviceCode::integers("a"), cx, &|[x], out| out.copy_from_slice(x))
        }
    }

    /// One operation on every element. `abs`, `neg`, `sign`, `square`, `relu` and the roundings keep integer types;
    /// `logical-not` answers booleans; the others answer floats.
    pub fn unary(&self, op: UnaryOp, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "unary";
        let plan = Plan::new(OP, [("self", Operand::Tensor(self))])?;
        let dtype = self.dtype();
        if op == UnaryOp::LogicalNot {
            return if dtype.is_float() {
                plan.test_floats(OP, &DeviceCode::floats("a == 0"), cx, move |[x], out| map1(x, out, |v: f32| v == 0.0))
            } else {
                plan.test::<i64>(OP, &DeviceCode::integers("a == 0"), cx, &|[x], out| map1(x, out, |v: i64| v == 0))
            };
        }
        if dtype.is_float() {
            return plan.floats(OP, dtype, &op.float_code(), cx, move |[x], out| unary_float(op, x, out));
        }
        if !op.keeps_integers() {
            return plan.floats(OP, DType::Float32, &op.float_code(), cx, move |[x], out| unary_float(op, x, out));
        }
        if dtype == DType::Boolean {
            return Err(TensorError::Type { op: OP, argument: "self", found: dtype, expected: "a number" });
        }
        plan.run::<i64>(OP, dtype, &op.integer_code(), cx, &|[x], out| unary_int(op, x, out))
    }

    /// Float results of each element.
    pub(super) fn map_floats(
        &self,
        op: &'static str,
        dtype: DType,
        code: &DeviceCode,
        cx: &OpContext,
        kernel: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Result<Tensor, TensorError> {
        let plan = Plan::new(op, [("self", Operand::Tensor(self))])?;
        plan.floats(op, dtype, code, cx, move |[x], out| kernel(x, out))
    }

    /// `self op other`, broadcasting. Comparisons and logic answer booleans, `div` and `atan2` floats; else the type is
    /// where both meet. Of integers: overflow wraps, the remainder of a division by zero is 0.
    pub fn binary(&self, op: BinaryOp, other: Operand<'_>, cx: &OpContext) -> Result<Tensor, TensorError> {
        binary(op, Operand::Tensor(self), other, promoted(self.dtype(), other), cx)
    }

    /// `scalar op self`.
    pub fn binary_from(&self, op: BinaryOp, scalar: f64, cx: &OpContext) -> Result<Tensor, TensorError> {
        let dtype = self.dtype().promote_scalar(scalar);
        binary(op, Operand::Scalar(scalar), Operand::Tensor(self), dtype, cx)
    }

    /// Every element between `min` and `max`; `max` wins where it is the smaller. Not-a-number stays. An integer tensor
    /// becomes float32 when a bound is not whole.
    pub fn clamp(&self, min: Option<f64>, max: Option<f64>, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "clamp";
        if min.is_none() && max.is_none() {
            return Err(TensorError::argument(OP, "min", "and max are both missing"));
        }
        // An infinite bound does not bound an integer.
        let finite = |bound: Option<f64>| bound.filter(|value| !value.is_infinite());
        let dtype = [finite(min), finite(max)].into_iter().flatten().fold(self.dtype(), DType::promote_scalar);
        let plan = Plan::new(OP, [("self", Operand::Tensor(self))])?;
        if dtype.is_float() {
            let low = min.map_or(f32::NEG_INFINITY, |value| value as f32);
            let high = max.map_or(f32::INFINITY, |value| value as f32);
            let code = DeviceCode::floats("p != p || q != q ? NAN : a < p ? (p > q ? q : p) : (a > q ? q : a)");
            let code = code.with([f64::from(low), f64::from(high)]);
            return plan.floats(OP, dtype, &code, cx, move |[x], out| {
                if low.is_nan() || high.is_nan() {
                    return out.fill(f32::NAN);
                }
                map1(x, out, move |v: f32| {
                    let v = if v < low { low } else { v };
                    if v > high { high } else { v }
                });
            });
        }
        let low = min.map_or(i64::MIN, |value| value as i64);
        let high = max.map_or(i64::MAX, |value| value as i64);
        let code = DeviceCode::integers("min(max(a, p), q)").with_integers([low, high]);
        plan.run::<i64>(OP, dtype, &code, cx, &|[x], out| map1(x, out, |v: i64| v.max(low).min(high)))
    }

    /// self + weight · (end − self), of floats, broadcasting.
    pub fn lerp(&self, end: &Tensor, weight: Operand<'_>, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "lerp";
        let named = [("self", Operand::Tensor(self)), ("end", Operand::Tensor(end)), ("weight", weight)];
        for (argument, operand) in named {
            if let Operand::Tensor(tensor) = operand
                && !tensor.dtype().is_float()
            {
                return Err(TensorError::Type { op: OP, argument, found: tensor.dtype(), expected: "a float type" });
            }
        }
        let dtype = promoted(self.dtype().promote(end.dtype()), weight);
        let plan = Plan::new(OP, named)?;
        let code = DeviceCode::floats("fabsf(c) < 0.5f ? a + c * (b - a) : b - (b - a) * (1.0f - c)");
        plan.floats(OP, dtype, &code, cx, move |[start, end, weight], out| {
            // From the nearer end, so that a weight of 1 gives `end` exactly.
            map3(start, end, weight, out, |start: f32, end: f32, weight: f32| {
                let difference = end - start;
                if weight.abs() < 0.5 { start + weight * difference } else { end - difference * (1.0 - weight) }
            });
        })
    }

    /// From `self` where `condition` (booleans) is true, else from `other`; all three broadcast.
    pub fn where_(&self, condition: &Tensor, other: Operand<'_>, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "where";
        if condition.dtype() != DType::Boolean {
            let found = condition.dtype();
            return Err(TensorError::Type { op: OP, argument: "condition", found, expected: "boolean" });
        }
        let dtype = promoted(self.dtype(), other);
        let named = [("self", Operand::Tensor(self)), ("condition", Operand::Tensor(condition)), ("other", other)];
        let plan = Plan::new(OP, named)?;
        if dtype.is_float() {
            plan.floats(OP, dtype, &DeviceCode::floats(CHOOSE), cx, move |[own, condition, other], out| {
                choose(own, condition, other, out);
            })
        } else {
            plan.run::<i64>(OP, dtype, &DeviceCode::integers(CHOOSE), cx, &|[own, condition, other], out| {
                choose(own, condition, other, out);
            })
        }
    }
}

const CHOOSE: &str = "b != 0 ? a : c";

fn choose<C: Number>(own: &[C], condition: &[C], other: &[C], out: &mut [C]) {
    let zero = C::default();
    map3(own, condition, other, out, move |own: C, condition: C, other: C| if condition != zero { own } else { other });
}

fn binary(
    op: BinaryOp,
    left: Operand<'_>,
    right: Operand<'_>,
    dtype: DType,
    cx: &OpContext,
) -> Result<Tensor, TensorError> {
    let name = op.name();
    let plan = Plan::new(name, [("self", left), ("other", right)])?;
    if op.is_predicate() {
        return if dtype.is_float() {
            plan.test_floats(name, &op.float_code(), cx, move |[a, b], out| predicate(op, a, b, out))
        } else {
            plan.test::<i64>(name, &op.integer_code(), cx, &|[a, b], out| predicate(op, a, b, out))
        };
    }
    if dtype == DType::Boolean && op.refuses_booleans() {
        return Err(TensorError::Type { op: name, argument: "self", found: dtype, expected: "a number" });
    }
    if dtype.is_float() || op.needs_floats() {
        let dtype = if dtype.is_float() { dtype } else { DType::Float32 };
        if op == BinaryOp::Pow
            && let Operand::Scalar(exponent) = right
            && let Some((power, code)) = simple_power(exponent)
        {
            let code = DeviceCode::floats(code);
            return plan.floats(name, dtype, &code, cx, move |[base, _], out| map1(base, out, power));
        }
        return plan.floats(name, dtype, &op.float_code(), cx, move |[a, b], out| binary_float(op, a, b, out));
    }
    if let Operand::Scalar(exponent) = right
        && op == BinaryOp::Pow
        && exponent < 0.0
    {
        let message = format!("is {exponent}: integers have no negative powers; cast to a float type first");
        return Err(TensorError::argument(name, "other", message));
    }
    plan.run::<i64>(name, dtype, &op.integer_code(), cx, &|[a, b], out| binary_int(op, a, b, out))
}

/// Exponents that take no power function.
#[allow(clippy::type_complexity)] // The function, and the same for a GPU.
fn simple_power(exponent: f64) -> Option<(fn(f32) -> f32, &'static str)> {
    match exponent {
        1.0 => Some((|v| v, "a")),
        2.0 => Some((|v| v * v, "a * a")),
        3.0 => Some((|v| v * v * v, "a * a * a")),
        -1.0 => Some((|v| 1.0 / v, "1.0f / a")),
        _ => None,
    }
}
