//! What a run is to make: plain values, resolved once at the edge, written to `run.lock.json`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::source::verify::sha256_of;
use crate::error::{Error, Result};
use crate::recipe::{Recipe, Thinking};
use crate::row::RunFiles;
use instil_model::model::Arithmetic;

/// A resolved plan. Runs of plans with the same [`Plan::hash`] write the same rows; `rows` and `shard` only
/// say how far and which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of the program that resolved it.
    pub version: String,
    /// How many rows are wanted.
    pub rows: u32,
    /// Rows made from seeds: that many are tried, however many of them are accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tries: bool,
    /// Which of the rows are made here; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Seed of every draw.
    pub seed: u64,
    /// The model.
    pub model: ModelUsed,
    /// Another model that gives the scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<ModelUsed>,
    /// The sentence embedder of the rule `semantic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedder: Option<ModelUsed>,
    /// Constraint engine, as `--engine` names it.
    pub engine: String,
    /// The schema that every row satisfies.
    pub schema: Value,
    /// The data set that rows are made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<SeedsUsed>,
    /// The recipe, with the flags' changes in it.
    pub recipe: Recipe,
    /// How often the run was gone on with in more room: so often a row that could not be made in less is tried again.
    #[serde(default, skip_serializing_if = "is_never")]
    pub retries: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_never(times: &u16) -> bool {
    *times == 0
}

/// What helps with a file that is no plan.
const RESTORE: &str =
    "`instil generate --resume -o DIR` (or `evolve`, `answer`, …) writes it again, or begin another run";
/// Rows from seeds that are tried at most for each row that is wanted.
const TRIED_PER_ROW: u32 = 4;

/// The model of a run, as found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsed {
    /// Name of the manifest, or the path that was given.
    pub name: String,
    /// The path that was given, where it was one; where files lie does not decide what stands in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The commit, where it was named by its repository on the hub; the sums say what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What its weights were quantised to as they were loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantised: Option<String>,
    /// Sums of its files.
    pub sha256: Vec<String>,
    /// How it is asked in its chat template, where that is not just as the template has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatUsed>,
    /// Licence, where it is known.
    pub licence: Option<String>,
    /// What it computes in.
    #[serde(default)]
    pub arithmetic: Arithmetic,
}

/// How a model is asked in its chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatUsed {
    /// The template, where it is not the one in the model's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Variables that it is given.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub variables: Map<String, Value>,
    /// Whether the model thinks before what it writes.
    #[serde(default, skip_serializing_if = "Thinking::is_off")]
    pub thinking: Thinking,
    /// How replies begin that are to be answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Beginning>,
    /// How replies begin that are to be thoughts first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought: Option<Beginning>,
}

/// How replies begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// Variables that the template is given for it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub switch: Map<String, Value>,
    /// What stands behind the template's own text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What closes a thought, up to the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub closing: String,
}

impl ModelUsed {
    /// What names the model on a command line.
    pub(crate) fn reference(&self) -> Cow<'_, str> {
        match (&self.path, &self.revision) {
            (Some(path), _) => path.to_string_lossy(),
            (None, Some(revision)) => Cow::Owned(format!("{}@{revision}", self.name)),
            (None, None) => Cow::Borrowed(&self.name),
        }
    }
}

/// The data set of a run, as found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedsUsed {
    /// Where it lies; not what decides the rows.
    pub path: PathBuf,
    /// Sum of what was read of it, whatever its container.
    pub sha256: String,
    /// Rows that can be used.
    pub rows: u32,
    /// The field of plain rows that is the prompt, where it is not one of the usual names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_field: Option<String>,
    /// The field of plain rows that is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_field: Option<String>,
}

/// Every `count`th row, from row `index - 1` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which part, from 1 to `count`.
    pub index: u32,
    /// How many parts there are.
    pub count: u32,
}

impl Shard {
    /// Whether `row` belongs to it.
    pub(crate) fn holds(self, row: u32) -> bool {
        row % self.count == self.index - 1
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err("write it as PART/PARTS, from 1/4 to 4/4".into()),
        }
    }
}

