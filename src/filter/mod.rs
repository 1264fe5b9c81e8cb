//! Filters: rules that turn a row down, each with a name and a reason. One rule a file.
//!
//! A rejected row is data, not an error. There are three kinds of rules, and [`Filters`] (the
//! `filters:` key of a recipe) names them all:
//!
//! - rules about one row alone implement [`Filter`]; [`Filters::chain`] gives them in order;
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
pub mod semantic;
pub mod sentence_end;
pub mod stop_words;
pub mod text;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::row::Reason;
pub use config::Filters;
pub use cross_row::{Candidate, CrossRows, Prepared};
pub use distinct::Distinct;
pub use text::words;

/// A rule about one row.
pub trait Filter: Send + Sync {
    /// The reason to turn `row` down, if there is one.
    fn check(&self, row: &Map<String, Value>) -> Option<Reason>;
    /// The fields that it reads, by which a run asks it as soon as they are there.
    fn fields(&self) -> Vec<&str>;
}

/// The first reason that a chain finds.
pub fn first_reason(chain: &[Box<dyn Filter>], row: &Map<String, Value>) -> Option<Reason> {
    chain.iter().find_map(|filter| filter.check(row))
}

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
