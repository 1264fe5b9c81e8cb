//! Grammars as token masks: which tokens of a model's vocabulary may come next, so that a text always
//! satisfies a JSON Schema, a regex or a choice, and closes before its token limit.
//!
//! # The map
//!
//! In reading order; a file imports only from rooms above its own.
//!
//! | room | holds |
//! |---|---|
//! | [`error`] | what can be wrong with a grammar, with its place and what helps |
//! | [`vocab`] | token id ↔ raw bytes, end-of-sequence ids |
//! | [`grammar`] | JSON Schema, regex, choice → a program |
//! | [`constraint`] | program × vocabulary → masks and sessions |

#![warn(clippy::unwrap_used)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod constraint;
pub mod error;
pub mod grammar;
pub mod vocab;

pub use error::{Error, Result};
