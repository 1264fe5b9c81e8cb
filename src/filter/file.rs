//! The rules over rows: any container in, the rows that stay out as JSON Lines, in their order.
//!
//! Rows are read in batches; threads parse a batch, ask the rules about single rows and prepare the
//! comparison; the rows are then compared in row order. A line that stays is written byte for byte as it
//! was read, unless personal data in it was masked or a person edited it: decisions on the rows of a run
//! are honoured. Memory is that of a batch and of
//! [`super::cross_row`]; with `best_by` also 24 bytes a row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cross_row::{Candidate, CrossRows, Prepared, Preparer};
use super::rouge::Pairs;
use super::text::{text, text_of};
use super::{Filter, Filters, Other, Reason, first_reason};
use crate::container::{Aside, Content, Row, Rows};
use crate::disk::{Lines, WholeFile};
use crate::error::{Error, Remedy, Result, nearest, setting};
use crate::row::{Applied, Decisions, META, Meta, is_reserved, parse, rule};
use instil_model::model::embedder::Embedder;

/// Lines of a batch, and bytes after which it ends early.
const BATCH_LINES: usize = 8192;
const BATCH_BYTES: usize = 16 << 20;
/// Lines that could not be read which a summary lists.
const BAD_LINES_LISTED: usize = 20;

/// What to filter, and where to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    /// The rows.
    pub input: PathBuf,
    /// Where the rows that stay go.
    pub output: PathBuf,
    /// Where the others go, each with its reason under `meta.reason`.
    pub rejects: Option<PathBuf>,
    /// Rows that must not be repeated either: they count as accepted before the first row.
    pub seeds: Option<PathBuf>,
    /// A number field: of rows alike the one with the most stays, not the first.
    pub best_by: Option<String>,
    /// A text field that names what a row descends from; rows of one lineage may be near.
    pub lineage: Option<String>,
    /// A line that is not a JSON object ends the work, rather than being counted.
    pub strict: bool,
    /// What stands where rows go may be replaced.
    pub force: bool,
    /// The sentence embedder of the rule `semantic`.
    pub embedder: Option<Arc<Embedder>>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Lines with something on them.
    pub rows: u64,
    /// Rows that stay.
    pub kept: u64,
    /// Rows turned down, by rule.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Places at which personal data was masked.
    pub masked: u64,
    /// The first lines that are not JSON objects, with what is wrong.
    pub bad_lines: Vec<(u64, String)>,
    /// What the comparisons by ROUGE-L took, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rouge_l_pairs: Option<Pairs>,
}

/// How far the work is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Bytes of the input done; with `best_by` the input is gone through twice.
    pub bytes: u64,
    /// Bytes in all.
    pub of: u64,
    /// Rows kept so far.
    pub kept: u64,
    /// Rows turned down so far.
    pub rejected: u64,
}

/// Fields of the first row of `input` that hold text, without `id` and `meta`: what rules are put on when
/// no field is named.
///
/// # Errors
/// When the file cannot be read, or its first row has no text.
pub(crate) fn text_fields(input: &Path) -> Result<Vec<String>> {
    let mut rows = Rows::open(input)?;
    while let Some(row) = rows.next()? {
        if let Ok(row) = row.content.fields() {
            let texts = row.iter().filter(|(name, value)| !is_reserved(name) && text_of(value, None).is_some());
            let fields: Vec<String> = texts.map(|(name, _)| name.clone()).collect();
            if !fields.is_empty() {
                return Ok(fields);
            }
            return Err(Error::input(
                input,
                "the first row has no text field",
                Remedy::from("name one with ").name(setting::FIELD),
            ));
        }
    }
    Err(Error::input(
        input,
        "there is no row in this file",
        "give JSON Lines, a JSON list, a table with a header, Parquet or Arrow",
    ))
}

/// Rows looked at for fields that a user names.
const ROWS_LOOKED_AT: usize = 1000;