impl Plan {
    /// The plan of the run at `directory`.
    ///
    /// # Errors
    /// When there is none, or it is no plan.
    pub fn read(directory: &Path) -> Result<Self> {
        let file = RunFiles::of(directory).plan;
        let text = std::fs::read_to_string(&file).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => {
                if RunFiles::of(directory).ledger.exists() {
                    let remedy = "`instil generate --resume -o DIR` (or `evolve`, `answer`, …) writes it again";
                    return Error::input(directory, "run.lock.json of this run is lost", remedy);
                }
                Error::input(directory, "holds no run (no run.lock.json)", "check the path")
            }
            std::io::ErrorKind::InvalidData => Error::input(&file, "is not a plan: it is not UTF-8", RESTORE),
            _ => Error::io("read", &file, cause),
        })?;
        serde_json::from_str(&text).map_err(|cause| {
            let what = format!("line {}: is not a plan: {cause}", cause.line());
            Error::input(&file, what, RESTORE)
        })
    }

    /// SHA-256, in hex, of everything that decides what stands in a row: the plan without `rows`, `shard` and its room.
    pub fn hash(&self) -> String {
        let mut plan = self.clone();
        plan.recipe.max_attempts = 0;
        plan.recipe.steps.iter_mut().for_each(|step| step.max_tokens = 0);
        sha256_of(plan.deciding().to_string().as_bytes())
    }

    /// Where `other` would make different rows, as `place: ours, not theirs`; at most `most` places.
    pub(crate) fn differences(&self, other: &Self, most: usize) -> Vec<String> {
        let mut found = Vec::new();
        differences(&self.deciding(), &other.deciding(), "", &mut found);
        found.truncate(most);
        found
    }

    /// Whether the model thinks before what it writes.
    pub(crate) fn thinking(&self) -> Thinking {
        self.model.chat.as_ref().map(|chat| chat.thinking).unwrap_or_default()
    }

    /// Whether rows are made from rows of the same run: those stand as they were made, and so does what they were made from.
    pub(crate) fn has_rounds(&self) -> bool {
        self.seeds.is_some() && self.recipe.seeds.is_some_and(|seeds| seeds.rounds > 1)
    }

    /// This plan, as it goes on with the run that stands; with `retry`, rows that were given up get as many attempts
    /// again.
    pub(crate) fn going_on(mut self, standing: &Self, retry: bool) -> Self {
        if standing.retries > 0 {
            self = self.but_for_room(standing);
        }
        if retry {
            let attempts = standing.recipe.max_attempts;
            self.recipe.max_attempts = self.recipe.max_attempts.max(attempts.saturating_mul(2));
        }
        let has_more = standing.but_for_room(&self).recipe != standing.recipe;
        self.retries = standing.retries.saturating_add(u16::from(has_more));
        self
    }

    /// This plan with the room of another, as far as that has more of it: attempts at a row, and tokens of a step. What
    /// was made in less room stands.
    pub(crate) fn but_for_room(&self, other: &Self) -> Self {
        let mut plan = self.clone();
        plan.recipe.max_attempts = plan.recipe.max_attempts.max(other.recipe.max_attempts);
        for (step, other) in plan.recipe.steps.iter_mut().zip(&other.recipe.steps) {
            step.max_tokens = step.max_tokens.max(other.max_tokens);
        }
        plan
    }

    /// The rows that this run makes, lowest first.
    #[cfg(test)]
    pub(crate) fn row_indices(&self) -> impl Iterator<Item = u32> + use<> {
        let shard = self.shard;
        (0..self.rows).filter(move |&row| shard.is_none_or(|shard| shard.holds(row)))
    }

    /// How many rows are tried at most. A row from nothing is tried until its attempts are used up; rows from
    /// seeds may fail for good, and then others take their place, unless `tries`.
    pub(crate) fn row_limit(&self) -> u32 {
        match (&self.seeds, self.tries) {
            (Some(seeds), false) => self.rows.max(seeds.rows).saturating_mul(TRIED_PER_ROW),
            _ => self.rows,
        }
    }

    /// How many rows this run makes.
    pub(crate) fn row_count(&self) -> u32 {
        match self.shard {
            Some(shard) => (self.rows + shard.count - shard.index) / shard.count,
            None => self.rows,
        }
    }

    fn deciding(&self) -> Value {
        let mut plan = serde_json::to_value(self).expect("a plan is plain data");
        if let Some(plan) = plan.as_object_mut() {
            plan.shift_remove("rows");
            plan.shift_remove("tries");
            plan.shift_remove("shard");
            plan.shift_remove("retries");
        }
        if let Some(seeds) = plan.get_mut("seeds").and_then(Value::as_object_mut) {
            seeds.shift_remove("path");
        }
        for model in ["model", "judge", "embedder"] {
            if let Some(model) = plan.get_mut(model).and_then(Value::as_object_mut) {
                model.shift_remove("path");
                model.shift_remove("revision");
            }
        }
        plan
    }
}

fn differences(ours: &Value, theirs: &Value, place: &str, found: &mut Vec<String>) {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let (ours, theirs) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                differences(ours, theirs, &below(key), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (ours, theirs)) in a.iter().zip(b).enumerate() {
                differences(ours, theirs, &below(&at.to_string()), found);
            }
        }
        _ if ours != theirs => found.push(format!("{place} is {}, not {}", short(ours), short(theirs))),
        _ => {}
    }
}

/// A value in a few words.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
impl Plan {
    /// A plan of `rows` rows by the built-in recipe.
    pub(crate) fn sample(rows: u32) -> Self {
        Self {
            version: "1".into(),
            rows,
            tries: false,
            shard: None,
            seed: 1,
            model: ModelUsed { name: "m".into(), ..ModelUsed::default() },
            judge: None,
            embedder: None,
            engine: "instil".into(),
            schema: Value::Bool(true),
            seeds: None,
            recipe: crate::recipe::builtin::recipe("instruction-response").expect("it is built in"),
            retries: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::sample(10)
    }

    #[test]
    fn rows_and_shards_are_not_part_of_the_hash_and_all_else_is() {
        let one = plan();
        let shard = Some(Shard { index: 2, count: 3 });
        let grown = Plan { rows: 99, shard, ..plan() };
        assert_eq!(one.hash(), grown.hash());
        assert_eq!(one.differences(&grown, 9), Vec::<String>::new());
        // Where a model was found is no part of it either.
        let mut found = plan();
        found.model.revision = Some("c".into());
        found.model.path = Some("p".into());
        assert_eq!(one.hash(), found.hash());
        assert_eq!(one.differences(&found, 9), Vec::<String>::new());
        let mut other = plan();
        other.seed = 2;
        other.recipe.steps[0].max_tokens = 7;
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.differences(&other, 9), ["seed is 1, not 2", "recipe.steps.0.max_tokens is 64, not 7"]);
    }

    #[test]
    fn shards_are_disjoint_and_whole() {
        for count in 1..5u32 {
            let mut rows = Vec::new();
            for index in 1..=count {
                let part = Plan { shard: Some(Shard { index, count }), ..plan() };
                assert_eq!(part.row_indices().count() as u32, part.row_count());
                rows.extend(part.row_indices());
            }
            rows.sort_unstable();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
        assert_eq!("2/4".parse(), Ok(Shard { index: 2, count: 4 }));
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
