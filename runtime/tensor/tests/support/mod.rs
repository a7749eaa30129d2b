//! Random tensors with odd strides, and a slow tensor that is obviously right.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[cfg(all(feature = "cuda", target_os = "linux"))]
pub mod simulated;

use proptest::prelude::*;
use std::sync::Arc;
use vivarium_tensor::float8::{F8E4M3, F8E5M2};
use vivarium_tensor::{Budget, DType, OpContext, PadMode, Tensor};

pub fn context() -> OpContext {
    budgeted(1 << 30).0
}

/// On the CPU, or with `VIVARIUM_TEST_GPU=1` on the first GPU (which `cargo xtask cuda` simulates where there is none):
/// the same tests hold for both. The GPU's memory is charged to the same account.
pub fn budgeted(bytes: u64) -> (OpContext, Arc<Budget>) {
    let budget = Budget::root(bytes);
    // Small results wait too, as large ones do elsewhere; `fusion.rs` compares that with computing at once.
    let cx = OpContext { put_off_from: 1, ..OpContext::new(Arc::clone(&budget)) };
    (on_test_gpu(cx), budget)
}

/// On the CPU, whatever the environment says: the oracle.
pub fn cpu_context() -> OpContext {
    OpContext::new(Budget::root(1 << 30))
}

#[cfg(feature = "cuda")]
pub fn test_gpu() -> Option<&'static vivarium_tensor::Gpu> {
    static GPU: std::sync::OnceLock<Option<vivarium_tensor::Gpu>> = std::sync::OnceLock::new();
    let open = || {
        let wanted = std::env::var("VIVARIUM_TEST_GPU").is_ok_and(|value| value == "1");
        let cache = std::env::var_os("VIVARIUM_TEST_KERNELS").map(std::path::PathBuf::from);
        wanted.then(|| vivarium_tensor::Gpu::open(0, cache.as_deref()).unwrap())
    };
    GPU.get_or_init(open).as_ref()
}

#[cfg(feature = "cuda")]
fn on_test_gpu(cx: OpContext) -> OpContext {
    match test_gpu() {
        Some(gpu) => {
            let job = gpu.job(Arc::clone(&cx.budget)).unwrap();
            cx.on_gpu(job)
        }
        None => cx,
    }
}

#[cfg(not(feature = "cuda"))]
fn on_test_gpu(cx: OpContext) -> OpContext {
    cx
}

/// Shape and elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Slow {
    pub fn of(tensor: &Tensor) -> Slow {
        let cx = context();
        let dtype = tensor.dtype();
        let bytes = tensor.read(0, tensor.elements() as u64, &cx).unwrap();
        let values = bytes.chunks_exact(dtype.size()).map(|chunk| number(dtype, chunk)).collect();
        Slow { shape: tensor.dims().to_vec(), values }
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        let mut place = 0;
        for (coordinate, length) in index.iter().zip(&self.shape) {
            assert!(coordinate < length);
            place = place * length + coordinate;
        }
        self.values[place]
    }

    pub fn build(shape: &[usize], mut value: impl FnMut(&[usize]) -> f64) -> Slow {
        let elements: usize = shape.iter().product();
        let mut values = Vec::new();
        for place in 0..elements {
            values.push(value(&coordinates(shape, place)));
        }
        Slow { shape: shape.to_vec(), values }
    }

    /// Equal within rounding, NaN equal to NaN.
    pub fn assert_close(&self, tensor: &Tensor, tolerance: f64) {
        let own = Slow::of(tensor);
        assert_eq!(self.shape, own.shape);
        for (place, (wanted, got)) in self.values.iter().zip(&own.values).enumerate() {
            let near = (wanted - got).abs() <= tolerance * wanted.abs().max(1.0);
            let same = wanted == got || (wanted.is_nan() && got.is_nan());
            assert!(near || same, "at {:?}: {got}, expected {wanted}", coordinates(&self.shape, place));
        }
    }
}

pub fn coordinates(shape: &[usize], place: usize) -> Vec<usize> {
    let mut rest = place;
    let mut index = vec![0; shape.len()];
    for dim in (0..shape.len()).rev() {
        index[dim] = rest % shape[dim];
        rest /= shape[dim];
    }
    index
}

fn number(dtype: DType, bytes: &[u8]) -> f64 {
    match dtype {
        DType::Float32 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
        DType::Float16 => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DType::Bfloat16 => half::bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        DType::Uint8 | DType::Boolean => f64::from(bytes[0]),
        DType::Int32 => f64::from(i32::from_le_bytes(bytes.try_into().unwrap())),
        DType::Int64 => i64::from_le_bytes(bytes.try_into().unwrap()) as f64,
        DType::Float8E4m3 => F8E4M3::from_le_bytes([bytes[0]]).to_f32().into(),
        DType::Float8E5m2 => F8E5M2::from_le_bytes([bytes[0]]).to_f32().into(),
    }
}

/// A way to look at a tensor.
#[derive(Debug, Clone)]
pub enum View {
    Rotate(usize),
    Flip(usize),
    Slice(usize, i64, i64, u64),
    Expand(usize),
}

pub fn views() -> impl Strategy<Value = Vec<View>> {
    let view = prop_oneof![
        (0usize..8).prop_map(View::Rotate),
        (0usize..8).prop_map(View::Flip),
        (0usize..8, -5i64..5, -5i64..9, 1u64..4).prop_map(|(dim, start, end, step)| View::Slice(dim, start, end, step)),
        (0usize..8).prop_map(View::Expand),
    ];
    prop::collection::vec(view, 0..4)
}

