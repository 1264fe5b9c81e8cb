//! Two texts must share enough of their words, or not too many.
//!
//! A clause that says its parent again adds nothing; a rewrite that shares no word with it is of another task; an answer
//! whose words all stand in its question says nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::fits;
use super::stop_words::is_stop_word;
use super::text::{text, words};
use super::{FieldRead, Filter, Reason, Rule};

/// Bounds on the share of a field's words that stand in another field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// The field.
    pub field: String,
    /// The field that its words are looked for in.
    pub with: String,
    /// Least share of its different words, stop words aside.
    #[serde(default)]
    pub least: f64,
    /// Greatest share.
    #[serde(default = "one")]
    pub most: f64,
    /// Fewest of its different words, stop words aside, that do not stand in the other field.
    #[serde(default, skip_serializing_if = "is_none")]
    pub own: usize,
    /// Rows that the rule is about: all when absent.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub when: Map<String, Value>,
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Rule for Overlap {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        let fields = [FieldRead::field("/field", &self.field), FieldRead::field("/with", &self.with)];
        fields.into_iter().chain(FieldRead::condition("/when", &self.when)).collect()
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Overlap {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        if !fits(&self.when, row) {
            return None;
        }
        let content = |field: &str| -> BTreeSet<String> {
            words(&text(row, field)).into_iter().filter(|word| !is_stop_word(word)).collect()
        };
        let (own, other) = (content(&self.field), content(&self.with));
        let shared = own.intersection(&other).count();
        if own.len() - shared < self.own {
            let (field, with, own) = (&self.field, &self.with, own.len() - shared);
            return Some(Reason::new(
                "overlap",
                format!("{field} has {own} words that {with} lacks, not {}", self.own),
            ));
        }
        if own.is_empty() {
            return None;
        }
        let share = shared as f64 / own.len() as f64;
        (share < self.least || share > self.most).then(|| {
            let (field, with) = (&self.field, &self.with);
            Reason::new("overlap", format!("{field} shares {:.0} % of its words with {with}", share * 100.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_of_content_words_are_held_to_their_bounds() {
        let rule: Overlap =
            serde_json::from_value(json!({"field": "a", "with": "b", "least": 0.3, "most": 0.7})).expect("a rule");
        let check = |a: &str| {
            let row = json!({"a": a, "b": "Write a story about the old lighthouse."});
            rule.check(row.as_object().expect("an object")).is_some()
        };
        assert!(check("Write about the story.") && check("Name a bird."));
        assert!(!check("Describe the lighthouse in a storm, with an old man.") && !check("of the"));
        let rule = Overlap { least: 0.0, most: 1.0, own: 2, ..rule };
        let check = |a: &str| {
            let row = json!({"a": a, "b": "Write a story about the old lighthouse."});
            rule.check(row.as_object().expect("an object")).map(|reason| reason.detail)
        };
        assert_eq!(check("A storm hides the old lighthouse."), None);
        assert_eq!(check("A storm.").as_deref(), Some("a has 1 words that b lacks, not 2"));
        assert!(check("").is_some());
    }
}
