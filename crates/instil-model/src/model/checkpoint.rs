//! What a file of weights must be able to tell, whatever its form: metadata, and tensors by name.
//!
//! Keys, names of tensors, types of their elements and what writers do to weights beforehand are GGUF's, which
//! [`Gguf`] hands through; another form of file translates its own into these. Which tensors there should be, and what
//! for, is in `layout`.

use std::ops::Range;
use std::path::Path;

use super::kernels::packed::Stored;
use super::safetensors::{self, Safetensors};
use crate::error::Result;
use crate::gguf::{GgmlType, Gguf, Metadata, Value};
use crate::tokenizer::Tokenizer;

/// The weights of one model and what is said of them. Untrusted: whoever reads checks.
pub trait Checkpoint: Sync {
    /// What describes the model and its tokenizer. Its path is what errors name.
    fn metadata(&self) -> &Metadata;

    /// Names of all tensors, in the order of the file.
    fn tensors(&self) -> Vec<&str>;

    /// The extents of a tensor, outermost first, if it is there; a matrix is `(outputs, inputs)`.
    fn shape(&self, tensor: &str) -> Option<Vec<usize>>;

    /// The elements of a tensor, as rows of its innermost extent, each of them a whole number of blocks of its type.
    ///
    /// # Errors
    /// When there is no such tensor, its type has no reader, or its bytes cannot be had.
    fn stored(&self, tensor: &str) -> Result<Stored<'_>>;

    /// Some rows of the same. What lies in pieces, as experts may, is had by rows of one piece alone.
    ///
    /// # Errors
    /// As [`Checkpoint::stored`].
    fn rows(&self, tensor: &str, rows: Range<usize>) -> Result<Stored<'_>> {
        Ok(self.stored(tensor)?.rows(rows))
    }

    /// The type of a tensor's elements.
    ///
    /// # Errors
    /// As [`Checkpoint::stored`].
    fn kind(&self, tensor: &str) -> Result<GgmlType> {
        Ok(self.stored(tensor)?.kind)
    }

    /// Whether the rotary pairs of queries and keys lie side by side, where they do or not in GGUF's files of the family.
    fn interleaves_pairs(&self, by_family: bool) -> bool {
        by_family
    }

    /// Whether matrices were made floats of 32 bits that had fewer: those of 16 do for all but a reference.
    fn is_widened(&self) -> bool {
        false
    }

    /// The keys of the tokenizer that a GGUF file would have, where it has a file of its own; `None` where they are among
    /// the metadata.
    ///
    /// # Errors
    /// When GGUF has no words for it.
    fn tokenizer_entries(&self) -> Result<Option<Vec<(String, Value)>>> {
        Ok(None)
    }

    /// The tokenizer that comes with the weights; `model` is what errors name.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`], or [`Tokenizer::from_file`] where it has a file of its own.
    fn tokenizer(&self, model: &str) -> Result<Tokenizer> {
        Tokenizer::from_gguf(self.metadata(), model)
    }
}

/// Opens a file of weights, whatever its form.
///
/// # Errors
/// As [`Gguf::open`], and as [`Safetensors::open`] for a folder or a file of that form.
pub fn open(path: &Path) -> Result<Box<dyn Checkpoint>> {
    if safetensors::is_one(path) {
        return Ok(Box::new(Safetensors::open(path)?));
    }
    Ok(Box::new(Gguf::open(path)?))
}

impl Checkpoint for Gguf {
    fn metadata(&self) -> &Metadata {
        self.metadata()
    }

    fn tensors(&self) -> Vec<&str> {
        self.tensors().iter().map(|tensor| tensor.name.as_str()).collect()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        let info = self.tensor(tensor).ok()?;
        Some(info.shape().into_iter().map(|extent| extent as usize).collect())
    }

    fn kind(&self, tensor: &str) -> Result<GgmlType> {
        self.tensor(tensor)?.ggml_type()
    }

    fn stored(&self, tensor: &str) -> Result<Stored<'_>> {
        let info = self.tensor(tensor)?;
        let inputs = info.dims.first().map_or(1, |&columns| columns as usize);
        let outputs = info.dims.iter().skip(1).product::<u64>() as usize;
        Ok(Stored { kind: info.ggml_type()?, bytes: self.bytes(info)?.into(), outputs, inputs })
    }
}
