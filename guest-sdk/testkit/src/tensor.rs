//! Tensors with numbers in them that a test can look at.

use vivarium_tensor::{Budget, DType, OpContext, Tensor as HostTensor};

/// A tensor of the host.
#[derive(Clone, Debug)]
pub struct Tensor(pub(crate) HostTensor);

/// Tests may hold what they like; the nodes that they call may not.
pub(crate) fn unlimited() -> OpContext {
    OpContext::new(Budget::root(u64::MAX))
}

impl Tensor {
    /// Of float32 numbers in row-major order.
    ///
    /// # Panics
    /// When their number does not fill the shape.
    #[must_use]
    #[track_caller]
    pub fn new(shape: impl AsRef<[u64]>, numbers: impl Into<Vec<f32>>) -> Self {
        let tensor = HostTensor::from_vec(shape.as_ref(), numbers.into(), &unlimited());
        Self(tensor.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Every element the same, of float32.
    ///
    /// # Panics
    /// When there is no such shape.
    #[must_use]
    #[track_caller]
    pub fn filled(shape: impl AsRef<[u64]>, number: f64) -> Self {
        let tensor = HostTensor::full(shape.as_ref(), number, DType::Float32, &unlimited());
        Self(tensor.unwrap_or_else(|error| panic!("{error}")))
    }

    /// With elements of another type.
    ///
    /// # Panics
    /// When there is no memory for it.
    #[must_use]
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Self {
        Self(self.0.cast(dtype, &unlimited()).unwrap_or_else(|error| panic!("{error}")))
    }

    /// The lengths of its dimensions.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.0.shape()
    }

    /// The type of its elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Its elements in row-major order, as float32.
    ///
    /// # Panics
    /// When there is no memory for it.
    #[must_use]
    #[track_caller]
    pub fn numbers(&self) -> Vec<f32> {
        self.0.to_vec::<f32>(&unlimited()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Checks shape and numbers.
    ///
    /// # Panics
    /// When the shapes differ, or two numbers by more than `tolerance`: the message names the place.
    #[track_caller]
    pub fn assert_close(&self, expected: &Tensor, tolerance: f32) {
        assert_eq!(self.shape(), expected.shape(), "the shapes differ");
        for (place, (left, right)) in self.numbers().iter().zip(expected.numbers()).enumerate() {
            let equal = *left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= tolerance;
            assert!(equal, "element {place} is {left}, not {right}");
        }
    }

    /// Bytes of the elements, little-endian and row-major.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        macro_rules! bytes {
            ($type:ty) => {
                self.0
                    .to_vec::<$type>(&unlimited())
                    .unwrap_or_default()
                    .into_iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect()
            };
        }
        match self.dtype() {
            DType::Int64 => bytes!(i64),
            DType::Int32 => bytes!(i32),
            DType::Uint8 => bytes!(u8),
            _ => bytes!(f32),
        }
    }
}
