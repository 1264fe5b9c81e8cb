//! One generic decoder over a flat, ragged batch, on the CPU, with weights as they are quantised.
//!
//! Everything that differs between model families is data in [`Architecture`]; nothing here asks for
//! a family by name. A sequence's logits are the same to the bit at any batch size, order, chunking
//! and number of threads, with shared or unshared prefixes, on every instruction set: each row is
//! computed by kernels that look at nothing but the row and its own sequence.
//!
//! Rotary embeddings are always of the half-split kind: rows of the query and key projections that a
//! file stores interleaved are re-ordered once, at load, which leaves every attention score as it was.

use super::architecture::Architecture;
use super::checkpoint::Checkpoint;
use super::kernels::Isa;
use super::kernels::attention::View;
use super::kernels::lanes::LANES;
use super::kv::{Host, Memory};
use super::layout::{Layout, Role};
use super::linear::{Linear, PIECE};
use super::profile::{Part, Profile};
use super::rotary::Rotary;
use super::stages::{Attention, Bank, Layer, Mixer, Network, Pass, Recurrent, Run, Setting, Workspace};
use super::weights::{Weights, device_error};
use super::{Arithmetic, KeyValueMemory, Logits, Model, ModelInfo, Segment, Sequences};
use crate::error::{Error, Result};

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
    /// Reads a file of weights, re-ordering its matrices once; `threads` compute a pass.
    ///
    /// # Errors
    /// When a tensor is missing, of a shape that the metadata does not promise, or of a type that
    /// cannot be read; or when there is no memory for the weights.
    pub fn load(name: &str, file: &dyn Checkpoint, threads: usize) -> Result<Self> {
        Self::load_for(name, file, threads, Isa::detect())
    }

    /// Whether the kernels can compute heads of this width, and tell experts of this width apart.
    pub(crate) fn supports(architecture: &Architecture) -> bool {
        let is_whole = |width: usize| width.is_multiple_of(PIECE);
        let experts = architecture.experts.as_ref();
        architecture.head_dim.is_multiple_of(LANES)
            && architecture.local_heads.is_none_or(|sizes| sizes.head_dim.is_multiple_of(LANES))
            && Recurrent::supports(architecture)
            && experts.is_none_or(|experts| is_whole(experts.width) && is_whole(architecture.hidden))
    }

    /// As [`Decoder::load`], on a given instruction set, which must be one of [`Isa::available`].
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn load_for(name: &str, file: &dyn Checkpoint, threads: usize, isa: Isa) -> Result<Self> {
        assert!(Isa::available().contains(&isa), "{isa:?} is not available on this processor");
        let architecture = Architecture::read(name, file)?;
        let a = &architecture;
        if !Self::supports(a) {
            return Err(Error::model(
                name,
                match &a.experts {
                    Some(experts) if a.head_dim.is_multiple_of(LANES) => {
                        let (width, hidden) = (experts.width, a.hidden);
                        format!("experts of width {width} over {hidden} are not computed by the kernels")
                    }
                    _ => format!("heads of width {} are not computed by the kernels", a.head_dim),
                },
                "use the reference decoder",
            ));
        }
        let (weights, layout) = (Weights { name, file }, Layout { architecture: a, file });
        // Where in a block, and in a state, each layer's part begins.
        let (mut in_block, mut in_state) = (0, 0);
        let layers = (0..a.layers)
            .map(|index| {
                let at = layout.layer(index);
                let map = |roles: &[Role]| {
                    Linear::load(&weights, &roles.iter().map(|&role| at.map(role)).collect::<Vec<_>>())
                };
                let norm = |role| at.vector(role).map(|slice| weights.vector(&slice)).transpose();
                let (block_offset, state_offset) = (in_block, in_state);
                let heads = a.attention_layout(index);
                if a.is_recurrent(index) {
                    in_state += a.state_elements();
                } else {
                    in_block += heads.layer_elements();
                }
                Ok(Layer {
                    attention_norm: norm(Role::AttentionNorm)?,
                    mixer: if a.is_recurrent(index) {
                        Mixer::Recurrent(Recurrent::load(&weights, at, a, state_offset)?)
                    } else {
                        Mixer::Attention(Attention {
                            layout: heads,
                            block_offset,
                            query_key_value: map(match at.optional_map(Role::QueryGate) {
                                Some(_) => &[Role::Query, Role::QueryGate, Role::Key, Role::Value],
                                None => &[Role::Query, Role::Key, Role::Value],
                            })?,
                            query_norm: norm(Role::QueryNorm)?,
                            key_norm: norm(Role::KeyNorm)?,
                            value_norm: a.norms_values.then(|| vec![1.0; heads.head_dim]),
                            sinks: norm(Role::Sinks)?,
                            output: map(&[Role::AttentionOutput])?,
                        })
                    },
                    attention_post_norm: norm(Role::AttentionPostNorm)?,
                    feed_forward_norm: norm(Role::FeedForwardNorm)?,
                    network: layout
                        .dense(index)
                        .map(|at| Network::load(&weights, &[at], a.activation(index)))
                        .transpose()?,
                    experts: a.experts(index).map(|_| Bank::load(&weights, layout, index)).transpose()?,
                    feed_forward_post_norm: norm(Role::FeedForwardPostNorm)?,
                    scale: norm(Role::LayerScale)?.map(|scale| scale[0]),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let outer = layout.outer();
        let table = |role| Linear::load(&weights, &[outer.map(role)]);
        let head = table(Role::Head)?;
        let embedding = if layout.is_tied() { None } else { Some(table(Role::Embeddings)?) };
        let output_norm = weights.vector(&outer.output_norm())?;
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
            rotary: Rotary::load(layout, &weights)?,
            memory: Memory::new(Host, in_block, in_state),
            workspace: Workspace::new(a, threads.max(1), &layers, &head),
            layers,
            head,
            architecture,
        })
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
        let mut runs: Vec<Run> = Vec::new();
        for segment in segments {
            let start = self.memory.length(segment.sequence);
            let count = segment.tokens.len();
            tables.push(self.memory.grow(segment.sequence, count)?);
            let blocks = tables.last().expect("just pushed").as_ptr();
            views.extend((start..start + count).map(|position| View { blocks, position }));
            runs.push(Run { state: self.memory.state(segment.sequence), first_row: tokens.len(), count });
            self.rotary.reach(start + count);
            wanted.extend(segment.wanted().map(|at| tokens.len() + at));
            tokens.extend_from_slice(segment.tokens);
        }
        if let Ok(profile) = self.workspace.profile.get_mut() {
            profile.lap(Part::Prepare);
        }
        let setting = Setting {
            architecture: &self.architecture,
            isa: self.isa,
            rotary: &self.rotary,
            views: &views,
            runs: &runs,
        };
        let mut pass = Pass { setting, workspace: &mut self.workspace };
        let mut hidden = pass.embed(&tokens, self.embedding.as_ref().unwrap_or(&self.head));
        for (index, layer) in self.layers.iter().enumerate() {
            match &layer.mixer {
                Mixer::Attention(attention) => pass.attention(layer, attention, index, &mut hidden),
                Mixer::Recurrent(recurrent) => pass.recur(layer, recurrent, &mut hidden),
            }
            match &layer.experts {
                Some(bank) => pass.experts(layer, bank, &mut hidden),
                None => pass.feed_forward(layer, &mut hidden),
            }
            if let Some(scale) = layer.scale {
                hidden.iter_mut().for_each(|x| *x *= scale);
            }
        }
        let values =
            if wanted.is_empty() { Vec::new() } else { pass.logits(&hidden, &wanted, &self.output_norm, &self.head) };
        Ok(Logits::on_host(values, width))
    }
}

impl Model for Decoder {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn sequences(&mut self) -> &mut dyn Sequences {
        &mut self.memory
    }

    fn forward(&mut self, segments: &[Segment]) -> Result<Logits> {
        self.info.check(segments, |sequence| self.memory.length(sequence))?;
        self.run(segments).map_err(device_error)
    }

    fn key_value_memory(&self) -> KeyValueMemory {
        KeyValueMemory {
            block_positions: super::kernels::attention::POSITIONS,
            block_bytes: self.memory.block_bytes(),
            state_bytes: self.memory.state_bytes(),
            used_bytes: self.memory.size_bytes(),
        }
    }

    fn weight_bytes(&self) -> usize {
        let maps = [&self.head].into_iter().chain(&self.embedding).map(Linear::size_bytes);
        let layers = self.layers.iter().map(Layer::size_bytes);
        maps.chain(layers).sum::<usize>() + size_of_val(self.output_norm.as_slice())
    }

    fn profile(&mut self) -> Option<&mut Profile> {
        self.workspace.profile.get_mut().ok()
    }
}
