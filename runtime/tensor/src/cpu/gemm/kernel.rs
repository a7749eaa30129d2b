//! The innermost product: a few rows times a panel of columns, held in registers. One body, compiled for the vector
//! instructions of several processors; which of them runs is found out once.

use crate::cpu::simd::ask_for_line;
use std::sync::OnceLock;

/// The most rows and columns that a kernel of any processor takes at once.
pub(crate) const MOST_ROWS: usize = 14;
pub(crate) const MOST_COLUMNS: usize = 32;

/// What a kernel multiplies: `rows` of `a` times a panel of `b`, over `inner` steps, to rows of `c`. Distances count
/// elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) inner: usize,
    pub(crate) a: *const f32,
    /// From one row of `a` to the next, and from one step to the next.
    pub(crate) a_row: usize,
    pub(crate) a_step: usize,
    /// A panel: the columns of one step are neighbours.
    pub(crate) b: *const f32,
    pub(crate) b_step: usize,
    /// Asked for meanwhile, a line of the cache with each step: what is multiplied next. It need not exist.
    pub(crate) ahead: *const f32,
    pub(crate) ahead_step: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    /// Adds to `c` instead of writing over it.
    pub(crate) add: bool,
}

/// The kernels of one processor.
pub(crate) struct Kernel {
    /// Rows that a full tile has.
    pub(crate) rows: usize,
    /// Columns of a full panel, and of a narrow one.
    pub(crate) columns: usize,
    pub(crate) narrow: usize,
    run: unsafe fn(&Tile, usize, bool),
}

impl Kernel {
    /// The best one for this machine.
    pub(crate) fn get() -> &'static Kernel {
        static BEST: OnceLock<&'static Kernel> = OnceLock::new();
        BEST.get_or_init(|| Self::supported()[0])
    }

    /// All that this machine can run, the fastest first.
    pub(crate) fn supported() -> Vec<&'static Kernel> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && crate::cpu::simd::has_wide() {
                kernels.push(&x86::AVX512);
            }
            if crate::cpu::simd::has_wide() {
                kernels.push(&x86::AVX2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        kernels.push(&neon::NEON);
        kernels.push(&portable::PORTABLE);
        kernels
    }

    /// Multiplies up to [`Kernel::rows`] rows with a full or a narrow panel.
    ///
    /// # Safety
    /// The processor supports this kernel (it came from [`Kernel::get`] or [`Kernel::supported`]); everything that `tile`
    /// addresses for `rows` rows and all columns of the panel lies in live memory, and no one else uses that of `c`.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn multiply(&self, tile: &Tile, rows: usize, narrow: bool) {
        debug_assert!(rows <= self.rows);
        // SAFETY: passed on to the caller.
        unsafe { (self.run)(tile, rows, narrow) }
    }
}

/// A vector register of floats.
#[allow(unsafe_code)]
trait Lanes: Copy {
    const WIDTH: usize;
    /// # Safety
    /// The processor has the instructions, for this and all below; pointers point to as many floats as are moved.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self + a · b
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
}

/// Half of the most rows.
const ODD: usize = MOST_ROWS.div_ceil(2);

/// 1, 3, 5… times a number of bytes, as many as M rows need (that of a single row may be any). The compiler is not told what they
/// have to do with each other: it would add the distance of two rows up, one row after the other, and that takes as long as all
/// products of a step.
#[inline(always)]
fn odd_multiples<const M: usize>(bytes: usize) -> [usize; ODD] {
    let mut odd = [0; ODD];
    for (index, odd) in odd.iter_mut().enumerate().take(M.div_ceil(2)) {
        *odd = std::hint::black_box(bytes.wrapping_mul(2 * index + 1));
    }
    odd
}

/// `row` times the number: an odd multiple times a power of two, which an address on x86 may have a factor for.
#[inline(always)]
fn multiple(odd: &[usize; ODD], row: usize) -> usize {
    match row {
        0 => 0,
        _ => odd[(row >> row.trailing_zeros()) / 2] << row.trailing_zeros(),
    }
}

