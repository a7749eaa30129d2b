//! Activations that UnaryOp does not have; some take a parameter.

use crate::cpu::kernels::activation;
use crate::cpu::simd::map1;
use crate::device::DeviceCode;
use crate::{DType, OpContext, Tensor, TensorError};

/// Functions of each element, with a parameter where they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x, or x times the parameter where negative.
    LeakyRelu,
    /// x, or parameter · (eˣ − 1) where negative.
    Elu,
    /// ln(1 + e^(parameter·x)) / parameter.
    Softplus,
    /// x · tanh(ln(1 + eˣ)).
    Mish,
    /// x · sigmoid(1.702·x).
    QuickGelu,
    /// The approximation of gelu by the hyperbolic tangent.
    GeluTanh,
    /// The error function.
    Erf,
    /// eˣ − 1, exact near zero.
    Expm1,
    /// ln(1 + x), exact near zero.
    Log1p,
    /// The logarithm to base 2.
    Log2,
    /// x · clamp(x + 3, 0, 6) / 6.
    HardSwish,
}

impl Tensor {
    /// One activation on every element. `parameter` is the slope of `LeakyRelu`, the alpha of `Elu`, the beta of
    /// `Softplus`; the others ignore it. Integers answer float32.
    pub fn activate(&self, op: Activation, parameter: f64, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "activate";
        if !parameter.is_finite() || (op == Activation::Softplus && parameter <= 0.0) {
            return Err(TensorError::argument(OP, "parameter", format!("is {parameter}, which {op:?} cannot take")));
        }
        let dtype = if self.dtype().is_float() { self.dtype() } else { DType::Float32 };
        let parameter = parameter as f32;
        let code = op.float_code().with([f64::from(parameter), 0.0]);
        self.map_floats(OP, dtype, &code, cx, move |x, out| activation(op, parameter, x, out))
    }

    /// 255 times each float, cut to 0..255 and truncated, as uint8: what ComfyUI saves. Not-a-number becomes 0.
    pub fn to_pixels(&self, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "to-pixels";
        self.check_float(OP, "self")?;
        let code = DeviceCode::floats("fminf(fmaxf(255.0f * a, 0.0f), 255.0f)");
        // The cast to bytes cuts and truncates.
        self.map_floats(OP, DType::Uint8, &code, cx, |x, out| map1(x, out, |v: f32| 255.0 * v))
    }
}
