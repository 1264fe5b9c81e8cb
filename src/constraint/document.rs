//! The JSON text written so far, as far as uniqueness and guards need it: open containers, their keys
//! and items, and the value that has just ended. Reads only what is new; knows no grammar.

use serde_json::Value;

use super::step::{Check, Checks, Verdict};
use crate::grammar::Expansion;

/// A stretch of the text.
type Span = (usize, usize);

/// See the module. The text must be what the engine let pass: nothing is checked here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    read: usize,
    open: Vec<Container>,
    place: Place,
    start: usize,
    last: Span,
}

#[derive(Clone, Debug)]
struct Container {
    start: usize,
    object: bool,
    /// A key, not a value, comes next.
    before_key: bool,
    /// Keys of an object, items of an array.
    entries: Vec<Span>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    String,
    Escape,
    Scalar,
}

impl Document {
    /// Reads on to `end`. Starts over when the text has become shorter.
    pub(crate) fn read(&mut self, text: &[u8], end: usize) {
        if self.read > end {
            *self = Self::default();
        }
        for (at, &byte) in text.iter().enumerate().take(end).skip(self.read) {
            self.byte(at, byte);
        }
        self.read = end;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn byte(&mut self, at: usize, byte: u8) {
        match self.place {
            Place::Escape => self.place = Place::String,
            Place::String => match byte {
                b'\\' => self.place = Place::Escape,
                b'"' => {
                    self.place = Place::Between;
                    self.ended((self.start, at + 1));
                }
                _ => {}
            },
            Place::Scalar if !matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r') => {}
            Place::Scalar => {
                self.place = Place::Between;
                self.ended((self.start, at));
                self.between(at, byte);
            }
            Place::Between => self.between(at, byte),
        }
    }

    fn between(&mut self, at: usize, byte: u8) {
        match byte {
            b'{' | b'[' => {
                let object = byte == b'{';
                self.open.push(Container { start: at, object, before_key: object, entries: Vec::new() });
            }
            b'}' | b']' => {
                if let Some(container) = self.open.pop() {
                    self.ended((container.start, at + 1));
                }
            }
            b',' => {
                if let Some(container) = self.open.last_mut() {
                    container.before_key = container.object;
                }
            }
            b':' | b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => {
                self.start = at;
                self.place = if byte == b'"' { Place::String } else { Place::Scalar };
            }
        }
    }

    fn ended(&mut self, span: Span) {
        self.last = span;
        if let Some(container) = self.open.last_mut() {
            if container.before_key {
                container.before_key = false;
                container.entries.push(span);
            } else if !container.object {
                container.entries.push(span);
            }
        }
    }

    /// The value that ended with the last byte read, or a scalar that ends there, and the entries before it.
    fn ended_value(&self) -> (Span, &[Span]) {
        let entries = self.open.last().map_or(&[][..], |container| &container.entries);
        if self.place == Place::Scalar {
            return ((self.start, self.read), entries);
        }
        let before = entries.len() - usize::from(entries.last() == Some(&self.last));
        (self.last, &entries[..before])
    }

    /// The raw beginning of the key being written, without its quote, and the keys before it, with quotes.
    pub(crate) fn open_key(&self) -> Option<(usize, &[Span])> {
        let container = self.open.last()?;
        let inside = matches!(self.place, Place::String | Place::Escape) && container.before_key;
        inside.then_some((self.start + 1, container.entries.as_slice()))
    }
}

/// Answers checks from a text and some bytes after it, of which the one at `at` is being read.
pub(crate) struct Exact<'a> {
    document: &'a mut Document,
    text: &'a [u8],
    /// Where the bytes that are only tried begin.
    settled: usize,
    tried: Option<Document>,
    pub(crate) at: usize,
    /// Something was asked.
    pub(crate) asked: bool,
}

impl<'a> Exact<'a> {
    /// `text` holds what is settled, up to `settled`, and the bytes to be tried.
    pub(crate) fn new(document: &'a mut Document, text: &'a [u8], settled: usize) -> Self {
        Self { document, text, settled, tried: None, at: settled, asked: false }
    }
}

impl Checks for Exact<'_> {
    fn value(&mut self, before: bool, check: Check<'_>, expansion: &mut Expansion) -> Verdict {
        self.asked = true;
        let tried = self.tried.get_or_insert_with(|| {
            self.document.read(self.text, self.settled);
            self.document.clone()
        });
        tried.read(self.text, self.at + usize::from(!before));
        let (span, earlier) = tried.ended_value();
        let text = self.text;
        let value = |span: Span| serde_json::from_slice::<Value>(&text[span.0..span.1]).ok();
        let holds = match check {
            Check::Guards(guards) => {
                value(span).is_some_and(|value| guards.iter().all(|&guard| expansion.guard_check(guard, &value)))
            }
            Check::UniqueKey => {
                let key = key(&text[span.0..span.1]);
                earlier.iter().all(|&(start, end)| self::key(&text[start..end]) != key)
            }
            Check::UniqueItem => {
                let written = |span: Span| {
                    let mut out = String::new();
                    if let Some(value) = value(span) {
                        write_normal(&value, &mut out);
                    }
                    out
                };
                let item = written(span);
                earlier.iter().all(|&other| written(other) != item)
            }
        };
        if holds { Verdict::Yes } else { Verdict::No }
    }
}

/// A key, decoded; `raw` has its quotes.
pub(crate) fn key(raw: &[u8]) -> Option<String> {
    serde_json::from_slice(raw).ok()
}

/// Writes a value so that equal values are written alike: numbers by value, members by name.
fn write_normal(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => out.push_str(&normal_number(&number.to_string())),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_normal(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, member) in members {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write_normal(member, out);
                out.push(',');
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Sign, significant digits and exponent of a number.
fn normal_number(text: &str) -> String {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return "0".into();
    }
    let zeros = i64::try_from(significant.len() - trimmed.len()).unwrap_or(0);
    let shift = zeros - i64::try_from(fraction.len()).unwrap_or(0);
    // An exponent too long for 64 bits is kept as it is written: only equal spellings are then equal.
    match exponent.parse::<i64>() {
        Ok(exponent) => format!("{sign}{trimmed}e{}", exponent.saturating_add(shift)),
        Err(_) => format!("{sign}{trimmed}e{exponent}+{shift}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_written_alike() {
        let normal = |text: &str| {
            let mut out = String::new();
            write_normal(&serde_json::from_str(text).expect("JSON"), &mut out);
            out
        };
        assert_eq!(normal("1"), normal("1.0"));
        assert_eq!(normal("100"), normal("1e2"));
        assert_eq!(normal("-0.0"), normal("0"));
        assert_eq!(normal(r#"{"a": [1], "b": 2}"#), normal(r#"{"b": 20e-1, "a": [1.00]}"#));
        assert_ne!(normal("1"), normal("\"1\""));
        assert_ne!(normal("0.1"), normal("0.01"));
    }

    #[test]
    fn knows_the_open_key_and_those_before() {
        let text = br#"{"a": [1, {"x": 2}], "b\"": 1, "c"#;
        let mut document = Document::default();
        document.read(text, text.len());
        let (start, before) = document.open_key().expect("in a key");
        assert_eq!(&text[start..], b"c");
        let keys: Vec<_> = before.iter().map(|&(start, end)| key(&text[start..end])).collect();
        assert_eq!(keys, [Some("a".into()), Some("b\"".into())]);
        document.read(text, 8);
        assert_eq!(document.ended_value().0, (7, 8));
    }
}
