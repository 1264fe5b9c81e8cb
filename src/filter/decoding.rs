//! Rules about how a text was decoded: the token limit closed it, or the grammar bent it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldRead, Reason, Rule};
use crate::row::StepNote;

/// Whether a row is turned down whose text was closed by the token limit rather than by the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClosedByBudget(pub bool);

impl Rule for ClosedByBudget {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        Vec::new()
    }
}

/// Bounds on grammar tension, the probability mass that masks removed from the model's choice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensionBound {
    /// Greatest mean over a text's tokens, 0 to 1.
    #[serde(default = "one")]
    pub mean: f64,
    /// Greatest at any token, 0 to 1.
    #[serde(default = "one")]
    pub max: f64,
}

fn one() -> f64 {
    1.0
}

impl Rule for TensionBound {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        Vec::new()
    }
}

/// The reason to turn an attempt down, if its text breaks a bound.
pub(crate) fn check(
    closed_by_budget: ClosedByBudget,
    tension: Option<TensionBound>,
    note: &StepNote,
) -> Option<Reason> {
    if closed_by_budget.0 && note.closed_by_budget {
        let detail = format!("{} was closed by the limit at {} tokens", note.field, note.tokens);
        return Some(Reason::new("closed_by_budget", detail));
    }
    let bound = tension?;
    let judge = |value: f64, most: f64, name: &str| {
        (value > most).then(|| {
            let detail = format!("{}: {name} grammar tension {value:.3} is over {most}", note.field);
            Reason::new("tension", detail)
        })
    };
    judge(note.tension_mean, bound.mean, "mean").or_else(|| judge(note.tension_max, bound.max, "greatest"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Meta;

    #[test]
    fn bounds_are_read_from_records_too() {
        let row = serde_json::json!({"meta": {"steps": [
            {"field": "a", "tokens": 9, "tension_mean": 0.4, "tension_max": 0.9, "closed_by_budget": true}]}});
        let row = row.as_object().expect("an object");
        let note = Meta::of(row).steps.remove(0);
        let rule = |closed, tension| check(closed, tension, &note).map(|reason| reason.rule);
        assert_eq!(rule(ClosedByBudget(false), None), None);
        assert_eq!(rule(ClosedByBudget(true), None), Some("closed_by_budget"));
        assert_eq!(rule(ClosedByBudget(false), Some(TensionBound { mean: 0.3, max: 1.0 })), Some("tension"));
        assert_eq!(rule(ClosedByBudget(false), Some(TensionBound { mean: 0.5, max: 0.8 })), Some("tension"));
        assert_eq!(rule(ClosedByBudget(false), Some(TensionBound { mean: 0.4, max: 0.9 })), None);
    }
}
