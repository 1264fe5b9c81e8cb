//! The report on a run, or on any file of rows: one pass over the rows, in bounded memory.
//!
//! Counts grow with the different values of attributes; lengths take 8 bytes a row and field; diversity
//! is measured on seeded samples whose sizes the report states.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::balance::{self, PairSpread, Spread, ValueCounts};
use super::diversity::{Compressed, distinct, self_bleu};
use super::sample::Sample;
use super::vendi;
use crate::container::Rows;
use crate::disk::Lines;
use crate::error::{Error, Result};
use crate::filter::text::{text, text_of};
use crate::filter::words;
use crate::plan::{ModelUsed, Plan};
use crate::row::{Applied, ID, Meta, RunFiles, StepNote, Tally, is_reserved, parse, rule};
use instil_model::model::embedder::Embedder;

/// Words on which distinct n-grams are counted: they fall with the length of a text.
pub(crate) const DISTINCT_WORDS: usize = 10_000;
/// Texts of which self-BLEU is taken.
pub(crate) const BLEU_TEXTS: usize = 1_000;
/// Texts of which the Vendi score is taken.
pub(crate) const VENDI_TEXTS: usize = 500;
/// Different values of an attribute above which it is not tabulated.
const MOST_VALUES: usize = 1_000;
/// Fields of text that are measured.
const MOST_FIELDS: usize = 16;

/// Where the rows are.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Accepted rows.
    pub records: PathBuf,
    /// The run that they belong to, if it is one.
    pub run: Option<RunFiles>,
}

/// How fast the last session of a run was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Rows accepted in it.
    pub rows: u64,
    /// Attempts decoded in it.
    pub attempts: u64,
    /// From its first prompt to its last row.
    pub seconds: f64,
    /// Part of that in the model.
    pub model_seconds: f64,
    /// Tokens drawn or forced.
    pub tokens: u64,
    /// Prompt tokens read.
    pub prompt_tokens: u64,
    /// `tokens / seconds`.
    pub tokens_per_s: f64,
    /// `rows / seconds`.
    pub rows_per_s: f64,
    /// Prompt tokens that were not read, because rows share them.
    #[serde(default)]
    pub prompt_tokens_shared: u64,
    /// What the models took: the one that writes, and behind it the one that judges, where it is another.
    #[serde(default)]
    pub memory: Vec<ModelMemory>,
}

/// Memory that a model took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelMemory {
    /// The model's name.
    pub model: String,
    /// Its weights.
    pub weight_bytes: u64,
    /// Its keys and values, at their most.
    pub key_value_bytes: u64,
}

impl Sources {
    /// The files of a run directory, or rows alone: a file of them, or a directory of such files.
    ///
    /// # Errors
    /// When a run has no rows yet.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let files = RunFiles::of(path);
        if path.is_dir() && files.records.exists() {
            return Ok(Self { records: files.records.clone(), run: Some(files) });
        }
        if path.is_dir() && files.plan.exists() {
            let what = "there is no records.jsonl in this run directory";
            return Err(Error::input(path, what, "give a run that has begun, or a file of rows"));
        }
        Ok(Self { records: path.to_owned(), run: None })
    }

    /// What the rows were made by; none for rows of another maker.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn plan(&self) -> Result<Option<Plan>> {
        let planned = self.run.as_ref().filter(|files| files.plan.exists());
        planned.and_then(|files| files.plan.parent()).map(Plan::read).transpose()
    }

    /// A file of the run that is there.
    fn there(&self, file: impl FnOnce(&RunFiles) -> &PathBuf) -> Option<&Path> {
        self.run.as_ref().map(file).filter(|path| path.exists()).map(PathBuf::as_path)
    }
}

