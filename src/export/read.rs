//! Reading a data set in whatever form it comes: the rows of any container, in any of the forms of [`Form`].
//!
//! What cannot be read is listed with its line and left out, so that one bad row does not cost the file;
//! `strict` makes the first one an error. The rows of a run are read as people's decisions left them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;

use super::form::{Form, Pair, Said, detect};
use super::{Example, Turn};
pub use crate::container::FileType;
use crate::container::{Row, Rows};
use crate::error::{Error, Remedy, Result, setting};
use crate::filter::text::hash;
use crate::row::{Applied, Decisions, Tally};

/// Bad rows and repeated ids that are listed; all are counted.
const LISTED: usize = 20;

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
    /// What of the rows is not used, by field, with the number of rows that have it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unused: BTreeMap<String, u64>,
    /// What people decided on the rows, where they did: rejected rows are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<Tally>,
}

impl Found {
    /// Rows read.
    pub(crate) fn rows(&self) -> u64 {
        self.forms.values().sum()
    }

    /// Notes what of a row is not used.
    pub(crate) fn add_unused(&mut self, fields: impl IntoIterator<Item = String>) {
        fields.into_iter().for_each(|field| *self.unused.entry(field).or_default() += 1);
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
        if !self.unused.is_empty() {
            let fields: Vec<String> =
                self.unused.iter().map(|(field, rows)| format!("{field} ({rows} rows)")).collect();
            notes.push(format!("not used: {}", fields.join(", ")));
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
    let mut rows = Rows::open(path)?;
    let decisions = rows.decisions()?;
    let found =
        Found { file_type: rows.file_type(), review: decisions.as_ref().map(|_| Tally::default()), ..Found::default() };
    let mut reader = Reader { path, options, found, decisions, ids: HashMap::new(), on_row };
    while let Some(row) = rows.next()? {
        reader.row(&row)?;
    }
    let found = reader.found;
    if found.rows() == 0 {
        // Where rows were found, the container was not what is wrong.
        let remedy = match found.bad_rows.first() {
            Some((_, what)) if !what.starts_with("not ") => "mend that field in the rows",
            _ => "give JSON Lines, a JSON list, a table with a header, Parquet or Arrow",
        };
        let what = match found.bad_rows.first() {
            Some((line, what)) => format!("no row could be read; line {line}: {what}"),
            None if found.review.is_some_and(|review| review.rejected > 0) => "people rejected every row".into(),
            None if rows.size() == 0 => "the file is empty".into(),
            None => "there is no row in this file".into(),
        };
        return Err(Error::input(path, what, remedy));
    }
    Ok(found)
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
    fn row(&mut self, row: &Row) -> Result<()> {
        let line = row.place;
        let mut fields = match row.content.fields() {
            Ok(fields) => fields,
            Err(what) => return self.bad(row, what),
        };
        if let (Some(decisions), Some(tally)) = (&self.decisions, &mut self.found.review) {
            let applied = decisions.apply(&mut fields);
            tally.add(&applied);
            if matches!(applied, Applied::Rejected(_)) {
                return Ok(());
            }
        }
        let Said { form, turns, by: said_by } = match detect(&fields, &self.options.pair) {
            Ok(said) if !said.turns.is_empty() && said.turns.iter().all(Turn::is_empty) => {
                return self.bad(row, "its prompt and its answer are empty".into());
            }
            Ok(said) => said,
            Err(what) => return self.bad(row, what),
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
        (self.on_row)(Example { line, form, turns, said_by, fields })
    }

    fn bad(&mut self, row: &Row, what: String) -> Result<()> {
        let (line, what) = (row.place, row.told(what));
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
            ("a.jsonl", b"\x1f\x8b\x08\x00", "cannot be unpacked"),
            ("a.jsonl", b"PK\x03\x04", "packed in a way"),
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
