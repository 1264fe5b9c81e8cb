//! Sixteen lanes of an instruction set: the operations from which every kernel is written once.
//!
//! A kernel is generic over [`Lanes`] and sees sixteen `f32`, whatever registers hold them. Each
//! operation rounds exactly as its portable twin does (IEEE 754 single operations, fused
//! multiply-add, sums in one fixed tree), and integer sums are exact, so a kernel's result is equal
//! to the bit on every instruction set. The implementations are [`Portable`] here, and the
//! neighbouring files for AVX2 and AVX-512.

use half::f16;

/// Numbers a vector of lanes holds.
pub(crate) const LANES: usize = 16;
/// Consecutive inputs that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Sixteen `f32` or `i32` at a time.
///
/// # Safety
/// Every method requires that the processor has the instruction set of the implementation, and that
/// pointers are valid for the sixteen (or stated) elements that are read or written, at any
/// alignment.
pub(crate) unsafe trait Lanes: Copy {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen `i32`.
    type I: Copy;

    /// Rows of a matrix product that are kept in registers at once.
    const ROWS: usize;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::F;
    /// Sixteen floats.
    unsafe fn load(from: *const f32) -> Self::F;
    /// Sixteen floats.
    unsafe fn store(to: *mut f32, x: Self::F);
    /// Sixteen IEEE halves, widened.
    unsafe fn load_f16(from: *const u16) -> Self::F;
    /// Sixteen halves, rounded to nearest even.
    unsafe fn store_f16(to: *mut u16, x: Self::F);
    /// Sixteen brain floats, widened.
    unsafe fn load_bf16(from: *const u16) -> Self::F;
    /// `a + b`.
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// `a − b`.
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`.
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a ÷ b`.
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// The greater; `b` when they are unordered.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The lesser; `b` when they are unordered.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Magnitudes.
    unsafe fn abs(a: Self::F) -> Self::F;
    /// `value` where `x ≥ threshold`, 0 elsewhere.
    unsafe fn zero_below(x: Self::F, threshold: Self::F, value: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `a · 2^n` for whole `n` in `-126..=127`, by the bits of 2^n.
    unsafe fn scale_by_power(a: Self::F, n: Self::F) -> Self::F;
    /// Sum of all lanes: halves added to halves, 16 → 8 → 4 → 2 → 1.
    unsafe fn sum(a: Self::F) -> f32;
    /// Greatest lane.
    unsafe fn greatest(a: Self::F) -> f32;
    /// Nearest integers, ties to even.
    unsafe fn to_i32(a: Self::F) -> Self::I;
    /// Exactly representable integers.
    unsafe fn to_f32(a: Self::I) -> Self::F;
    /// Low bytes of sixteen integers that fit.
    unsafe fn store_i8(to: *mut i8, a: Self::I);
    /// Sum of all lanes.
    unsafe fn sum_i32(a: Self::I) -> i32;

    /// Asks for the cache line at an address, which need not be valid.
    unsafe fn prefetch(at: *const u8);

    /// Products of one block of 4-bit weights with `R` rows: lane `l` of result `r` is
    /// `offsets[r] / 16 + Σ w[k][l] · acts[r][k]` over the 32 inputs `k` when `CENTRED`, without the
    /// offset otherwise.
    ///
    /// `weights` are 256 bytes: quads of inputs by lane, `[quad 0..4][lane][4]`, quads 4..8 in the
    /// high halves of the bytes. `acts[r]` are 32 bytes in −127..=127, `offsets[r]` is −128 times
    /// their sum.
    unsafe fn dot_nibbles<const R: usize, const CENTRED: bool>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R];

    /// Products of one block of 4-bit weights with `R` rows: lane `l` of result `r` is
    /// `Σ table[w[k][l]] · acts[r][k]` over the 32 inputs `k`. All else is as for [`Lanes::dot_nibbles`]; no value of
    /// the table is −128.
    unsafe fn dot_table<const R: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
        table: &[i8; 16],
    ) -> [Self::I; R];

    /// Products of sixteen inputs of 2-bit weights, or of 3-bit ones when `THIRD`, with `R` rows: lane `l` of result
    /// `r` is `Σ w[k][l] · acts[r][k]`, where 3 bits `w` stand for `w − 4`.
    ///
    /// `weights` are 64 bytes `[lane][4]` with quad `q` of the inputs in bits `2q`, and when `THIRD` 32 more: the
    /// third bits of quad `q` of bytes `0..32` in bits `q`, those of bytes `32..64` in bits `4 + q`. `acts[r]` are 16
    /// bytes in −127..=127, `offsets[r]` is −128 times their sum.
    unsafe fn dot_crumbs<const R: usize, const THIRD: bool>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R];

    /// Products of `4 · QUADS` inputs of 8-bit weights with `R` rows: lane `l` of result `r` is
    /// `Σ (w[k][l] − 128) · acts[r][k]`.
    ///
    /// `weights` are `[quad][lane][4]`, raised by 128 to be unsigned.
    unsafe fn dot_bytes<const R: usize, const QUADS: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R];
}

