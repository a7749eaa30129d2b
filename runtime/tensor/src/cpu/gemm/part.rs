//! One thread's part of a product: some rows times some panels, a few hundred steps at a time.

use super::amx::{self, Ahead, Block, LeftTiles, Tiles};
use super::kernel::{Kernel, MOST_COLUMNS, MOST_ROWS, Tile};
use super::split::{Line, Lines, Pairs, Tiling, join_steps, split_rows};
use super::{Left, LeftRows, Matrix, ROW, Right, Rows, SPLIT_STEPS, STEPS, Start};
use crate::storage::scratch;

/// Panels from which on it pays to gather the rows of the left matrix.
const WORTH_GATHERING: usize = 6;
/// Bytes of a block of the right side that stay in the first-level cache while all rows pass by.
const NEAR_BYTES: usize = 24 << 10;

/// Numbers of a line of the cache.
const LINE: usize = 16;

/// Rows of floats that are `stride` apart and that several threads write to, each its own part.
#[derive(Clone, Copy)]
pub(super) struct Target {
    values: *mut f32,
    length: usize,
    stride: usize,
    /// The row of the product that is the first one there.
    first: usize,
}
// SAFETY: `product_packed` hands disjoint rectangles of it to its tasks, while it holds the only reference.
#[allow(unsafe_code)]
unsafe impl Send for Target {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Target {}

impl Target {
    pub(super) fn new(out: &mut [f32], stride: usize) -> Target {
        Target::of_rows(out, stride, 0)
    }

    /// Room for rows of a product from `first` on.
    pub(super) fn of_rows(out: &mut [f32], stride: usize, first: usize) -> Target {
        Target { values: out.as_mut_ptr(), length: out.len(), stride, first }
    }

    fn at(&self, row: usize, column: usize) -> *mut f32 {
        self.values.wrapping_add((row - self.first) * self.stride + column)
    }
}

/// What one task computes of a product.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_panel: usize,
    pub(super) panels: usize,
}

impl Part {
    fn panels(&self) -> std::ops::Range<usize> {
        self.first_panel..self.first_panel + self.panels
    }
}

/// Some steps of the left side of a part: rows, `row` apart, whose steps are `step` apart.
#[derive(Clone, Copy)]
struct Steps {
    from: *const f32,
    row: usize,
    step: usize,
    inner: usize,
}

/// `out (+)= a · b` on this thread; rows of `out` are `stride` apart.
pub(crate) fn multiply(a: Matrix<'_>, b: Right<'_>, out: &mut [f32], stride: usize, add: bool) {
    let part = Part { first_row: 0, rows: a.rows, first_panel: 0, panels: b.sizes().count() };
    let from = Start::adding(add);
    multiply_part(Left::plain(a), b, part, Target::new(out, stride), from);
}

/// `out (+)= left · right` on this thread, both split; rows of `out` are `stride` apart. The left side may have more steps than the
/// right one: those from `first` on, a multiple of [`amx::STEPS`], are meant. Rows that complete a tile of 16 may be overwritten, if
/// `out` has room for them. What lies behind the right side is expected to be multiplied next.
pub(crate) fn multiply_split(
    tiles: &Tiles,
    (rows, left): (Tiling, &[Line]),
    first: usize,
    (columns, right): (Tiling, &[Line]),
    (out, stride): (&mut [f32], usize),
    add: bool,
) {
    if rows.length == 0 || columns.length == 0 {
        return;
    }
    assert!(columns.length <= stride && (rows.length - 1) * stride + columns.length <= out.len());
    let part = Part { first_row: 0, rows: rows.length, first_panel: 0, panels: columns.blocks() };
    let steps = Shared { left: first, right: 0, inner: columns.inner };
    let width = columns.tiles(0) * amx::TILE;
    if columns.length == width && stride == width && rows.length.next_multiple_of(amx::TILE) * stride <= out.len() {
        // Sums that lie as beside each other as they can.
        let behind = &right[columns.lines()..];
        let ahead = &behind[..behind.len().min(near_chunks(columns) * columns.chunk(0))];
        return multiply_panel_lines(tiles, (rows, left), (columns, right), 0, steps, (out, add), ahead);
    }
    let from = Start::adding(add);
    multiply_lines(tiles, (rows, left), (columns, right), steps, part, Target::new(out, stride), from);
}

