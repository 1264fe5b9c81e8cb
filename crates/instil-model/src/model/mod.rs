//! Language models behind one seam: sequences that grow, fork and shrink, and logits.
//!
//! A [`Model`] takes a flat, ragged batch: each [`Segment`] appends some tokens to one sequence, so
//! decoding rows, prompt chunks and forced runs mix in one pass. Two implementations stand behind
//! the seam: the decoder, and [`scripted`] (replays written replies, so that
//! the whole program is tested in milliseconds without weights). The decoder is [`decoder`] on the
//! CPU, with stages in `stages` over [`kernels`]; `cuda` on NVIDIA's GPUs, where the build has the feature; and
//! [`reference`](mod@reference) in Candle's own operations elsewhere. They are read from a [`Checkpoint`], a file of
//! weights in any form, by the one table of `layout`, and draw tokens as [`draw`] says. [`rewrite`] writes such a file
//! anew, quantised. [`embedder`] stands apart: it turns whole texts into vectors.

pub mod architecture;
pub mod checkpoint;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod decoder;
pub mod device;
pub mod draw;
pub mod embedder;
pub mod kernels;
mod kv;
mod layout;
mod linear;
mod logits;
pub mod needs;
pub mod profile;
pub mod quantise;
pub mod reference;
pub mod rewrite;
mod rotary;
mod routing;
pub mod safetensors;
pub mod scripted;
mod sequences;
mod stages;
mod states;
mod weights;

pub use checkpoint::Checkpoint;
pub use logits::{Logits, OnDevice};
pub use sequences::{SequenceId, Sequences};

use std::num::NonZeroUsize;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Remedy, Result, setting};
use draw::{Draw, Samplers, ToDraw};
use instil_grammar::vocab::TokenId;

/// Tokens appended to one sequence by one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The sequence that grows; at most one segment a sequence and pass.
    pub sequence: SequenceId,
    /// What is appended; not empty.
    pub tokens: &'a [TokenId],
    /// After how many of the last `tokens` the logits are wanted; at most all of them.
    pub logits: usize,
}

impl Segment<'_> {
    /// Indices into `tokens` after which logits are wanted, ascending.
    fn wanted(&self) -> Range<usize> {
        self.tokens.len().saturating_sub(self.logits)..self.tokens.len()
    }
}

/// What a caller must know of a model.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Name from the manifest, or the file's stem.
    pub name: String,
    /// Width of the logits, in tokens.
    pub vocab_size: usize,
    /// Most tokens a sequence may hold.
    pub context_length: usize,
    /// What its numbers are computed in.
    pub arithmetic: Arithmetic,
}

/// What a model computes in. The same weights in another arithmetic give other logits, and so other rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// The CPU's kernels: weights as they are quantised, activations
    /// rounded to 8 bits a block.
    #[default]
    Quantised,
    /// 32-bit floats on the CPU.
    F32Cpu,
    /// Weights in 16-bit and sums in 32-bit floats on an NVIDIA GPU.
    F16Cuda,
    /// 32-bit floats on an NVIDIA GPU.
    F32Cuda,
    /// 32-bit floats on Apple's GPU.
    F32Metal,
    /// Nothing is computed: replies are replayed.
    Scripted,
}

impl Arithmetic {
    /// That of 32-bit floats on `device`.
    fn f32_on(device: &candle_core::Device) -> Self {
        match device {
            candle_core::Device::Cpu => Self::F32Cpu,
            candle_core::Device::Cuda(_) => Self::F32Cuda,
            candle_core::Device::Metal(_) => Self::F32Metal,
        }
    }
}

impl ModelInfo {
    /// Refuses segments that would exceed the context, and tokens that the vocabulary lacks.
    fn check(&self, segments: &[Segment], length: impl Fn(SequenceId) -> usize) -> Result<()> {
        for segment in segments {
            let length = length(segment.sequence) + segment.tokens.len();
            if length > self.context_length {
                return Err(self.too_long(length));
            }
            if let Some(token) = segment.tokens.iter().find(|&&token| token as usize >= self.vocab_size) {
                return Err(Error::usage(format!("there is no token {token}"), "use this model's tokenizer"));
            }
        }
        Ok(())
    }

    fn too_long(&self, length: usize) -> Error {
        Error::model(
            &self.name,
            format!("a sequence of {length} tokens exceeds the context of {}", self.context_length),
            Remedy::from("shorten the prompt, or lower ").name(setting::MAX_TOKENS),
        )
    }
}

