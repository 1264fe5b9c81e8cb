//! The Vendi score (Friedman and Dieng 2023): how many texts that share nothing are as diverse.
//!
//! It is the exponential of the entropy of the eigenvalues of K / n, K being the similarities of n texts.
//! The similarity of two texts is the cosine of their sentence embeddings, or, without a model for these, the cosine
//! of their word counts, averaged with that of their word pair counts: the n-gram kernel of the package
//! `vendi-score`.

use std::cmp::Ordering;
use std::collections::HashMap;

/// Name of the kernel in reports.
pub(crate) const KERNEL: &str = "cosine of word 1-grams and 2-grams";

/// The Vendi score of texts by their words; None without texts. Texts without words share nothing.
///
/// Time grows with the cube of their number: 500 texts take about 0.1 s.
pub fn vendi_score(texts: &[Vec<String>]) -> Option<f64> {
    let vectors = [1, 2].map(|order| texts.iter().map(|words| unit_counts(words, order)).collect::<Vec<_>>());
    let similarity = |a: usize, b: usize| vectors.iter().map(|of| cosine(&of[a], &of[b])).sum::<f64>() / 2.0;
    of_similarities(texts.len(), similarity)
}

/// The Vendi score of texts by their embeddings, each of length 1; None without texts.
pub(crate) fn vendi_score_of_embeddings(embeddings: &[Vec<f32>]) -> Option<f64> {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    of_similarities(embeddings.len(), |a, b| product(&embeddings[a], &embeddings[b]))
}

/// The score of `n` things that are all like themselves by 1.
fn of_similarities(n: usize, similarity: impl Fn(usize, usize) -> f64) -> Option<f64> {
    if n == 0 {
        return None;
    }
    let below: Vec<Vec<f64>> = (0..n).map(|row| (0..row).map(|column| similarity(row, column)).collect()).collect();
    let element = |row: usize, column: usize| match row.cmp(&column) {
        Ordering::Greater => below[row][column],
        Ordering::Equal => 1.0,
        Ordering::Less => below[column][row],
    };
    let scaled = |row| (0..n).map(|column| element(row, column) / n as f64).collect();
    let kernel: Vec<Vec<f64>> = (0..n).map(scaled).collect();
    let values = eigenvalues(kernel);
    let entropy: f64 = values.iter().filter(|value| **value > 1e-12).map(|value| -value * value.ln()).sum();
    Some(entropy.exp())
}

fn cosine(a: &HashMap<&[String], f64>, b: &HashMap<&[String], f64>) -> f64 {
    let (less, more) = if a.len() < b.len() { (a, b) } else { (b, a) };
    // Summed in an order of its own, so that the score is the same in every run.
    let mut products: Vec<f64> = less.iter().filter_map(|(gram, value)| Some(value * more.get(gram)?)).collect();
    products.sort_by(f64::total_cmp);
    products.iter().sum()
}

/// Counts of the text's n-grams, scaled to length 1.
fn unit_counts(words: &[String], n: usize) -> HashMap<&[String], f64> {
    let mut counts: HashMap<&[String], f64> = HashMap::new();
    words.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1.0);
    // Squares of whole numbers: their sum is exact in any order.
    let length = counts.values().map(|count| count * count).sum::<f64>().sqrt();
    for count in counts.values_mut() {
        *count /= length;
    }
    counts
}

/// Eigenvalues of a symmetric matrix `(n, n)`, in no order: Householder's reduction to three diagonals,
/// then the QL algorithm with implicit shifts (Golub and Van Loan, §8.3).
pub(crate) fn eigenvalues(matrix: Vec<Vec<f64>>) -> Vec<f64> {
    let (diagonal, beside) = three_diagonals(matrix);
    ql(diagonal, beside)
}

