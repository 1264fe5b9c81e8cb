//! Decisions as they stand in `decisions.jsonl`, and what they make of a row.
//!
//! `records.jsonl` follows from the plan and is written again by every resumed run, so a person's word is never
//! written into it. It stands beside it and is laid over the rows by whoever reads them: [`Decisions::apply`]. A
//! decision holds for the fields that the person saw; when a row has other fields since, it counts as undecided.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ID, META, RunFiles, fields_of, hash_of, id_of, key_of, parse};
use crate::disk::{Lines, WholeFile};
use crate::error::{Error, Result};

/// What a person said of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is good as it stands.
    Accept,
    /// It is good with other fields.
    Edit,
    /// It has to go.
    Reject,
}

/// A line of `decisions.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// The row's identifier.
    pub id: String,
    /// What was said.
    pub decision: Verdict,
    /// What the fields were that it was said of, as a hash.
    pub hash: String,
    /// Why; empty when nothing was added.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The fields of an edited row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Map<String, Value>>,
}

impl Decision {
    /// Whether `other` makes the same of the row, whatever the comments.
    fn says(&self, other: &Self) -> bool {
        (self.decision, &self.fields) == (other.decision, &other.fields)
    }
}

/// What became of a row under the decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Nobody has decided on it.
    Undecided,
    /// Somebody has, but on other fields than it has now.
    Changed,
    /// It was accepted as it stands.
    Accepted,
    /// Its fields were replaced by the edited ones.
    Edited,
    /// It was rejected, with what the person added.
    Rejected(String),
}

/// How many rows were decided, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Rows accepted as they stand.
    pub accepted: u64,
    /// Rows kept with other fields.
    pub edited: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Rows that nobody has decided on.
    pub undecided: u64,
    /// Rows that have other fields than those decided on; undecided too.
    pub changed: u64,
}

impl Tally {
    /// Counts a row.
    pub(crate) fn add(&mut self, applied: &Applied) {
        match applied {
            Applied::Accepted => self.accepted += 1,
            Applied::Edited => self.edited += 1,
            Applied::Rejected(_) => self.rejected += 1,
            Applied::Undecided => self.undecided += 1,
            Applied::Changed => {
                self.undecided += 1;
                self.changed += 1;
            }
        }
    }

    /// Rows that were decided.
    pub(crate) fn decided(&self) -> u64 {
        self.accepted + self.edited + self.rejected
    }

    /// One line for people.
    pub fn told(&self) -> String {
        let (decided, all) = (self.decided(), self.decided() + self.undecided);
        let share = decided as f64 / all.max(1) as f64 * 100.0;
        let Self { accepted, edited, rejected, changed, .. } = self;
        let stale = if *changed > 0 { format!("; {changed} have changed since") } else { String::new() };
        format!(
            "{decided} of {all} rows reviewed ({share:.0} %): {accepted} accepted, {edited} edited, {rejected} rejected{stale}"
        )
    }
}

/// The decisions of a run: the last one of each row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    by_row: BTreeMap<String, Decision>,
}

impl Decisions {
    /// The decisions that hold for a file of rows: those beside it.
    ///
    /// # Errors
    /// As [`Decisions::load`].
    pub(crate) fn beside(records: &Path) -> Result<Option<Self>> {
        let path = RunFiles::decisions_on(records);
        if path.exists() { Ok(Some(Self::load(&path)?.0)) } else { Ok(None) }
    }

    /// Reads a file of decisions, none when there is none; and the length of its whole lines, in bytes.
    /// A last line that was cut short is as if it had not been written.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no decision.
    pub(crate) fn load(path: &Path) -> Result<(Self, u64)> {
        let mut decisions = Self::default();
        if !path.exists() {
            return Ok((decisions, 0));
        }
        let is_whole = ends_with_a_line(path).map_err(|cause| Error::io("read", path, cause))?;
        let mut lines = Lines::open(path)?;
        let (mut line, mut whole) = (Vec::new(), 0);
        while let Some(number) = lines.next(&mut line)? {
            if lines.bytes_read() == lines.size() && !is_whole {
                break;
            }
            whole = lines.bytes_read();
            let decision = serde_json::from_slice(&line).map_err(|cause| {
                let what = format!("line {number}: not a decision: {cause}");
                Error::input(path, what, "restore the file, or remove the line")
            })?;
            decisions.insert(decision);
        }
        Ok((decisions, whole))
    }

