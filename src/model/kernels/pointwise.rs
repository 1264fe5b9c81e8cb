//! What happens to single values between products: norms, rotary embedding, SiLU, exp.

use super::lanes::{LANES, Lanes};
use super::{Isa, on_isa};

/// Below this, [`exp`] is 0.
const LEAST_EXPONENT: f32 = -87.0;

/// `e^x`, to about two units in the last place; 0 below −87, no more than `e^88`.
///
/// The polynomial is that of the Cephes library (`expf`).
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L::F) -> L::F {
    unsafe {
        let bounded = L::min(x, L::splat(88.0));
        let n = L::round(L::mul(bounded, L::splat(std::f32::consts::LOG2_E)));
        let n = L::max(n, L::splat(-126.0));
        let rest = L::fma(n, L::splat(-0.693_359_4), bounded);
        let rest = L::fma(n, L::splat(2.121_944_4e-4), rest);
        let mut p = L::splat(1.987_569_1e-4);
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = L::fma(p, rest, L::splat(coefficient));
        }
        let value = L::add(L::fma(p, L::mul(rest, rest), rest), L::splat(1.0));
        L::zero_below(x, L::splat(LEAST_EXPONENT), L::scale_by_power(value, n))
    }
}

/// `out = x / sqrt(mean(x²) + epsilon) · weight` (Zhang and Sennrich, "Root mean square layer
/// normalization", 2019). The squares are summed in sixteen lanes, then over lanes.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "a norm keeps the width");
    // SAFETY: the lengths are equal, and the kernel stays within them.
    unsafe {
        on_isa!(
            isa,
            rms_norm_lanes(x: &[f32] = x, weight: &[f32] = weight, epsilon: f32 = epsilon, out: &mut [f32] = out)
        );
    }
}

#[inline(always)]
unsafe fn rms_norm_lanes<L: Lanes>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    unsafe {
        let whole = x.len() / LANES * LANES;
        let mut squares = L::splat(0.0);
        for at in (0..whole).step_by(LANES) {
            let value = L::load(x.as_ptr().add(at));
            squares = L::fma(value, value, squares);
        }
        if whole < x.len() {
            let mut rest = [0.0; LANES];
            rest[..x.len() - whole].copy_from_slice(&x[whole..]);
            let value = L::load(rest.as_ptr());
            squares = L::fma(value, value, squares);
        }
        let inverse = 1.0 / (L::sum(squares) / x.len() as f32 + epsilon).sqrt();
        for at in (0..whole).step_by(LANES) {
            let scaled = L::mul(L::load(x.as_ptr().add(at)), L::splat(inverse));
            L::store(out.as_mut_ptr().add(at), L::mul(scaled, L::load(weight.as_ptr().add(at))));
        }
        for at in whole..x.len() {
            out[at] = x[at] * inverse * weight[at];
        }
    }
}

/// Turns the pairs `(x[i], x[i + half])` of a head by the angles of a position, then scales (Su et
/// al., "RoFormer", 2021); `cosines` and `sines` have half as many values as `head`.
pub fn rotate(isa: Isa, head: &mut [f32], cosines: &[f32], sines: &[f32], scale: f32) {
    let half = head.len() / 2;
    assert!(half * 2 == head.len() && cosines.len() == half && sines.len() == half, "an angle for each pair");
    // SAFETY: the lengths were checked, and the kernel stays within them.
    unsafe {
        on_isa!(
            isa,
            rotate_lanes(head: &mut [f32] = head, cosines: &[f32] = cosines, sines: &[f32] = sines, scale: f32 = scale)
        );
    }
}

#[inline(always)]
unsafe fn rotate_lanes<L: Lanes>(head: &mut [f32], cosines: &[f32], sines: &[f32], scale: f32) {
    unsafe {
        let half = head.len() / 2;
        let whole = half / LANES * LANES;
        let (first, second) = (head.as_mut_ptr(), head.as_mut_ptr().add(half));
        let factor = L::splat(scale);
        for at in (0..whole).step_by(LANES) {
            let (x, y) = (L::load(first.add(at)), L::load(second.add(at)));
            let (c, s) = (L::load(cosines.as_ptr().add(at)), L::load(sines.as_ptr().add(at)));
            L::store(first.add(at), L::mul(L::sub(L::mul(x, c), L::mul(y, s)), factor));
            L::store(second.add(at), L::mul(L::add(L::mul(y, c), L::mul(x, s)), factor));
        }
        for at in whole..half {
            let (x, y) = (*first.add(at), *second.add(at));
            *first.add(at) = (x * cosines[at] - y * sines[at]) * scale;
            *second.add(at) = (y * cosines[at] + x * sines[at]) * scale;
        }
    }
}

/// `gate = silu(gate) · up` with `silu(x) = x / (1 + e^−x)`; whole vectors of sixteen.
pub fn gate(isa: Isa, gate: &mut [f32], up: &[f32]) {
    assert!(gate.len() == up.len() && gate.len().is_multiple_of(LANES), "whole vectors of equal length");
    // SAFETY: the lengths were checked, and the kernel stays within them.
    unsafe { on_isa!(isa, gate_lanes(gate: &mut [f32] = gate, up: &[f32] = up)) };
}

#[inline(always)]
unsafe fn gate_lanes<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    unsafe {
        for at in (0..gate.len()).step_by(LANES) {
            let x = L::load(gate.as_ptr().add(at));
            let e = exp::<L>(L::sub(L::splat(0.0), x));
            let silu = L::div(x, L::add(L::splat(1.0), e));
            L::store(gate.as_mut_ptr().add(at), L::mul(silu, L::load(up.as_ptr().add(at))));
        }
    }
}
