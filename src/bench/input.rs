//! Reading benchmark files: a schema, and instances as the exact text that stands in the file.
//!
//! An instance is never parsed and printed again (that would change number literals and escapes);
//! only insignificant whitespace is put into the style that the engines are asked to accept.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// One schema with its instances, as text.
#[derive(Clone, Debug)]
pub struct BenchFile {
    /// Name of the file in the benchmark.
    pub name: String,
    /// The whole JSON document, as it was read.
    pub text: String,
}

/// The parts of a [`BenchFile`].
#[derive(Clone, Debug)]
pub struct BenchCase {
    /// The schema.
    pub schema: Value,
    /// The instances, in file order.
    pub instances: Vec<Instance>,
}

/// A text that the schema should or should not accept.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What the benchmark says of it.
    pub valid: bool,
    /// JSON text.
    pub text: String,
}

/// Whitespace between the tokens of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// As it stands in the file.
    Raw,
    /// None.
    Compact,
    /// `", "` and `": "`, as Python's `json.dumps` prints.
    Spaced,
}

impl BenchFile {
    /// Takes the document apart.
    ///
    /// # Errors
    /// A message when the text is no JSON object with `schema` and `tests[].data`, `tests[].valid`.
    pub fn case(&self, spacing: Spacing) -> Result<BenchCase, String> {
        let members = members(&self.text)?;
        let of = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, span)| &self.text[span.clone()]);
        let schema = of("schema").ok_or("no `schema`")?;
        let schema = serde_json::from_str(schema).map_err(|error| format!("schema: {error}"))?;
        let mut instances = Vec::new();
        if let Some(tests) = of("tests") {
            for span in elements(tests)? {
                let test = &tests[span];
                let members = self::members(test)?;
                let of = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, span)| &test[span.clone()]);
                let valid = of("valid").ok_or("a test without `valid`")? == "true";
                let text = respace(of("data").ok_or("a test without `data`")?, spacing);
                instances.push(Instance { valid, text });
            }
        }
        Ok(BenchCase { schema, instances })
    }
}

/// Reads every case of `path`: a `.jsonl` or `.jsonl.gz` file, a `.json` file, or a folder of such files (in name
/// order).
///
/// # Errors
/// When the path cannot be read, or a file is not UTF-8.
pub fn read(path: &Path) -> Result<Vec<BenchFile>> {
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| Error::io("read", path, error))?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| {
                let name = path.to_string_lossy();
                [".json", ".jsonl", ".jsonl.gz"].iter().any(|ending| name.ends_with(ending))
            })
            .collect();
        paths.sort();
        for path in paths {
            read_file(&path, &mut files)?;
        }
    } else {
        read_file(path, &mut files)?;
    }
    if files.is_empty() {
        return Err(Error::input(
            path,
            "no benchmark file found",
            "give a .jsonl(.gz) file or a folder of .json files",
        ));
    }
    Ok(files)
}