/// What is known of a data set.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Rows that the plan wants.
    pub planned: Option<u64>,
    /// Attempts made: kept and rejected.
    pub generated: u64,
    /// Rows accepted.
    pub kept: u64,
    /// Attempts turned down, by rule.
    pub rejected: BTreeMap<String, u64>,
    /// Lines that are not JSON objects.
    pub unreadable: u64,
    /// Rows whose `id` an earlier row has.
    pub repeated_ids: u64,
    /// What people decided on the rows, where they did. Rejected rows count as rejected by `review`; edited
    /// ones are measured as edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<Tally>,
    /// The model, from the plan.
    pub model: Option<ModelUsed>,
    /// Planned attributes.
    pub attributes: Vec<Spread>,
    /// Each two attributes together.
    pub pairs: Vec<PairSpread>,
    /// Fields of text.
    pub fields: Vec<FieldReport>,
    /// Steps of decoding.
    pub steps: Vec<StepReport>,
    /// Seed of the samples.
    pub seed: u64,
    /// The last session by the clock: the one part that does not follow from plan and rows.
    pub throughput: Option<Throughput>,
}

/// What is known of a field of text, over the accepted rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FieldReport {
    /// Its name.
    pub field: String,
    /// Its lengths in words.
    pub words: Lengths,
    /// Its lengths in characters.
    pub chars: Lengths,
    /// Distinct 1-, 2- and 3-grams over all.
    pub distinct: [Option<f64>; 3],
    /// Words that these were counted on.
    pub distinct_words: usize,
    /// Mean BLEU-4 of each text against the others.
    pub self_bleu: Option<f64>,
    /// Texts that it was taken of.
    pub self_bleu_texts: usize,
    /// Bytes over gzip's bytes, all texts together.
    pub gzip_ratio: Option<f64>,
    /// The Vendi score.
    pub vendi: Option<f64>,
    /// Texts that it was taken of: its greatest value.
    pub vendi_texts: usize,
    /// What its similarities are.
    pub vendi_kernel: String,
}

/// Lengths of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// Least.
    pub min: u32,
    /// A twentieth is no longer.
    pub p5: u32,
    /// Half is no longer.
    pub median: u32,
    /// Mean.
    pub mean: f64,
    /// All but a twentieth are no longer.
    pub p95: u32,
    /// Greatest.
    pub max: u32,
}

impl Lengths {
    fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let (Some(min), Some(max)) = (lengths.first(), lengths.last()) else { return Self::default() };
        // Nearest rank.
        let rank = |share: f64| lengths[((share * lengths.len() as f64).ceil() as usize).max(1) - 1];
        let mean = lengths.iter().map(|length| f64::from(*length)).sum::<f64>() / lengths.len() as f64;
        Self { min: *min, p5: rank(0.05), median: rank(0.5), mean, p95: rank(0.95), max: *max }
    }
}

/// What a step of decoding cost, over the accepted rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepReport {
    /// Its field.
    pub field: String,
    /// Texts decoded.
    pub texts: u64,
    /// Mean tokens of a text.
    pub tokens: f64,
    /// Mean of the texts' mean grammar tension.
    pub tension_mean: f64,
    /// Greatest grammar tension at any token.
    pub tension_max: f64,
    /// Share of texts that the token limit closed.
    pub closed_by_budget: f64,
}

