//! No row may hold an item of the benchmarks that a trained model will be measured on.
//!
//! A row holds an item when more than half of the item's 8-grams of words stand in it; an item of fewer
//! than eight words must be a field's whole text. Memory grows with the benchmarks (about 16 bytes a
//! word), not with the rows.

use std::path::{Path, PathBuf};

use rustc_hash::{FxHashMap, FxHashSet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::{hash_run, text, text_of, word_hashes};
use super::{FieldRead, Problem, Reason, Rule};
use crate::container::Rows;
use crate::error::{Error, Result};

/// Most bytes of one benchmark file.
const MOST_BYTES: u64 = 1 << 30;

/// The rule, as a recipe names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decontaminate {
    /// Fields of a row that are searched.
    pub fields: Vec<String>,
    /// Benchmark files: JSON Lines (an object or text a line), a JSON list of these, a table, Parquet, Arrow, or
    /// plain text (`.txt`) with an item a line.
    pub files: Vec<PathBuf>,
    /// Fields of an item; none for every text field of it, each an item of its own.
    #[serde(default)]
    pub item_fields: Vec<String>,
    /// Words in a run.
    #[serde(default = "default_ngram")]
    pub ngram: usize,
    /// Share of an item's runs above which a row holds it.
    #[serde(default = "default_coverage")]
    pub coverage: f64,
}

fn default_ngram() -> usize {
    8
}

fn default_coverage() -> f64 {
    0.5
}

impl Rule for Decontaminate {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("/fields", &self.fields).collect()
    }

    fn problem(&self) -> Option<Problem> {
        Problem::empty("/fields", &self.fields)
            .or_else(|| Problem::share("/coverage", self.coverage))
            .or_else(|| (self.ngram == 0).then(|| Problem::new("/ngram", "is 0")))
            .or_else(|| Problem::empty("/files", &self.files))
    }
}

impl Decontaminate {
    /// The rule with the usual bounds.
    pub fn new(fields: Vec<String>, files: Vec<PathBuf>) -> Self {
        Self { fields, files, item_fields: Vec::new(), ngram: default_ngram(), coverage: default_coverage() }
    }
}

/// The items of benchmark files, by their runs of words.
pub(crate) struct Benchmarks {
    rule: Decontaminate,
    /// Hash of a run → items that hold it.
    runs: FxHashMap<u64, Vec<u32>>,
    /// Hash of all the words of a short item → the item.
    short: FxHashMap<u64, u32>,
    items: Vec<Item>,
}

struct Item {
    file: u32,
    line: u32,
    /// Different runs of it.
    runs: u32,
}

impl Benchmarks {
    /// Reads the files of `rule`.
    ///
    /// # Errors
    /// When a file cannot be read, is not of a known form, or holds no item.
    pub(crate) fn read(rule: &Decontaminate) -> Result<Self> {
        let mut benchmarks =
            Self { rule: rule.clone(), runs: FxHashMap::default(), short: FxHashMap::default(), items: Vec::new() };
        for (file, path) in (0..).zip(&rule.files) {
            let before = benchmarks.items.len();
            for (line, item) in items(path, &rule.item_fields)? {
                benchmarks.add(file, line, &item);
            }
            if benchmarks.items.len() == before {
                return Err(Error::input(path, "there is no item to compare with", "check the file, or `item_fields`"));
            }
        }
        Ok(benchmarks)
    }

    fn add(&mut self, file: u32, line: u32, item: &str) {
        let words = word_hashes(item);
        if words.is_empty() {
            return;
        }
        let index = self.items.len() as u32;
        let mut runs = 0;
        if words.len() < self.rule.ngram {
            self.short.entry(hash_run(&words)).or_insert(index);
        } else {
            for run in words.windows(self.rule.ngram) {
                let holders = self.runs.entry(hash_run(run)).or_default();
                if holders.last() != Some(&index) {
                    holders.push(index);
                    runs += 1;
                }
            }
        }
        self.items.push(Item { file, line, runs });
    }

    /// The reason to turn `row` down, if it holds an item.
    pub(crate) fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let mut met: FxHashMap<u32, u32> = FxHashMap::default();
        let mut seen: FxHashSet<u64> = FxHashSet::default();
        for field in &self.rule.fields {
            let words = word_hashes(&text(row, field));
            if words.len() < self.rule.ngram
                && let Some(item) = self.short.get(&hash_run(&words))
            {
                return Some(self.reason(*item, &format!("{field} is")));
            }
            for run in words.windows(self.rule.ngram) {
                let run = hash_run(run);
                if let Some(holders) = self.runs.get(&run)
                    && seen.insert(run)
                {
                    holders.iter().for_each(|item| *met.entry(*item).or_default() += 1);
                }
            }
        }
        let share = |item: &u32, count: u32| f64::from(count) / f64::from(self.items[*item as usize].runs);
        let held = met.iter().filter(|(item, count)| share(item, **count) > self.rule.coverage);
        let (item, count) = held.min_by_key(|(item, _)| **item)?;
        Some(self.reason(*item, &format!("the row holds {:.0} % of", share(item, *count) * 100.0)))
    }

    fn reason(&self, item: u32, how: &str) -> Reason {
        let item = &self.items[item as usize];
        let file = self.rule.files[item.file as usize].display();
        Reason::new("contaminated", format!("{how} the item at {file}:{}", item.line))
    }
}

