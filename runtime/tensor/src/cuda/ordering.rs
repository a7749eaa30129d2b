//! What depends on the order of elements in rows that lie one after the other: sorted places, the best one, running sums.

use super::DeviceBuffer;
use super::compile::{ARGMAX, SCAN, SORT};
use super::gpu::GpuJob;
use super::launch::{Start, THREADS, View, grid_of, number};
use crate::shape::Layout;
use crate::{DType, OpContext, Shape, Tensor, TensorError};
use cudarc::driver::DeviceRepr;

/// Longer rows are worked on by a block, shorter ones by a warp.
const FOR_A_BLOCK: usize = 1024;

/// Items that are sorted at once in shared memory: in few sizes, each of which is compiled by itself.
const TILES: [usize; 2] = [64, 1024];

/// The most that are selected from a row without sorting all of it: each step leaves an eighth, or less.
const MOST_SELECTED: usize = TILES[1] / 8;

/// `Arguments` of `scan.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Scan {
    out: u64,
    source: View,
    rows: u64,
    length: i64,
    dtype: i64,
}

/// `Arguments` of `argmax.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Argmax {
    out: u64,
    source: View,
    rows: u64,
    length: i64,
}

/// `Arguments` of `sort.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sort {
    out: u64,
    source: View,
    items: u64,
    elements: u64,
    length: i64,
    kept: i64,
    run: i64,
    descending: i64,
}

// SAFETY: `repr(C)`, made of integers and floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Scan {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Argmax {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Sort {}

/// Rows of a row-major tensor, and who works on each.
struct RowWork {
    rows: usize,
    length: usize,
    share: &'static str,
    grid: (u32, u32, u32),
}

/// `None` where there are more blocks than a grid has.
fn rows_of(source: &Tensor) -> Option<RowWork> {
    let length = source.dims().last().copied().filter(|length| *length > 0)?;
    let rows = source.elements() / length;
    let by_blocks = length > FOR_A_BLOCK;
    let blocks = if by_blocks { rows } else { rows.div_ceil(THREADS as usize / 32) };
    let share = if by_blocks { "256" } else { "32" };
    Some(RowWork { rows, length, share, grid: grid_of(blocks)? })
}

impl GpuJob {
    pub(super) fn accumulate(
        &self,
        op: &'static str,
        source: &Tensor,
        product: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let Some(RowWork { rows, length, share, grid }) = rows_of(source) else { return Ok(None) };
        let floats = source.dtype().is_float();
        // Floats in double precision, as on the CPU; integers wrap.
        let (value, fold) = if floats { ("float", "double") } else { ("i64", "i64") };
        let (begin, join) = match (product, floats) {
            (true, true) => ("1", "((a) * (b))"),
            (true, false) => ("1", "product(a, b)"),
            (false, true) => ("0", "((a) + (b))"),
            (false, false) => ("0", "sum(a, b)"),
        };
        let defines = [("VALUE", value), ("FOLD", fold), ("START", begin), ("JOIN(a, b)", join), ("SHARE", share)];
        let dtype = if floats { source.dtype() } else { DType::Int64 };
        let layout = Layout::contiguous(*source.lengths_shape());
        let start = Start { op, source: SCAN, defines: &defines, grid, threads: THREADS };
        self.make(&start, (&[source], &[]), (layout, dtype), cx, |views, _, out| Scan {
            out,
            source: views[0],
            rows: rows as u64,
            length: length as i64,
            dtype: number(dtype).into(),
        })
    }

    pub(super) fn argmax(
        &self,
        op: &'static str,
        source: &Tensor,
        smallest: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let Some(RowWork { rows, length, share, grid }) = rows_of(source) else { return Ok(None) };
        let value = if source.dtype().is_float() { "float" } else { "i64" };
        let defines = [("VALUE", value), ("BETTER", if smallest { "<" } else { ">" }), ("SHARE", share)];
        let shape = source.shape_of_rows(op, 1)?;
        let start = Start { op, source: ARGMAX, defines: &defines, grid, threads: THREADS };
        self.make(&start, (&[source], &[]), (Layout::contiguous(shape), DType::Int64), cx, |views, _, out| Argmax {
            out,
            source: views[0],
            rows: rows as u64,
            length: length as i64,
        })
    }

