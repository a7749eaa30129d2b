//! Operations on tensors with arguments that make no sense, or ask for too much. One line per attempt.

use vivarium_node::bindings::vivarium::node::tensors::Tensor as Raw;
use vivarium_node::prelude::*;

use crate::reach::attempt;

/// Asks for what no operation may answer.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileOperations {
    /// shapes, slices, types, indices, memory, cost, numbers
    what: String,
}

impl Run for HostileOperations {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut tried = Attempts::default();
        match self.what.as_str() {
            "shapes" => shapes(&mut tried),
            "slices" => slices(&mut tried),
            "types" => types(&mut tried),
            "indices" => indices(&mut tried),
            "memory" => memory(&mut tried),
            "cost" => cost(&mut tried),
            "numbers" => numbers(&mut tried),
            other => return Err(Error::invalid(format!("nothing to try about `{other}`"))),
        }
        Ok(Ui::new().entry("text", tried.lines))
    }
}

/// One line per attempt.
#[derive(Default)]
struct Attempts {
    lines: Vec<String>,
}

impl Attempts {
    fn tensor(&mut self, what: &str, tensor: Tensor) {
        self.lines.push(attempt(what, tensor.check()));
    }

    fn result<T>(&mut self, what: &str, result: Result<T>) {
        self.lines.push(attempt(what, result));
    }

    /// For what answers, and must not answer this.
    fn harmless(&mut self, what: &str, is_harmless: Result<bool>) {
        let seen = match is_harmless {
            Ok(true) => Err("harmless"),
            _ => Ok(()),
        };
        self.lines.push(attempt(what, seen));
    }
}

fn line() -> Tensor {
    Tensor::from_f32([4], &[0.0, 1.0, 2.0, 3.0])
}

fn shapes(tried: &mut Attempts) {
    let ones = [1_u64; 255];
    tried.tensor("zeros of rank 255", Tensor::zeros(ones, Dtype::Uint8));
    tried.tensor("rank 255 by reshape", line().slice(0, 0, 1).reshape([1; 255]));
    tried.tensor("rank 255 by expand", line().expand([1; 255]));
    tried.tensor("rank 255 by repeat", line().repeat(ones));
    let mut deep = line();
    for _ in 0..20 {
        deep = deep.unsqueeze(0);
    }
    tried.tensor("rank 21 by unsqueeze", deep);
    tried.tensor("2^64 - 1", Tensor::zeros([u64::MAX], Dtype::Uint8));
    tried.tensor("a product of 2^64", Tensor::zeros([1 << 32, 1 << 32], Dtype::Uint8));
    tried.tensor(
        "no elements, with lengths whose product overflows",
        Tensor::zeros([1 << 33, 1 << 33, 0], Dtype::Uint8),
    );
    tried.tensor("reshape with two lengths to infer", line().reshape([-1, -1]));
    tried.tensor("reshape to a negative length", line().reshape([-2, -2]));
    tried.tensor("reshape to other elements", line().reshape([i64::MAX, i64::MAX]));
    tried.tensor("expand of what is not 1", line().expand([5]));
    tried.tensor("expand to 2^62", line().slice(0, 0, 1).expand([1 << 62]));
}

