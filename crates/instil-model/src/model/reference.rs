//! The generic decoder in Candle operations, for every device: the numerical reference.
//!
//! Weights are dequantised to f32 when loaded. Apple's GPUs run it, and whatever the decoders for the CPU and for
//! NVIDIA's GPUs do not compute; both are held against it. Everything that differs between model families is data in [`Architecture`]; nothing
//! here asks for a family by name. Rotary embeddings are always of the half-split kind: rows of the
//! query and key projections that a file stores interleaved are re-ordered once, at load, which
//! leaves every attention score as it was.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use super::architecture::{Activation, Architecture};
use super::rotary::Rotary;
use super::weights::{Weights, device_error};
use super::{Arithmetic, Logits, Model, ModelInfo, Segment, SequenceId};
use crate::error::Result;
use crate::gguf::Gguf;

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

    /// Some of the outputs.
    fn part(&self, first: usize, outputs: usize) -> Result<Self> {
        let weight = self.weight.narrow(1, first, outputs).map_err(device_error)?;
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, first, outputs)).transpose().map_err(device_error)?;
        Ok(Self { weight, bias })
    }
}

struct Layer {
    attention_norm: Option<Tensor>,
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    attention_output: Linear,
    attention_post_norm: Option<Tensor>,
    feed_forward_norm: Option<Tensor>,
    gate: Linear,
    up: Linear,
    down: Linear,
    feed_forward_post_norm: Option<Tensor>,
}

/// Keys and values of one sequence: a pair a layer, each `(kv_heads, capacity, head_dim)`.
///
/// Buffers are written in place, so they are never shared between sequences: a fork copies.
struct Memory {
    layers: Vec<(Tensor, Tensor)>,
    length: usize,
    capacity: usize,
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
    sequences: Vec<Option<Memory>>,
}