/// Checks that fields hold text in some of the first rows of `input`: a rule on a field that no row has would pass
/// every row, or find all of them alike.
///
/// # Errors
/// When the file cannot be read, or a field holds text nowhere.
pub(crate) fn check_fields(input: &Path, fields: &[String]) -> Result<()> {
    let mut rows = Rows::open(input)?;
    let mut missing: Vec<&String> = fields.iter().collect();
    let mut names: Vec<String> = Vec::new();
    for _ in 0..ROWS_LOOKED_AT {
        let Some(row) = rows.next()?.filter(|_| !missing.is_empty()) else { break };
        let Ok(row) = row.content.fields() else { continue };
        missing.retain(|field| text(&row, field).is_empty());
        names.extend(row.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    }
    let Some(field) = missing.first() else { return Ok(()) };
    let known = names.iter().map(String::as_str).filter(|name| !is_reserved(name));
    let remedy = match nearest(field, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Err(Error::input(input, format!("no row has text in a field `{field}`"), remedy))
}

/// Filters a file. Nothing is written under the names of the output files until all of it is done.
///
/// # Errors
/// When a file cannot be read or written, a rule cannot be set up, `strict` is set and a line is not a
/// JSON object, or `stop` is set.
pub(crate) fn filter(
    task: &Task,
    filters: &Filters,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Summary> {
    let mut cross_rows = filters.cross_rows(task.embedder.clone())?;
    let decisions = Rows::open(&task.input)?.decisions()?;
    let judge = Judge { filters, chain: filters.chain(), preparer: cross_rows.preparer(), task, decisions };
    if let Some(seeds) = &task.seeds {
        accept_seeds(seeds, &judge, &mut cross_rows)?;
    }
    let mut sink = Sink::create(task)?;
    match &task.best_by {
        None => in_order(task, &judge, &mut cross_rows, &mut sink, stop, on_progress)?,
        Some(field) => best_first(task, field, &judge, &mut cross_rows, &mut sink, stop, on_progress)?,
    }
    sink.summary.rouge_l_pairs = cross_rows.rouge_pairs();
    sink.finish()
}

fn in_order(
    task: &Task,
    judge: &Judge<'_>,
    cross_rows: &mut CrossRows,
    sink: &mut Sink,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut rows = Rows::open(&task.input)?;
    let of = rows.size();
    let mut row = 0u32;
    while let Some(batch) = rows.batch(BATCH_LINES, BATCH_BYTES)? {
        check_stop(stop)?;
        let judged: Vec<Judged> = batch.par_iter().map(|row| judge.judge(&row.content)).collect();
        cross_rows.prepare_together(judged.iter().filter_map(Judged::compared))?;
        for (line, judged) in batch.iter().zip(judged) {
            let verdict = match judged.verdict {
                Verdict::Compare(prepared) => cross_rows.admit(row, &prepared)?,
                Verdict::Reject(reason) => Some(reason),
            };
            sink.put(line, judged.masked, judged.changed.as_deref(), verdict)?;
            row = row.checked_add(1).ok_or_else(|| too_many(&task.input))?;
        }
        on_progress(sink.progress(rows.bytes_read(), of));
    }
    Ok(())
}

/// Goes through the rows in the order of `field`, then writes those that stay in the order of the file.
fn best_first(
    task: &Task,
    field: &str,
    judge: &Judge<'_>,
    cross_rows: &mut CrossRows,
    sink: &mut Sink,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut rows = Rows::open(&task.input)?;
    let of = rows.size() * 2;
    let file = rows.lines().map(Path::to_owned);
    // What is not a plain file of lines is put aside as one.
    let mut aside = if file.is_some() { None } else { Some(Aside::new()?) };
    let mut order: Vec<(f64, u32, u64)> = Vec::new();
    while let Some(batch) = rows.batch(BATCH_LINES, BATCH_BYTES)? {
        check_stop(stop)?;
        let scores: Vec<f64> = batch.par_iter().map(|row| score(&row.content, field)).collect();
        for (row, score) in batch.iter().zip(scores) {
            let at = u32::try_from(order.len()).map_err(|_| too_many(&task.input))?;
            let offset = aside.as_mut().map_or(Ok(row.offset), |aside| aside.put(row))?;
            order.push((score, at, offset));
        }
        on_progress(sink.progress(rows.bytes_read(), of));
    }
    let (mut lines, _kept) = match (aside, file) {
        (Some(aside), _) => aside.lines().map(|(lines, file)| (lines, Some(file)))?,
        (None, file) => (Lines::open(file.as_deref().unwrap_or(&task.input))?, None),
    };
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut copies: BTreeMap<u32, Reason> = BTreeMap::new();
    for batch in order.chunks(BATCH_LINES) {
        check_stop(stop)?;
        let mut texts = Vec::with_capacity(batch.len());
        for (_, row, offset) in batch {
            texts.push((*row, Content::Line(lines.at(*offset)?)));
        }
        let judged: Vec<(u32, Judged)> = texts.par_iter().map(|(row, line)| (*row, judge.judge(line))).collect();
        cross_rows.prepare_together(judged.iter().filter_map(|(_, judged)| judged.compared()))?;
        for (row, judged) in judged {
            if let Verdict::Compare(prepared) = judged.verdict
                && let Some(reason) = cross_rows.admit(row, &prepared)?
            {
                copies.insert(row, reason);
            }
        }
    }
    drop(order);
    let mut rows = Rows::open(&task.input)?;
    let mut row = 0u32;
    while let Some(batch) = rows.batch(BATCH_LINES, BATCH_BYTES)? {
        check_stop(stop)?;
        // Judged again rather than remembered: a reason for each of millions of rows would not fit.
        let judged: Vec<Judged> = batch.par_iter().map(|row| judge.judge(&row.content)).collect();
        for (line, judged) in batch.iter().zip(judged) {
            let verdict = match judged.verdict {
                Verdict::Compare(_) => copies.remove(&row),
                Verdict::Reject(reason) => Some(reason),
            };
            sink.put(line, judged.masked, judged.changed.as_deref(), verdict)?;
            row += 1;
        }
        on_progress(sink.progress(rows.size() + rows.bytes_read(), of));
    }
    Ok(())
}

fn score(content: &Content, field: &str) -> f64 {
    let Ok(row) = content.fields() else { return f64::NEG_INFINITY };
    let pointer = format!("/{}", field.replace('.', "/"));
    let row = Value::Object(row);
    let value = row.get(field).or_else(|| row.pointer(&pointer));
    // Cells of a table are texts.
    let value = value.and_then(|value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()));
    value.filter(|value| !value.is_nan()).unwrap_or(f64::NEG_INFINITY)
}

fn too_many(input: &Path) -> Error {
    Error::input(input, format!("more than {} rows", u32::MAX), "split the file")
}

fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted { what: "nothing was written".into() });
    }
    Ok(())
}

