//! The Brier score (1950), as its author defined it for any number of classes.

/// The mean over rows of `Σ (p − y)²`, y being 1 for the true class and 0 for the others: 0 is certain and
/// right, 2 certain and wrong. `probabilities` is `(rows, classes)`, `truth` `(rows)`. None without rows.
pub fn brier(probabilities: &[Vec<f64>], truth: &[usize]) -> Option<f64> {
    let of_row = |(row, truth): (&Vec<f64>, &usize)| -> f64 {
        row.iter().enumerate().map(|(class, p)| (p - f64::from(u8::from(class == *truth))).powi(2)).sum()
    };
    let rows = probabilities.len().min(truth.len());
    (rows > 0).then(|| probabilities.iter().zip(truth).map(of_row).sum::<f64>() / rows as f64)
}