fn slices(tried: &mut Attempts) {
    for dim in [1, -2, i32::MIN, i32::MAX] {
        tried.tensor(&format!("slice of dimension {dim}"), line().slice(dim, 0, 1));
        tried.tensor(&format!("flip of dimension {dim}"), line().flip([dim]));
        tried.tensor(&format!("permute of dimension {dim}"), line().permute([dim]));
        tried.tensor(&format!("squeeze of dimension {dim}"), line().squeeze(dim));
    }
    tried.tensor("a step of 0", line().slice_step(0, 0, 4, 0));
    tried.tensor("a dimension twice", line().reshape([2, 2]).permute([0, 0]));
    let end = |slice: Tensor| slice.shape().map(|shape| shape == [0]);
    tried.harmless("a slice that begins behind the end", end(line().slice(0, i64::MAX, i64::MAX)));
    tried.harmless("a slice that ends before it begins", end(line().slice(0, 3, i64::MIN)));
    for (offset, length) in [(4, 1), (0, 5), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        tried.result(&format!("read {length} from {offset}"), line().read(offset, length));
    }
    tried.tensor("paste outside", line().paste(&line(), [1]));
    tried.tensor("paste far outside", line().paste(&line(), [u64::MAX]));
    tried.result("parts that are more than the whole", line().split([3, 3], 0));
    tried.result("parts whose sum overflows", line().split([u64::MAX, 5], 0));
    tried.tensor("a border of 2^63", line().pad([1 << 63], [1 << 63], PadMode::Constant, 0.0));
    tried.tensor("a border that mirrors more than there is", line().pad([9], [0], PadMode::Reflect, 0.0));
    let image = line().reshape([1, 1, 2, 2]);
    tried.tensor("2^40 × 2^40 pixels", image.interpolate(1 << 40, 1 << 40, InterpolateMode::Bilinear));
    tried.tensor("a filter of even length", image.separable_filter(&[1.0, 1.0], &[1.0], PadMode::Replicate));
}

fn types(tried: &mut Attempts) {
    let bytes = |length: usize, shape: &[u64], dtype| Raw::from_bytes(shape, dtype, &vec![0xff; length]);
    for (length, shape, dtype) in [
        (3, 1, Dtype::Float32),
        (15, 4, Dtype::Float32),
        (17, 4, Dtype::Float32),
        (8, 2, Dtype::Int64),
        (1, 1, Dtype::Float16),
        (0, 1, Dtype::Uint8),
        (1, 0, Dtype::Uint8),
        (4, u64::MAX / 2, Dtype::Bfloat16),
    ] {
        let result = bytes(length, &[shape], dtype).map_err(Error::from);
        tried.result(&format!("{length} bytes as {shape} of {dtype:?}"), result);
    }
    // A byte that is neither 0 nor 1 is no value of this type.
    let truth = Tensor::from_bytes([2], Dtype::Boolean, &[7, 0]).read(0, 2);
    tried.harmless("a boolean of 7", truth.map(|bytes| bytes == [1, 0]));
    let whole = Tensor::zeros([4], Dtype::Int64);
    tried.tensor("a softmax of whole numbers", whole.softmax(0));
    tried.tensor("indices that are fractions", line().index_select(0, &line()));
    tried.tensor("a mask that is none", line().masked_fill(&line(), 1.0));
    tried.tensor("a product of types that do not meet", whole.reshape([2, 2]).matmul(&line().reshape([2, 2])));
}

fn indices(tried: &mut Attempts) {
    let source = Tensor::zeros([1], Dtype::Float32);
    for index in [-1, 4, i64::from(i32::MAX), i64::MIN, i64::MAX] {
        let at = Tensor::from_bytes([1], Dtype::Int64, &index.to_le_bytes());
        tried.tensor(&format!("gather {index}"), line().gather(0, &at));
        tried.tensor(&format!("index-select {index}"), line().index_select(0, &at));
        tried.tensor(&format!("embedding {index}"), line().reshape([4, 1]).embedding(&at));
        tried.tensor(&format!("scatter {index}"), line().scatter(0, &at, &source));
        tried.tensor(&format!("scatter-add {index}"), line().scatter_add(0, &at, &source));
    }
    tried.tensor("more of the best than there are", line().topk(5, 0, true).0);
}

/// Fills memory, gives it back, and looks whether it comes again.
fn memory(tried: &mut Attempts) {
    const ELEMENTS: u64 = 4 << 20;
    for dtype in [Dtype::Float32, Dtype::Int32, Dtype::Uint8] {
        drop(Tensor::full([ELEMENTS], 42.0, dtype).check());
        let fresh = Tensor::zeros([ELEMENTS], dtype).cast(Dtype::Float32);
        let sum = fresh.binary(vivarium_node::tensor::BinaryOp::Ne, 0.0).cast(Dtype::Float32).sum().item();
        tried.harmless(&format!("zeros of {dtype:?} where there was something else"), sum.map(|sum| sum == 0.0));
    }
    drop(Tensor::full([ELEMENTS], 42.0, Dtype::Float32).check());
    let border = Tensor::zeros([1], Dtype::Float32).pad([0], [ELEMENTS - 1], PadMode::Constant, 0.0).sum().item();
    tried.harmless("a border where there was something else", border.map(|sum| sum == 0.0));
    let nothing = Tensor::zeros([0], Dtype::Float32);
    tried.result("the only element of nothing", nothing.item());
    tried.result("an element of nothing", nothing.read(0, 1));
}