/// M rows times N registers of columns.
///
/// # Safety
/// As for [`Kernel::multiply`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn tile<V: Lanes, const M: usize, const N: usize>(t: &Tile) {
    // SAFETY: the caller vouches for the instructions and for every address: rows 0..M of `a` over `inner` steps, the
    // panel's N registers of columns per step, and the same rows and columns of `c`.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        let (mut a, mut b, mut ahead) = (t.a.cast::<u8>(), t.b, t.ahead);
        let odd = odd_multiples::<M>(t.a_row.wrapping_mul(size_of::<f32>()));
        for _ in 0..t.inner {
            ask_for_line(ahead);
            ahead = ahead.wrapping_add(t.ahead_step);
            let mut columns = [V::splat(0.0); N];
            for (index, column) in columns.iter_mut().enumerate() {
                *column = V::load(b.add(index * V::WIDTH));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = V::splat(*a.wrapping_add(multiple(&odd, row)).cast());
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    *sum = sum.add_product(value, *column);
                }
            }
            a = a.wrapping_add(t.a_step.wrapping_mul(size_of::<f32>()));
            b = b.wrapping_add(t.b_step);
        }
        for (row, sums) in sums.iter().enumerate() {
            let c = t.c.add(row * t.c_row);
            for (index, sum) in sums.iter().enumerate() {
                let c = c.add(index * V::WIDTH);
                if t.add { V::load(c).add(*sum).store(c) } else { sum.store(c) }
            }
        }
    }
}