fn accept_seeds(path: &Path, judge: &Judge<'_>, cross_rows: &mut CrossRows) -> Result<()> {
    let mut rows = Rows::open(path)?;
    let mut index = 0;
    while let Some(row) = rows.next()? {
        let seed = row.content.fields().map_err(|what| {
            Error::input(path, format!("line {}: {}", row.place, row.told(what)), "mend the line, or take it out")
        })?;
        let prepared = judge.prepare(&seed);
        cross_rows.accept(Other::Seed(index), &prepared)?;
        index += 1;
    }
    Ok(())
}

/// Everything about a row that does not depend on the rows before it.
struct Judge<'a> {
    filters: &'a Filters,
    chain: Vec<Box<dyn Filter>>,
    preparer: Arc<Preparer>,
    task: &'a Task,
    decisions: Option<Decisions>,
}

struct Judged {
    verdict: Verdict,
    masked: usize,
    /// The line as it is to be written, where it is not the line that was read.
    changed: Option<String>,
}

impl Judged {
    fn compared(&self) -> Option<&Prepared> {
        match &self.verdict {
            Verdict::Compare(prepared) => Some(&**prepared),
            Verdict::Reject(_) => None,
        }
    }
}

enum Verdict {
    Compare(Box<Prepared>),
    Reject(Reason),
}

impl Judge<'_> {
    fn judge(&self, content: &Content) -> Judged {
        let mut row = match content.fields() {
            Ok(row) => row,
            Err(what) => {
                let verdict = Verdict::Reject(Reason::new(rule::UNREADABLE, what));
                return Judged { verdict, masked: 0, changed: None };
            }
        };
        let applied = self.decisions.as_ref().map_or(Applied::Undecided, |decisions| decisions.apply(&mut row));
        if let Applied::Rejected(comment) = applied {
            let verdict = Verdict::Reject(Reason::new(rule::REVIEW, comment));
            return Judged { verdict, masked: 0, changed: None };
        }
        let masked = self.filters.mask(&mut row);
        let decoding = || Meta::of(&row).steps.iter().find_map(|note| self.filters.check_decoding(note));
        let verdict = match decoding().or_else(|| first_reason(&self.chain, &row)) {
            Some(reason) => Verdict::Reject(reason),
            None => Verdict::Compare(Box::new(self.prepare(&row))),
        };
        let changed = (masked > 0 || applied == Applied::Edited).then(|| Value::Object(row).to_string());
        Judged { verdict, masked, changed }
    }

    fn prepare(&self, row: &Map<String, Value>) -> Prepared {
        let family = self.task.lineage.as_ref().map(|field| text(row, field));
        let family = family.as_deref().filter(|family| !family.is_empty());
        self.preparer.prepare(Candidate { fields: row, family })
    }
}

