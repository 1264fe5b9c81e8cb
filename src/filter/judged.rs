//! A row must be found good enough: bounds on the scores that a judging step gave it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FieldRead, Filter, Of, Reason, Rule};
use crate::row::Score;

/// Bounds on the expected value of a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The judging step's field.
    pub score: String,
    /// Least expected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<f64>,
    /// Greatest expected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<f64>,
    /// The rule's name in rejects and reports.
    #[serde(default)]
    pub reason: Verdict,
}

/// What a score outside of its bounds means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The row is not good enough.
    #[default]
    Judged,
    /// An evolved instruction asks no more than its parent (Evol-Instruct's first elimination rule).
    NoGain,
}

impl Rule for Judged {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("/score", &self.score).of(Of::Scores)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Judged {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let expected = row.get("scores")?.get(&self.score).map(Score::of)?.expected?;
        let low = self.least.is_some_and(|least| expected < least);
        let high = self.most.is_some_and(|most| expected > most);
        let rule = match self.reason {
            Verdict::Judged => "judged",
            Verdict::NoGain => "no_gain",
        };
        (low || high).then(|| Reason::new(rule, format!("{} is {expected}", self.score)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expected_values_are_held_to_their_bounds() {
        let rule = Judged { score: "q".into(), least: Some(2.0), most: Some(4.0), reason: Verdict::NoGain };
        let check = |expected: f64| {
            let row = json!({"scores": {"q": {"expected": expected}}});
            rule.check(row.as_object().expect("an object")).map(|reason| reason.rule)
        };
        assert_eq!([1.9, 2.0, 4.0, 4.1].map(check), [Some("no_gain"), None, None, Some("no_gain")]);
        assert_eq!(rule.check(json!({"scores": {}}).as_object().expect("an object")), None);
    }
}
