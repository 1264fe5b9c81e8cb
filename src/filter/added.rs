//! A text must be longer than the one that it was made from, by so many words.
//!
//! Evol-Instruct (arXiv 2304.12244) asks a rewrite to add 10 to 20 words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::fits;
use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};
use instil_grammar::grammar::speech::word_count;

/// Bounds on the words that a field has more than another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// The field.
    pub field: String,
    /// The field that it was made from; without it all words count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Fewest and most words more, as runs between white space; below 0 they are fewer.
    pub words: (i64, i64),
    /// Rows that the rule is about: all when absent.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub when: Map<String, Value>,
}

impl Rule for Added {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        let over = self.over.as_deref().map(|over| FieldRead::field("/over", over));
        let field = FieldRead::field("/field", &self.field);
        std::iter::once(field).chain(over).chain(FieldRead::condition("/when", &self.when)).collect()
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Added {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let count = |field: &str| word_count(&text(row, field)) as i64;
        let (least, most) = self.words;
        let added = count(&self.field) - self.over.as_deref().map_or(0, count);
        (fits(&self.when, row) && !(least..=most).contains(&added))
            .then(|| Reason::new("added", format!("{} adds {added} words, not {least} to {most}", self.field)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_counted_where_the_condition_fits() {
        let rule: Added = serde_json::from_value(
            json!({"field": "a", "over": "parent.a", "words": [1, 2], "when": {"how": ["deepen", "widen"]}}),
        )
        .expect("a rule");
        let check = |a: &str, how: &str| {
            let row = json!({"a": a, "parent": {"a": "Name a bird."}, "how": how});
            rule.check(row.as_object().expect("an object")).is_some()
        };
        assert!(!check("Name a small bird.", "deepen") && !check("Name a very small bird.", "widen"));
        assert!(check("Name a bird.", "deepen") && check("Name a bird that is small and red.", "deepen"));
        assert!(!check("Name a bird.", "other"));
    }
}
