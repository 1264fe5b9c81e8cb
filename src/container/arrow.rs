//! Rows of Arrow streams, as `datasets` saves them, and of Arrow files, which are such a stream between a mark and a
//! footer (Apache Arrow columnar format, "IPC File Format"). Buffers that are compressed are refused: the reader
//! would reserve whatever length they claim.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;

use super::packed::Counted;
use super::{Content, Row, most_rows};
use crate::error::{Error, Result};

/// The mark of a file, with its padding.
const FILE_MARK: &[u8] = b"ARROW1\0\0";
/// The mark of a message in a stream.
const MESSAGE_MARK: &[u8] = b"\xff\xff\xff\xff";
/// Rows that are turned into JSON at once.
const ROWS_AT_ONCE: usize = 1024;

/// Whether a file that begins like this is one.
pub(super) fn is(head: &[u8]) -> bool {
    head.starts_with(FILE_MARK) || head.starts_with(MESSAGE_MARK)
}

/// An Arrow stream under way.
pub(super) struct Source {
    path: PathBuf,
    reader: Option<StreamReader<BufReader<Counted>>>,
    read: Arc<AtomicU64>,
    /// What is left of the batch that was read last.
    batch: Option<(RecordBatch, usize)>,
    lines: VecDeque<Vec<u8>>,
    place: u64,
    most_rows: u64,
}

impl Source {
    /// Opens a stream or a file.
    ///
    /// # Errors
    /// When it does not begin as one.
    pub(super) fn open(path: &Path, counted: Counted, size: u64) -> Result<Self> {
        let read = counted.count();
        let mut reader = BufReader::with_capacity(1 << 18, counted);
        let begun = guarded(|| {
            // A stream begins with the mark of a message, a file with its own and then a stream.
            let head = reader.fill_buf().map_err(|cause| cause.to_string())?;
            if head.starts_with(FILE_MARK) {
                // Padded to the alignment that its writer chose.
                let padding = head[FILE_MARK.len()..].iter().take_while(|byte| **byte == 0).count();
                reader.consume(FILE_MARK.len() + padding);
            }
            StreamReader::try_new(reader, None).map_err(|cause| cause.to_string())
        });
        let reader = begun.map_err(|cause| {
            let what = format!("not an Arrow stream that can be read: {cause}");
            Error::input(path, what, "check that the file is whole, or write it as Parquet")
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader: Some(reader),
            read,
            batch: None,
            lines: VecDeque::new(),
            place: 0,
            most_rows: most_rows(size),
        })
    }

    /// Turns the next rows into lines; false at the end.
    fn fill(&mut self) -> Result<bool, String> {
        while self.batch.as_ref().is_none_or(|(batch, at)| *at >= batch.num_rows()) {
            let Some(reader) = &mut self.reader else { return Ok(false) };
            let batch = guarded(|| reader.next().transpose().map_err(|cause| cause.to_string()))?;
            let Some(batch) = batch else { return Ok(false) };
            if self.place.saturating_add(batch.num_rows() as u64) > self.most_rows {
                return Err("so many rows in so few bytes are not plausible".into());
            }
            self.batch = Some((batch, 0));
        }
        let Some((batch, at)) = &mut self.batch else { return Ok(false) };
        let count = ROWS_AT_ONCE.min(batch.num_rows() - *at);
        let part = batch.slice(*at, count);
        *at += count;
        let json = guarded(|| {
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
            writer.write(&part).and_then(|()| writer.finish()).map_err(|cause| cause.to_string())?;
            Ok(writer.into_inner())
        })?;
        self.lines.extend(json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
        Ok(true)
    }
}

impl super::Source for Source {
    fn next(&mut self) -> Result<Option<Row>> {
        while self.lines.is_empty() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(what) if self.place == 0 => {
                    let what = format!("cannot be read: {what}");
                    return Err(Error::input(&self.path, what, "write it without compression, or as Parquet"));
                }
                // What follows a broken message cannot be trusted.
                Err(what) => {
                    (self.reader, self.batch) = (None, None);
                    self.place += 1;
                    return Ok(Some(Row::new(self.place, Content::Bad(what))));
                }
            }
        }
        self.place += 1;
        let line = self.lines.pop_front().unwrap_or_default();
        Ok(Some(Row::new(self.place, Content::Line(line))))
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// Work on a file that may be broken: the reader's errors in one line, and its panics as errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let outcome = outcome.unwrap_or_else(|_| Err("a message is broken".into()));
    outcome.map_err(|what| what.replace(['\n', '\r'], " "))
}
