//! Files of rows in whatever container they come: one reader for every command that takes rows.
//!
//! [`Rows`] gives the rows of a file, or of all files of a directory, one after the other: JSON Lines, JSON lists
//! and tables of text ([`text`]), Parquet ([`parquet`]) and Arrow streams ([`arrow`]); what is packed with gzip or
//! zstd is unpacked on the way ([`packed`]). [`files`] says which files a path stands for. What a row says is not
//! known here: it is an object of fields, or what is wrong with it. Files are untrusted: memory and time are
//! bounded, and a broken file is an error or a bad row, never a panic.

mod arrow;
mod files;
mod packed;
mod parquet;
mod text;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use crate::disk::{Lines, MOST_LINE_BYTES};
use crate::error::{Error, Result};
use crate::row::Decisions;
use files::{extension, files};
use packed::Packing;

/// Bytes at the beginning of a file that its container is known by.
const HEAD: u64 = 1 << 16;

/// The container of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// A JSON list of objects, or an object with one under `data`.
    Json,
    /// Values separated by commas, semicolons, tabs or bars, with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// An Arrow stream or file, as `datasets` saves them.
    Arrow,
}

/// A row as it stands in its file.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// A line of a file of lines, else the row's place; from 1 in each file.
    pub place: u64,
    /// Where its line begins; 0 where rows are not lines of a plain file.
    pub offset: u64,
    /// What stands there.
    pub content: Content,
    /// The name of its file, where there are several.
    pub part: Option<Arc<str>>,
}

impl Row {
    fn new(place: u64, content: Content) -> Self {
        Self { place, offset: 0, content, part: None }
    }

    /// What is wrong with it, with the name of its file where there are several.
    pub(crate) fn told(&self, what: String) -> String {
        match &self.part {
            Some(part) => format!("{what} (in {part})"),
            None => what,
        }
    }
}

/// What stands in a row's place.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A line, not yet parsed.
    Line(Vec<u8>),
    /// A value.
    Value(Value),
    /// Nothing that can be read, and why.
    Bad(String),
}

impl Content {
    /// The row as a line: as it stood, or written as JSON; empty where it cannot be read.
    pub(crate) fn line(&self) -> std::borrow::Cow<'_, [u8]> {
        match self {
            Self::Line(bytes) => bytes.as_slice().into(),
            Self::Value(value) => value.to_string().into_bytes().into(),
            Self::Bad(_) => Vec::new().into(),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub(crate) fn value(&self) -> Result<Value, String> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Bad(what) => Err(what.clone()),
            Self::Line(line) if line.len() > MOST_LINE_BYTES => {
                Err(format!("longer than {} MiB", MOST_LINE_BYTES >> 20))
            }
            Self::Line(line) => serde_json::from_slice(line).map_err(|cause| match std::str::from_utf8(line) {
                Ok(_) => format!("not JSON: {cause}"),
                Err(cause) => format!("not UTF-8 text ({cause})"),
            }),
        }
    }

    /// The fields.
    ///
    /// # Errors
    /// What is wrong with the row, in a few words.
    pub(crate) fn fields(&self) -> Result<Map<String, Value>, String> {
        match self.value()? {
            Value::Object(fields) => Ok(fields),
            _ => Err("not a JSON object".into()),
        }
    }
}

/// Rows of one file.
trait Source {
    /// The next row; nothing behind the last.
    fn next(&mut self) -> Result<Option<Row>>;
    /// Bytes of the file that were read, as far as that is known.
    fn bytes_read(&self) -> u64;
}

/// The rows of a file or directory, in their order.
pub(crate) struct Rows {
    /// Files that are still to be read.
    files: VecDeque<PathBuf>,
    current: Option<Box<dyn Source>>,
    /// The file that is read now, and its name where there are others.
    path: PathBuf,
    part: Option<Arc<str>>,
    is_one: bool,
    file_type: FileType,
    is_plain: bool,
    values: bool,
    size: u64,
    /// Bytes of the files that have been read.
    done: u64,
}

