//! Recurrent layers of the reference: projections on the device, the recurrence itself position by position in plain
//! floats on the processor.

use candle_core::{Device, Tensor};

use super::super::architecture::{Architecture, HeadStates, Recurrence, softplus};
use super::super::layout::{Role, Section};
use super::super::routing::sigmoid;
use super::{Candle, Linear, Reader};
use crate::error::Result;

/// Weights of a recurrent layer.
pub(super) struct Recurrent {
    mixed: Linear,
    /// `(channels, taps)`
    taps: Vec<f32>,
    /// `(channels)`
    bias: Option<Vec<f32>>,
    net: Option<Net>,
    output: Linear,
}

/// What there is besides where heads keep states.
struct Net {
    kind: Recurrence,
    sizes: HeadStates,
    gate: Linear,
    /// Of a delta network.
    correction: Option<Linear>,
    decay: Linear,
    decay_bias: Vec<f32>,
    decay_rate: Vec<f32>,
    /// Of one span, or of all.
    norm: Vec<f32>,
    /// Of a scan: share of a head's value in what it says.
    input_share: Option<Vec<f32>>,
}

/// A sequence's rows in a pass, and the state that they take on.
pub(super) struct Run {
    pub state: Vec<f32>,
    pub count: usize,
}

impl Recurrent {
    pub(super) fn load(reader: &Reader, at: Section, a: &Architecture) -> Result<Self> {
        let map = |role| reader.linear(at.map(role));
        let floats = |role| reader.floats(&at.vector(role).expect("a place in the table for it"));
        let sizes = a.recurrence.and_then(|kind| Some((kind, kind.heads()?)));
        let net = sizes.map(|(kind, sizes)| -> Result<Net> {
            Ok(Net {
                kind,
                sizes,
                gate: map(Role::MixedGate)?,
                correction: at.optional_map(Role::Correction).map(|map| reader.linear(map)).transpose()?,
                decay: map(Role::Decay)?,
                decay_bias: floats(Role::DecayBias)?,
                decay_rate: floats(Role::DecayRate)?,
                norm: floats(Role::MixedNorm)?,
                input_share: at.vector(Role::InputShare).map(|slice| reader.floats(&slice)).transpose()?,
            })
        });
        let taps = at.map(Role::Taps);
        Ok(Self {
            mixed: map(Role::Mixed)?,
            taps: reader.floats(&taps.weight)?,
            bias: taps.bias.map(|bias| reader.floats(&bias)).transpose()?,
            net: net.transpose()?,
            output: map(Role::MixedOutput)?,
        })
    }

    /// `(rows, hidden)` → `(rows, hidden)`; the rows of each run follow those of the one before. `offset` is where the
    /// layer's part of a state begins.
    pub(super) fn forward(&self, a: &Architecture, input: &Tensor, runs: &mut [Run], offset: usize) -> Candle<Tensor> {
        let host = |x: Tensor| x.to_device(&Device::Cpu)?.to_vec2::<f32>();
        let mut mixed: Vec<Vec<f32>> = host(self.mixed.forward(input)?)?;
        let (taps, channels) = a.convolution();
        let mut past = Vec::new();
        if self.net.is_none() {
            // b and x become one; c waits.
            for row in &mut mixed {
                past.push(row[channels..2 * channels].to_vec());
                for channel in 0..channels {
                    row[channel] *= row[2 * channels + channel];
                }
            }
        }
        let controls = match &self.net {
            Some(net) => Some((
                host(net.gate.forward(input)?)?,
                net.correction.as_ref().map(|correction| host(correction.forward(input)?)).transpose()?,
                host(net.decay.forward(input)?)?,
            )),
            None => None,
        };
        let mut output: Vec<f32> = Vec::new();
        let elements = a.state_elements();
        let mut row = 0;
        for run in runs {
            let (inputs, heads) = run.state[offset..offset + elements].split_at_mut((taps - 1) * channels);
            for _ in 0..run.count {
                let new = &mixed[row][..channels];
                let convolved: Vec<f32> = (0..channels)
                    .map(|channel| {
                        let weights = &self.taps[channel * taps..(channel + 1) * taps];
                        let before = (0..taps - 1).map(|tap| inputs[tap * channels + channel] * weights[tap]);
                        let bias = self.bias.as_ref().map_or(0.0, |bias| bias[channel]);
                        before.sum::<f32>() + new[channel] * weights[taps - 1] + bias
                    })
                    .collect();
                inputs.copy_within(channels.., 0);
                inputs[(taps - 2) * channels..].copy_from_slice(new);
                match (&self.net, &controls) {
                    (Some(net), Some((gates, corrections, decays))) => {
                        let corrections = corrections.as_ref().map(|corrections| &corrections[row][..]);
                        let controls = (&gates[row][..], corrections, &decays[row][..]);
                        net.advance(a.norm_epsilon, &convolved, controls, heads, &mut output);
                    }
                    _ => output.extend(convolved.iter().zip(&past[row]).map(|(x, c)| x * c)),
                }
                row += 1;
            }
        }
        let width = output.len() / row.max(1);
        self.output.forward(&Tensor::from_vec(output, (row, width), input.device())?)
    }
}