/// Memory that sequences take in a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueMemory {
    /// Tokens whose keys and values lie in one block; 0 when the model keeps none in blocks.
    pub block_positions: usize,
    /// Memory of a block.
    pub block_bytes: usize,
    /// Memory of the recurrent layers' state of a sequence, whatever its length; 0 where there are none.
    pub state_bytes: usize,
    /// Memory in use.
    pub used_bytes: usize,
}

impl KeyValueMemory {
    /// Memory of a sequence of `length` tokens that shares nothing.
    pub(crate) fn of_sequence(&self, length: usize) -> usize {
        let blocks = if self.block_positions == 0 { 0 } else { length.div_ceil(self.block_positions) };
        blocks * self.block_bytes + self.state_bytes
    }
}

/// How a decoder computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads of a forward pass on the CPU; as many as there are processors by default.
    pub threads: Option<NonZeroUsize>,
    /// The reference in f32 instead of the CPU's quantised kernels.
    pub reference: bool,
    /// What matrices of floats become; they stay as they are by default.
    pub quantise: Option<quantise::Quantisation>,
}

/// Loads the decoder of a weight file: the quantised one on the CPU, that of `cuda` on NVIDIA's GPUs, and the reference
/// where it is asked for, on other devices, and for what the others cannot compute.
///
/// # Errors
/// As [`decoder::Decoder::load`].
pub fn load(
    name: &str,
    file: &dyn Checkpoint,
    device: &candle_core::Device,
    options: LoadOptions,
) -> Result<Box<dyn Model>> {
    if let Some(to) = options.quantise {
        let options = LoadOptions { quantise: None, ..options };
        return load(name, &quantise::Quantised::new(file, to)?, device, options);
    }
    if file.is_widened() && !options.reference {
        return load(name, &quantise::Quantised::narrowed(file)?, device, options);
    }
    let architecture = architecture::Architecture::read(name, file)?;
    #[cfg(feature = "cuda")]
    if device.is_cuda() && !options.reference && cuda::CudaDecoder::supports(&architecture, file) {
        return Ok(Box::new(cuda::CudaDecoder::load(name, file, device)?));
    }
    if device.is_cpu() && decoder::Decoder::supports(&architecture) && !options.reference {
        let threads = options.threads.or_else(|| std::thread::available_parallelism().ok());
        return Ok(Box::new(decoder::Decoder::load(name, file, threads.map_or(1, NonZeroUsize::get))?));
    }
    Ok(Box::new(reference::Reference::load(name, file, device)?))
}

/// A causal language model.
///
/// Deterministic: the logits of a sequence are a function of its tokens, to the bit for the
/// [`decoder`] and the [`scripted`] model; for the [`reference`](mod@reference) to rounding, for its matrix products
/// depend on the shape of the batch.
pub trait Model: Send {
    /// Names and sizes.
    fn info(&self) -> &ModelInfo;
    /// The sequences that it holds.
    fn sequences(&mut self) -> &mut dyn Sequences;
    /// Appends every segment and returns the logits that were asked for, in order.
    ///
    /// # Errors
    /// When a sequence would exceed the context, or the device fails.
    fn forward(&mut self, segments: &[Segment]) -> Result<Logits>;
    /// Draws each of `wanted` from logits of a pass, in order; `None` where the mask lets nothing through. What is drawn
    /// depends on nothing but its row and what is said of it. `samplers` draw for models that leave it to the processor.
    ///
    /// # Errors
    /// When the device fails.
    fn draw(&mut self, logits: &Logits, wanted: &[ToDraw], samplers: &Samplers) -> Result<Vec<Option<Draw>>> {
        samplers.draw(logits, wanted)
    }
    /// Takes back the memory of logits that nobody looks at any more; their size makes it worth using again.
    fn recycle(&mut self, _logits: Logits) {}
    /// Memory that sequences take; nothing unless the model says so.
    fn key_value_memory(&self) -> KeyValueMemory {
        KeyValueMemory::default()
    }
    /// Memory that the weights take where they are computed with, which need not be the size of their file; nothing unless
    /// the model says so.
    fn weight_bytes(&self) -> usize {
        0
    }
    /// How many sequences at once keep the device busy; beyond so many, a CPU gains little.
    fn usual_batch(&self) -> usize {
        32
    }
    /// Memory left for keys and values, where it is the device's own.
    fn free_bytes(&self) -> Option<usize> {
        None
    }
    /// Where the time of forward passes went, for models that tell.
    fn profile(&mut self) -> Option<&mut profile::Profile> {
        None
    }
}
