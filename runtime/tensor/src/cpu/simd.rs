//! Loops compiled three times: for the baseline, for AVX2 with FMA and for AVX-512, chosen at run time.
//!
//! The bodies are plain loops; the compiler vectorises them. Only the call into code compiled for more features is unsafe.

/// Defines a function whose body is also compiled for AVX2 with FMA, and for AVX-512. All closures must be `#[inline(always)]`-like small.
macro_rules! multiversion {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident<$($generic:ident $(: $bound:path)?),*>($($arg:ident: $type:ty),* $(,)?)
        where { $($clause:tt)* } $body:block) => {
        $(#[$meta])*
        #[inline]
        #[allow(unsafe_code)]
        $visibility fn $name<$($generic $(: $bound)?),*>($($arg: $type),*) where $($clause)* {
            #[inline(always)]
            fn body<$($generic $(: $bound)?),*>($($arg: $type),*) where $($clause)* $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
                fn wide<$($generic $(: $bound)?),*>($($arg: $type),*) where $($clause)* {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2")]
                fn widest<$($generic $(: $bound)?),*>($($arg: $type),*) where $($clause)* {
                    body($($arg),*)
                }
                if $crate::cpu::simd::has_widest() {
                    // SAFETY: the processor has the features that `widest` is compiled for.
                    return unsafe { widest($($arg),*) };
                }
                if $crate::cpu::simd::has_wide() {
                    // SAFETY: the processor has the features that `wide` is compiled for.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_wide() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
}

/// a · b + c, rounded once. One instruction in what [`multiversion!`] compiles for AVX2 and AVX-512, and on ARM; processors of
/// before 2013 call a library for it.
#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_widest() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && has_wide()
}

/// Whether there are 32 registers of 16 floats.
pub(crate) fn has_most_registers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_widest();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The nearest float16 of as many numbers as the processor converts by itself, which may be none; answers how many.
#[allow(unsafe_code)]
pub(crate) fn to_halves(values: &[f32], out: &mut [half::f16]) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            __m256i, _MM_FROUND_TO_NEAREST_INT, _mm256_storeu_si256, _mm512_cvtps_ph, _mm512_loadu_ps,
        };
        const LANES: usize = 16;
        #[target_feature(enable = "avx512f")]
        fn whole(values: &[[f32; LANES]], out: &mut [[half::f16; LANES]]) {
            for (values, out) in values.iter().zip(out) {
                // SAFETY: both point to sixteen numbers, of four bytes and of two.
                unsafe {
                    let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(values.as_ptr()));
                    _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), halves);
                }
            }
        }
        if has_widest() {
            let (values, out) = (values.as_chunks::<LANES>().0, out.as_chunks_mut::<LANES>().0);
            // SAFETY: the processor has the instructions.
            unsafe { whole(values, out) };
            return values.len().min(out.len()) * LANES;
        }
    }
    let _ = (values, out);
    0
}

/// Elements between two requests for what is read next.
const STRIDE: usize = 256;

/// Asks for the elements that follow on those after `values`, for as many. Processors look ahead by themselves, but not far
/// enough where much is computed for each element: a latent of 5 MB took a tenth to a fifth longer.
#[inline(always)]
fn ask_for_next<A>(values: &[A]) {
    ask_for(values.as_ptr().wrapping_add(2 * values.len()), values.len());
}

/// Asks for elements that are read soon. They need not exist.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn ask_for<A>(from: *const A, count: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        for line in (0..count * size_of::<A>()).step_by(LINE) {
            // SAFETY: a hint, which reads nothing; the address may be any.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast::<i8>().wrapping_add(line)) };
        }
    }
    let _ = (from, count);
}

/// Asks for the line of the cache at an address, into the second level. It need not exist.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn ask_for_line<A>(from: *const A) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint, which reads nothing; the address may be any.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) };
    }
    let _ = from;
}

multiversion! {
    /// `out[i] = f(a[i])`
    pub(crate) fn map1<A: Copy, O, F>(a: &[A], out: &mut [O], f: F) where { F: Fn(A) -> O } {
        for (out, a) in out.chunks_mut(STRIDE).zip(a.chunks(STRIDE)) {
            ask_for_next(a);
            for (out, a) in out.iter_mut().zip(a) {
                *out = f(*a);
            }
        }
    }
}

multiversion! {
    /// `out[i] = f(a[i], b[i])`
    pub(crate) fn map2<A: Copy, O, F>(a: &[A], b: &[A], out: &mut [O], f: F) where { F: Fn(A, A) -> O } {
        for ((out, a), b) in out.chunks_mut(STRIDE).zip(a.chunks(STRIDE)).zip(b.chunks(STRIDE)) {
            ask_for_next(a);
            ask_for_next(b);
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = f(*a, *b);
            }
        }
    }
}

multiversion! {
    /// `out[i] = f(a[i], b[i], c[i])`
    pub(crate) fn map3<A: Copy, O, F>(a: &[A], b: &[A], c: &[A], out: &mut [O], f: F) where { F: Fn(A, A, A) -> O } {
        let operands = a.chunks(STRIDE).zip(b.chunks(STRIDE)).zip(c.chunks(STRIDE));
        for (out, ((a, b), c)) in out.chunks_mut(STRIDE).zip(operands) {
            ask_for_next(a);
            ask_for_next(b);
            ask_for_next(c);
            for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *out = f(*a, *b, *c);
            }
        }
    }
}

multiversion! {
    /// `accumulators[i] = f(accumulators[i], a[i])`
    pub(crate) fn fold_each<A: Copy, C: Copy, F>(accumulators: &mut [A], a: &[C], f: F) where { F: Fn(A, C) -> A } {
        for (accumulator, a) in accumulators.iter_mut().zip(a) {
            *accumulator = f(*accumulator, *a);
        }
    }
}

multiversion! {
    /// Folds `a` into 32 lanes, the i-th value into lane i mod 32: additions wait for those before in the same lane only.
    pub(crate) fn fold_lanes<A: Copy, C: Copy, F>(lanes: &mut [A; 32], a: &[C], f: F) where { F: Fn(A, C) -> A } {
        let mut own = *lanes;
        let (whole, rest) = a.as_chunks::<32>();
        for chunk in whole {
            for (lane, a) in own.iter_mut().zip(chunk) {
                *lane = f(*lane, *a);
            }
        }
        for (lane, a) in own.iter_mut().zip(rest) {
            *lane = f(*lane, *a);
        }
        *lanes = own;
    }
}
