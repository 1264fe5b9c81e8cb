//! Sentence embeddings: texts → vectors of length 1 whose dot product says how alike the texts are in meaning.
//!
//! A text goes through a BERT encoder ([`bert`]) between its marks `[CLS]` and `[SEP]`; the mean of the last
//! states over all its tokens, scaled to length 1, is its embedding (Reimers and Gurevych 2019, as the library
//! sentence-transformers computes it for models of this kind). Each text goes through by itself, several at once on
//! as many threads: Candle's products of matrices differ in their last bits with the number of rows, and so would
//! embeddings with the company of a text. What embeddings are compared for is not decided here.

mod bert;

use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::tokenizer::{EncodeOptions, Tokenizer};
use bert::{Bert, Config};
use instil_grammar::vocab::TokenId;

/// Bytes of a text that are read: as many as hold the model's tokens, but for texts made of blanks.
const MOST_TEXT_BYTES: usize = 32 << 10;
/// Weights larger than this are no sentence embedder's.
const MOST_WEIGHT_BYTES: u64 = 4 << 30;
/// Bytes of a `config.json`.
const MOST_CONFIG_BYTES: u64 = 1 << 20;
const REMEDY: &str = "give the safetensors file of a BERT sentence embedder, with its config.json and tokenizer.json";

/// A sentence embedder: weights, tokenizer, and the longest text that it was made for.
pub struct Embedder {
    name: String,
    tokenizer: Tokenizer,
    bert: Bert,
    /// Tokens of a text with its marks; longer texts are cut.
    most_tokens: usize,
    begin: TokenId,
    end: TokenId,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Embedder {
    /// Reads the files of an embedder, in 32-bit floats on the CPU.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold a BERT encoder.
    pub fn read(name: &str, weights: &Path, tokenizer: &Path, config: &Path) -> Result<Self> {
        let text = bounded(config, MOST_CONFIG_BYTES)?;
        let config = Config::parse(&text).map_err(|what| Error::input(config, what, REMEDY))?;
        let tokens = Tokenizer::from_file(tokenizer)?;
        let mark = |spelling: &str| {
            let fault = || Error::input(tokenizer, format!("has no token {spelling}"), REMEDY);
            tokens.id_of(spelling).ok_or_else(fault)
        };
        let (begin, end) = (mark("[CLS]")?, mark("[SEP]")?);
        if tokens.vocab().len() > config.vocab_size {
            let (has, reads) = (tokens.vocab().len(), config.vocab_size);
            let what = format!("has {has} tokens, and the weights are for {reads}");
            return Err(Error::input(tokenizer, what, REMEDY));
        }
        let bytes = bounded(weights, MOST_WEIGHT_BYTES)?;
        let fault = |cause: candle_core::Error| {
            let cause = cause.to_string();
            let what = cause.lines().next().unwrap_or_default();
            Error::input(weights, format!("is not the encoder of its config.json: {what}"), REMEDY)
        };
        let variables = VarBuilder::from_slice_safetensors(&bytes, DType::F32, &Device::Cpu).map_err(fault)?;
        // Some exports put all names below `bert.`.
        let variables = if variables.contains_tensor("bert.embeddings.LayerNorm.weight") {
            variables.pp("bert")
        } else {
            variables
        };
        let bert = Bert::load(&config, &variables).map_err(fault)?;
        let most_tokens = config.max_position_embeddings;
        Ok(Self { name: name.to_owned(), tokenizer: tokens, bert, most_tokens, begin, end })
    }

    /// Cuts texts at `most` tokens with their marks, where the files allow longer ones.
    #[must_use]
    pub fn with_most_tokens(mut self, most: usize) -> Self {
        self.most_tokens = self.most_tokens.min(most.max(3));
        self
    }

    /// The name that it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Numbers of an embedding.
    pub fn dimensions(&self) -> usize {
        self.bert.hidden_size()
    }

    /// The embeddings of `texts`, in their order: `(texts, dimensions)`, each of length 1. An embedding is a function
    /// of its text, to the bit, whatever else is embedded and on however many threads.
    ///
    /// Spellings of control tokens in a text are plain text.
    ///
    /// # Errors
    /// When a text cannot be tokenised or a computation fails.
    pub fn embed<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>> {
        let embed = |text: &T| {
            let tokens = self.tokens(text.as_ref())?;
            let state = self
                .bert
                .mean_state(&tokens)
                .map_err(|cause| Error::Device { what: "embedding a text", source: Box::new(cause) })?;
            Ok(unit(state))
        };
        texts.par_iter().map(embed).collect()
    }

    /// A text between its marks, cut to what the model reads.
    fn tokens(&self, text: &str) -> Result<Vec<TokenId>> {
        let mut end = text.len().min(MOST_TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut tokens = vec![self.begin];
        tokens.extend(self.tokenizer.encode(&text[..end], EncodeOptions::default())?);
        tokens.truncate(self.most_tokens - 1);
        tokens.push(self.end);
        Ok(tokens)
    }
}

/// Scaled to length 1; a vector of length 0 stays as it is.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    vector
}

fn bounded(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|cause| Error::io("read", path, cause))?.len();
    if size > most_bytes {
        return Err(Error::input(path, format!("{size} bytes are more than {most_bytes}"), REMEDY));
    }
    std::fs::read(path).map_err(|cause| Error::io("read", path, cause))
}
