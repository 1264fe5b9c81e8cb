//! One generic decoder over a flat, ragged batch, on the CPU, with weights as they are quantised.
//!
//! Everything that differs between model families is data in [`Architecture`]; nothing here asks for
//! a family by name. A sequence's logits are the same to the bit at any batch size, order, chunking
//! and number of threads, with shared or unshared prefixes, on every instruction set: each row is
//! computed by kernels that look at nothing but the row and its own sequence.
//!
//! Rotary embeddings are always of the half-split kind: rows of the query and key projections that a
//! file stores interleaved are re-ordered once, at load, which leaves every attention score as it was.

use candle_core::{Device, Storage, Tensor};

use super::architecture::Architecture;
use super::kernels::Isa;
use super::kernels::attention::View;
use super::kernels::lanes::LANES;
use super::kv::{Host, Memory};
use super::linear::{Linear, Source};
use super::profile::{Part, Profile};
use super::rotary::Rotary;
use super::stages::{AttentionStage, FeedForwardStage, Layer, Pass, Setting, Workspace};
use super::weights::{Weights, device_error};
use super::{Arithmetic, KeyValueMemory, Logits, Model, ModelInfo, Segment, SequenceId};
use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// A decoder-only transformer with its sequences.
pub struct Decoder {
    info: ModelInfo,
    architecture: Architecture,
    isa: Isa,
    /// `None` when the head is tied: its rows are the embeddings.
    embedding: Option<Linear>,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    head: Linear,
    rotary: Rotary,
    memory: Memory,
    workspace: Workspace,
}

impl Decoder {
    /// Reads a GGUF file, re-ordering its matrices once; `threads` compute a pass.
    ///
    /// # Errors
    /// When a tensor is missing, of a shape that the metadata does not promise, or of a type that
    /// cannot be read; or when there is no memory for the weights.
    pub fn load(name: &str, file: &Gguf, threads: usize) -> Result<Self> {
        Self::load_for(name, file, threads, Isa::detect())
    }

    /// Whether the kernels can compute heads of this width.
    pub fn supports(architecture: &Architecture) -> bool {
        architecture.head_dim.is_multiple_of(LANES)
    }