/// Measures the rows of `sources`; `fields` are the texts to look at, none for every text field. With an `embedder`
/// the Vendi score is that of meanings. `on_progress` gets the bytes read and their sum.
///
/// # Errors
/// When a file cannot be read, or holds no row, or a text cannot be embedded.
pub fn measure(
    sources: &Sources,
    fields: &[String],
    seed: u64,
    embedder: Option<&Embedder>,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<Report> {
    let plan = sources.plan()?;
    let mut counts = Counts { attributes: plan.as_ref().map(attributes).unwrap_or_default(), ..Counts::default() };
    let mut texts: Vec<FieldMeter> = fields.iter().map(|field| FieldMeter::new(field, seed)).collect();
    let mut steps: Vec<StepReport> = Vec::new();
    let mut ids = BTreeSet::new();
    let mut rows = Rows::open(&sources.records)?;
    let decisions = rows.decisions()?;
    let throughput = sources.there(|files| &files.throughput).map(read_json).transpose()?;
    let review = decisions.as_ref().map(|_| Tally::default());
    let mut report = Report { review, seed, throughput, ..Report::default() };
    while let Some(row) = rows.next()? {
        let Ok(mut row) = row.content.fields() else {
            report.unreadable += 1;
            continue;
        };
        if let (Some(decisions), Some(tally)) = (&decisions, &mut report.review) {
            let applied = decisions.apply(&mut row);
            tally.add(&applied);
            if matches!(applied, Applied::Rejected(_)) {
                *report.rejected.entry(rule::REVIEW.to_owned()).or_default() += 1;
                counts.add(&Meta::of(&row), false);
                continue;
            }
        }
        if fields.is_empty() {
            meters_of_row(&row, seed, &mut texts);
        }
        for meter in &mut texts {
            meter.add(report.kept, &text(&row, &meter.field));
        }
        if let Some(id) = row.get(ID)
            && !ids.insert(crate::filter::text::hash(id.to_string().as_bytes()))
        {
            report.repeated_ids += 1;
        }
        let meta = Meta::of(&row);
        counts.add(&meta, true);
        meta.steps.iter().for_each(|note| add_step(&mut steps, note));
        report.kept += 1;
        if report.kept.is_multiple_of(1024) {
            on_progress(rows.bytes_read(), rows.size());
        }
    }
    if report.kept == 0 && plan.is_none() {
        return Err(Error::input(
            &sources.records,
            "there is no row in this file",
            "give JSON Lines, a JSON list, a table with a header, Parquet or Arrow",
        ));
    }
    if let Some(rejects) = sources.there(|files| &files.rejects) {
        let mut lines = Lines::open(rejects)?;
        let mut line = Vec::new();
        while lines.next(&mut line)?.is_some() {
            let Ok(row) = parse(&line) else {
                report.unreadable += 1;
                continue;
            };
            let meta = Meta::of(&row);
            let rule = meta.reason.as_ref().map_or(rule::UNKNOWN, |reason| reason.rule);
            *report.rejected.entry(rule.to_owned()).or_default() += 1;
            counts.add(&meta, false);
        }
    }
    report.generated = report.kept + report.rejected.values().sum::<u64>();
    if let Some(plan) = &plan {
        report.planned = Some(plan.row_count().into());
        report.model = Some(plan.model.clone());
    }
    (report.attributes, report.pairs) = counts.spreads(report.planned);
    for spread in &mut report.attributes {
        spread.checked_by = plan.as_ref().map(|plan| plan.recipe.checked_by(&spread.attribute)).unwrap_or_default();
    }
    report.fields = texts.into_iter().map(|meter| meter.report(embedder)).collect::<Result<_>>()?;
    for step in &mut steps {
        let texts = step.texts.max(1) as f64;
        (step.tokens, step.tension_mean) = (step.tokens / texts, step.tension_mean / texts);
        step.closed_by_budget /= texts;
    }
    report.steps = steps;
    Ok(report)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|cause| Error::io("read", path, cause))?;
    serde_json::from_str(&text).map_err(|cause| Error::input(path, format!("not JSON: {cause}"), "restore it"))
}

/// The attributes of a plan with all values that it may give them, where these can be listed.
fn attributes(plan: &Plan) -> Vec<(String, Vec<String>)> {
    let named = plan.recipe.attributes.iter().map(|attribute| {
        let mut labels: Vec<String> = Vec::new();
        for value in attribute.all_values().map(label) {
            if !labels.contains(&value) {
                labels.push(value);
            }
        }
        (attribute.name.clone(), labels)
    });
    named.filter(|(_, labels)| !labels.is_empty()).collect()
}

