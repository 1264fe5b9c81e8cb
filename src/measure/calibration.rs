//! Expected calibration error: how far confidence lies from accuracy (Naeini and others 2015; Guo and
//! others 2017).
//!
//! A row's confidence is its greatest probability; ten bins of equal width, each open below and closed
//! above.

use serde::Serialize;

/// Bins of confidence.
pub(crate) const BINS: usize = 10;

/// How calibrated probabilities are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: the mean over rows of |accuracy − confidence| of their bin, in `0..=1`.
    pub error: f64,
    /// The bins that hold a row, by ascending confidence.
    pub bins: Vec<Bin>,
}

/// Rows of about one confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Its upper bound.
    pub until: f64,
    /// Its rows.
    pub rows: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// Their share that is right.
    pub accuracy: f64,
}

/// Calibration of `probabilities` `(rows, classes)` whose true classes are `truth` `(rows)`: a row is right
/// when its likeliest class, the first of equals, is the true one. None without rows.
pub fn calibration(probabilities: &[Vec<f64>], truth: &[usize]) -> Option<Calibration> {
    let mut sums = [(0usize, 0.0, 0usize); BINS];
    for (row, &truth) in probabilities.iter().zip(truth) {
        let (class, confidence) = likeliest(row);
        let bin = (1..BINS).filter(|&edge| edge as f64 / (BINS as f64) < confidence).count();
        sums[bin].0 += 1;
        sums[bin].1 += confidence;
        sums[bin].2 += usize::from(class == truth);
    }
    let rows: usize = sums.iter().map(|sum| sum.0).sum();
    if rows == 0 {
        return None;
    }
    let bins: Vec<Bin> = (1..)
        .zip(sums)
        .filter(|(_, (rows, ..))| *rows > 0)
        .map(|(edge, (rows, confidence, right))| Bin {
            until: f64::from(edge) / BINS as f64,
            rows,
            confidence: confidence / rows as f64,
            accuracy: right as f64 / rows as f64,
        })
        .collect();
    let gaps = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs() * bin.rows as f64);
    Some(Calibration { error: gaps.sum::<f64>() / rows as f64, bins })
}

/// The likeliest class, the first of equals, and its probability.
pub fn likeliest(probabilities: &[f64]) -> (usize, f64) {
    let better = |best: (usize, f64), (class, &p): (usize, &f64)| if p > best.1 { (class, p) } else { best };
    probabilities.iter().enumerate().fold((0, 0.0), better)
}
