//! Sixteen lanes in two registers: AVX2 with FMA and F16C (Haswell, Zen and later).

#[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "intrinsics are one flat list of names"))]
use std::arch::x86_64::*;

use super::lanes::Lanes;

/// AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

/// Lanes 0..8 and 8..16.
type Pair<T> = [T; 2];

/// Four bytes of a row in every lane.
#[inline(always)]
unsafe fn quad(acts: *const i8, at: usize) -> __m256i {
    unsafe { _mm256_set1_epi32(acts.add(at * 4).cast::<i32>().read_unaligned()) }
}

/// 2^n, by its bits.
#[inline(always)]
unsafe fn power_of_two(n: __m256) -> __m256 {
    unsafe {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
}

#[inline(always)]
unsafe fn sum_pairs(a: __m256i) -> __m256i {
    unsafe { _mm256_madd_epi16(a, _mm256_set1_epi16(1)) }
}

// SAFETY: methods are inlined into functions that enable the instruction set, which
// `Isa::detect` has found on the processor; pointers are used as the trait states.
unsafe impl Lanes for Avx2 {
    type F = Pair<__m256>;
    type I = Pair<__m256i>;

    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self::F) {
        unsafe {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::F {
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))] }
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u16, x: Self::F) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::F {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    unsafe fn zero_below(x: Self::F, threshold: Self::F, value: Self::F) -> Self::F {
        unsafe {
            [
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[0], threshold[0]), value[0]),
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[1], threshold[1]), value[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        unsafe {
            [
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a[0]),
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: Self::F, n: Self::F) -> Self::F {
        unsafe { [_mm256_mul_ps(a[0], power_of_two(n[0])), _mm256_mul_ps(a[1], power_of_two(n[1]))] }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        unsafe {
            let a = _mm256_add_ps(a[0], a[1]);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    unsafe fn greatest(a: Self::F) -> f32 {
        unsafe {
            let a = _mm256_max_ps(a[0], a[1]);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        }
    }
    #[inline(always)]
    unsafe fn to_i32(a: Self::F) -> Self::I {
        unsafe { [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])] }
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::I) -> Self::F {
        unsafe { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: Self::I) {
        unsafe {
            // Packing works within halves of a register: words 0-3 8-11 4-7 12-15, put right at the end.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }
    #[inline(always)]
    unsafe fn sum_i32(a: Self::I) -> i32 {
        unsafe {
            let a = _mm256_add_epi32(a[0], a[1]);
            let a = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_add_epi32(a, _mm_shuffle_epi32::<0b01_00_11_10>(a));
            _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32::<0b10_11_00_01>(a)))
        }
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
            let low_half = _mm256_set1_epi8(15);
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for half in 0..2 {
                // Eight products of at most 2 · 15 · 127 add up to 30,480: they fit 16 bits.
                let mut words = [_mm256_setzero_si256(); R];
                for at in 0..4 {
                    let pairs = _mm256_loadu_si256(weights.add(at * 64 + half * 32).cast());
                    let low = _mm256_and_si256(pairs, low_half);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), low_half);
                    for r in 0..R {
                        let first = _mm256_maddubs_epi16(low, quad(acts[r], at));
                        let second = _mm256_maddubs_epi16(high, quad(acts[r], at + 4));
                        words[r] = _mm256_add_epi16(words[r], _mm256_add_epi16(first, second));
                    }
                }
                for r in 0..R {
                    let sum = sum_pairs(words[r]);
                    let offset = if CENTRED { offsets[r] / 16 } else { 0 };
                    sums[r][half] = _mm256_add_epi32(sum, _mm256_set1_epi32(offset));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_table<const R: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        _offsets: &[i32; R],
        table: &[i8; 16],
    ) -> [Self::I; R] {
        unsafe {
            let low_half = _mm256_set1_epi8(15);
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for half in 0..2 {
                for at in 0..4 {
                    let pairs = _mm256_loadu_si256(weights.add(at * 64 + half * 32).cast());
                    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(pairs, low_half));
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), low_half);
                    let high = _mm256_shuffle_epi8(table, high);
                    for (signed, at) in [(low, at), (high, at + 4)] {
                        // As for bytes: magnitudes of weights, and their signs moved to the activations.
                        let magnitude = _mm256_abs_epi8(signed);
                        for r in 0..R {
                            let acts = _mm256_sign_epi8(quad(acts[r], at), signed);
                            let sum = sum_pairs(_mm256_maddubs_epi16(magnitude, acts));
                            sums[r][half] = _mm256_add_epi32(sums[r][half], sum);
                        }
                    }
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
            let (two, four) = (_mm256_set1_epi8(3), _mm256_set1_epi8(4));
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for half in 0..2 {
                let mut crumbs = _mm256_loadu_si256(weights.add(half * 32).cast());
                let mut thirds = _mm256_setzero_si256();
                if THIRD {
                    // Bit 2 of each byte is that of the quad at hand: bits of neighbours are masked out.
                    thirds = _mm256_loadu_si256(weights.add(64).cast());
                    thirds = if half == 0 { _mm256_slli_epi16::<2>(thirds) } else { _mm256_srli_epi16::<2>(thirds) };
                }
                // Eight products of at most 2 · 7 · 127 add up to 14,224: they fit 16 bits.
                let mut words = [_mm256_setzero_si256(); R];
                for at in 0..4 {
                    let mut value = _mm256_and_si256(crumbs, two);
                    if THIRD {
                        value = _mm256_or_si256(value, _mm256_and_si256(thirds, four));
                        thirds = _mm256_srli_epi16::<1>(thirds);
                    }
                    crumbs = _mm256_srli_epi16::<2>(crumbs);
                    for r in 0..R {
                        words[r] = _mm256_add_epi16(words[r], _mm256_maddubs_epi16(value, quad(acts[r], at)));
                    }
                }
                for r in 0..R {
                    let offset = if THIRD { offsets[r] / 32 } else { 0 };
                    sums[r][half] = _mm256_add_epi32(sum_pairs(words[r]), _mm256_set1_epi32(offset));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn dot_bytes<const R: usize, const QUADS: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        _offsets: &[i32; R],
    ) -> [Self::I; R] {
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            for half in 0..2 {
                for at in 0..QUADS {
                    let raised = _mm256_loadu_si256(weights.add(at * 64 + half * 32).cast());
                    // Unsigned times signed is what there is, and two products of 255 · 127 would not
                    // fit 16 bits: so magnitudes of weights, and their signs moved to the activations.
                    let signed = _mm256_xor_si256(raised, _mm256_set1_epi8(-128));
                    let magnitude = _mm256_abs_epi8(signed);
                    for r in 0..R {
                        let acts = _mm256_sign_epi8(quad(acts[r], at), signed);
                        let sum = sum_pairs(_mm256_maddubs_epi16(magnitude, acts));
                        sums[r][half] = _mm256_add_epi32(sums[r][half], sum);
                    }
                }
            }
            sums
        }
    }
}
