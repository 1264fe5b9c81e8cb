//! Why an attempt, or a row, was turned down: the name of a rule, and what it found.

use serde::{Deserialize, Deserializer, Serialize};

use super::Attempt;

/// Why a row was turned down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Name of the rule, as reports count it: one of [`RULES`].
    pub rule: &'static str,
    /// What it found.
    pub detail: String,
}

/// Names of rules that more than one place gives.
pub(crate) mod rule {
    /// The row cannot be made: a template fails for it, or no text keeps within what it asks for.
    pub(crate) const IMPOSSIBLE: &str = "impossible";
    /// The prompt and the longest text are more than the model reads.
    pub(crate) const TOO_LONG: &str = "too_long";
    /// A person rejected the row.
    pub(crate) const REVIEW: &str = "review";
    /// The row breaks its schema.
    pub(crate) const SCHEMA: &str = "schema";
    /// A rule of another version of the program; the detail begins with its name.
    pub(crate) const UNKNOWN: &str = "unknown";
    /// The line is not a JSON object.
    pub(crate) const UNREADABLE: &str = "unreadable";
}

/// Names of all rules, and of the other ways in which an attempt fails.
pub(crate) const RULES: &[&str] = &[
    "added",
    "closed_by_budget",
    "contaminated",
    "copied",
    "dead_end",
    "duplicate",
    "echo",
    "empty",
    rule::IMPOSSIBLE,
    "judged",
    "language",
    "length",
    "loop",
    "near_duplicate",
    "no_gain",
    "overlap",
    "phrase",
    "pii",
    "prompt_leak",
    "refusal",
    rule::REVIEW,
    "rouge_l",
    rule::SCHEMA,
    "semantic_duplicate",
    "sentence_end",
    "sorry",
    "stop_words",
    "tension",
    "token_limit",
    rule::TOO_LONG,
    rule::UNKNOWN,
    rule::UNREADABLE,
];

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            rule: String,
            detail: String,
        }
        let written = Written::deserialize(deserializer)?;
        Ok(match RULES.iter().find(|rule| **rule == written.rule) {
            Some(rule) => Self { rule, detail: written.detail },
            None => Self { rule: rule::UNKNOWN, detail: format!("{}: {}", written.rule, written.detail) },
        })
    }
}

impl Reason {
    /// Whether another attempt would fail in the same way: nothing had been drawn yet.
    pub(crate) fn is_final(&self, attempt: &Attempt) -> bool {
        [rule::IMPOSSIBLE, rule::TOO_LONG].contains(&self.rule) && attempt.steps.is_empty()
    }

    /// A reason of rule `rule`.
    pub fn new(rule: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(RULES.contains(&rule), "{rule} is missing from RULES");
        Self { rule, detail: detail.into() }
    }
}