    /// The decisions of several directories that hold rows of one run, each behind those of the directories before
    /// it. Where directories hold different rows under one identifier, both decisions are there.
    ///
    /// # Errors
    /// When a file cannot be read, or people decided differently on the same fields of the same row.
    pub(crate) fn gather(directories: &[PathBuf]) -> Result<Vec<Decision>> {
        let mut gathered: Vec<Decision> = Vec::new();
        let mut known: BTreeMap<(String, String), (usize, &Path)> = BTreeMap::new();
        for directory in directories {
            let path = RunFiles::of(directory).decisions;
            for decision in Self::load(&path)?.0.by_row.into_values() {
                let key = (decision.id.clone(), decision.hash.clone());
                match known.get(&key) {
                    None => {
                        known.insert(key, (gathered.len(), directory));
                        gathered.push(decision);
                    }
                    Some(&(at, _)) if gathered[at].says(&decision) => {}
                    Some((_, other)) => {
                        let what = format!("row {} was decided on differently in {}", decision.id, other.display());
                        return Err(Error::input(&path, what, "remove the line of one of them"));
                    }
                }
            }
        }
        Ok(gathered)
    }

    /// One decision a row out of `gathered`: that on the fields which the row has in `records`, else the last one.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub(crate) fn settle(gathered: Vec<Decision>, records: &Path) -> Result<Self> {
        let mut hashes: BTreeMap<String, String> = BTreeMap::new();
        let mut lines = Lines::open(records)?;
        let mut line = Vec::new();
        while lines.next(&mut line)?.is_some() {
            if let Ok(row) = parse(&line)
                && let Some(id) = id_of(&row)
            {
                hashes.insert(id, hash_of(&fields_of(&row)));
            }
        }
        let (held, others): (Vec<Decision>, Vec<Decision>) =
            gathered.into_iter().partition(|decision| hashes.get(&decision.id) == Some(&decision.hash));
        let mut settled = Self::default();
        others.into_iter().chain(held).for_each(|decision| settled.insert(decision));
        Ok(settled)
    }

    /// Writes all decisions anew to `path`: all of them appear at once. Returns the length of the file in bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(&self, path: &Path) -> Result<u64> {
        let mut file = WholeFile::create(path)?;
        let mut length = 0;
        for decision in self.iter() {
            let line = serde_json::to_string(decision).expect("a decision is plain data") + "\n";
            length += line.len() as u64;
            file.append(line.as_bytes())?;
        }
        file.finish()?;
        Ok(length)
    }

    /// How many rows were decided on.
    pub(crate) fn len(&self) -> usize {
        self.by_row.len()
    }

    /// Takes a decision in place of an earlier one on the same row.
    pub(crate) fn insert(&mut self, decision: Decision) {
        self.by_row.insert(decision.id.clone(), decision);
    }

    /// Takes the decision on a row back.
    pub(crate) fn remove(&mut self, id: &str) {
        self.by_row.remove(id);
    }

    /// The decision on a row.
    pub(crate) fn get(&self, id: &str) -> Option<&Decision> {
        self.by_row.get(id)
    }

    /// Every decision, by row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.by_row.values()
    }

    /// Changes a row into what a person made of it.
    pub(crate) fn apply(&self, row: &mut Map<String, Value>) -> Applied {
        let Some(decision) = self.by_row.get(&key_of(row)) else { return Applied::Undecided };
        if hash_of(&fields_of(row)) != decision.hash {
            return Applied::Changed;
        }
        match decision.decision {
            Verdict::Accept => Applied::Accepted,
            Verdict::Reject => Applied::Rejected(decision.comment.clone()),
            Verdict::Edit => {
                let meta = row.get(META).cloned();
                row.retain(|name, _| name == ID);
                row.extend(decision.fields.clone().unwrap_or_default());
                row.extend(meta.map(|meta| (META.to_owned(), meta)));
                Applied::Edited
            }
        }
    }
}

