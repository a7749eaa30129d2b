//! `libcublasLt` over the simulated device: descriptions of products, checked, and the products themselves.
//!
//! What it reports, and the library would not: descriptors that were never made or are destroyed, attributes of another size
//! than the library reads, algorithms found for another product or other alignments, operands that reach out of their
//! allocations, elements that nobody wrote, results in memory of another stream or over an operand, workspace that is too
//! small. Order on streams is checked as for kernels, by [`Device::bytes`].
//!
//! Not here: other orders than columns, integers, `beta`, epilogues other than a bias.

use crate::device::{Answer, DEVICES, ILLEGAL_ADDRESS, architecture};
use crate::entry::current;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;
use vivarium_ptx::Allocation;

/// The library's error numbers.
pub const INVALID_VALUE: u32 = 7;
pub const EXECUTION_FAILED: u32 = 13;
pub const NOT_SUPPORTED: u32 = 15;

pub const FLOAT32: u32 = 0;
const FLOAT16: u32 = 2;
const BFLOAT16: u32 = 14;
/// Sums of float32, without TF32.
const COMPUTE_FLOAT32: u32 = 68;
const PLAIN: u32 = 1;
const WITH_BIAS: u32 = 4;
/// Partial sums are added up in the type of the result, in place or in workspace.
const REDUCED_REDUCTIONS: u32 = 1 | 4;

/// What an algorithm begins with, so that one that nobody found is known.
const FOUND: u64 = 0x5eed_cafe;
/// Bytes that an algorithm needs to work in, if so many are allowed.
const WORKSPACE: u64 = 4096;
const WORKSPACE_ALIGNMENT: u64 = 16;
const BIAS_ALIGNMENT: u64 = 16;

/// `cublasLtMatmulAlgo_t`: here the mark, the digest of the product, the promised alignments, the workspace.
pub type Algorithm = [u64; 8];

/// A matrix in columns of `leading` elements, or several, `step` elements apart.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Layout {
    pub dtype: u32,
    pub rows: u64,
    pub columns: u64,
    pub leading: i64,
    pub batch: i32,
    pub step: i64,
}

/// How two matrices are multiplied.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    pub compute: u32,
    pub scale: u32,
    pub turned: [u32; 2],
    pub epilogue: u32,
    pub bias: u64,
}

/// What an algorithm may count on, and may use.
#[derive(Debug, Clone, Copy)]
pub struct Preference {
    pub workspace: u64,
    pub reductions: u32,
    pub alignments: [u32; 4],
}

/// Everything that was created and not destroyed.
#[derive(Default)]
pub struct Library {
    pub handles: HashSet<u64>,
    pub layouts: HashMap<u64, Layout>,
    pub descriptions: HashMap<u64, Description>,
    pub preferences: HashMap<u64, Preference>,
}

pub static LIBRARY: LazyLock<Mutex<Library>> = LazyLock::new(Mutex::default);

/// The handles that a call names.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub library: u64,
    pub description: u64,
    /// Of A, B, C and D.
    pub layouts: [u64; 4],
}

/// What they stand for.
#[derive(Debug, Clone, Copy)]
struct Product {
    description: Description,
    a: Layout,
    b: Layout,
    d: Layout,
    inner: u64,
}

/// Where operands, result and workspace are.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Of A, B, C and D.
    pub matrices: [u64; 4],
    pub workspace: u64,
    pub workspace_bytes: u64,
}

/// Breaks the device of the thread's context, or the first one.
pub fn mistake<T>(text: String) -> Answer<T> {
    if let Some(device) = current().ok().or(DEVICES.first()) {
        device.mistake(ILLEGAL_ADDRESS, format!("cuBLASLt: {text}"));
    }
    Err(INVALID_VALUE)
}

impl Layout {
    fn size(&self) -> usize {
        if self.dtype == FLOAT32 { 4 } else { 2 }
    }

    /// Bytes from the first element to the end of the last.
    fn reach(&self) -> usize {
        let last = (self.batch as i64 - 1) * self.step + (self.columns as i64 - 1) * self.leading + self.rows as i64;
        last as usize * self.size()
    }

    fn is_sound(&self) -> bool {
        let lengths = self.rows > 0 && self.columns > 0 && self.batch > 0;
        lengths && self.leading >= self.rows as i64 && self.step >= 0
    }

    /// Bytes from the start to a column of a matrix.
    fn column(&self, batch: i32, column: u64) -> usize {
        (i64::from(batch) * self.step + column as i64 * self.leading) as usize * self.size()
    }

    fn columns(self) -> impl Iterator<Item = usize> {
        (0..self.batch).flat_map(move |batch| (0..self.columns).map(move |column| self.column(batch, column)))
    }
}

