//! No two rows may be alike: the same words in the same fields, in row order.
//!
//! Memory grows by about 40 bytes for each accepted row, however long its text is.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::text::plain_form;
use super::{FieldRead, Other, Reason, Rule, words};

/// The rule `distinct`: the field in which no two rows may be alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DistinctField {
    /// The field.
    pub field: String,
}

impl From<&str> for DistinctField {
    fn from(field: &str) -> Self {
        Self { field: field.to_owned() }
    }
}

impl Rule for DistinctField {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }
}

/// The rule `exact`: fields that, taken together, no two rows may share; it holds when it names one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExactFields {
    /// The fields.
    pub fields: Vec<String>,
}

impl ExactFields {
    /// Whether no field is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl Rule for ExactFields {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("", &self.fields).collect()
    }
}

/// What a text is remembered by: half a SHA-256 of its words.
pub(crate) type Print = u128;

/// The texts accepted so far, by their words.
#[derive(Debug, Default)]
pub(crate) struct Distinct {
    accepted: HashMap<Print, Other>,
}

impl Distinct {
    /// The reason to turn `text` down, if an accepted row has the same words.
    #[cfg(test)]
    pub(crate) fn check(&self, field: &str, text: &str) -> Option<Reason> {
        self.check_print(field, print(text))
    }

    /// Remembers the text of an accepted row.
    #[cfg(test)]
    pub(crate) fn accept(&mut self, row: u32, text: &str) {
        self.accept_print(Other::Row(row), print(text));
    }

    /// As [`Distinct::check`], from the print of the text.
    pub(crate) fn check_print(&self, field: &str, print: Print) -> Option<Reason> {
        let other = self.accepted.get(&print)?;
        Some(Reason::new("duplicate", format!("{field} has the words of {other}")))
    }

    /// As [`Distinct::accept`], from the print of the text. The first text with a print stays.
    pub(crate) fn accept_print(&mut self, other: Other, print: Print) {
        self.accepted.entry(print).or_insert(other);
    }
}

/// The print of a text: case, spaces and punctuation do not count. A text without a single word is
/// its characters.
pub(crate) fn print(text: &str) -> Print {
    let words = words(text);
    let mut digest = Sha256::new();
    if words.is_empty() {
        digest.update(plain_form(text).trim().as_bytes());
    }
    for word in words {
        digest.update(word.as_bytes());
        digest.update([0]);
    }
    let digest = digest.finalize();
    let half = digest.first_chunk().expect("a SHA-256 has 32 bytes");
    u128::from_be_bytes(*half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_make_a_difference() {
        let mut distinct = Distinct::default();
        distinct.accept(3, "What is bread?");
        distinct.accept(5, "what is bread");
        assert!(distinct.check("q", "what is  Bread").is_some_and(|reason| reason.detail.contains("row 3")));
        assert!(distinct.check("q", "What is butter?").is_none());
        assert!(distinct.check("q", "What isbread?").is_none());
    }

    #[test]
    fn texts_without_words_are_compared_by_their_characters() {
        let mut distinct = Distinct::default();
        distinct.accept(0, "+ +");
        assert!(distinct.check("q", "- -").is_none());
        assert!(distinct.check("q", " + + ").is_some());
    }
}
