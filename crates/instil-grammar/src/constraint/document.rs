//! The JSON text written so far, as far as uniqueness and guards need it: open containers, their keys
//! and items, and the value that has just ended. Reads only what is new; knows no grammar.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::expansion::SharedExpansion;
use super::step::{Check, Checks, Verdict};
use crate::grammar::write_normal;

/// A stretch of the text.
type Span = (usize, usize);

/// See the module. The text must be what the engine let pass: nothing is checked here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    place: Place,
    open: Vec<Container>,
    /// How to take back what was read since [`Self::mark`].
    undo: Vec<Undo>,
    marked: Option<Place>,
}

/// Where the reading stands, containers apart.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    read: usize,
    within: Within,
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
    /// Normal forms of the first so many entries.
    forms: FxHashSet<Box<str>>,
    formed: usize,
}

/// A step to take back.
#[derive(Clone, Debug)]
enum Undo {
    Opened,
    Closed(Container),
    BeforeKey(bool),
    Entry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Between,
    String,
    Escape,
    Scalar,
}

impl Document {
    /// Reads on to `end`. Starts over when the text has become shorter.
    pub(crate) fn read(&mut self, text: &[u8], end: usize) {
        if self.place.read > end {
            self.clear();
        }
        for (at, &byte) in text.iter().enumerate().take(end).skip(self.place.read) {
            self.byte(at, byte);
        }
        self.place.read = end;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is read from here on can be taken back.
    fn mark(&mut self) {
        self.undo.clear();
        self.marked = Some(self.place);
    }

    /// Takes back what was read since the mark, which stays.
    fn back(&mut self) {
        let Some(place) = self.marked else { return };
        self.place = place;
        while let Some(step) = self.undo.pop() {
            if let Undo::Closed(container) = step {
                self.open.push(container);
                continue;
            }
            let Some(top) = self.open.last_mut() else { continue };
            match step {
                Undo::Opened => {
                    self.open.pop();
                }
                Undo::BeforeKey(before) => top.before_key = before,
                Undo::Entry => {
                    top.entries.pop();
                    if top.formed > top.entries.len() {
                        top.formed = 0;
                        top.forms.clear();
                    }
                }
                Undo::Closed(_) => {}
            }
        }
    }

    /// Takes back what was read since the mark, and drops the mark.
    fn settle(&mut self) {
        self.back();
        self.marked = None;
    }

    fn note(&mut self, step: Undo) {
        if self.marked.is_some() {
            self.undo.push(step);
        }
    }

    fn byte(&mut self, at: usize, byte: u8) {
        match self.place.within {
            Within::Escape => self.place.within = Within::String,
            Within::String => match byte {
                b'\\' => self.place.within = Within::Escape,
                b'"' => {
                    self.place.within = Within::Between;
                    self.ended((self.place.start, at + 1));
                }
                _ => {}
            },
            Within::Scalar if !matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r') => {}
            Within::Scalar => {
                self.place.within = Within::Between;
                self.ended((self.place.start, at));
                self.between(at, byte);
            }
            Within::Between => self.between(at, byte),
        }
    }

    fn between(&mut self, at: usize, byte: u8) {
        match byte {
            b'{' | b'[' => {
                let object = byte == b'{';
                self.open.push(Container {
                    start: at,
                    object,
                    before_key: object,
                    entries: Vec::new(),
                    forms: FxHashSet::default(),
                    formed: 0,
                });
                self.note(Undo::Opened);
            }
            b'}' | b']' => {
                if let Some(container) = self.open.pop() {
                    let start = container.start;
                    self.note(Undo::Closed(container));
                    self.ended((start, at + 1));
                }
            }
            b',' => {
                if let Some(container) = self.open.last_mut() {
                    let before = std::mem::replace(&mut container.before_key, container.object);
                    self.note(Undo::BeforeKey(before));
                }
            }
            b':' | b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => {
                self.place.start = at;
                self.place.within = if byte == b'"' { Within::String } else { Within::Scalar };
            }
        }
    }

    fn ended(&mut self, span: Span) {
        self.place.last = span;
        let Some(container) = self.open.last_mut() else { return };
        if container.before_key {
            container.before_key = false;
            container.entries.push(span);
            self.note(Undo::Entry);
            self.note(Undo::BeforeKey(true));
        } else if !container.object {
            container.entries.push(span);
            self.note(Undo::Entry);
        }
    }

    /// The value that ended with the last byte read, or a scalar that ends there.
    fn ended_value(&self) -> Span {
        if self.place.within == Within::Scalar { (self.place.start, self.place.read) } else { self.place.last }
    }

    /// The value that has ended is none of the entries before it, compared by `form`.
    fn is_new(&mut self, text: &[u8], form: impl Fn(&[u8]) -> Option<String>) -> bool {
        let span = self.ended_value();
        let form = |span: Span| form(&text[span.0..span.1]).unwrap_or_default();
        let Some(container) = self.open.last_mut() else { return true };
        let earlier = container.entries.len() - usize::from(container.entries.last() == Some(&span));
        if container.formed > earlier {
            container.formed = 0;
            container.forms.clear();
        }
        for &entry in &container.entries[container.formed..earlier] {
            container.forms.insert(form(entry).into());
        }
        container.formed = earlier;
        !container.forms.contains(form(span).as_str())
    }

    /// The raw beginning of the key being written, without its quote, and the keys before it, with quotes.
    pub(crate) fn open_key(&self) -> Option<(usize, &[Span])> {
        let container = self.open.last()?;
        let inside = matches!(self.place.within, Within::String | Within::Escape) && container.before_key;
        inside.then_some((self.place.start + 1, container.entries.as_slice()))
    }
}

/// Answers given for the bytes that may follow one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    known: FxHashMap<Box<[u8]>, bool>,
    key: Vec<u8>,
}

