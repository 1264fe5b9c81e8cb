//! A row's line in `records.jsonl` or `rejects.jsonl`: `id`, the schema's fields, `meta`.
//!
//! No clock values: a line is a function of the plan. What is written here is read back by the same types; rows of
//! other makers may have a `meta` of another form, of which only what fits is taken.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{META, Reason};
use instil_model::decode::Completion;

/// An accepted row, or an attempt that was turned down.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Record {
    /// Its identifier.
    pub id: String,
    /// The schema's fields, behind those that it keeps of its seed.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
    /// How it was made.
    pub meta: Meta,
}

impl Record {
    /// Its line, without the newline.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("a record is plain data")
    }
}

/// How a row was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Meta {
    /// Its place in the plan.
    #[serde(deserialize_with = "fitting")]
    pub row: Option<u32>,
    /// Which attempt at the row it is, from 0.
    #[serde(deserialize_with = "fitting")]
    pub attempt: u16,
    /// Seed of the run.
    #[serde(deserialize_with = "fitting")]
    pub seed: Option<u64>,
    /// What the plan gave the row.
    #[serde(deserialize_with = "fitting")]
    pub attributes: Option<Map<String, Value>>,
    /// A note for each step that was decoded.
    #[serde(deserialize_with = "fitting")]
    pub steps: Vec<StepNote>,
    /// Fields that served later steps only.
    #[serde(deserialize_with = "fitting", skip_serializing_if = "Map::is_empty")]
    pub aside: Map<String, Value>,
    /// What the model thought before its texts, by field.
    #[serde(deserialize_with = "fitting", skip_serializing_if = "Map::is_empty")]
    pub reasoning: Map<String, Value>,
    /// What judging steps found, by field; each a [`Score`].
    #[serde(deserialize_with = "fitting", skip_serializing_if = "Map::is_empty")]
    pub scores: Map<String, Value>,
    /// What it descends from.
    #[serde(deserialize_with = "fitting", skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// How its seed was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Why it was turned down.
    #[serde(deserialize_with = "fitting", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What fits the type; its default for anything else.
fn fitting<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).unwrap_or_default())
}

impl Meta {
    /// How `row` was made, as far as it tells in our form.
    pub(crate) fn of(row: &Map<String, Value>) -> Self {
        row.get(META).and_then(|meta| Self::deserialize(meta).ok()).unwrap_or_default()
    }

    /// How the row's seed was made.
    pub(crate) fn of_seed(&self) -> Self {
        self.before.as_ref().and_then(|meta| Self::deserialize(meta).ok()).unwrap_or_default()
    }

    /// What the plan gave the row for the attribute `name`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.as_ref()?.get(name)
    }

    /// What a judging step found.
    pub(crate) fn score(&self, name: &str) -> Option<Score> {
        self.scores.get(name).map(Score::of)
    }
}

/// What a row descends from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    /// Place of its seed among the seeds, from 0.
    pub seed: u32,
    /// Identifier of the seed in its file.
    #[serde(default)]
    pub seed_id: Option<Value>,
    /// Line of the seed in its file, from 1.
    #[serde(default)]
    pub line: u64,
    /// Round of the run, from 1.
    #[serde(default = "first_round")]
    pub round: u16,
    /// Identifier of the row that it directly descends from; none for the seed itself.
    #[serde(default)]
    pub parent: Option<String>,
}

fn first_round() -> u16 {
    1
}

/// What a judging step found of a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Score {
    /// The likeliest choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// The value; none where the readings do not give one.
    pub expected: Option<f64>,
    /// How unsure it is: 0 is sure, 1 knows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
    /// Of each choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<f64>,
    /// How much likelier the last choice was in the first order than in the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_bias: Option<f64>,
    /// Surprise of a text's tokens after its prompt, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats_with: Option<f64>,
    /// The same after a prompt without content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats_without: Option<f64>,
}

impl Score {
    /// A score that is a number alone.
    pub(crate) fn number(expected: f64) -> Self {
        Self { expected: Some(expected), ..Self::default() }
    }

