//! A program of random operations, read from bytes: what a guest can ask for, one call after another, on results of its own.
//!
//! Whatever the bytes are, nothing panics, results have the shape and type that the rules say, what is held is paid for and no
//! more than allowed, and in the end nothing is charged. `cargo xtask fuzz ops` finds the bytes.
#![allow(dead_code, unreachable_pub)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use vivarium_tensor::{
    Activation, BinaryOp, Budget, ConvGeometry, DType, ErrorKind, Generator, InterpolateMode, OpContext, Operand,
    PadMode, ReduceOp, Tensor, TensorError, UnaryOp,
};

const LIMIT: u64 = 1 << 20;
/// Results that a program holds; the oldest goes.
const HELD: usize = 8;
/// A program ends within it, and calls that are still computing answer that they were stopped.
const TIME: Duration = Duration::from_millis(100);

/// Runs a program to its end.
pub fn run(bytes: &[u8]) {
    let budget = Budget::root(LIMIT);
    // Some programs put results off, some don't.
    let put_off_from = if bytes.len().is_multiple_of(2) { 1 } else { usize::MAX };
    let cx = OpContext { deadline: Some(Instant::now() + TIME), put_off_from, ..OpContext::new(Arc::clone(&budget)) };
    let one = Tensor::zeros(&[], DType::Float32, &cx).expect("one number");
    let mut program = Program { bytes, held: vec![one], cx };
    while !program.bytes.is_empty() {
        let peak = budget.peak();
        match program.step() {
            Ok(()) => {}
            // A refusal by size comes before the memory: at most workspace was paid for on the way.
            Err(refused) if refused.kind() == ErrorKind::LimitExceeded => assert!(budget.peak() <= LIMIT.max(peak)),
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
        let held: u64 = program.held.iter().map(Tensor::charged_bytes).max().unwrap_or(0);
        assert!(held <= budget.used() && budget.used() <= LIMIT, "{held} bytes held, {} charged", budget.used());
    }
    drop(program);
    assert_eq!(budget.used(), 0, "something stays charged");
}

struct Program<'a> {
    bytes: &'a [u8],
    held: Vec<Tensor>,
    cx: OpContext,
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Mostly small, sometimes as large as numbers get.
    fn length(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small % 9),
            byte @ 200..=239 => 1 << (byte - 200 + 3),
            240..=247 => u64::from(self.byte()) * 257,
            248 => u64::MAX,
            249 => 1 << 63,
            250 => u64::from(u32::MAX),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    fn signed(&mut self) -> i64 {
        let length = self.length() as i64;
        if self.byte().is_multiple_of(3) { length.wrapping_neg() } else { length }
    }

    fn dim(&mut self) -> i32 {
        match self.byte() {
            250 => i32::MIN,
            251 => i32::MAX,
            byte => i32::from(byte % 9) - 4,
        }
    }

    fn number(&mut self) -> f64 {
        match self.byte() {
            250 => f64::NAN,
            251 => f64::INFINITY,
            252 => f64::NEG_INFINITY,
            253 => f64::MIN_POSITIVE,
            254 => 1e300,
            byte => f64::from(byte as i8) / 4.0,
        }
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = match self.byte() {
            byte @ 0..=250 => byte % 6,
            byte => byte,
        };
        (0..count).map(|_| one(self)).collect()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    fn dtype(&mut self) -> DType {
        self.one_of(&DType::ALL)
    }

    fn held(&mut self) -> Tensor {
        let index = usize::from(self.byte());
        self.held[index % self.held.len()].clone()
    }

    fn keep(&mut self, result: Tensor) {
        assert!(result.rank() <= vivarium_tensor::MAX_RANK);
        assert_eq!(result.elements(), result.dims().iter().product::<usize>());
        if self.held.len() == HELD {
            self.held.remove(0);
        }
        self.held.push(result);
    }

    fn step(&mut self) -> Result<(), TensorError> {
        let kind = self.byte() % 40;
        let result = match kind {
            0..=5 => self.make(kind)?,
            6..=13 => self.view(kind)?,
            14..=22 => self.compute(kind)?,
            23..=30 => self.rearrange(kind)?,
            _ => self.layer(kind)?,
        };
        self.keep(result);
        Ok(())
    }

    fn make(&mut self, kind: u8) -> Result<Tensor, TensorError> {
        let cx = self.cx.clone();
        let shape = self.many(Self::length);
        let dtype = self.dtype();
        let made = match kind {
            0 => Tensor::zeros(&shape, dtype, &cx)?,
            1 => Tensor::full(&shape, self.number(), dtype, &cx)?,
            2 => {
                let data = self.many(Self::byte);
                Tensor::from_bytes(&shape, dtype, &data, &cx)?
            }
            3 => return Tensor::rand(&shape, 7, self.one_of(&[Generator::Pytorch, Generator::Philox]), &cx),
            4 => return Tensor::arange(self.number(), self.number(), self.number(), &cx),
            _ => return Tensor::linspace(self.number(), self.number(), self.length(), &cx),
        };
        assert_eq!((made.shape(), made.dtype()), (shape, dtype));
        Ok(made)
    }

    fn view(&mut self, kind: u8) -> Result<Tensor, TensorError> {
        let cx = self.cx.clone();
        let tensor = self.held();
        let result = match kind {
            6 => {
                let shape = self.many(Self::signed);
                let view = tensor.reshape(&shape, &cx)?;
                assert_eq!(view.elements(), tensor.elements());
                assert!(shape.iter().zip(view.shape()).all(|(asked, got)| *asked == -1 || *asked as u64 == got));
                view
            }
            7 => {
                let view = tensor.permute(&self.many(Self::dim), &cx)?;
                assert_eq!(sorted(view.shape()), sorted(tensor.shape()));
                view
            }
            8 => {
                let shape = self.many(Self::signed);
                let view = tensor.expand(&shape, &cx)?;
                assert_eq!(view.rank(), shape.len());
                view
            }
            9 => {
                let view = tensor.slice(self.dim(), self.signed(), self.signed(), self.length(), &cx)?;
                assert_eq!(view.rank(), tensor.rank());
                assert!(view.shape().iter().zip(tensor.shape()).all(|(part, whole)| *part <= whole));
                view
            }
            10 => tensor.squeeze(self.dim(), &cx)?,
            11 => tensor.unsqueeze(self.dim(), &cx)?,
            12 => {
                let view = tensor.flip(&self.many(Self::dim), &cx)?;
                assert_eq!(view.shape(), tensor.shape());
                view
            }
            _ => {
                let bytes = tensor.read(self.length(), self.length(), &cx)?;
                assert!(bytes.len() <= tensor.elements() * tensor.dtype().size());
                return tensor.contiguous(&cx);
            }
        };
        assert!(result.shares_storage(&tensor) || result.elements() == 0 || !tensor.is_contiguous() || kind == 6);
        assert_eq!(result.dtype(), tensor.dtype());
        Ok(result)
    }

    fn compute(&mut self, kind: u8) -> Result<Tensor, TensorError> {
        let cx = self.cx.clone();
        let (tensor, other) = (self.held(), self.held());
        match kind {
            14 => {
                let dtype = self.dtype();
                let result = tensor.cast(dtype, &cx)?;
                assert_eq!((result.shape(), result.dtype()), (tensor.shape(), dtype));
                Ok(result)
            }
            15 => {
                let op = self.one_of(&[
                    UnaryOp::Abs,
                    UnaryOp::Neg,
                    UnaryOp::Exp,
                    UnaryOp::Log,
                    UnaryOp::Sqrt,
                    UnaryOp::Reciprocal,
                    UnaryOp::Tanh,
                    UnaryOp::Gelu,
                    UnaryOp::Round,
                    UnaryOp::LogicalNot,
                ]);
                let result = tensor.unary(op, &cx)?;
                assert_eq!(result.shape(), tensor.shape());
                Ok(result)
            }
            16 | 17 => {
                let op = self.one_of(&[
                    BinaryOp::Add,
                    BinaryOp::Sub,
                    BinaryOp::Mul,
                    BinaryOp::Div,
                    BinaryOp::Pow,
                    BinaryOp::Fmod,
                    BinaryOp::Remainder,
                    BinaryOp::Maximum,
                    BinaryOp::Atan2,
                    BinaryOp::Eq,
                    BinaryOp::Lt,
                    BinaryOp::LogicalXor,
                ]);
                if kind == 17 {
                    let result = tensor.binary(op, Operand::Scalar(self.number()), &cx)?;
                    assert_eq!(result.shape(), tensor.shape());
                    return Ok(result);
                }
                let result = tensor.binary(op, Operand::Tensor(&other), &cx)?;
                assert_eq!(Some(result.shape()), broadcast(&tensor.shape(), &other.shape()));
                Ok(result)
            }
            18 => tensor.binary_from(BinaryOp::Pow, self.number(), &cx),
            19 => tensor.clamp(Some(self.number()), Some(self.number()), &cx),
            20 => {
                let op = self.one_of(&[ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Prod, ReduceOp::Amin, ReduceOp::Any]);
                let (dims, keep) = (self.many(Self::dim), self.byte().is_multiple_of(2));
                let result = tensor.reduce(op, &dims, keep, &cx)?;
                if keep {
                    assert_eq!(result.rank(), tensor.rank());
                } else if dims.is_empty() {
                    assert_eq!(result.rank(), 0);
                }
                Ok(result)
            }
            21 => tensor.where_(&other.cast(DType::Boolean, &cx)?, Operand::Scalar(self.number()), &cx),
            _ => {
                tensor.activate(self.one_of(&[Activation::Elu, Activation::Mish, Activation::Erf]), self.number(), &cx)
            }
        }
    }

    fn rearrange(&mut self, kind: u8) -> Result<Tensor, TensorError> {
        let cx = self.cx.clone();
        let (tensor, other, third) = (self.held(), self.held(), self.held());
        match kind {
            23 => {
                let dim = self.dim();
                let result = Tensor::cat(&[&tensor, &other], dim, &cx)?;
                assert_eq!(result.elements(), tensor.elements() + other.elements());
                Ok(result)
            }
            24 => {
                let result = Tensor::stack(&[&tensor, &other], self.dim(), &cx)?;
                assert_eq!((result.rank(), result.elements()), (tensor.rank() + 1, 2 * tensor.elements()));
                Ok(result)
            }
            25 => tensor.repeat(&self.many(Self::length), &cx),
            26 => tensor.paste(&other, &self.many(Self::length), &cx),
            27 => {
                let mode = self.one_of(&[PadMode::Constant, PadMode::Reflect, PadMode::Replicate, PadMode::Circular]);
                let (before, after) = (self.many(Self::length), self.many(Self::length));
                let result = tensor.pad(&before, &after, mode, self.number(), &cx)?;
                for ((got, had), (before, after)) in
                    result.shape().iter().zip(tensor.shape()).zip(before.iter().zip(&after))
                {
                    assert_eq!(*got, had + before + after);
                }
                Ok(result)
            }
            28 => {
                let index = other.cast(DType::Int64, &cx)?;
                match self.byte() % 4 {
                    0 => tensor.gather(self.dim(), &index, &cx),
                    1 => tensor.index_select(self.dim(), &index, &cx),
                    2 => tensor.scatter_add(self.dim(), &index, &third, &cx),
                    _ => tensor.embedding(&index, &cx),
                }
            }
            29 => {
                let parts = tensor.split(&self.many(Self::length), self.dim(), &cx)?;
                assert_eq!(parts.iter().map(Tensor::elements).sum::<usize>(), tensor.elements());
                parts.into_iter().next().map_or_else(|| tensor.contiguous(&cx), Ok)
            }
            _ => tensor.roll(&self.many(Self::signed), &self.many(Self::dim), &cx),
        }
    }

    fn layer(&mut self, kind: u8) -> Result<Tensor, TensorError> {
        let cx = self.cx.clone();
        let (tensor, other, third) = (self.held(), self.held(), self.held());
        match kind {
            31 => tensor.matmul(&other, &cx),
            32 => tensor.linear(&other, Some(&third), &cx),
            33 => {
                let pair = |program: &mut Self| [program.length(), program.length()];
                let (stride, padding, dilation) = (pair(self), pair(self), pair(self));
                let geometry = ConvGeometry { stride, padding, dilation, groups: self.length() };
                tensor.conv2d(&other, None, &geometry, &cx)
            }
            34 => tensor.scaled_dot_product_attention(&other, &third, None, self.byte().is_multiple_of(2), None, &cx),
            35 => tensor.softmax(self.dim(), &cx),
            36 => tensor.group_norm(self.length(), None, None, self.number(), &cx),
            37 => tensor.sort(self.dim(), self.byte().is_multiple_of(2), &cx).map(|(values, _)| values),
            38 => tensor.topk(self.length(), self.dim(), true, &cx).map(|(_, places)| places),
            _ => {
                let mode = self.one_of(&[InterpolateMode::Nearest, InterpolateMode::Bicubic, InterpolateMode::Lanczos]);
                let (height, width) = (self.length(), self.length());
                let result = tensor.interpolate(height, width, mode, &cx)?;
                assert_eq!(result.shape()[2..], [height, width]);
                Ok(result)
            }
        }
    }
}

fn sorted(mut lengths: Vec<u64>) -> Vec<u64> {
    lengths.sort_unstable();
    lengths
}

fn broadcast(a: &[u64], b: &[u64]) -> Option<Vec<u64>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[u64], index: usize| (index + shape.len()).checked_sub(rank).map_or(1, |place| shape[place]);
    (0..rank)
        .map(|index| match (at(a, index), at(b, index)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