    pub(super) fn sorted_places(
        &self,
        op: &'static str,
        source: &Tensor,
        kept: usize,
        descending: bool,
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let shape = source.shape_of_rows(op, kept)?;
        let (elements, kept_elements) = (source.elements(), shape.elements());
        if kept_elements == 0 {
            return Ok(None);
        }
        let length = source.dims()[source.rank() - 1];
        // Keys share 64 bits with places.
        if u32::try_from(length).is_err() {
            return Ok(None);
        }
        let tile = TILES.into_iter().find(|tile| length <= *tile).unwrap_or(TILES[1]);
        let Some(grid) = grid_of(elements / length * length.div_ceil(tile)) else { return Ok(None) };
        // A key of 32 bits does for all but int64.
        let keys = match source.dtype() {
            DType::Int64 => ("WIDE", "1"),
            dtype if dtype.is_float() => ("FLOATS", "1"),
            _ => ("INTEGERS", "1"),
        };
        let common = Sort {
            length: length as i64,
            kept: kept as i64,
            elements: elements as u64,
            descending: i64::from(descending),
            ..Sort::default()
        };
        if tile < length && kept <= MOST_SELECTED {
            let items = self.selected(op, source, common, keys, cx)?;
            let arguments = Sort { elements: kept_elements as u64, length: kept as i64, ..common };
            return self.first_places(op, &items, arguments, (shape, keys), cx);
        }
        let resident = self.resident(op, source, cx)?;
        let mut items = self.allocate(op, elements * item_bytes(keys))?;
        let size = tile.to_string();
        let defines = [("STEP", "TILES"), ("TILE", &size), keys];
        let threads = THREADS.min(tile as u32 / 2);
        let start = Start { op, source: SORT, defines: &defines, grid, threads };
        self.start(&start, &[&resident], &mut items, |pointers, out| Sort {
            out,
            source: View::new(pointers[0], source.dtype(), source.layout.offset, &[]),
            ..common
        })?;
        if tile < length {
            items = self.merged(op, items, (tile, common), keys, cx)?;
        }
        self.first_places(op, &items, Sort { elements: kept_elements as u64, ..common }, (shape, keys), cx)
    }

    /// The first items of each row: the first of each tile, of these the first of each tile, until one tile is left.
    fn selected(
        &self,
        op: &'static str,
        source: &Tensor,
        common: Sort,
        keys: (&str, &str),
        cx: &OpContext,
    ) -> Result<DeviceBuffer, TensorError> {
        let (mut length, kept) = (common.length as usize, common.kept as usize);
        let rows = source.elements() / length;
        let resident = self.resident(op, source, cx)?;
        let mut last: Option<DeviceBuffer> = None;
        loop {
            cx.check(op)?;
            let tiles = length.div_ceil(TILES[1]);
            let mut heads = self.allocate(op, rows * tiles * kept * item_bytes(keys))?;
            let size = TILES[1].to_string();
            let mut defines = vec![("STEP", "HEADS"), ("TILE", size.as_str()), keys];
            defines.extend(last.is_some().then_some(("FROM_ITEMS", "1")));
            // The first step has the most, for which there was room.
            let grid = ((rows * tiles) as u32, 1, 1);
            let start = Start { op, source: SORT, defines: &defines, grid, threads: THREADS };
            let view = |pointer| View::new(pointer, source.dtype(), source.layout.offset, &[]);
            let reads = [last.as_ref().unwrap_or(&*resident)];
            self.start(&start, &reads, &mut heads, |pointers, out| {
                let arguments = Sort { out, length: length as i64, ..common };
                match last {
                    Some(_) => Sort { items: pointers[0], ..arguments },
                    None => Sort { source: view(pointers[0]), ..arguments },
                }
            })?;
            if tiles == 1 {
                return Ok(heads);
            }
            length = tiles * kept;
            last = Some(heads);
        }
    }

    /// Sorted runs merged until there is one for each row.
    fn merged(
        &self,
        op: &'static str,
        mut items: DeviceBuffer,
        (tile, common): (usize, Sort),
        keys: (&str, &str),
        cx: &OpContext,
    ) -> Result<DeviceBuffer, TensorError> {
        let mut other = self.allocate(op, items.bytes() as usize)?;
        let defines = [("STEP", "MERGE"), keys];
        let start = Start::over(op, SORT, &defines, common.elements as usize);
        let mut run = tile as i64;
        while run < common.length {
            cx.check(op)?;
            self.start(&start, &[&items], &mut other, |pointers, out| Sort { out, items: pointers[0], run, ..common })?;
            std::mem::swap(&mut items, &mut other);
            run *= 2;
        }
        Ok(items)
    }

    fn first_places(
        &self,
        op: &'static str,
        items: &DeviceBuffer,
        arguments: Sort,
        (shape, keys): (Shape, (&str, &str)),
        cx: &OpContext,
    ) -> Result<Option<Tensor>, TensorError> {
        let defines = [("STEP", "PLACES"), keys];
        let start = Start::over(op, SORT, &defines, shape.elements());
        self.make(&start, (&[], &[items]), (Layout::contiguous(shape), DType::Int64), cx, |_, tables, out| Sort {
            out,
            items: tables[0],
            ..arguments
        })
    }
}

/// Bytes of what is sorted in place of an element.
fn item_bytes(keys: (&str, &str)) -> usize {
    if keys.0 == "WIDE" { 16 } else { 8 }
}
