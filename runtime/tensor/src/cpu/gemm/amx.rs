//! Products of blocks of bfloat16 on the matrix unit of Intel's server processors (AMX, since Sapphire Rapids): 16×16 sums of
//! float32 grow by 32 products each with one instruction, sixteen times what vector registers do.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18, and `TDPBF16PS` of volume 2.
//! Operands below 2⁻¹²⁶ count as zero there, and results below it become zero.

use super::split::{Line, Pairs};
use std::marker::PhantomData;

/// Rows of a tile, columns of a tile of sums, and pairs of steps of one instruction.
pub(super) const TILE: usize = 16;
/// Steps of one instruction.
pub(crate) const STEPS: usize = 32;
/// Rows and columns of a block: two tiles each way.
pub(super) const BLOCK: usize = 2 * TILE;

/// Where the left side's tiles of rows lie; distances are bytes.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))] // Nothing else multiplies them.
pub(super) struct LeftTiles {
    /// The first part of the first chunk of each.
    pub(super) tiles: [*const Line; 2],
    /// From one row to the next, one part to the next, one chunk to the next.
    pub(super) row: usize,
    pub(super) part: usize,
    pub(super) chunk: usize,
}

impl LeftTiles {
    /// Of so many tiles, as [`super::split::Tiling`] has them.
    pub(super) fn packed(from: *const Line, tiles: usize, parts: usize) -> LeftTiles {
        const TILE_BYTES: usize = TILE * size_of::<Line>();
        LeftTiles {
            tiles: [from, from.wrapping_add((tiles - 1) * TILE)],
            row: size_of::<Line>(),
            part: tiles * TILE_BYTES,
            chunk: parts * tiles * TILE_BYTES,
        }
    }
}

/// What is multiplied: up to two tiles of rows by up to two tiles of columns.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))] // Nothing else multiplies them.
pub(super) struct Block {
    pub(super) a: LeftTiles,
    /// For each [`STEPS`] steps the parts of the right side, `column_tiles` tiles each.
    pub(super) b: *const Line,
    pub(super) chunks: usize,
    pub(super) row_tiles: usize,
    pub(super) column_tiles: usize,
    pub(super) pairs: &'static Pairs,
    /// Sums of whole tiles; from one row to the next, in elements.
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    /// Adds to what is there.
    pub(super) add: bool,
    /// What is fetched into the second-level cache meanwhile, for later: so many lines with each pair of parts.
    pub(super) ahead: *const Line,
    pub(super) ahead_each: usize,
}

/// Lines that are needed soon, shared out to some blocks that are multiplied first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead<'a> {
    lines: &'a [Line],
    each: usize,
    of_block: usize,
}

impl<'a> Ahead<'a> {
    /// For so many blocks of so many pairs of parts, of all chunks.
    pub(super) fn new(lines: &'a [Line], blocks: usize, pairs: usize) -> Ahead<'a> {
        let each = lines.len().div_ceil((blocks * pairs).max(1));
        Ahead { lines, each, of_block: each * pairs }
    }

    /// Where the share of a block begins, and the lines with each pair.
    pub(super) fn of(&self, block: usize) -> (*const Line, usize) {
        let share = self.lines.get(block * self.of_block..(block + 1) * self.of_block);
        share.map_or((std::ptr::null(), 0), |share| (share.as_ptr(), self.each))
    }
}

/// The tile registers of this thread, which stays the one that has them; when it goes, they are empty again, so that the system
/// need not save them.
pub(crate) struct Tiles(PhantomData<*const ()>);

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use native::available;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn available() -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
mod native {
    use super::{BLOCK, Block, LeftTiles, STEPS, TILE, Tiles};
    use std::arch::{asm, x86_64};
    use std::marker::PhantomData;
    use std::sync::OnceLock;

    /// Bytes of a tile's row.
    const ROW: usize = TILE * size_of::<u32>();

    /// Whether processor and system let this process multiply so. Asks the system once: nothing may be used unasked.
    pub(crate) fn available() -> bool {
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        *ALLOWED.get_or_init(|| wanted() && has_tiles() && saved_by_system() && asked())
    }

    /// `VIVARIUM_MATRIX_UNIT=off` has this machine compute as one without it does.
    fn wanted() -> bool {
        std::env::var_os("VIVARIUM_MATRIX_UNIT").is_none_or(|value| value != "off")
    }

    fn has_tiles() -> bool {
        const TILE_AND_BFLOAT16: u32 = 1 << 24 | 1 << 22;
        x86_64::__cpuid(0).eax >= 7 && x86_64::__cpuid_count(7, 0).edx & TILE_AND_BFLOAT16 == TILE_AND_BFLOAT16
    }

    /// Whether the system switches on the registers and saves them.
    fn saved_by_system() -> bool {
        const CONFIGURATION_AND_DATA: u64 = 1 << 17 | 1 << 18;
        #[target_feature(enable = "xsave")]
        fn enabled() -> u64 {
            // SAFETY: the caller has seen that the system uses XSAVE.
            unsafe { x86_64::_xgetbv(0) }
        }
        // XSAVE and OSXSAVE.
        let usable = x86_64::__cpuid(1).ecx & (1 << 27 | 1 << 26) == 1 << 27 | 1 << 26;
        // SAFETY: the processor has the instruction, and the system lets programs use it.
        usable && unsafe { enabled() } & CONFIGURATION_AND_DATA == CONFIGURATION_AND_DATA
    }

    /// Linux wants to be asked, once per process, since the registers make every thread's state larger.
    fn asked() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: this call takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    }