/// How a value of an attribute is named: texts by themselves, all else as JSON.
fn label(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Adds a meter for each field of text that the row has and no row before had.
fn meters_of_row(row: &Map<String, Value>, seed: u64, meters: &mut Vec<FieldMeter>) {
    for (name, value) in row {
        let known = meters.iter().any(|meter| meter.field == *name);
        if !known && meters.len() < MOST_FIELDS && !is_reserved(name) && text_of(value, None).is_some() {
            meters.push(FieldMeter::new(name, seed));
        }
    }
}

fn add_step(steps: &mut Vec<StepReport>, note: &StepNote) {
    let at = steps.iter().position(|step| step.field == note.field).unwrap_or_else(|| {
        steps.push(StepReport { field: note.field.clone(), ..StepReport::default() });
        steps.len() - 1
    });
    let step = &mut steps[at];
    step.texts += 1;
    step.tokens += note.tokens as f64;
    step.tension_mean += note.tension_mean;
    step.tension_max = step.tension_max.max(note.tension_max);
    step.closed_by_budget += f64::from(u8::from(note.closed_by_budget));
}

/// What is gathered of a field.
struct FieldMeter {
    field: String,
    words: Vec<u32>,
    chars: Vec<u32>,
    for_distinct: Sample,
    for_bleu: Sample,
    for_vendi: Sample,
    /// The same texts as `for_vendi`, whole.
    for_embedder: Sample,
    compressed: Compressed,
}

impl FieldMeter {
    fn new(field: &str, seed: u64) -> Self {
        Self {
            field: field.to_owned(),
            words: Vec::new(),
            chars: Vec::new(),
            for_distinct: Sample::new(seed, usize::MAX, DISTINCT_WORDS),
            for_bleu: Sample::new(seed, BLEU_TEXTS, usize::MAX),
            for_vendi: Sample::new(seed, VENDI_TEXTS, usize::MAX),
            for_embedder: Sample::new(seed, VENDI_TEXTS, usize::MAX),
            compressed: Compressed::default(),
        }
    }

    fn add(&mut self, place: u64, text: &str) {
        if text.is_empty() {
            return;
        }
        let words = words(text);
        self.words.push(words.len() as u32);
        self.chars.push(text.chars().count() as u32);
        self.compressed.add(text);
        if !words.is_empty() {
            self.for_distinct.offer(place, &words);
            self.for_bleu.offer(place, &words);
            self.for_vendi.offer(place, &words);
            self.for_embedder.offer(place, &[text.to_owned()]);
        }
    }

    fn report(self, embedder: Option<&Embedder>) -> Result<FieldReport> {
        let (of_distinct, of_bleu) = (self.for_distinct.texts(), self.for_bleu.texts());
        let of_vendi = self.for_vendi.texts();
        let (vendi, vendi_kernel) = match embedder {
            None => (vendi::vendi_score(&of_vendi), vendi::KERNEL.to_owned()),
            Some(embedder) => {
                let texts = self.for_embedder.texts().concat();
                let score = vendi::vendi_score_of_embeddings(&embedder.embed(&texts)?);
                (score, format!("cosine of embeddings by {}", embedder.name()))
            }
        };
        Ok(FieldReport {
            field: self.field,
            words: Lengths::of(self.words),
            chars: Lengths::of(self.chars),
            distinct: [1, 2, 3].map(|n| distinct(&of_distinct, n)),
            distinct_words: of_distinct.iter().map(Vec::len).sum(),
            self_bleu: self_bleu(&of_bleu),
            self_bleu_texts: of_bleu.len(),
            gzip_ratio: self.compressed.ratio(),
            vendi,
            vendi_texts: of_vendi.len(),
            vendi_kernel,
        })
    }
}

/// What became of the rows and attempts that have a value.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// Rows of the plan, as far as it was tried.
    rows: u64,
    attempts: u64,
    kept: u64,
}

/// Attempts and rows by the values of their attributes.
#[derive(Default)]
struct Counts {
    /// Attributes of the plan, with their values.
    attributes: Vec<(String, Vec<String>)>,
    /// Rows of the plan that were tried.
    tried: BTreeSet<u32>,
    values: BTreeMap<String, BTreeMap<String, Fate>>,
    /// Kept rows by the values of two attributes.
    pairs: BTreeMap<(String, String), BTreeMap<(String, String), u64>>,
}

