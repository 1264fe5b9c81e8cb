//! Language models behind one seam: sequences that grow, fork and shrink, and logits.
//!
//! A [`Model`] takes a flat, ragged batch: each [`Segment`] appends some tokens to one sequence, so
//! decoding rows, prompt chunks and forced runs mix in one pass. Two implementations stand behind
//! the seam, chosen by the manifest: [`decoder`] (Candle) and [`scripted`] (replays written
//! replies, so that the whole program is tested in milliseconds without weights). What models there
//! are and where their files come from is told by [`catalog`], [`manifest`] and [`source`].

pub mod architecture;
pub mod catalog;
pub mod decoder;
pub mod device;
pub mod manifest;
pub mod scripted;
pub mod source;

pub use catalog::{Catalog, DEFAULT_MODEL};

use crate::error::Result;
use crate::vocab::TokenId;

/// Handle of a sequence inside a model. Handles are reused after [`Model::free`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub usize);

/// Tokens appended to one sequence by one forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The sequence that grows; at most one segment a sequence and pass.
    pub sequence: SequenceId,
    /// What is appended; not empty.
    pub tokens: &'a [TokenId],
    /// Whether the logits after the last of `tokens` are wanted.
    pub logits: bool,
}

/// Logits of a pass: `(segments that asked for them, vocabulary)`, row-major.
#[derive(Clone, Debug, Default)]
pub struct Logits {
    /// `rows × width` values.
    pub values: Vec<f32>,
    /// Length of a row: the model's [`ModelInfo::vocab_size`].
    pub width: usize,
}

impl Logits {
    /// Row `index`, in the order of the segments that asked.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
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
}

/// A causal language model.
///
/// Deterministic: the logits of a sequence are a function of its tokens (and, for the Candle
/// decoder in floating point, of the shape of the batch that computed them).
pub trait Model: Send {
    /// Names and sizes.
    fn info(&self) -> &ModelInfo;
    /// Starts an empty sequence.
    fn create(&mut self) -> SequenceId;
    /// Starts a sequence that holds the first `length` tokens of `parent`.
    ///
    /// # Errors
    /// When the device has no memory for it.
    fn fork(&mut self, parent: SequenceId, length: usize) -> Result<SequenceId>;
    /// Drops all but the first `length` tokens.
    fn truncate(&mut self, sequence: SequenceId, length: usize);
    /// Number of tokens in a sequence.
    fn length(&self, sequence: SequenceId) -> usize;
    /// Forgets a sequence.
    fn free(&mut self, sequence: SequenceId);
    /// Appends every segment and returns the logits that were asked for, in order.
    ///
    /// # Errors
    /// When a sequence would exceed the context, or the device fails.
    fn forward(&mut self, segments: &[Segment]) -> Result<Logits>;
}