/// Applies views; the reference follows by index arithmetic of its own.
pub fn look(tensor: &Tensor, views: &[View]) -> (Tensor, Slow) {
    let cx = context();
    let mut tensor = tensor.clone();
    let mut slow = Slow::of(&tensor);
    for view in views {
        let rank = tensor.rank();
        if rank == 0 {
            continue;
        }
        match view {
            View::Rotate(by) => {
                let order: Vec<usize> = (0..rank).map(|dim| (dim + by) % rank).collect();
                let dims: Vec<i32> = order.iter().map(|dim| *dim as i32).collect();
                tensor = tensor.permute(&dims, &cx).unwrap();
                let shape: Vec<usize> = order.iter().map(|dim| slow.shape[*dim]).collect();
                slow = Slow::build(&shape, |index| {
                    let mut source = vec![0; rank];
                    order.iter().enumerate().for_each(|(place, dim)| source[*dim] = index[place]);
                    slow.at(&source)
                });
            }
            View::Flip(dim) => {
                let dim = dim % rank;
                tensor = tensor.flip(&[dim as i32], &cx).unwrap();
                slow = Slow::build(&slow.shape.clone(), |index| {
                    let mut source = index.to_vec();
                    source[dim] = slow.shape[dim] - 1 - source[dim];
                    slow.at(&source)
                });
            }
            View::Slice(dim, start, end, step) => {
                let dim = dim % rank;
                let length = slow.shape[dim] as i64;
                let bound = |value: i64| if value < 0 { (value + length).max(0) } else { value.min(length) };
                let kept: Vec<i64> = (bound(*start)..bound(*end)).step_by(*step as usize).collect();
                tensor = tensor.slice(dim as i32, *start, *end, *step, &cx).unwrap();
                let mut shape = slow.shape.clone();
                shape[dim] = kept.len();
                slow = Slow::build(&shape, |index| {
                    let mut source = index.to_vec();
                    source[dim] = kept[index[dim]] as usize;
                    slow.at(&source)
                });
            }
            View::Expand(dim) => {
                let dim = dim % rank;
                if slow.shape[dim] != 1 {
                    continue;
                }
                let mut shape = slow.shape.clone();
                shape[dim] = 3;
                let wanted: Vec<i64> = shape.iter().map(|length| *length as i64).collect();
                tensor = tensor.expand(&wanted, &cx).unwrap();
                slow = Slow::build(&shape, |index| {
                    let mut source = index.to_vec();
                    source[dim] = 0;
                    slow.at(&source)
                });
            }
        }
    }
    (tensor, slow)
}

/// Mostly up to four dimensions; sometimes up to eight, or some without elements.
pub fn shapes() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        8 => prop::collection::vec(1u64..6, 0..5),
        2 => prop::collection::vec(1u64..4, 5..9),
        1 => prop::collection::vec(0u64..4, 1..9),
    ]
}

/// Small tensors of any type but those of 8-bit floats, seen through views, with their reference.
pub fn tensors() -> impl Strategy<Value = (Tensor, Slow)> {
    (shapes(), 0usize..7, any::<u64>(), views()).prop_map(|(shape, dtype, seed, views)| {
        let tensor = random(&shape, DType::ALL[dtype], seed);
        look(&tensor, &views)
    })
}

/// As [`tensors`], float32 only.
pub fn float_tensors() -> impl Strategy<Value = (Tensor, Slow)> {
    (shapes(), any::<u64>(), views())
        .prop_map(|(shape, seed, views)| look(&random(&shape, DType::Float32, seed), &views))
}

/// Numbers from −8 to 8 in sixteenths (floats) or whole.
pub fn random(shape: &[u64], dtype: DType, seed: u64) -> Tensor {
    let cx = context();
    let elements: u64 = shape.iter().product();
    let mut state = seed | 1;
    let values: Vec<f32> = (0..elements)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % 257) as f32 / 16.0 - 8.0
        })
        .collect();
    Tensor::from_vec(shape, values, &cx).unwrap().cast(dtype, &cx).unwrap()
}

pub const ALL_BORDERS: [PadMode; 4] = [PadMode::Constant, PadMode::Reflect, PadMode::Replicate, PadMode::Circular];

/// Where the element at `place` of a padded line of `length` comes from, if it is not a constant.
pub fn bordered(mode: PadMode, place: i64, length: i64) -> Option<usize> {
    if (0..length).contains(&place) {
        return Some(place as usize);
    }
    match mode {
        PadMode::Constant => None,
        PadMode::Replicate => Some(place.clamp(0, length - 1) as usize),
        PadMode::Circular => Some(place.rem_euclid(length) as usize),
        PadMode::Reflect => Some(if place < 0 { -place } else { 2 * (length - 1) - place } as usize),
    }
}

/// [B,C,H,W], perhaps as a view of [B,H,W,C].
pub fn image(shape: &[u64; 4], seed: u64, channels_last: bool) -> Tensor {
    let cx = context();
    if !channels_last {
        return random(shape, DType::Float32, seed);
    }
    let [b, c, h, w] = *shape;
    random(&[b, h, w, c], DType::Float32, seed).permute(&[0, 3, 1, 2], &cx).unwrap()
}
