//! Reading a data set in whatever form it comes: JSON Lines, a JSON list, CSV or Parquet, with rows in any
//! of the forms of [`Form`].
//!
//! What cannot be read is listed with its line and left out, so that one bad row does not cost the file;
//! `strict` makes the first one an error. JSON Lines and CSV are read row by row, Parquet by row groups; a
//! JSON list is read whole, and held to [`MOST_LIST_BYTES`]. The rows of a run are read as people's decisions
//! left them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::form::{Form, Pair, detect};
use super::{Example, parquet};
use crate::disk::{Lines, MOST_LINE_BYTES};
use crate::error::{Error, Remedy, Result, setting};
use crate::filter::text::hash;
use crate::row::{Applied, Decisions, Tally};

/// Most bytes of a JSON list.
pub(crate) const MOST_LIST_BYTES: u64 = 1 << 30;
/// Bad rows and repeated ids that are listed; all are counted.
const LISTED: usize = 20;

/// The container of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// A JSON list of objects, or an object with one under `data`.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A row that cannot be read is an error.
    pub strict: bool,
    /// Which fields of plain rows are the prompt and the answer.
    pub pair: Pair,
}

/// What was found in a file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// The container.
    pub file_type: FileType,
    /// Rows read, by their form. More than one is worth a look.
    pub forms: BTreeMap<Form, u64>,
    /// Rows that could not be read.
    pub bad: u64,
    /// The first of them: line, and what is wrong.
    pub bad_rows: Vec<(u64, String)>,
    /// Rows with the id of an earlier row.
    pub repeated_ids: u64,
    /// The first of them: line, and the line that had the id before.
    pub repeated: Vec<(u64, u64)>,
    /// What people decided on the rows, where they did: rejected rows are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<Tally>,
}

impl Found {
    /// Rows read.
    pub(crate) fn rows(&self) -> u64 {
        self.forms.values().sum()
    }

    /// One line for each thing that is worth telling.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.forms.len() > 1 {
            let forms: Vec<String> = self.forms.iter().map(|(form, rows)| format!("{rows} {}", form.name())).collect();
            notes.push(format!("the rows are of several forms: {}", forms.join(", ")));
        }
        let more = |all: u64, listed: usize| match all - listed as u64 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        if let Some((line, what)) = self.bad_rows.first() {
            notes.push(format!("line {line} was left out: {what}{}", more(self.bad, 1)));
        }
        if let Some((line, before)) = self.repeated.first() {
            notes.push(format!("line {line} has the id of line {before}{}", more(self.repeated_ids, 1)));
        }
        notes.extend(self.review.as_ref().map(Tally::told));
        notes
    }
}

/// Reads the rows of a file in their order.
///
/// # Errors
/// When the file cannot be read, is empty or of no known type, a row is bad and `strict` is set, or
/// `on_row` fails.
pub fn read(path: &Path, options: &Options, on_row: &mut dyn FnMut(Example) -> Result<()>) -> Result<Found> {
    let decisions = Decisions::beside(path)?;
    let found = Found { review: decisions.as_ref().map(|_| Tally::default()), ..Found::default() };
    let mut reader = Reader { path, options, found, decisions, ids: HashMap::new(), on_row };
    reader.found.file_type = file_type(path)?;
    match reader.found.file_type {
        FileType::Jsonl => jsonl(&mut reader)?,
        FileType::Json => json_list(&mut reader)?,
        FileType::Csv => csv(&mut reader)?,
        FileType::Parquet => parquet::read(path, &mut |line, row| reader.row(line, row))?,
    }
    let found = reader.found;
    if found.rows() == 0 {
        let what = match found.bad_rows.first() {
            Some((line, what)) => format!("no row could be read; line {line}: {what}"),
            None if found.review.is_some_and(|review| review.rejected > 0) => "people rejected every row".into(),
            None => "there is no row in this file".into(),
        };
        return Err(Error::input(path, what, "give JSON Lines, a JSON list, CSV or Parquet"));
    }
    Ok(found)
}

/// The container of a file, by its first bytes, then by its name.
fn file_type(path: &Path) -> Result<FileType> {
    let refuse = |what: &str, remedy: &str| Err(Error::input(path, what, remedy));
    let mut file = File::open(path).map_err(|cause| Error::io("read", path, cause))?;
    let mut head = Vec::new();
    file.by_ref().take(4096).read_to_end(&mut head).map_err(|cause| Error::io("read", path, cause))?;
    if head.is_empty() {
        return refuse("the file is empty", "check the path");
    }
    if head.starts_with(b"PAR1") {
        return Ok(FileType::Parquet);
    }
    if head.starts_with(b"\x1f\x8b") || head.starts_with(b"\x28\xb5\x2f\xfd") || head.starts_with(b"PK\x03\x04") {
        return refuse("the file is compressed", "unpack it first");
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return refuse("the file is UTF-16 text", "save it as UTF-8");
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head).trim_ascii_start();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return Ok(FileType::Csv);
    }
    if text.starts_with(b"[") {
        return Ok(FileType::Json);
    }
    // An object over several lines is one JSON document; one on a line is JSON Lines.
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let cut = serde_json::from_slice::<Value>(first).is_err_and(|cause| cause.is_eof());
    if text.starts_with(b"{") && cut && first.len() < text.len() {
        return Ok(FileType::Json);
    }
    Ok(FileType::Jsonl)
}

