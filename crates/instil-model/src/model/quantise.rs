//! Weights in floats made smaller as they are read: matrices become blocks of 8 or 4 bits, as llama.cpp's quantiser lays
//! them out, each when it is asked for.
//!
//! What is no matrix of a linear map stays (norms, biases, what chooses experts), and so does what is quantised
//! already. Of 4 bits the head, or the embeddings that stand for it, gets 6, as llama.cpp has it.

use std::ops::Range;
use std::str::FromStr;

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

/// Parts of names of what is no matrix of a linear map, whatever its extents, or chooses experts.
const STAY: [&str; 4] = ["ffn_gate_inp", "ssm_conv1d", "shortconv.conv", "norm"];

/// What floats become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// 8 bits, a scale for 32 weights.
    Q8_0,
    /// 4 bits, a scale for 32 weights.
    Q4_0,
    /// 4 bits, scales and minima for 32 weights in blocks of 256.
    Q4K,
    /// Floats of 16 bits, of the range of 32.
    Bf16,
    /// Floats of 16 bits.
    F16,
    /// Floats of 32 bits, as they are.
    F32,
}

impl Quantisation {
    /// What is computed with as blocks, with their names.
    pub const NAMES: [(&str, Self); 3] = [("q8_0", Self::Q8_0), ("q4_0", Self::Q4_0), ("q4_k", Self::Q4K)];
    /// What files may hold besides.
    pub const FLOATS: [(&str, Self); 3] = [("f16", Self::F16), ("bf16", Self::Bf16), ("f32", Self::F32)];

    /// The quantisation of that name, of those that files may hold.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_file(text: &str) -> Result<Self> {
        let all = || Self::NAMES.iter().chain(&Self::FLOATS);
        let known = all().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, one)| *one).ok_or_else(|| {
            let names: Vec<&str> = all().map(|(name, _)| *name).collect();
            Error::usage(format!("unknown type `{text}`"), format!("use {}", names.join(", ")))
        })
    }

    /// `general.file_type` of such a file, as llama.cpp counts them.
    pub(super) fn file_type(self) -> u64 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4K => 14,
            Self::Bf16 => 32,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let mut all = Self::NAMES.iter().chain(&Self::FLOATS);
        all.find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// What a matrix of so many columns becomes; `None` where it is left as it is.
    fn kind(self, is_head: bool, inputs: usize) -> Option<GgmlType> {
        let wanted = match self {
            Self::Q8_0 => GgmlType::Q8_0,
            Self::Q4_0 | Self::Q4K if is_head => GgmlType::Q6_K,
            Self::Q4_0 => GgmlType::Q4_0,
            Self::Q4K => GgmlType::Q4_K,
            Self::Bf16 => GgmlType::BF16,
            Self::F16 => GgmlType::F16,
            Self::F32 => GgmlType::F32,
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
    /// What matrices become.
    made: FxHashMap<String, GgmlType>,
}

impl<'a> Quantised<'a> {
    /// The same weights, of which nothing is read yet.
    ///
    /// # Errors
    /// When a tensor's type has no reader.
    pub(super) fn new(file: &'a dyn Checkpoint, to: Quantisation) -> Result<Self> {
        Self::of(file, to, &[GgmlType::F32, GgmlType::F16, GgmlType::BF16])
    }

    /// The same weights, of which those in 32 bits are in 16.
    ///
    /// # Errors
    /// As [`Quantised::new`].
    pub(super) fn narrowed(file: &'a dyn Checkpoint) -> Result<Self> {
        Self::of(file, Quantisation::F16, &[GgmlType::F32])
    }

    /// The same weights as a file holds them: matrices as in [`Quantised::new`], other floats in 32 bits.
    ///
    /// # Errors
    /// As [`Quantised::new`].
    pub(super) fn of_file(file: &'a dyn Checkpoint, to: Quantisation) -> Result<Self> {
        let mut all = Self::new(file, to)?;
        for name in file.tensors() {
            if !all.made.contains_key(name) && matches!(file.kind(name)?, GgmlType::F16 | GgmlType::BF16) {
                all.made.insert(name.to_owned(), GgmlType::F32);
            }
        }
        Ok(all)
    }

    /// Matrices that become another type.
    pub(super) fn changed(&self) -> usize {
        let other = |(name, kind): (&String, &GgmlType)| self.file.kind(name).is_ok_and(|found| found != *kind);
        self.made.iter().filter(|&entry| other(entry)).count()
    }

    fn of(file: &'a dyn Checkpoint, to: Quantisation, from: &[GgmlType]) -> Result<Self> {
        let names = file.tensors();
        let head = if names.contains(&"output.weight") { "output.weight" } else { "token_embd.weight" };
        let mut made = FxHashMap::default();
        for name in names {
            let shape = file.shape(name).unwrap_or_default();
            let is_map = shape.len() > 1 && name.ends_with(".weight") && !STAY.iter().any(|part| name.contains(part));
            let is_float = from.contains(&file.kind(name)?);
            let kind = shape.last().and_then(|&inputs| to.kind(name == head, inputs));
            if let Some(kind) = kind.filter(|_| is_map && is_float) {
                made.insert(name.to_owned(), kind);
            }
        }
        Ok(Self { file, made })
    }

    /// The blocks of some rows, which lie in one piece.
    fn make(&self, tensor: &str, kind: GgmlType, rows: Range<usize>) -> Result<Vec<u8>> {
        let stored = self.file.rows(tensor, rows)?;
        let row_bytes = (stored.bytes.len() / stored.outputs.max(1)).max(1);
        let chunks: Vec<Vec<u8>> = stored
            .bytes
            .par_chunks(CHUNK * row_bytes)
            .map(|chunk| blocks(&floats(stored.kind, chunk), stored.inputs, kind))
            .collect::<Result<_>>()?;
        Ok(chunks.concat())
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
        self.made.get(tensor).map_or_else(|| self.file.kind(tensor), |kind| Ok(*kind))
    }

    fn stored(&self, tensor: &str) -> Result<Stored<'_>> {
        if !self.made.contains_key(tensor) {
            return self.file.stored(tensor);
        }
        let shape = self.file.shape(tensor).unwrap_or_default();
        self.rows(tensor, 0..shape.iter().rev().skip(1).product())
    }

    fn rows(&self, tensor: &str, rows: Range<usize>) -> Result<Stored<'_>> {
        let Some(&kind) = self.made.get(tensor) else { return self.file.rows(tensor, rows) };
        let inputs = self.file.shape(tensor).unwrap_or_default().last().copied().unwrap_or(1);
        let outputs = rows.len();
        Ok(Stored { kind, bytes: self.make(tensor, kind, rows)?.into(), outputs, inputs })
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
        GgmlType::F32 => return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        GgmlType::F16 => return Ok(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()),
        GgmlType::BF16 => return Ok(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()),
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
