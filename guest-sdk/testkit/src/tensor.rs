//! Tensors with numbers in them that a test can look at.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{program, wire::frame::TAIL_BYTES};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DType {
    /// IEEE single precision.
    Float32,
    /// IEEE half precision.
    Float16,
    /// The upper half of a single.
    Bfloat16,
    /// Unsigned 8 bits.
    Uint8,
    /// Signed 32 bits.
    Int32,
    /// Signed 64 bits.
    Int64,
    /// True or false, one byte.
    Boolean,
    /// 8 bits, of which 4 are the exponent, up to 448.
    Float8E4m3,
    /// 8 bits, of which 5 are the exponent, up to 57344.
    Float8E5m2,
}

impl DType {
    /// Bytes per element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Float32 | Self::Int32 => 4,
            Self::Float16 | Self::Bfloat16 => 2,
            Self::Uint8 | Self::Boolean | Self::Float8E4m3 | Self::Float8E5m2 => 1,
            Self::Int64 => 8,
        }
    }
}

/// Numbers in row-major order. Cloning copies none of them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Tensor {
    dtype: DType,
    shape: Vec<u64>,
    #[serde(with = "crate::wire::tail")]
    bytes: Arc<[u8]>,
}

/// A tensor that may not fit together.
#[derive(Deserialize)]
struct Parts {
    dtype: DType,
    shape: Vec<u64>,
    #[serde(with = "crate::wire::tail")]
    bytes: Arc<[u8]>,
}

impl TryFrom<Parts> for Tensor {
    type Error = String;

    fn try_from(parts: Parts) -> Result<Self, String> {
        let Parts { dtype, shape, bytes } = parts;
        match bytes_of(dtype, &shape) {
            Some(wanted) if wanted == bytes.len() as u64 => Ok(Self { dtype, shape, bytes }),
            Some(wanted) => {
                Err(format!("{} bytes are given, but a tensor {dtype:?} {shape:?} takes {wanted}", bytes.len()))
            }
            None => Err(too_large(&shape)),
        }
    }
}

/// What a tensor takes; nothing if that is more than can be sent.
fn bytes_of(dtype: DType, shape: &[u64]) -> Option<u64> {
    let product = |bytes: u64, length: &u64| bytes.checked_mul(*length).filter(|bytes| *bytes <= TAIL_BYTES);
    // A length of 0 makes the rest of no account.
    if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(dtype.size() as u64, product) }
}

fn too_large(shape: &[u64]) -> String {
    format!("a tensor {shape:?} has more than {TAIL_BYTES} bytes")
}

impl Tensor {
    /// Of float32 numbers in row-major order.
    ///
    /// # Panics
    /// When their number does not fill the shape.
    #[must_use]
    #[track_caller]
    pub fn new(shape: impl AsRef<[u64]>, numbers: impl Into<Vec<f32>>) -> Self {
        let (shape, numbers) = (shape.as_ref(), numbers.into());
        let bytes: Vec<u8> = numbers.iter().copied().flat_map(f32::to_le_bytes).collect();
        if bytes_of(DType::Float32, shape) != Some(bytes.len() as u64) {
            panic!("{} numbers do not fill a tensor {shape:?}", numbers.len());
        }
        Self::from_bytes(DType::Float32, shape, bytes)
    }

    /// Of elements as they lie in memory: row-major, little-endian.
    ///
    /// # Panics
    /// When their number does not fill the shape.
    #[must_use]
    #[track_caller]
    pub fn from_bytes(dtype: DType, shape: impl AsRef<[u64]>, bytes: impl Into<Arc<[u8]>>) -> Self {
        match Self::try_from(Parts { dtype, shape: shape.as_ref().to_vec(), bytes: bytes.into() }) {
            Ok(tensor) => tensor,
            Err(message) => panic!("{message}"),
        }
    }

    /// Every element the same, of float32.
    ///
    /// # Panics
    /// When there is no such shape.
    #[must_use]
    #[track_caller]
    pub fn filled(shape: impl AsRef<[u64]>, number: f64) -> Self {
        let bytes = bytes_of(DType::Float32, shape.as_ref()).and_then(|bytes| usize::try_from(bytes).ok());
        let Some(bytes) = bytes else { panic!("{}", too_large(shape.as_ref())) };
        Self::new(shape, vec![number as f32; bytes / DType::Float32.size()])
    }

    /// With elements of another type: floats round, integers truncate and saturate.
    ///
    /// # Panics
    /// When there is no memory for it.
    #[must_use]
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Self {
        if dtype == self.dtype {
            return self.clone();
        }
        match program::cast(self, dtype) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// The lengths of its dimensions.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.shape.clone()
    }

    /// The type of its elements.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its elements as they lie in memory: row-major, little-endian.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its elements in row-major order, as float32.
    ///
    /// # Panics
    /// When there is no memory for it.
    #[must_use]
    #[track_caller]
    pub fn numbers(&self) -> Vec<f32> {
        let single = self.cast(DType::Float32);
        single.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
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
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor({:?} {:?})", self.dtype, self.shape)
    }
}