struct Reader<'a> {
    path: &'a Path,
    options: &'a Options,
    found: Found,
    decisions: Option<Decisions>,
    /// Hash of an id → the line that has it.
    ids: HashMap<u64, u64>,
    on_row: &'a mut dyn FnMut(Example) -> Result<()>,
}

impl Reader<'_> {
    fn row(&mut self, line: u64, row: Result<Value, String>) -> Result<()> {
        let mut fields = match row {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return self.bad(line, "not a JSON object".into()),
            Err(what) => return self.bad(line, what),
        };
        if let (Some(decisions), Some(tally)) = (&self.decisions, &mut self.found.review) {
            let applied = decisions.apply(&mut fields);
            tally.add(&applied);
            if matches!(applied, Applied::Rejected(_)) {
                return Ok(());
            }
        }
        let (form, turns) = match detect(&fields, &self.options.pair) {
            Ok(found) => found,
            Err(what) => return self.bad(line, what),
        };
        if let Some(id) = fields.get("id").filter(|id| !id.is_null()) {
            match self.ids.entry(hash(id.to_string().as_bytes())) {
                std::collections::hash_map::Entry::Occupied(earlier) => {
                    self.found.repeated_ids += 1;
                    if self.found.repeated.len() < LISTED {
                        self.found.repeated.push((line, *earlier.get()));
                    }
                }
                std::collections::hash_map::Entry::Vacant(first) => {
                    first.insert(line);
                }
            }
        }
        *self.found.forms.entry(form).or_default() += 1;
        (self.on_row)(Example { line, form, turns, fields })
    }

    fn bad(&mut self, line: u64, what: String) -> Result<()> {
        if self.options.strict {
            let remedy = Remedy::from("mend it, or leave ").name(setting::STRICT).and(" out");
            return Err(Error::input(self.path, format!("line {line}: {what}"), remedy));
        }
        self.found.bad += 1;
        if self.found.bad_rows.len() < LISTED {
            self.found.bad_rows.push((line, what));
        }
        Ok(())
    }
}

fn jsonl(reader: &mut Reader<'_>) -> Result<()> {
    let mut lines = Lines::open(reader.path)?;
    let mut line = Vec::new();
    while let Some(number) = lines.next(&mut line)? {
        let row = match serde_json::from_slice(&line) {
            _ if line.len() > MOST_LINE_BYTES => Err(format!("longer than {} MiB", MOST_LINE_BYTES >> 20)),
            Ok(row) => Ok(row),
            Err(_) if std::str::from_utf8(&line).is_err() => Err("not UTF-8 text".into()),
            Err(cause) => Err(format!("not JSON: {cause}")),
        };
        reader.row(number, row)?;
    }
    Ok(())
}

