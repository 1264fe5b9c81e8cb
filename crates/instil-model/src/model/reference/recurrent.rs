//! Recurrent layers of the reference: projections on the device, the recurrence itself position by position in plain
//! floats on the processor.

use candle_core::{Device, Tensor};

use super::super::architecture::{Architecture, DeltaNet, Recurrence, softplus};
use super::super::layout::{Role, Section};
use super::super::routing::sigmoid;
use super::{Candle, Linear, Reader};
use crate::error::Result;

/// Weights of a recurrent layer.
pub(super) struct Recurrent {
    mixed: Linear,
    /// `(channels, taps)`
    taps: Vec<f32>,
    net: Option<Net>,
    output: Linear,
}

/// What a delta network has besides.
struct Net {
    gate: Linear,
    correction: Linear,
    decay: Linear,
    decay_bias: Vec<f32>,
    decay_rate: Vec<f32>,
    norm: Vec<f32>,
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
        let net = match a.recurrence {
            Some(Recurrence::DeltaNet(_)) => Some(Net {
                gate: map(Role::MixedGate)?,
                correction: map(Role::Correction)?,
                decay: map(Role::Decay)?,
                decay_bias: floats(Role::DecayBias)?,
                decay_rate: floats(Role::DecayRate)?,
                norm: floats(Role::MixedNorm)?,
            }),
            _ => None,
        };
        let taps = reader.floats(&at.map(Role::Taps).weight)?;
        Ok(Self { mixed: map(Role::Mixed)?, taps, net, output: map(Role::MixedOutput)? })
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
                host(net.correction.forward(input)?)?,
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
                        before.sum::<f32>() + new[channel] * weights[taps - 1]
                    })
                    .collect();
                inputs.copy_within(channels.., 0);
                inputs[(taps - 2) * channels..].copy_from_slice(new);
                match (&self.net, &controls, a.recurrence) {
                    (Some(net), Some((gates, corrections, decays)), Some(Recurrence::DeltaNet(sizes))) => {
                        let controls = [&gates[row][..], &corrections[row], &decays[row]];
                        net.advance(sizes, a.norm_epsilon, &convolved, controls, heads, &mut output);
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
        net: DeltaNet,
        epsilon: f32,
        convolved: &[f32],
        [gates, corrections, decays]: [&[f32]; 3],
        states: &mut [f32],
        output: &mut Vec<f32>,
    ) {
        let convolved: Vec<f32> = convolved.iter().map(|&x| x * sigmoid(x)).collect();
        let width = net.width;
        let unit = |at: usize, scale: f32| -> Vec<f32> {
            let head = &convolved[at * width..(at + 1) * width];
            let factor = scale / (head.iter().map(|x| x * x).sum::<f32>() + epsilon).sqrt();
            head.iter().map(|x| x * factor).collect()
        };
        for (head, state) in states.chunks_exact_mut(width * width).enumerate() {
            let query = unit(head % net.key_heads, 1.0 / (width as f32).sqrt());
            let key = unit(net.key_heads + head % net.key_heads, 1.0);
            let value = &convolved[(2 * net.key_heads + head) * width..][..width];
            let decay = (self.decay_rate[head] * softplus(decays[head] + self.decay_bias[head])).exp();
            let rate = sigmoid(corrections[head]);
            state.iter_mut().for_each(|x| *x *= decay);
            let read = |state: &[f32], by: &[f32], at: usize| -> f32 {
                by.iter().enumerate().map(|(k, by)| state[k * width + at] * by).sum()
            };
            let deltas: Vec<f32> = (0..width).map(|at| (value[at] - read(state, &key, at)) * rate).collect();
            for (row, key) in state.chunks_exact_mut(width).zip(&key) {
                row.iter_mut().zip(&deltas).for_each(|(x, delta)| *x += key * delta);
            }
            let said: Vec<f32> = (0..width).map(|at| read(state, &query, at)).collect();
            let inverse = 1.0 / (said.iter().map(|x| x * x).sum::<f32>() / width as f32 + epsilon).sqrt();
            let gates = &gates[head * width..(head + 1) * width];
            output.extend((0..width).map(|at| said[at] * inverse * self.norm[at] * gates[at] * sigmoid(gates[at])));
        }
    }
}
