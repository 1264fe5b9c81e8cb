//! A text must not take its words from the examples that it was shown.
//!
//! Small models copy the clause of a few-shot example rather than write one of their own. A run of words
//! that also stands in a text the row may quote (its parent, say) is no copy.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::{text, word_hashes};
use super::{FieldRead, Filter, Of, Reason, Rule};

/// Turns down a row whose field shares a run of words with the examples of its prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// The field.
    pub field: String,
    /// The fields of the examples that are searched.
    pub from: Vec<String>,
    /// Fields of the row whose words may be taken.
    #[serde(default)]
    pub besides: Vec<String>,
    /// Shortest run of words that counts.
    #[serde(default = "default_words")]
    pub words: usize,
}

fn default_words() -> usize {
    5
}

impl Rule for Copied {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        let from = FieldRead::each("/from", &self.from).map(|read| read.of(Of::Examples));
        let field = FieldRead::field("/field", &self.field);
        std::iter::once(field).chain(from).chain(FieldRead::each("/besides", &self.besides)).collect()
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Copied {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let length = self.words.max(1);
        let own = word_hashes(&text(row, &self.field));
        let mut runs: HashSet<&[u64]> = own.windows(length).collect();
        for field in &self.besides {
            let allowed = word_hashes(&text(row, field));
            allowed.windows(length).for_each(|run| {
                runs.remove(run);
            });
        }
        let examples = row.get("examples")?.as_array()?;
        let shown = examples.iter().filter_map(Value::as_object);
        let found = shown.flat_map(|example| self.from.iter().map(|field| text(example, field))).find(|shown| {
            let words = word_hashes(shown);
            words.windows(length).any(|run| runs.contains(run))
        })?;
        Some(Reason::new("copied", format!("{} takes {length} words of the example «{found}»", self.field)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_of_an_example_count_and_those_of_the_parent_do_not() {
        let rule =
            Copied { field: "a".into(), from: vec!["clause".into()], besides: vec!["parent.a".into()], words: 3 };
        let check = |a: &str| {
            let row = json!({
                "a": a, "parent": {"a": "Use a single word."},
                "examples": [{"clause": "Keep it under fifty words."}, {"clause": "Use a single word twice."}],
            });
            rule.check(row.as_object().expect("an object")).map(|reason| reason.detail)
        };
        assert!(check("Please keep it under two lines.").is_some_and(|what| what.contains("under fifty")));
        assert_eq!(check("Use a single word, please."), None);
        assert_eq!(check("Keep under fifty it."), None);
    }
}
