//! The decisions of one run while a person works on them: what waits, what is decided, what is written.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::filled::{self, BadLines};
use super::queue::{Waiting, urgency};
use crate::disk::{AppendedLines, Lines, WholeFile};
use crate::error::{Error, Remedy, Result, setting};
use crate::plan::Plan;
use crate::row::{Applied, Decision, Decisions, RunFiles, Tally, Verdict, fields_of, hash_of, id_of, parse};
use crate::validator::Validator;

/// A run directory open for review.
pub(crate) struct Desk {
    files: RunFiles,
    decisions: Decisions,
    /// How much of the file of decisions is whole lines.
    length: u64,
    /// Open from the first decision on.
    written: Option<AppendedLines>,
    validator: Option<Validator>,
    /// Held for as long as the desk is open.
    _lock: File,
}

/// What came of applying a filled-in file.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Taken {
    /// Decisions that are new.
    pub new: u64,
    /// Decisions that stood already.
    pub known: u64,
    /// Lines without a decision.
    pub undecided: u64,
    /// Decisions that were not taken: identifier of the row, and why.
    pub not_taken: Vec<(String, String)>,
}

impl Desk {
    /// Opens the run at `run`.
    ///
    /// # Errors
    /// When there is no run, its decisions cannot be read, or another process reviews it.
    pub(crate) fn open(run: &Path) -> Result<Self> {
        let files = RunFiles::of(run);
        if !files.records.is_file() {
            return Err(Error::input(run, "there is no records.jsonl in this directory", "give a run directory"));
        }
        let lock = lock(run, &files.review_lock)?;
        let (decisions, length) = Decisions::load(&files.decisions)?;
        let plan = if files.plan.exists() { Some(Plan::read(run)?) } else { None };
        let validator = plan.map(|plan| Validator::new(&plan.schema)).transpose()?;
        Ok(Self { files, decisions, length, written: None, validator, _lock: lock })
    }