/// Plain Rust, for every processor, and the twin that the others are held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

fn each(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

// SAFETY: plain Rust needs no instruction set; pointers are read and written as the trait states.
unsafe impl Lanes for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];

    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::F {
        unsafe { from.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self::F) {
        unsafe { to.cast::<Self::F>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::F {
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        each(|i| f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u16, x: Self::F) {
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(x.map(|x| f16::from_f32(x).to_bits())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::F {
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        each(|i| f32::from_bits(u32::from(bits[i]) << 16))
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn zero_below(x: Self::F, threshold: Self::F, value: Self::F) -> Self::F {
        each(|i| if x[i] >= threshold[i] { value[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: Self::F, n: Self::F) -> Self::F {
        each(|i| a[i] * f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        let mut a = a;
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                a[i] += a[i + width];
            }
        }
        a[0]
    }
    #[inline(always)]
    unsafe fn greatest(a: Self::F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn to_i32(a: Self::F) -> Self::I {
        a.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn to_f32(a: Self::I) -> Self::F {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, a: Self::I) {
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(a.map(|x| x as i8)) }
    }
    #[inline(always)]
    unsafe fn sum_i32(a: Self::I) -> i32 {
        a.iter().fold(0, |sum: i32, &value| sum.wrapping_add(value))
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn dot_nibbles<const R: usize, const CENTRED: bool>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R] {
        let weights = unsafe { &*weights.cast::<[u8; 256]>() };
        std::array::from_fn(|r| {
            let acts = unsafe { &*acts[r].cast::<[i8; BLOCK]>() };
            let mut sums = [if CENTRED { offsets[r] / 16 } else { 0 }; LANES];
            for (at, &pair) in weights.iter().enumerate() {
                let (quad, lane, k) = (at / 64, at / 4 % LANES, at % 4);
                sums[lane] += i32::from(pair & 15) * i32::from(acts[quad * 4 + k]);
                sums[lane] += i32::from(pair >> 4) * i32::from(acts[16 + quad * 4 + k]);
            }
            sums
        })
    }

    #[inline(always)]
    unsafe fn dot_table<const R: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        _offsets: &[i32; R],
        table: &[i8; 16],
    ) -> [Self::I; R] {
        let weights = unsafe { &*weights.cast::<[u8; 256]>() };
        std::array::from_fn(|r| {
            let acts = unsafe { &*acts[r].cast::<[i8; BLOCK]>() };
            let mut sums = [0; LANES];
            for (at, &pair) in weights.iter().enumerate() {
                let (quad, lane, k) = (at / 64, at / 4 % LANES, at % 4);
                let value = |q: u8| i32::from(table[usize::from(q)]);
                sums[lane] += value(pair & 15) * i32::from(acts[quad * 4 + k]);
                sums[lane] += value(pair >> 4) * i32::from(acts[16 + quad * 4 + k]);
            }
            sums
        })
    }

    #[inline(always)]
    unsafe fn dot_crumbs<const R: usize, const THIRD: bool>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R] {
        let weights = unsafe { std::slice::from_raw_parts(weights, if THIRD { 96 } else { 64 }) };
        std::array::from_fn(|r| {
            let acts = unsafe { &*acts[r].cast::<[i8; LANES]>() };
            let mut sums = [if THIRD { offsets[r] / 32 } else { 0 }; LANES];
            for at in 0..64 {
                for quad in 0..4 {
                    let mut weight = weights[at] >> (2 * quad) & 3;
                    if THIRD {
                        weight |= (weights[64 + at % 32] >> (at / 32 * 4 + quad) & 1) << 2;
                    }
                    sums[at / 4] += i32::from(weight) * i32::from(acts[quad * 4 + at % 4]);
                }
            }
            sums
        })
    }

    #[inline(always)]
    unsafe fn dot_bytes<const R: usize, const QUADS: usize>(
        weights: *const u8,
        acts: &[*const i8; R],
        offsets: &[i32; R],
    ) -> [Self::I; R] {
        let weights = unsafe { std::slice::from_raw_parts(weights, QUADS * 64) };
        std::array::from_fn(|r| {
            let acts = unsafe { std::slice::from_raw_parts(acts[r], QUADS * 4) };
            let mut sums = [offsets[r]; LANES];
            for (at, &weight) in weights.iter().enumerate() {
                let (quad, lane, k) = (at / 64, at / 4 % LANES, at % 4);
                sums[lane] += i32::from(weight) * i32::from(acts[quad * 4 + k]);
            }
            sums
        })
    }
}