/// Defines the kernel of a processor: a function for each number of rows, full and narrow.
macro_rules! kernel {
    ($name:ident, $lanes:ty, $feature:meta, rows $full:literal: $($rows:literal)*) => {
        pub(in crate::cpu::gemm::kernel) static $name: Kernel =
            Kernel { rows: $full, columns: 2 * <$lanes as Lanes>::WIDTH, narrow: <$lanes as Lanes>::WIDTH, run };

        /// # Safety
        /// As for [`Kernel::multiply`].
        #[allow(unsafe_code)]
        unsafe fn run(t: &Tile, rows: usize, narrow: bool) {
            #[$feature]
            unsafe fn sized<const M: usize, const N: usize>(t: &Tile) {
                // SAFETY: passed on to the caller.
                unsafe { tile::<$lanes, M, N>(t) }
            }
            // SAFETY: passed on to the caller.
            unsafe {
                match (rows, narrow) {
                    $(($rows, false) => sized::<$rows, 2>(t),
                    ($rows, true) => sized::<$rows, 1>(t),)*
                    _ => {}
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    pub(super) use self::{avx2::AVX2, avx512::AVX512};

    /// Implements [`super::Lanes`] by intrinsics.
    macro_rules! lanes {
        ($type:ident, $width:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident) => {
            #[derive(Clone, Copy)]
            struct Register(std::arch::x86_64::$type);

            #[allow(unsafe_code)]
            impl Lanes for Register {
                const WIDTH: usize = $width;
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the caller has the instructions.
                    unsafe { Register(std::arch::x86_64::$splat(value)) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller has the instructions and gives a valid pointer.
                    unsafe { Register(std::arch::x86_64::$load(from)) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above.
                    unsafe { std::arch::x86_64::$store(to, self.0) }
                }
                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { Register(std::arch::x86_64::$fma(a.0, b.0, self.0)) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { Register(std::arch::x86_64::$add(self.0, other.0)) }
                }
            }
        };
    }

    mod avx512 {
        use super::super::{Kernel, Lanes, Tile, tile};
        lanes!(__m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_add_ps);
        kernel!(AVX512, Register, target_feature(enable = "avx512f,avx2,fma"), rows 14: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }

    mod avx2 {
        use super::super::{Kernel, Lanes, Tile, tile};
        lanes!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_add_ps);
        kernel!(AVX2, Register, target_feature(enable = "avx2,fma"), rows 6: 1 2 3 4 5 6);
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::{Kernel, Lanes, Tile, tile};
    use std::arch::aarch64::{float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vst1q_f32};

    #[derive(Clone, Copy)]
    struct Register(float32x4_t);

    #[allow(unsafe_code)]
    impl Lanes for Register {
        const WIDTH: usize = 4;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: every aarch64 processor that Rust's targets name has NEON.
            unsafe { Register(vdupq_n_f32(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above; the caller gives a valid pointer.
            unsafe { Register(vld1q_f32(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above.
            unsafe { vst1q_f32(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { Register(vfmaq_f32(self.0, a.0, b.0)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { Register(vaddq_f32(self.0, other.0)) }
        }
    }

    kernel!(NEON, Register, target_feature(enable = "neon"), rows 12: 1 2 3 4 5 6 7 8 9 10 11 12);
}

mod portable {
    use super::{Kernel, Lanes, Tile, tile};

    #[derive(Clone, Copy)]
    struct Register([f32; 4]);

    #[allow(unsafe_code)]
    impl Lanes for Register {
        const WIDTH: usize = 4;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Register([value; 4])
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller gives a pointer to four floats.
            unsafe { Register(from.cast::<[f32; 4]>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above.
            unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Register(std::array::from_fn(|lane| self.0[lane] + a.0[lane] * b.0[lane]))
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            Register(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
        }
    }

    kernel!(PORTABLE, Register, allow(unsafe_op_in_unsafe_fn), rows 4: 1 2 3 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_that_are_not_gone_may_be_any() {
        let (a, b) = ([3.0f32], [2.0f32; MOST_COLUMNS]);
        for kernel in Kernel::supported() {
            let mut c = [0.0f32; MOST_COLUMNS];
            let far = usize::MAX / 3;
            let (a, b, c_at) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
            let tile = Tile {
                inner: 1,
                a,
                a_row: far,
                a_step: far,
                b,
                b_step: far,
                ahead: b,
                ahead_step: far,
                c: c_at,
                c_row: far,
                add: false,
            };
            // SAFETY: this machine supports the kernel; one row and one step lie in the arrays, and nothing else is looked at.
            #[allow(unsafe_code)]
            unsafe {
                kernel.multiply(&tile, 1, false)
            };
            assert!(c[..kernel.columns].iter().all(|value| *value == 6.0));
        }
    }

    #[test]
    fn kernels_of_all_processors_multiply_alike() {
        const INNER: usize = 9;
        let number = |at: usize| ((at * 7 + 3) % 17) as f32 - 8.0;
        let a: Vec<f32> = (0..MOST_ROWS * INNER).map(number).collect();
        let b: Vec<f32> = (0..INNER * MOST_COLUMNS).map(number).collect();
        for kernel in Kernel::supported() {
            for (rows, narrow, add) in (1..=kernel.rows).flat_map(|rows| [(rows, false, true), (rows, true, false)]) {
                let columns = if narrow { kernel.narrow } else { kernel.columns };
                let mut c = [1.0f32; MOST_ROWS * MOST_COLUMNS];
                let (a, b, c_row) = (a.as_ptr(), b.as_ptr(), MOST_COLUMNS);
                let (a_row, a_step, b_step) = (INNER, 1, MOST_COLUMNS);
                let (inner, ahead, ahead_step, c_at) = (INNER, b, 0, c.as_mut_ptr());
                let tile = Tile { inner, a, a_row, a_step, b, b_step, ahead, ahead_step, c: c_at, c_row, add };
                // SAFETY: this machine supports the kernel, and the arrays have room for its largest tile.
                #[allow(unsafe_code)]
                unsafe {
                    kernel.multiply(&tile, rows, narrow)
                };
                for (at, value) in c.iter().enumerate() {
                    let (row, column) = (at / MOST_COLUMNS, at % MOST_COLUMNS);
                    let product = |step| number(row * INNER + step) * number(step * MOST_COLUMNS + column);
                    let sum: f32 = (0..INNER).map(product).sum();
                    let inside = row < rows && column < columns;
                    let wanted = if inside { sum + if add { 1.0 } else { 0.0 } } else { 1.0 };
                    assert_eq!(*value, wanted, "{rows} rows of {}, {row}, {column}", kernel.rows);
                }
            }
        }
    }
}
