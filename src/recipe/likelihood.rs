//! Likelihoods: how well a text follows from its prompt, measured instead of asked.
//!
//! The text is read twice: after the prompt, and after the prompt with texts without content in it. What the
//! content adds to the text's likelihood says how much the two have to do with each other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is measured of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Likelihood {
    /// Template of the text, as it follows the prompt; a leading space counts.
    pub text: String,
    /// Values that stand for texts without content in the prompt.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub neutral: Map<String, Value>,
    /// Template of the prompt without the content, where other values are not enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    /// What the two readings become.
    #[serde(default)]
    pub measure: Measure,
}

/// What the two readings of a text become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Pointwise mutual information of content and text, in nats a token: 0 when they have nothing to do with
    /// each other.
    #[default]
    Information,
    /// Instruction-following difficulty as Li et al. 2023 (arXiv 2308.12032, equation 5) define it: the mean
    /// negative log-likelihood of the answer after the instruction over that of the answer alone. (Their program
    /// divides perplexities instead.)
    Ifd,
    /// Logarithm of the probability, in nats, that the model ends its turn after the text: low where a text was cut
    /// off. Nothing is compared.
    Ending,
}

impl Likelihood {
    /// How many readings it takes.
    pub fn readings(&self) -> usize {
        if self.measure == Measure::Ending { 1 } else { 2 }
    }

    /// The score from `[negative log-likelihood, tokens]` with and without the content, as a record holds it.
    pub fn written(&self, readings: &[Vec<f64>]) -> Value {
        let none = Vec::new();
        let (with, without) = (readings.first().unwrap_or(&none), readings.get(1).unwrap_or(&none));
        let tokens = with.get(1).copied().unwrap_or(0.0).max(1.0);
        let (with, without) = (with.first().unwrap_or(&0.0) / tokens, without.first().unwrap_or(&0.0) / tokens);
        let expected = match self.measure {
            Measure::Information => without - with,
            Measure::Ifd => with / without.max(1e-9),
            Measure::Ending => -with,
        };
        let round = |value: f64| (value * 1e4).round() / 1e4;
        if self.measure == Measure::Ending {
            return json!({ "expected": round(expected) });
        }
        json!({ "expected": round(expected), "nats_with": round(with), "nats_without": round(without) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_measures_follow_their_definitions() {
        let of = |measure| {
            let likelihood = Likelihood { text: String::new(), neutral: Map::new(), without: None, measure };
            likelihood.written(&[vec![6.0, 4.0], vec![8.0, 4.0]])
        };
        assert_eq!(of(Measure::Information)["expected"], 0.5);
        assert_eq!(of(Measure::Ifd)["expected"], 0.75);
        assert_eq!(of(Measure::Ifd)["nats_without"], 2.0);
        assert_eq!(of(Measure::Ending), json!({ "expected": -1.5 }));
    }
}
