//! A row's line in `records.jsonl` or `rejects.jsonl`: `id`, the schema's fields, `meta`.
//!
//! No clock values: a line is a function of the plan.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::filter::Reason;
use crate::filter::decoding::Decoded;
use instil_model::decode::{Completion, StreamKey};

/// What is known of one attempt at a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The schema's fields, in the order in which they were decoded.
    pub fields: Map<String, Value>,
    /// Fields that serve later steps only.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub aside: Map<String, Value>,
    /// What judging steps found, by field.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub scores: Map<String, Value>,
    /// A line for each step that was decoded.
    pub steps: Vec<StepNote>,
}

/// What a step cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepNote {
    /// Field of the step.
    pub field: String,
    /// Tokens of the text.
    pub tokens: usize,
    /// Of these, how many the grammar alone determined.
    pub forced: usize,
    /// Mean probability mass that masks removed.
    pub tension_mean: f64,
    /// Greatest.
    pub tension_max: f64,
    /// The token limit closed the text.
    pub closed_by_budget: bool,
    /// Draws that leant towards an end because the limit was near.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leant: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl StepNote {
    /// What the rules about decoding look at.
    pub fn decoded(&self) -> Decoded<'_> {
        Decoded {
            field: &self.field,
            tokens: self.tokens,
            tension_mean: self.tension_mean,
            tension_max: self.tension_max,
            closed_by_budget: self.closed_by_budget,
        }
    }

    /// The note of a completion.
    pub fn new(field: &str, completion: &Completion) -> Self {
        // Four digits: enough to rank rows, and short to read.
        let round = |value: f32| (f64::from(value) * 1e4).round() / 1e4;
        Self {
            field: field.to_owned(),
            tokens: completion.tokens.len(),
            forced: completion.forced,
            tension_mean: round(completion.tension.mean),
            tension_max: round(completion.tension.max),
            closed_by_budget: completion.closed_by_budget,
            leant: completion.leant,
        }
    }
}

/// Identifier of a row: its run's seed and its place.
pub fn row_id(seed: u64, row: u32) -> String {
    format!("{seed}-{row:06}")
}

/// What stands in a row's line beside its attempt.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    /// What the plan gave the row.
    pub attributes: Option<&'a Map<String, Value>>,
    /// Fields that it keeps of its seed.
    pub kept: Option<&'a Map<String, Value>>,
    /// `meta` of its seed.
    pub kept_meta: Option<&'a Value>,
    /// What it descends from.
    pub lineage: Option<Value>,
}

/// The line of an accepted row, without the newline.
pub fn record_line(key: StreamKey, context: &Context, attempt: &Attempt) -> String {
    line(key, context, attempt, None)
}

/// The line of a rejected attempt, without the newline.
pub fn reject_line(key: StreamKey, context: &Context, attempt: &Attempt, reason: &Reason) -> String {
    line(key, context, attempt, Some(reason))
}

fn line(key: StreamKey, context: &Context, attempt: &Attempt, reason: Option<&Reason>) -> String {
    let mut line = Map::new();
    line.insert("id".into(), row_id(key.seed, key.row).into());
    for (name, value) in context.kept.into_iter().flatten().chain(&attempt.fields) {
        line.insert(name.clone(), value.clone());
    }
    let mut meta = json!({
        "row": key.row,
        "attempt": key.attempt,
        "seed": key.seed,
        "attributes": context.attributes,
        "steps": attempt.steps,
    });
    let entries = meta.as_object_mut().expect("it was made as an object");
    if !attempt.aside.is_empty() {
        entries.insert("aside".into(), json!(attempt.aside));
    }
    if !attempt.scores.is_empty() {
        entries.insert("scores".into(), json!(attempt.scores));
    }
    if let Some(lineage) = &context.lineage {
        entries.insert("lineage".into(), lineage.clone());
    }
    if let Some(before) = context.kept_meta {
        entries.insert("before".into(), before.clone());
    }
    if let Some(reason) = reason {
        entries.insert("reason".into(), json!(reason));
    }
    line.insert("meta".into(), meta);
    Value::Object(line).to_string()
}
