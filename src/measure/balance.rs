//! How evenly rows are spread over planned attributes, and what the filters did to it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::accuracy::wilson;

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
    /// Its acceptance is below four fifths of the best value's, and Wilson's 95 % intervals of the two lie apart.
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
    /// Rules of the recipe that hold a row to its value; with none, the value is what was planned and no more.
    pub checked_by: Vec<String>,
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
    /// Cramér's V of the kept rows: 0 independent, 1 one says the other. None where a side has one value, or where
    /// there are too few rows to tell.
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

/// Cramér's V of a table of counts, corrected for bias as Bergsma (2013) does, so that few rows in many cells say
/// nothing rather than 1; empty rows and columns do not count.
pub fn cramers_v(table: &[Vec<u64>]) -> Option<f64> {
    let rows: Vec<f64> = table.iter().map(|row| row.iter().sum::<u64>() as f64).collect();
    let width = table.first().map_or(0, Vec::len);
    let columns: Vec<f64> = (0..width).map(|at| table.iter().map(|row| row[at]).sum::<u64>() as f64).collect();
    let all: f64 = rows.iter().sum();
    let filled = |sums: &[f64]| sums.iter().filter(|sum| **sum > 0.0).count() as f64;
    let mut squares = 0.0;
    for (row, in_row) in table.iter().zip(&rows) {
        for (count, in_column) in row.iter().zip(&columns) {
            let expected = in_row * in_column / all;
            if expected > 0.0 {
                squares += (*count as f64 - expected).powi(2) / expected;
            }
        }
    }
    let (height, width) = (filled(&rows), filled(&columns));
    let corrected = |side: f64| side - (side - 1.0).powi(2) / (all - 1.0);
    let freedom = corrected(height).min(corrected(width)) - 1.0;
    let association = (squares / all - (height - 1.0) * (width - 1.0) / (all - 1.0)).max(0.0);
    // Where every row is a cell of its own there is no freedom left, but for rounding.
    (height > 1.0 && width > 1.0 && freedom > 1e-9).then(|| (association / freedom).sqrt().min(1.0))
}

/// Sets acceptance rates, and flags the values below four fifths of the best one.
pub(crate) fn flag(values: &mut [ValueCounts]) {
    for value in values.iter_mut() {
        value.acceptance = (value.generated > 0).then(|| value.kept as f64 / value.generated as f64);
    }
    let best = values.iter().max_by(|a, b| a.acceptance.unwrap_or(0.0).total_cmp(&b.acceptance.unwrap_or(0.0)));
    let Some((best, (least, _))) = best.and_then(|best| Some((best.acceptance?, wilson(best.kept, best.generated))))
    else {
        return;
    };
    for value in values {
        let (_, most) = wilson(value.kept, value.generated);
        value.below_four_fifths = value.acceptance.is_some_and(|rate| rate < FOUR_FIFTHS * best) && most < least;
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
        assert!(close(cramers_v(&[vec![700, 0, 0], vec![0, 700, 0], vec![0, 0, 700]]), 1.0));
        // χ² = 100 (100·400 − 200·300)² · 10 / (300·700·400·600), less 1/999 for bias.
        assert!(close(
            cramers_v(&[vec![100, 200], vec![300, 400]]),
            (((1000.0_f64 / 126.0) / 1000.0 - 1.0 / 999.0) / (1.0 - 1.0 / 999.0)).sqrt()
        ));
        // Eight rows in 64 cells, each in a row and a column of its own, say nothing.
        let apart: Vec<Vec<u64>> = (0..8).map(|row| (0..8).map(|column| u64::from(row == column)).collect()).collect();
        assert_eq!(cramers_v(&apart), None);
        assert_eq!(cramers_v(&[vec![3, 0], vec![4, 0]]), None);
        assert_eq!(cramers_v(&[]), None);
    }

    #[test]
    fn groups_below_four_fifths_of_the_best_are_flagged() {
        let counts = |generated, kept| ValueCounts { generated, kept, ..ValueCounts::default() };
        let flags = |times: u64| {
            let mut values =
                [(10, 10), (10, 8), (10, 7), (0, 0)].map(|(made, kept)| counts(made * times, kept * times));
            flag(&mut values);
            values.map(|value| value.below_four_fifths)
        };
        assert_eq!(flags(10), [false, false, true, false]);
        // Ten attempts are too few for a verdict.
        assert_eq!(flags(1), [false; 4]);
    }
}