    /// As a record holds it.
    pub(crate) fn of(written: &Value) -> Self {
        Self::deserialize(written).unwrap_or_default()
    }

    /// As a record holds it; four digits are enough to rank rows.
    pub(crate) fn written(&self) -> Value {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        let rounded = Self {
            choice: self.choice.clone(),
            expected: self.expected.map(round),
            entropy: self.entropy.map(round),
            probabilities: self.probabilities.iter().map(|p| round(*p)).collect(),
            position_bias: self.position_bias.map(round),
            nats_with: self.nats_with.map(round),
            nats_without: self.nats_without.map(round),
        };
        serde_json::to_value(rounded).expect("a score is plain data")
    }
}

/// What is known of one attempt at a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The schema's fields, in the order in which they were decoded.
    pub fields: Map<String, Value>,
    /// Fields that serve later steps only.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub aside: Map<String, Value>,
    /// What the model thought before its texts, by field.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub reasoning: Map<String, Value>,
    /// What judging steps found, by field; each a [`Score`].
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub scores: Map<String, Value>,
    /// A line for each step that was decoded.
    pub steps: Vec<StepNote>,
}

/// What a step cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    #[serde(skip_serializing_if = "is_zero")]
    pub leant: usize,
    /// Tokens of the thought before the text.
    #[serde(skip_serializing_if = "is_zero")]
    pub thought_tokens: usize,
    /// The thought was closed because its tokens were used up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub thought_cut: bool,
    /// The grammar of the text holds only under an assumption: a search was given up when it was compiled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl StepNote {
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
            thought_tokens: completion.thoughts.as_ref().map_or(0, |thoughts| thoughts.tokens),
            thought_cut: completion.thoughts.as_ref().is_some_and(|thoughts| thoughts.cut),
            assumed: completion.assumed,
        }
    }
}

/// Identifier of a row: its run's seed and its place.
pub(crate) fn row_id(seed: u64, row: u32) -> String {
    format!("{seed}-{row:06}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let meta = Meta {
            row: Some(3),
            seed: Some(7),
            attributes: Some(Map::from_iter([("topic".into(), json!("bread"))])),
            steps: vec![StepNote { field: "q".into(), tokens: 4, tension_mean: 0.25, ..StepNote::default() }],
            scores: Map::from_iter([("good".into(), Score::number(0.123_46).written())]),
            lineage: Some(Lineage { seed: 1, line: 2, round: 1, ..Lineage::default() }),
            reason: Some(Reason::new("loop", "it loops")),
            ..Meta::default()
        };
        let fields = Map::from_iter([("q".into(), json!("Why?")), ("n".into(), json!(1.50))]);
        let record = Record { id: row_id(7, 3), fields: fields.clone(), meta: meta.clone() };
        let line = record.line();
        assert_eq!(
            line,
            r#"{"id":"7-000003","q":"Why?","n":1.5,"meta":{"row":3,"attempt":0,"seed":7,"attributes":{"topic":"bread"},"steps":[{"field":"q","tokens":4,"forced":0,"tension_mean":0.25,"tension_max":0.0,"closed_by_budget":false}],"scores":{"good":{"expected":0.1235}},"lineage":{"seed":1,"seed_id":null,"line":2,"round":1,"parent":null},"reason":{"rule":"loop","detail":"it loops"}}}"#
        );
        let row = super::super::parse(line.as_bytes()).expect("a row");
        assert_eq!((Meta::of(&row), super::super::fields_of(&row)), (meta, fields));
    }

    #[test]
    fn of_another_form_what_fits_is_taken() {
        let row = json!({"meta": {"row": -1, "attributes": {"a": 1}, "steps": 3, "reason": {"rule": 7}}});
        let meta = Meta::of(row.as_object().expect("an object"));
        assert_eq!(meta.attribute("a"), Some(&json!(1)));
        assert_eq!((meta.row, meta.steps.len(), meta.reason), (None, 0, None));
        assert_eq!(Meta::of(json!({"meta": 3}).as_object().expect("an object")), Meta::default());
    }
}
