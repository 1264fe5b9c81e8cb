//! Weights in floats made smaller as they are read: matrices become blocks of 8 or 4 bits, as llama.cpp's quantiser lays
//! them out, each when it is first asked for.
//!
//! What is no matrix of a linear map stays (norms, biases, what chooses experts), and so does what is quantised
//! already. Of 4 bits the head, or the embeddings that stand for it, gets 6, as llama.cpp has it.

use std::ops::Range;
use std::str::FromStr;
use std::sync::OnceLock;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::checkpoint::Checkpoint;
use super::kernels::packed::Stored;
use super::weights::device_error;
use crate::error::{Error, Result};
use crate::gguf::{GgmlType, Metadata};
use crate::tokenizer::Tokenizer;

/// Rows that are made blocks at once, on one thread.
const CHUNK: usize = 64;

/// What floats become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// 8 bits, a scale for 32 weights.
    Q8_0,
    /// 4 bits, a scale for 32 weights.
    Q4_0,
    /// 4 bits, scales and minima for 32 weights in blocks of 256.
    Q4K,
}

impl Quantisation {
    /// All of them, with their names.
    pub const NAMES: [(&str, Self); 3] = [("q8_0", Self::Q8_0), ("q4_0", Self::Q4_0), ("q4_k", Self::Q4K)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// What a matrix of so many columns becomes; `None` where it is left as it is.
    fn kind(self, is_head: bool, inputs: usize) -> Option<GgmlType> {
        let wanted = match self {
            Self::Q8_0 => GgmlType::Q8_0,
            Self::Q4_0 | Self::Q4K if is_head => GgmlType::Q6_K,
            Self::Q4_0 => GgmlType::Q4_0,
            Self::Q4K => GgmlType::Q4_K,
        };
        let fits = |kind: &GgmlType| inputs.is_multiple_of(kind.block_elements() as usize);
        // Widths that no block of 256 divides.
        [wanted, GgmlType::Q8_0].into_iter().find(fits)
    }
}

impl FromStr for Quantisation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, one)| *one).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            Error::usage(format!("unknown quantisation `{text}`"), format!("use {}", names.join(", ")))
        })
    }
}

/// A file of weights whose matrices of floats are quantised.
pub(super) struct Quantised<'a> {
    file: &'a dyn Checkpoint,
    /// What matrices become, and their blocks once they are made.
    made: FxHashMap<String, (GgmlType, OnceLock<Vec<u8>>)>,
}

impl<'a> Quantised<'a> {
    /// The same weights, of which nothing is read yet.
    ///
    /// # Errors
    /// When a tensor's type has no reader.
    pub(super) fn new(file: &'a dyn Checkpoint, to: Quantisation) -> Result<Self> {
        let names = file.tensors();
        let head = if names.contains(&"output.weight") { "output.weight" } else { "token_embd.weight" };
        let mut made = FxHashMap::default();
        for name in names {
            let shape = file.shape(name).unwrap_or_default();
            let is_map = shape.len() > 1 && name.ends_with(".weight") && !name.contains("ffn_gate_inp");
            let is_float = matches!(file.kind(name)?, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16);
            let kind = shape.last().and_then(|&inputs| to.kind(name == head, inputs));
            if let Some(kind) = kind.filter(|_| is_map && is_float) {
                made.insert(name.to_owned(), (kind, OnceLock::new()));
            }
        }
        Ok(Self { file, made })
    }

    /// The blocks of a whole tensor, one expert after the other where it has some.
    fn make(&self, tensor: &str, kind: GgmlType) -> Result<Vec<u8>> {
        let shape = self.file.shape(tensor).unwrap_or_default();
        let (inputs, outer) = shape.split_last().expect("a matrix");
        let (rows, columns) = outer.split_last().map_or((1, 1), |(rows, rest)| (*rows, rest.iter().product::<usize>()));
        let mut bytes = Vec::new();
        for part in 0..columns {
            let stored = self.file.rows(tensor, part * rows..(part + 1) * rows)?;
            let row_bytes = (stored.bytes.len() / rows.max(1)).max(1);
            let chunks: Vec<Vec<u8>> = stored
                .bytes
                .par_chunks(CHUNK * row_bytes)
                .map(|chunk| blocks(&floats(stored.kind, chunk), *inputs, kind))
                .collect::<Result<_>>()?;
            bytes.extend(chunks.into_iter().flatten());
        }
        Ok(bytes)
    }
}

impl Checkpoint for Quantised<'_> {
    fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    fn tensors(&self) -> Vec<&str> {
        self.file.tensors()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.file.shape(tensor)
    }

    fn kind(&self, tensor: &str) -> Result<GgmlType> {
        self.made.get(tensor).map_or_else(|| self.file.kind(tensor), |(kind, _)| Ok(*kind))
    }

    fn stored(&self, tensor: &str) -> Result<Stored<'_>> {
        let Some((kind, made)) = self.made.get(tensor) else { return self.file.stored(tensor) };
        if made.get().is_none() {
            let bytes = self.make(tensor, *kind)?;
            // Whoever was faster has made the same.
            let _ = made.set(bytes);
        }
        let shape = self.file.shape(tensor).unwrap_or_default();
        let (inputs, outer) = shape.split_last().expect("a matrix");
        let bytes = made.get().expect("it was just made");
        Ok(Stored { kind: *kind, bytes, outputs: outer.iter().product(), inputs: *inputs })
    }

    fn rows(&self, tensor: &str, rows: Range<usize>) -> Result<Stored<'_>> {
        if self.made.contains_key(tensor) { Ok(self.stored(tensor)?.rows(rows)) } else { self.file.rows(tensor, rows) }
    }

    fn interleaves_pairs(&self, by_family: bool) -> bool {
        self.file.interleaves_pairs(by_family)
    }

    fn tokenizer(&self, model: &str) -> Result<Tokenizer> {
        self.file.tokenizer(model)
    }
}

fn floats(kind: GgmlType, bytes: &[u8]) -> Vec<f32> {
    match kind {
        GgmlType::F16 => bytes.as_chunks::<2>().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect(),
        GgmlType::BF16 => bytes.as_chunks::<2>().0.iter().map(|&value| bf16::from_le_bytes(value).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
    }
}

/// Rows as blocks.
fn blocks(values: &[f32], inputs: usize, kind: GgmlType) -> Result<Vec<u8>> {
    let kind = match kind {
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_K => GgmlDType::Q4K,
        GgmlType::Q6_K => GgmlDType::Q6K,
        _ => GgmlDType::Q8_0,
    };
    let make = || {
        let tensor = Tensor::from_slice(values, (values.len() / inputs, inputs), &Device::Cpu)?;
        Ok(QTensor::quantize(&tensor, kind)?.data()?.into_owned())
    };
    make().map_err(device_error)
}
