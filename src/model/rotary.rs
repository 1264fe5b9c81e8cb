//! Rotary embeddings: the frequencies of a model, and the angles of positions as far as they are used.

use super::architecture::Architecture;

/// Cosines and sines of every position up to the furthest one asked for.
pub(super) struct Rotary {
    frequencies: Vec<f64>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotary {
    /// `factors` divide the frequencies (Llama 3.1 files carry them as `rope_freqs.weight`).
    pub fn new(a: &Architecture, factors: Option<&[f32]>) -> Self {
        let frequencies = (0..a.head_dim / 2)
            .map(|i| {
                let frequency = f64::from(a.rotary_base).powf(-2.0 * i as f64 / a.head_dim as f64);
                frequency / factors.map_or(1.0, |f| f64::from(f[i])) / f64::from(a.rotary_linear_factor)
            })
            .collect();
        Self { frequencies, cosines: Vec::new(), sines: Vec::new() }
    }

    /// Makes positions `0..count` known.
    pub fn reach(&mut self, count: usize) {
        let half = self.frequencies.len();
        for position in self.cosines.len() / half..count {
            let angles = self.frequencies.iter().map(|frequency| position as f64 * frequency);
            self.cosines.extend(angles.clone().map(|angle| angle.cos() as f32));
            self.sines.extend(angles.map(|angle| angle.sin() as f32));
        }
    }

    /// Cosines and sines of all known positions, `(positions, head_dim / 2)` each.
    #[cfg(feature = "cuda")]
    pub fn tables(&self) -> (&[f32], &[f32]) {
        (&self.cosines, &self.sines)
    }

    /// Cosines and sines of a known position, `(head_dim / 2)` each.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let range = position * half..(position + 1) * half;
        (&self.cosines[range.clone()], &self.sines[range])
    }
}
