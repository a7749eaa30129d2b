//! Random numbers that a seed determines, on every machine alike.

use crate::cpu::fill;
use crate::cpu::random::{MersenneTwister, Philox, normal_like_pytorch, uniform_like_pytorch};
use crate::device::{Series, Task};
use crate::shape::Layout;
use crate::storage::Allocation;
use crate::{OpContext, Shape, Tensor, TensorError};

/// Where random numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generator {
    /// PyTorch's generator of the CPU, as after `torch.manual_seed(seed)`; one number after the other.
    Pytorch,
    /// Philox 4×32-10, which computes any part on its own.
    Philox,
}

impl Tensor {
    /// Numbers spread evenly over 0..1 (1 excluded), as float32.
    pub fn rand(shape: &[u64], seed: u64, generator: Generator, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "rand";
        random(OP, shape, (generator, Series::Uniform { seed }), cx, |out| match generator {
            Generator::Pytorch => uniform_like_pytorch(OP, &mut MersenneTwister::new(seed), out, cx),
            Generator::Philox => {
                let philox = Philox::new(seed);
                fill(OP, out, cx, &|start, chunk| philox.uniform(start, chunk))
            }
        })
    }

    /// Numbers of the standard normal distribution, as float32. From [`Generator::Pytorch`], `torch.randn` gives the
    /// same.
    pub fn randn(shape: &[u64], seed: u64, generator: Generator, cx: &OpContext) -> Result<Tensor, TensorError> {
        const OP: &str = "randn";
        random(OP, shape, (generator, Series::Normal { seed }), cx, |out| match generator {
            Generator::Pytorch => normal_like_pytorch(OP, &mut MersenneTwister::new(seed), out, cx),
            Generator::Philox => {
                let philox = Philox::new(seed);
                fill(OP, out, cx, &|start, chunk| philox.normal(start, chunk))
            }
        })
    }
}

/// Only Philox has a kernel: what PyTorch's generator answers takes one number after the other, to the bit.
fn random(
    op: &'static str,
    shape: &[u64],
    (generator, series): (Generator, Series),
    cx: &OpContext,
    fill: impl FnOnce(&mut [f32]) -> Result<(), TensorError>,
) -> Result<Tensor, TensorError> {
    let shape = Shape::new(op, shape)?;
    if generator == Generator::Philox
        && let Some(result) = cx.on_device(op, Task::Create { shape, series })?
    {
        return Ok(result);
    }
    let mut result = Allocation::<f32>::unfilled(op, shape.elements(), cx)?;
    fill(&mut result.values)?;
    Ok(Tensor::of(Layout::contiguous(shape), result))
}
