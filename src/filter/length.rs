//! Bounds on the length of a field, in words and in characters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Problem, Reason, Rule};
use instil_grammar::grammar::speech::word_count;

/// Turns down a row whose field is shorter or longer than its bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Length {
    /// The field.
    pub field: String,
    /// `[least, most]` words, both allowed. A word begins at the first letter or digit behind white space, and
    /// at every letter of a script that is written without spaces (Chinese, Japanese, Thai, …), as in bounds of a `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<(usize, usize)>,
    /// `[least, most]` characters, both allowed: Unicode scalar values, as in bounds of a `text`, so that an accent that
    /// is written apart, or the parts of an emoji, count one each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chars: Option<(usize, usize)>,
}

impl Rule for Length {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("/field", &self.field)]
    }

    fn problem(&self) -> Option<Problem> {
        let crossed = |bounds: Option<(usize, usize)>| bounds.is_some_and(|(least, most)| least > most);
        let what = || Problem::new("", format!("of {} has a least above its most", self.field));
        (crossed(self.words) || crossed(self.chars)).then(what)
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Length {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field);
        let judge = |bounds: Option<(usize, usize)>, count: &dyn Fn() -> usize, unit: &str| {
            let (least, most) = bounds?;
            let count = count();
            (count < least || count > most)
                .then(|| Reason::new("length", format!("{} has {count} {unit}, not {least} to {most}", self.field)))
        };
        judge(self.chars, &|| text.chars().count(), "characters")
            .or_else(|| judge(self.words, &|| word_count(&text), "words"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_allowed_lengths() {
        let rule = Length { field: "a".into(), words: Some((2, 3)), chars: Some((3, 11)) };
        let check = |text: &str| {
            let row = serde_json::json!({ "a": text });
            rule.check(row.as_object().expect("an object")).map(|reason| reason.detail)
        };
        assert_eq!(check("a b"), None);
        assert_eq!(check("aaa bbb ccc"), None);
        assert_eq!(check("one").as_deref(), Some("a has 1 words, not 2 to 3"));
        assert_eq!(check("a b c d").as_deref(), Some("a has 4 words, not 2 to 3"));
        assert_eq!(check("éé").as_deref(), Some("a has 2 characters, not 3 to 11"));
        assert_eq!(check("aaaa bbbb ccc").as_deref(), Some("a has 13 characters, not 3 to 11"));
    }
}
