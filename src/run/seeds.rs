//! Rows that rows are made from: a data set read whole, and the descent of what is made of it.
//!
//! Every seed begins a chain: in each round its latest kept row is the next one's parent; where a round fails,
//! the parent goes back into the pool and is tried again in the next round, as Evol-Instruct does (arXiv
//! 2304.12244). Row `r` of a run belongs to seed `r mod seeds`; after the last round the chains begin anew.
//!
//! All seeds are kept in memory, with the texts of the latest row of each.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::catalog::source::verify::sha256_of;
use crate::error::{Error, Remedy, Result, setting};
use crate::export::form::Pair;
use crate::export::read::{Found, Options, read};
use crate::export::{Example, Role};
use crate::plan::{Plan, SeedsUsed};
use crate::row::{ID, Lineage, META, row_id};

/// A row of the data set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seed {
    /// Where it stands in its file, from 1.
    pub line: u64,
    /// Its own identifier.
    pub id: Option<Value>,
    /// `instruction`, `input` and `response`, empty where it has none.
    pub texts: Arc<Map<String, Value>>,
    /// Its fields as they were, but for `id` and `meta`.
    pub fields: Map<String, Value>,
    /// Its `meta`, if it was made by a run.
    pub meta: Option<Value>,
}

/// The seeds of a run; none for a run that makes its rows from nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeds {
    /// In the order of the file.
    pub rows: Vec<Seed>,
    rounds: u32,
}

/// What a row is made from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Place of the seed among the seeds.
    pub seed: u32,
    /// From 1.
    pub round: u16,
    /// The row that it directly descends from; `None` for the seed itself.
    pub parent: Option<u32>,
    /// The parent's `instruction`, `input` and `response`.
    pub texts: Arc<Map<String, Value>>,
}

impl Seeds {
    /// Reads a data set; what cannot be used is in what was found. `strict` makes it an error.
    ///
    /// # Errors
    /// When the file cannot be read, or no row has an instruction.
    pub(crate) fn read(path: &Path, pair: &Pair, strict: bool) -> Result<(Self, SeedsUsed, Found)> {
        let mut rows = Vec::new();
        let mut sums = String::new();
        let mut mute = Vec::new();
        let options = Options { strict, pair: pair.clone() };
        let mut unused = Found::default();
        let mut found = read(path, &options, &mut |example| {
            let line = example.line;
            if example.is_bad_answer() {
                mute.push((line, "its answer is marked as a bad one: `label` is false".into()));
                return Ok(());
            }
            unused.add_unused(unused_of(&example));
            match Seed::of(example) {
                Ok(seed) => {
                    sums += &sha256_of(json!([*seed.texts, seed.fields, seed.meta]).to_string().as_bytes());
                    rows.push(seed);
                }
                Err(what) if strict => {
                    let what = format!("line {line}: {what}");
                    let remedy = Remedy::from("mend it, or leave ").name(setting::STRICT).and(" out");
                    return Err(Error::input(path, what, remedy));
                }
                Err(what) => mute.push((line, what)),
            }
            Ok(())
        })?;
        if rows.is_empty() {
            let what = mute.first().map_or_else(String::new, |(line, what)| format!("; line {line}: {what}"));
            let remedy = Remedy::from("name the field of the instruction with ").name(setting::PROMPT_FIELD);
            return Err(Error::input(path, format!("no row has an instruction{what}"), remedy));
        }
        found.unused = unused.unused;
        found.bad += mute.len() as u64;
        found.bad_rows.extend(mute);
        found.bad_rows.sort();
        let used = SeedsUsed {
            path: std::path::absolute(path).map_err(|cause| Error::io("find", path, cause))?,
            sha256: sha256_of(sums.as_bytes()),
            rows: u32::try_from(rows.len()).map_err(|_| Error::input(path, "too many rows", "split the file"))?,
            prompt_field: pair.prompt.clone(),
            response_field: pair.response.clone(),
        };
        Ok((Self { rows, rounds: 1 }, used, found))
    }

    /// The seeds of a plan, read again.
    ///
    /// # Errors
    /// When the file is gone, or is not what was planned with.
    pub(crate) fn of(plan: &Plan) -> Result<Self> {
        let Some(planned) = &plan.seeds else { return Ok(Self::default()) };
        let pair = Pair { prompt: planned.prompt_field.clone(), response: planned.response_field.clone() };
        let (mut seeds, used, _) = Self::read(&planned.path, &pair, false)?;
        if used.sha256 != planned.sha256 {
            let what = "this data set has changed since the run was planned";
            let remedy = Remedy::from("restore it, or begin a new run with another ").name(setting::OUTPUT);
            return Err(Error::input(&planned.path, what, remedy));
        }
        seeds.rounds = u32::from(plan.recipe.seeds.map_or(1, |seeds| seeds.rounds));
        Ok(seeds)
    }

