//! Rows of Parquet files, in every compression that the format has.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Row as Record;
use parquet::record::reader::RowIter;

use super::{Content, Row, most_rows};
use crate::error::{Error, Result};

/// A Parquet file under way.
pub(super) struct Source {
    rows: Option<RowIter<'static>>,
    place: u64,
    /// Rows that the file says it has, and its bytes.
    all: u64,
    size: u64,
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// When it is not Parquet, or cannot be read as a whole.
    pub(super) fn open(path: &Path, size: u64) -> Result<Self> {
        let file = File::open(path).map_err(|cause| Error::io("read", path, cause))?;
        let fail = |cause: ParquetError| {
            let what = format!("not a Parquet file that can be read: {cause}").replace(['\n', '\r'], " ");
            Error::input(path, what, "check that the file is whole, or write it as JSON Lines")
        };
        let reader = guarded(|| SerializedFileReader::new(file)).map_err(fail)?;
        let all = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        if all > most_rows(size) {
            return Err(Error::input(path, format!("{all} rows in {size} bytes are not plausible"), "check the file"));
        }
        let rows = guarded(|| Ok(RowIter::from_file_into(Box::new(reader)))).map_err(fail)?;
        Ok(Self { rows: Some(rows), place: 0, all, size })
    }
}

impl super::Source for Source {
    fn next(&mut self) -> Result<Option<Row>> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        self.place += 1;
        let row = guarded(|| rows.next().map(|row| row.map(|row| Record::to_json_value(&row))).transpose());
        let content = match row {
            Ok(None) => return Ok(None),
            Ok(Some(row)) => Content::Value(row),
            // What follows a broken page cannot be trusted.
            Err(cause) => {
                self.rows = None;
                Content::Bad(cause.to_string().replace(['\n', '\r'], " "))
            }
        };
        Ok(Some(Row::new(self.place, content)))
    }

    fn bytes_read(&self) -> u64 {
        (self.size as f64 * self.place as f64 / self.all.max(1) as f64) as u64
    }
}

/// The decoder gives up on some broken pages with a panic; to us they are a broken file like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    outcome.unwrap_or_else(|_| Err(ParquetError::General("a page is broken".into())))
}