impl Counts {
    fn add(&mut self, meta: &Meta, kept: bool) {
        let Some(attributes) = &meta.attributes else { return };
        let is_first = meta.row.is_some_and(|row| self.tried.insert(row));
        let labels: Vec<(&String, String)> = attributes.iter().map(|(name, value)| (name, label(value))).collect();
        for (at, (name, value)) in labels.iter().enumerate() {
            let values = self.values.entry((*name).clone()).or_default();
            if values.len() > MOST_VALUES {
                continue;
            }
            let tally = values.entry(value.clone()).or_default();
            tally.rows += u64::from(is_first);
            tally.attempts += 1;
            tally.kept += u64::from(kept);
            for (other, other_value) in labels[at + 1..].iter().filter(|_| kept) {
                let cells = self.pairs.entry(((*name).clone(), (*other).clone())).or_default();
                if cells.len() <= MOST_VALUES * MOST_VALUES {
                    *cells.entry((value.clone(), other_value.clone())).or_default() += 1;
                }
            }
        }
    }

    fn spreads(self, planned: Option<u64>) -> (Vec<Spread>, Vec<PairSpread>) {
        let mut spreads: Vec<Spread> = Vec::new();
        // Every row that was tried tells what the plan gave it; of a run that is not finished, the rest follows.
        let scale = planned.filter(|_| !self.tried.is_empty()).map(|rows| rows as f64 / self.tried.len() as f64);
        let in_plan = self.attributes.iter().map(|(name, _)| name.clone());
        let others = self.values.keys().filter(|name| !self.attributes.iter().any(|(known, _)| known == *name));
        for attribute in in_plan.chain(others.cloned()) {
            let counted = self.values.get(&attribute);
            if counted.is_some_and(|values| values.len() > MOST_VALUES) {
                continue;
            }
            let listed = self.attributes.iter().find(|(name, _)| *name == attribute).map(|(_, values)| values);
            let mut values: Vec<ValueCounts> = Vec::new();
            for value in listed.into_iter().flatten().take(MOST_VALUES) {
                values.push(ValueCounts {
                    value: value.clone(),
                    planned: scale.map(|_| 0.0),
                    ..ValueCounts::default()
                });
            }
            for (value, tally) in counted.into_iter().flatten() {
                let at = values.iter().position(|known| known.value == *value).unwrap_or_else(|| {
                    values.push(ValueCounts { value: value.clone(), ..ValueCounts::default() });
                    values.len() - 1
                });
                (values[at].generated, values[at].kept) = (tally.attempts, tally.kept);
                values[at].planned = scale.map(|scale| scale * tally.rows as f64);
            }
            balance::flag(&mut values);
            let kept: Vec<u64> = values.iter().map(|value| value.kept).collect();
            let wanted: Vec<f64> = values.iter().map(|value| value.planned.unwrap_or(0.0)).collect();
            let total_variation = scale.and_then(|_| balance::total_variation(&kept, &wanted));
            let entropy = balance::normalised_entropy(&kept);
            spreads.push(Spread { attribute, values, entropy, total_variation, checked_by: Vec::new() });
        }
        let mut pairs = Vec::new();
        for (at, first) in spreads.iter().enumerate() {
            for second in &spreads[at + 1..] {
                pairs.push(self.pair(first, second));
            }
        }
        (spreads, pairs)
    }

