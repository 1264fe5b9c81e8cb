//! Rows × packed matrix: `out[row][output] = Σ_k x[row][k] · w[output][k]`.
//!
//! Within a block of 32 inputs the sum is exact in integers. Over blocks, in order:
//! `sum = fma(float(block), weight scale · row scale, sum)`, then, where the form has minima,
//! `sum = fma(minimum, row's block sum, sum)`. Float forms add input after input by `fma`.

#![expect(clippy::cast_ptr_alignment, reason = "lanes are loaded from any alignment")]

use super::activations::Rows;
use super::blocks::{CURVE, Form, MINIFLOATS};
use super::lanes::{BLOCK, LANES, Lanes};
use super::packed::{Packed, block_bytes};
use super::{Isa, on_isa};

/// Where results go: output `o` of row `r` to `out[r · stride + o + shift]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink {
    /// Start of the results.
    pub out: *mut f32,
    /// Floats from row to row.
    pub stride: usize,
    /// Column of the matrix's first output; negative where the results begin with a later one.
    pub shift: isize,
    /// Added to each output, by output of the whole matrix; null for none.
    pub bias: *const f32,
    /// Factor of the results, bias included.
    pub scale: f32,
    /// Whether results are added to what is there.
    pub accumulate: bool,
}

// SAFETY: a sink is a place in memory of which each thread writes its own outputs.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

