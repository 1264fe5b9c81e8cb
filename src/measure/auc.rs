//! The area under the ROC curve: how often a score puts a positive row above a negative one.
//!
//! The Mann-Whitney statistic, ties counted half, with the interval of DeLong and others (1988) as
//! computed from mid-ranks by Sun and Xu (2014) in O(n log n).

use serde::Serialize;

use super::accuracy::Z_95;

/// An area under the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Auc {
    /// In `0..=1`; 0.5 is a score that knows nothing.
    pub value: f64,
    /// DeLong's 95 % interval, cut to `0..=1`. None where the rows show no spread to estimate from: fewer
    /// than two on a side, or sides that the score parts without exception.
    pub interval: Option<(f64, f64)>,
    /// Positive rows.
    pub positives: usize,
    /// Negative rows.
    pub negatives: usize,
}

/// The area under the curve of `scores`, higher meaning more likely `positive`, both `(rows)`. None when a
/// side has no row.
pub fn auc(scores: &[f64], positive: &[bool]) -> Option<Auc> {
    let side = |wanted: bool| -> Vec<f64> {
        scores.iter().zip(positive).filter(|(_, is)| **is == wanted).map(|(score, _)| *score).collect()
    };
    let (above, below) = (side(true), side(false));
    if above.is_empty() || below.is_empty() {
        return None;
    }
    let together: Vec<f64> = above.iter().chain(&below).copied().collect();
    let ranks = mid_ranks(&together);
    let (ranks_above, ranks_below) = ranks.split_at(above.len());
    // For each row, the share of the other side that it stands on the right side of.
    let placements = |all: &[f64], own: &[f64], others: usize| -> Vec<f64> {
        all.iter().zip(own).map(|(all, own)| (all - own) / others as f64).collect()
    };
    let of_above = placements(ranks_above, &mid_ranks(&above), below.len());
    let of_below = placements(ranks_below, &mid_ranks(&below), above.len());
    let value = of_above.iter().sum::<f64>() / above.len() as f64;
    let interval = variance(&of_above).zip(variance(&of_below)).and_then(|(a, b)| {
        let error = (a / above.len() as f64 + b / below.len() as f64).sqrt();
        (error > 0.0).then(|| ((value - Z_95 * error).max(0.0), (value + Z_95 * error).min(1.0)))
    });
    Some(Auc { value, interval, positives: above.len(), negatives: below.len() })
}

/// Ranks from 1; values that are equal share the mean of theirs.
fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for alike in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = f64::midpoint((first + 1) as f64, (first + alike.len()) as f64);
        alike.iter().for_each(|&at| ranks[at] = rank);
        first += alike.len();
    }
    ranks
}

/// The sample variance; None for fewer than two values.
fn variance(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then_some(squares / (count - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_are_parted_have_no_spread() {
        let found = auc(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true]).expect("two sides");
        assert_eq!((found.value, found.interval), (1.0, None));
        assert_eq!(auc(&[1.0, 1.0, 1.0], &[false, true, true]).map(|found| found.value), Some(0.5));
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auc(&[], &[]), None);
    }
}