/// The items of a file with their line numbers (where rows are no lines, their places from 1).
fn items(path: &Path, fields: &[String]) -> Result<Vec<(u32, String)>> {
    let size = std::fs::metadata(path).map_err(|cause| Error::io("read", path, cause))?.len();
    if size > MOST_BYTES {
        return Err(Error::input(path, "over 1 GiB is too much for a benchmark file", "split it"));
    }
    let mut found = Vec::new();
    if path.extension().is_some_and(|extension| extension == "txt") {
        let bytes = std::fs::read(path).map_err(|cause| Error::io("read", path, cause))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = (1..).zip(text.trim_start_matches('\u{feff}').lines()).filter(|(_, line)| !line.trim().is_empty());
        return Ok(lines.map(|(number, line)| (number, line.to_owned())).collect());
    }
    let mut rows = Rows::open(path)?;
    while let Some(row) = rows.next()? {
        let value = row.content.value().map_err(|what| {
            let what = format!("line {} is {}", row.place, row.told(what));
            Error::input(path, what, "give rows or texts as JSON, a table, or plain text in a file that ends in .txt")
        })?;
        item_texts(&value, fields, row.place as u32, &mut found);
    }
    Ok(found)
}

fn item_texts(value: &Value, fields: &[String], line: u32, found: &mut Vec<(u32, String)>) {
    match value {
        Value::String(text) => found.push((line, text.clone())),
        Value::Object(item) if fields.is_empty() => {
            found.extend(item.values().filter_map(|value| Some((line, text_of(value, None)?.into_owned()))));
        }
        Value::Object(item) => {
            found.extend(fields.iter().map(|field| (line, text(item, field).into_owned())));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(benchmarks: &Benchmarks, text: &str) -> Option<String> {
        let row = serde_json::json!({ "a": text });
        benchmarks.check(row.as_object().expect("an object")).map(|reason| reason.detail)
    }

    fn benchmarks(name: &str, content: &str, item_fields: &[&str]) -> Result<Benchmarks> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        let mut rule = Decontaminate::new(vec!["a".into()], vec![path]);
        rule.item_fields = item_fields.iter().map(|&field| field.to_owned()).collect();
        Benchmarks::read(&rule)
    }

    const ITEM: &str = "Natalia sold clips to forty eight of her friends in April and then half as many in May.";

    #[test]
    fn more_than_half_of_an_item_is_too_much() {
        let lines = format!("{{\"question\": \"{ITEM}\", \"answer\": \"Seventy two\"}}\n\"Name a colour.\"\n");
        let benchmarks = benchmarks("test.jsonl", &lines, &[]).expect("readable");
        let words: Vec<&str> = ITEM.split(' ').collect();
        // 18 words are 11 runs of eight; 13 words hold 6 of them, 12 words 5.
        assert_eq!(words.len(), 18);
        let held = check(&benchmarks, &format!("Solve: {}!", words[..13].join(" "))).expect("contaminated");
        assert!(held.starts_with("the row holds 55 % of the item at ") && held.ends_with("test.jsonl:1"), "{held}");
        assert_eq!(check(&benchmarks, &words[..12].join(" ")), None);
        // Short items count as whole texts only.
        assert!(check(&benchmarks, "seventy-two").is_some_and(|detail| detail.starts_with("a is the item")));
        assert!(check(&benchmarks, "Name a colour").is_some_and(|detail| detail.ends_with(":2")));
        assert_eq!(check(&benchmarks, "Name a colour of the rainbow."), None);
    }

    #[test]
    fn lists_texts_and_chosen_fields_are_read() {
        let list = format!("\u{feff}[{{\"q\": \"{ITEM}\", \"a\": \"short answer\"}}]");
        assert!(check(&benchmarks("a.json", &list, &["q"]).expect("readable"), ITEM).is_some());
        assert!(check(&benchmarks("a.json", &list, &["q"]).expect("readable"), "short answer").is_none());
        assert!(check(&benchmarks("a.txt", &format!("one\n{ITEM}\n"), &[]).expect("readable"), ITEM).is_some());
        let error = |name, content, fields: &[&str]| match benchmarks(name, content, fields) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(error("a.jsonl", "{\"q\": \"x\"}\nnot json\n", &[]).contains("line 2 is not JSON"));
        assert!(error("a.jsonl", "", &[]).contains("no item"));
        assert!(error("a.jsonl", "{\"q\": \"x\"}", &["question"]).contains("no item"));
    }
}
