//! YAML files of users: one-line errors with the line, and the line of any place in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::error::{Error, Result, suggest};

/// Most bytes of a YAML file.
const MOST_BYTES: u64 = 4 << 20;

/// What cannot work in a plan, and where: a finding before it knows its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// JSON pointer of the place (`/attributes/2/weights`).
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

impl Fault {
    /// A finding at the JSON pointer `at`.
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into(), remedy: remedy.into() }
    }

    /// The same finding in a part of a larger file.
    pub(crate) fn under(self, pointer: &str) -> Self {
        Self { at: format!("{pointer}{}", self.at), ..self }
    }

    /// The error for a plan that came from no file; `origin` names what is at fault.
    pub(crate) fn into_usage(self, origin: &str) -> Error {
        let place = self.at.trim_start_matches('/').replace('/', ".");
        let place = if place.is_empty() { String::new() } else { format!(", {place}") };
        Error::usage(format!("{origin}{place}: {}", self.what), self.remedy)
    }

    /// The error that names file and line.
    pub(crate) fn in_file(self, path: &Path, text: &str) -> Error {
        let place = if self.at.is_empty() { String::new() } else { format!("{}: ", self.at) };
        let what = match line_of(text, &self.at) {
            Some(line) => format!("line {line}: {place}{}", self.what),
            None => format!("{place}{}", self.what),
        };
        Error::input(path, what, self.remedy)
    }
}

/// Reads a YAML file of a user as text.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is too long to be one.
pub(crate) fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(|cause| Error::io("read", path, cause))?.len();
    if size > MOST_BYTES {
        return Err(Error::input(path, format!("{size} bytes are too many for a YAML file"), "check the path"));
    }
    let bytes = std::fs::read(path).map_err(|cause| Error::io("read", path, cause))?;
    String::from_utf8(bytes).map_err(|_| Error::input(path, "is not UTF-8 text", "save it as UTF-8"))
}

/// Parses YAML; `path` names it in errors, and `remedy` is what helps where no key is nearly right.
///
/// # Errors
/// [`Error::Input`] with the line, naming the nearest known key where one is unknown.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, path: &Path, remedy: &str) -> Result<T> {
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed = serde_saphyr::from_str_with_options(text, options.clone()).and_then(|parsed| {
        // As JSON too: infinities and what is no number are YAML, and no plan could be written down with them.
        serde_saphyr::from_str_with_options::<serde_json::Value>(text, options)?;
        Ok(parsed)
    });
    parsed.map_err(|cause| {
        let location = cause.location();
        let cause = cause.without_snippet().to_string();
        let told = cause.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let (what, nearest) = suggest::explain(strip_place(&told));
        let what = match location {
            Some(location) if location.line() > 0 => format!("line {}: {what}", location.line()),
            _ => what,
        };
        Error::input(path, what, if nearest.is_empty() { remedy } else { &nearest })
    })
}

/// A message without the reader's own account of the place.
fn strip_place(message: &str) -> &str {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    match message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, rest)) if place.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ') => rest,
        _ => message.split_once(" at line ").map_or(message, |(what, _)| what),
    }
}

/// The line (from 1) on which the place that a JSON pointer names begins, or its nearest parent that is there.
pub(crate) fn line_of(text: &str, pointer: &str) -> Option<u64> {
    let mut tree: Spanned<Tree> = serde_saphyr::from_str(text).ok()?;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match tree.value.0.remove(&part) {
            Some(child) => tree = child,
            None => break,
        }
    }
    Some(tree.referenced.line()).filter(|line| *line > 0)
}

/// Where everything in a YAML text stands; lists are maps from their indices.
struct Tree(BTreeMap<String, Spanned<Tree>>);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places;

        impl<'de> Visitor<'de> for Places {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut places = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    places.insert(key, map.next_value()?);
                }
                Ok(Tree(places))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut places = BTreeMap::new();
                while let Some(place) = list.next_element()? {
                    places.insert(places.len().to_string(), place);
                }
                Ok(Tree(places))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree(BTreeMap::new()))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
                IgnoredAny::deserialize(deserializer).map(|_| Tree(BTreeMap::new()))
            }
        }

        deserializer.deserialize_any(Places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "rows: 3\nattributes:\n  - name: a\n    values: [x, y]\n  - name: b\n    values:\n      - 1\n      - two: null\n";

    #[test]
    fn every_place_has_its_line() {
        let line = |pointer| line_of(TEXT, pointer);
        assert_eq!(line("/rows"), Some(1));
        assert_eq!(line("/attributes/0/values/1"), Some(4));
        assert_eq!(line("/attributes/1/values/1/two"), Some(8));
        // What is not there is told at the nearest place that is.
        assert_eq!(line("/attributes/1/weights"), Some(5));
        assert_eq!(line_of("[", ""), None);
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it parses is asked")]
    struct Small {
        rows: u32,
        seed: Option<u32>,
    }

    #[test]
    fn errors_are_one_line_with_the_line_and_what_helps() {
        let told = |text: &str| parse::<Small>(text, Path::new("r.yaml"), "compare it").expect_err(text).to_string();
        assert_eq!(told("rows: 1\nsede: 2\n"), "r.yaml: line 2: unknown key `sede`; did you mean `seed`?");
        for (text, line) in [("rows: 1\nseed: many\n", "line 2"), ("rows: [\n", "line"), ("seed: 1\n", "rows")] {
            let told = told(text);
            assert!(told.contains(line) && !told.contains('\n') && told.contains("; "), "{told}");
        }
    }
}
