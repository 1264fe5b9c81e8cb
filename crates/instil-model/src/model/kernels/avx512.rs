//! Sixteen lanes in one register: AVX-512 with VNNI (Ice Lake, Zen 4 and later).

#[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "intrinsics are one flat list of names"))]
use std::arch::x86_64::*;

use super::lanes::Lanes;

/// AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;

/// Four bytes of a row in every lane.
#[inline(always)]
unsafe fn quad(acts: *const i8, at: usize) -> __m512i {
    unsafe { _mm512_set1_epi32(acts.add(at * 4).cast::<i32>().read_unaligned()) }
}

#[inline(always)]
unsafe fn upper_half(a: __m512) -> __m256 {
    unsafe { _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a))) }
}

// SAFETY: methods are inlined into functions that enable the instruction set, which
// `Isa::detect` has found on the processor; pointers are used as the trait states.
unsafe impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;

    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::F {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self::F) {
        unsafe { _mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::F {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u16, x: Self::F) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::F {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    unsafe fn zero_below(x: Self::F, threshold: Self::F, value: Self::F) -> Self::F {
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, threshold), value) }
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: Self::F, n: Self::F) -> Self::F {
        unsafe {
            let bits = _mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)));
            _mm512_mul_ps(a, _mm512_castsi512_ps(bits))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe {
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), upper_half(a));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    unsafe fn greatest(a: Self::F) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    unsafe fn to_i32(a: Self::F) -> Self::I {
        unsafe { _mm512_cvtps_epi32(a) }
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::I) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: Self::I) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(a)) }
    }
    #[inline(always)]
    unsafe fn sum_i32(a: Self::I) -> i32 {
        unsafe { _mm512_reduce_add_epi32(a) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn dot_nibbles<const R: usize, const CENTRED: bool>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R] {
        unsafe {
            let low_half = _mm512_set1_epi8(15);
            let mut sums = [_mm512_setzero_si512(); R];
            if CENTRED {
                for r in 0..R {
                    sums[r] = _mm512_srai_epi32::<4>(_mm512_set1_epi32(offsets[r]));
                }
            }
            for at in 0..4 {
                let pairs = _mm512_loadu_si512(weights.add(at * 64).cast());
                let low = _mm512_and_si512(pairs, low_half);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), low_half);
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], low, quad(acts[r], at));
                }
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], high, quad(acts[r], at + 4));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_table<const R: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
        table: &[i8; 16],
    ) -> [Self::I; R] {
        unsafe {
            let low_half = _mm512_set1_epi8(15);
            // Raised by 128 to be unsigned, as bytes are.
            let table = _mm_xor_si128(_mm_loadu_si128(table.as_ptr().cast()), _mm_set1_epi8(-128));
            let table = _mm512_broadcast_i32x4(table);
            let mut sums = [_mm512_setzero_si512(); R];
            for r in 0..R {
                sums[r] = _mm512_set1_epi32(offsets[r]);
            }
            for at in 0..4 {
                let pairs = _mm512_loadu_si512(weights.add(at * 64).cast());
                let low = _mm512_shuffle_epi8(table, _mm512_and_si512(pairs, low_half));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(pairs), low_half);
                let high = _mm512_shuffle_epi8(table, high);
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], low, quad(acts[r], at));
                }
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], high, quad(acts[r], at + 4));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_crumbs<const R: usize, const THIRD: bool>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R] {
        unsafe {
            let (two, four) = (_mm512_set1_epi8(3), _mm512_set1_epi8(4));
            let mut sums = [_mm512_setzero_si512(); R];
            let mut crumbs = _mm512_loadu_si512(weights.cast());
            let mut thirds = _mm512_setzero_si512();
            if THIRD {
                for r in 0..R {
                    sums[r] = _mm512_srai_epi32::<5>(_mm512_set1_epi32(offsets[r]));
                }
                // Bit 2 of each byte is that of the quad at hand: bits of neighbours are masked out.
                let both = _mm256_loadu_si256(weights.add(64).cast());
                let first = _mm512_castsi256_si512(_mm256_slli_epi16::<2>(both));
                thirds = _mm512_inserti64x4::<1>(first, _mm256_srli_epi16::<2>(both));
            }
            for at in 0..4 {
                let mut value = _mm512_and_si512(crumbs, two);
                if THIRD {
                    value = _mm512_or_si512(value, _mm512_and_si512(thirds, four));
                    thirds = _mm512_srli_epi16::<1>(thirds);
                }
                crumbs = _mm512_srli_epi16::<2>(crumbs);
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], value, quad(acts[r], at));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_bytes<const R: usize, const QUADS: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R] {
        unsafe {
            let mut sums = [_mm512_setzero_si512(); R];
            for r in 0..R {
                sums[r] = _mm512_set1_epi32(offsets[r]);
            }
            for at in 0..QUADS {
                let four = _mm512_loadu_si512(weights.add(at * 64).cast());
                for r in 0..R {
                    sums[r] = _mm512_dpbusd_epi32(sums[r], four, quad(acts[r], at));
                }
            }
            sums
        }
    }
}
