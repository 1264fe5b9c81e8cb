//! A text must say something: not only punctuation and stop words (Evol-Instruct's third elimination rule).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::{text, words};
use super::{FieldRead, Filter, Reason, Rule};

/// English words that carry no content by themselves.
const STOP_WORDS: &[&str] = &[
    "a",
    "about",
    "above",
    "after",
    "again",
    "all",
    "also",
    "am",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "because",
    "been",
    "before",
    "being",
    "below",
    "between",
    "both",
    "but",
    "by",
    "can",
    "could",
    "d",
    "did",
    "do",
    "does",
    "doing",
    "don",
    "down",
    "during",
    "each",
    "few",
    "for",
    "from",
    "further",
    "had",
    "has",
    "have",
    "having",
    "he",
    "her",
    "here",
    "hers",
    "herself",
    "him",
    "himself",
    "his",
    "how",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "itself",
    "just",
    "ll",
    "m",
    "me",
    "more",
    "most",
    "my",
    "myself",
    "no",
    "nor",
    "not",
    "now",
    "o",
    "of",
    "off",
    "on",
    "once",
    "only",
    "or",
    "other",
    "our",
    "ours",
    "ourselves",
    "out",
    "over",
    "own",
    "re",
    "s",
    "same",
    "she",
    "should",
    "so",
    "some",
    "such",
    "t",
    "than",
    "that",
    "the",
    "their",
    "theirs",
    "them",
    "themselves",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "through",
    "to",
    "too",
    "under",
    "until",
    "up",
    "ve",
    "very",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "which",
    "while",
    "who",
    "whom",
    "why",
    "will",
    "with",
    "would",
    "y",
    "you",
    "your",
    "yours",
    "yourself",
    "yourselves",
];

/// Whether a lower-cased word carries no content by itself.
pub(crate) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// Turns down a row whose field holds no other word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StopWords {
    /// The field.
    pub field: String,
}

impl Rule for StopWords {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for StopWords {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let idle = words(&text(row, &self.field)).iter().all(|word| is_stop_word(word));
        idle.then(|| Reason::new("stop_words", format!("{} holds nothing but stop words", self.field)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_content_is_enough() {
        assert!(STOP_WORDS.is_sorted(), "they are kept in order");
        let rule = StopWords { field: "a".into() };
        let check = |a: &str| rule.check(serde_json::json!({ "a": a }).as_object().expect("an object")).is_some();
        assert!(check("") && check("...!") && check("It is what it is.") && check("You don't."));
        assert!(!check("It is blue.") && !check("42") && !check("是"));
    }
}
