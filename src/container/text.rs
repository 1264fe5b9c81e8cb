//! Rows in files of text: JSON Lines, a JSON list, a table with a header.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::packed::{Counted, told};
use super::{Content, FileType, Row, Source};
use crate::disk::{Lines, MOST_LINE_BYTES};
use crate::error::{Error, Result};

/// Most bytes of a JSON list.
const MOST_LIST_BYTES: u64 = 1 << 30;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What stands between the cells of a table.
const SEPARATORS: [u8; 4] = *b",;\t|";

/// The container of a text, by its name and its beginning. With `values` a line that is a list is a row.
pub(super) fn file_type(head: &[u8], extension: Option<&str>, values: bool) -> FileType {
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match extension {
        Some("csv" | "tsv" | "tab") => return FileType::Csv,
        Some("jsonl" | "ndjson" | "json") => {}
        // A header, where no name says what it is.
        _ if !text.starts_with(b"{") && !text.starts_with(b"[") && !text.starts_with(b"\"") => {
            let is_table = first.len() < text.len() && first.iter().any(|byte| SEPARATORS[..3].contains(byte));
            if is_table {
                return FileType::Csv;
            }
        }
        _ => {}
    }
    if text.starts_with(b"[") {
        let is_line = values && extension != Some("json") && serde_json::from_slice::<Value>(first).is_ok();
        return if is_line { FileType::Jsonl } else { FileType::Json };
    }
    // An object over several lines is one JSON document; one on a line is JSON Lines.
    let cut = serde_json::from_slice::<Value>(first).is_err_and(|cause| cause.is_eof());
    if text.starts_with(b"{") && cut && first.len() < text.len() { FileType::Json } else { FileType::Jsonl }
}

/// One JSON object a line.
pub(super) struct LineSource {
    path: PathBuf,
    lines: Lines<Counted>,
    size: u64,
}

impl LineSource {
    pub(super) fn open(path: &Path, reader: Counted, size: u64) -> Self {
        Self { path: path.to_owned(), lines: Lines::over(path, reader, size), size }
    }
}

impl Source for LineSource {
    fn next(&mut self) -> Result<Option<Row>> {
        let line = self.lines.one().map_err(|cause| told(&self.path, cause))?;
        Ok(line.map(|line| Row { offset: line.offset, ..Row::new(line.number, Content::Line(line.bytes)) }))
    }

    fn bytes_read(&self) -> u64 {
        self.lines.bytes_read().min(self.size)
    }
}

/// A JSON list, read whole.
pub(super) struct List {
    rows: std::vec::IntoIter<Value>,
    place: u64,
}

impl List {
    pub(super) fn open(path: &Path, reader: Counted) -> Result<Self> {
        let mut bytes = Vec::new();
        reader.take(MOST_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(|cause| told(path, cause))?;
        if bytes.len() as u64 > MOST_LIST_BYTES {
            return Err(Error::input(path, "over 1 GiB is too much for one JSON list", "write it as JSON Lines"));
        }
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let whole: Value = serde_json::from_slice(text).map_err(|cause| {
            let is_text = std::str::from_utf8(text).is_ok();
            let what = if is_text { format!("not JSON: {cause}") } else { "not UTF-8 text".into() };
            Error::input(path, what, "give a JSON list of objects, or one object a line")
        })?;
        let rows = match whole {
            Value::Array(rows) => rows,
            Value::Object(mut object) => match object.remove("data") {
                Some(Value::Array(rows)) => rows,
                Some(other) => {
                    object.insert("data".into(), other);
                    vec![Value::Object(object)]
                }
                None => vec![Value::Object(object)],
            },
            other => vec![other],
        };
        Ok(Self { rows: rows.into_iter(), place: 0 })
    }
}

impl Source for List {
    fn next(&mut self) -> Result<Option<Row>> {
        self.place += 1;
        Ok(self.rows.next().map(|row| Row::new(self.place, Content::Value(row))))
    }

