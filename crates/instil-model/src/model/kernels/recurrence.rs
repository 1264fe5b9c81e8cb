//! Recurrent layers: causal convolutions of each channel, and states that a position corrects.
//!
//! A head's state is `(values / 16, keys, 16)`: for sixteen values at a time, one row a key. What is computed for a
//! position is a function of its inputs and of the state before it, in a fixed order.

use super::lanes::{LANES, Lanes};
use super::pointwise::exp;
use super::{Isa, on_isa};

/// `out = bias + Σ taps[t] ∘ inputs[t]`, oldest first, then `x / (1 + e^−x)` of it where `is_silu`. All are of one length, a
/// multiple of 16; `taps` is `(inputs, channels)`, and the bias a row more.
///
/// # Safety
/// Every pointer of `inputs` has as many floats as `out`, and nobody writes them meanwhile.
pub(crate) unsafe fn convolve(isa: Isa, inputs: &[*const f32], taps: &[f32], is_silu: bool, out: &mut [f32]) {
    assert!(
        out.len().is_multiple_of(LANES) && taps.len() == (inputs.len() + 1) * out.len(),
        "whole vectors of each tap"
    );
    // SAFETY: the lengths were checked; the rest is as the caller promises.
    unsafe {
        on_isa!(
            isa,
            convolve_lanes(
                inputs: &[*const f32] = inputs,
                taps: &[f32] = taps,
                is_silu: bool = is_silu,
                out: &mut [f32] = out,
            )
        );
    }
}

#[inline(always)]
unsafe fn convolve_lanes<L: Lanes>(inputs: &[*const f32], taps: &[f32], is_silu: bool, out: &mut [f32]) {
    unsafe {
        let channels = out.len();
        for at in (0..channels).step_by(LANES) {
            let mut sum = L::load(taps.as_ptr().add(inputs.len() * channels + at));
            for (tap, input) in inputs.iter().enumerate() {
                sum = L::fma(L::load(input.add(at)), L::load(taps.as_ptr().add(tap * channels + at)), sum);
            }
            if is_silu {
                sum = L::mul(sum, sigmoid::<L>(sum));
            }
            L::store(out.as_mut_ptr().add(at), sum);
        }
    }
}

#[inline(always)]
unsafe fn sigmoid<L: Lanes>(x: L::F) -> L::F {
    unsafe { L::div(L::splat(1.0), L::add(L::splat(1.0), exp::<L>(L::sub(L::splat(0.0), x)))) }
}

/// `values = values / (1 + e^−gates)`, times the gates where `is_silu`; whole vectors of sixteen.
pub(crate) fn let_through(isa: Isa, values: &mut [f32], gates: &[f32], is_silu: bool) {
    assert!(values.len() == gates.len() && values.len().is_multiple_of(LANES), "whole vectors of equal length");
    // SAFETY: the lengths were checked, and the kernel stays within them.
    unsafe {
        on_isa!(
            isa,
            let_through_lanes(values: &mut [f32] = values, gates: &[f32] = gates, is_silu: bool = is_silu)
        );
    }
}

#[inline(always)]
unsafe fn let_through_lanes<L: Lanes>(values: &mut [f32], gates: &[f32], is_silu: bool) {
    unsafe {
        for at in (0..values.len()).step_by(LANES) {
            let gate = L::load(gates.as_ptr().add(at));
            let mut share = sigmoid::<L>(gate);
            if is_silu {
                share = L::mul(share, gate);
            }
            L::store(values.as_mut_ptr().add(at), L::mul(L::load(values.as_ptr().add(at)), share));
        }
    }
}

/// `x = x · scale / sqrt(Σ x² + epsilon)`; whole vectors of sixteen.
pub(crate) fn make_unit(isa: Isa, x: &mut [f32], scale: f32, epsilon: f32) {
    assert!(x.len().is_multiple_of(LANES), "whole vectors");
    // SAFETY: the length was checked, and the kernel stays within it.
    unsafe { on_isa!(isa, unit_lanes(x: &mut [f32] = x, scale: f32 = scale, epsilon: f32 = epsilon)) };
}

#[inline(always)]
unsafe fn unit_lanes<L: Lanes>(x: &mut [f32], scale: f32, epsilon: f32) {
    unsafe {
        let mut squares = L::splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            let value = L::load(x.as_ptr().add(at));
            squares = L::fma(value, value, squares);
        }
        let factor = L::splat(scale / (L::sum(squares) + epsilon).sqrt());
        for at in (0..x.len()).step_by(LANES) {
            L::store(x.as_mut_ptr().add(at), L::mul(L::load(x.as_ptr().add(at)), factor));
        }
    }
}

/// What a position brings to a head; the widths are multiples of 16.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
    /// How much of the state is kept.
    pub decay: f32,
    /// How much of the value is taken.
    pub rate: f32,
    /// Whether what the state says of the key is taken away from the value.
    pub corrects: bool,
}

/// Takes a head's state S on by one position and asks it: with `S' = decay · S`, `S = S' + key ⊗ rate · delta` and
/// `out = Sᵀ query`, where delta is the value, or `value − S'ᵀ key` (Yang et al., "Gated delta networks", 2024).
pub(crate) fn take_on(isa: Isa, state: &mut [f32], step: Step, out: &mut [f32]) {
    let (keys, values) = (step.key.len(), out.len());
    assert!(
        [keys, values].iter().all(|width| width.is_multiple_of(LANES))
            && state.len() == keys * values
            && (step.query.len(), step.value.len()) == (keys, values),
        "whole vectors of two widths"
    );
    // SAFETY: the lengths were checked, and the kernel stays within them.
    unsafe { on_isa!(isa, take_on_lanes(state: &mut [f32] = state, step: Step<'_> = step, out: &mut [f32] = out)) };
}

#[inline(always)]
unsafe fn take_on_lanes<L: Lanes>(state: &mut [f32], step: Step<'_>, out: &mut [f32]) {
    unsafe {
        let (keys, values) = (step.key.len(), out.len());
        let (key, query) = (step.key.as_ptr(), step.query.as_ptr());
        let mut products = L::splat(0.0);
        for at in (0..keys).step_by(LANES) {
            products = L::fma(L::load(key.add(at)), L::load(query.add(at)), products);
        }
        let alike = L::splat(L::sum(products));
        let (decay, rate) = (L::splat(step.decay), L::splat(step.rate));
        for at in (0..values).step_by(LANES) {
            let block = state.as_mut_ptr().add(at * keys);
            // Two sums each, so that one does not wait for the other.
            let mut known = [L::splat(0.0); 2];
            let mut asked = [L::splat(0.0); 2];
            for k in (0..keys).step_by(2) {
                for i in 0..2 {
                    let x = L::load(block.add((k + i) * LANES));
                    known[i] = L::fma(x, L::splat(*key.add(k + i)), known[i]);
                    asked[i] = L::fma(x, L::splat(*query.add(k + i)), asked[i]);
                }
            }
            let known = L::mul(decay, L::add(known[0], known[1]));
            let value = L::load(step.value.as_ptr().add(at));
            let delta = L::mul(if step.corrects { L::sub(value, known) } else { value }, rate);
            let asked = L::mul(decay, L::add(asked[0], asked[1]));
            L::store(out.as_mut_ptr().add(at), L::fma(alike, delta, asked));
            for k in 0..keys {
                let x = L::load(block.add(k * LANES));
                L::store(block.add(k * LANES), L::fma(L::splat(*key.add(k)), delta, L::mul(x, decay)));
            }
        }
    }
}
