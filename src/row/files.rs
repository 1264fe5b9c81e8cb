//! The files of a run directory, by name.

use std::path::{Path, PathBuf};

/// Where the files of a run lie; none of them need be there.
#[derive(Clone, Debug)]
pub struct RunFiles {
    /// The resolved plan.
    pub plan: PathBuf,
    /// Attempts as they ended.
    pub ledger: PathBuf,
    /// Accepted rows, in row order.
    pub records: PathBuf,
    /// Attempts turned down, with their reasons.
    pub rejects: PathBuf,
    /// What the clock said of the last session: all else follows from the plan.
    pub throughput: PathBuf,
    /// The last report.
    pub report: PathBuf,
    /// Rows that wait for a person's decision, to be filled in.
    pub review: PathBuf,
    /// What people decided.
    pub decisions: PathBuf,
    /// Locked by the process that writes the run.
    pub lock: PathBuf,
    /// Locked by the process that reviews it.
    pub review_lock: PathBuf,
}

impl RunFiles {
    /// Name of the plan's file.
    pub(crate) const PLAN: &str = "run.lock.json";
    /// Name of the ledger.
    pub(crate) const LEDGER: &str = "ledger.jsonl";
    /// Name of the file of accepted rows.
    pub(crate) const RECORDS: &str = "records.jsonl";
    /// Name of the file of attempts turned down.
    pub(crate) const REJECTS: &str = "rejects.jsonl";
    /// Name of the file of decisions.
    pub(crate) const DECISIONS: &str = "decisions.jsonl";

    /// Those of the run at `directory`.
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            plan: directory.join(Self::PLAN),
            ledger: directory.join(Self::LEDGER),
            records: directory.join(Self::RECORDS),
            rejects: directory.join(Self::REJECTS),
            throughput: directory.join("throughput.json"),
            report: directory.join("report.json"),
            review: directory.join("review.jsonl"),
            decisions: directory.join(Self::DECISIONS),
            lock: directory.join(".lock"),
            review_lock: directory.join(".review.lock"),
        }
    }

    /// Where people's decisions on a file of rows stand: a run's have a name of their own, those on `rows.jsonl` stand in
    /// `rows.jsonl.decisions.jsonl`.
    pub(crate) fn decisions_on(rows: &Path) -> PathBuf {
        match Self::beside(rows) {
            Some(files) => files.decisions,
            None => Self::named(rows, "", ".decisions.jsonl"),
        }
    }

    /// A file beside another one, by its name with something before and behind.
    pub(crate) fn named(path: &Path, before: &str, behind: &str) -> PathBuf {
        let mut name = std::ffi::OsString::from(before);
        name.push(path.file_name().unwrap_or_default());
        name.push(behind);
        path.with_file_name(name)
    }

    /// Those of the run that a file of rows belongs to; `None` unless it is a run's file of accepted rows by its name.
    pub(crate) fn beside(records: &Path) -> Option<Self> {
        let directory = records.parent().filter(|_| records.file_name().is_some_and(|name| name == Self::RECORDS));
        directory.map(Self::of)
    }
}
