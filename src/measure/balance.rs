//! How evenly rows are spread over planned attributes, and what the filters did to it.

use std::collections::BTreeMap;

use serde::Serialize;

/// Share of the best group's acceptance rate below which a group is flagged (the four-fifths rule).
pub(crate) const FOUR_FIFTHS: f64 = 0.8;

/// Rows of one value of an attribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ValueCounts {
    /// The value.
    pub value: String,
    /// Rows that the plan wants with it.
    pub planned: Option<f64>,
    /// Attempts made with it.
    pub generated: u64,
    /// Rows accepted with it.
    pub kept: u64,
    /// `kept / generated`.
    pub acceptance: Option<f64>,
    /// Its acceptance is below four fifths of the best value's.
    pub below_four_fifths: bool,
}

/// How an attribute is spread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Name of the attribute.
    pub attribute: String,
    /// Its values, in the order of the plan, then of the alphabet.
    pub values: Vec<ValueCounts>,
    /// Entropy of the kept rows, divided by ln K: 1 is even. None for a single value or no row.
    pub entropy: Option<f64>,
    /// Total variation between the kept rows and the plan: 0 is as planned, 1 has nothing in common.
    pub total_variation: Option<f64>,
}

/// Two attributes together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairSpread {
    /// Their names.
    pub attributes: (String, String),
    /// Cells: products of values.
    pub cells: u64,
    /// Cells without a kept row.
    pub empty: u64,
    /// Cramér's V of the kept rows: 0 independent, 1 one says the other. None where a side has one value.
    pub cramers_v: Option<f64>,
}

/// Entropy of counts over ln K, K being their number, zeros included.
pub fn normalised_entropy(counts: &[u64]) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if counts.len() < 2 || all == 0 {
        return None;
    }
    let shares = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / all as f64);
    let entropy = -shares.map(|share| share * share.ln()).sum::<f64>();
    Some((entropy / (counts.len() as f64).ln()).max(0.0))
}

/// Half the sum of the differences between the shares of `counts` and of `target`, place by place.
pub(crate) fn total_variation(counts: &[u64], target: &[f64]) -> Option<f64> {
    let (all, wanted) = (counts.iter().sum::<u64>() as f64, target.iter().sum::<f64>());
    if all == 0.0 || wanted <= 0.0 {
        return None;
    }
    Some(counts.iter().zip(target).map(|(count, want)| (*count as f64 / all - want / wanted).abs()).sum::<f64>() / 2.0)
}

/// Cramér's V of a table of counts, without correction for bias; empty rows and columns do not count.
pub fn cramers_v(table: &[Vec<u64>]) -> Option<f64> {
    let rows: Vec<f64> = table.iter().map(|row| row.iter().sum::<u64>() as f64).collect();
    let width = table.first().map_or(0, Vec::len);
    let columns: Vec<f64> = (0..width).map(|at| table.iter().map(|row| row[at]).sum::<u64>() as f64).collect();
    let all: f64 = rows.iter().sum();
    let filled = |sums: &[f64]| sums.iter().filter(|sum| **sum > 0.0).count();
    let freedom = filled(&rows).min(filled(&columns)).checked_sub(1).filter(|freedom| *freedom > 0)?;
    let mut squares = 0.0;
    for (row, in_row) in table.iter().zip(&rows) {
        for (count, in_column) in row.iter().zip(&columns) {
            let expected = in_row * in_column / all;
            if expected > 0.0 {
                squares += (*count as f64 - expected).powi(2) / expected;
            }
        }
    }
    Some((squares / (all * freedom as f64)).sqrt().min(1.0))
}

/// Sets acceptance rates, and flags the values below four fifths of the best one.
pub(crate) fn flag(values: &mut [ValueCounts]) {
    for value in values.iter_mut() {
        value.acceptance = (value.generated > 0).then(|| value.kept as f64 / value.generated as f64);
    }
    let best = values.iter().filter_map(|value| value.acceptance).fold(0.0, f64::max);
    for value in values {
        value.below_four_fifths = value.acceptance.is_some_and(|rate| rate < FOUR_FIFTHS * best);
    }
}

/// Counts of kept rows by the values of two attributes, as a table.
pub(crate) fn table(cells: &BTreeMap<(usize, usize), u64>, rows: usize, columns: usize) -> Vec<Vec<u64>> {
    let mut table = vec![vec![0; columns]; rows];
    for ((row, column), count) in cells {
        table[*row][*column] = *count;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn entropy_and_variation_follow_their_definitions() {
        assert!(close(normalised_entropy(&[5, 5, 5]), 1.0));
        assert!(close(normalised_entropy(&[9, 0]), 0.0));
        // H(3/4, 1/4) = 0.5623351446 nats; ln 2 = 0.6931471806.
        assert!(close(normalised_entropy(&[3, 1]), 0.562_335_144_618_808_3 / std::f64::consts::LN_2));
        assert_eq!(normalised_entropy(&[4]), None);
        assert_eq!(normalised_entropy(&[0, 0]), None);
        assert!(close(total_variation(&[3, 1], &[1.0, 1.0]), 0.25));
        assert!(close(total_variation(&[4, 0], &[0.0, 2.0]), 1.0));
        assert_eq!(total_variation(&[0], &[1.0]), None);
    }

    #[test]
    fn association_is_0_for_independent_and_1_for_equal_attributes() {
        assert!(close(cramers_v(&[vec![2, 4], vec![3, 6]]), 0.0));
        assert!(close(cramers_v(&[vec![7, 0, 0], vec![0, 7, 0], vec![0, 0, 7]]), 1.0));
        // χ² = 100 (10·40 − 20·30)² / (30·70·40·60): V = 0.0890870806.
        assert!(close(cramers_v(&[vec![10, 20], vec![30, 40]]), 0.089_087_080_637_474_8));
        assert_eq!(cramers_v(&[vec![3, 0], vec![4, 0]]), None);
        assert_eq!(cramers_v(&[]), None);
    }

    #[test]
    fn groups_below_four_fifths_of_the_best_are_flagged() {
        let counts = |generated, kept| ValueCounts { generated, kept, ..ValueCounts::default() };
        let mut values = [counts(10, 10), counts(10, 8), counts(10, 7), counts(0, 0)];
        flag(&mut values);
        assert_eq!(values.each_ref().map(|value| value.below_four_fifths), [false, false, true, false]);
    }
}
