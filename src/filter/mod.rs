//! Filters: rules that turn a row down, each with a name and a reason. One rule a file.
//!
//! A rejected row is data, not an error. There are three kinds of rules, and [`Filters`] (the
//! `filters:` key of a recipe) names them all; each is a [`Rule`]:
//!
//! - rules about one row alone have a [`Filter`]; [`Filters::chain`] gives them in order;
//! - rules about how a text was decoded ([`decoding`]) see its step notes;
//! - rules that compare a row with other rows ([`cross_row`]) are asked in row order.
//!
//! [`file`](mod@file) puts the same rules over the lines of any JSONL file.

pub(crate) mod added;
pub(crate) mod condition;
pub(crate) mod config;
pub(crate) mod copied;
pub(crate) mod cross_row;
pub(crate) mod decoding;
pub(crate) mod decontaminate;
pub(crate) mod distinct;
pub(crate) mod echo;
pub(crate) mod empty;
pub(crate) mod file;
pub(crate) mod judged;
pub(crate) mod language;
pub(crate) mod leak;
pub(crate) mod length;
pub(crate) mod loops;
pub mod near;
pub(crate) mod overlap;
pub(crate) mod phrases;
pub(crate) mod pii;
pub(crate) mod refusal;
pub mod rouge;
pub(crate) mod rule;
pub(crate) mod semantic;
pub(crate) mod sentence_end;
pub(crate) mod stop_words;
pub(crate) mod text;

use serde::{Deserialize, Serialize};

pub(crate) use crate::row::Reason;
pub(crate) use config::Filters;
pub(crate) use cross_row::{Candidate, CrossRows, Prepared};
pub(crate) use rule::{FieldRead, Filter, Of, Problem, Rule, first_reason};
pub use text::words;

/// A row that a row was found to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Other {
    /// An accepted row, by its index.
    Row(u32),
    /// A text that was there before the first row, by its place among them.
    Seed(u32),
}

impl std::fmt::Display for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Row(index) => write!(f, "row {index}"),
            Self::Seed(index) => write!(f, "seed {index}"),
        }
    }
}
