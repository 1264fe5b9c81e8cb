//! The files of a run, written so that every line in them is whole.
//!
//! `run.lock.json` (the resolved plan), `ledger.jsonl` (attempts as they end), `records.jsonl` (accepted
//! rows, in row order) and `rejects.jsonl` (turned-down attempts with their reasons). Records and rejects
//! follow from the plan and the ledger. An OS lock keeps two processes apart.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ledger::{Ledger, Recovered};
use crate::disk::{AppendedLines, check_plain, write_whole};
use crate::error::{Error, Remedy, Result, setting};
use crate::plan::Plan;
use crate::row::RunFiles;

/// How often, and how long apart, a lock that another process has is tried.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Differences of two plans that are told.
const MOST_DIFFERENCES: usize = 3;

/// An open run directory.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    ledger: Ledger,
    records: AppendedLines,
    rejects: AppendedLines,
    recovered: Recovered,
    /// The run began with this process.
    is_new: bool,
    /// The directory was not there before.
    made: bool,
    /// No row of it could be made.
    pub(super) is_forsaken: bool,
    /// Held for as long as the run is open.
    _lock: File,
}

impl RunDirectory {
    /// Begins a run of `plan` at `path`; with `resume`, goes on with the one that stands there, if any.
    ///
    /// # Errors
    /// When there is a run already (or, with `resume`, one of another plan or of more rows), another process
    /// has it open, or the place cannot be written.
    pub fn open(path: &Path, plan: &Plan, resume: bool) -> Result<Self> {
        let made = !path.exists();
        std::fs::create_dir_all(path).map_err(|cause| Error::io("create", path, cause))?;
        let lock = lock(path)?;
        let files = RunFiles::of(path);
        let signs = [&files.plan, &files.records, &files.rejects, &files.ledger];
        // A link to nowhere is a sign as well.
        let is_new = signs.into_iter().all(|file| std::fs::symlink_metadata(file).is_err());
        if !is_new {
            if !resume {
                let remedy = Remedy::from("add ").name(setting::RESUME).and(" to go on with it, or choose another ");
                let remedy = remedy.name(setting::OUTPUT);
                return Err(Error::input(path, "there is a run in this directory already", remedy));
            }
            agree(&Plan::read(path)?, plan, path)?;
        }
        let text = serde_json::to_string_pretty(plan).expect("a plan is plain data") + "\n";
        let begin = || {
            write_whole(&files.plan, text.as_bytes())?;
            let (ledger, recovered) = Ledger::open(path, &plan.hash())?;
            let records = AppendedLines::open_again(files.records.clone())?;
            Ok((ledger, recovered, records, AppendedLines::open_again(files.rejects.clone())?))
        };
        let (ledger, recovered, records, rejects) = begin().inspect_err(|_: &Error| {
            if is_new {
                clear(path, made);
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            ledger,
            records,
            rejects,
            recovered,
            is_new,
            made,
            is_forsaken: false,
            _lock: lock,
        })
    }

    /// The first of `base-001`, `base-002`, … that does not exist.
    pub(crate) fn next_free(base: &Path) -> PathBuf {
        let name = base.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let candidates = (1u32..).map(|number| base.with_file_name(format!("{name}-{number:03}")));
        candidates.into_iter().find(|path| !path.exists()).expect("numbers do not run out")
    }

    /// Where the run lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a run back that this process began and that came to nothing, so that its place is free again.
    pub(crate) fn discard_when_empty(self) {
        if self.is_forsaken || self.ledger.attempts().is_empty() {
            self.discard();
        }
    }

    /// Takes a run back that this process began.
    pub(super) fn discard(self) {
        if self.is_new {
            clear(&self.path, self.made);
        }
    }

    /// What the ledger held when the run was opened.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// The attempts so far.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Writes the next accepted row.
    ///
    /// # Errors
    /// When it cannot be written; the file then still ends with a whole line.
    pub(crate) fn record(&mut self, line: &str) -> Result<()> {
        self.records.append(line)
    }

    /// Writes the next turned-down attempt.
    ///
    /// # Errors
    /// As [`RunDirectory::record`].
    pub(crate) fn reject(&mut self, line: &str) -> Result<()> {
        self.rejects.append(line)
    }

    /// Ends the files after what was written in this session, and waits until they are on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.ledger.sync()?;
        for lines in [&mut self.records, &mut self.rejects] {
            lines.finish()?;
            lines.sync()?;
        }
        Ok(())
    }
}

/// Takes the OS lock of a run for as long as the file is open.
///
/// # Errors
/// When another process has it, or the place cannot be written.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = RunFiles::of(path).lock;
    check_plain(&file)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(|cause| Error::io("create", &file, cause))?;
    // A process that is just ending, or was just forked from this one, lets go of the lock in a moment.
    for tried in 0.. {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tried < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::input(
                    path,
                    "another process is writing this run",
                    Remedy::from("wait for it, or choose another ").name(setting::OUTPUT),
                ));
            }
            Err(TryLockError::Error(cause)) => return Err(Error::io("lock", &file, cause)),
        }
    }
    Ok(lock)
}

/// Refuses to go on with a run that was planned otherwise.
fn agree(there: &Plan, wanted: &Plan, path: &Path) -> Result<()> {
    let mut differences = there.but_for_room(wanted).differences(wanted, MOST_DIFFERENCES);
    if there.shard != wanted.shard {
        let name = |plan: &Plan| plan.shard.map_or("none".into(), |shard| format!("{}/{}", shard.index, shard.count));
        differences.push(format!("shard is {}, not {}", name(there), name(wanted)));
    }
    if !differences.is_empty() {
        let what = format!("the run that stands here was planned otherwise: {}", differences.join("; "));
        let remedy = Remedy::from("resume it with its own settings, or choose another ").name(setting::OUTPUT);
        return Err(Error::input(path, what, remedy));
    }
    if wanted.rows < there.rows {
        let what = format!("the run has {} rows, and {} were asked for", there.rows, wanted.rows);
        let remedy = Remedy::from("use ").set(setting::ROWS, there.rows.to_string()).and(" or more");
        return Err(Error::input(path, what, remedy));
    }
    Ok(())
}

/// Removes the files of a run that has not begun, and its directory if the run made it.
fn clear(path: &Path, made: bool) {
    // Best effort: what led here is the error that is reported.
    let files = RunFiles::of(path);
    for file in [files.records, files.rejects, files.ledger, files.plan, files.lock] {
        let _ = std::fs::remove_file(file);
    }
    if made {
        let _ = std::fs::remove_dir(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_the_next_free_directory() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let base = folder.path().join("rows");
        assert!(RunDirectory::next_free(&base).ends_with("rows-001"));
        std::fs::create_dir(folder.path().join("rows-001")).expect("a directory");
        assert!(RunDirectory::next_free(&base).ends_with("rows-002"));
    }
}