    /// How many rows are decided, and how.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub(crate) fn tally(&self) -> Result<Tally> {
        let mut tally = Tally::default();
        self.each_row(&mut |_, mut row| {
            tally.add(&self.decisions.apply(&mut row));
            Ok(())
        })?;
        Ok(tally)
    }

    /// Where the undecided rows lie in the file, the most urgent first.
    fn undecided(&self) -> Result<Vec<u64>> {
        let mut waiting: Vec<(f64, u64)> = Vec::new();
        self.each_row(&mut |offset, mut row| {
            let urgency = urgency(&row).value;
            if matches!(self.decisions.apply(&mut row), Applied::Undecided | Applied::Changed) {
                waiting.push((urgency, offset));
            }
            Ok(())
        })?;
        waiting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ok(waiting.into_iter().map(|(_, offset)| offset).collect())
    }

    /// Gives the undecided rows to `on_row` until it says that it is enough, the most urgent first; at most
    /// `most` of them. It also gets the place of the row among them, from 1, and their number.
    ///
    /// # Errors
    /// When the rows cannot be read, or `on_row` fails.
    pub(crate) fn each_waiting(
        &mut self,
        most: usize,
        on_row: &mut dyn FnMut(&mut Self, Waiting, (usize, usize)) -> Result<bool>,
    ) -> Result<()> {
        let mut offsets = self.undecided()?;
        offsets.truncate(most);
        let mut lines = Lines::open(&self.files.records)?;
        for (at, offset) in offsets.iter().enumerate() {
            let line = lines.at(*offset)?;
            let row = parse(&line).map_err(|what| Error::input(&self.files.records, what, "resume the run"))?;
            let fields = fields_of(&row);
            let waiting = Waiting {
                id: id_of(&row).unwrap_or_default(),
                decision: None,
                comment: String::new(),
                why: urgency(&row).why,
                hash: hash_of(&fields),
                fields,
            };
            if !on_row(self, waiting, (at + 1, offsets.len()))? {
                break;
            }
        }
        Ok(())
    }

    /// Writes `review.jsonl`: at most `most` undecided rows. Returns where it lies and how many rows it has.
    ///
    /// # Errors
    /// When the file that stands there holds decisions which were not applied, or it cannot be written.
    pub(crate) fn write_queue(&mut self, most: usize) -> Result<(PathBuf, usize)> {
        self.keep_what_was_filled_in()?;
        let (path, mut rows) = (self.files.review.clone(), 0);
        let mut file = WholeFile::create(&path)?;
        self.each_waiting(most, &mut |_, waiting, _| {
            rows += 1;
            file.append((serde_json::to_string(&waiting).expect("a row is plain data") + "\n").as_bytes())?;
            Ok(true)
        })?;
        file.finish()?;
        Ok((path, rows))
    }

    /// Refuses to write over decisions that nobody has applied yet.
    fn keep_what_was_filled_in(&self) -> Result<()> {
        if !self.files.review.exists() {
            return Ok(());
        }
        let mut bad = BadLines::default();
        let found = filled::read(&self.files.review, &mut bad)?;
        let remedy = Remedy::from("take them with ").name(setting::APPLY).and(", or remove the file");
        if bad.check(&self.files.review).is_err() {
            return Err(Error::input(&self.files.review, "holds lines that were changed and not applied", remedy));
        }
        let open = found.decisions.iter().filter(|(_, decision)| self.decisions.get(&decision.id) != Some(decision));
        match open.count() {
            0 => Ok(()),
            count => {
                Err(Error::input(&self.files.review, format!("holds {count} decisions that were not applied"), remedy))
            }
        }
    }

    /// Takes the decisions of a filled-in file, `review.jsonl` when none is named: all of them, or none when
    /// a line is bad. A decision on a row that has changed since, or is gone, is told and not taken.
    ///
    /// # Errors
    /// When a line is bad, with its number, or a file cannot be read or written.
    pub(crate) fn apply(&mut self, file: Option<&Path>) -> Result<Taken> {
        let path = file.unwrap_or(&self.files.review).to_owned();
        if file.is_none() && !path.exists() {
            return Err(Error::input(&path, "is not there", "write it first: instil review DIR"));
        }
        let mut bad = BadLines::default();
        let filled = filled::read(&path, &mut bad)?;
        let mut taken = Taken { undecided: filled.undecided, ..Taken::default() };
        let mut by_row: HashMap<&str, &(u64, Decision)> =
            filled.decisions.iter().map(|entry| (entry.1.id.as_str(), entry)).collect();
        let mut decisions = self.decisions.clone();
        self.each_row(&mut |_, row| {
            let Some((line, decision)) = id_of(&row).and_then(|id| by_row.remove(id.as_str())) else { return Ok(()) };
            let fields = fields_of(&row);
            if hash_of(&fields) != decision.hash {
                taken.not_taken.push((decision.id.clone(), "the row has changed since".into()));
            } else if let Some(what) = decision.fields.as_ref().and_then(|edited| self.breaks_schema(&fields, edited)) {
                bad.add(*line, what);
            } else if decisions.get(&decision.id) == Some(decision) {
                taken.known += 1;
            } else {
                decisions.insert(decision.clone());
                taken.new += 1;
            }
            Ok(())
        })?;
        // In the order of the file that was filled in.
        let gone = filled.decisions.iter().filter(|(_, decision)| by_row.contains_key(decision.id.as_str()));
        taken.not_taken.extend(gone.map(|(_, decision)| (decision.id.clone(), "there is no such row".into())));
        bad.check(&path)?;
        if taken.new > 0 {
            self.replace(decisions)?;
        }
        Ok(taken)
    }

    /// Why edited fields cannot stand for a row: they break the run's schema, and its own fields do not.
    pub(crate) fn breaks_schema(&self, fields: &Map<String, Value>, edited: &Map<String, Value>) -> Option<String> {
        let validator = self.validator.as_ref()?;
        let first =
            |fields: &Map<String, Value>| validator.violations(&Value::Object(fields.clone())).into_iter().next();
        let violation = first(edited)?;
        if first(fields).is_some() {
            return None;
        }
        let at = if violation.pointer.is_empty() { "the row" } else { &violation.pointer };
        Some(format!("the edited fields break the run's schema: {at}: {}", violation.what))
    }

    /// Takes one decision; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn decide(
        &mut self,
        row: &Waiting,
        decision: Verdict,
        comment: &str,
        fields: Option<Map<String, Value>>,
    ) -> Result<()> {
        let comment = comment.trim().to_owned();
        let decision = Decision { id: row.id.clone(), decision, hash: row.hash.clone(), comment, fields };
        let written = match &mut self.written {
            Some(written) => written,
            none => none.insert(AppendedLines::open_at(self.files.decisions.clone(), self.length)?),
        };
        written.append(&serde_json::to_string(&decision).expect("a decision is plain data"))?;
        written.sync()?;
        self.length = written.length();
        self.decisions.insert(decision);
        Ok(())
    }

    /// Writes all decisions anew: all of them appear at once.
    fn replace(&mut self, decisions: Decisions) -> Result<()> {
        let length = decisions.write(&self.files.decisions)?;
        (self.written, self.length, self.decisions) = (None, length, decisions);
        Ok(())
    }

    /// Gives each row of the run with its place in the file.
    fn each_row(&self, on_row: &mut dyn FnMut(u64, Map<String, Value>) -> Result<()>) -> Result<()> {
        let path = &self.files.records;
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.one().map_err(|cause| Error::io("read", path, cause))? {
            let fail = |what: String| {
                Error::input(path, format!("line {}: {what}", line.number), "resume the run to restore it")
            };
            let row = parse(&line.bytes).map_err(fail)?;
            if id_of(&row).is_none() {
                return Err(fail("the row has no id".into()));
            }
            on_row(line.offset, row)?;
        }
        Ok(())
    }
}

fn lock(run: &Path, path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|cause| Error::io("create", path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::input(run, "another process is reviewing this run", "finish there first"))
        }
        Err(TryLockError::Error(cause)) => Err(Error::io("lock", path, cause)),
    }
}
