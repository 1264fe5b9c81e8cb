//! A text must end as sentences end: not in the middle of a word, a clause or a list marker.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::text;
use super::{FieldRead, Filter, Reason, Rule};

/// Turns down a row whose field does not end as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SentenceEnd {
    /// The field.
    pub field: String,
}

impl Rule for SentenceEnd {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for SentenceEnd {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field);
        if ends_sentence(&text) {
            return None;
        }
        let tail: String = text.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
        Some(Reason::new("sentence_end", format!("{} ends with «{tail}»", self.field)))
    }
}

/// True when the text ends with a full stop, question or exclamation mark (closing quotes and
/// brackets may follow) after a word, or closes a fenced block of code.
pub(crate) fn ends_sentence(text: &str) -> bool {
    if text.trim_end().ends_with("```") {
        return true;
    }
    let core = text.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»', '*', '`']);
    let Some(before) = core.strip_suffix(['.', '!', '?', '。', '！', '？', '…']) else { return false };
    // A line that holds nothing but a list marker (`3.`) is not a sentence.
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    last_line.chars().any(char::is_alphabetic) || last_line.split_whitespace().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_end_of_a_sentence() {
        for good in
            ["It is so.", "Is it?", "He said \"no.\"", "(See above.)", "x = 1\n```", "It is 4 + 5 = 9.", "是的。"]
        {
            assert!(ends_sentence(good), "{good}");
        }
        for bad in ["It is so", "First:", "It is,", "", "One.\n2.", "...and the"] {
            assert!(!ends_sentence(bad), "{bad}");
        }
    }
}