impl Answers {
    /// Forgets them: the text has changed.
    pub(crate) fn clear(&mut self) {
        if !self.known.is_empty() {
            self.known.clear();
        }
    }
}

/// Answers checks from a text and some bytes after it, which are taken back in the end.
pub(crate) struct Exact<'a> {
    document: &'a mut Document,
    text: &'a mut Vec<u8>,
    answers: &'a mut Answers,
    /// Where the bytes that are only tried begin.
    settled: usize,
    /// The last byte of the text is being read; else none is.
    reading: bool,
    /// Something was asked.
    pub(crate) asked: bool,
}

impl<'a> Exact<'a> {
    /// Nothing is tried yet.
    pub(crate) fn new(document: &'a mut Document, text: &'a mut Vec<u8>, answers: &'a mut Answers) -> Self {
        let settled = text.len();
        Self { document, text, answers, settled, reading: false, asked: false }
    }

    /// Cuts the bytes tried to so many.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.text.truncate(self.settled + count);
        self.document.back();
    }

    /// One more byte is tried.
    pub(crate) fn read(&mut self, byte: u8) {
        self.text.push(byte);
        self.reading = true;
    }

    fn answer(&mut self, before: bool, check: Check<'_>, expansion: &SharedExpansion) -> bool {
        let end = self.text.len() - usize::from(before && self.reading);
        if self.document.marked.is_none() {
            self.document.read(self.text, self.settled.min(end));
            self.document.mark();
        }
        if self.document.place.read > end {
            self.document.back();
        }
        self.document.read(self.text, end);
        let text = &self.text[..];
        match check {
            Check::Guards(guards) => {
                let (start, end) = self.document.ended_value();
                value(&text[start..end]).is_some_and(|value| {
                    expansion.ask(|expansion| guards.iter().all(|&guard| expansion.guard_check(guard, &value)))
                })
            }
            Check::UniqueKey => self.document.is_new(text, key),
            Check::UniqueItem => self.document.is_new(text, |raw| {
                let mut out = String::new();
                write_normal(&value(raw)?, &mut out);
                Some(out)
            }),
        }
    }
}

impl Drop for Exact<'_> {
    fn drop(&mut self) {
        self.text.truncate(self.settled);
        self.document.settle();
    }
}

impl Checks for Exact<'_> {
    fn value(&mut self, before: bool, check: Check<'_>, expansion: &SharedExpansion) -> Verdict {
        self.asked = true;
        // The answer depends on the check and on the bytes tried up to the value's end.
        let mut key = std::mem::take(&mut self.answers.key);
        key.clear();
        key.push(u8::from(before && self.reading));
        match check {
            Check::UniqueItem => key.push(0),
            Check::UniqueKey => key.push(1),
            Check::Guards(guards) => {
                key.push(2);
                key.extend((guards.len() as u32).to_le_bytes());
                guards.iter().for_each(|guard| key.extend(guard.to_le_bytes()));
            }
        }
        key.extend_from_slice(&self.text[self.settled..self.text.len() - usize::from(before && self.reading)]);
        let holds = if let Some(&known) = self.answers.known.get(key.as_slice()) {
            known
        } else {
            let holds = self.answer(before, check, expansion);
            self.answers.known.insert(key.as_slice().into(), holds);
            holds
        };
        self.answers.key = key;
        if holds { Verdict::Yes } else { Verdict::No }
    }
}

/// A value of the text.
fn value(raw: &[u8]) -> Option<Value> {
    serde_json::from_slice(raw).ok()
}

/// A key, decoded; `raw` has its quotes.
pub(crate) fn key(raw: &[u8]) -> Option<String> {
    serde_json::from_slice(raw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(document.ended_value(), (7, 8));
    }
}
