//! Files of lines: appended whole or not at all, and written again over what stands there already.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Remedy, Result, setting};

/// Refuses what stands at `path` if it is no plain file: a link would be followed to where nobody sent the lines, and a
/// pipe would be waited for.
///
/// # Errors
/// When something else stands there.
pub(crate) fn check_plain(path: &Path) -> Result<()> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        let remedy = Remedy::from("remove it, or choose another ").name(setting::OUTPUT);
        return Err(Error::input(path, "is no plain file, and is not written to", remedy));
    }
    Ok(())
}

/// A file that grows by lines; a line that cannot be written whole is taken back.
#[derive(Debug)]
pub(crate) struct AppendedLines {
    path: PathBuf,
    file: File,
    length: u64,
    /// What stands beyond `length`, while it agrees with what is appended.
    standing: Option<BufReader<File>>,
}

impl AppendedLines {
    /// Opens a file that ends after `length` bytes, whatever stands beyond them; makes it when it is not there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn open_at(path: PathBuf, length: u64) -> Result<Self> {
        check_plain(&path)?;
        let fail = |cause| Error::io("write", &path, cause);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        file.set_len(length).map_err(fail)?;
        file.seek(SeekFrom::Start(length)).map_err(fail)?;
        Ok(Self { path, file, length, standing: None })
    }

    /// Opens a file to be written again from its beginning: lines that stand there already are left as they
    /// are, and only from the first difference on is it written.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn open_again(path: PathBuf) -> Result<Self> {
        check_plain(&path)?;
        let fail = |cause| Error::io("write", &path, cause);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail)?;
        let reader = File::open(&path).map_err(fail)?;
        Ok(Self { path, file, length: 0, standing: Some(BufReader::new(reader)) })
    }

    /// Bytes written so far, or found standing.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Appends a line, given without its newline.
    ///
    /// # Errors
    /// When it cannot be written; the file then still ends with a whole line.
    pub(crate) fn append(&mut self, line: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if let Some(standing) = &mut self.standing {
            let mut there = Vec::with_capacity(bytes.len());
            let read = std::io::Read::take(&mut *standing, bytes.len() as u64).read_until(b'\n', &mut there);
            read.map_err(|cause| Error::io("read", &self.path, cause))?;
            if there == bytes {
                self.length += bytes.len() as u64;
                return Ok(());
            }
            self.finish()?;
        }
        // Written on, a file that was cut would have a hole.
        if self.file.metadata().is_ok_and(|held| held.len() < self.length) {
            return Err(self.changed());
        }
        if let Err(cause) = self.file.write_all(&bytes) {
            // Best effort: the error that is reported is the first one.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(Error::io("write", &self.path, cause));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file after what was appended, dropping what stood beyond it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if self.standing.take().is_none() {
            return Ok(());
        }
        let fail = |cause| Error::io("write", &self.path, cause);
        self.file.set_len(self.length).map_err(fail)?;
        self.file.seek(SeekFrom::Start(self.length)).map_err(fail)?;
        Ok(())
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// When the disk refuses, or the file at its path is no longer what was written.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|cause| Error::io("write", &self.path, cause))?;
        let found = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        let held = self.file.metadata().map_or(0, |held| held.len());
        if self.standing.is_none() && (found != self.length || held != self.length) {
            return Err(self.changed());
        }
        Ok(())
    }

    fn changed(&self) -> Error {
        let what = "was removed or changed while the run was writing it";
        let remedy = Remedy::from("add ").name(setting::RESUME).and(" to go on; what is missing is made again");
        Error::input(&self.path, what, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_taken_away_or_cut_is_seen() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.jsonl");
        let mut lines = AppendedLines::open_at(path.clone(), 0).expect("it opens");
        lines.append("a").expect("written");
        lines.sync().expect("as it was written");
        std::fs::write(&path, "").expect("cut");
        assert!(lines.append("b").expect_err("cut").to_string().contains("removed or changed"));
        assert!(lines.sync().expect_err("cut").to_string().contains("removed or changed"));
        let mut lines = AppendedLines::open_again(path.clone()).expect("it opens");
        lines.append("a").expect("written");
        std::fs::remove_file(&path).expect("removed");
        assert!(lines.sync().expect_err("removed").to_string().contains("removed or changed"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "mine\n").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        assert!(AppendedLines::open_at(link.clone(), 0).is_err());
        assert!(AppendedLines::open_again(link).is_err());
        assert_eq!(std::fs::read_to_string(&target).expect("there"), "mine\n");
    }

    #[test]
    fn writing_again_keeps_what_agrees_and_replaces_the_rest() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a.jsonl");
        let write = |old: &str, lines: &[&str]| {
            std::fs::write(&path, old).expect("written");
            let mut again = AppendedLines::open_again(path.clone()).expect("it opens");
            lines.iter().for_each(|line| again.append(line).expect("written"));
            again.finish().expect("ended");
            std::fs::read_to_string(&path).expect("text")
        };
        assert_eq!(write("", &["a", "b"]), "a\nb\n");
        assert_eq!(write("a\nb\n", &["a", "b", "c"]), "a\nb\nc\n");
        assert_eq!(write("a\nb\nc\n", &["a", "x"]), "a\nx\n");
        assert_eq!(write("a\nbcd", &["a", "b"]), "a\nb\n");
        assert_eq!(write("a\nb\n", &["a"]), "a\n");
        assert_eq!(write("ab\n", &["a"]), "a\n");
    }
}