impl Call {
    /// What the handles stand for; it is a mistake if one stands for nothing, or if they do not fit together.
    fn product(&self) -> Answer<Product> {
        let library = LIBRARY.lock();
        if !library.handles.contains(&self.library) {
            return mistake("a handle that is none".to_owned());
        }
        let Some(description) = library.descriptions.get(&self.description).copied() else {
            return mistake("a description of a product that is none".to_owned());
        };
        let mut layouts = Vec::new();
        for handle in self.layouts {
            let Some(layout) = library.layouts.get(&handle) else {
                return mistake("a layout that is none".to_owned());
            };
            if !layout.is_sound() {
                return Err(INVALID_VALUE);
            }
            layouts.push(*layout);
        }
        let (a, b, c, d) = (layouts[0], layouts[1], layouts[2], layouts[3]);
        let turned = |layout: Layout, turned: u32| match turned {
            0 => (layout.rows, layout.columns),
            _ => (layout.columns, layout.rows),
        };
        let ((rows, inner), (depth, columns)) = (turned(a, description.turned[0]), turned(b, description.turned[1]));
        let fit =
            inner == depth && (rows, columns) == (d.rows, d.columns) && (c.rows, c.columns) == (d.rows, d.columns);
        // One matrix after the other, or their columns side by side.
        let (rows, batch) = (d.rows as i64, i64::from(d.batch));
        let side_by_side = d.step >= rows && d.leading >= (batch - 1) * d.step + rows;
        let apart = d.batch == 1 || d.step >= d.columns as i64 * d.leading || side_by_side;
        if !fit || [a, b, c].iter().any(|other| other.batch != d.batch) || !apart {
            return Err(INVALID_VALUE);
        }
        Ok(Product { description, a, b, d, inner })
    }
}

impl Product {
    fn is_supported(&self) -> bool {
        let Description { compute, scale, epilogue, .. } = self.description;
        let arch = architecture();
        let types = match self.a.dtype {
            FLOAT32 => self.d.dtype == FLOAT32,
            FLOAT16 => [FLOAT16, FLOAT32].contains(&self.d.dtype),
            BFLOAT16 => [BFLOAT16, FLOAT32].contains(&self.d.dtype) && arch >= 80,
            _ => false,
        };
        types
            && self.a.dtype == self.b.dtype
            && (compute, scale) == (COMPUTE_FLOAT32, FLOAT32)
            && [PLAIN, WITH_BIAS].contains(&epilogue)
    }

    /// Everything that an algorithm is found for.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.a, self.b, self.d, self.description.turned, self.description.epilogue).hash(&mut hasher);
        hasher.finish()
    }

    /// Runs it at once. A mistake comes to light at the next call, as one of a kernel does.
    fn run(&self, places: &Places, algorithm: &Algorithm, stream: u64) -> Answer<()> {
        let [mark, digest, alignments @ .., workspace] = algorithm;
        if *mark != FOUND || *digest != self.digest() {
            return mistake("an algorithm that was not found for this product".to_owned());
        }
        for (place, alignment) in places.matrices.iter().zip(alignments) {
            if !place.is_multiple_of(*alignment) {
                return mistake(format!("Misaligned: {place:#x}, where multiples of {alignment} were promised"));
            }
        }
        self.use_workspace(places, *workspace, stream)?;
        let [a, b, _, d] = places.matrices;
        let (left, right) = (read(a, &self.a, stream)?, read(b, &self.b, stream)?);
        let bias = self.read_bias(stream)?;
        let results = self.multiply(&left, &right, &bias);
        write(d, &self.d, &results, [a, b], stream)
    }

    fn use_workspace(&self, places: &Places, needed: u64, stream: u64) -> Answer<()> {
        if needed == 0 {
            return Ok(());
        }
        if places.workspace_bytes < needed || !places.workspace.is_multiple_of(WORKSPACE_ALIGNMENT) {
            return mistake(format!("{} bytes of workspace, where {needed} are needed", places.workspace_bytes));
        }
        current()?.bytes(places.workspace, needed as usize, stream, true, |allocation, at| {
            owned(allocation, stream)?;
            allocation.write(at, &vec![0xee; needed as usize]);
            Ok(())
        })
    }

    fn read_bias(&self, stream: u64) -> Answer<Vec<f32>> {
        let Description { epilogue, bias, .. } = self.description;
        if epilogue != WITH_BIAS {
            return Ok(vec![0.0; self.d.rows as usize]);
        }
        if !bias.is_multiple_of(BIAS_ALIGNMENT) {
            return mistake(format!("Misaligned: a bias at {bias:#x}"));
        }
        read(bias, &Layout { columns: 1, leading: self.d.rows as i64, batch: 1, step: 0, ..self.d }, stream)
    }

    /// The results in columns, one matrix after the other.
    fn multiply(&self, left: &[f32], right: &[f32], bias: &[f32]) -> Vec<f32> {
        let [rows, columns, inner] = [self.d.rows, self.d.columns, self.inner].map(|length| length as usize);
        let place = |turned: u32, row: usize, column: usize, rows: usize, columns: usize| match turned {
            0 => column * rows + row,
            _ => row * columns + column,
        };
        let [left_turned, right_turned] = self.description.turned;
        let mut results = Vec::new();
        for matrix in 0..self.d.batch as usize {
            let (left, right) = (&left[matrix * rows * inner..], &right[matrix * inner * columns..]);
            for column in 0..columns {
                for (row, bias) in bias.iter().enumerate() {
                    let term = |k: usize| {
                        left[place(left_turned, row, k, rows, inner)]
                            * right[place(right_turned, k, column, inner, columns)]
                    };
                    results.push((0..inner).map(term).sum::<f32>() + bias);
                }
            }
        }
        results
    }
}

