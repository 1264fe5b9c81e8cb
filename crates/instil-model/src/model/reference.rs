//! The generic decoder in Candle operations, for every device: the numerical reference.
//!
//! Weights are dequantised to f32 when loaded. Apple's GPUs run it, and whatever the decoders for the CPU and for
//! NVIDIA's GPUs do not compute; both are held against it. Everything that differs between model families is data in [`Architecture`]; nothing
//! here asks for a family by name. Rotary embeddings are always of the half-split kind: rows of the
//! query and key projections that a file stores interleaved are re-ordered once, at load, which
//! leaves every attention score as it was.

mod recurrent;

use recurrent::Run;
use std::cell::Cell;

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{rms_norm, sigmoid, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use super::architecture::{Activation, Architecture, Experts, HeadSizes, Xielu};
use super::checkpoint::Checkpoint;
use super::layout::{Layout, Map, Role, Section, Slice};
use super::rotary::Rotary;
use super::routing::{Choice, Scratch, choose};
use super::sequences::{SequenceId, Sequences, Slots, WHOLE};
use super::weights::{Weights, device_error};
use super::{Arithmetic, Logits, Model, ModelInfo, Segment};
use crate::error::Result;

/// Positions by which a sequence's key and value memory grows.
const GROWTH: usize = 256;

type Candle<T> = std::result::Result<T, candle_core::Error>;

/// A linear map; `weight` is `(inputs, outputs)`, a transposed view of the file's matrix.
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `(rows, inputs)` → `(rows, outputs)`.
    fn forward(&self, input: &Tensor) -> Candle<Tensor> {
        let output = input.matmul(&self.weight)?;
        match &self.bias {
            Some(bias) => output.broadcast_add(bias),
            None => Ok(output),
        }
    }
}

/// What a layer learns of other positions by.
enum Mixer {
    Attention(Attention),
    Recurrent(Box<recurrent::Recurrent>),
}

struct Attention {
    query: Linear,
    /// Where it has a matrix of its own.
    query_gate: Option<Linear>,
    key: Linear,
    value: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    /// `(heads)`
    sinks: Option<Tensor>,
    output: Linear,
}

struct Layer {
    attention_norm: Option<Tensor>,
    mixer: Mixer,
    attention_post_norm: Option<Tensor>,
    feed_forward_norm: Option<Tensor>,
    network: Option<Network>,
    experts: Option<Bank>,
    feed_forward_post_norm: Option<Tensor>,
    /// `(1)`
    scale: Option<Tensor>,
}

/// A network, with a gate or without.
struct Network {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Network {
    /// `(rows, hidden)` → `(rows, hidden)`.
    fn forward(&self, input: &Tensor) -> Candle<Tensor> {
        let up = self.up.forward(input)?;
        let gate = self.gate.as_ref().map_or_else(|| Ok(up.clone()), |gate| gate.forward(input))?;
        let inner = match self.activation {
            Activation::Silu => (silu(&gate)? * up)?,
            Activation::GeluTanh => (gate.gelu()? * up)?,
            Activation::ClampedSilu => {
                let gate = gate.minimum(7.0)?;
                let let_through = (&gate * sigmoid(&(&gate * 1.702)?)?)?;
                (let_through * (up.clamp(-7.0, 7.0)? + 1.0)?)?
            }
            Activation::SquaredRelu => up.relu()?.sqr()?,
            Activation::Xielu(Xielu { positive, negative, slope, least }) => {
                let above = (up.relu()?.sqr()? * f64::from(positive))?;
                let grown = ((up.minimum(least)?.exp()? - 1.0)? - &up)?;
                let below = up.le(0.0)?.where_cond(&(grown * f64::from(negative))?, &up.zeros_like()?)?;
                ((above + below)? + (up * f64::from(slope))?)?
            }
        };
        self.down.forward(&inner)
    }
}

/// The experts of a layer.
struct Bank {
    router: Linear,
    choice_bias: Option<Vec<f32>>,
    experts: Vec<Network>,
    shared: Option<Network>,
    shared_switch: Option<Linear>,
}

impl Bank {
    /// `(rows, hidden)` → `(rows, hidden)`.
    fn forward(&self, a: &Experts, input: &Tensor) -> Candle<Tensor> {
        let products: Vec<Vec<f32>> = self.router.forward(input)?.to_vec2()?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); a.count];
        let mut weights: Vec<Vec<f32>> = vec![Vec::new(); a.count];
        let (mut scratch, mut chosen) = (Scratch::default(), vec![Choice::default(); a.used]);
        for (row, products) in products.iter().enumerate() {
            choose(a, products, self.choice_bias.as_deref(), &mut scratch, &mut chosen);
            for &Choice { expert, weight } in &chosen {
                rows[expert].push(row as u32);
                weights[expert].push(weight);
            }
        }
        let mut sum = input.zeros_like()?;
        for (expert, (rows, weights)) in self.experts.iter().zip(rows.into_iter().zip(weights)) {
            if rows.is_empty() {
                continue;
            }
            let count = rows.len();
            let rows = Tensor::from_vec(rows, count, input.device())?;
            let weights = Tensor::from_vec(weights, (count, 1), input.device())?;
            let output = expert.forward(&input.index_select(&rows, 0)?)?;
            sum = sum.index_add(&rows, &output.broadcast_mul(&weights)?, 0)?;
        }
        if let Some(shared) = &self.shared {
            let mut output = shared.forward(input)?;
            if let Some(switch) = &self.shared_switch {
                output = output.broadcast_mul(&sigmoid(&switch.forward(input)?)?)?;
            }
            sum = (sum + output)?;
        }
        Ok(sum)
    }
}

