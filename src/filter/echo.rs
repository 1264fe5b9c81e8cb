//! An answer must not be its question again.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::{text, words};
use super::{FieldRead, Filter, Reason, Rule};

/// Words of the source in a row that the answer may take over.
const LONGEST_COPY: usize = 8;

/// Turns down a row whose `echo` field repeats its `source` field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct Echo {
    /// The question.
    pub source: String,
    /// The answer.
    pub echo: String,
}

impl From<(String, String)> for Echo {
    fn from((source, echo): (String, String)) -> Self {
        Self { source, echo }
    }
}

impl From<Echo> for (String, String) {
    fn from(rule: Echo) -> Self {
        (rule.source, rule.echo)
    }
}

impl Rule for Echo {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("/0", &self.source), FieldRead::field("/1", &self.echo)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Echo {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let (source, echo) = (words(&text(row, &self.source)), words(&text(row, &self.echo)));
        let whole = !source.is_empty() && source.len() <= echo.len() && echo.starts_with(&source);
        let copied = longest_copy(&source, &echo);
        (whole || copied > LONGEST_COPY.min(source.len().saturating_sub(1)).max(4)).then(|| {
            Reason::new("echo", format!("{} takes over {copied} words of {} in a row", self.echo, self.source))
        })
    }
}

/// Length of the longest run of words that stands in both.
pub(crate) fn longest_copy(a: &[String], b: &[String]) -> usize {
    let mut longest = 0;
    let mut previous = vec![0usize; b.len() + 1];
    for word in a {
        let mut current = vec![0usize; b.len() + 1];
        for (at, other) in b.iter().enumerate() {
            if word == other {
                current[at + 1] = previous[at] + 1;
                longest = longest.max(current[at + 1]);
            }
        }
        previous = current;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, echo: &str) -> bool {
        let row = serde_json::json!({ "q": source, "a": echo });
        Echo { source: "q".into(), echo: "a".into() }.check(row.as_object().expect("an object")).is_some()
    }

    #[test]
    fn finds_answers_that_repeat_the_question() {
        assert!(check("Explain how bread rises.", "Explain how bread rises. Bread rises because of yeast."));
        assert!(check(
            "Describe why the sky looks blue in the middle of a clear day.",
            "One can say why the sky looks blue in the middle of a clear day."
        ));
        assert!(!check("Explain how bread rises.", "Yeast makes gas, and the gas makes bread rise."));
        assert!(!check("What is the capital of France?", "The capital of France is Paris."));
    }
}
