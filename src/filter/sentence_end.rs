//! A text must end as sentences end: not in the middle of a word, a clause or a list marker.
//!
//! What ends a sentence is in [`instil_grammar::grammar::speech`], which grammars of free texts are made of too.

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};
use instil_grammar::grammar::speech::sentences;

/// Turns down a row whose field does not end as a sentence, nor as what else is allowed ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceEnd {
    /// The field.
    pub field: String,
    /// What may end it beside sentences.
    pub allow: Vec<Ending>,
}

/// What may end a text beside a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The second or a later item of a list.
    List,
    /// The second or a later line of a table whose lines begin and end with `|`.
    Table,
    /// A fenced block of code that is closed.
    Code,
    /// A displayed formula that is closed: `$$…$$`, `\[…\]`, `\end{…}`.
    Formula,
    /// The semicolon of an SQL statement.
    Sql,
}

/// A field, which code may end too; or a field with all that may end it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// The field.
    field: String,
    /// What may end it beside sentences.
    #[serde(default)]
    allow: Vec<Ending>,
}

/// As a recipe writes it.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is made use of")]
pub(super) enum Either {
    /// The field; code may end it too.
    Field(String),
    /// The field, and all that may end it.
    Rule(Written),
}

impl SentenceEnd {
    /// The rule on a field that a block of code may end, too.
    pub fn of(field: String) -> Self {
        Self { field, allow: vec![Ending::Code] }
    }
}

impl Serialize for SentenceEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.allow == [Ending::Code] {
            return serializer.serialize_str(&self.field);
        }
        Written { field: self.field.clone(), allow: self.allow.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SentenceEnd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;

        impl<'de> Visitor<'de> for Entry {
            type Value = SentenceEnd;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a field, or {field: NAME, allow: [list, table, code, formula, sql]}")
            }

            fn visit_str<E>(self, field: &str) -> Result<SentenceEnd, E> {
                Ok(SentenceEnd::of(field.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SentenceEnd, A::Error> {
                let Written { field, allow } = Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(SentenceEnd { field, allow })
            }
        }

        deserializer.deserialize_any(Entry)
    }
}

impl Rule for SentenceEnd {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        let at = if self.allow == [Ending::Code] { "" } else { "/field" };
        vec![FieldRead::field(at, &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for SentenceEnd {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field);
        if ends_sentence(&text) || self.allow.iter().any(|ending| ending.ends(text.trim())) {
            return None;
        }
        let tail: String = text.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
        Some(Reason::new("sentence_end", format!("{} ends with «{tail}»", self.field)))
    }
}

/// Whether a text consists of sentences of which the last one is ended.
pub(crate) fn ends_sentence(text: &str) -> bool {
    sentences(text).is_some_and(|count| count > 0)
}

impl Ending {
    /// Whether `text`, without white space around it, ends so.
    fn ends(self, text: &str) -> bool {
        let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
        let (last, before) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        match self {
            Self::List => {
                // What goes on says so: a comma, a colon, a dash.
                let goes_on = last.ends_with([',', ':', ';', '-', '–', '—', '、', '，', '：', '،', '(', '（']);
                item(last).is_some_and(|item| !goes_on && item.chars().any(char::is_alphanumeric))
                    && text.lines().map(str::trim).filter(|line| item(line).is_some()).count() > 1
            }
            Self::Table => {
                let cells = |line: &str| Some(line.strip_prefix('|')?.strip_suffix('|')?.split('|').count());
                cells(last).is_some() && cells(last) == cells(before)
            }
            Self::Code => {
                let fences = text.lines().filter(|line| line.trim_start().starts_with("```")).count();
                last.ends_with("```") && (fences == 0 || fences.is_multiple_of(2) || last.len() > 3)
            }
            Self::Formula => {
                let closed = text.ends_with("$$") && text.matches("$$").count().is_multiple_of(2);
                closed || text.ends_with("\\]") || last.starts_with("\\end{") && last.ends_with('}')
            }
            Self::Sql => {
                const VERBS: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "ALTER", "DROP"];
                let first = text.split_whitespace().next().unwrap_or_default();
                text.ends_with(';') && VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(first))
            }
        }
    }
}

/// What a line of a list says behind its marker, if it has one: `-`, `*`, `•`, `1.`, `1)`, `a)`, `一、`.
fn item(line: &str) -> Option<&str> {
    if let Some(item) = line.strip_prefix(['-', '*', '+', '•', '·', '–']) {
        return item.starts_with(char::is_whitespace).then_some(item);
    }
    let (marker, item) = line.split_once(['.', ')', '、', '．', '）'])?;
    let numbers = !marker.is_empty() && marker.chars().count() <= 3 && marker.chars().all(char::is_numeric);
    let letter = marker.chars().count() == 1 && marker.chars().all(char::is_alphabetic);
    ((numbers || letter) && !item.trim().is_empty()).then_some(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_end_of_a_sentence() {
        for good in ["It is so.", "Is it?", "He said \"no.\"", "(See above.)", "It is 4 + 5 = 9.", "是的。"] {
            assert!(ends_sentence(good), "{good}");
        }
        for bad in ["It is so", "First:", "It is,", "", "One.\n2.", "...and the"] {
            assert!(!ends_sentence(bad), "{bad}");
        }
    }

    #[test]
    fn a_recipe_says_what_else_may_end_a_text() {
        let passes = |rule: Value, a: &str| {
            let rule: SentenceEnd = serde_json::from_value(rule).expect("a rule");
            rule.check(serde_json::json!({ "a": a }).as_object().expect("an object")).is_none()
        };
        let cases = [
            ("list", "You need:\n1. Flour\n2. Salt\n3. Water", "You need:\n1. Flour\n2. Salt,"),
            ("list", "- 面粉\n- 水", "- 面粉"),
            ("table", "| a | b |\n|---|---|\n| 1 | 2 |", "| a | b |\n|---|---|\n| 1 |"),
            ("code", "```\nx = 1\n```", "```\nx = 1"),
            ("formula", "So\n$$x=1$$", "So\n$$x=1"),
            ("sql", "SELECT 1;", "It is so;"),
        ];
        for (allow, good, bad) in cases {
            let rule = serde_json::json!({"field": "a", "allow": [allow]});
            assert!(passes(rule.clone(), good) && passes(rule.clone(), "It is so."), "{good}");
            assert!(!passes(rule, bad), "{bad}");
            assert_eq!(passes("a".into(), good), allow == "code", "{good}");
            assert!(!passes(serde_json::json!({"field": "a"}), good), "{good}");
        }
        for rule in [serde_json::json!("a"), serde_json::json!({"field": "a", "allow": ["list", "sql"]})] {
            let read: SentenceEnd = serde_json::from_value(rule.clone()).expect("a rule");
            assert_eq!(serde_json::to_value(read).expect("plain data"), rule);
        }
    }
}