/// Where rows go, and what is counted of them.
struct Sink {
    output: WholeFile,
    rejects: Option<WholeFile>,
    summary: Summary,
    input: PathBuf,
    strict: bool,
}

impl Sink {
    fn create(task: &Task) -> Result<Self> {
        Ok(Self {
            output: WholeFile::create_new(&task.output, task.force)?,
            rejects: task.rejects.as_deref().map(|path| WholeFile::create_new(path, task.force)).transpose()?,
            summary: Summary::default(),
            input: task.input.clone(),
            strict: task.strict,
        })
    }

    fn put(&mut self, row: &Row, masked: usize, changed: Option<&str>, verdict: Option<Reason>) -> Result<()> {
        self.summary.rows += 1;
        let bytes = changed.map_or_else(|| row.content.line(), |changed| changed.as_bytes().into());
        let bytes = bytes.as_ref();
        let Some(reason) = verdict else {
            self.summary.kept += 1;
            self.summary.masked += masked as u64;
            self.output.append(bytes)?;
            return self.output.append(b"\n");
        };
        if reason.rule == rule::UNREADABLE {
            if self.strict {
                let what = format!("line {}: {}", row.place, row.told(reason.detail));
                return Err(Error::input(
                    &self.input,
                    what,
                    Remedy::from("mend the line, or leave ").name(setting::STRICT).and(" out to count it as a reject"),
                ));
            }
            if self.summary.bad_lines.len() < BAD_LINES_LISTED {
                self.summary.bad_lines.push((row.place, row.told(reason.detail.clone())));
            }
        }
        *self.summary.rejected.entry(reason.rule).or_default() += 1;
        if let Some(rejects) = &mut self.rejects {
            rejects.append(reject_line(bytes, row.place, &reason).as_bytes())?;
            rejects.append(b"\n")?;
        }
        Ok(())
    }

    fn progress(&self, bytes: u64, of: u64) -> Progress {
        let Summary { rows, kept, .. } = self.summary;
        Progress { bytes, of, kept, rejected: rows - kept }
    }

    fn finish(self) -> Result<Summary> {
        self.output.finish()?;
        self.rejects.map_or(Ok(()), WholeFile::finish)?;
        Ok(self.summary)
    }
}