    /// As [`Decoder::load`], on a given instruction set, which must be one of [`Isa::available`].
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn load_for(name: &str, file: &Gguf, threads: usize, isa: Isa) -> Result<Self> {
        assert!(Isa::available().contains(&isa), "{isa:?} is not available on this processor");
        let architecture = Architecture::from_gguf(name, file)?;
        let a = &architecture;
        if !Self::supports(a) {
            return Err(Error::model(
                name,
                format!("heads of width {} are not computed by the kernels", a.head_dim),
                "use the reference decoder",
            ));
        }
        let weights = Weights { name, file };
        let (query, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let plain = |output: usize| output;
        let halves = |output: usize| a.rotary_row(output);
        let source = |name: String, outputs| Source { name, outputs, within: (0, outputs), order: &plain };
        let layers = (0..a.layers)
            .map(|index| {
                let at = |part: &str| format!("blk.{index}.{part}");
                let one = |part: &str, inputs, outputs| Linear::load(&weights, inputs, &[source(at(part), outputs)]);
                let norm = |part: &str, wanted: bool| -> Result<Option<Vec<f32>>> {
                    wanted.then(|| weights.vector(&at(part), a.hidden)).transpose()
                };
                let head_norm = |part: &str, width: Option<usize>| -> Result<Option<Vec<f32>>> {
                    let Some(width) = width else { return Ok(None) };
                    let values = weights.vector(&at(part), width)?;
                    Ok(Some((0..width).map(|output| values[a.rotary_row(output)]).collect()))
                };
                // Some families hold the three projections, and gate and up, as one matrix.
                let projections = [("attn_q", 0, query), ("attn_k", query, kv), ("attn_v", query + kv, kv)];
                let is_joined = weights.file.has_tensor(&at("attn_qkv.weight"));
                let query_key_value = projections.map(|(part, first, outputs)| Source {
                    name: at(if is_joined { "attn_qkv" } else { part }),
                    outputs,
                    within: if is_joined { (first, query + 2 * kv) } else { (0, outputs) },
                    order: if part == "attn_v" { &plain } else { &halves },
                });
                let is_joined = !weights.file.has_tensor(&at("ffn_gate.weight"));
                let half = |part: &str, first| {
                    let (part, within) =
                        if is_joined { ("ffn_up", (first, 2 * a.feed_forward)) } else { (part, (0, a.feed_forward)) };
                    let half = Source { name: at(part), outputs: a.feed_forward, within, order: &plain };
                    Linear::load(&weights, a.hidden, &[half])
                };
                let spans = a.query_key_norms();
                Ok(Layer {
                    attention_norm: norm("attn_norm.weight", a.pre_norms)?,
                    query_key_value: Linear::load(&weights, a.hidden, &query_key_value)?,
                    query_norm: head_norm("attn_q_norm.weight", spans.map(|spans| spans.0))?,
                    key_norm: head_norm("attn_k_norm.weight", spans.map(|spans| spans.1))?,
                    attention_output: one("attn_output", query, a.hidden)?,
                    attention_post_norm: norm("post_attention_norm.weight", a.post_norms)?,
                    feed_forward_norm: norm("ffn_norm.weight", a.pre_norms)?,
                    gate: half("ffn_gate", 0)?,
                    up: half("ffn_up", a.feed_forward)?,
                    down: one("ffn_down", a.feed_forward, a.hidden)?,
                    feed_forward_post_norm: norm("post_ffw_norm.weight", a.post_norms)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let table = |name: &str| Linear::load(&weights, a.hidden, &[source(name.into(), a.vocab_size)]);
        let (head, embedding) = if file.has_tensor("output.weight") {
            (table("output")?, Some(table("token_embd")?))
        } else {
            (table("token_embd")?, None)
        };
        let output_norm = weights.vector("output_norm.weight", a.hidden)?;
        Ok(Self {
            info: ModelInfo {
                name: name.to_owned(),
                vocab_size: a.vocab_size,
                context_length: a.context_length,
                arithmetic: Arithmetic::Quantised,
            },
            isa,
            embedding,
            output_norm,
            rotary: Rotary::load(a, &weights)?,
            memory: Memory::new(Host, a.layers * a.attention_layout().layer_elements()),
            workspace: Workspace::new(a, threads.max(1), &layers, &head),
            layers,
            head,
            architecture,
        })
    }

    /// Memory of the re-ordered weights.
    pub fn weight_bytes(&self) -> usize {
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.query_key_value, &layer.attention_output, &layer.gate, &layer.up, &layer.down]);
        layers.chain([&self.head]).chain(&self.embedding).map(Linear::size_bytes).sum()
    }

    fn run(&mut self, segments: &[Segment]) -> std::result::Result<Logits, candle_core::Error> {
        if let Ok(profile) = self.workspace.profile.get_mut() {
            profile.begin();
        }
        let width = self.architecture.vocab_size;
        let mut tokens: Vec<u32> = Vec::new();
        let mut wanted: Vec<usize> = Vec::new();
        let mut tables: Vec<Vec<*mut u16>> = Vec::with_capacity(segments.len());
        let mut views: Vec<View> = Vec::new();
        for segment in segments {
            let start = self.memory.length(segment.sequence);
            let count = segment.tokens.len();
            tables.push(self.memory.grow(segment.sequence, count)?);
            let blocks = tables.last().expect("just pushed").as_ptr();
            views.extend((start..start + count).map(|position| View { blocks, position }));
            self.rotary.reach(start + count);
            wanted.extend(segment.wanted().map(|at| tokens.len() + at));
            tokens.extend_from_slice(segment.tokens);
        }
        if let Ok(profile) = self.workspace.profile.get_mut() {
            profile.lap(Part::Prepare);
        }
        let setting = Setting { architecture: &self.architecture, isa: self.isa, rotary: &self.rotary, views: &views };
        let pass = Pass { setting, workspace: (&mut self.workspace).into() };
        let mut hidden = Vec::new();
        pass.embed(&tokens, self.embedding.as_ref().unwrap_or(&self.head), &mut hidden);
        let hidden = Tensor::from_vec(hidden, (tokens.len(), self.architecture.hidden), &Device::Cpu)?;
        for (index, layer) in self.layers.iter().enumerate() {
            hidden.inplace_op1(&AttentionStage { pass: &pass, layer, index })?;
            hidden.inplace_op1(&FeedForwardStage { pass: &pass, layer })?;
        }
        let mut values = Vec::new();
        if !wanted.is_empty() {
            let (storage, _) = hidden.storage_and_layout();
            let Storage::Cpu(storage) = &*storage else { candle_core::bail!("the residual stream is on the CPU") };
            values = pass.logits(storage.as_slice()?, &wanted, &self.output_norm, &self.head);
        }
        Ok(Logits { values, width })
    }
}

impl Model for Decoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn create(&mut self) -> SequenceId {
        self.memory.create()
    }

    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId> {
        Ok(self.memory.fork(parent, length))
    }

    fn truncate(&mut self, sequence: SequenceId, length: usize) {
        self.memory.truncate(sequence, length);
    }

    fn length(&self, sequence: SequenceId) -> usize {
        self.memory.length(sequence)
    }

    fn free(&mut self, sequence: SequenceId) {
        self.memory.free(sequence);
    }

    fn forward(&mut self, segments: &[Segment]) -> Result<Logits> {
        self.info.check(segments, |sequence| self.memory.length(sequence))?;
        self.run(segments).map_err(device_error)
    }

    fn key_value_memory(&self) -> KeyValueMemory {
        KeyValueMemory {
            block_positions: super::kernels::attention::POSITIONS,
            block_bytes: self.memory.block_bytes(),
            used_bytes: self.memory.size_bytes(),
        }
    }

    fn profile(&mut self) -> Option<&mut Profile> {
        self.workspace.profile.get_mut().ok()
    }
}
