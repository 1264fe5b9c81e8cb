//! Attributes of a row: an even spread whose beginning never changes.
//!
//! Values are dealt in shuffled rounds: each round of K rows holds each of K values once, so after any
//! number of rows no value is ahead of another by more than one, and more rows never change earlier ones.

use serde_json::{Map, Value};

use super::Attribute;
use crate::decode::StreamKey;

/// `attempt` of the streams that plan rather than decode; decoding attempts stay below it.
const PLANNING: u16 = u16::MAX;

/// The attributes of row `row`.
pub fn assign(attributes: &[Attribute], seed: u64, row: u32) -> Map<String, Value> {
    let values = attributes.iter().zip(0..).map(|(attribute, index)| {
        let value = &attribute.values[deal(attribute.values.len(), seed, index, row)];
        (attribute.name.clone(), value.clone())
    });
    values.collect()
}

/// Which of `count` things (at least one) row `row` gets in dealing `index`.
pub fn deal(count: usize, seed: u64, index: u16, row: u32) -> usize {
    let round = row as usize / count;
    let mut order: Vec<usize> = (0..count).collect();
    let key = StreamKey { seed, row: round as u32, step: index, attempt: PLANNING };
    for last in (1..count).rev() {
        order.swap(last, key.below(last as u32, last + 1));
    }
    order[row as usize % count]
}

/// Which examples of a pool of `pool` stand in set `set`: `shots` different ones.
pub fn example_set(pool: usize, shots: usize, seed: u64, set: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pool).collect();
    let key = StreamKey { seed, row: set, step: u16::MAX, attempt: PLANNING };
    for at in 0..shots.min(pool) {
        order.swap(at, at + key.below(at as u32, pool - at));
    }
    order.truncate(shots);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_balanced() {
        for seed in 0..20 {
            let mut counts = [0usize; 7];
            for row in 0..100 {
                counts[deal(7, seed, 0, row)] += 1;
                let (least, most) = (counts.iter().min(), counts.iter().max());
                assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?}");
            }
        }
    }

    #[test]
    fn sets_hold_different_examples_and_differ_by_seed() {
        let sets: Vec<Vec<usize>> = (0..4).map(|set| example_set(10, 4, 1, set)).collect();
        for set in &sets {
            let mut distinct = set.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 4);
        }
        assert!(sets.iter().any(|set| *set != sets[0]));
        assert_eq!(example_set(2, 4, 1, 0).len(), 2);
    }
}