/// Computes the outputs `groups · 16` of the first `count` rows.
///
/// # Safety
/// `rows` holds `count` rows of the matrix's width, in the form that it takes; the sink has room for
/// them, and no other thread touches those places meanwhile.
pub(crate) unsafe fn product(
    isa: Isa,
    matrix: &Packed,
    rows: &Rows,
    count: usize,
    groups: std::ops::Range<usize>,
    sink: Sink,
) {
    debug_assert_eq!(matrix.inputs(), rows.inputs);
    debug_assert!(if matrix.form().is_quantised() { rows.quantised } else { rows.plain });
    let job = Job { matrix, rows: *rows, count, groups, sink };
    // SAFETY: as the caller promises.
    unsafe { on_isa!(isa, compute(job: &Job<'_> = &job)) };
}

struct Job<'a> {
    matrix: &'a Packed,
    rows: Rows,
    count: usize,
    groups: std::ops::Range<usize>,
    sink: Sink,
}

#[inline(always)]
unsafe fn compute<L: Lanes>(job: &Job) {
    unsafe {
        match job.matrix.form() {
            Form::Nibbles => by_groups::<L, Nibbles>(job),
            Form::NibblesWithMinimum => by_groups::<L, NibblesWithMinimum>(job),
            Form::Bytes => by_groups::<L, Bytes>(job),
            Form::BytesWithMinimum => by_groups::<L, BytesWithMinimum>(job),
            Form::BytesByHalves => by_groups::<L, BytesByHalves>(job),
            Form::NibblesOnCurve => by_groups::<L, NibblesOnCurve>(job),
            Form::Minifloats => by_groups::<L, Minifloats>(job),
            Form::CrumbsWithMinima => by_groups::<L, CrumbsWithMinima>(job),
            Form::Thirds => by_groups::<L, Thirds>(job),
            Form::F16 => by_groups::<L, Halves>(job),
            Form::BF16 => by_groups::<L, BrainFloats>(job),
            Form::F32 => by_groups::<L, Floats>(job),
        }
    }
}

/// Sixteen outputs of `R` rows, starting at `row`.
trait Kernel {
    unsafe fn tile<L: Lanes, const R: usize>(job: &Job, weights: *const u8, row: usize) -> [L::F; R];
}

#[inline(always)]
unsafe fn by_groups<L: Lanes, K: Kernel>(job: &Job) {
    for group in job.groups.clone() {
        let weights = job.matrix.group(group);
        let mut row = 0;
        unsafe {
            if L::ROWS == 8 {
                while row + 8 <= job.count {
                    write::<L, 8>(job, group, row, K::tile::<L, 8>(job, weights, row));
                    row += 8;
                }
            }
            while row + 4 <= job.count {
                write::<L, 4>(job, group, row, K::tile::<L, 4>(job, weights, row));
                row += 4;
            }
            while row + 2 <= job.count {
                write::<L, 2>(job, group, row, K::tile::<L, 2>(job, weights, row));
                row += 2;
            }
            if row < job.count {
                write::<L, 1>(job, group, row, K::tile::<L, 1>(job, weights, row));
            }
        }
    }
}

#[inline(always)]
unsafe fn write<L: Lanes, const R: usize>(job: &Job, group: usize, row: usize, sums: [L::F; R]) {
    let Sink { out, stride, shift, bias, scale, accumulate } = job.sink;
    let output = group * LANES;
    let width = LANES.min(job.matrix.outputs() - output);
    unsafe {
        for r in 0..R {
            let place = out.offset(((row + r) * stride + output) as isize + shift);
            if width == LANES {
                let mut sum = sums[r];
                if !bias.is_null() {
                    sum = L::add(sum, L::load(bias.add(output)));
                }
                sum = L::mul(sum, L::splat(scale));
                if accumulate {
                    sum = L::add(L::load(place), sum);
                }
                L::store(place, sum);
            } else {
                let mut lanes = [0.0; LANES];
                L::store(lanes.as_mut_ptr(), sums[r]);
                for (lane, &sum) in lanes.iter().enumerate().take(width) {
                    let sum = scale * if bias.is_null() { sum } else { sum + *bias.add(output + lane) };
                    *place.add(lane) = if accumulate { *place.add(lane) + sum } else { sum };
                }
            }
        }
    }
}

/// A form of quantised weights: how a block's integers, scales and minima are read.
trait Quantised {
    const FORM: Form;
    const MINIMUM: bool;
    /// Whether scales are powers of two, kept as brain floats.
    const POWERS: bool = matches!(Self::FORM, Form::Minifloats);
    /// Parts of a block with a scale of their own.
    const PARTS: usize;
    /// Bytes before the scales.
    const QUANT_BYTES: usize;
    unsafe fn dot<L: Lanes, const R: usize>(weights: *const u8, acts: &[*const i8; R], offsets: &[i32; R])
    -> [L::I; R];
}

#[inline(always)]
unsafe fn quantised_tile<L: Lanes, Q: Quantised, const R: usize>(
    job: &Job,
    weights: *const u8,
    row: usize,
) -> [L::F; R] {
    unsafe {
        let rows = &job.rows;
        let blocks = rows.inputs / BLOCK;
        let size = block_bytes(Q::FORM);
        let mut sums = [L::splat(0.0); R];
        for index in 0..blocks {
            let weights = weights.add(index * size);
            if row == 0 {
                // The next group comes from memory while this one is worked on.
                let ahead = weights.wrapping_add(blocks * size);
                for line in (0..size).step_by(64) {
                    L::prefetch(ahead.wrapping_add(line));
                }
            }
            let scales = weights.add(Q::QUANT_BYTES).cast::<u16>();
            for part in 0..Q::PARTS {
                let mut acts = [std::ptr::null(); R];
                let mut offsets = [0; R];
                for r in 0..R {
                    let at = (row + r) * blocks + index;
                    acts[r] = rows.values.add(at * BLOCK + part * LANES).cast_const();
                    offsets[r] =
                        if Q::PARTS == 1 { *rows.offsets.add(at) } else { *rows.half_offsets.add(at * 2 + part) };
                }
                let dots = Q::dot::<L, R>(weights.add(part * Q::QUANT_BYTES / Q::PARTS), &acts, &offsets);
                let scale = scales.add(part * LANES);
                let scale = if Q::POWERS { L::load_bf16(scale) } else { L::load_f16(scale) };
                for r in 0..R {
                    let scale = L::mul(scale, L::splat(*rows.scales.add((row + r) * blocks + index)));
                    sums[r] = L::fma(L::to_f32(dots[r]), scale, sums[r]);
                }
            }
            if Q::MINIMUM && Q::PARTS == 2 {
                for part in 0..2 {
                    let minimum = L::load_f16(scales.add((2 + part) * LANES));
                    for r in 0..R {
                        let at = (row + r) * blocks + index;
                        let sum = (*rows.half_offsets.add(at * 2 + part) / -128) as f32 * *rows.scales.add(at);
                        sums[r] = L::fma(minimum, L::splat(sum), sums[r]);
                    }
                }
            } else if Q::MINIMUM {
                let minimum = L::load_f16(scales.add(LANES));
                for r in 0..R {
                    let sum = L::splat(*rows.sums.add((row + r) * blocks + index));
                    sums[r] = L::fma(minimum, sum, sums[r]);
                }
            }
        }
        sums
    }
}

macro_rules! quantised {
    ($name:ident, $minimum:expr, $parts:expr, $quant_bytes:expr, $($dot:ident)::+ <$($parameter:tt),+>$(, $table:expr)?) => {
        struct $name;

        impl Quantised for $name {
            const FORM: Form = Form::$name;
            const MINIMUM: bool = $minimum;
            const PARTS: usize = $parts;
            const QUANT_BYTES: usize = $quant_bytes;

            #[inline(always)]
            unsafe fn dot<L: Lanes, const R: usize>(
                weights: *const u8,
                acts: &[*const i8; R],
                offsets: &[i32; R],
            ) -> [L::I; R] {
                unsafe { $($dot)::+::<$($parameter),+>(weights, acts, offsets $(, $table)?) }
            }
        }

        impl Kernel for $name {
            #[inline(always)]
            unsafe fn tile<L: Lanes, const R: usize>(job: &Job, weights: *const u8, row: usize) -> [L::F; R] {
                unsafe { quantised_tile::<L, Self, R>(job, weights, row) }
            }
        }
    };
}

quantised!(Nibbles, false, 1, BLOCK * LANES / 2, L::dot_nibbles<R, true>);
quantised!(NibblesWithMinimum, true, 1, BLOCK * LANES / 2, L::dot_nibbles<R, false>);
quantised!(Bytes, false, 1, BLOCK * LANES, L::dot_bytes<R, 8>);
quantised!(BytesWithMinimum, true, 1, BLOCK * LANES, L::dot_bytes<R, 8>);
quantised!(BytesByHalves, false, 2, BLOCK * LANES, L::dot_bytes<R, 4>);
quantised!(NibblesOnCurve, false, 1, BLOCK * LANES / 2, L::dot_table<R>, &CURVE);
quantised!(Minifloats, false, 1, BLOCK * LANES / 2, L::dot_table<R>, &MINIFLOATS);
quantised!(CrumbsWithMinima, true, 2, BLOCK * LANES / 4, L::dot_crumbs<R, false>);
quantised!(Thirds, false, 2, BLOCK * LANES / 8 * 3, L::dot_crumbs<R, true>);

/// Float weights: one input of sixteen outputs.
trait Plain {
    /// Bytes of a weight.
    const BYTES: usize;
    unsafe fn load<L: Lanes>(weights: *const u8) -> L::F;
}

#[inline(always)]
unsafe fn plain_tile<L: Lanes, P: Plain, const R: usize>(job: &Job, weights: *const u8, row: usize) -> [L::F; R] {
    unsafe {
        let inputs = job.rows.inputs;
        let mut sums = [L::splat(0.0); R];
        for k in 0..inputs {
            let weight = P::load::<L>(weights.add(k * LANES * P::BYTES));
            for r in 0..R {
                sums[r] = L::fma(weight, L::splat(*job.rows.floats.add((row + r) * inputs + k)), sums[r]);
            }
        }
        sums
    }
}

macro_rules! plain {
    ($name:ident, $bytes:expr, $load:ident, $kind:ty) => {
        struct $name;

        impl Plain for $name {
            const BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn load<L: Lanes>(weights: *const u8) -> L::F {
                unsafe { L::$load(weights.cast::<$kind>()) }
            }
        }

        impl Kernel for $name {
            #[inline(always)]
            unsafe fn tile<L: Lanes, const R: usize>(job: &Job, weights: *const u8, row: usize) -> [L::F; R] {
                unsafe { plain_tile::<L, Self, R>(job, weights, row) }
            }
        }
    };
}

plain!(Halves, 2, load_f16, u16);
plain!(BrainFloats, 2, load_bf16, u16);
plain!(Floats, 4, load, f32);