/// Keys and values of one sequence, a pair a layer that attends, each `(kv_heads, capacity, head_dim)`.
///
/// Buffers are written in place, so they are never shared between sequences: a fork copies.
struct Memory {
    layers: Vec<(Tensor, Tensor)>,
    length: usize,
    capacity: usize,
    /// Of the layers that are recurrent.
    state: Vec<f32>,
}

impl Memory {
    /// Makes room for `length` positions, keeping what it holds.
    fn reserve(&mut self, length: usize) -> Candle<()> {
        if length <= self.capacity {
            return Ok(());
        }
        let capacity = length.div_ceil(GROWTH) * GROWTH;
        for (key, value) in &mut self.layers {
            for buffer in [key, value] {
                let (kv_heads, _, head_dim) = buffer.dims3()?;
                let larger = Tensor::zeros((kv_heads, capacity, head_dim), DType::F32, buffer.device())?;
                if self.length > 0 {
                    larger.slice_set(&buffer.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
                }
                *buffer = larger;
            }
        }
        self.capacity = capacity;
        Ok(())
    }

    /// The first `length` positions of this, copied into `child`, which is empty.
    fn copy_to(&self, child: &mut Self, length: usize) -> Candle<()> {
        child.reserve(length)?;
        if length > 0 {
            for (from, to) in self.layers.iter().zip(&child.layers) {
                to.0.slice_set(&from.0.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
                to.1.slice_set(&from.1.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
            }
        }
        child.length = length;
        if length > 0 {
            child.state.clone_from(&self.state);
        }
        Ok(())
    }
}

/// The sequences of a model.
struct Memories {
    slots: Slots<Memory>,
    /// Of each layer that attends, `(kv_heads, 0, head_dim)`: keys or values of nothing.
    nothing: Vec<Tensor>,
    /// Floats of a state.
    state_elements: usize,
}

impl Memories {
    fn empty(&self) -> Memory {
        Memory {
            layers: self.nothing.iter().map(|nothing| (nothing.clone(), nothing.clone())).collect(),
            length: 0,
            capacity: 0,
            state: vec![0.0; self.state_elements],
        }
    }
}

impl Sequences for Memories {
    fn create(&mut self) -> SequenceId {
        self.slots.insert(self.empty())
    }

    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId> {
        assert!(self.can_cut(parent, length), "{WHOLE}");
        let mut child = self.empty();
        self.slots[parent].copy_to(&mut child, length).map_err(device_error)?;
        Ok(self.slots.insert(child))
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) {
        assert!(self.can_cut(sequence, length), "{WHOLE}");
        let memory = &mut self.slots[sequence];
        memory.length = memory.length.min(length);
        if memory.length == 0 {
            memory.state.fill(0.0);
        }
    }

    fn cuts_anywhere(&self) -> bool {
        self.state_elements == 0
    }

    fn length(&self, sequence: SequenceId) -> usize {
        self.slots[sequence].length
    }

    fn free(&mut self, sequence: SequenceId) {
        self.slots.remove(sequence);
    }
}

/// A decoder-only transformer with its sequences.
pub struct Reference {
    info: ModelInfo,
    architecture: Architecture,
    device: Device,
    embedding: Tensor,
    layers: Vec<Layer>,
    output_norm: Tensor,
    head: Linear,
    rotary: Rotary,
    weight_bytes: usize,
    memories: Memories,
}

impl Reference {
    /// Reads a file of weights onto `device`.
    ///
    /// # Errors
    /// When a tensor is missing, of a shape that the metadata does not promise, or of a type that
    /// Candle cannot read.
    pub fn load(name: &str, file: &dyn Checkpoint, device: &Device) -> Result<Self> {
        let architecture = Architecture::read(name, file)?;
        let a = &architecture;
        let reader = Reader { weights: Weights { name, file }, device, bytes: Cell::new(0) };
        let layout = Layout { architecture: a, file };
        let outer = layout.outer();
        let embedding = reader.tensor(&outer.map(Role::Embeddings).weight)?;
        let head = if layout.is_tied() {
            Linear { weight: embedding.t().map_err(device_error)?, bias: None }
        } else {
            reader.linear(outer.map(Role::Head))?
        };
        let layers = (0..a.layers)
            .map(|index| {
                let at = layout.layer(index);
                let map = |role| reader.linear(at.map(role));
                let norm = |role| at.vector(role).map(|slice| reader.tensor(&slice)).transpose();
                Ok(Layer {
                    attention_norm: norm(Role::AttentionNorm)?,
                    mixer: if a.is_recurrent(index) {
                        Mixer::Recurrent(Box::new(recurrent::Recurrent::load(&reader, at, a)?))
                    } else {
                        Mixer::Attention(Attention {
                            query: map(Role::Query)?,
                            query_gate: at.optional_map(Role::QueryGate).map(|map| reader.linear(map)).transpose()?,
                            key: map(Role::Key)?,
                            value: map(Role::Value)?,
                            query_norm: norm(Role::QueryNorm)?,
                            key_norm: norm(Role::KeyNorm)?,
                            sinks: norm(Role::Sinks)?,
                            output: map(Role::AttentionOutput)?,
                        })
                    },
                    attention_post_norm: norm(Role::AttentionPostNorm)?,
                    feed_forward_norm: norm(Role::FeedForwardNorm)?,
                    network: layout.dense(index).map(|at| reader.network(at, a.activation(index))).transpose()?,
                    experts: a.experts(index).map(|_| reader.bank(layout, index)).transpose()?,
                    feed_forward_post_norm: norm(Role::FeedForwardPostNorm)?,
                    scale: norm(Role::LayerScale)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let output_norm = reader.tensor(&outer.output_norm())?;
        let rotary = Rotary::load(layout, &reader.weights)?;
        let info = ModelInfo {
            name: name.to_owned(),
            vocab_size: a.vocab_size,
            context_length: a.context_length,
            arithmetic: Arithmetic::f32_on(device),
        };
        let nothing = |index| {
            let HeadSizes { kv_heads, head_dim, .. } = a.head_sizes(index);
            Tensor::zeros((kv_heads, 0, head_dim), DType::F32, device).map_err(device_error)
        };
        let attending = (0..a.layers).filter(|&index| !a.is_recurrent(index));
        let nothing = attending.map(nothing).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            info,
            device: device.clone(),
            embedding,
            layers,
            output_norm,
            head,
            rotary,
            weight_bytes: reader.bytes.get(),
            memories: Memories {
                slots: Slots::new(),
                nothing,
                state_elements: a.recurrent_count() * a.state_elements(),
            },
            architecture,
        })
    }

    fn run(&mut self, segments: &[Segment]) -> Candle<Logits> {
        let a = self.architecture.clone();
        let mut ids: Vec<u32> = Vec::new();
        let mut positions: Vec<u32> = Vec::new();
        let mut wanted_rows: Vec<u32> = Vec::new();
        // Taken on apart, and kept once the pass is over.
        let mut runs: Vec<Run> = Vec::new();
        for segment in segments {
            let memory = &mut self.memories.slots[segment.sequence];
            let count = segment.tokens.len();
            let end = memory.length + count;
            memory.reserve(end)?;
            positions.extend((memory.length..end).map(|p| p as u32));
            wanted_rows.extend(segment.wanted().map(|at| (ids.len() + at) as u32));
            ids.extend_from_slice(segment.tokens);
            runs.push(Run { state: memory.state.clone(), count });
        }
        let rows = ids.len();
        self.rotary.reach(positions.iter().max().map_or(0, |&last| last as usize + 1));
        let angles = |is_local: bool| -> Candle<(Tensor, Tensor)> {
            let (mut cosines, mut sines) = (Vec::new(), Vec::new());
            for &position in &positions {
                let (cosine, sine) = self.rotary.at(is_local, position as usize);
                cosines.extend_from_slice(cosine);
                sines.extend_from_slice(sine);
            }
            let shape = (rows, cosines.len() / rows.max(1));
            Ok((Tensor::from_vec(cosines, shape, &self.device)?, Tensor::from_vec(sines, shape, &self.device)?))
        };
        let (global, local) = (angles(false)?, angles(true)?);
        let scales: Vec<f32> = positions.iter().map(|&position| a.query_scale(position as usize)).collect();
        let scales = Tensor::from_vec(scales, (rows, 1, 1), &self.device)?;
        let ids = Tensor::from_vec(ids, rows, &self.device)?;
        let mut hidden = (self.embedding.index_select(&ids, 0)? * f64::from(a.embedding_scale))?;
        if a.norms_embeddings {
            hidden = rms_norm(&hidden, &Tensor::ones(a.hidden, DType::F32, &self.device)?, a.norm_epsilon)?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let normed_by = |x: &Tensor, norm: Option<&Tensor>, epsilon: f32| match norm {
                Some(norm) => rms_norm(&x.contiguous()?, norm, epsilon),
                None => Ok(x.clone()),
            };
            let normed = |x: &Tensor, norm: Option<&Tensor>| normed_by(x, norm, a.norm_epsilon);
            let normed_input = |x: &Tensor, norm| normed(&centred(x, a.centred)?, norm);
            let input = normed_input(&hidden, layer.attention_norm.as_ref())?;
            let output = match &layer.mixer {
                Mixer::Recurrent(recurrent) => {
                    recurrent.forward(&a, &input, &mut runs, a.kind_index(index) * a.state_elements())?
                }
                Mixer::Attention(attention) => {
                    let (cosines, sines) = if a.is_local(index) { &local } else { &global };
                    let HeadSizes { kv_heads, head_dim, rotary_dims } = a.head_sizes(index);
                    let heads = |projected: Tensor, count: usize, norm: Option<&Tensor>| -> Candle<Tensor> {
                        let span = norm.map_or(Ok(head_dim), |norm| norm.dim(0))?;
                        let normed = |x: &Tensor| {
                            let parts = x.reshape((rows, count * head_dim / span, span))?;
                            normed(&parts, norm)?.reshape((rows, count, head_dim))
                        };
                        let projected = projected.reshape((rows, count, head_dim))?;
                        let projected = if a.norm_after_rotary { projected } else { normed(&projected)? };
                        let after = |x: Tensor| if a.norm_after_rotary { normed(&x) } else { Ok(x) };
                        if !a.is_rotary(index) {
                            return after(projected);
                        }
                        let turned = projected.narrow(2, 0, rotary_dims)?.unsqueeze(0)?.contiguous()?;
                        let turned = rope_thd(&turned, cosines, sines)?.squeeze(0)?;
                        if rotary_dims == head_dim {
                            return after(turned);
                        }
                        after(Tensor::cat(&[turned, projected.narrow(2, rotary_dims, head_dim - rotary_dims)?], 2)?)
                    };
                    let query_width = a.heads * head_dim;
                    let projected = attention.query.forward(&input)?;
                    let query = heads(projected.narrow(1, 0, query_width)?, a.heads, attention.query_norm.as_ref())?;
                    let query = query.broadcast_mul(&scales)?;
                    let key = heads(attention.key.forward(&input)?, kv_heads, attention.key_norm.as_ref())?;
                    let value = attention.value.forward(&input)?.reshape((rows, kv_heads, head_dim))?;
                    let bare = a.norms_values.then(|| Tensor::ones(head_dim, DType::F32, &self.device)).transpose()?;
                    let value = normed(&value, bare.as_ref())?;
                    let mut attended = Vec::with_capacity(segments.len());
                    let mut row = 0;
                    for segment in segments {
                        let count = segment.tokens.len();
                        let part = |t: &Tensor| t.narrow(0, row, count)?.transpose(0, 1)?.contiguous();
                        let memory = &self.memories.slots[segment.sequence];
                        let new = [part(&query)?, part(&key)?, part(&value)?];
                        let first = positions[row] as usize;
                        attended.push(attend(&a, memory, (index, first), attention.sinks.as_ref(), &new)?);
                        row += count;
                    }
                    let attended = if attended.len() == 1 { attended.remove(0) } else { Tensor::cat(&attended, 0)? };
                    let gate = match (&attention.query_gate, a.attention_gate) {
                        (Some(gate), _) => Some(gate.forward(&input)?),
                        (None, Some(_)) => Some(projected.narrow(1, query_width, query_width)?.contiguous()?),
                        (None, None) => None,
                    };
                    let attended = gate.map_or(Ok(attended.clone()), |gate| attended * sigmoid(&gate)?)?;
                    attention.output.forward(&attended)?
                }
            };
            let output = normed_by(&output, layer.attention_post_norm.as_ref(), a.post_norm_epsilon)?;
            hidden = (hidden + (output * f64::from(a.residual_scale))?)?;
            let input = if a.is_parallel() { input } else { normed_input(&hidden, layer.feed_forward_norm.as_ref())? };
            let output = match (&layer.network, layer.experts.as_ref().zip(a.experts(index))) {
                (_, Some((bank, experts))) => bank.forward(experts, &input)?,
                (Some(network), None) => network.forward(&input)?,
                (None, None) => input.zeros_like()?,
            };
            let output = normed_by(&output, layer.feed_forward_post_norm.as_ref(), a.post_norm_epsilon)?;
            hidden = (hidden + (output * f64::from(a.residual_scale))?)?;
            if let Some(scale) = &layer.scale {
                hidden = hidden.broadcast_mul(scale)?;
            }
        }
        for (segment, run) in segments.iter().zip(runs) {
            let memory = &mut self.memories.slots[segment.sequence];
            memory.length += segment.tokens.len();
            memory.state = run.state;
        }
        if wanted_rows.is_empty() {
            return Ok(Logits::on_host(Vec::new(), a.vocab_size));
        }
        let count = wanted_rows.len();
        let wanted = hidden.index_select(&Tensor::from_vec(wanted_rows, count, &self.device)?, 0)?;
        let wanted = centred(&wanted, a.centred)?.contiguous()?;
        let logits = self.head.forward(&rms_norm(&wanted, &self.output_norm, a.norm_epsilon)?)?;
        let logits = capped((logits * f64::from(a.logit_scale))?, a.logit_cap)?;
        Ok(Logits::on_host(logits.flatten_all()?.to_vec1()?, a.vocab_size))
    }
}

impl Model for Reference {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn sequences(&mut self) -> &mut dyn Sequences {
        &mut self.memories
    }

    fn forward(&mut self, segments: &[Segment]) -> Result<Logits> {
        self.info.check(segments, |sequence| self.memories.length(sequence))?;
        self.run(segments).map_err(device_error)
    }

    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }
}

/// Attention of one sequence's rows from position `first` on over everything it holds, themselves included.
///
/// `query` is `(heads, rows, head_dim)`, already scaled; `key` and `value` are
/// `(kv_heads, rows, head_dim)` and are stored first. Returns `(rows, heads × head_dim)`.
fn attend(
    a: &Architecture,
    memory: &Memory,
    (layer, first): (usize, usize),
    sinks: Option<&Tensor>,
    [query, key, value]: &[Tensor; 3],
) -> Candle<Tensor> {
    let (_, rows, _) = query.dims3()?;
    let HeadSizes { kv_heads, head_dim, .. } = a.head_sizes(layer);
    let (keys, values) = &memory.layers[a.kind_index(layer)];
    keys.slice_set(key, 1, first)?;
    values.slice_set(value, 1, first)?;
    let total = first + rows;
    let (keys, values) = (keys.narrow(1, 0, total)?, values.narrow(1, 0, total)?);
    // Query heads that share a key head stand next to each other, so a group is a taller matrix.
    let group = a.heads / kv_heads;
    let grouped = query.reshape((kv_heads, group * rows, head_dim))?;
    let scores = capped(grouped.matmul(&keys.transpose(1, 2)?)?, a.score_cap)?;
    let window = a.window(layer).unwrap_or(usize::MAX);
    let scores = if rows == 1 && window >= total {
        scores
    } else {
        let seen = |row: usize, at: usize| at <= row && row - at < window;
        let mask: Vec<f32> = (total - rows..total)
            .flat_map(|row| (0..total).map(move |at| if seen(row, at) { 0.0 } else { f32::NEG_INFINITY }))
            .collect();
        let mask = Tensor::from_vec(mask, (1, 1, rows, total), query.device())?;
        scores.reshape((kv_heads, group, rows, total))?.broadcast_add(&mask)?.reshape((
            kv_heads,
            group * rows,
            total,
        ))?
    };
    let weights = match sinks {
        None => softmax_last_dim(&scores)?,
        Some(sinks) => {
            let sinks = sinks.reshape((kv_heads, group, 1))?.broadcast_as((kv_heads, group, rows))?;
            let all = Tensor::cat(&[scores, sinks.reshape((kv_heads, group * rows, 1))?], 2)?;
            softmax_last_dim(&all)?.narrow(2, 0, total)?.contiguous()?
        }
    };
    let mixed = weights.matmul(&values)?;
    mixed.reshape((a.heads, rows, head_dim))?.transpose(0, 1)?.reshape((rows, a.heads * head_dim))
}

/// Rows without their means, if they are to be centred.
fn centred(x: &Tensor, is_centred: bool) -> Candle<Tensor> {
    if is_centred { x.broadcast_sub(&x.mean_keepdim(1)?) } else { Ok(x.clone()) }
}

/// `cap · tanh(x / cap)`, where there is a cap.
fn capped(x: Tensor, cap: Option<f32>) -> Candle<Tensor> {
    let Some(cap) = cap.map(f64::from) else { return Ok(x) };
    (x / cap)?.tanh()? * cap
}

/// Reads slices onto a device.
struct Reader<'a> {
    weights: Weights<'a>,
    device: &'a Device,
    /// Memory of what was read.
    bytes: Cell<usize>,
}

impl Reader<'_> {
    fn tensor(&self, slice: &Slice) -> Result<Tensor> {
        let tensor = self.weights.tensor(slice)?;
        self.bytes.set(self.bytes.get() + tensor.elem_count() * size_of::<f32>());
        tensor.to_device(self.device).map_err(device_error)
    }

    /// All values of a slice, on the processor.
    fn floats(&self, slice: &Slice) -> Result<Vec<f32>> {
        let values = self.tensor(slice)?.flatten_all().and_then(|values| values.to_vec1());
        values.map_err(device_error)
    }

    fn linear(&self, map: Map) -> Result<Linear> {
        let weight = self.tensor(&map.weight)?.t().map_err(device_error)?;
        let bias = map.bias.map(|bias| self.tensor(&bias)).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn network(&self, at: Section, activation: Activation) -> Result<Network> {
        let gate = at.optional_map(Role::Gate).map(|map| self.linear(map)).transpose()?;
        Ok(Network { gate, up: self.linear(at.map(Role::Up))?, down: self.linear(at.map(Role::Down))?, activation })
    }

    fn bank(&self, layout: Layout, layer: usize) -> Result<Bank> {
        let at = layout.layer(layer);
        let network = |at| self.network(at, layout.architecture.activation(layer));
        Ok(Bank {
            router: self.linear(at.map(Role::Router))?,
            choice_bias: at.vector(Role::ChoiceBias).map(|slice| self.weights.vector(&slice)).transpose()?,
            experts: layout.experts(layer).map(network).collect::<Result<_>>()?,
            shared: layout.shared(layer).map(network).transpose()?,
            shared_switch: at.optional_map(Role::SharedSwitch).map(|map| self.linear(map)).transpose()?,
        })
    }
}
