//! Likelihoods: how well a text follows from its prompt, measured instead of asked.
//!
//! The text is read twice: after the prompt, and after the prompt with texts without content in it, or after nothing
//! at all. What the content adds to the text's likelihood says how much the two have to do with each other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::row::Score;

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
    /// Instruction-following difficulty as Cherry LLM defines it (Li et al. 2023, arXiv 2308.12032, equation 5): the
    /// mean negative log-likelihood, in nats a token, of the answer after the instruction over that of the answer
    /// alone. Alone means without instruction and template: after the beginning-of-sequence token where the
    /// model's sequences begin with one; else the answer's first token has nothing before it, and the mean is
    /// over the others.
    ///
    /// Superfiltering (arXiv 2402.00530) divides perplexities instead: `exp(nats_with - nats_without)` of a
    /// record's score.
    Ifd,
    /// Logarithm of the probability, in nats, that the model ends its turn after the text: low where a text was cut
    /// off. Nothing is compared.
    Ending,
}

impl Likelihood {
    /// Whether the second reading is of the text alone, after no prompt.
    pub(crate) fn is_alone(&self) -> bool {
        self.measure == Measure::Ifd
    }

    /// How many readings it takes.
    pub(crate) fn readings(&self) -> usize {
        if self.measure == Measure::Ending { 1 } else { 2 }
    }

    /// The score from `[negative log-likelihood, tokens]` with and without the content, as a record holds it. There is
    /// none where nothing could be read.
    pub(crate) fn score(&self, readings: &[Vec<f64>]) -> Score {
        let mean = |reading: usize| match readings.get(reading).map(Vec::as_slice) {
            Some(&[nats, tokens]) if tokens > 0.0 => Some(nats / tokens),
            _ => None,
        };
        let (with, without) = (mean(0), mean(1));
        let both = with.zip(without);
        let expected = match self.measure {
            Measure::Information => both.map(|(with, without)| without - with),
            Measure::Ifd => both.map(|(with, without)| with / without.max(1e-9)),
            Measure::Ending => with.map(|with| -with),
        };
        if self.measure == Measure::Ending {
            return Score { expected, ..Score::default() };
        }
        Score { expected, nats_with: with, nats_without: without, ..Score::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_measures_follow_their_definitions() {
        let of = |measure| {
            let likelihood = Likelihood { text: String::new(), neutral: Map::new(), without: None, measure };
            likelihood.score(&[vec![6.0, 4.0], vec![8.0, 4.0]])
        };
        assert_eq!(of(Measure::Information).expected, Some(0.5));
        assert_eq!(of(Measure::Ifd).expected, Some(0.75));
        assert_eq!(of(Measure::Ifd).nats_without, Some(2.0));
        assert_eq!(of(Measure::Ending), Score::number(-1.5));
        // Alone, a token has nothing before it: the means are over different numbers of tokens.
        let ifd = Likelihood { text: String::new(), neutral: Map::new(), without: None, measure: Measure::Ifd };
        assert_eq!(ifd.score(&[vec![6.0, 4.0], vec![9.0, 3.0]]).expected, Some(0.5));
        assert_eq!(ifd.score(&[vec![6.0, 1.0], vec![0.0, 0.0]]).expected, None);
    }
}