/// Whether a stream may write there.
fn owned(allocation: &Allocation, stream: u64) -> Result<(), String> {
    match allocation.owner == stream {
        true => Ok(()),
        false => Err(format!("cuBLASLt: ForeignBuffer: stream {stream} writes to memory of {}", allocation.owner)),
    }
}

/// The elements of matrices in columns, without what lies between columns, which nobody need have written.
fn read(place: u64, layout: &Layout, stream: u64) -> Answer<Vec<f32>> {
    let length = layout.rows as usize * layout.size();
    current()?.bytes(place, layout.reach(), stream, false, |allocation, at| {
        let mut values = Vec::new();
        for column in layout.columns() {
            let from = at + column;
            if let Some(byte) = allocation.unwritten(from, length) {
                return Err(format!("cuBLASLt: Uninitialised: byte {byte} of an operand was written by nobody"));
            }
            values.extend(
                allocation.data[from..from + length]
                    .chunks_exact(layout.size())
                    .map(|bytes| decode(layout.dtype, bytes)),
            );
        }
        Ok(values)
    })
}

fn write(place: u64, layout: &Layout, results: &[f32], operands: [u64; 2], stream: u64) -> Answer<()> {
    current()?.bytes(place, layout.reach(), stream, true, |allocation, at| {
        owned(allocation, stream)?;
        let own = allocation.base..allocation.base + allocation.data.len() as u64;
        if operands.iter().any(|operand| own.contains(operand)) {
            return Err("cuBLASLt: the result is written over an operand".to_owned());
        }
        for (column, values) in layout.columns().zip(results.chunks_exact(layout.rows as usize)) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| encode(layout.dtype, *value)).collect();
            allocation.write(at + column, &bytes);
        }
        Ok(())
    })
}

fn decode(dtype: u32, bytes: &[u8]) -> f32 {
    match (dtype, bytes) {
        (FLOAT16, [low, high]) => half::f16::from_le_bytes([*low, *high]).to_f32(),
        (BFLOAT16, [low, high]) => half::bf16::from_le_bytes([*low, *high]).to_f32(),
        (_, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
        _ => f32::NAN,
    }
}

fn encode(dtype: u32, value: f32) -> Vec<u8> {
    match dtype {
        FLOAT16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
        BFLOAT16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

/// Finds an algorithm and the workspace that it needs.
pub fn heuristic(call: &Call, preference: u64) -> Answer<(Algorithm, u64)> {
    let product = call.product()?;
    let Some(preference) = LIBRARY.lock().preferences.get(&preference).copied() else {
        return mistake("preferences that are none".to_owned());
    };
    if !product.is_supported() {
        return Err(NOT_SUPPORTED);
    }
    if product.description.epilogue == WITH_BIAS && product.description.bias == 0 {
        return mistake("a bias that is nowhere".to_owned());
    }
    if product.d.dtype != FLOAT32 && preference.reductions & REDUCED_REDUCTIONS != 0 {
        return mistake("parts of a sum may be rounded to 16 bits".to_owned());
    }
    let workspace = if preference.workspace >= WORKSPACE { WORKSPACE } else { 0 };
    let [a, b, c, d] = preference.alignments.map(u64::from);
    Ok(([FOUND, product.digest(), a, b, c, d, 0, workspace], workspace))
}

/// Multiplies.
pub fn multiply(call: &Call, places: &Places, scales: [f32; 2], algorithm: &Algorithm, stream: u64) -> Answer<()> {
    current().and_then(|device| device.check()).map_err(|_| EXECUTION_FAILED)?;
    if scales != [1.0, 0.0] {
        return Err(NOT_SUPPORTED);
    }
    // What goes wrong on the device is known later, except that the mistakes of the caller are told at once.
    match call.product()?.run(places, algorithm, stream) {
        Err(INVALID_VALUE) => Err(INVALID_VALUE),
        _ => Ok(()),
    }
}