/// The diagonal `(n)` and the elements beside it `(n, the last 0)` of a similar matrix.
#[expect(clippy::many_single_char_names, reason = "the letters are those of the book")]
fn three_diagonals(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<f64>) {
    let n = a.len();
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    for k in 0..n {
        diagonal[k] = a[k][k];
        if k + 1 >= n {
            break;
        }
        // The reflection that takes column k below the diagonal to a multiple of the first unit vector.
        let column: Vec<f64> = (k + 1..n).map(|row| a[row][k]).collect();
        let norm = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm == 0.0 {
            continue;
        }
        let alpha = if column[0] > 0.0 { -norm } else { norm };
        beside[k] = alpha;
        let mut v = column;
        v[0] -= alpha;
        let square = v.iter().map(|x| x * x).sum::<f64>();
        if square == 0.0 {
            continue;
        }
        // A ← H A H on what is left, H = 1 − 2 v vᵀ / |v|².
        let p: Vec<f64> = (0..v.len())
            .map(|row| {
                let line = &a[k + 1 + row][k + 1..];
                2.0 / square * line.iter().zip(&v).map(|(a, v)| a * v).sum::<f64>()
            })
            .collect();
        let half = p.iter().zip(&v).map(|(p, v)| p * v).sum::<f64>() / square;
        let w: Vec<f64> = p.iter().zip(&v).map(|(p, v)| p - half * v).collect();
        for row in 0..v.len() {
            let line = &mut a[k + 1 + row][k + 1..];
            for (column, element) in line.iter_mut().enumerate() {
                *element -= v[row] * w[column] + w[row] * v[column];
            }
        }
    }
    (diagonal, beside)
}

#[expect(clippy::many_single_char_names, reason = "the letters are those of the book")]
fn ql(mut d: Vec<f64>, mut e: Vec<f64>) -> Vec<f64> {
    /// Sweeps for one value; three are usual, and more than this never happened for finite numbers.
    const MOST_SWEEPS: usize = 60;
    let n = d.len();
    for l in 0..n {
        for _ in 0..MOST_SWEEPS {
            // The first small element at or after l cuts the matrix in two.
            let m = (l..n - 1).find(|&m| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs())).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + if g < 0.0 { -r } else { r });
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
            }
            if whole {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filter::words;

    fn score(texts: &[&str]) -> f64 {
        vendi_score(&texts.iter().map(|text| words(text)).collect::<Vec<_>>()).expect("texts")
    }

    #[test]
    fn the_score_counts_texts_that_share_nothing() {
        assert!((score(&["a b", "c d", "e f"]) - 3.0).abs() < 1e-9);
        assert!((score(&["a b", "a b", "a b"]) - 1.0).abs() < 1e-9);
        assert!((score(&["a b", "a b", "c d", "c d"]) - 2.0).abs() < 1e-9);
        assert!((score(&["", "a"]) - 2.0).abs() < 1e-9);
        assert_eq!(vendi_score(&[]), None);
    }

    #[test]
    fn embeddings_count_by_their_angles() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let apart = [vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 0.0]];
        let entropy = -(2.0f64 / 3.0) * (2.0f64 / 3.0).ln() - (1.0f64 / 3.0) * (1.0f64 / 3.0).ln();
        assert!(vendi_score_of_embeddings(&apart).is_some_and(|score| (score - entropy.exp()).abs() < 1e-6));
        let between = vendi_score_of_embeddings(&[vec![1.0, 0.0], vec![half, half]]).expect("two texts");
        assert!(between > 1.0 && between < 2.0, "{between}");
        assert_eq!(vendi_score_of_embeddings(&[]), None);
    }

    #[test]
    fn known_eigenvalues_are_found() {
        let mut values = eigenvalues(vec![vec![2.0, -1.0, 0.0], vec![-1.0, 2.0, -1.0], vec![0.0, -1.0, 2.0]]);
        values.sort_by(f64::total_cmp);
        let root = std::f64::consts::SQRT_2;
        for (value, known) in values.iter().zip([2.0 - root, 2.0, 2.0 + root]) {
            assert!((value - known).abs() < 1e-12, "{values:?}");
        }
        assert_eq!(eigenvalues(vec![vec![3.0]]), [3.0]);
        assert!(eigenvalues(Vec::new()).is_empty());
    }

    proptest! {
        #[test]
        fn traces_of_powers_are_kept(elements in prop::collection::vec(-3i32..4, 64), n in 1usize..9) {
            let at = |row: usize, column: usize| f64::from(elements[row.max(column) * 8 + row.min(column)]);
            let matrix: Vec<Vec<f64>> = (0..n).map(|row| (0..n).map(|column| at(row, column)).collect()).collect();
            let trace: f64 = (0..n).map(|row| matrix[row][row]).sum();
            let squares: f64 = matrix.iter().flatten().map(|x| x * x).sum();
            let product = |i: usize, j: usize| (0..n).map(|k| matrix[i][k] * matrix[k][j]).sum::<f64>();
            let cubes: f64 = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| product(i, j) * matrix[j][i]).sum();
            let values = eigenvalues(matrix);
            let sum = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>();
            prop_assert!((sum(1) - trace).abs() < 1e-9 && (sum(2) - squares).abs() < 1e-8 && (sum(3) - cubes).abs() < 1e-6);
        }
    }
}
