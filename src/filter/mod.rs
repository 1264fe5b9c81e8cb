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

pub mod added;
pub mod condition;
pub mod config;
pub mod copied;
pub mod cross_row;
pub mod decoding;
pub mod decontaminate;
pub mod distinct;
pub mod echo;
pub mod empty;
pub mod file;
pub mod judged;
pub mod language;
pub mod leak;
pub mod length;
pub mod loops;
pub mod near;
pub mod overlap;
pub mod phrases;
pub mod pii;
pub mod refusal;
pub mod rouge;
pub mod rule;
pub mod semantic;
pub mod sentence_end;
pub mod stop_words;
pub mod text;

use serde::{Deserialize, Serialize};

pub use crate::row::Reason;
pub use config::Filters;
pub use cross_row::{Candidate, CrossRows, Prepared};
pub use distinct::Distinct;
pub use rule::{FieldRead, Filter, Of, Problem, Rule, first_reason};
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
