//! Few-shot examples of rows: a few sets drawn from the pool, so that rows share prefixes.

use serde_json::{Map, Value};

use super::Recipe;
use super::assign::PLANNING;
use instil_model::decode::StreamKey;

impl Recipe {
    /// Which set of examples row `row` shows: sets are dealt in shuffled rounds.
    pub(crate) fn example_set_of(&self, seed: u64, row: u32) -> u32 {
        let sets = self.example_sets.max(1) as u32;
        let mut order: Vec<u32> = (0..sets).collect();
        let key = StreamKey { seed, row: row / sets, step: u16::MAX - 1, attempt: PLANNING };
        for last in (1..order.len()).rev() {
            order.swap(last, key.below(last as u32, last + 1));
        }
        order[(row % sets) as usize]
    }

    /// The examples of set `set`: `shots` different ones of the pool.
    pub(crate) fn examples_of(&self, seed: u64, set: u32) -> Vec<&Map<String, Value>> {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let key = StreamKey { seed, row: set, step: u16::MAX, attempt: PLANNING };
        for at in 0..self.shots.min(order.len()) {
            let other = at + key.below(at as u32, order.len() - at);
            order.swap(at, other);
        }
        order.into_iter().take(self.shots).map(|index| &self.examples[index]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin;

    #[test]
    fn sets_hold_different_examples_differ_by_seed_and_are_dealt_evenly() {
        let recipe = builtin::recipe("instruction-response").expect("it is built in");
        let sets: Vec<_> = (0..4).map(|set| recipe.examples_of(1, set)).collect();
        for set in &sets {
            assert_eq!(set.len(), recipe.shots);
            assert!(set.iter().enumerate().all(|(at, example)| !set[..at].contains(example)));
        }
        assert!(sets.iter().any(|set| *set != sets[0]));
        let mut counts = vec![0; recipe.example_sets];
        (0..40).for_each(|row| counts[recipe.example_set_of(1, row) as usize] += 1);
        assert!(counts.iter().all(|&count| count == 40 / recipe.example_sets), "{counts:?}");
    }
}
