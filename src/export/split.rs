//! Training and test rows, parted by group: rows of one group never stand on both sides.
//!
//! Groups are taken for testing in the order of their hashes with the seed, each one that brings the share of rows
//! nearer to what was asked, so that few change sides when rows are added.

use std::collections::{BTreeMap, BTreeSet};

use crate::filter::text::{hash, mix};

/// How to part rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// Share of rows that are for testing, above 0 and below 1.
    pub share: f64,
    /// The field whose text names the group; none for the prompt itself, so that rows that ask the same
    /// stay together.
    pub by: Option<String>,
    /// Seed.
    pub seed: u64,
}

impl Split {
    /// The place of a group in the order of groups.
    pub(crate) fn place(&self, group: &str) -> u64 {
        mix(hash(group.as_bytes()) ^ mix(self.seed))
    }

    /// The places of the groups that are for testing, of groups with their numbers of rows. Of two groups and more,
    /// one at least stands on either side.
    pub(crate) fn for_testing(&self, groups: &BTreeMap<u64, u64>) -> BTreeSet<u64> {
        let target = self.share * groups.values().sum::<u64>() as f64;
        let (mut rows, mut taken) = (0, BTreeSet::new());
        for (place, size) in groups {
            if ((rows + size) as f64 - target).abs() < (rows as f64 - target).abs() {
                rows += size;
                taken.insert(*place);
            }
        }
        let smallest = |is_taken: bool| {
            let side = groups.iter().filter(|(place, _)| taken.contains(place) == is_taken);
            side.min_by_key(|(place, size)| (**size, **place)).map(|(place, _)| *place)
        };
        if taken.is_empty() && groups.len() > 1 {
            taken.extend(smallest(false));
        } else if taken.len() == groups.len() && groups.len() > 1 {
            smallest(true).map(|place| taken.remove(&place));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(split: &Split, sizes: &[u64]) -> BTreeMap<u64, u64> {
        sizes.iter().enumerate().map(|(group, size)| (split.place(&group.to_string()), *size)).collect()
    }

    fn rows(split: &Split, sizes: &[u64]) -> u64 {
        let groups = groups(split, sizes);
        split.for_testing(&groups).iter().map(|place| groups[place]).sum()
    }

    #[test]
    fn the_share_is_met_as_nearly_as_groups_allow() {
        for seed in 0..20 {
            let split = Split { share: 0.1, by: None, seed };
            assert_eq!(rows(&split, &[1; 100]), 10);
            assert_eq!(rows(&split, &[2; 50]), 10);
            assert_eq!(rows(&split, &[1; 5]), 1);
            let uneven: Vec<u64> = [60].into_iter().chain([1; 40]).collect();
            assert_eq!(rows(&split, &uneven), 10);
            // A side is never empty where it need not be.
            assert_eq!(rows(&split, &[50, 50]), 50);
            assert_eq!(rows(&Split { share: 0.99, ..split.clone() }, &[1, 1]), 1);
            assert_eq!(rows(&split, &[7]), 0);
        }
    }

    #[test]
    fn few_groups_change_sides_when_rows_are_added() {
        let split = Split { share: 0.1, by: None, seed: 3 };
        let (before, after) = (groups(&split, &[1; 1000]), groups(&split, &[1; 1100]));
        let (before, after) = (split.for_testing(&before), split.for_testing(&after));
        assert_eq!((before.len(), after.len()), (100, 110));
        assert!(before.difference(&after).count() < 20);
        let other = Split { seed: 4, ..split };
        assert!(other.for_testing(&groups(&other, &[1; 1000])).difference(&before).count() > 50);
    }
}
