//! The cases: their names say what they are, as in `cargo xtask bench tensor`.

use anyhow::{Context, Result, bail, ensure};
use vivarium_tensor::{DType, Generator, OpContext, Tensor};

/// `KIND NUMBERS… [f16|bf16]`: few and telling, of sizes that Stable Diffusion and pictures of 2048² have.
pub(crate) const CASES: &[&str] = &[
    "matmul 1024 1024 1024",
    "matmul 2048 2048 2048",
    "matmul 77 768 768",
    "linear 4096 320 1280",
    "linear 4096 320 1280 f16",
    "linear 4096 320 1280 bf16",
    "conv 320 320 64 3",
    "conv 256 256 128 3",
    "conv 320 320 64 1",
    "attention 8 4096 40",
    "softmax 8192 1024",
    "layer_norm 4096 320",
    "gelu 4096 320",
    "bilinear 2048 1024",
    "bilinear 1024 1536",
    "bicubic 1024 1536",
    "lanczos 2048 1024",
    "fft 1024",
];

/// What is computed. No biases: not every library adds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `[m,k]` by `[k,n]`.
    Matmul { m: usize, k: usize, n: usize },
    /// `[m,k]` by the transpose of `[n,k]`.
    Linear { m: usize, k: usize, n: usize },
    /// `[1,inputs,side,side]` with `[outputs,inputs,window,window]`, padded to the same size.
    Conv { inputs: usize, outputs: usize, side: usize, window: usize },
    /// Three of `[1,heads,tokens,width]`.
    Attention { heads: usize, tokens: usize, width: usize },
    /// Over the last dimension of `[rows,width]`.
    Softmax { rows: usize, width: usize },
    /// Over the last dimension of `[rows,width]`, with weight and bias of `[width]`.
    LayerNorm { rows: usize, width: usize },
    /// Exact, of `[rows,width]`.
    Gelu { rows: usize, width: usize },
    /// A square picture of three interleaved channels, without antialiasing.
    Bilinear { from: usize, to: usize },
    /// The same with PyTorch's cubic, whose constant is -3/4.
    Bicubic { from: usize, to: usize },
    /// The same by Pillow's lanczos on 8 bits, with antialiasing.
    Lanczos { from: usize, to: usize },
    /// Complex, over both dimensions of `[side,side]`.
    Fft { side: usize },
}

/// A case with its inputs.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) dtype: DType,
    /// Shape and numbers; the numbers are such as `dtype` has.
    pub(crate) inputs: Vec<(Vec<usize>, Vec<f32>)>,
}

impl Case {
    pub(crate) fn new(name: &'static str, cx: &OpContext) -> Result<Case> {
        let dtype = match name.rsplit(' ').next() {
            Some("f16") => DType::Float16,
            Some("bf16") => DType::Bfloat16,
            _ => DType::Float32,
        };
        let kind = Kind::parse(name)?;
        let shapes = kind.input_shapes();
        let inputs = shapes.into_iter().zip(1..).map(|(shape, seed)| {
            let numbers = kind.noise(&shape, seed, cx)?.cast(dtype, cx)?.cast(DType::Float32, cx)?.to_vec(cx)?;
            Ok((shape, numbers))
        });
        Ok(Case { name, kind, dtype, inputs: inputs.collect::<Result<_>>()? })
    }

    /// The numbers of an input.
    pub(crate) fn input(&self, index: usize) -> &[f32] {
        &self.inputs[index].1
    }

    /// Elements of the result.
    pub(crate) fn result_elements(&self) -> usize {
        match self.kind {
            Kind::Matmul { m, n, .. } | Kind::Linear { m, n, .. } => m * n,
            Kind::Conv { outputs, side, .. } => outputs * side * side,
            Kind::Bilinear { to, .. } | Kind::Bicubic { to, .. } | Kind::Lanczos { to, .. } => to * to * 3,
            _ => self.inputs[0].1.len(),
        }
    }

    /// # Errors
    /// When two results are not the same but for rounding.
    pub(crate) fn compare(&self, expected: &[f32], found: &[f32]) -> Result<()> {
        ensure!(expected.len() == found.len(), "{} numbers instead of {}", found.len(), expected.len());
        let (margin, tolerance) = self.kind.margin_and_tolerance(self.dtype);
        let counts = |index: usize| match self.kind {
            Kind::Bilinear { to, .. } | Kind::Bicubic { to, .. } | Kind::Lanczos { to, .. } => {
                let inside = |place: usize| (margin..to - margin).contains(&place);
                inside(index / 3 % to) && inside(index / 3 / to)
            }
            _ => true,
        };
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
            // Not-a-number must fail.
            let near = (expected - found).abs() <= tolerance * largest;
            ensure!(near || !counts(index), "{found} instead of {expected} at {index} of {}", self.result_elements());
        }
        Ok(())
    }
}