impl Reference {
    /// Reads a GGUF file onto `device`.
    ///
    /// # Errors
    /// When a tensor is missing, of a shape that the metadata does not promise, or of a type that
    /// Candle cannot read.
    pub fn load(name: &str, file: &Gguf, device: &Device) -> Result<Self> {
        let architecture = Architecture::from_gguf(name, file)?;
        let reader = Reader { weights: Weights { name, file }, device };
        let a = &architecture;
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let embedding = reader.matrix("token_embd.weight", a.vocab_size, a.hidden)?;
        let head = match reader.linear("output", a.hidden, a.vocab_size)? {
            Some(head) => head,
            None => Linear { weight: embedding.t().map_err(device_error)?, bias: None },
        };
        let layers = (0..a.layers)
            .map(|index| {
                let at = |part: &str| format!("blk.{index}.{part}");
                let required = |part: &str, inputs, outputs| {
                    reader.linear(&at(part), inputs, outputs)?.ok_or_else(|| reader.weights.missing(&at(part)))
                };
                let norm = |part: &str, wanted: bool, width| -> Result<Option<Tensor>> {
                    wanted.then(|| reader.vector(&at(part), width)).transpose()
                };
                let (query, key, value) = match reader.linear(&at("attn_qkv"), a.hidden, q + 2 * kv)? {
                    Some(joined) => (joined.part(0, q)?, joined.part(q, kv)?, joined.part(q + kv, kv)?),
                    None => (
                        required("attn_q", a.hidden, q)?,
                        required("attn_k", a.hidden, kv)?,
                        required("attn_v", a.hidden, kv)?,
                    ),
                };
                let (gate, up) = match reader.linear(&at("ffn_gate"), a.hidden, a.feed_forward)? {
                    Some(gate) => (gate, required("ffn_up", a.hidden, a.feed_forward)?),
                    None => {
                        let joined = required("ffn_up", a.hidden, 2 * a.feed_forward)?;
                        (joined.part(0, a.feed_forward)?, joined.part(a.feed_forward, a.feed_forward)?)
                    }
                };
                let spans = a.query_key_norms();
                let head_norm = |part: &str, width: Option<usize>| -> Result<Option<Tensor>> {
                    let Some(norm) = norm(part, width.is_some(), width.unwrap_or_default())? else { return Ok(None) };
                    in_decoder_order(&norm, a).map(Some).map_err(device_error)
                };
                Ok(Layer {
                    attention_norm: norm("attn_norm.weight", a.pre_norms, a.hidden)?,
                    query: turned(query, a)?,
                    key: turned(key, a)?,
                    value,
                    query_norm: head_norm("attn_q_norm.weight", spans.map(|spans| spans.0))?,
                    key_norm: head_norm("attn_k_norm.weight", spans.map(|spans| spans.1))?,
                    attention_output: required("attn_output", q, a.hidden)?,
                    attention_post_norm: norm("post_attention_norm.weight", a.post_norms, a.hidden)?,
                    feed_forward_norm: norm("ffn_norm.weight", a.pre_norms, a.hidden)?,
                    gate,
                    up,
                    down: required("ffn_down", a.feed_forward, a.hidden)?,
                    feed_forward_post_norm: norm("post_ffw_norm.weight", a.post_norms, a.hidden)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let output_norm = reader.vector("output_norm.weight", a.hidden)?;
        let rotary = Rotary::load(a, &reader.weights)?;
        let info = ModelInfo {
            name: name.to_owned(),
            vocab_size: a.vocab_size,
            context_length: a.context_length,
            arithmetic: Arithmetic::f32_on(device),
        };
        Ok(Self {
            info,
            device: device.clone(),
            embedding,
            layers,
            output_norm,
            head,
            rotary,
            sequences: Vec::new(),
            architecture,
        })
    }

    fn memory(&self, sequence: SequenceId) -> &Memory {
        self.sequences[sequence.0].as_ref().expect("a sequence is used between create and free")
    }

    fn insert(&mut self, memory: Memory) -> SequenceId {
        let free = self.sequences.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.sequences.push(None);
            self.sequences.len() - 1
        });
        self.sequences[index] = Some(memory);
        SequenceId(index)
    }

    /// Makes room for `length` positions in a sequence, keeping what it holds.
    fn reserve(&mut self, sequence: SequenceId, length: usize) -> Candle<()> {
        let (kv_heads, head_dim) = (self.architecture.kv_heads, self.architecture.head_dim);
        let memory = self.sequences[sequence.0].as_mut().expect("a sequence is used between create and free");
        if length <= memory.capacity {
            return Ok(());
        }
        let capacity = length.div_ceil(GROWTH) * GROWTH;
        for (key, value) in &mut memory.layers {
            for buffer in [key, value] {
                let larger = Tensor::zeros((kv_heads, capacity, head_dim), DType::F32, &self.device)?;
                if memory.length > 0 {
                    larger.slice_set(&buffer.narrow(1, 0, memory.length)?.contiguous()?, 1, 0)?;
                }
                *buffer = larger;
            }
        }
        memory.capacity = capacity;
        Ok(())
    }

    fn run(&mut self, segments: &[Segment]) -> Candle<Logits> {
        let a = self.architecture.clone();
        let mut ids: Vec<u32> = Vec::new();
        let mut positions: Vec<u32> = Vec::new();
        let mut wanted_rows: Vec<u32> = Vec::new();
        for segment in segments {
            let start = self.memory(segment.sequence).length;
            self.reserve(segment.sequence, start + segment.tokens.len())?;
            wanted_rows.extend(segment.wanted().map(|at| (ids.len() + at) as u32));
            ids.extend_from_slice(segment.tokens);
            positions.extend((start..start + segment.tokens.len()).map(|p| p as u32));
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
            let shape = (rows, a.rotary_dims / 2);
            Ok((Tensor::from_vec(cosines, shape, &self.device)?, Tensor::from_vec(sines, shape, &self.device)?))
        };
        let (global, local) = (angles(false)?, angles(true)?);
        let scales: Vec<f32> = positions.iter().map(|&position| a.query_scale(position as usize)).collect();
        let scales = Tensor::from_vec(scales, (rows, 1, 1), &self.device)?;
        let ids = Tensor::from_vec(ids, rows, &self.device)?;
        let mut hidden = (self.embedding.index_select(&ids, 0)? * f64::from(a.embedding_scale))?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = |x: &Tensor, norm: Option<&Tensor>| match norm {
                Some(norm) => rms_norm(&x.contiguous()?, norm, a.norm_epsilon),
                None => Ok(x.clone()),
            };
            let input = normed(&hidden, layer.attention_norm.as_ref())?;
            let (cosines, sines) = if a.is_local(index) { &local } else { &global };
            let heads = |projected: Tensor, count: usize, norm: Option<&Tensor>| -> Candle<Tensor> {
                let span = norm.map_or(Ok(a.head_dim), |norm| norm.dim(0))?;
                let parts = projected.reshape((rows, count * a.head_dim / span, span))?;
                let projected = normed(&parts, norm)?.reshape((rows, count, a.head_dim))?;
                if !a.is_rotary(index) {
                    return Ok(projected);
                }
                let turned = projected.narrow(2, 0, a.rotary_dims)?.unsqueeze(0)?.contiguous()?;
                let turned = rope_thd(&turned, cosines, sines)?.squeeze(0)?;
                if a.rotary_dims == a.head_dim {
                    return Ok(turned);
                }
                Tensor::cat(&[turned, projected.narrow(2, a.rotary_dims, a.head_dim - a.rotary_dims)?], 2)
            };
            let query = heads(layer.query.forward(&input)?, a.heads, layer.query_norm.as_ref())?;
            let query = query.broadcast_mul(&scales)?;
            let key = heads(layer.key.forward(&input)?, a.kv_heads, layer.key_norm.as_ref())?;
            let value = layer.value.forward(&input)?.reshape((rows, a.kv_heads, a.head_dim))?;
            let mut attended = Vec::with_capacity(segments.len());
            let mut row = 0;
            for segment in segments {
                let count = segment.tokens.len();
                let part = |t: &Tensor| t.narrow(0, row, count)?.transpose(0, 1)?.contiguous();
                let memory = self.memory(segment.sequence);
                attended.push(attend(&a, memory, index, &part(&query)?, &part(&key)?, &part(&value)?)?);
                row += count;
            }
            let attended = if attended.len() == 1 { attended.remove(0) } else { Tensor::cat(&attended, 0)? };
            let output = normed(&layer.attention_output.forward(&attended)?, layer.attention_post_norm.as_ref())?;
            hidden = (hidden + (output * f64::from(a.residual_scale))?)?;
            let input = normed(&hidden, layer.feed_forward_norm.as_ref())?;
            let gate = layer.gate.forward(&input)?;
            let gate = match a.activation {
                Activation::Silu => silu(&gate)?,
                Activation::GeluTanh => gate.gelu()?,
            };
            let output = layer.down.forward(&(gate * layer.up.forward(&input)?)?)?;
            let output = normed(&output, layer.feed_forward_post_norm.as_ref())?;
            hidden = (hidden + (output * f64::from(a.residual_scale))?)?;
        }
        for segment in segments {
            let memory = self.sequences[segment.sequence.0].as_mut().expect("checked above");
            memory.length += segment.tokens.len();
        }
        if wanted_rows.is_empty() {
            return Ok(Logits { values: Vec::new(), width: a.vocab_size });
        }
        let count = wanted_rows.len();
        let wanted = hidden.index_select(&Tensor::from_vec(wanted_rows, count, &self.device)?, 0)?;
        let logits = self.head.forward(&rms_norm(&wanted, &self.output_norm, a.norm_epsilon)?)?;
        let logits = capped((logits * f64::from(a.logit_scale))?, a.logit_cap)?;
        Ok(Logits { values: logits.flatten_all()?.to_vec1()?, width: a.vocab_size })
    }
}

impl Model for Reference {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn create(&mut self) -> SequenceId {
        let empty =
            Tensor::zeros((self.architecture.kv_heads, 0, self.architecture.head_dim), DType::F32, &self.device)
                .expect("an empty tensor needs no memory");
        let layers = vec![(empty.clone(), empty); self.architecture.layers];
        self.insert(Memory { layers, length: 0, capacity: 0 })
    }

    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId> {
        let child = self.create();
        self.reserve(child, length).map_err(device_error)?;
        let copy = |from: &Memory, to: &Memory| -> Candle<()> {
            for (from, to) in from.layers.iter().zip(&to.layers) {
                to.0.slice_set(&from.0.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
                to.1.slice_set(&from.1.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
            }
            Ok(())
        };
        if length > 0 {
            copy(self.memory(parent), self.memory(child)).map_err(device_error)?;
        }
        self.sequences[child.0].as_mut().expect("just created").length = length;
        Ok(child)
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) {
        let memory = self.sequences[sequence.0].as_mut().expect("a sequence is used between create and free");
        memory.length = memory.length.min(length);
    }

    fn length(&self, sequence: SequenceId) -> usize {
        self.memory(sequence).length
    }

    fn free(&mut self, sequence: SequenceId) {
        self.sequences[sequence.0] = None;
    }

    fn forward(&mut self, segments: &[Segment]) -> Result<Logits> {
        for segment in segments {
            let length = self.length(segment.sequence) + segment.tokens.len();
            if length > self.info.context_length {
                return Err(self.info.too_long(length));
            }
        }
        self.run(segments).map_err(device_error)
    }
}

/// Attention of one sequence's new rows over everything it holds, themselves included.
///
/// `query` is `(heads, rows, head_dim)`, already scaled; `key` and `value` are
/// `(kv_heads, rows, head_dim)` and are stored first. Returns `(rows, heads × head_dim)`.
fn attend(
    a: &Architecture,
    memory: &Memory,
    layer: usize,
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
) -> Candle<Tensor> {
    let (_, rows, _) = query.dims3()?;
    let (keys, values) = &memory.layers[layer];
    keys.slice_set(key, 1, memory.length)?;
    values.slice_set(value, 1, memory.length)?;
    let total = memory.length + rows;
    let (keys, values) = (keys.narrow(1, 0, total)?, values.narrow(1, 0, total)?);
    // Query heads that share a key head stand next to each other, so a group is a taller matrix.
    let group = a.heads / a.kv_heads;
    let grouped = query.reshape((a.kv_heads, group * rows, a.head_dim))?;
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
        scores.reshape((a.kv_heads, group, rows, total))?.broadcast_add(&mask)?.reshape((
            a.kv_heads,
            group * rows,
            total,
        ))?
    };
    let mixed = softmax_last_dim(&scores)?.matmul(&values)?;
    mixed.reshape((a.heads, rows, a.head_dim))?.transpose(0, 1)?.reshape((rows, a.heads * a.head_dim))
}

/// `cap · tanh(x / cap)`, where there is a cap.
fn capped(x: Tensor, cap: Option<f32>) -> Candle<Tensor> {
    let Some(cap) = cap.map(f64::from) else { return Ok(x) };
    (x / cap)?.tanh()? * cap
}

/// A query or key projection with its outputs in the order that the rotation here wants.
fn turned(linear: Linear, a: &Architecture) -> Result<Linear> {
    let weight = linear.weight.t().and_then(|w| in_decoder_order(&w, a)).and_then(|w| w.t()).map_err(device_error)?;
    let bias = linear.bias.as_ref().map(|bias| in_decoder_order(bias, a)).transpose().map_err(device_error)?;
    Ok(Linear { weight, bias })
}

/// Rows of heads as [`Architecture::rotary_row`] orders them.
fn in_decoder_order(rows: &Tensor, a: &Architecture) -> Candle<Tensor> {
    if !a.rotary_interleaved {
        return Ok(rows.clone());
    }
    let order: Vec<u32> = (0..rows.dim(0)?).map(|output| a.rotary_row(output) as u32).collect();
    let order = Tensor::from_vec(order, rows.dim(0)?, rows.device())?;
    rows.contiguous()?.index_select(&order, 0)
}

/// Reads tensors onto a device.
struct Reader<'a> {
    weights: Weights<'a>,
    device: &'a Device,
}

impl Reader<'_> {
    fn tensor(&self, name: &str, dims: &[usize]) -> Result<Option<Tensor>> {
        let tensor = self.weights.tensor(name, dims)?;
        tensor.map(|tensor| tensor.to_device(self.device)).transpose().map_err(device_error)
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Tensor> {
        self.tensor(name, &[rows, columns])?.ok_or_else(|| self.weights.missing(name))
    }

    fn vector(&self, name: &str, length: usize) -> Result<Tensor> {
        self.optional_vector(name, length)?.ok_or_else(|| self.weights.missing(name))
    }

    fn optional_vector(&self, name: &str, length: usize) -> Result<Option<Tensor>> {
        self.tensor(name, &[length])
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Option<Linear>> {
        let Some(weight) = self.tensor(&format!("{name}.weight"), &[outputs, inputs])? else { return Ok(None) };
        let bias = self.optional_vector(&format!("{name}.bias"), outputs)?;
        Ok(Some(Linear { weight: weight.t().map_err(device_error)?, bias }))
    }
}