    fn bytes_read(&self) -> u64 {
        0
    }
}

/// Cells under a header.
pub(super) struct Table {
    path: PathBuf,
    rows: csv::Reader<Held>,
    names: Vec<String>,
    /// The reader counts the end of a line that is CR LF with the record after it.
    behind: u64,
    read: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
}

impl Table {
    pub(super) fn open(path: &Path, head: &[u8], reader: Counted) -> Result<Self> {
        let (read, held) = (reader.count(), Arc::new(AtomicU64::new(0)));
        let reader = Held { inner: reader, held: held.clone() };
        let end = head.iter().position(|byte| *byte == b'\n');
        let behind = u64::from(end.is_some_and(|end| end > 0 && head[end - 1] == b'\r'));
        let mut rows = csv::ReaderBuilder::new().flexible(true).delimiter(separator(head)).from_reader(reader);
        let header = rows.byte_headers().map_err(|cause| fail(path, cause))?.clone();
        let names: Result<Vec<String>, _> =
            header.iter().map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned())).collect();
        let names = names.map_err(|_| Error::input(path, "line 1 is not UTF-8 text", "save the file as UTF-8"))?;
        if let Some(twice) =
            names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)).map(|(_, name)| name)
        {
            let what = format!("line 1 names the column `{twice}` twice");
            return Err(Error::input(path, what, "give each column a name of its own"));
        }
        Ok(Self { path: path.to_owned(), rows, names, behind, read, held })
    }
}

impl Source for Table {
    fn next(&mut self) -> Result<Option<Row>> {
        let mut record = csv::ByteRecord::new();
        self.held.store(0, Ordering::Relaxed);
        if !self.rows.read_byte_record(&mut record).map_err(|cause| fail(&self.path, cause))? {
            return Ok(None);
        }
        let place = record.position().map_or(0, csv::Position::line) + self.behind;
        let content = fields(&self.names, &record).map_or_else(Content::Bad, Content::Value);
        Ok(Some(Row::new(place, content)))
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// What separates the cells: of the separators the most frequent in the header.
fn separator(head: &[u8]) -> u8 {
    let (mut counts, mut is_quoted) = ([0usize; SEPARATORS.len()], false);
    for byte in head {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted => break,
            byte if !is_quoted => {
                if let Some(at) = SEPARATORS.iter().position(|separator| separator == byte) {
                    counts[at] += 1;
                }
            }
            _ => {}
        }
    }
    // The first of several that are as frequent.
    let best = (0..SEPARATORS.len()).rev().max_by_key(|at| counts[*at]);
    SEPARATORS[best.unwrap_or(0)]
}

fn fields(names: &[String], record: &csv::ByteRecord) -> Result<Value, String> {
    if record.len() != names.len() {
        return Err(format!("{} cells, but the header has {}", record.len(), names.len()));
    }
    let mut fields = Map::new();
    for (name, cell) in names.iter().zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_| format!("`{name}` is not UTF-8 text"))?;
        // Conversations and what was kept beside a row are written into a cell as JSON.
        let nested = cell.starts_with(['[', '{']).then(|| serde_json::from_str::<Value>(cell).ok()).flatten();
        fields.insert(name.clone(), nested.unwrap_or_else(|| cell.into()));
    }
    Ok(Value::Object(fields))
}

fn fail(path: &Path, cause: csv::Error) -> Error {
    match cause.into_kind() {
        csv::ErrorKind::Io(cause) => told(path, cause),
        kind => Error::input(path, format!("not a table: {kind:?}"), "give a file with a header line"),
    }
}

/// Refuses a row that would fill the memory: one whose quotes never end, say.
struct Held {
    inner: Counted,
    /// Bytes read since the last row.
    held: Arc<AtomicU64>,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.held.fetch_add(read as u64, Ordering::Relaxed) > MOST_LINE_BYTES as u64 {
            let what = format!("a row is longer than {} MiB; is a quote left open?", MOST_LINE_BYTES >> 20);
            return Err(std::io::Error::other(what));
        }
        Ok(read)
    }
}
