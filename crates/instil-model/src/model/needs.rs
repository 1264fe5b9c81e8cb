//! What a model will take before it is loaded: from what its file says of itself, without a byte of its weights.

use super::architecture::Architecture;
use super::checkpoint::Checkpoint;
use super::kernels::attention::POSITIONS;
use super::kernels::packed::Packed;
use super::quantise::Quantised;
use crate::error::Result;

/// Memory that a model takes, and sizes that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// `general.architecture`.
    pub family: String,
    /// Number of weights.
    pub parameters: u64,
    /// Width of the logits, in tokens.
    pub vocab_size: usize,
    /// Most tokens a sequence may hold.
    pub context_length: usize,
    /// Memory of the weights as the CPU computes with them, in bytes.
    pub weight_bytes: u64,
    /// The same on a GPU, where they lie in f16.
    pub gpu_weight_bytes: u64,
    /// Memory of the keys and values of [`Needs::block_positions`] tokens in all layers, in bytes.
    pub block_bytes: u64,
    /// Tokens in a block.
    pub block_positions: usize,
    /// Memory of a sequence's state in recurrent layers, in bytes.
    pub state_bytes: u64,
}

impl Needs {
    /// What the model of `file` takes, which may be a head alone ([`Gguf::from_heads`](crate::gguf::Gguf::from_heads)).
    ///
    /// # Errors
    /// As [`Architecture::read`], and when weights are of a type that has no reader.
    pub fn of(name: &str, file: &dyn Checkpoint) -> Result<Self> {
        if file.is_widened() {
            return Self::of(name, &Quantised::narrowed(file)?);
        }
        let architecture = Architecture::read(name, file)?;
        let (mut parameters, mut weight_bytes, mut gpu_weight_bytes) = (0, 0, 0);
        for tensor in file.tensors() {
            let kind = file.kind(tensor)?;
            let shape = file.shape(tensor).unwrap_or_default();
            let elements = shape.iter().map(|&extent| extent as u64).product::<u64>();
            parameters += elements;
            let is_matrix = shape.len() > 1;
            let inputs = shape.last().copied().unwrap_or(1);
            let packed = is_matrix.then(|| Packed::bytes_of(kind, elements as usize / inputs.max(1), inputs)).flatten();
            weight_bytes += packed.map_or(4 * elements, |bytes| bytes as u64);
            gpu_weight_bytes += if is_matrix { 2 * elements } else { 4 * elements };
        }
        let attending = (0..architecture.layers).filter(|&layer| !architecture.is_recurrent(layer));
        let halves: usize = attending.map(|layer| architecture.attention_layout(layer).layer_elements()).sum();
        Ok(Self {
            parameters,
            vocab_size: architecture.vocab_size,
            context_length: architecture.context_length,
            weight_bytes,
            gpu_weight_bytes,
            block_bytes: (halves * size_of::<u16>()) as u64,
            state_bytes: (architecture.recurrent_count() * architecture.state_elements() * size_of::<f32>()) as u64,
            block_positions: POSITIONS,
            family: architecture.family,
        })
    }

    /// Memory of the keys and values, and states, of so many sequences of so many tokens that share nothing, in bytes.
    pub fn key_value_bytes(&self, sequences: usize, tokens: usize) -> u64 {
        let blocks = tokens.div_ceil(self.block_positions) as u64;
        sequences as u64 * (blocks * self.block_bytes + self.state_bytes)
    }
}
