//! Work that takes long: what an interrupt has to stop, and what runs side by side.

use std::time::Duration;

use vivarium_node::prelude::*;
use vivarium_node::tensor::{ConvGeometry, InterpolateMode};

/// What keeps a node busy.
#[derive(Choice, Clone, Copy)]
enum Work {
    /// A loop of the guest, without a host call.
    Loop,
    /// The loop, as long as it takes to count to `size`.
    Count,
    /// A timer.
    Wait,
    Matmul,
    Conv2d,
    Attention,
    Sort,
    Cumsum,
    Randn,
    Interpolate,
    Exp,
    Reduce,
    Contiguous,
}

/// Keeps busy with one thing, nearly for ever when `size` is large.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestWork {
    work: Work,
    #[input(default = 1000, min = 1, max = 1_000_000_000_000)]
    size: u64,
    /// Makes equal work different.
    #[input(optional, default = 0)]
    seed: u64,
    value: Option<Value>,
}

impl Run for TestWork {
    type Output = Option<Value>;

    fn run(self) -> Result<Option<Value>> {
        match self.work {
            Work::Loop => loop {
                std::hint::spin_loop();
            },
            Work::Count => {
                let mut sum = self.seed;
                for number in 0..self.size {
                    sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
                }
            }
            Work::Wait => std::thread::sleep(Duration::from_millis(self.size)),
            // Until the host says that it is enough.
            operation => loop {
                compute(operation, self.size, self.seed)?;
            },
        }
        Ok(self.value)
    }
}

fn compute(work: Work, size: u64, seed: u64) -> Result<()> {
    let square = || Tensor::full([size, size], 0.5, Dtype::Float32);
    let image = || Tensor::full([1, 64, size, size], 0.5, Dtype::Float32);
    let done = match work {
        Work::Matmul => square().matmul(&square()),
        Work::Conv2d => {
            image().conv2d(&Tensor::full([64, 64, 3, 3], 0.1, Dtype::Float32), None, ConvGeometry::default())
        }
        Work::Attention => {
            let heads = Tensor::full([1, 8, size, 64], 0.1, Dtype::Float32);
            heads.scaled_dot_product_attention(&heads, &heads, None, false, None)
        }
        Work::Sort => Tensor::arange(0.0, (size * size) as f64, 1.0).sort(0, true).0,
        Work::Cumsum => square().cumsum(1),
        Work::Randn => Tensor::randn([size, size], seed),
        Work::Interpolate => image().interpolate(size * 2, size * 2, InterpolateMode::Lanczos),
        Work::Exp => square().exp(),
        Work::Reduce => square().reduce(vivarium_node::tensor::ReduceOp::Sum, [0], false),
        Work::Contiguous => square().permute([1, 0]).contiguous(),
        Work::Loop | Work::Count | Work::Wait => return Ok(()),
    };
    done.check().map(drop)
}

/// Answers with nodes like itself: as many as it is told to, each of which does the same, one level less.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestGrow {
    #[input(default = 1, min = 0, max = 100_000)]
    nodes: u64,
    #[input(default = 1, min = 0, max = 1_000_000)]
    levels: u64,
}

impl Run for TestGrow {
    type Output = Outcome<i64>;

    fn run(self) -> Result<Outcome<i64>> {
        if self.levels == 0 || self.nodes == 0 {
            return Ok(Outcome::Outputs(0));
        }
        let mut expansion = Expansion::new();
        let mut first = None;
        for index in 0..self.nodes {
            let node = expansion.node(&index.to_string(), "TestGrow");
            let output = node.input("nodes", self.nodes)?.input("levels", self.levels - 1)?.output(0);
            first.get_or_insert(output);
        }
        match first {
            Some(first) => Ok(Outcome::Expansion(expansion.slot(first))),
            None => Ok(Outcome::Outputs(0)),
        }
    }
}

/// Answers with much text, or leaves a list behind that takes much memory.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestText {
    #[input(default = 1000, min = 0, max = 10_000_000)]
    bytes: u64,
    #[input(optional, default = 0)]
    seed: u64,
}

impl Run for TestText {
    type Output = String;

    fn run(self) -> Result<String> {
        let digit = char::from_digit((self.seed % 10) as u32, 10).unwrap_or('0');
        Ok(String::from(digit).repeat(self.bytes as usize))
    }
}
