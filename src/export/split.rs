//! Training and test rows, parted by group: rows of one group never stand on both sides.
//!
//! A group goes where the hash of its name and the seed says, so a row keeps its side when others are
//! added; the share of test rows is met on average, not exactly.

use crate::filter::text::{hash, mix};

/// How to part rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// Share of groups that are for testing, above 0 and below 1.
    pub share: f64,
    /// The field whose text names the group; none for the prompt itself, so that rows that ask the same
    /// stay together.
    pub by: Option<String>,
    /// Seed.
    pub seed: u64,
}

impl Split {
    /// True when rows of `group` are for testing.
    pub(crate) fn is_test(&self, group: &str) -> bool {
        let point = mix(hash(group.as_bytes()) ^ mix(self.seed));
        // 53 bits are what a double holds.
        (point >> 11) as f64 / (1u64 << 53) as f64 <= self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_side_and_the_share_is_met_on_average() {
        let split = Split { share: 0.1, by: None, seed: 3 };
        let test = (0..20_000).filter(|group| split.is_test(&group.to_string())).count();
        // Standard deviation: sqrt(20000 · 0.1 · 0.9) = 42.
        assert!((1830..2170).contains(&test), "{test}");
        assert_eq!(split.is_test("a"), split.is_test("a"));
        let other = Split { seed: 4, ..split.clone() };
        let moved = (0..1000).filter(|group| split.is_test(&group.to_string()) != other.is_test(&group.to_string()));
        assert!(moved.count() > 100);
    }
}
