//! `+ - * / %` and named functions for tensors, images and masks, with each other and with numbers.

use std::ops::{Add, Div, Mul, Neg, Rem, Sub};

use super::{BinaryOp, ReduceOp, Rhs, Tensor, UnaryOp};
use crate::media::{Image, Mask};

macro_rules! operator {
    ($type:ty: $($trait:ident $method:ident $op:ident),*) => {$(
        impl $trait<f64> for &$type {
            type Output = $type;
            fn $method(self, rhs: f64) -> $type {
                Tensor::binary(self.as_ref(), BinaryOp::$op, rhs).into()
            }
        }
        impl $trait<f64> for $type {
            type Output = $type;
            fn $method(self, rhs: f64) -> $type {
                $trait::$method(&self, rhs)
            }
        }
        impl $trait<&$type> for f64 {
            type Output = $type;
            fn $method(self, rhs: &$type) -> $type {
                Tensor::binary_from(rhs.as_ref(), BinaryOp::$op, self).into()
            }
        }
        impl $trait<$type> for f64 {
            type Output = $type;
            fn $method(self, rhs: $type) -> $type {
                $trait::$method(self, &rhs)
            }
        }
        impl $trait<&$type> for &$type {
            type Output = $type;
            fn $method(self, rhs: &$type) -> $type {
                Tensor::binary(self.as_ref(), BinaryOp::$op, Rhs::Tensor(rhs.as_ref())).into()
            }
        }
        impl $trait<$type> for &$type {
            type Output = $type;
            fn $method(self, rhs: $type) -> $type {
                $trait::$method(self, &rhs)
            }
        }
        impl $trait<&$type> for $type {
            type Output = $type;
            fn $method(self, rhs: &$type) -> $type {
                $trait::$method(&self, rhs)
            }
        }
        impl $trait<$type> for $type {
            type Output = $type;
            fn $method(self, rhs: $type) -> $type {
                $trait::$method(&self, &rhs)
            }
        }
    )*};
}

macro_rules! operators {
    ($($type:ty),*) => {$(
        operator!($type: Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Remainder);

        impl Neg for &$type {
            type Output = $type;
            fn neg(self) -> $type {
                Tensor::unary(self.as_ref(), UnaryOp::Neg).into()
            }
        }
        impl Neg for $type {
            type Output = $type;
            fn neg(self) -> $type {
                -&self
            }
        }
    )*};
}

operators!(Tensor, Image, Mask);

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident $op:ident),* $(,)?) => {
        /// Functions of each element.
        impl Tensor {$(
            $(#[$doc])*
            #[must_use]
            pub fn $method(&self) -> Self {
                self.unary(UnaryOp::$op)
            }
        )*}
    };
}

unary! {
    /// Without the sign.
    abs Abs,
    /// e to the power of each element.
    exp Exp,
    /// The natural logarithm.
    log Log,
    /// The square root.
    sqrt Sqrt,
    /// Each element times itself.
    square Square,
    /// The sine of an angle in radians.
    sin Sin,
    /// The cosine of an angle in radians.
    cos Cos,
    /// Hyperbolic tangent.
    tanh Tanh,
    /// 1 / (1 + e^-x).
    sigmoid Sigmoid,
    /// The next whole number below.
    floor Floor,
    /// The next whole number above.
    ceil Ceil,
    /// The nearest whole number, halves to the even one.
    round Round,
    /// True where the element is zero.
    logical_not LogicalNot,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident $op:ident),* $(,)?) => {
        /// Functions of two elements; `rhs` is a tensor or a number.
        impl Tensor {$(
            $(#[$doc])*
            #[must_use]
            pub fn $method<'a>(&self, rhs: impl Into<Rhs<'a>>) -> Self {
                self.binary(BinaryOp::$op, rhs)
            }
        )*}
    };
}

binary! {
    /// To the power of `rhs`.
    pow Pow,
    /// The smaller one.
    minimum Minimum,
    /// The larger one.
    maximum Maximum,
    /// True where both are equal.
    equal Eq,
    /// True where they differ.
    not_equal Ne,
    /// True where `self` is smaller.
    less Lt,
    /// True where `self` is not larger.
    less_equal Le,
    /// True where `self` is larger.
    greater Gt,
    /// True where `self` is not smaller.
    greater_equal Ge,
}

/// One value out of all elements.
impl Tensor {
    /// The average.
    #[must_use]
    pub fn mean(&self) -> Self {
        self.reduce(ReduceOp::Mean, [], false)
    }

    /// The sum.
    #[must_use]
    pub fn sum(&self) -> Self {
        self.reduce(ReduceOp::Sum, [], false)
    }

    /// The smallest.
    #[must_use]
    pub fn amin(&self) -> Self {
        self.reduce(ReduceOp::Amin, [], false)
    }

    /// The largest.
    #[must_use]
    pub fn amax(&self) -> Self {
        self.reduce(ReduceOp::Amax, [], false)
    }
}