    fn pair(&self, first: &Spread, second: &Spread) -> PairSpread {
        let names = (first.attribute.clone(), second.attribute.clone());
        let turned = (names.1.clone(), names.0.clone());
        let place = |spread: &Spread, value: &String| spread.values.iter().position(|known| known.value == *value);
        let mut cells = BTreeMap::new();
        for ((a, b), count) in self.pairs.get(&names).into_iter().flatten() {
            if let (Some(a), Some(b)) = (place(first, a), place(second, b)) {
                *cells.entry((a, b)).or_default() += count;
            }
        }
        for ((b, a), count) in self.pairs.get(&turned).into_iter().flatten() {
            if let (Some(a), Some(b)) = (place(first, a), place(second, b)) {
                *cells.entry((a, b)).or_default() += count;
            }
        }
        let (rows, columns) = (first.values.len(), second.values.len());
        let all = (rows * columns) as u64;
        let cramers_v = balance::cramers_v(&balance::table(&cells, rows, columns));
        PairSpread { attributes: names, cells: all, empty: all - cells.len() as u64, cramers_v }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(records: &[Value], rejects: &[Value], plan: Option<Plan>) -> Result<Report> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, rows: &[Value]| {
            let text = rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write(RunFiles::RECORDS, records);
        write(RunFiles::REJECTS, rejects);
        if let Some(plan) = plan {
            write(RunFiles::PLAN, &[json!(plan)]);
        }
        measure(&Sources::of(folder.path())?, &[], 0, None, &mut |_, _| {})
    }

    fn row(id: u32, a: &str, b: &str, text: &str) -> Value {
        json!({"id": id, "q": text, "meta": {"row": id, "attributes": {"a": a, "b": {"x": b}},
            "steps": [{"field": "q", "tokens": 4, "tension_mean": 0.25, "tension_max": 0.5, "closed_by_budget": id == 1}]}})
    }

    #[test]
    fn planned_generated_and_kept_stand_side_by_side() {
        let mut plan = Plan::sample(4);
        plan.recipe.attributes = serde_json::from_value(json!([
            {"name": "a", "values": ["one", "two", "three"], "weights": [2, 1, 0], "when": [{"is": {}, "values": ["two", "four"]}]},
            {"name": "b", "values": [{"x": "u"}, {"x": "v"}]}])).expect("attributes");
        let mut records = [row(0, "one", "u", "a b"), row(1, "two", "v", "c d e"), row(1, "one", "u", "a b")];
        records[2]["meta"]["row"] = json!(2);
        // A second attempt at row 1 is not a row of its own.
        let mut reject = row(9, "two", "u", "x");
        reject["meta"]["row"] = json!(1);
        reject["meta"]["reason"] = json!({"rule": "loop", "detail": "…"});
        let report = run(&records, &[reject], Some(plan)).expect("measured");
        assert_eq!((report.planned, report.generated, report.kept, report.repeated_ids), (Some(4), 4, 3, 1));
        assert_eq!(report.rejected, BTreeMap::from([("loop".to_owned(), 1)]));
        let a = &report.attributes[0];
        let seen: Vec<_> = a.values.iter().map(|v| (v.value.as_str(), v.planned, v.generated, v.kept)).collect();
        assert_eq!(
            seen,
            [
                // Of the three rows tried two have it; four are planned.
                ("one", Some(8.0 / 3.0), 2, 2),
                ("two", Some(4.0 / 3.0), 2, 1),
                ("three", Some(0.0), 0, 0),
                ("four", Some(0.0), 0, 0),
            ]
        );
        assert_eq!(a.values.iter().map(|v| v.below_four_fifths).collect::<Vec<_>>(), [false; 4]);
        assert!(a.total_variation.is_some_and(|tv| tv.abs() < 1e-9));
        assert_eq!(report.attributes[1].values[0].value, "{\"x\":\"u\"}");
        let pair = &report.pairs[0];
        assert_eq!((pair.cells, pair.empty), (8, 6));
        assert_eq!(pair.cramers_v, Some(1.0));
        assert_eq!(report.fields[0].words, Lengths { min: 2, p5: 2, median: 2, mean: 7.0 / 3.0, p95: 3, max: 3 });
        assert_eq!(report.steps[0].texts, 3);
        assert!((report.steps[0].closed_by_budget - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn any_rows_are_measured_and_none_are_an_error() {
        let report = run(&[json!({"q": "a b", "n": 1}), json!([1])], &[], None).expect("measured");
        assert_eq!((report.kept, report.unreadable, report.fields.len(), report.attributes.len()), (1, 1, 1, 0));
        assert!(run(&[], &[], None).is_err());
        assert!(run(&[], &[], Some(Plan::sample(3))).is_ok_and(|report| report.kept == 0));
    }
}