impl Net {
    /// One position: `convolved` is queries, keys and values before their function, `states` `(heads, keys, values)`.
    fn advance(
        &self,
        epsilon: f32,
        convolved: &[f32],
        (gates, corrections, decays): (&[f32], Option<&[f32]>, &[f32]),
        states: &mut [f32],
        output: &mut Vec<f32>,
    ) {
        let HeadStates { key_width, value_width, .. } = self.sizes;
        let convolved: Vec<f32> = convolved.iter().map(|&x| x * sigmoid(x)).collect();
        let gate = |values: &mut [f32]| values.iter_mut().zip(gates).for_each(|(x, gate)| *x *= gate * sigmoid(*gate));
        let mut all: Vec<f32> = Vec::new();
        for (head, state) in states.chunks_exact_mut(self.sizes.elements()).enumerate() {
            let [query, key, value] = self.kind.columns(head);
            let (mut query, mut key) =
                (convolved[query..query + key_width].to_vec(), convolved[key..key + key_width].to_vec());
            let value = &convolved[value..value + value_width];
            let time = softplus(decays[head] + self.decay_bias[head]);
            let decay = (self.decay_rate[head] * time).exp();
            state.iter_mut().for_each(|x| *x *= decay);
            let read = |state: &[f32], by: &[f32], at: usize| -> f32 {
                by.iter().enumerate().map(|(k, by)| state[k * value_width + at] * by).sum()
            };
            let deltas: Vec<f32> = match corrections {
                Some(corrections) => {
                    for (vector, scale) in [(&mut query, 1.0 / (key_width as f32).sqrt()), (&mut key, 1.0)] {
                        let factor = scale / (vector.iter().map(|x| x * x).sum::<f32>() + epsilon).sqrt();
                        vector.iter_mut().for_each(|x| *x *= factor);
                    }
                    let rate = sigmoid(corrections[head]);
                    (0..value_width).map(|at| (value[at] - read(state, &key, at)) * rate).collect()
                }
                None => value.iter().map(|value| value * time).collect(),
            };
            for (row, key) in state.chunks_exact_mut(value_width).zip(&key) {
                row.iter_mut().zip(&deltas).for_each(|(x, delta)| *x += key * delta);
            }
            let share = self.input_share.as_ref().map_or(0.0, |shares| shares[head]);
            all.extend((0..value_width).map(|at| read(state, &query, at) + share * value[at]));
        }
        // A delta network gates what is normed, a scan norms what is gated.
        if corrections.is_none() {
            gate(&mut all);
        }
        let span = self.kind.norm_span();
        for (part, weights) in all.chunks_exact_mut(span).zip(self.norm.chunks_exact(span).cycle()) {
            let mean = part.iter().map(|x| x * x).sum::<f32>() / span as f32;
            part.iter_mut().zip(weights).for_each(|(x, weight)| *x *= weight / (mean + epsilon).sqrt());
        }
        if corrections.is_some() {
            gate(&mut all);
        }
        output.extend(all);
    }
}