    /// As the instruction reads it: the first palette, and for each register bytes of a row, and rows.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    impl Tiles {
        /// Nothing where [`available`] says no.
        pub(crate) fn new() -> Option<Tiles> {
            static CONFIGURATION: Configuration = {
                let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
                let mut register = 0;
                while register < 8 {
                    (row_bytes[register], rows[register]) = (ROW as u16, TILE as u8);
                    register += 1;
                }
                Configuration { palette: 1, start: 0, reserved: [0; 14], row_bytes, rows }
            };
            if !available() {
                return None;
            }
            // SAFETY: the processor has the instruction and the system allows it; the configuration is one of palette 1.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly, preserves_flags));
            }
            Some(Tiles(PhantomData))
        }

        /// `c (+)= a · b`
        ///
        /// # Safety
        /// `a` and `b` point to all their chunks, `c` to whole tiles, which no one else uses.
        pub(in crate::cpu::gemm) unsafe fn multiply(&self, block: &Block) {
            // SAFETY: passed on to the caller.
            unsafe {
                match (block.row_tiles, block.column_tiles) {
                    (2, 2) => sized::<2, 2>(block),
                    (2, _) => sized::<2, 1>(block),
                    (_, 2) => sized::<1, 2>(block),
                    _ => sized::<1, 1>(block),
                }
            }
        }
    }

    impl Drop for Tiles {
        fn drop(&mut self) {
            // SAFETY: this thread has configured them.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
        }
    }

    #[inline(always)]
    unsafe fn load<const T: u8>(from: *const u8, row: usize) {
        // SAFETY: the caller gives sixteen rows of sixteen numbers. The compiler uses no tile register itself.
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {row}]", t = const T, from = in(reg) from, row = in(reg) row,
                options(nostack, readonly, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn store<const T: u8>(to: *mut u8, row: usize) {
        // SAFETY: as above.
        unsafe {
            asm!("tilestored [{to} + {row}], tmm{t}", t = const T, to = in(reg) to, row = in(reg) row,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn zero<const T: u8>() {
        // SAFETY: the tiles are configured.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, nomem, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn add_products<const C: u8, const A: u8, const B: u8>() {
        // SAFETY: the tiles are configured.
        unsafe {
            asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nostack, nomem, preserves_flags));
        }
    }

    /// Registers 0 to 3 hold the sums, 4 and 5 the left side, 6 and 7 the right side.
    ///
    /// # Safety
    /// As for [`Tiles::multiply`].
    #[inline(always)]
    unsafe fn sized<const M: usize, const N: usize>(block: &Block) {
        let c_row = block.c_row * size_of::<f32>();
        let c = |row: usize, column: usize| block.c.wrapping_add(row * TILE * block.c_row + column * TILE).cast::<u8>();
        let LeftTiles { tiles, row, part, chunk: a_chunk } = block.a;
        let (tiles, b) = (tiles.map(|tile| tile.cast::<u8>()), block.b.cast::<u8>());
        const BYTES: usize = TILE * ROW;
        // SAFETY: the caller vouches for every tile that is addressed; fetching ahead has no effect that a program can see.
        unsafe {
            if block.add {
                load::<0>(c(0, 0), c_row);
                if N == 2 {
                    load::<1>(c(0, 1), c_row);
                }
                if M == 2 {
                    load::<2>(c(1, 0), c_row);
                }
                if M == 2 && N == 2 {
                    load::<3>(c(1, 1), c_row);
                }
            } else {
                zero::<0>();
                zero::<1>();
                zero::<2>();
                zero::<3>();
            }
            let mut ahead = block.ahead;
            for chunk in 0..block.chunks {
                let a = tiles.map(|tile| tile.wrapping_add(chunk * a_chunk));
                let b = b.wrapping_add(chunk * block.pairs.right * N * BYTES);
                let mut held = (usize::MAX, usize::MAX);
                for (left, right) in block.pairs.order {
                    let (new_left, new_right) = (held.0 != *left, held.1 != *right);
                    held = (*left, *right);
                    let (a, b) = (a.map(|a| a.wrapping_add(left * part)), b.wrapping_add(right * N * BYTES));
                    if new_left {
                        load::<4>(a[0], row);
                    }
                    if new_right {
                        load::<6>(b, ROW);
                    }
                    add_products::<0, 4, 6>();
                    for _ in 0..block.ahead_each {
                        x86_64::_mm_prefetch::<{ x86_64::_MM_HINT_T1 }>(ahead.cast());
                        ahead = ahead.wrapping_add(1);
                    }
                    if M == 2 {
                        if new_left {
                            load::<5>(a[1], row);
                        }
                        add_products::<2, 5, 6>();
                    }
                    if N == 2 {
                        if new_right {
                            load::<7>(b.wrapping_add(BYTES), ROW);
                        }
                        add_products::<1, 4, 7>();
                    }
                    if M == 2 && N == 2 {
                        add_products::<3, 5, 7>();
                    }
                }
            }
            store::<0>(c(0, 0), c_row);
            if N == 2 {
                store::<1>(c(0, 1), c_row);
            }
            if M == 2 {
                store::<2>(c(1, 0), c_row);
            }
            if M == 2 && N == 2 {
                store::<3>(c(1, 1), c_row);
            }
        }
    }

    const _: () = assert!(STEPS * size_of::<half::bf16>() == ROW && BLOCK == 2 * TILE);
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[allow(unsafe_code)]
impl Tiles {
    pub(crate) fn new() -> Option<Tiles> {
        None
    }

    /// # Safety
    /// None: there is no such thing on this machine.
    pub(super) unsafe fn multiply(&self, _: &Block) {}
}
