//! Scores: how a judging step asks, and what the probabilities of its choices say.
//!
//! Nothing is drawn. The choices' probabilities after one reading of the prompt, renormalised over the choices,
//! give an expected value and an entropy. A small model leans towards a choice whatever it reads; two means
//! against that, both from the literature: the same question about texts without content
//! (contextual calibration, Zhao et al. 2021, arXiv 2102.09690), and the question with the two texts in the other
//! order (Zheng et al. 2023, arXiv 2306.05685).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::row::Score;

/// What a judging step chooses from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The texts, as they follow the prompt; leading spaces count.
    pub choices: Vec<String>,
    /// What each is worth; 1, 2, 3, … when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// Values that stand for texts without content: the prompt is also read with these, and the probabilities
    /// are divided by what it then gives.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub neutral: Map<String, Value>,
    /// Template of the prompt with its two texts in the other order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<String>,
    /// The choices mean a place (first, second), so that `swapped` turns them around.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub places: bool,
}

/// One reading of a judging step's prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    /// The texts are in the other order.
    pub swapped: bool,
    /// The texts are without content.
    pub neutral: bool,
}

impl Scale {
    /// The readings that a score takes, in order; those of neutral texts are the same for many rows.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let orders: &[bool] = if self.swapped.is_some() { &[false, true] } else { &[false] };
        let contents: &[bool] = if self.neutral.is_empty() { &[false] } else { &[false, true] };
        orders.iter().flat_map(|&swapped| contents.iter().map(move |&neutral| Reading { swapped, neutral })).collect()
    }

    /// What choice `index` is worth.
    pub(crate) fn value(&self, index: usize) -> f64 {
        self.values.get(index).copied().unwrap_or(index as f64 + 1.0)
    }

    /// The score from the probabilities of each of [`Scale::readings`], in their order.
    pub(crate) fn score(&self, readings: &[Vec<f64>]) -> Score {
        let per_order = if self.neutral.is_empty() { 1 } else { 2 };
        let orders: Vec<Vec<f64>> = readings
            .chunks(per_order)
            .enumerate()
            .map(|(order, reading)| {
                let mut of = match reading {
                    [with, without] => normalised(with.iter().zip(without).map(|(p, q)| p / q.max(1e-9)).collect()),
                    _ => reading[0].clone(),
                };
                if order == 1 && self.places {
                    of.reverse();
                }
                of
            })
            .collect();
        let count = self.choices.len();
        let probabilities: Vec<f64> =
            (0..count).map(|choice| orders.iter().map(|of| of[choice]).sum::<f64>() / orders.len() as f64).collect();
        let position_bias = match orders.as_slice() {
            [first, other] => Some(first[count - 1] - other[count - 1]),
            _ => None,
        };
        let entropy: f64 = probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let best = (0..count).max_by(|&a, &b| {
            // Of equals the first.
            probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a))
        });
        Score {
            choice: Some(self.choices[best.unwrap_or(0)].trim().to_owned()),
            expected: Some(probabilities.iter().enumerate().map(|(choice, p)| p * self.value(choice)).sum()),
            entropy: Some(entropy / (count as f64).ln()),
            position_bias,
            probabilities,
            ..Score::default()
        }
    }
}

fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(choices: &[&str]) -> Scale {
        Scale { choices: choices.iter().map(|&choice| choice.to_owned()).collect(), ..Scale::default() }
    }

    #[test]
    fn expectation_and_entropy_follow_the_probabilities() {
        let scale = Scale { values: vec![0.0, 1.0], ..scale(&[" no", " yes"]) };
        let score = scale.score(&[vec![0.25, 0.75]]);
        assert_eq!((score.expected, score.position_bias), (Some(0.75), None));
        assert!(score.entropy.is_some_and(|entropy| (entropy - 0.811_278).abs() < 1e-6), "{score:?}");
        assert_eq!(score.choice.as_deref(), Some("yes"));
        assert_eq!(scale.readings().len(), 1);
    }

    #[test]
    fn what_a_model_says_of_nothing_is_divided_out() {
        let scale = Scale { neutral: Map::from_iter([("text".into(), "N/A".into())]), ..scale(&["a", "b"]) };
        assert_eq!(scale.readings().len(), 2);
        let score = scale.score(&[vec![0.8, 0.2], vec![0.8, 0.2]]);
        assert!((score.probabilities[0] - 0.5).abs() < 1e-12);
        assert!(scale.score(&[vec![0.8, 0.2], vec![0.9, 0.1]]).probabilities[1] > 0.5);
    }

    #[test]
    fn a_leaning_towards_a_place_cancels_out() {
        let scale = Scale { swapped: Some(String::new()), places: true, ..scale(&["A", "B"]) };
        // The first place is always found better.
        let score = scale.score(&[vec![0.9, 0.1], vec![0.9, 0.1]]);
        assert_eq!(score.probabilities, [0.5, 0.5]);
        assert!(score.position_bias.is_some_and(|bias| (bias + 0.8).abs() < 1e-12));
        // The same text is found better in both places.
        let score = scale.score(&[vec![0.9, 0.1], vec![0.2, 0.8]]);
        assert!((score.probabilities[0] - 0.85).abs() < 1e-12);
    }
}
