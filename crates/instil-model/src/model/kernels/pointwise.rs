//! What happens to single values between products: norms, rotary embedding, activations, soft caps, exp.

use super::lanes::{LANES, Lanes};
use super::{Isa, on_isa};
use crate::model::architecture::{Activation, Xielu};

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
pub(crate) fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
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
pub(crate) fn rotate(isa: Isa, head: &mut [f32], cosines: &[f32], sines: &[f32], scale: f32) {
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

/// `gate = f(gate) · up`, or `f(gate)` where the activation has no gate, of what stands in its place; whole vectors of
/// sixteen.
pub(crate) fn gate(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    let is_gated = activation.is_gated();
    assert!((!is_gated || gate.len() == up.len()) && gate.len().is_multiple_of(LANES), "whole vectors of equal length");
    // SAFETY: the lengths were checked, and the kernels stay within them.
    unsafe {
        match activation {
            Activation::Silu => on_isa!(isa, silu_lanes(gate: &mut [f32] = gate, up: &[f32] = up)),
            Activation::GeluTanh => on_isa!(isa, gelu_lanes(gate: &mut [f32] = gate, up: &[f32] = up)),
            Activation::ClampedSilu => on_isa!(isa, clamped_lanes(gate: &mut [f32] = gate, up: &[f32] = up)),
            Activation::SquaredRelu => on_isa!(isa, squared_relu_lanes(x: &mut [f32] = gate)),
            Activation::Xielu(form) => on_isa!(isa, xielu_lanes(x: &mut [f32] = gate, form: Xielu = form)),
        }
    };
}

#[inline(always)]
unsafe fn silu_lanes<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    unsafe { gate_lanes::<L, false>(gate, up) }
}

#[inline(always)]
unsafe fn gelu_lanes<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    unsafe { gate_lanes::<L, true>(gate, up) }
}

/// Both are `x / (1 + e^−2u)`: SiLU with `2u = x`, GELU since `(1 + tanh u) / 2 = 1 / (1 + e^−2u)`.
#[inline(always)]
unsafe fn gate_lanes<L: Lanes, const GELU: bool>(gate: &mut [f32], up: &[f32]) {
    const TWICE_ROOT: f32 = 1.595_769; // 2 · √(2/π)
    unsafe {
        for at in (0..gate.len()).step_by(LANES) {
            let x = L::load(gate.as_ptr().add(at));
            let power = if GELU {
                let cubic = L::fma(L::mul(x, x), L::splat(-0.044_715 * TWICE_ROOT), L::splat(-TWICE_ROOT));
                L::mul(cubic, x)
            } else {
                L::sub(L::splat(0.0), x)
            };
            let gated = L::div(x, L::add(L::splat(1.0), exp::<L>(power)));
            L::store(gate.as_mut_ptr().add(at), L::mul(gated, L::load(up.as_ptr().add(at))));
        }
    }
}

#[inline(always)]
unsafe fn clamped_lanes<L: Lanes>(gate: &mut [f32], up: &[f32]) {
    unsafe {
        for at in (0..gate.len()).step_by(LANES) {
            let x = L::min(L::load(gate.as_ptr().add(at)), L::splat(7.0));
            let up = L::max(L::min(L::load(up.as_ptr().add(at)), L::splat(7.0)), L::splat(-7.0));
            let gated = L::div(x, L::add(L::splat(1.0), exp::<L>(L::mul(x, L::splat(-1.702)))));
            L::store(gate.as_mut_ptr().add(at), L::mul(gated, L::add(up, L::splat(1.0))));
        }
    }
}

#[inline(always)]
unsafe fn squared_relu_lanes<L: Lanes>(x: &mut [f32]) {
    unsafe {
        for at in (0..x.len()).step_by(LANES) {
            let above = L::max(L::load(x.as_ptr().add(at)), L::splat(0.0));
            L::store(x.as_mut_ptr().add(at), L::mul(above, above));
        }
    }
}

#[inline(always)]
unsafe fn xielu_lanes<L: Lanes>(x: &mut [f32], form: Xielu) {
    unsafe {
        let zero = L::splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            let value = L::load(x.as_ptr().add(at));
            let above = L::max(value, zero);
            let grown = L::sub(exp::<L>(L::min(value, L::splat(form.least))), L::splat(1.0));
            let below = L::zero_below(L::sub(zero, value), zero, L::mul(L::sub(grown, value), L::splat(form.negative)));
            let sum = L::fma(L::mul(above, above), L::splat(form.positive), below);
            L::store(x.as_mut_ptr().add(at), L::fma(value, L::splat(form.slope), sum));
        }
    }
}

/// `x = cap · tanh(x / cap)`, to about `cap · 10⁻⁷`.
pub(crate) fn soft_cap(isa: Isa, x: &mut [f32], cap: f32) {
    // SAFETY: the kernel stays within the slice.
    unsafe { on_isa!(isa, soft_cap_lanes(x: &mut [f32] = x, cap: f32 = cap)) };
}

#[inline(always)]
unsafe fn soft_cap_lanes<L: Lanes>(x: &mut [f32], cap: f32) {
    unsafe {
        let (whole, rest) = x.as_chunks_mut::<LANES>();
        for part in whole {
            L::store(part.as_mut_ptr(), capped::<L>(L::load(part.as_ptr()), cap));
        }
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let values = capped::<L>(L::load(last.as_ptr()), cap);
        L::store(last.as_mut_ptr(), values);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// `tanh y` is `1 − 2 / (1 + e^2y)`.
#[inline(always)]
pub(super) unsafe fn capped<L: Lanes>(x: L::F, cap: f32) -> L::F {
    unsafe {
        let e = exp::<L>(L::mul(x, L::splat(2.0 / cap)));
        let part = L::div(L::splat(2.0 * cap), L::add(L::splat(1.0), e));
        L::sub(L::splat(cap), part)
    }
}