fn read_file(path: &Path, files: &mut Vec<BenchFile>) -> Result<()> {
    let io = |error| Error::io("read", path, error);
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let file = File::open(path).map_err(io)?;
    let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
    let mut reader: Box<dyn BufRead> = if is_gzip {
        Box::new(BufReader::new(flate2::read::GzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let plain = if is_gzip { path.with_extension("") } else { path.to_owned() };
    let is_lines = plain.extension().is_some_and(|extension| extension == "jsonl");
    if !is_lines {
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(io)?;
        files.push(BenchFile { name: stem, text });
        return Ok(());
    }
    for (number, line) in reader.lines().enumerate() {
        let text = line.map_err(io)?;
        if text.trim().is_empty() {
            continue;
        }
        let name = members(&text)
            .ok()
            .and_then(|members| members.into_iter().find(|(key, _)| key == "name"))
            .and_then(|(_, span)| serde_json::from_str(&text[span]).ok())
            .unwrap_or_else(|| format!("{stem}:{}", number + 1));
        files.push(BenchFile { name, text });
    }
    Ok(())
}

/// The members of the JSON object in `text`: decoded key, span of the value.
fn members(text: &str) -> Result<Vec<(String, Range<usize>)>, String> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    let mut found = Vec::new();
    scanner.blank();
    scanner.expect(b'{')?;
    scanner.blank();
    while scanner.peek() == Some(b'"') {
        let key = scanner.value()?;
        let key = serde_json::from_str(&text[key]).map_err(|error| error.to_string())?;
        scanner.blank();
        scanner.expect(b':')?;
        scanner.blank();
        found.push((key, scanner.value()?));
        scanner.blank();
        if scanner.peek() != Some(b',') {
            break;
        }
        scanner.at += 1;
        scanner.blank();
    }
    scanner.expect(b'}')?;
    Ok(found)
}

/// The spans of the elements of the JSON array in `text`.
fn elements(text: &str) -> Result<Vec<Range<usize>>, String> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    let mut found = Vec::new();
    scanner.blank();
    scanner.expect(b'[')?;
    scanner.blank();
    while scanner.peek() != Some(b']') {
        found.push(scanner.value()?);
        scanner.blank();
        if scanner.peek() != Some(b',') {
            break;
        }
        scanner.at += 1;
        scanner.blank();
    }
    scanner.expect(b']')?;
    Ok(found)
}

/// `text` with its insignificant whitespace in the given style; every other byte is kept.
pub(crate) fn respace(text: &str, spacing: Spacing) -> String {
    if spacing == Spacing::Raw {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for ch in text.chars() {
        if in_string {
            out.push(ch);
            in_string = escaped || ch != '"';
            escaped = !escaped && ch == '\\';
        } else if !matches!(ch, ' ' | '\t' | '\n' | '\r') {
            in_string = ch == '"';
            out.push(ch);
            if spacing == Spacing::Spaced && matches!(ch, ',' | ':') {
                out.push(' ');
            }
        }
    }
    out
}

/// Finds where JSON values end; it does not judge scalars.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(format!("byte {}: expected `{}`", self.at, byte as char))
    }

    /// Passes one value and gives its span.
    fn value(&mut self) -> Result<Range<usize>, String> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None => return Err(format!("byte {start}: the value does not end")),
                Some(b'"') => {
                    self.at += 1;
                    while let Some(byte) = self.peek() {
                        self.at += if byte == b'\\' { 2 } else { 1 };
                        if byte == b'"' {
                            break;
                        }
                    }
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    if depth == 0 {
                        return Err(format!("byte {}: unexpected bracket", self.at));
                    }
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                Some(_) => {
                    let from = self.at;
                    while !matches!(
                        self.peek(),
                        None | Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'{' | b'}' | b'[' | b']')
                    ) {
                        self.at += 1;
                    }
                    if self.at == from {
                        return Err(format!("byte {from}: expected a value"));
                    }
                }
            }
            if depth == 0 {
                return Ok(start..self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_keep_their_bytes() {
        let text = r#"{"name": "a\"b", "schema": {"type": ["number", "string"]}, "meta": 1, "tests": [
            {"description": "x", "valid": true, "data": 1.50e+3}, {"valid": false, "data": "é\u00e9 , :\\"},
            {"valid": false, "data": {"a" : [1 , {}], "b":[]}}]}"#;
        let file = BenchFile { name: "a\"b".into(), text: text.into() };
        let case = file.case(Spacing::Spaced).unwrap();
        let texts: Vec<&str> = case.instances.iter().map(|instance| instance.text.as_str()).collect();
        assert_eq!(texts, ["1.50e+3", r#""é\u00e9 , :\\""#, r#"{"a": [1, {}], "b": []}"#]);
        assert_eq!(case.instances.iter().map(|instance| instance.valid).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(file.case(Spacing::Compact).unwrap().instances[2].text, r#"{"a":[1,{}],"b":[]}"#);
    }

    #[test]
    fn broken_documents_are_errors() {
        for text in ["", "{", "[]", r#"{"schema": }"#, r#"{"schema": {}, "tests": [{"valid": true}]}"#] {
            assert!(BenchFile { name: String::new(), text: text.into() }.case(Spacing::Raw).is_err(), "{text}");
        }
    }
}
