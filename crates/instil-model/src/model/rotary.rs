//! Rotary embeddings: the frequencies of a model, and the angles of positions as far as they are used.

use std::f64::consts::TAU;

use super::architecture::{RotaryForm, RotaryScaling};
use super::layout::{Layout, Role};
use super::weights::Weights;
use crate::error::{Error, Result};

/// Cosines and sines of every position up to the furthest one asked for, times the magnitude.
pub(super) struct Rotary {
    global: Angles,
    /// For the layers of the sliding window, where they have their own.
    local: Option<Angles>,
}

struct Angles {
    frequencies: Vec<f64>,
    magnitude: f64,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotary {
    /// The frequencies of an architecture, with the factors that the file may carry for them (Llama 3.1's,
    /// LongRoPE's).
    ///
    /// # Errors
    /// When the factors are not one positive number for each frequency.
    pub(super) fn load(layout: Layout, weights: &Weights) -> Result<Self> {
        let factors = match layout.outer().vector(Role::RotaryFactors) {
            None => None,
            Some(slice) => {
                let factors = weights.vector(&slice)?;
                if let Some(factor) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
                    let what = format!("tensor `{}` has a factor of {factor}", slice.tensor);
                    return Err(Error::model(weights.name, what, "the file is damaged: fetch it again"));
                }
                Some(factors)
            }
        };
        let a = layout.architecture;
        Ok(Self {
            global: Angles::new(a.rotary, a.rotary_dims, factors.as_deref()),
            local: a.local_rotary.map(|form| {
                let dims = a.local_heads.map_or(a.rotary_dims, |sizes| sizes.rotary_dims);
                Angles::new(form, dims, None)
            }),
        })
    }

    /// Makes positions `0..count` known.
    pub(super) fn reach(&mut self, count: usize) {
        self.global.reach(count);
        if let Some(local) = &mut self.local {
            local.reach(count);
        }
    }

    /// Cosines and sines of all known positions, `(positions, rotary_dims / 2)` each, as layers turn by them
    /// that are local or not.
    #[cfg(feature = "cuda")]
    pub(crate) fn tables(&self, is_local: bool) -> (&[f32], &[f32]) {
        let angles = self.local.as_ref().filter(|_| is_local).unwrap_or(&self.global);
        (&angles.cosines, &angles.sines)
    }

    /// Cosines and sines of a known position in a layer that is local or not, `(rotary_dims / 2)` each.
    pub(super) fn at(&self, is_local: bool, position: usize) -> (&[f32], &[f32]) {
        self.local.as_ref().filter(|_| is_local).unwrap_or(&self.global).at(position)
    }
}

impl Angles {
    /// `factors` divide the frequencies before they are scaled.
    fn new(form: RotaryForm, dims: usize, factors: Option<&[f32]>) -> Self {
        let base = f64::from(form.base);
        let frequencies = (0..dims / 2).map(|i| {
            let frequency = base.powf(-2.0 * i as f64 / dims as f64) / factors.map_or(1.0, |f| f64::from(f[i]));
            match form.scaling {
                RotaryScaling::None => frequency,
                RotaryScaling::Linear { factor } => frequency / f64::from(factor),
                RotaryScaling::Yarn { factor, original_context, beta_fast, beta_slow, whole_pairs } => {
                    // The pair that turns so many times in the original context.
                    let pair = |turns: f32| {
                        dims as f64 * (original_context as f64 / (f64::from(turns) * TAU)).ln() / (2.0 * base.ln())
                    };
                    let (low, high) = (pair(beta_fast), pair(beta_slow));
                    let (low, high) = if whole_pairs { (low.floor(), high.ceil()) } else { (low, high) };
                    let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
                    let divided = ((i as f64 - low) / (high - low).max(1e-3)).clamp(0.0, 1.0);
                    frequency * (divided / f64::from(factor) + (1.0 - divided))
                }
            }
        });
        let magnitude = f64::from(form.magnitude);
        Self { frequencies: frequencies.collect(), magnitude, cosines: Vec::new(), sines: Vec::new() }
    }

    fn reach(&mut self, count: usize) {
        let half = self.frequencies.len();
        for position in self.cosines.len() / half..count {
            let angles = self.frequencies.iter().map(|frequency| position as f64 * frequency);
            self.cosines.extend(angles.clone().map(|angle| (angle.cos() * self.magnitude) as f32));
            self.sines.extend(angles.map(|angle| (angle.sin() * self.magnitude) as f32));
        }
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let range = position * half..(position + 1) * half;
        (&self.cosines[range.clone()], &self.sines[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(scaling: RotaryScaling, dims: usize, base: f32) -> Vec<f64> {
        Angles::new(RotaryForm { base, scaling, magnitude: 1.0 }, dims, None).frequencies
    }

    /// The inverse frequencies that the paper's reference code gives for Qwen2.5's long-context setting:
    /// dims 128, base 1e6, factor 4 over 32,768 (`_compute_yarn_parameters` of the transformers library).
    #[test]
    fn yarn_keeps_fast_frequencies_and_divides_slow_ones() {
        let scaling = RotaryScaling::Yarn {
            factor: 4.0,
            original_context: 32_768,
            beta_fast: 32.0,
            beta_slow: 1.0,
            whole_pairs: true,
        };
        let (scaled, plain) = (frequencies(scaling, 128, 1e6), frequencies(RotaryScaling::None, 128, 1e6));
        // Pairs with 32 turns and with one lie at 23.6 and 39.6: kept to 23, divided from 40 on.
        for (i, (scaled, plain)) in scaled.iter().zip(&plain).enumerate() {
            let divided = ((i as f64 - 23.0) / 17.0).clamp(0.0, 1.0);
            let expected = plain * (1.0 - divided * 0.75);
            assert!((scaled / expected - 1.0).abs() < 1e-12, "{i}: {scaled} for {expected}");
        }
        let linear = frequencies(RotaryScaling::Linear { factor: 4.0 }, 128, 1e6);
        assert!(linear.iter().zip(&plain).all(|(linear, plain)| (linear * 4.0 - plain).abs() < 1e-15));
    }

    #[test]
    fn every_scaling_gives_finite_angles() {
        for original_context in [1, 7, 1 << 32] {
            for (beta_fast, beta_slow) in [(32.0, 1.0), (1.0, 32.0), (f32::MIN_POSITIVE, f32::MAX)] {
                let whole_pairs = original_context == 7;
                let scaling =
                    RotaryScaling::Yarn { factor: 1e-30, original_context, beta_fast, beta_slow, whole_pairs };
                for base in [1.000_001, 1e4, f32::MAX] {
                    assert!(frequencies(scaling, 2, base).iter().all(|frequency| frequency.is_finite()));
                }
            }
        }
    }
}
