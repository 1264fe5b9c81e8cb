//! Language models on one's own machine: weight files, tokenizers, a decoder for many families, and the
//! scheduler that decodes many texts at once, each under a grammar if it has one.
//!
//! # The map
//!
//! In reading order; a file imports only from rooms above its own.
//!
//! | room | holds |
//! |---|---|
//! | [`error`] | what can be wrong with a model or its files, and what helps |
//! | [`gguf`] | the GGUF container: metadata, tensor directory |
//! | [`jinja`] | templates rendered within bounds, as Python's Jinja renders them |
//! | [`tokenizer`] | `tokenizer.json` or GGUF metadata → text ↔ ids; chat templates |
//! | [`model`] | weights, the decoder and its CPU kernels, drawing from logits, the scripted model; the sentence embedder |
//! | [`decode`] | texts, measurements and the scheduler of a batch: `Request` → `Completion` |

#![warn(clippy::unwrap_used)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod decode;
pub mod error;
pub mod gguf;
pub mod jinja;
pub mod model;
pub mod tokenizer;

pub use error::{Error, Result};
