//! The share that is right, with the score interval of Wilson (1927).

use serde::Serialize;

/// The standard normal quantile of a two-sided 95 % interval.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// A share of rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Rows that are right, over all.
    pub value: f64,
    /// Wilson's 95 % interval.
    pub interval: (f64, f64),
    /// Rows that are right.
    pub right: usize,
    /// All rows.
    pub rows: usize,
}

/// The share of `correct` rows; None without rows.
pub fn accuracy(correct: &[bool]) -> Option<Accuracy> {
    let (right, rows) = (correct.iter().filter(|correct| **correct).count(), correct.len());
    (rows > 0).then(|| Accuracy {
        value: right as f64 / rows as f64,
        interval: wilson(right as u64, rows as u64),
        right,
        rows,
    })
}

/// Wilson's 95 % interval of the share that `right` of `rows` show; all of 0 to 1 without rows.
pub(super) fn wilson(right: u64, rows: u64) -> (f64, f64) {
    if rows == 0 {
        return (0.0, 1.0);
    }
    let (n, value, square) = (rows as f64, right as f64 / rows as f64, Z_95 * Z_95);
    let middle = (value + square / (2.0 * n)) / (1.0 + square / n);
    let half = Z_95 / (1.0 + square / n) * (value * (1.0 - value) / n + square / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}
