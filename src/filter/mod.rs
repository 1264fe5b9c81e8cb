//! Filters: rules that turn a row down, each with a name and a reason. One rule a file.
//!
//! A rejected row is data, not an error. Rules that look at one row alone implement [`Filter`];
//! [`distinct`] compares rows with each other and is asked in row order.

pub mod distinct;
pub mod echo;
pub mod loops;
pub mod sentence_end;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use distinct::Distinct;

/// Why a row was turned down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Name of the rule, as reports count it.
    pub rule: &'static str,
    /// What it found.
    pub detail: String,
}

impl Reason {
    /// A reason of rule `rule`.
    pub fn new(rule: &'static str, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

/// A rule about one row.
pub trait Filter: Send + Sync {
    /// The reason to turn `row` down, if there is one.
    fn check(&self, row: &Map<String, Value>) -> Option<Reason>;
}

/// The filters of a recipe, as its file names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Fields that must end as a sentence ends.
    pub sentence_end: Vec<String>,
    /// Fields that must not loop.
    pub loops: Vec<String>,
    /// `[source, echo]`: the second field must not repeat the first.
    pub echo: Option<(String, String)>,
    /// The field in which no two rows may be alike.
    pub distinct: Option<String>,
    /// Turn down a row whose text was closed by the token limit rather than by the model.
    pub closed_by_budget: bool,
}

impl Filters {
    /// The rules about single rows, in the order in which they are asked.
    pub fn chain(&self) -> Vec<Box<dyn Filter>> {
        let mut chain: Vec<Box<dyn Filter>> = Vec::new();
        for field in &self.sentence_end {
            chain.push(Box::new(sentence_end::SentenceEnd { field: field.clone() }));
        }
        for field in &self.loops {
            chain.push(Box::new(loops::Loops { field: field.clone() }));
        }
        if let Some((source, echo)) = &self.echo {
            chain.push(Box::new(echo::Echo { source: source.clone(), echo: echo.clone() }));
        }
        chain
    }
}

/// The first reason that a chain finds.
pub fn first_reason(chain: &[Box<dyn Filter>], row: &Map<String, Value>) -> Option<Reason> {
    chain.iter().find_map(|filter| filter.check(row))
}

/// A text field of a row; empty when it is absent or not a text.
fn text<'a>(row: &'a Map<String, Value>, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Lower-cased runs of letters and digits: what two texts are compared by.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}
