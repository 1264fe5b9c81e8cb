//! How a recipe draws tokens, and what a run file or flags change in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Fault;

/// Temperature beyond which further attempts are not raised.
const WARMEST: f32 = 1.5;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Draws {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Added to the temperature with every further attempt at a row, up to a temperature of 1.5: what was turned down
    /// because it is like another row should not be said again. A temperature of 0 stays.
    pub temperature_step: f32,
    /// Draw among this many likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Draw among the likeliest tokens that hold this share of the probability; 1 for all.
    pub top_p: f32,
    /// Leave out tokens less likely than this share of the likeliest; 0 for none.
    pub min_p: f32,
    /// How strongly a token is held back that would lengthen a repetition; 0 turns it off.
    pub repetition_strength: f32,
    /// Repeated runs of fewer tokens than this are free.
    pub repetition_allowed: usize,
    /// How strongly, in nats at the token limit, ends are preferred as the limit comes near; 0 turns it off.
    pub landing: f32,
}

impl Default for Draws {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            temperature_step: 0.0,
            top_k: 0,
            top_p: 0.95,
            min_p: 0.02,
            repetition_strength: 0.8,
            repetition_allowed: 3,
            landing: 8.0,
        }
    }
}

/// Settings that replace some of a recipe's [`Draws`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrawsOverride {
    /// Divides the logits; 0 always takes the likeliest token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Added to the temperature with every further attempt at a row, up to a temperature of 1.5: what was turned down
    /// because it is like another row should not be said again. A temperature of 0 stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_step: Option<f32>,
    /// Draw among this many likeliest tokens; 0 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Draw among the likeliest tokens that hold this share of the probability; 1 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Leave out tokens less likely than this share of the likeliest; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// How strongly a token is held back that would lengthen a repetition; 0 turns it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_strength: Option<f32>,
    /// Repeated runs of fewer tokens than this are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_allowed: Option<usize>,
    /// How strongly, in nats at the token limit, ends are preferred as the limit comes near; 0 turns it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landing: Option<f32>,
}

impl DrawsOverride {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These settings, and where they say nothing those of `under`.
    pub(crate) fn or(self, under: Self) -> Self {
        Self {
            temperature: self.temperature.or(under.temperature),
            temperature_step: self.temperature_step.or(under.temperature_step),
            top_k: self.top_k.or(under.top_k),
            top_p: self.top_p.or(under.top_p),
            min_p: self.min_p.or(under.min_p),
            repetition_strength: self.repetition_strength.or(under.repetition_strength),
            repetition_allowed: self.repetition_allowed.or(under.repetition_allowed),
            landing: self.landing.or(under.landing),
        }
    }
}

impl Draws {
    /// These draws with `changes` in them.
    pub(crate) fn with(self, changes: DrawsOverride) -> Self {
        Self {
            temperature: changes.temperature.unwrap_or(self.temperature),
            temperature_step: changes.temperature_step.unwrap_or(self.temperature_step),
            top_k: changes.top_k.unwrap_or(self.top_k),
            top_p: changes.top_p.unwrap_or(self.top_p),
            min_p: changes.min_p.unwrap_or(self.min_p),
            repetition_strength: changes.repetition_strength.unwrap_or(self.repetition_strength),
            repetition_allowed: changes.repetition_allowed.unwrap_or(self.repetition_allowed),
            landing: changes.landing.unwrap_or(self.landing),
        }
    }

    /// The temperature of attempt `attempt` at a row.
    pub(crate) fn temperature_of(&self, attempt: u16) -> f32 {
        if self.temperature == 0.0 {
            return 0.0;
        }
        let warmer = self.temperature + self.temperature_step * f32::from(attempt);
        warmer.min(WARMEST.max(self.temperature))
    }

    /// Finds what no distribution can follow; `at` is the pointer of the settings.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub(crate) fn check(&self, at: &str) -> Result<(), Fault> {
        let fault = |key: &str, value: f32, remedy: &str| {
            Err(Fault::new(format!("{at}/{key}"), format!("`{key}` is {value}"), remedy))
        };
        for (key, value) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if !(0.0..=1.0).contains(&value) {
                return fault(key, value, "use a number from 0 to 1");
            }
        }
        for (key, value) in [
            ("temperature", self.temperature),
            ("temperature_step", self.temperature_step),
            ("repetition_strength", self.repetition_strength),
            ("landing", self.landing),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return fault(key, value, "use 0 or a positive number");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_attempts_are_drawn_warmer_up_to_a_bound() {
        let draws = Draws { temperature: 0.7, temperature_step: 0.1, ..Draws::default() };
        assert_eq!([0, 1, 4, 60].map(|attempt| draws.temperature_of(attempt)), [0.7, 0.8, 1.1, 1.5]);
        let hot = Draws { temperature: 1.8, ..draws };
        assert_eq!(hot.temperature_of(3), 1.8);
        let greedy = Draws { temperature: 0.0, ..draws };
        assert_eq!(greedy.temperature_of(3), 0.0);
    }
}