    /// One row of usual length in place of a data set, for estimates.
    pub(crate) fn stand_in() -> Self {
        let texts = json!({
            "instruction": "Describe in a few sentences how a small town could make its streets safer for children.",
            "input": "",
            "response": "Slower cars help most, so narrow streets and wide crossings come first. Light and short ways do the rest.",
        });
        let fields = texts.as_object().cloned().unwrap_or_default();
        let row = Seed { line: 1, id: None, texts: Arc::new(fields.clone()), fields, meta: None };
        Self { rows: vec![row], rounds: 1 }
    }

    /// How many seeds there are; 0 for a run that has none.
    pub(crate) fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Whether the run makes its rows from nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Place of a row's seed, and its round from 0.
    pub(crate) fn place(&self, row: u32) -> (u32, u32) {
        (row % self.len(), row / self.len() % self.rounds)
    }

    /// The row that comes before `row` in its chain.
    pub(crate) fn before(&self, row: u32) -> Option<u32> {
        (!self.is_empty() && self.place(row).1 > 0).then(|| row - self.len())
    }

    /// The row that comes after `row` in its chain.
    pub(crate) fn after(&self, row: u32) -> Option<u32> {
        let next = row.checked_add(self.len())?;
        (!self.is_empty() && self.place(next).1 > 0).then_some(next)
    }

    /// The origin of `row`, whose chain's latest kept row is `latest`.
    pub(crate) fn origin(&self, row: u32, latest: Option<&(u32, Arc<Map<String, Value>>)>) -> Origin {
        let (seed, round) = self.place(row);
        let (parent, texts) = match latest {
            Some((parent, texts)) => (Some(*parent), texts.clone()),
            None => (None, self.rows[seed as usize].texts.clone()),
        };
        Origin { seed, round: round as u16 + 1, parent, texts }
    }

    /// What templates see of a row's origin: `seed` and `parent`.
    pub(crate) fn values(&self, origin: &Origin) -> Map<String, Value> {
        let seed = &self.rows[origin.seed as usize];
        let texts = [("seed", &seed.texts), ("parent", &origin.texts)];
        texts.into_iter().map(|(name, texts)| (name.to_owned(), Value::Object((**texts).clone()))).collect()
    }

    /// What a row of a run descends from, as its line says it.
    pub(crate) fn lineage(&self, origin: &Origin, run_seed: u64) -> Lineage {
        let seed = &self.rows[origin.seed as usize];
        Lineage {
            seed: origin.seed,
            seed_id: seed.id.clone(),
            line: seed.line,
            round: origin.round,
            parent: origin.parent.map(|row| row_id(run_seed, row)),
        }
    }
}

impl Origin {
    /// What rows of one descent share by name.
    pub(crate) fn family(&self) -> String {
        family(self.seed)
    }
}

/// Name of the descent of a seed.
pub(crate) fn family(seed: u32) -> String {
    format!("seed-{seed}")
}

/// What of a conversation steps do not see: they see one exchange, the first.
fn unused_of(example: &Example) -> Vec<String> {
    let mut unused: Vec<String> = example.turns.iter().flat_map(|turn| turn.lost.clone()).collect();
    if example.prompts() > 1 {
        unused.push("exchanges after the first of a conversation".into());
    }
    let has = |role: Role| example.turns.iter().any(|turn| turn.role == role);
    unused.extend(has(Role::System).then(|| "system messages".into()));
    unused.extend(has(Role::Tool).then(|| "what tools gave".into()));
    unused.extend(example.turns.iter().any(|turn| !turn.calls.is_empty()).then(|| "calls of tools".into()));
    unused.extend(example.turns.iter().any(|turn| turn.reasoning.is_some()).then(|| "reasoning_content".into()));
    unused.sort();
    unused.dedup();
    unused
}

/// The `instruction`, `input` and `response` among fields, empty where there is none.
pub(crate) fn texts_of(fields: &Map<String, Value>) -> Map<String, Value> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    ["instruction", "input", "response"].map(|name| (name.to_owned(), text(name).into())).into_iter().collect()
}