/// Whether the last line of a file has its end.
fn ends_with_a_line(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn decide(row: &Map<String, Value>, decision: Verdict, fields: Option<Value>) -> Decision {
        Decision {
            id: id_of(row).expect("an id"),
            decision,
            hash: hash_of(&fields_of(row)),
            comment: "dull".into(),
            fields: fields.map(|fields| fields.as_object().expect("an object").clone()),
        }
    }

    #[test]
    fn a_decision_holds_for_the_fields_that_were_seen() {
        let seen = row(json!({"id": "7-000001", "q": "Why?", "a": "So.", "meta": {"row": 1}}));
        let mut decisions = Decisions::default();
        assert_eq!(decisions.apply(&mut seen.clone()), Applied::Undecided);
        decisions.insert(decide(&seen, Verdict::Reject, None));
        assert_eq!(decisions.apply(&mut seen.clone()), Applied::Rejected("dull".into()));
        decisions.insert(decide(&seen, Verdict::Edit, Some(json!({"q": "Why not?", "a": "So."}))));
        let mut edited = seen.clone();
        assert_eq!(decisions.apply(&mut edited), Applied::Edited);
        assert_eq!(Value::Object(edited).to_string(), r#"{"id":"7-000001","q":"Why not?","a":"So.","meta":{"row":1}}"#);
        let mut other = row(json!({"id": "7-000001", "q": "Why?", "a": "Thus.", "meta": {"row": 1}}));
        assert_eq!(decisions.apply(&mut other), Applied::Changed);
        assert_eq!(other["q"], "Why?");
        // Notes about a row are not what a person decides on.
        let mut noted = row(json!({"id": "7-000001", "q": "Why?", "a": "So.", "meta": {"row": 1, "x": 2}}));
        assert_eq!(decisions.apply(&mut noted), Applied::Edited);
    }

    #[test]
    fn decisions_of_several_directories_come_together() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let seen = |text: &str| row(json!({"id": "1-000001", "q": text}));
        let directory = |name: &str, decision: Decision| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).expect("a directory");
            let mut decisions = Decisions::default();
            decisions.insert(decision);
            decisions.write(&RunFiles::of(&path).decisions).expect("written");
            path
        };
        let one = directory("one", decide(&seen("Why?"), Verdict::Accept, None));
        let other = directory("other", decide(&seen("Thus."), Verdict::Reject, None));
        let against = directory("against", decide(&seen("Why?"), Verdict::Reject, None));
        let records = RunFiles::of(folder.path()).records;
        std::fs::write(&records, json!(seen("Why?")).to_string()).expect("written");
        let none = folder.path().join("none");
        for order in [[one.clone(), other.clone(), none.clone()], [other, one.clone(), none]] {
            let gathered = Decisions::gather(&order).expect("they agree");
            assert_eq!(gathered.len(), 2);
            let settled = Decisions::settle(gathered, &records).expect("read");
            assert_eq!((settled.len(), settled.get("1-000001").map(|d| d.decision)), (1, Some(Verdict::Accept)));
        }
        assert_eq!(Decisions::gather(&[one.clone(), one.clone()]).expect("they agree").len(), 1);
        let told = Decisions::gather(&[one, against]).expect_err("they differ").to_string();
        assert!(told.contains("row 1-000001 was decided on differently in") && told.contains("against"), "{told}");
    }

    #[test]
    fn the_last_whole_line_on_a_row_counts() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = RunFiles::of(folder.path()).decisions;
        let line = |verdict| {
            let seen = row(json!({"id": 3, "q": "x"}));
            serde_json::to_string(&decide(&seen, verdict, None)).expect("plain data")
        };
        let text = format!("{}\n{}\n", line(Verdict::Accept), line(Verdict::Reject));
        std::fs::write(&path, format!("{text}{}", &line(Verdict::Accept)[..20])).expect("written");
        let (decisions, length) = Decisions::load(&path).expect("read");
        assert_eq!((decisions.get("3").map(|d| d.decision), length), (Some(Verdict::Reject), text.len() as u64));
        std::fs::write(&path, "{\"id\": 1}\n").expect("written");
        let told = Decisions::load(&path).expect_err("refused").to_string();
        assert!(told.contains("line 1: not a decision"), "{told}");
    }
}
