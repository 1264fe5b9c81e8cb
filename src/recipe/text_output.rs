//! Free text as a step's output: bounds that are numbers, or templates that take them from a row's attributes.

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use instil_grammar::grammar::TextBounds;

/// Bounds of a free text. Characters are Unicode scalar values; a word begins at the first letter or digit behind white
/// space, and at every letter of a script that is written without spaces. A sentence ends with `.`, `!`, `?` or `…`
/// before white space or the end, or with a mark of another script (`。`, `।`, `؟`, …); under a bound on sentences the
/// text ends with one, but for closing quotes, brackets and emoji.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextOutput {
    /// Least number of characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_chars: Option<Bound>,
    /// Greatest number of characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<Bound>,
    /// Least number of words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_words: Option<Bound>,
    /// Greatest number of words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_words: Option<Bound>,
    /// Least number of sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sentences: Option<Bound>,
    /// Greatest number of sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sentences: Option<Bound>,
    /// The whole text must match this regex too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Newlines are allowed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub multiline: bool,
}

/// A number, or a template of one: `{{ length.least }}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Bound {
    /// The same for every row.
    Number(u32),
    /// A template that sees what the prompt sees.
    Template(String),
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Bound;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number, or a template of one")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Bound, E> {
                u32::try_from(number)
                    .map(Bound::Number)
                    .map_err(|_| E::custom(format!("{number} is too great a bound")))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Bound, E> {
                u64::try_from(number)
                    .map_err(|_| E::custom("a bound is 0 or more"))
                    .and_then(|number| self.visit_u64(number))
            }

            fn visit_str<E>(self, template: &str) -> Result<Bound, E> {
                Ok(Bound::Template(template.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl TextOutput {
    /// The templates in it, with their keys.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let bounds = self.bounds_by_key().into_iter().filter_map(|(key, bound)| match bound {
            Some(Bound::Template(template)) => Some((key, template.as_str())),
            _ => None,
        });
        bounds.chain(self.pattern.as_deref().map(|pattern| ("pattern", pattern)))
    }

    /// The bounds of one row; `render` makes the text of a template.
    ///
    /// # Errors
    /// What `render` says, or (key, text) where a template gives no number.
    pub(crate) fn bounds<E>(
        &self,
        render: impl Fn(&str) -> Result<String, E>,
        no_number: impl Fn(&str, &str) -> E,
    ) -> Result<TextBounds, E> {
        let number = |(key, bound): (&str, Option<&Bound>)| match bound {
            None => Ok(None),
            Some(Bound::Number(number)) => Ok(Some(*number)),
            Some(Bound::Template(template)) => {
                let text = render(template)?;
                text.trim().parse().map(Some).map_err(|_| no_number(key, &text))
            }
        };
        let [min_chars, max_chars, min_words, max_words, min_sentences, max_sentences] = self.bounds_by_key();
        Ok(TextBounds {
            min_chars: number(min_chars)?.unwrap_or(0),
            max_chars: number(max_chars)?,
            min_words: number(min_words)?.unwrap_or(0),
            max_words: number(max_words)?,
            min_sentences: number(min_sentences)?.unwrap_or(0),
            max_sentences: number(max_sentences)?,
            pattern: self.pattern.as_deref().map(|pattern| render(pattern.trim_end())).transpose()?,
            multiline: self.multiline,
            stop: String::new(),
        })
    }

    fn bounds_by_key(&self) -> [(&'static str, Option<&Bound>); 6] {
        [
            ("min_chars", self.min_chars.as_ref()),
            ("max_chars", self.max_chars.as_ref()),
            ("min_words", self.min_words.as_ref()),
            ("max_words", self.max_words.as_ref()),
            ("min_sentences", self.min_sentences.as_ref()),
            ("max_sentences", self.max_sentences.as_ref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers_or_come_from_the_row() {
        let text = r#"{"min_words": 3, "max_sentences": "{{ most }}", "pattern": "[a-z]+\n"}"#;
        let output: TextOutput = serde_json::from_str(text).expect("an output");
        assert_eq!(output.templates().map(|(key, _)| key).collect::<Vec<_>>(), ["max_sentences", "pattern"]);
        let render = |template: &str| Ok(template.replace("{{ most }}", " 4 "));
        let bounds = output.bounds(render, |key, text| format!("{key} {text}")).expect("numbers");
        assert_eq!((bounds.min_words, bounds.max_sentences, bounds.min_chars), (3, Some(4), 0));
        assert_eq!(bounds.pattern.as_deref(), Some("[a-z]+"));
        let wrong = output.bounds(|_| Ok("many".to_owned()), |key, text| format!("{key} is {text}"));
        assert_eq!(wrong, Err("max_sentences is many".to_owned()));
        for (text, told) in [("-1", "0 or more"), ("5000000000", "too great"), ("true", "a number, or a template")] {
            let error = serde_json::from_str::<Bound>(text).expect_err(text).to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