impl Kind {
    fn parse(name: &str) -> Result<Kind> {
        let mut parts = name.split(' ');
        let kind = parts.next().unwrap_or_default();
        let numbers: Vec<usize> = parts.filter_map(|part| part.parse().ok()).collect();
        Ok(match (kind, numbers[..].as_ref()) {
            ("matmul", &[m, k, n]) => Kind::Matmul { m, k, n },
            ("linear", &[m, k, n]) => Kind::Linear { m, k, n },
            ("conv", &[inputs, outputs, side, window]) => Kind::Conv { inputs, outputs, side, window },
            ("attention", &[heads, tokens, width]) => Kind::Attention { heads, tokens, width },
            ("softmax", &[rows, width]) => Kind::Softmax { rows, width },
            ("layer_norm", &[rows, width]) => Kind::LayerNorm { rows, width },
            ("gelu", &[rows, width]) => Kind::Gelu { rows, width },
            ("bilinear", &[from, to]) => Kind::Bilinear { from, to },
            ("bicubic", &[from, to]) => Kind::Bicubic { from, to },
            ("lanczos", &[from, to]) => Kind::Lanczos { from, to },
            ("fft", &[side]) => Kind::Fft { side },
            _ => bail!("`{name}` is no case"),
        })
    }

    fn input_shapes(self) -> Vec<Vec<usize>> {
        match self {
            Kind::Matmul { m, k, n } => vec![vec![m, k], vec![k, n]],
            Kind::Linear { m, k, n } => vec![vec![m, k], vec![n, k]],
            Kind::Conv { inputs, outputs, side, window } => {
                vec![vec![1, inputs, side, side], vec![outputs, inputs, window, window]]
            }
            Kind::Attention { heads, tokens, width } => vec![vec![1, heads, tokens, width]; 3],
            Kind::LayerNorm { rows, width } => vec![vec![rows, width], vec![width], vec![width]],
            Kind::Softmax { rows, width } | Kind::Gelu { rows, width } => vec![vec![rows, width]],
            Kind::Bilinear { from, .. } | Kind::Bicubic { from, .. } | Kind::Lanczos { from, .. } => {
                vec![vec![1, from, from, 3]]
            }
            Kind::Fft { side } => vec![vec![side, side, 2]],
        }
    }

    /// Normal numbers; for pictures whole steps of 8 bits, which are the same to those who compute with bytes, so far from black
    /// and white that no filter overshoots them.
    fn noise(self, shape: &[usize], seed: u64, cx: &OpContext) -> Result<Tensor> {
        let lengths: Vec<u64> = shape.iter().map(|length| *length as u64).collect();
        if !matches!(self, Kind::Bilinear { .. } | Kind::Bicubic { .. } | Kind::Lanczos { .. }) {
            return Ok(Tensor::randn(&lengths, seed, Generator::Philox, cx)?);
        }
        let mut numbers: Vec<f32> = Tensor::rand(&lengths, seed, Generator::Philox, cx)?.to_vec(cx)?;
        numbers.iter_mut().for_each(|number| *number = (*number * 127.0 + 64.0).round() / 255.0);
        Tensor::from_vec(&lengths, numbers, cx).context("a picture")
    }

    /// How many pixels at the edges don't count, and by how much of the largest number results may differ.
    fn margin_and_tolerance(self, dtype: DType) -> (usize, f32) {
        match (self, dtype) {
            // Beyond the edge, PyTorch repeats the last pixel; image libraries give its weight to the others.
            (Kind::Bicubic { .. }, _) => (4, 1e-4),
            // PyTorch's places between pixels, and so ours, are float32.
            (Kind::Bilinear { .. }, _) => (0, 1e-4),
            // Three steps of 8 bits: some round to them after each direction, some at the end, and with weights of 8 to 16 bits.
            (Kind::Lanczos { .. }, _) => (0, 4.0 / 255.0),
            (_, DType::Float16) => (0, 1e-3),
            (_, DType::Bfloat16) => (0, 8e-3),
            _ => (0, 1e-5),
        }
    }
}
