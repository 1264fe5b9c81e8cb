//! Which rows a person should look at first, and the file of them to be filled in.
//!
//! A row is as urgent as the least sure thing about it: the greatest normalised entropy of its judges'
//! scores (`meta.scores`) and mean grammar tension of its steps (`meta.steps`), both in `0..=1`. Order is
//! by urgency, then by place in the file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::row::{Meta, Score};

/// A row that waits for a decision; also a line of `review.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Waiting {
    /// The row's identifier.
    pub id: String,
    /// For the person to fill in: `accept`, `edit` or `reject`.
    pub decision: Option<String>,
    /// For the person to fill in, or leave empty.
    #[serde(default)]
    pub comment: String,
    /// Why it is queued where it is.
    pub why: String,
    /// The row's fields; changed in place for `edit`.
    pub fields: Map<String, Value>,
    /// What the fields were when the row was queued, as a hash.
    pub hash: String,
}

/// How urgent a row is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Urgency {
    /// In `0..=1`; 1 knows nothing.
    pub value: f64,
    /// What it was taken from.
    pub why: String,
}

/// The urgency of a row.
pub(crate) fn urgency(row: &Map<String, Value>) -> Urgency {
    let meta = Meta::of(row);
    let of_scores = meta.scores.iter().filter_map(|(name, score)| {
        let entropy = Score::of(score).entropy?;
        Some(Urgency { value: entropy, why: format!("score {name}: entropy {entropy:.2}") })
    });
    let of_steps = meta.steps.iter().map(|step| {
        let tension = step.tension_mean;
        Urgency { value: tension, why: format!("{}: tension {tension:.2}", step.field) }
    });
    let nothing = Urgency { value: 0.0, why: "no score and no tension is known".into() };
    of_scores.chain(of_steps).fold(nothing, |most, next| {
        // Of equals the first, but anything known before nothing.
        if next.value > most.value || (most.value == 0.0 && most.why.starts_with("no ")) { next } else { most }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(meta: Value) -> (f64, String) {
        let row = json!({"id": "a", "q": "x", "meta": meta});
        let Urgency { value, why } = urgency(row.as_object().expect("an object"));
        (value, why)
    }

    #[test]
    fn the_least_sure_thing_counts() {
        let steps = json!([{"field": "q", "tension_mean": 0.25}, {"field": "a", "tension_mean": 0.5}]);
        assert_eq!(of(json!({ "steps": steps })), (0.5, "a: tension 0.50".into()));
        let scores = json!({"quality": {"entropy": 0.9}, "odd": {"expected": 1}});
        assert_eq!(of(json!({"steps": steps, "scores": scores})), (0.9, "score quality: entropy 0.90".into()));
        assert_eq!(of(json!({"steps": [{"field": "q", "tension_mean": 0.0}]})).1, "q: tension 0.00");
        assert_eq!(of(json!(3)).0, 0.0);
    }
}
