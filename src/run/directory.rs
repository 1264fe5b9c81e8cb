//! The files of a run, written so that every line in them is whole.
//!
//! `run.lock.json` (the resolved plan), `records.jsonl` (accepted rows, in row order) and
//! `rejects.jsonl` (turned-down attempts with their reasons). An OS lock keeps two processes apart.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use super::plan::Plan;
use crate::error::{Error, Result};

/// An open run directory.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    records: Lines,
    rejects: Lines,
    /// The directory was not there before.
    made: bool,
    /// Held for as long as the run is open.
    _lock: File,
}

impl RunDirectory {
    /// Makes a new run at `path`, with the plan in it.
    ///
    /// # Errors
    /// When there is a run already, another process has it open, or the place cannot be written.
    pub fn create(path: &Path, plan: &Plan) -> Result<Self> {
        let made = !path.exists();
        std::fs::create_dir_all(path).map_err(|cause| Error::io("create", path, cause))?;
        let lock_path = path.join(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|cause| Error::io("create", &lock_path, cause))?;
        if lock.try_lock().is_err() {
            return Err(Error::input(path, "another process is writing this run", "wait for it, or choose another -o"));
        }
        if path.join("run.lock.json").exists() || path.join("records.jsonl").exists() {
            return Err(Error::input(path, "there is a run in this directory already", "choose another -o"));
        }
        let plan = serde_json::to_string_pretty(plan).expect("a plan is plain data") + "\n";
        let begin = || {
            write_atomically(&path.join("run.lock.json"), plan.as_bytes())?;
            Ok((Lines::create(path.join("records.jsonl"))?, Lines::create(path.join("rejects.jsonl"))?))
        };
        let (records, rejects) = begin().inspect_err(|_: &Error| clear(path, made))?;
        Ok(Self { records, rejects, path: path.to_owned(), made, _lock: lock })
    }

    /// The first of `base-001`, `base-002`, … that does not exist.
    pub fn next_free(base: &Path) -> PathBuf {
        let name = base.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let candidates = (1u32..).map(|number| base.with_file_name(format!("{name}-{number:03}")));
        candidates.into_iter().find(|path| !path.exists()).expect("numbers do not run out")
    }

    /// Where the run lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a run without a single line back, so that its place is free again.
    pub fn discard_when_empty(self) {
        if self.records.length > 0 || self.rejects.length > 0 {
            return;
        }
        clear(&self.path, self.made);
    }

    /// Appends an accepted row.
    ///
    /// # Errors
    /// When it cannot be written; the file then still ends with a whole line.
    pub fn record(&mut self, line: &str) -> Result<()> {
        self.records.append(line)
    }

    /// Appends a turned-down attempt.
    ///
    /// # Errors
    /// As [`RunDirectory::record`].
    pub fn reject(&mut self, line: &str) -> Result<()> {
        self.rejects.append(line)
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<()> {
        self.records.sync()?;
        self.rejects.sync()
    }
}

/// Removes the files of a run that has not begun, and its directory if the run made it.
fn clear(path: &Path, made: bool) {
    // Best effort: what led here is the error that is reported.
    for name in ["records.jsonl", "rejects.jsonl", "run.lock.json", ".lock"] {
        let _ = std::fs::remove_file(path.join(name));
    }
    if made {
        let _ = std::fs::remove_dir(path);
    }
}

/// A file of lines; a line that cannot be written whole is taken back.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Lines {
    fn create(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().create_new(true).write(true).open(&path);
        let file = file.map_err(|cause| Error::io("create", &path, cause))?;
        Ok(Self { path, file, length: 0 })
    }

    fn append(&mut self, line: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if let Err(cause) = self.file.write_all(&bytes) {
            // Best effort: the error that is reported is the first one.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(std::io::SeekFrom::Start(self.length));
            return Err(Error::io("write", &self.path, cause));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|cause| Error::io("write", &self.path, cause))
    }
}

/// Writes a whole file or nothing: temporary file, fsync, rename.
///
/// # Errors
/// When a step fails; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fail = |cause| Error::io("write", path, cause);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|cause| fail(cause.error))?;
    Ok(())
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

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.json");
        write_atomically(&path, b"one").expect("written");
        write_atomically(&path, b"two").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);
    }
}
