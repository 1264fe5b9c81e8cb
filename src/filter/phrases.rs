//! A text must not hold certain phrases: what a recipe knows to be a sign of a text that cannot stand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::fits;
use super::leak::holds;
use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};

/// Turns down a row whose field holds one of some phrases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phrases {
    /// The field.
    pub field: String,
    /// The phrases, each as whole words; case does not matter.
    pub phrases: Vec<String>,
    /// Rows that the rule is about: all when absent.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub when: Map<String, Value>,
}

impl Rule for Phrases {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        std::iter::once(FieldRead::field("/field", &self.field))
            .chain(FieldRead::condition("/when", &self.when))
            .collect()
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Phrases {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        if !fits(&self.when, row) {
            return None;
        }
        let text = text(row, &self.field).to_lowercase();
        let found = self.phrases.iter().find(|phrase| holds(&text, &phrase.to_lowercase()))?;
        Some(Reason::new("phrase", format!("{} says «{found}»", self.field)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn phrases_are_whole_words_where_the_condition_fits() {
        let rule =
            json!({"field": "a", "phrases": ["the given", "Below"], "when": {"operator": ["breadth", "deepen"]}});
        let rule: Phrases = serde_json::from_value(rule).expect("a rule");
        let check = |a: &str, operator: &str| {
            let row = json!({"a": a, "operator": operator});
            rule.check(row.as_object().expect("an object")).map(|reason| reason.detail)
        };
        assert_eq!(check("Sort The Given list.", "breadth").as_deref(), Some("a says «the given»"));
        assert!(check("Sort the list below.", "deepen").is_some());
        assert!(check("Sort the list below.", "other").is_none() && check("Belowground life.", "breadth").is_none());
    }
}