impl Rows {
    /// Opens a file, or all files of rows in a directory; of a run's directory, its records.
    ///
    /// # Errors
    /// When it cannot be read, or is of no known container.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, false)
    }

    /// The same for rows that may be any values: a list that is a line is a row.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub(crate) fn open_values(path: &Path) -> Result<Self> {
        Self::open_as(path, true)
    }

    fn open_as(path: &Path, values: bool) -> Result<Self> {
        let files = files(path)?;
        let size = |path: &PathBuf| std::fs::metadata(path).map(|data| data.len());
        let size =
            files.iter().map(size).sum::<std::io::Result<u64>>().map_err(|cause| Error::io("read", path, cause))?;
        let is_one = files.len() == 1;
        let mut rows = Self {
            files: files.into(),
            current: None,
            path: path.to_owned(),
            part: None,
            is_one,
            file_type: FileType::default(),
            is_plain: false,
            values,
            size,
            done: 0,
        };
        rows.open_next()?;
        Ok(rows)
    }

    /// Opens the next file, if there is one.
    fn open_next(&mut self) -> Result<bool> {
        let Some(path) = self.files.pop_front() else { return Ok(false) };
        let (file_type, is_plain, source) = open(&path, self.values)?;
        let name = || path.file_name().unwrap_or_default().to_string_lossy().into();
        self.part = (!self.is_one).then(name);
        (self.path, self.file_type, self.is_plain, self.current) = (path, file_type, is_plain, Some(source));
        Ok(true)
    }

    /// The next row; nothing behind the last.
    ///
    /// # Errors
    /// When the disk refuses, or what is packed is broken.
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            let Some(source) = &mut self.current else { return Ok(None) };
            if let Some(mut row) = source.next()? {
                row.part.clone_from(&self.part);
                return Ok(Some(row));
            }
            self.done += std::fs::metadata(&self.path).map_or(0, |data| data.len());
            self.current = None;
            self.open_next()?;
        }
    }

    /// The next rows, until there are `most_rows` or their lines hold `most_bytes`; nothing behind the last.
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub(crate) fn batch(&mut self, most_rows: usize, most_bytes: usize) -> Result<Option<Vec<Row>>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most_rows && bytes < most_bytes {
            let Some(row) = self.next()? else { break };
            // A value takes about this much more than a row alone; rows that were parsed are of bounded batches.
            bytes += if let Content::Line(line) = &row.content { line.len() } else { 1 << 10 };
            batch.push(row);
        }
        Ok(if batch.is_empty() { None } else { Some(batch) })
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes read so far, as far as that is known.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.done + self.current.as_ref().map_or(0, |source| source.bytes_read())
    }

    /// The container of the file that is read now.
    pub(crate) fn file_type(&self) -> FileType {
        self.file_type
    }

    /// The decisions of people that hold for the rows: those beside a run's records.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn decisions(&self) -> Result<Option<Decisions>> {
        if self.is_one { Decisions::beside(&self.path) } else { Ok(None) }
    }

    /// The one file whose lines the rows are, at their offsets; none where they come of anything else.
    pub(crate) fn lines(&self) -> Option<&Path> {
        (self.is_one && self.is_plain && self.file_type == FileType::Jsonl).then_some(self.path.as_path())
    }
}

/// Rows put aside as lines, to be read again in another order.
pub(crate) struct Aside {
    file: BufWriter<NamedTempFile>,
    length: u64,
}

impl Aside {
    /// Begins a file that goes when it is dropped.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) fn new() -> Result<Self> {
        let file = NamedTempFile::new().map_err(|cause| Error::io("create", std::env::temp_dir(), cause))?;
        Ok(Self { file: BufWriter::new(file), length: 0 })
    }

    /// Adds a row; where its line begins.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn put(&mut self, row: &Row) -> Result<u64> {
        let (line, offset) = (row.content.line(), self.length);
        let written = self.file.write_all(&line).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|cause| Error::io("write", self.file.get_ref().path(), cause))?;
        self.length += line.len() as u64 + 1;
        Ok(offset)
    }

    /// The lines, and the file that holds them for as long as it is kept.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn lines(self) -> Result<(Lines, NamedTempFile)> {
        let file =
            self.file.into_inner().map_err(|cause| Error::io("write", std::env::temp_dir(), cause.into_error()))?;
        Ok((Lines::open(file.path())?, file))
    }
}

/// Rows that a file of so many bytes may hold: columns of nothing but null take no bytes, and would never end.
fn most_rows(size: u64) -> u64 {
    (1 << 20) + size.saturating_mul(64)
}

/// Opens one file: its container, whether it is not packed, and its rows.
fn open(path: &Path, values: bool) -> Result<(FileType, bool, Box<dyn Source>)> {
    let fail = |cause| Error::io("read", path, cause);
    let refuse = |what: &str, remedy: &str| Err(Error::input(path, what, remedy));
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let (packing, mut reader) = packed::unpacked(file, size).map_err(fail)?;
    let mut head = Vec::new();
    let peeked = reader.by_ref().take(HEAD).read_to_end(&mut head);
    peeked.map_err(|cause| packed::told(path, cause))?;
    let is_packed = packing != Packing::None;
    if head.starts_with(b"PAR1") {
        if is_packed {
            return refuse("a Parquet file in a packed file is not read", "unpack it first");
        }
        return Ok((FileType::Parquet, true, Box::new(parquet::Source::open(path, size)?)));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"BZh") || head.starts_with(b"\xfd7zXZ\0") {
        return refuse(
            "the file is packed in a way that is not read here",
            "unpack it first, or pack it with gzip or zstd",
        );
    }
    if head.starts_with(b"\xff\xfe") && !head.starts_with(b"\xff\xff") || head.starts_with(b"\xfe\xff") {
        return refuse("the file is UTF-16 text", "save it as UTF-8");
    }
    let kind = extension(path);
    let counted = packed::Counted::new(std::io::Cursor::new(head.clone()).chain(reader));
    if arrow::is(&head) {
        return Ok((FileType::Arrow, !is_packed, Box::new(arrow::Source::open(path, counted, size)?)));
    }
    let file_type = text::file_type(&head, kind.as_deref(), values);
    let source: Box<dyn Source> = match file_type {
        FileType::Csv => Box::new(text::Table::open(path, &head, counted)?),
        FileType::Json => Box::new(text::List::open(path, counted)?),
        _ => Box::new(text::LineSource::open(path, counted, size)),
    };
    Ok((file_type, !is_packed, source))
}
