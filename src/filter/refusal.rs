//! An answer must answer: no refusal, no talk of being a language model.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};

/// What a refusal opens with.
const OPENINGS: [&str; 17] = [
    "i'm sorry, but",
    "i am sorry, but",
    "i'm sorry, i can",
    "i'm sorry i can",
    "sorry, but i can",
    "sorry, i can",
    "i apologize, but",
    "i cannot assist",
    "i can't assist",
    "i cannot help",
    "i can't help",
    "i cannot provide",
    "i can't provide",
    "i cannot fulfill",
    "i can't fulfill",
    "i am unable to",
    "i'm unable to",
];
/// What betrays the machine wherever it stands.
const ANYWHERE: [&str; 12] = [
    "as an ai language model",
    "as an ai assistant",
    "as an ai model",
    "as an ai, i",
    "as a language model",
    "as a large language model",
    "i am an ai language model",
    "i'm just an ai",
    "i am just an ai",
    "my knowledge cutoff",
    "i do not have personal opinions",
    "i don't have personal opinions",
];
/// Evol-Instruct's rule: an answer with "sorry" in it and fewer words than this has failed.
const SORRY_WORDS: usize = 80;
/// Characters in which a refusal must begin to count as an opening.
const OPENING_CHARS: usize = 200;

/// Turns down a row whose field refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refusal {
    /// The field.
    pub field: String,
}

impl Rule for Refusal {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Refusal {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let found = refusal(&text(row, &self.field))?;
        Some(Reason::new("refusal", format!("{} says «{found}»", self.field)))
    }
}

/// Turns down a row whose short field says "sorry" anywhere: Evol-Instruct's second elimination rule to the letter
/// (arXiv 2304.12244). [`Refusal`] is the finer rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sorry {
    /// The field.
    pub field: String,
}

impl Rule for Sorry {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Sorry {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field).to_lowercase();
        let count = text.split_whitespace().count();
        (count < SORRY_WORDS && text.contains("sorry"))
            .then(|| Reason::new("sorry", format!("{} says sorry in {count} words", self.field)))
    }
}

/// The phrase by which a text refuses, if it does.
pub(crate) fn refusal(text: &str) -> Option<&'static str> {
    let plain = text.to_lowercase().replace(['’', '‘'], "'");
    let opening: String = plain.chars().take(OPENING_CHARS).collect();
    // A refusal opens a sentence; the same words inside a story or a quotation do not count.
    let sentences = || opening.split(['.', '!', '?', '\n']).map(str::trim_start);
    if let Some(phrase) = OPENINGS.iter().find(|phrase| sentences().any(|sentence| sentence.starts_with(**phrase))) {
        return Some(phrase);
    }
    if let Some(phrase) = ANYWHERE.iter().find(|phrase| plain.contains(**phrase)) {
        return Some(phrase);
    }
    let sorry =
        ["i'm sorry", "i am sorry", "sorry,"].into_iter().find(|phrase| opening.trim_start().starts_with(phrase));
    sorry.filter(|_| plain.split_whitespace().count() < SORRY_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_must_not_be_sorry() {
        let rule = Sorry { field: "a".into() };
        let check = |a: &str| rule.check(serde_json::json!({ "a": a }).as_object().expect("an object")).is_some();
        assert!(check("I'm so Sorry about that.") && !check("It is a wasp."));
        assert!(!check(&format!("Sorry. {}", "word ".repeat(79))) && check(&format!("Sorry. {}", "word ".repeat(78))));
    }

    #[test]
    fn refusals_are_found_and_talk_about_them_is_not() {
        for bad in [
            "I'm sorry, but I can't help with that.",
            "I’m sorry, I can’t do this.",
            "Thank you for asking! I cannot provide medical advice.",
            "As an AI language model, I have no body.",
            "Well. As a large language model I was trained on text.",
            "Sorry, that is not possible.",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
        for good in [
            "She said that she was sorry, but he had left.",
            "Write: \"We are sorry for the delay.\" Then sign it.",
            "An AI model such as this one learns from text.",
            "Bread rises because of yeast.",
            "A host says \"I cannot help you\" in the second act.",
            "",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        let long = format!("I'm sorry to hear of it. {}", "Rest well and drink a lot of water. ".repeat(15));
        assert_eq!(refusal(&long), None);
    }
}
