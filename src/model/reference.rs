//! The generic decoder in Candle operations, for every device: the numerical reference.
//!
//! Weights are dequantised to f32 when loaded. GPUs run it, and the CPU decoder of [`super::decoder`]
//! is held against it. Everything that differs between model families is data in [`Architecture`]; nothing
//! here asks for a family by name. Rotary embeddings are always of the half-split kind: rows of the
//! query and key projections that a file stores interleaved are re-ordered once, at load, which
//! leaves every attention score as it was.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_thd;

use super::architecture::Architecture;
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
}

struct Layer {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<Tensor>,
    key_norm: Option<Tensor>,
    attention_output: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
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
                Ok(Layer {
                    attention_norm: reader.vector(&at("attn_norm.weight"), a.hidden)?,
                    query: interleaved_to_halves(required("attn_q", a.hidden, q)?, a)?,
                    key: interleaved_to_halves(required("attn_k", a.hidden, kv)?, a)?,
                    value: required("attn_v", a.hidden, kv)?,
                    query_norm: reader.optional_vector(&at("attn_q_norm.weight"), a.head_dim)?,
                    key_norm: reader.optional_vector(&at("attn_k_norm.weight"), a.head_dim)?,
                    attention_output: required("attn_output", q, a.hidden)?,
                    feed_forward_norm: reader.vector(&at("ffn_norm.weight"), a.hidden)?,
                    gate: required("ffn_gate", a.hidden, a.feed_forward)?,
                    up: required("ffn_up", a.hidden, a.feed_forward)?,
                    down: required("ffn_down", a.feed_forward, a.hidden)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let output_norm = reader.vector("output_norm.weight", a.hidden)?;
        let factors = reader.weights.optional_vector("rope_freqs.weight", a.head_dim / 2)?;
        let rotary = Rotary::new(a, factors.as_deref());
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
        let (mut cosines, mut sines) = (Vec::new(), Vec::new());
        for &position in &positions {
            let (cosine, sine) = self.rotary.at(position as usize);
            cosines.extend_from_slice(cosine);
            sines.extend_from_slice(sine);
        }
        let cosines = Tensor::from_vec(cosines, (rows, a.head_dim / 2), &self.device)?;
        let sines = Tensor::from_vec(sines, (rows, a.head_dim / 2), &self.device)?;
        let ids = Tensor::from_vec(ids, rows, &self.device)?;
        let mut hidden = (self.embedding.index_select(&ids, 0)? * f64::from(a.embedding_scale))?;
        for (index, layer) in self.layers.iter().enumerate() {
            let input = rms_norm(&hidden, &layer.attention_norm, a.norm_epsilon)?;
            let heads = |projected: Tensor, count: usize, norm: Option<&Tensor>| -> Candle<Tensor> {
                let projected = projected.reshape((rows, count, a.head_dim))?;
                let projected = match norm {
                    Some(norm) => rms_norm(&projected.contiguous()?, norm, a.norm_epsilon)?,
                    None => projected,
                };
                if !a.is_rotary(index) {
                    return Ok(projected);
                }
                rope_thd(&projected.unsqueeze(0)?.contiguous()?, &cosines, &sines)?.squeeze(0)
            };
            let query = heads(layer.query.forward(&input)?, a.heads, layer.query_norm.as_ref())?;
            let query = (query * f64::from(a.attention_scale))?;
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
            hidden = (hidden + (layer.attention_output.forward(&attended)? * f64::from(a.residual_scale))?)?;
            let input = rms_norm(&hidden, &layer.feed_forward_norm, a.norm_epsilon)?;
            let gated = (silu(&layer.gate.forward(&input)?)? * layer.up.forward(&input)?)?;
            hidden = (hidden + (layer.down.forward(&gated)? * f64::from(a.residual_scale))?)?;
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
        let logits = (logits * f64::from(a.logit_scale))?;
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
    let scores = grouped.matmul(&keys.transpose(1, 2)?)?;
    let scores = if rows == 1 {
        scores
    } else {
        let mask: Vec<f32> = (0..rows)
            .flat_map(|row| (0..total).map(move |at| if at > total - rows + row { f32::NEG_INFINITY } else { 0.0 }))
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

/// Re-orders the output rows of each head from `(x0 y0 x1 y1 …)` to `(x0 x1 … y0 y1 …)`.
fn interleaved_to_halves(linear: Linear, a: &Architecture) -> Result<Linear> {
    if !a.rotary_interleaved {
        return Ok(linear);
    }
    let reorder = |t: &Tensor| -> Candle<Tensor> {
        // (heads × head_dim, …) → (heads, head_dim / 2, 2, …) → halves first.
        let columns = if t.rank() == 2 { t.dim(1)? } else { 1 };
        let heads = t.dim(0)? / a.head_dim;
        let split = t.reshape((heads, a.head_dim / 2, 2, columns))?.transpose(1, 2)?.contiguous()?;
        split.reshape(t.shape())
    };
    let weight = linear.weight.t().and_then(|w| reorder(&w.contiguous()?)).and_then(|w| w.t()).map_err(device_error)?;
    let bias = linear.bias.as_ref().map(reorder).transpose().map_err(device_error)?;
    Ok(Linear { weight, bias })
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
