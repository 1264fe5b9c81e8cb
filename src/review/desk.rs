//! The decisions on one run or file of rows while a person works on them: what waits, what is decided, what is written.

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
use crate::row::{Applied, Decision, Decisions, RunFiles, Tally, Verdict, fields_of, hash_of, key_of, parse};
use crate::validator::Validator;

/// Rows open for review.
pub(crate) struct Desk {
    /// The rows: a file of JSON Lines.
    rows: PathBuf,
    /// Rows that wait, to be filled in.
    queue: PathBuf,
    /// Where decisions stand.
    file: PathBuf,
    decisions: Decisions,
    /// How much of the file of decisions is whole lines.
    length: u64,
    /// Open from the first decision on.
    written: Option<AppendedLines>,
    validator: Option<Validator>,
    /// Edits are taken whatever the schema says.
    force: bool,
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
    /// Edits that were taken though they break a bound of the schema: identifier of the row, and which.
    pub beyond_bounds: Vec<(String, String)>,
}

/// What stands against edited fields.
pub(crate) enum Against {
    /// They are of another kind than the schema asks for.
    Schema(String),
    /// They are shorter or longer than it asks for, or of another pattern: a person may say so.
    Bounds(String),
}

impl Desk {
    /// Opens the run at `path`, or a file of JSON Lines; the queue and the decisions lie in the directory `place`, beside
    /// the rows when there is none. With `force`, edits are taken whatever the schema says.
    ///
    /// # Errors
    /// When there are no rows, the decisions cannot be read, or another process reviews them.
    pub(crate) fn open(path: &Path, place: Option<&Path>, force: bool) -> Result<Self> {
        let run = path.is_dir().then(|| RunFiles::of(path));
        let rows = run.as_ref().map_or(path, |run| &run.records).to_owned();
        if !rows.is_file() {
            let what = if path.is_dir() { "there is no records.jsonl in this directory" } else { "is not there" };
            return Err(Error::input(path, what, "give a run directory, or a file of JSON Lines"));
        }
        let (queue, file, lock_file) = match &run {
            Some(run) => (run.review.clone(), run.decisions.clone(), run.review_lock.clone()),
            None => (
                RunFiles::named(&rows, "", ".review.jsonl"),
                RunFiles::decisions_on(&rows),
                RunFiles::named(&rows, ".", ".review.lock"),
            ),
        };
        let placed = |file: PathBuf| match place {
            Some(place) => place.join(file.file_name().unwrap_or_default()),
            None => file,
        };
        if let Some(place) = place {
            std::fs::create_dir_all(place).map_err(|cause| Error::io("create", place, cause))?;
        }
        let lock = lock(path, &placed(lock_file))?;
        let file = placed(file);
        let (decisions, length) = Decisions::load(&file)?;
        let plan = run.filter(|run| run.plan.exists()).map(|_| Plan::read(path)).transpose()?;
        let validator = plan.map(|plan| Validator::new(&plan.schema)).transpose()?;
        Ok(Self { rows, queue: placed(queue), file, decisions, length, written: None, validator, force, _lock: lock })
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
    pub(crate) fn undecided(&self) -> Result<Vec<u64>> {
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

    /// The row that lies at `offset` of its file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn row(&self, offset: u64) -> Result<Waiting> {
        let line = Lines::open(&self.rows)?.at(offset)?;
        let row = parse(&line).map_err(|what| Error::input(&self.rows, what, "resume the run"))?;
        let fields = fields_of(&row);
        Ok(Waiting {
            id: key_of(&row),
            decision: None,
            comment: String::new(),
            why: urgency(&row).why,
            hash: hash_of(&fields),
            fields,
        })
    }

    /// What was decided on a row.
    pub(crate) fn decided(&self, row: &Waiting) -> Option<&Decision> {
        self.decisions.get(&row.id).filter(|decision| decision.hash == row.hash)
    }

    /// Writes `review.jsonl`: at most `most` undecided rows. Returns where it lies and how many rows it has.
    ///
    /// # Errors
    /// When the file that stands there holds decisions which were not applied, or it cannot be written.
    pub(crate) fn write_queue(&mut self, most: usize) -> Result<(PathBuf, usize)> {
        self.keep_what_was_filled_in()?;
        let mut offsets = self.undecided()?;
        offsets.truncate(most);
        let mut file = WholeFile::create(&self.queue)?;
        for offset in &offsets {
            let waiting = self.row(*offset)?;
            file.append((serde_json::to_string(&waiting).expect("a row is plain data") + "\n").as_bytes())?;
        }
        file.finish()?;
        Ok((self.queue.clone(), offsets.len()))
    }

    /// Refuses to write over decisions that nobody has applied yet.
    fn keep_what_was_filled_in(&self) -> Result<()> {
        if !self.queue.exists() {
            return Ok(());
        }
        let mut bad = BadLines::default();
        let found = filled::read(&self.queue, &mut bad)?;
        let remedy = Remedy::from("take them with ").name(setting::APPLY).and(", or remove the file");
        if bad.check(&self.queue).is_err() {
            return Err(Error::input(&self.queue, "holds lines that were changed and not applied", remedy));
        }
        let open = found.decisions.iter().filter(|(_, decision)| self.decisions.get(&decision.id) != Some(decision));
        match open.count() {
            0 => Ok(()),
            count => Err(Error::input(&self.queue, format!("holds {count} decisions that were not applied"), remedy)),
        }
    }

    /// Takes the decisions of a filled-in file, `review.jsonl` when none is named: all of them, or none when
    /// a line is bad. A decision on a row that has changed since, or is gone, is told and not taken.
    ///
    /// # Errors
    /// When a line is bad, with its number, or a file cannot be read or written.
    pub(crate) fn apply(&mut self, file: Option<&Path>) -> Result<Taken> {
        let path = file.unwrap_or(&self.queue).to_owned();
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
            let Some((line, decision)) = by_row.remove(key_of(&row).as_str()) else { return Ok(()) };
            let fields = fields_of(&row);
            let against = |decision: &Decision| self.against(&fields, decision.fields.as_ref()?);
            if hash_of(&fields) != decision.hash {
                taken.not_taken.push((decision.id.clone(), "the row has changed since".into()));
            } else if let Some(Against::Schema(what)) = against(decision) {
                bad.add(*line, what);
            } else if decisions.get(&decision.id) == Some(decision) {
                taken.known += 1;
            } else {
                if let Some(Against::Bounds(what)) = against(decision) {
                    taken.beyond_bounds.push((decision.id.clone(), what));
                }
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

    /// What stands against edited fields of a row, where the run's schema does not turn down its own fields as well.
    pub(crate) fn against(&self, fields: &Map<String, Value>, edited: &Map<String, Value>) -> Option<Against> {
        let validator = self.validator.as_ref()?;
        let violations = |fields: &Map<String, Value>| validator.violations(&Value::Object(fields.clone()));
        let found = violations(edited);
        let worst = found.iter().find(|violation| !violation.is_of_bounds()).or(found.first())?;
        if !violations(fields).is_empty() {
            return None;
        }
        let at = if worst.pointer.is_empty() { "the row" } else { &worst.pointer };
        Some(if worst.is_of_bounds() || self.force {
            Against::Bounds(format!("the edited fields go beyond the run's schema: {at}: {}", worst.what))
        } else {
            Against::Schema(format!("the edited fields break the run's schema: {at}: {}", worst.what))
        })
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
            none => none.insert(AppendedLines::open_at(self.file.clone(), self.length)?),
        };
        written.append(&serde_json::to_string(&decision).expect("a decision is plain data"))?;
        written.sync()?;
        self.length = written.length();
        self.decisions.insert(decision);
        Ok(())
    }

    /// Takes the decision on a row back.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn withdraw(&mut self, id: &str) -> Result<()> {
        let mut decisions = self.decisions.clone();
        decisions.remove(id);
        self.replace(decisions)
    }

    /// Writes all decisions anew: all of them appear at once.
    fn replace(&mut self, decisions: Decisions) -> Result<()> {
        let length = decisions.write(&self.file)?;
        (self.written, self.length, self.decisions) = (None, length, decisions);
        Ok(())
    }

    /// Gives each row of the run with its place in the file.
    fn each_row(&self, on_row: &mut dyn FnMut(u64, Map<String, Value>) -> Result<()>) -> Result<()> {
        let path = &self.rows;
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.one().map_err(|cause| Error::io("read", path, cause))? {
            let row = parse(&line.bytes).map_err(|what| {
                let remedy = "resume the run to restore it; other files need be JSON Lines, as `instil export --format \
                              jsonl` writes them";
                Error::input(path, format!("line {}: {what}", line.number), remedy)
            })?;
            on_row(line.offset, row)?;
        }
        Ok(())
    }
}

fn lock(run: &Path, path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            let remedy = Remedy::from("say where decisions are to go, with ").name(setting::OUTPUT).and(" DIR");
            Error::input(run, format!("nothing can be written beside these rows ({cause})"), remedy)
        }
        _ => Error::io("create", path, cause),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::input(run, "another process is reviewing these rows", "finish there first"))
        }
        Err(TryLockError::Error(cause)) => Err(Error::io("lock", path, cause)),
    }
}
