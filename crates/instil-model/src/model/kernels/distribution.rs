//! Logits on their way to a drawn token: the mask, the weights, the candidates.

use super::lanes::{LANES, Lanes};
use super::pointwise::exp;
use super::{Isa, on_isa};

/// The greatest value; −∞ when there is none. Values that are not numbers do not count.
pub(crate) fn greatest(isa: Isa, x: &[f32]) -> f32 {
    // SAFETY: the kernel stays within the slice.
    unsafe { on_isa!(isa, greatest_lanes(x: &[f32] = x) -> f32) }
}

#[inline(always)]
unsafe fn greatest_lanes<L: Lanes>(x: &[f32]) -> f32 {
    unsafe {
        let (whole, rest) = x.as_chunks::<LANES>();
        let mut most = L::splat(f32::NEG_INFINITY);
        for part in whole {
            // The second operand stands when the first is no number.
            most = L::max(L::load(part.as_ptr()), most);
        }
        rest.iter().fold(L::greatest(most), |most, &x| if x > most { x } else { most })
    }
}

/// `out = x` where the mask has a bit (lowest first), −∞ elsewhere and where `x` is not a number.
pub(crate) fn mask_out(isa: Isa, x: &[f32], mask: &[u32], out: &mut [f32]) {
    assert!(x.len() == out.len() && mask.len() * 32 >= x.len(), "a bit for each value");
    // SAFETY: the lengths were checked; the kernel indexes within them.
    unsafe { on_isa!(isa, mask_out_lanes(x: &[f32] = x, mask: &[u32] = mask, out: &mut [f32] = out)) };
}

#[inline(always)]
unsafe fn mask_out_lanes<L: Lanes>(x: &[f32], mask: &[u32], out: &mut [f32]) {
    for ((x, out), &word) in x.chunks(32).zip(out.chunks_mut(32)).zip(mask) {
        if word == 0 {
            out.fill(f32::NEG_INFINITY);
            continue;
        }
        for (bit, (x, out)) in x.iter().zip(out).enumerate() {
            *out = if word >> bit & 1 == 1 && !x.is_nan() { *x } else { f32::NEG_INFINITY };
        }
    }
}

/// `Σ e^(x − greatest)` over all values, and over those that `masked` keeps above −∞.
pub(crate) fn masses(isa: Isa, x: &[f32], masked: &[f32], greatest: f32) -> (f32, f32) {
    assert_eq!(x.len(), masked.len(), "the same values");
    // SAFETY: the lengths are equal, and the kernel stays within them.
    unsafe {
        on_isa!(
            isa,
            masses_lanes(x: &[f32] = x, masked: &[f32] = masked, greatest: f32 = greatest) -> (f32, f32)
        )
    }
}

#[inline(always)]
unsafe fn masses_lanes<L: Lanes>(x: &[f32], masked: &[f32], greatest: f32) -> (f32, f32) {
    unsafe {
        let (mut all, mut kept) = (L::splat(0.0), L::splat(0.0));
        let (least, greatest) = (L::splat(f32::MIN), L::splat(greatest));
        let ((whole, rest), (masked_whole, masked_rest)) = (x.as_chunks::<LANES>(), masked.as_chunks::<LANES>());
        let (mut last, mut masked_last) = ([f32::NEG_INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        last[..rest.len()].copy_from_slice(rest);
        masked_last[..rest.len()].copy_from_slice(masked_rest);
        let ends = [(&last, &masked_last)];
        for (x, masked) in whole.iter().zip(masked_whole).chain(ends) {
            let weight = exp::<L>(L::sub(L::load(x.as_ptr()), greatest));
            all = L::add(all, weight);
            kept = L::add(kept, L::zero_below(L::load(masked.as_ptr()), least, weight));
        }
        (L::sum(all), L::sum(kept))
    }
}

/// `weights = e^((x − greatest) · scale)`; returns their sum.
pub(crate) fn weigh(isa: Isa, x: &[f32], greatest: f32, scale: f32, weights: &mut [f32]) -> f32 {
    assert_eq!(x.len(), weights.len(), "a weight for each value");
    // SAFETY: the lengths are equal, and the kernel stays within them.
    unsafe {
        on_isa!(
            isa,
            weigh_lanes(x: &[f32] = x, greatest: f32 = greatest, scale: f32 = scale, weights: &mut [f32] = weights)
                -> f32
        )
    }
}

#[inline(always)]
unsafe fn weigh_lanes<L: Lanes>(x: &[f32], greatest: f32, scale: f32, weights: &mut [f32]) -> f32 {
    unsafe {
        let mut total = L::splat(0.0);
        let (greatest, scale) = (L::splat(greatest), L::splat(scale));
        let ((whole, rest), (to, to_rest)) = (x.as_chunks::<LANES>(), weights.as_chunks_mut::<LANES>());
        for (x, to) in whole.iter().zip(to) {
            let weight = exp::<L>(L::mul(L::sub(L::load(x.as_ptr()), greatest), scale));
            total = L::add(total, weight);
            L::store(to.as_mut_ptr(), weight);
        }
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let weight = exp::<L>(L::mul(L::sub(L::load(last.as_ptr()), greatest), scale));
        total = L::add(total, weight);
        L::store(last.as_mut_ptr(), weight);
        to_rest.copy_from_slice(&last[..rest.len()]);
        L::sum(total)
    }
}

/// Appends the values that are at least `least`, with their indices, ascending.
pub(crate) fn collect_from(isa: Isa, x: &[f32], least: f32, found: &mut Vec<(f32, u32)>) {
    // SAFETY: the kernel stays within the slice.
    unsafe { on_isa!(isa, collect_lanes(x: &[f32] = x, least: f32 = least, found: &mut Vec<(f32, u32)> = found)) };
}

#[inline(always)]
unsafe fn collect_lanes<L: Lanes>(x: &[f32], least: f32, found: &mut Vec<(f32, u32)>) {
    const RUN: usize = 4 * LANES;
    for (index, run) in x.chunks(RUN).enumerate() {
        if run.len() == RUN {
            // Most runs hold no candidate at all.
            let most = unsafe {
                let at = run.as_ptr();
                let low = L::max(L::load(at), L::load(at.add(LANES)));
                let high = L::max(L::load(at.add(2 * LANES)), L::load(at.add(3 * LANES)));
                L::greatest(L::max(low, high))
            };
            if most < least {
                continue;
            }
        }
        let first = (index * RUN) as u32;
        found.extend(run.iter().zip(first..).filter(|(x, _)| **x >= least).map(|(&x, id)| (x, id)));
    }
}
