//! No two rows may be alike: one field, compared by its words, in row order.

use std::collections::HashMap;

use super::{Reason, words};

/// The texts accepted so far, by their words.
#[derive(Debug, Default)]
pub struct Distinct {
    accepted: HashMap<Vec<String>, u32>,
}

impl Distinct {
    /// The reason to turn `text` down, if an accepted row has the same words.
    pub fn check(&self, field: &str, text: &str) -> Option<Reason> {
        let row = self.accepted.get(&words(text))?;
        Some(Reason::new("duplicate", format!("{field} has the words of row {row}")))
    }

    /// Remembers the text of an accepted row.
    pub fn accept(&mut self, row: u32, text: &str) {
        self.accepted.insert(words(text), row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_make_a_difference() {
        let mut distinct = Distinct::default();
        distinct.accept(3, "What is bread?");
        assert!(distinct.check("q", "what is  Bread").is_some_and(|reason| reason.detail.contains("row 3")));
        assert!(distinct.check("q", "What is butter?").is_none());
    }
}