impl Seed {
    fn of(example: Example) -> Result<Self, String> {
        let Example { line, turns, mut fields, .. } = example;
        let field = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let said = |role: Role| turns.iter().find(|turn| turn.role == role).map(|turn| turn.text.clone());
        // Self-Instruct's seed tasks keep input and output in a list of instances.
        let instance = fields.get("instances").and_then(|list| list.get(0)).and_then(Value::as_object);
        let of_instance = |name: &str| instance?.get(name)?.as_str().map(str::to_owned);
        let named = turns.is_empty() || fields.contains_key("instruction");
        let plain = || ["instruction", "prompt", "question", "query", "text"].iter().find_map(|name| field(name));
        let instruction = if named { plain().or_else(|| said(Role::User)) } else { said(Role::User) };
        let instruction = instruction.unwrap_or_default().trim().to_owned();
        if instruction.is_empty() {
            return Err("has no instruction".into());
        }
        let beside = || ["input", "context"].iter().find_map(|name| field(name).filter(|text| !text.is_empty()));
        let input = if named { of_instance("input").or_else(beside) } else { None };
        let answers = || ["response", "output", "answer"].iter().find_map(|name| field(name));
        let response = said(Role::Assistant).or_else(|| of_instance("output")).or_else(answers);
        let texts = json!({
            "instruction": instruction,
            "input": input.unwrap_or_default().trim(),
            "response": response.unwrap_or_default().trim(),
        });
        let texts = texts.as_object().cloned().unwrap_or_default();
        let id = fields.shift_remove(ID).filter(|id| !id.is_null());
        let meta = fields.shift_remove(META);
        Ok(Self { line, id, texts: Arc::new(texts), fields, meta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(lines: &str) -> Result<(Seeds, SeedsUsed, Found)> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("seeds.jsonl");
        std::fs::write(&path, lines).expect("written");
        Seeds::read(&path, &Pair::default(), false)
    }

    #[test]
    fn every_form_has_its_three_texts() {
        let expected = json!({"instruction": "Q", "input": "I", "response": "A"});
        for (row, input) in [
            (json!({"instruction": "Q", "input": "I", "output": "A"}), "I"),
            (json!({"instruction": "Q", "instances": [{"input": "I", "output": "A"}]}), "I"),
            (json!({"instruction": "Q", "input": "I", "response": "A"}), "I"),
            (json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}), ""),
            (json!({"prompt": "Q", "completion": "A"}), ""),
            (json!({"question": "Q", "answer": "A"}), ""),
        ] {
            let (seeds, ..) = seeds(&format!("{row}\n")).expect("a seed");
            let mut expected = expected.clone();
            expected["input"] = input.into();
            assert_eq!(Value::Object((*seeds.rows[0].texts).clone()), expected, "{row}");
        }
        let (seeds, _, found) = seeds("{\"prompt\":\"Q\"}\n{\"instruction\":\" \"}\n{\"x\":1}\n").expect("one seed");
        assert_eq!((seeds.len(), found.bad), (1, 2));
        assert_eq!(found.bad_rows[0], (2, "has no instruction".to_owned()));
    }

    #[test]
    fn the_sum_is_that_of_the_rows() {
        let sum = |lines: &str| seeds(lines).expect("seeds").1.sha256;
        let one = sum("{\"prompt\":\"Q\"}\n");
        assert_eq!(one, sum("\n {\"prompt\": \"Q\"}\n\n"));
        assert_ne!(one, sum("{\"prompt\":\"R\"}\n"));
    }

    #[test]
    fn chains_go_through_their_rounds_and_begin_anew() {
        let (mut seeds, ..) = seeds("{\"prompt\":\"Q\"}\n{\"prompt\":\"R\"}\n{\"prompt\":\"S\"}\n").expect("seeds");
        seeds.rounds = 2;
        assert_eq!((0..8).map(|row| seeds.place(row)).collect::<Vec<_>>()[3..7], [(0, 1), (1, 1), (2, 1), (0, 0)]);
        assert_eq!((seeds.before(2), seeds.before(4), seeds.before(6)), (None, Some(1), None));
        assert_eq!((seeds.after(2), seeds.after(4)), (Some(5), None));
        let latest = (1, Arc::new(Map::new()));
        assert_eq!(seeds.origin(4, Some(&latest)).parent, Some(1));
        assert_eq!(seeds.origin(4, None).texts["instruction"], "R");
    }
}
