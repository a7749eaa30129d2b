//! Many host calls, and many bytes across the boundary: what `tests/bench` measures.

use vivarium_node::bindings::vivarium::node::tensors::Tensor as RawTensor;
use vivarium_node::context::check_interrupted;
use vivarium_node::prelude::*;

/// Calls the host many times, and nothing else.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestHostCalls {
    #[input(default = 1000, min = 0, max = 100_000_000)]
    count: u64,
    /// Asked for its element type each time; without it, the call is the smallest that there is.
    image: Option<Image>,
}

impl Run for TestHostCalls {
    type Output = u64;

    fn run(self) -> Result<u64> {
        for _ in 0..self.count {
            match &self.image {
                Some(image) => drop(image.dtype()?),
                None => check_interrupted()?,
            }
        }
        Ok(self.count)
    }
}

/// Copies the beginning of an image into the guest, again and again.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestReadBytes {
    image: Image,
    /// Of one piece.
    #[input(default = 1_048_576, min = 4, max = 67_108_864)]
    bytes: u64,
    #[input(default = 1, min = 0, max = 1_000_000)]
    pieces: u64,
}

impl Run for TestReadBytes {
    type Output = u64;

    fn run(self) -> Result<u64> {
        let mut read = 0;
        for _ in 0..self.pieces {
            read += self.image.read(0, self.bytes / 4)?.len() as u64;
        }
        Ok(read)
    }
}

/// Copies zeros out of the guest, again and again, as one-dimensional float32 tensors.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestWriteBytes {
    /// Of one piece.
    #[input(default = 1_048_576, min = 4, max = 67_108_864)]
    bytes: u64,
    #[input(default = 1, min = 0, max = 1_000_000)]
    pieces: u64,
}

impl Run for TestWriteBytes {
    type Output = u64;

    fn run(self) -> Result<u64> {
        let length = self.bytes / 4;
        let data = vec![0; usize::try_from(length * 4).map_err(|error| Error::invalid(error.to_string()))?];
        for _ in 0..self.pieces {
            // Not through the SDK's `Tensor::from_bytes`, which cuts long data into pieces.
            RawTensor::from_bytes(&[length], Dtype::Float32, &data)?;
        }
        Ok(length * 4 * self.pieces)
    }
}

/// Runs a loop over floats in the guest's own memory, again and again.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestKernel {
    /// How many floats.
    #[input(default = 65_536, min = 1, max = 16_777_216)]
    length: u32,
    #[input(default = 1, min = 0, max = 1_000_000)]
    rounds: u64,
}

impl Run for TestKernel {
    type Output = f64;

    fn run(self) -> Result<f64> {
        let mut values: Vec<f32> = (0..self.length).map(|place| place as f32 / self.length as f32).collect();
        for _ in 0..self.rounds {
            crate::kernel::smoothstep(std::hint::black_box(&mut values));
        }
        Ok(values.iter().map(|value| f64::from(*value)).sum())
    }
}