fn json_list(reader: &mut Reader<'_>) -> Result<()> {
    let path = reader.path;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|cause| Error::io("read", path, cause))?;
    file.take(MOST_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(|cause| Error::io("read", path, cause))?;
    if bytes.len() as u64 > MOST_LIST_BYTES {
        return Err(Error::input(path, "over 1 GiB is too much for one JSON list", "write it as JSON Lines"));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let whole: Value = serde_json::from_slice(text).map_err(|cause| {
        let what =
            if std::str::from_utf8(text).is_err() { "not UTF-8 text".into() } else { format!("not JSON: {cause}") };
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
    (1..).zip(rows).try_for_each(|(place, row)| reader.row(place, Ok(row)))
}

fn csv(reader: &mut Reader<'_>) -> Result<()> {
    let path = reader.path;
    let fail = |cause: csv::Error| match cause.into_kind() {
        csv::ErrorKind::Io(cause) => Error::io("read", path, cause),
        kind => Error::input(path, format!("not CSV: {kind:?}"), "give a file with a header line"),
    };
    let mut rows = csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(fail)?;
    let header = rows.byte_headers().map_err(fail)?.clone();
    let names: Result<Vec<String>, _> =
        header.iter().map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned())).collect();
    let names = names.map_err(|_| Error::input(path, "line 1 is not UTF-8 text", "save the file as UTF-8"))?;
    // The reader counts the end of a line that is CR LF with the record after it.
    let behind = u64::from(ends_lines_with_crlf(path)?);
    let mut record = csv::ByteRecord::new();
    while rows.read_byte_record(&mut record).map_err(fail)? {
        let line = record.position().map_or(0, csv::Position::line) + behind;
        reader.row(line, csv_row(&names, &record))?;
    }
    Ok(())
}

/// Whether the first line of a file ends with CR LF.
fn ends_lines_with_crlf(path: &Path) -> Result<bool> {
    let fail = |cause| Error::io("read", path, cause);
    let mut head = Vec::new();
    File::open(path).map_err(fail)?.take(1 << 16).read_to_end(&mut head).map_err(fail)?;
    let end = head.iter().position(|byte| *byte == b'\n');
    Ok(end.is_some_and(|end| end > 0 && head[end - 1] == b'\r'))
}

fn csv_row(names: &[String], record: &csv::ByteRecord) -> Result<Value, String> {
    if record.len() != names.len() {
        return Err(format!("{} cells, but the header has {}", record.len(), names.len()));
    }
    let mut fields = Map::new();
    for (name, cell) in names.iter().zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_| format!("`{name}` is not UTF-8 text"))?;
        // Conversations are written into a cell as JSON.
        let list = cell.starts_with('[').then(|| serde_json::from_str::<Value>(cell).ok()).flatten();
        fields.insert(name.clone(), list.unwrap_or_else(|| cell.into()));
    }
    Ok(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, content: impl AsRef<[u8]>, strict: bool) -> Result<(Found, Vec<Example>)> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        let mut examples = Vec::new();
        let options = Options { strict, ..Options::default() };
        let found = read(&path, &options, &mut |example| {
            examples.push(example);
            Ok(())
        })?;
        Ok((found, examples))
    }

    fn refused(name: &str, content: impl AsRef<[u8]>) -> String {
        read_text(name, content, false).expect_err("refused").to_string()
    }

    #[test]
    fn bad_lines_are_listed_and_the_others_read() {
        let lines = b"\xef\xbb\xbf{\"instruction\":\"Q\",\"output\":\"A\",\"id\":1}\n\nnot json\n{\"messages\":[]}\n\
            {\"q\":\"\xff\"}\n[1]\n{\"prompt\":\"Q\",\"completion\":\"A\",\"id\":1}";
        let (found, examples) = read_text("a.jsonl", lines, false).expect("read");
        assert_eq!(examples.iter().map(|example| example.line).collect::<Vec<_>>(), [1, 7]);
        assert_eq!(found.bad_rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!((found.bad, found.repeated.clone()), (4, vec![(7, 1)]));
        assert_eq!(
            found.notes(),
            [
                "the rows are of several forms: 1 alpaca, 1 prompt-completion",
                "line 3 was left out: not JSON: expected ident at line 1 column 2 (and 3 more)",
                "line 7 has the id of line 1",
            ]
        );
        let strict = read_text("a.jsonl", lines, true).expect_err("strict").to_string();
        assert!(strict.contains("line 3: not JSON"), "{strict}");
    }

    #[test]
    fn lists_and_documents_are_told_from_lines() {
        for text in [
            "[{\"prompt\":\"Q\",\"completion\":\"A\"}]",
            "{\"data\": [{\"prompt\":\"Q\",\"completion\":\"A\"}]\n}",
            "{\n  \"prompt\": \"Q\",\n  \"completion\": \"A\"\n}\n",
        ] {
            let (found, examples) = read_text("a.json", text, true).expect(text);
            assert_eq!((found.file_type, examples[0].exchange()), (FileType::Json, Some(("Q", "A"))), "{text}");
        }
        let (found, _) = read_text("a.json", "{\"prompt\":\"Q\",\"completion\":\"A\"}", true).expect("read");
        assert_eq!(found.file_type, FileType::Jsonl);
    }

    #[test]
    fn tables_are_read_with_their_quirks() {
        let table = "\u{feff}instruction,output,n\n\"a \"\"b\"\",\nc\",A,1\nshort\nQ,A,2\n";
        let (found, examples) = read_text("a.csv", table, false).expect("read");
        assert_eq!(examples[0].exchange(), Some(("a \"b\",\nc", "A")));
        assert_eq!(found.bad_rows, [(4, "1 cells, but the header has 3".to_owned())]);
        let chat = "messages\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"Q\"\"}]\"\n";
        assert_eq!(read_text("a.csv", chat, true).expect("read").1[0].form, Form::Messages);
    }

    #[test]
    fn files_without_rows_are_refused_in_one_line() {
        for (name, content, part) in [
            ("a.jsonl", &b""[..], "the file is empty"),
            ("a.jsonl", b"\n \n", "there is no row"),
            ("a.jsonl", b"\x1f\x8b\x08\x00", "compressed"),
            ("a.jsonl", b"\xff\xfe{\x00", "UTF-16"),
            ("a.jsonl", b"hello\n", "no row could be read; line 1: not JSON"),
            ("a.json", b"[{\"a\": 1},", "not JSON"),
            ("a.json", b"[\xff]", "not UTF-8"),
            ("a.parquet", b"PAR1 and nothing else", "not a Parquet file"),
            ("a.csv", b"\xff,b\n1,2\n", "line 1 is not UTF-8"),
        ] {
            let error = refused(name, content);
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_line_of_ten_megabytes_is_a_row() {
        let long = serde_json::json!({"prompt": "x".repeat(10 << 20), "completion": "A"}).to_string();
        assert_eq!(read_text("a.jsonl", long, true).expect("read").1[0].turns[0].text.len(), 10 << 20);
    }
}
