//! Attempts as they end, a line each: what a run has paid for is never paid again.
//!
//! `ledger.jsonl` begins with the plan's hash; every line ends with a checksum of itself. A line that was
//! torn or changed is left out when the ledger is opened, and its attempt is made again: it is a function of
//! the plan. Attempts stand in the order in which they ended; only what is true of a row by itself is kept,
//! so that decisions between rows can be taken again, in row order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::disk::{AppendedLines, check_plain};
use crate::error::{Error, Remedy, Result, setting};
use crate::row::{Attempt, Reason, RunFiles};

/// Longest line that is read; a longer one is no attempt.
const MOST_LINE_BYTES: u64 = 64 << 20;
/// Lines that were appended survive the end of the process at once. The first one appended so long after the last
/// wait for the disk is followed by another wait, as is the end of a run: a crash of the machine loses what came since.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// One attempt at a row, as it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The row.
    pub row: u32,
    /// Which attempt, from 0.
    pub number: u16,
    /// What was decoded.
    pub attempt: Attempt,
    /// Why the rules about single rows turned it down; `None` when they did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What opening a ledger found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Attempts that can be used.
    pub kept: usize,
    /// Lines that were torn or changed.
    pub dropped: usize,
}

/// A ledger that is only read.
#[derive(Debug)]
pub struct Scan {
    path: PathBuf,
    file: Option<File>,
    /// Where each attempt's line begins, and its length in bytes.
    places: HashMap<(u32, u16), (u64, u32)>,
    recovered: Recovered,
    /// Where the last whole line ends.
    end: u64,
}

impl Scan {
    /// Reads the ledger of `folder`; one that is not there holds nothing.
    ///
    /// # Errors
    /// When it belongs to another plan, or cannot be read.
    pub fn read(folder: &Path, plan_hash: &str) -> Result<Self> {
        let path = RunFiles::of(folder).ledger;
        let mut scan = Self { path, file: None, places: HashMap::new(), recovered: Recovered::default(), end: 0 };
        check_plain(&scan.path)?;
        let file = match File::open(&scan.path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(scan),
            Err(cause) => return Err(Error::io("read", &scan.path, cause)),
        };
        let mut reader = BufReader::with_capacity(1 << 18, &file);
        let mut at = 0u64;
        let mut line = Vec::new();
        loop {
            let length = read_line(&mut reader, &mut line).map_err(|cause| Error::io("read", &scan.path, cause))?;
            if length == 0 {
                break;
            }
            let whole = line.ends_with(b"\n");
            let body = if whole { unseal(&line[..line.len() - 1]) } else { None };
            if let Some(hash) = body.filter(|_| at == 0).and_then(planned) {
                check_plan(&hash, plan_hash, &scan.path)?;
            } else if let Some(entry) = body.and_then(|body| serde_json::from_slice::<Entry>(body).ok()) {
                scan.places.insert((entry.row, entry.number), (at, length as u32));
                scan.recovered.kept += 1;
            } else {
                scan.recovered.dropped += 1;
            }
            at += length;
            if whole {
                scan.end = at;
            }
        }
        scan.file = Some(file);
        Ok(scan)
    }

    /// What reading it found.
    pub(crate) fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Every attempt that stands in it: row and number, lowest first.
    pub fn attempts(&self) -> Vec<(u32, u16)> {
        let mut attempts: Vec<_> = self.places.keys().copied().collect();
        attempts.sort_unstable();
        attempts
    }

    /// An attempt that stands in it.
    ///
    /// # Errors
    /// When the file cannot be read, or changed since it was opened.
    pub fn entry(&mut self, row: u32, number: u16) -> Result<Option<Entry>> {
        let Some((&(at, length), file)) = self.places.get(&(row, number)).zip(self.file.as_mut()) else {
            return Ok(None);
        };
        let mut line = vec![0; length as usize];
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut line))
            .map_err(|cause| Error::io("read", &self.path, cause))?;
        let entry = unseal(line.trim_ascii_end()).and_then(|body| serde_json::from_slice(body).ok());
        match entry {
            Some(entry) => Ok(Some(entry)),
            None => Err(Error::input(&self.path, "changed while the run was using it", "let one program write a run")),
        }
    }
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    scan: Scan,
    lines: AppendedLines,
    synced: Instant,
}

impl Ledger {
    /// Opens the ledger of `folder` for the plan of this hash, or begins one.
    ///
    /// # Errors
    /// When it belongs to another plan, or cannot be read or written.
    pub fn open(folder: &Path, plan_hash: &str) -> Result<(Self, Recovered)> {
        let mut scan = Scan::read(folder, plan_hash)?;
        let mut lines = AppendedLines::open_at(scan.path.clone(), scan.end)?;
        if scan.end == 0 {
            lines.append(&seal(&json!({ "instil": "ledger", "plan": plan_hash }).to_string()))?;
        }
        if scan.file.is_none() {
            scan.file = Some(File::open(&scan.path).map_err(|cause| Error::io("read", &scan.path, cause))?);
        }
        let recovered = scan.recovered;
        Ok((Self { scan, lines, synced: Instant::now() }, recovered))
    }

    /// Appends an attempt; it survives the end of the process from here on.
    ///
    /// # Errors
    /// When it cannot be written; the file then still ends with a whole line.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        let at = self.lines.length();
        let line = seal(&serde_json::to_string(entry).expect("an entry is plain data"));
        self.lines.append(&line)?;
        self.scan.places.insert((entry.row, entry.number), (at, line.len() as u32 + 1));
        if self.synced.elapsed() > SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Whether an attempt stands in it.
    pub(crate) fn has(&self, row: u32, number: u16) -> bool {
        self.scan.places.contains_key(&(row, number))
    }