/// Computes one part of `out = from + a · b`.
pub(super) fn multiply_part(a: Left<'_>, b: Right<'_>, part: Part, out: Target, from: Start<'_>) {
    let sizes = b.sizes();
    if part.rows == 0 || sizes.columns == 0 {
        return;
    }
    assert!(part.first_row + part.rows <= a.rows() && part.first_panel + part.panels <= sizes.count());
    assert!(a.inner() == sizes.inner && sizes.columns <= out.stride);
    assert!(part.first_row >= out.first);
    assert!((part.first_row - out.first + part.rows - 1) * out.stride + sizes.columns <= out.length);
    b.assert_inside();
    if let LeftRows::Plain(matrix) = a.rows {
        matrix.assert_inside();
    }
    if let Start::Row(values) = from {
        assert!(values.len() >= sizes.columns);
    }
    match b {
        Right::Split(tiling, lines) => multiply_splitting(a, (tiling, lines), part, out, from),
        _ => {
            let add = begin(from, sizes.columns, part, out);
            multiply_floats(a, b, part, out, add);
        }
    }
}

/// Writes what products are added to, unless it is there; answers whether there is anything then.
#[allow(unsafe_code)]
fn begin(from: Start<'_>, columns: usize, part: Part, out: Target) -> bool {
    let Start::Row(values) = from else { return matches!(from, Start::There) };
    let width = Kernel::get().columns;
    let first = part.first_panel * width;
    let values = &values[first..(first + part.panels * width).min(columns)];
    for row in part.first_row..part.first_row + part.rows {
        // SAFETY: `multiply_part` has seen that the columns of these panels lie inside `out` in every row of this part, and
        // this part of it is this call's alone.
        unsafe { std::slice::from_raw_parts_mut(out.at(row, first), values.len()).copy_from_slice(values) };
    }
    true
}

fn multiply_floats(a: Left<'_>, b: Right<'_>, part: Part, out: Target, add: bool) {
    // Rows that are used often are worth gathering: where they lie, they may push each other out of the cache.
    let plain = match a.rows {
        LeftRows::Plain(matrix) if part.panels < WORTH_GATHERING => Some(matrix),
        _ => None,
    };
    let sizes = b.sizes();
    let mut gathered = scratch(if plain.is_some() { 0 } else { part.rows * ROW });
    for start in (0..sizes.inner.max(1)).step_by(STEPS) {
        let inner = STEPS.min(sizes.inner - start);
        let left = match plain {
            Some(matrix) => {
                let from = part.first_row * matrix.row_stride + start * matrix.column_stride;
                let from = matrix.values.as_ptr().wrapping_add(from);
                Steps { from, row: matrix.row_stride, step: matrix.column_stride, inner }
            }
            None => {
                a.gather(part.first_row, start, inner, &mut gathered);
                Steps { from: gathered.as_ptr(), row: ROW, step: 1, inner }
            }
        };
        for panel in part.panels() {
            let next = match (panel + 1 < part.panels().end, start + STEPS < sizes.inner) {
                (true, _) => Some(b.panel(panel + 1, start)),
                (false, true) => Some(b.panel(part.first_panel, start + STEPS)),
                (false, false) => None,
            };
            multiply_panel(left, (b.panel(panel, start), next), panel, (b, part), out, add || start > 0);
        }
    }
}

/// Where a panel is read, and the numbers from one step to the next.
type PanelSteps = (*const f32, usize);

