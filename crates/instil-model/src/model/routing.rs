//! Which experts a row goes through, and with what weights: a function of the row's router products alone.
//!
//! The reference and the CPU's stages choose by it; sums go over experts in their order, so that a choice is the
//! same whatever else is computed. Experts of equal scores are taken in their order.

use super::architecture::{Experts, Scoring};

/// An expert that a row goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Choice {
    pub expert: usize,
    /// Factor of what the expert gives.
    pub weight: f32,
}

/// Memory that choices are made in; kept from row to row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    scores: Vec<f32>,
    /// By which experts are chosen; not a number where one is out of the choice.
    ranks: Vec<f32>,
    groups: Vec<f32>,
}

/// Chooses experts by a row's products with the router, `(count)`, and the biases of the choice where there are
/// some; `chosen` has room for `used` of them, and gets them by falling scores.
pub(super) fn choose(
    a: &Experts,
    products: &[f32],
    bias: Option<&[f32]>,
    scratch: &mut Scratch,
    chosen: &mut [Choice],
) {
    assert!(products.len() == a.count && chosen.len() == a.used, "a product for each expert");
    let Scratch { scores, ranks, groups } = scratch;
    scores.clear();
    match a.scoring {
        Scoring::Softmax => {
            scores.extend_from_slice(products);
            softmax(scores);
        }
        Scoring::Sigmoid => scores.extend(products.iter().map(|&x| sigmoid(x))),
        Scoring::SoftmaxOfChosen => scores.extend_from_slice(products),
    }
    ranks.clear();
    // What is no number is the last that is taken.
    let rank = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    match bias {
        Some(bias) => ranks.extend(scores.iter().zip(bias).map(|(score, bias)| rank(score + bias))),
        None => ranks.extend(scores.iter().map(|&score| rank(score))),
    }
    if a.groups_used < a.groups {
        let size = a.count / a.groups;
        groups.clear();
        groups.extend(ranks.chunks_exact(size).map(|group| {
            let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
            for &rank in group {
                if rank > first {
                    (first, second) = (rank, first);
                } else if rank > second {
                    second = rank;
                }
            }
            first + second
        }));
        for _ in 0..a.groups_used {
            if let Some(group) = greatest(groups) {
                groups[group] = f32::NAN;
            }
        }
        for (ranks, sum) in ranks.chunks_exact_mut(size).zip(groups) {
            if !sum.is_nan() {
                ranks.fill(f32::NAN);
            }
        }
    }
    for choice in chosen.iter_mut() {
        let expert = greatest(ranks).expect("more experts than are used");
        ranks[expert] = f32::NAN;
        *choice = Choice { expert, weight: scores[expert] };
    }
    if a.scoring == Scoring::SoftmaxOfChosen {
        scores.clear();
        scores.extend(chosen.iter().map(|choice| choice.weight));
        softmax(scores);
        chosen.iter_mut().zip(scores).for_each(|(choice, &mut score)| choice.weight = score);
    }
    let sum: f32 = chosen.iter().map(|choice| choice.weight).sum();
    let factor = if a.is_normalised { a.scale / (sum + a.epsilon).max(f32::MIN_POSITIVE) } else { a.scale };
    chosen.iter_mut().for_each(|choice| choice.weight *= factor);
}

/// `1 / (1 + e^−x)`.
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(values: &mut [f32]) {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - greatest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

/// The first of the greatest numbers.
fn greatest(values: &[f32]) -> Option<usize> {
    let mut found: Option<usize> = None;
    for (at, &value) in values.iter().enumerate() {
        if !value.is_nan() && found.is_none_or(|found| value > values[found]) {
            found = Some(at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: Experts = Experts {
        count: 8,
        used: 2,
        width: 32,
        shared_width: 0,
        weighs_shared: false,
        dense_layers: 0,
        scoring: Scoring::Softmax,
        is_normalised: false,
        epsilon: 0.0,
        scale: 1.0,
        groups: 1,
        groups_used: 1,
    };
    const PRODUCTS: [f32; 8] = [0.0, 1.0, 3.0, -1.0, 2.0, 2.0, 0.5, -2.0];

    fn chosen(a: Experts, products: &[f32], bias: Option<&[f32]>) -> Vec<(usize, f32)> {
        let mut chosen = vec![Choice::default(); a.used];
        choose(&a, products, bias, &mut Scratch::default(), &mut chosen);
        chosen.into_iter().map(|choice| (choice.expert, choice.weight)).collect()
    }

    fn near(found: &[(usize, f32)], expected: &[(usize, f32)]) {
        let same = found.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6);
        assert!(same && found.len() == expected.len(), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn weights_are_shares_of_all_or_of_the_chosen() {
        let total: f32 = PRODUCTS.iter().map(|x| x.exp()).sum();
        let (first, second) = (3f32.exp(), 2f32.exp());
        near(&chosen(EIGHT, &PRODUCTS, None), &[(2, first / total), (4, second / total)]);
        let of_chosen = [(2, first / (first + second)), (4, second / (first + second))];
        near(&chosen(Experts { is_normalised: true, ..EIGHT }, &PRODUCTS, None), &of_chosen);
        let halves = Experts { is_normalised: true, epsilon: (first + second) / total, ..EIGHT };
        near(&chosen(halves, &PRODUCTS, None), &of_chosen.map(|(expert, weight)| (expert, weight / 2.0)));
        near(&chosen(Experts { scoring: Scoring::SoftmaxOfChosen, ..EIGHT }, &PRODUCTS, None), &of_chosen);
        let scaled = Experts { scoring: Scoring::Sigmoid, scale: 2.5, ..EIGHT };
        near(&chosen(scaled, &PRODUCTS, None), &[(2, 2.5 * sigmoid(3.0)), (4, 2.5 * sigmoid(2.0))]);
    }

    #[test]
    fn a_bias_moves_the_choice_and_not_the_weights() {
        let a = Experts { scoring: Scoring::Sigmoid, ..EIGHT };
        let bias = [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.9, 0.0];
        near(&chosen(a, &PRODUCTS, Some(&bias)), &[(6, sigmoid(0.5)), (4, sigmoid(2.0))]);
    }

    #[test]
    fn experts_come_from_the_best_groups() {
        // The second group has the greatest product, the third the greatest sum.
        let a = Experts { scoring: Scoring::SoftmaxOfChosen, groups: 4, groups_used: 1, ..EIGHT };
        let found: Vec<usize> = chosen(a, &PRODUCTS, None).iter().map(|choice| choice.0).collect();
        assert_eq!(found, [4, 5]);
    }

    #[test]
    fn products_that_are_no_numbers_are_a_choice_too() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for scoring in [Scoring::Softmax, Scoring::Sigmoid, Scoring::SoftmaxOfChosen] {
                let a = Experts { scoring, groups: 2, groups_used: 1, used: 4, ..EIGHT };
                let mut found: Vec<usize> = chosen(a, &[value; 8], None).iter().map(|choice| choice.0).collect();
                found.sort_unstable();
                found.dedup();
                assert_eq!(found.len(), 4, "{value} {scoring:?}");
            }
        }
    }
}