/// The row with its reason under `meta`; a line that is not a row becomes its text.
fn reject_line(bytes: &[u8], number: u64, reason: &Reason) -> String {
    let note = json!({"rule": reason.rule, "detail": reason.detail, "line": number});
    let mut row = parse(bytes).unwrap_or_else(|_| {
        let shown = &bytes[..bytes.len().min(4096)];
        Map::from_iter([("text".to_owned(), Value::from(String::from_utf8_lossy(shown)))])
    });
    match row.get_mut(META) {
        Some(Value::Object(meta)) => {
            meta.insert("reason".into(), note);
        }
        _ => {
            row.insert(META.into(), json!({ "reason": note }));
        }
    }
    Value::Object(row).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::near::Near;
    use crate::filter::pii::{Action, Pii};

    struct Run {
        summary: Summary,
        output: String,
        rejects: Vec<Value>,
    }

    fn run(input: impl AsRef<[u8]>, filters: &Filters, change: impl FnOnce(&mut Task)) -> Result<Run> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("in"), input).expect("written");
        let mut task = Task { input: at("in"), output: at("out"), rejects: Some(at("rejects")), ..Task::default() };
        change(&mut task);
        let summary = filter(&task, filters, &AtomicBool::new(false), &mut |_| {});
        if summary.is_err() {
            assert!(!at("out").exists(), "a failed run leaves no output");
        }
        let summary = summary?;
        let read = |name| std::fs::read_to_string(at(name)).expect("read");
        let rejects = read("rejects").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        Ok(Run { summary, output: read("out"), rejects })
    }

    fn exact(field: &str) -> Filters {
        Filters { distinct: Some(field.into()), ..Filters::default() }
    }

    #[test]
    fn rows_that_stay_are_written_byte_for_byte() {
        let input = "\u{feff}{\"q\": \"One?\",  \"n\": 1.50}\r\n\n{\"q\": \"one\"}\nnot json\n[1]\n{\"q\":\"Two\"}";
        let run = run(input, &exact("q"), |_| {}).expect("filtered");
        assert_eq!(run.output, "{\"q\": \"One?\",  \"n\": 1.50}\n{\"q\":\"Two\"}\n");
        assert_eq!((run.summary.rows, run.summary.kept), (5, 2));
        assert_eq!(run.summary.rejected, BTreeMap::from([("duplicate", 1), ("unreadable", 2)]));
        assert_eq!(run.summary.bad_lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4, 5]);
        let note = |index: usize| run.rejects[index]["meta"]["reason"].clone();
        assert_eq!(note(0), json!({"rule": "duplicate", "detail": "q has the words of row 0", "line": 3}));
        assert_eq!(run.rejects[1]["text"], "not json");
        assert_eq!(note(2)["detail"], "not a JSON object");
    }

    #[test]
    fn bytes_that_are_no_text_are_counted_or_end_a_strict_run() {
        let input = b"{\"q\": \"a\"}\n{\"q\": \"\xff\"}\n";
        let lenient = run(input, &exact("q"), |_| {}).expect("filtered");
        assert_eq!((lenient.summary.kept, lenient.summary.bad_lines.len()), (1, 1));
        let error = run(input, &exact("q"), |task| task.strict = true).err().expect("refused").to_string();
        assert!(error.contains("line 2: not UTF-8"), "{error}");
    }

    #[test]
    fn of_rows_alike_the_best_stays() {
        let rows = [
            "{\"q\":\"a b\",\"s\":{\"v\":1}}",
            "{\"q\":\"A b\",\"s\":{\"v\":3}}",
            "{\"q\":\"c\"}",
            "{\"q\":\"a  b\",\"s\":{\"v\":2}}",
        ];
        let run = run(rows.join("\n"), &exact("q"), |task| task.best_by = Some("s.v".into())).expect("filtered");
        assert_eq!(run.output.lines().collect::<Vec<_>>(), [rows[1], rows[2]]);
        assert_eq!(run.rejects.len(), 2);
    }

    #[test]
    fn seeds_and_lineages_count() {
        let text = "Explain how the tides of the ocean follow the moon in the course of one month";
        let rows = [text.to_owned(), format!("{text} please")].map(|q| json!({"q": q, "of": "x"}).to_string());
        let near = Filters { near: Some(Near::new(vec!["q".into()])), ..Filters::default() };
        assert_eq!(run(rows.join("\n"), &near, |_| {}).expect("filtered").summary.kept, 1);
        let kin = run(rows.join("\n"), &near, |task| task.lineage = Some("of".into())).expect("filtered");
        assert_eq!(kin.summary.kept, 2);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let seeds = folder.path().join("seeds");
        std::fs::write(&seeds, &rows[0]).expect("written");
        let seeded = run(rows.join("\n"), &near, |task| task.seeds = Some(seeds)).expect("filtered");
        assert_eq!(seeded.summary.kept, 0);
        assert!(seeded.rejects[0]["meta"]["reason"]["detail"].as_str().is_some_and(|d| d.ends_with("seed 0")));
    }

    #[test]
    fn masked_rows_are_compared_and_written_masked() {
        let rows = "{\"q\":\"I am jo@mail.de\"}\n{\"q\":\"I am al@mail.de\"}\n";
        let pii = Some(Pii::new(vec!["q".into()], Action::Mask));
        let run = run(rows, &Filters { pii, ..exact("q") }, |_| {}).expect("filtered");
        assert_eq!(run.output, "{\"q\":\"I am [EMAIL]\"}\n");
        assert_eq!((run.summary.masked, run.summary.kept), (1, 1));
    }

    #[test]
    fn long_lines_are_skipped_in_bounded_memory() {
        let long = format!("{{\"q\":\"{}\"}}\n{{\"q\":\"b\"}}\n", "x".repeat(crate::disk::MOST_LINE_BYTES));
        let run = run(long, &exact("q"), |_| {}).expect("filtered");
        assert_eq!((run.summary.rows, run.summary.kept), (2, 1));
        assert!(run.summary.bad_lines[0].1.contains("longer than"));
    }

    #[test]
    fn text_fields_are_found_in_the_first_row() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a");
        std::fs::write(
            &path,
            "\n{\"id\":\"1\",\"q\":\"a\",\"n\":1,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n",
        )
        .expect("written");
        assert_eq!(text_fields(&path).expect("fields"), ["q", "messages"]);
        std::fs::write(&path, "\n").expect("written");
        assert!(text_fields(&path).is_err());
    }
}