/// Some steps of all rows of a part times one panel. The `next` one is fetched meanwhile: processors look ahead by themselves where
/// it lies together, but not where it is columns of a wide matrix.
#[allow(unsafe_code)]
fn multiply_panel(
    left: Steps,
    ((from, step), next): (PanelSteps, Option<PanelSteps>),
    panel: usize,
    (b, part): (Right<'_>, Part),
    out: Target,
    add: bool,
) {
    let (kernel, sizes) = (Kernel::get(), b.sizes());
    // As equal as can be, so that no tile has only a row or two.
    let tiles = part.rows.div_ceil(kernel.rows);
    let each = part.rows.div_ceil(tiles);
    let mut edge = [0.0f32; MOST_ROWS * MOST_COLUMNS];
    let ((width, narrow), first) = (sizes.width(panel), panel * kernel.columns);
    let full = width == sizes.step(panel);
    for (index, row) in (0..part.rows).step_by(each).enumerate() {
        let rows = each.min(part.rows - row);
        // A step of a panel is a line of the cache or two.
        let ahead = next.filter(|_| index * LINE < kernel.columns);
        let c = out.at(part.first_row + row, first);
        let tile = Tile {
            inner: left.inner,
            a: left.from.wrapping_add(row * left.row),
            a_row: left.row,
            a_step: left.step,
            b: from,
            b_step: step,
            ahead: ahead.map_or(from, |(next, _)| next.wrapping_add(index * LINE)),
            ahead_step: ahead.map_or(0, |(_, step)| step),
            c: if full { c } else { edge.as_mut_ptr() },
            c_row: if full { out.stride } else { MOST_COLUMNS },
            add: full && add,
        };
        // SAFETY: the asserts of `multiply_part` keep every element of `a`, `b` and of this part of `out` inside its slice;
        // gathered rows have room for all steps; panels hold all their columns, and a panel that the matrix does not fill
        // goes through `edge`, which has room for the largest tile. The part of `out` is this call's alone.
        unsafe {
            kernel.multiply(&tile, rows, narrow);
            if !full {
                let from = Start::adding(add);
                move_sums(&edge, MOST_COLUMNS, (rows, width), (c, out.stride), from);
            }
        }
    }
}

/// Moves `rows` rows of `width` sums to where they belong, and adds what they begin with.
///
/// # Safety
/// `c` points to so many rows of so many numbers, `stride` apart, that nobody else uses.
#[allow(unsafe_code)]
unsafe fn move_sums(
    sums: &[f32],
    sums_row: usize,
    (rows, width): (usize, usize),
    (c, stride): (*mut f32, usize),
    from: Start<'_>,
) {
    for (index, sums) in sums.chunks_exact(sums_row).take(rows).enumerate() {
        // SAFETY: passed on to the caller.
        let c = unsafe { std::slice::from_raw_parts_mut(c.wrapping_add(index * stride), width) };
        match from {
            Start::Nothing => c.copy_from_slice(&sums[..width]),
            Start::There => c.iter_mut().zip(sums).for_each(|(c, sum)| *c += *sum),
            Start::Row(row) => c.iter_mut().zip(sums).zip(row).for_each(|((c, sum), row)| *c = *sum + *row),
        }
    }
}

/// With a right side that was split: rows are split as they are gathered.
fn multiply_splitting(a: Left<'_>, b: (Tiling, &[Line]), part: Part, out: Target, from: Start<'_>) {
    let (right, lines) = b;
    let Some(tiles) = Tiles::new() else { return };
    let mut gathered = Vec::new();
    let mut split = Lines::default();
    for start in (0..right.inner.max(1)).step_by(SPLIT_STEPS) {
        let inner = SPLIT_STEPS.min(right.inner - start);
        let (values, row) = match a.rows {
            LeftRows::Plain(Matrix { values, row_stride, column_stride: 1, .. }) => {
                (&values[part.first_row * row_stride + start..], row_stride)
            }
            _ => {
                if gathered.is_empty() {
                    gathered = scratch(part.rows * ROW);
                }
                a.gather(part.first_row, start, inner, &mut gathered);
                (&gathered[..], ROW)
            }
        };
        let rows = Tiling { length: part.rows, inner, parts: a.parts };
        split.make_room(rows.lines());
        let from = if start > 0 { Start::There } else { from };
        if split_rows(values, row, rows, split.get_mut()) {
            let steps = Shared { left: 0, right: start, inner };
            multiply_lines(&tiles, (rows, split.get()), b, steps, part, out, from);
            continue;
        }
        let add = begin(from, right.length, part, out);
        let left = Steps { from: values.as_ptr(), row, step: 1, inner };
        let mut joined = scratch(inner * MOST_COLUMNS);
        for panel in part.panels() {
            let tiles = right.tiles(panel);
            let from = right.start(panel) + start / amx::STEPS * right.chunk(panel);
            join_steps(&lines[from..], inner, (tiles, right.parts), &mut joined);
            let place = (joined.as_ptr(), tiles * amx::TILE);
            multiply_panel(left, (place, None), panel, (Right::Split(right, lines), part), out, add);
        }
    }
}

/// Which steps of both sides are multiplied: from where, and how many.
#[derive(Clone, Copy)]
struct Shared {
    left: usize,
    right: usize,
    inner: usize,
}

/// Rows that were split times the blocks of a part, some steps of both.
fn multiply_lines(
    tiles: &Tiles,
    (rows, left): (Tiling, &[Line]),
    (right, lines): (Tiling, &[Line]),
    steps: Shared,
    part: Part,
    out: Target,
    from: Start<'_>,
) {
    // Sums of one panel, each block's beside each other: rows of `out` may push each other out of the cache.
    let mut sums = scratch(rows.blocks() * BLOCK_SUMS);
    for panel in part.panels() {
        let width = right.tiles(panel) * amx::TILE;
        let ahead = if panel + 1 < part.panels().end { first_lines((right, lines), panel + 1, steps) } else { &[] };
        multiply_panel_lines(tiles, (rows, left), (right, lines), panel, steps, (&mut sums, false), ahead);
        let to = out.at(part.first_row, panel * amx::BLOCK);
        let from = match from {
            Start::Row(row) => Start::Row(&row[panel * amx::BLOCK..]),
            other => other,
        };
        // SAFETY: `multiply_part` or `multiply_split` has seen that these rows and columns lie inside `out`, of which they are
        // this call's alone.
        #[allow(unsafe_code)]
        unsafe {
            move_sums(&sums, width, (rows.length, right.width(panel)), (to, out.stride), from)
        };
    }
}

/// Rows that were split times one block of columns, some steps of both. Rows of `out` are as wide as the tiles of the columns;
/// it has room for whole tiles of them.
fn multiply_panel_lines(
    tiles: &Tiles,
    (rows, left): (Tiling, &[Line]),
    (right, lines): (Tiling, &[Line]),
    panel: usize,
    steps: Shared,
    (out, add): (&mut [f32], bool),
    ahead: &[Line],
) {
    assert!(steps.left + steps.inner <= rows.inner && steps.right + steps.inner <= right.inner);
    assert!(steps.left.is_multiple_of(amx::STEPS) && steps.right.is_multiple_of(amx::STEPS));
    let near = near_chunks(right);
    let pairs = Pairs::of(rows.parts, right.parts);
    let (first_left, first_right) = (steps.left / amx::STEPS, steps.right / amx::STEPS);
    let all = steps.inner.div_ceil(amx::STEPS);
    let width = right.tiles(panel) * amx::TILE;
    for chunk in (0..all).step_by(near) {
        let chunks = near.min(all - chunk);
        let b = right.start(panel) + (first_right + chunk) * right.chunk(panel);
        let (b, behind) = lines[b..].split_at(chunks * right.chunk(panel));
        // What is multiplied next: more of this panel, or what comes after it.
        let more = near.min(all - chunk - chunks) * right.chunk(panel);
        let ahead = if more > 0 { &behind[..more] } else { ahead };
        let ahead = Ahead::new(ahead, rows.blocks(), chunks * pairs.order.len());
        for block in 0..rows.blocks() {
            let out = &mut out[block * amx::BLOCK * width..];
            let a = rows.start(block) + (first_left + chunk) * rows.chunk(block);
            let a = &left[a..][..chunks * rows.chunk(block)];
            let row_tiles = rows.tiles(block);
            assert!(row_tiles * amx::TILE * width <= out.len());
            let (ahead, ahead_each) = ahead.of(block);
            let job = Block {
                a: LeftTiles::packed(a.as_ptr(), row_tiles, pairs.left),
                b: b.as_ptr(),
                chunks,
                row_tiles,
                column_tiles: right.tiles(panel),
                pairs,
                c: out.as_mut_ptr(),
                c_row: width,
                add: add || chunk > 0,
                ahead,
                ahead_each,
            };
            // SAFETY: the slices hold all chunks, and `out` whole tiles.
            #[allow(unsafe_code)]
            unsafe {
                tiles.multiply(&job)
            };
        }
    }
}

/// Chunks of the right side that stay in the first-level cache.
pub(super) fn near_chunks(right: Tiling) -> usize {
    (NEAR_BYTES / (right.parts * amx::BLOCK * size_of::<Line>())).max(1)
}

/// Those lines of a block of columns that are multiplied first.
fn first_lines((right, lines): (Tiling, &[Line]), panel: usize, steps: Shared) -> &[Line] {
    let chunks = steps.inner.div_ceil(amx::STEPS).min(near_chunks(right));
    &lines[right.start(panel) + steps.right / amx::STEPS * right.chunk(panel)..][..chunks * right.chunk(panel)]
}

/// Numbers of a block of sums.
const BLOCK_SUMS: usize = amx::BLOCK * amx::BLOCK;

impl Left<'_> {
    fn gather(&self, first: usize, start: usize, inner: usize, out: &mut [f32]) {
        match self.rows {
            LeftRows::Plain(matrix) => matrix.gather(first, start, inner, out),
            LeftRows::Gathered(rows, ..) => rows.gather(first, start, inner, out),
        }
    }
}