fn cost(tried: &mut Attempts) {
    let one = Tensor::zeros([1, 1, 1, 1], Dtype::Float32);
    let square = one.reshape([1, 1]).expand([1 << 20, 1 << 20]);
    let image = one.expand([1, 1 << 10, 1 << 14, 1 << 14]);
    let weight = one.expand([1 << 10, 1 << 10, 3, 3]);
    let heads = one.reshape([1, 1]).expand([1 << 22, 64]);
    tried.tensor("a product of 2^60 steps", square.matmul(&square));
    tried.tensor("the same as a layer", square.linear(&square, None));
    tried.tensor("the same as a formula", Tensor::einsum("ij,jk->ik", &[&square, &square]));
    tried.tensor("a convolution of 2^51 steps", image.conv2d(&weight, None, Default::default()));
    tried.tensor("attention of 2^50 steps", heads.scaled_dot_product_attention(&heads, &heads, None, false, None));
    tried.tensor("a pool with a window of 2^26", image.max_pool2d((1 << 13, 1 << 13), (1, 1), (0, 0)));
    tried.tensor("random numbers without end", Tensor::randn([1 << 45], 1));
    tried.tensor("numbers without end", Tensor::linspace(0.0, 1.0, u64::MAX));
}

fn numbers(tried: &mut Attempts) {
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    for (start, end, step) in [
        (0.0, 1.0, 0.0),
        (0.0, 1.0, nan),
        (nan, 1.0, 1.0),
        (0.0, infinite, 1.0),
        (0.0, 1e300, 1e-300),
        (0.0, 1.0, -1.0),
    ] {
        tried.tensor(&format!("from {start} to {end} by {step}"), Tensor::arange(start, end, step));
    }
    tried.tensor("256 as a byte", Tensor::full([1], 256.0, Dtype::Uint8));
    tried.tensor("not-a-number as a whole number", Tensor::full([1], nan, Dtype::Int32));
    tried.tensor("a quantile of not-a-number", line().quantile(nan, 0, false));
    tried.tensor("a norm of not-a-number", line().norm(nan, [0], false));
    // What has no value as a whole number gets one, whatever the processor would do.
    let odd = Tensor::from_f32([4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42]).cast(Dtype::Int32);
    tried.harmless("odd numbers as whole ones", odd.cast(Dtype::Float32).read_f32().map(|values| values.len() == 4));
}

/// Tries to change the picture that it is given, which others hold too.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileOverwrite {
    image: Image,
}

impl Run for HostileOverwrite {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let image = self.image.tensor();
        let before = image.read_f32()?;
        let flat = image.reshape([-1]);
        let places = Tensor::zeros([1], Dtype::Int64);
        let other = Tensor::full([1], 0.123, Dtype::Float32);
        let everywhere = flat.binary(vivarium_node::tensor::BinaryOp::Ge, -1.0);
        let ways = [
            ("paste", flat.paste(&other, [0])),
            ("scatter", flat.scatter(0, &places, &other)),
            ("scatter-add", flat.scatter_add(0, &places, &other)),
            ("masked-fill", flat.masked_fill(&everywhere, 0.123)),
            ("add", &flat + 1.0),
            ("clamp", flat.clamp(0.123, 0.123)),
            ("view of a view", flat.flip([0]).paste(&other, [0])),
        ];
        let mut lines = Vec::new();
        for (name, changed) in ways {
            changed.check()?;
            let unchanged = image.read_f32()? == before;
            lines.push(attempt(name, if unchanged { Err("it made a copy") } else { Ok(()) }));
        }
        Ok(Ui::new().entry("text", lines))
    }
}