    /// As [`Scan::entry`].
    ///
    /// # Errors
    /// As [`Scan::entry`].
    pub fn entry(&mut self, row: u32, number: u16) -> Result<Option<Entry>> {
        self.scan.entry(row, number)
    }

    /// As [`Scan::attempts`].
    pub fn attempts(&self) -> Vec<(u32, u16)> {
        self.scan.attempts()
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.synced = Instant::now();
        self.lines.sync()
    }
}

/// Reads a line with its newline, and of an overlong one only the beginning; returns its whole length.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<u64> {
    line.clear();
    let mut length = reader.by_ref().take(MOST_LINE_BYTES).read_until(b'\n', line)? as u64;
    if length == MOST_LINE_BYTES && !line.ends_with(b"\n") {
        line.clear();
        length += reader.skip_until(b'\n')? as u64;
        line.extend_from_slice(b"\n");
    }
    Ok(length)
}

/// The plan's hash in the first line of a ledger. A first line that was changed is left out as any other: which plan the
/// attempts belong to stands in `run.lock.json` as well.
fn planned(body: &[u8]) -> Option<String> {
    let header: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(header["plan"].as_str()?.to_owned())
}

fn check_plan(found: &str, wanted: &str, path: &Path) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let remedy = Remedy::from("continue with the run's own plan, or choose another ").name(setting::OUTPUT);
    Err(Error::input(path, "belongs to another plan", remedy))
}

/// `{…}` → `{…,"sum":"…"}`: the sum is the CRC-32 of all before it.
fn seal(object: &str) -> String {
    let body = object.strip_suffix('}').expect("entries are objects");
    let mut sum = flate2::Crc::new();
    sum.update(body.as_bytes());
    format!("{body},\"sum\":\"{:08x}\"}}", sum.sum())
}

/// The object of a sealed line, without its sum; `None` when the sum is not that of the line.
fn unseal(line: &[u8]) -> Option<&[u8]> {
    const TAIL: usize = ",\"sum\":\"01234567\"}".len();
    let body = &line[..line.len().checked_sub(TAIL)?];
    let mut sum = flate2::Crc::new();
    sum.update(body);
    let expected = format!(",\"sum\":\"{:08x}\"}}", sum.sum());
    (&line[body.len()..] == expected.as_bytes()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(row: u32, number: u16) -> Entry {
        let mut attempt = Attempt::default();
        attempt.fields.insert("text".into(), json!(format!("row {row}, \"attempt\" {number}\n")));
        Entry { row, number, attempt, reason: (number == 0).then(|| Reason::new("loop", "it loops")) }
    }

    fn filled(folder: &Path) -> Vec<u8> {
        let (mut ledger, recovered) = Ledger::open(folder, "plan").expect("a new ledger");
        assert_eq!(recovered, Recovered::default());
        for (row, number) in [(2, 0), (0, 0), (2, 1), (1, 0)] {
            ledger.append(&entry(row, number)).expect("written");
        }
        std::fs::read(RunFiles::of(folder).ledger).expect("there")
    }

    #[test]
    fn what_was_appended_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        filled(folder.path());
        let (mut ledger, recovered) = Ledger::open(folder.path(), "plan").expect("it opens");
        assert_eq!(recovered, Recovered { kept: 4, dropped: 0 });
        assert_eq!(ledger.attempts(), [(0, 0), (1, 0), (2, 0), (2, 1)]);
        assert_eq!(ledger.entry(2, 1).expect("readable"), Some(entry(2, 1)));
        assert_eq!(ledger.entry(2, 0).expect("readable"), Some(entry(2, 0)));
        assert_eq!(ledger.entry(3, 0).expect("readable"), None);
        ledger.append(&entry(3, 0)).expect("written");
        assert_eq!(ledger.entry(3, 0).expect("readable"), Some(entry(3, 0)));
    }

    #[test]
    fn a_ledger_torn_anywhere_keeps_every_whole_line() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let bytes = filled(folder.path());
        let path = RunFiles::of(folder.path()).ledger;
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            let whole = bytes[..cut].split(|byte| *byte == b'\n').count() - 1;
            let (mut ledger, recovered) = Ledger::open(folder.path(), "plan").expect("it opens");
            assert_eq!(recovered.kept, whole.saturating_sub(1), "cut at {cut}");
            ledger.append(&entry(9, 0)).expect("written");
            drop(ledger);
            let (mut ledger, recovered) = Ledger::open(folder.path(), "plan").expect("it opens again");
            assert_eq!(recovered, Recovered { kept: whole.saturating_sub(1) + 1, dropped: 0 }, "cut at {cut}");
            assert_eq!(ledger.entry(9, 0).expect("readable"), Some(entry(9, 0)));
        }
    }

    #[test]
    fn a_changed_line_is_left_out_and_another_plan_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let bytes = filled(folder.path());
        let path = RunFiles::of(folder.path()).ledger;
        let text = String::from_utf8(bytes).expect("text");
        std::fs::write(&path, text.replacen("row 0", "row 7", 1)).expect("written");
        let (ledger, recovered) = Ledger::open(folder.path(), "plan").expect("it opens");
        assert_eq!(recovered, Recovered { kept: 3, dropped: 1 });
        assert!(!ledger.has(0, 0));
        drop(ledger);
        std::fs::write(&path, text.replacen("ledger", "lodger", 1)).expect("written");
        let (ledger, recovered) = Ledger::open(folder.path(), "plan").expect("it opens without its first line");
        assert_eq!(recovered, Recovered { kept: 4, dropped: 1 });
        drop(ledger);
        std::fs::write(&path, &text).expect("written");
        let told = Ledger::open(folder.path(), "other").expect_err("another plan").to_string();
        assert!(told.contains("another plan"), "{told}");
    }
}
