//! A text must not speak of the prompt it was made with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Problem, Reason, Rule};

/// What the prompts of Evol-Instruct (arXiv 2304.12244) leave behind when a rewrite fails, and what
/// few-shot and chat prompts leave.
const PHRASES: [&str; 13] = [
    "given prompt",
    "rewritten prompt",
    "new prompt",
    "created prompt",
    "#given prompt#",
    "#rewritten prompt#",
    "#the given prompt#",
    "prompt rewriter",
    "### instruction:",
    "### response:",
    "<|im_start|>",
    "<|im_end|>",
    "[/inst]",
];

/// Turns down a row in which a phrase of a prompt stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptLeak {
    /// The fields.
    pub fields: Vec<String>,
    /// Phrases to find, in place of the built-in ones; case does not matter.
    #[serde(default = "built_in")]
    pub phrases: Vec<String>,
}

fn built_in() -> Vec<String> {
    PHRASES.map(str::to_owned).to_vec()
}

impl PromptLeak {
    /// The built-in phrases over `fields`.
    pub fn new(fields: Vec<String>) -> Self {
        Self { fields, phrases: built_in() }
    }
}

impl Rule for PromptLeak {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        FieldRead::each("/fields", &self.fields).collect()
    }

    fn problem(&self) -> Option<Problem> {
        Problem::empty("/fields", &self.fields)
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for PromptLeak {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        self.fields.iter().find_map(|field| {
            let text = text(row, field).to_lowercase();
            let found = self.phrases.iter().find(|phrase| holds(&text, &phrase.to_lowercase()))?;
            Some(Reason::new("prompt_leak", format!("{field} says «{found}»")))
        })
    }
}

/// True when `phrase` stands in `text` and does not begin or end inside a word.
pub(super) fn holds(text: &str, phrase: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !phrase.is_empty()
        && text.match_indices(phrase).any(|(at, found)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + found.len()..].chars().next());
            let cut_left = is_word(before) && is_word(found.chars().next());
            let cut_right = is_word(after) && is_word(found.chars().next_back());
            !cut_left && !cut_right
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_phrases_in_any_case() {
        let check = |rule: &PromptLeak, text: &str| {
            let row = serde_json::json!({ "a": text });
            rule.check(row.as_object().expect("an object")).is_some()
        };
        let rule = PromptLeak::new(vec!["a".into()]);
        assert!(check(&rule, "Here is the Rewritten Prompt: do it."));
        assert!(check(&rule, "#Given Prompt#: do it"));
        assert!(!check(&rule, "A prompt reply is given promptly."));
        let own = PromptLeak { fields: vec!["a".into()], phrases: vec!["Topic:".into()] };
        assert!(check(&own, "topic: bread") && !check(&own, "the topic is bread"));
    }
}
