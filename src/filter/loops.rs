//! A text must not loop: the same line or the same run of words again and again.

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::text::{text, words};
use super::{FieldRead, Filter, Reason, Rule};

/// Length of the runs that are counted, in words.
const RUN: usize = 3;
/// Share of runs that may repeat an earlier one.
const MOST_REPEATED: f64 = 0.2;

/// Turns down a row whose field repeats itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Loops {
    /// The field.
    pub field: String,
}

impl Rule for Loops {
    fn reads(&self) -> Vec<FieldRead<'_>> {
        vec![FieldRead::field("", &self.field)]
    }

    fn filters(&self) -> Vec<Box<dyn Filter>> {
        vec![Box::new(self.clone())]
    }
}

impl Filter for Loops {
    fn check(&self, row: &Map<String, Value>) -> Option<Reason> {
        let text = text(row, &self.field);
        // The number of a list item does not make it another item.
        let marker = |c: char| c.is_ascii_digit() || c.is_whitespace() || matches!(c, '.' | ')' | '-' | '*' | '•');
        let lines = text.lines().map(|line| line.trim().trim_start_matches(marker));
        let mut lines: Vec<&str> = lines.filter(|line| line.chars().count() > 4).collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        if lines.len() < all {
            return Some(Reason::new("loop", format!("{} repeats a line", self.field)));
        }
        let share = repeated_share(&words(&text));
        (share > MOST_REPEATED).then(|| {
            Reason::new("loop", format!("{:.0} % of {}'s word runs repeat earlier ones", share * 100.0, self.field))
        })
    }
}

/// Share of the text's runs of [`RUN`] words that stood in it before; 0 for short texts.
pub(crate) fn repeated_share(words: &[String]) -> f64 {
    if words.len() < 4 * RUN {
        return 0.0;
    }
    let mut seen: FxHashSet<&[String]> = FxHashSet::default();
    let runs = words.windows(RUN);
    let all = runs.len();
    let repeated = runs.filter(|run| !seen.insert(run)).count();
    repeated as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> bool {
        let row = serde_json::json!({ "a": text });
        Loops { field: "a".into() }.check(row.as_object().expect("an object")).is_some()
    }

    #[test]
    fn finds_loops_and_leaves_prose_alone() {
        assert!(check(&"the cat sat on the mat and ".repeat(5)));
        assert!(check("Here is the first step.\nSomething else entirely.\nHere is the first step."));
        assert!(!check("Bread needs flour, water, salt and yeast. Mix the flour with the water, add salt, then wait."));
        assert!(check("1. Biofuels\n2. Coal\n3. Biofuels"));
        assert!(!check("No no no."));
    }
}
