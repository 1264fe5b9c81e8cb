//! Rows into a file: JSON Lines, CSV or Parquet, whole or not at all.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::table::{Columns, Table};
use crate::disk::WholeFile;
use crate::error::{Error, Result};

/// What makes a cell a formula for spreadsheets, at its beginning (OWASP, CSV Injection).
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The container that rows are written into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// A file of rows under way.
pub(crate) struct Writer {
    path: PathBuf,
    columns: Columns,
    sink: Sink,
    rows: u64,
    /// Cells that a spreadsheet would run get a quote before them.
    is_safe: bool,
    /// Cells of CSV that a spreadsheet would run.
    pub formulas: u64,
}

enum Sink {
    Jsonl(WholeFile),
    Csv(Box<csv::Writer<WholeFile>>),
    Parquet(Box<Table<WholeFile>>),
}

impl Writer {
    /// Begins a file; `columns` have met every row that will come.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(crate) fn create(path: &Path, file_type: Container, columns: &Columns, is_safe: bool) -> Result<Self> {
        let file = WholeFile::create(path)?;
        let sink = match file_type {
            Container::Jsonl => Sink::Jsonl(file),
            Container::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(columns.names()).map_err(|cause| fail(path, &cause))?;
                Sink::Csv(Box::new(writer))
            }
            Container::Parquet => {
                Sink::Parquet(Box::new(Table::new(file, columns.clone()).map_err(|cause| fail(path, &cause))?))
            }
        };
        Ok(Self { path: path.to_owned(), columns: columns.clone(), sink, rows: 0, is_safe, formulas: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn add(&mut self, row: Map<String, Value>) -> Result<()> {
        self.rows += 1;
        match &mut self.sink {
            Sink::Jsonl(file) => {
                let mut line = Value::Object(row).to_string();
                line.push('\n');
                file.append(line.as_bytes())
            }
            Sink::Csv(writer) => {
                let mut cells: Vec<String> = self.columns.names().map(|name| cell(row.get(name))).collect();
                let is_formula =
                    |name: &str, cell: &str| row.get(name).is_some_and(Value::is_string) && cell.starts_with(FORMULA);
                for (name, cell) in self.columns.names().zip(&mut cells) {
                    if is_formula(name, cell) {
                        self.formulas += 1;
                        if self.is_safe {
                            cell.insert(0, '\'');
                        }
                    }
                }
                writer.write_record(cells).map_err(|cause| fail(&self.path, &cause))
            }
            Sink::Parquet(table) => table.add(row).map_err(|cause| fail(&self.path, &cause)),
        }
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(self) -> Result<()> {
        match self.sink {
            Sink::Jsonl(file) => file.finish(),
            Sink::Csv(writer) => {
                writer.into_inner().map_err(|cause| Error::io("write", &self.path, cause.into_error()))?.finish()
            }
            Sink::Parquet(table) => table.finish().map_err(|cause| fail(&self.path, &cause))?.finish(),
        }
    }
}

/// A value in a cell: texts as they are, what is missing as nothing, all else as JSON.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn fail(path: &Path, cause: &impl std::fmt::Display) -> Error {
    Error::io("write", path, std::io::Error::other(cause.to_string().replace(['\n', '\r'], " ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(file_type: Container, rows: &[Value]) -> String {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("a");
        let mut columns = Columns::default();
        let rows: Vec<&Map<String, Value>> = rows.iter().map(|row| row.as_object().expect("an object")).collect();
        rows.iter().for_each(|row| columns.meet(row));
        let mut writer = Writer::create(&path, file_type, &columns, false).expect("created");
        rows.iter().for_each(|row| writer.add((*row).clone()).expect("added"));
        assert_eq!(writer.rows, rows.len() as u64);
        writer.finish().expect("finished");
        std::fs::read_to_string(path).expect("read")
    }

    #[test]
    fn lines_and_tables_are_as_readers_expect() {
        let rows = [json!({"q": "a \"b\",\nc", "n": 1}), json!({"q": null, "m": [{"role": "user"}]})];
        assert_eq!(
            written(Container::Jsonl, &rows),
            "{\"q\":\"a \\\"b\\\",\\nc\",\"n\":1}\n{\"q\":null,\"m\":[{\"role\":\"user\"}]}\n"
        );
        assert_eq!(
            written(Container::Csv, &rows),
            "q,n,m\n\"a \"\"b\"\",\nc\",1,\n,,\"[{\"\"role\"\":\"\"user\"\"}]\"\n"
        );
    }
}
