//! How a recipe draws tokens, and what a run file or flags change in it.

use serde::{Deserialize, Serialize};

use super::Fault;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draws {
    /// See [`crate::decode::Sampling::temperature`].
    pub temperature: f32,
    /// See [`crate::decode::Sampling::top_k`].
    pub top_k: usize,
    /// See [`crate::decode::Sampling::top_p`].
    pub top_p: f32,
    /// See [`crate::decode::Sampling::min_p`].
    pub min_p: f32,
    /// See [`crate::decode::Repetition::strength`].
    pub repetition_strength: f32,
    /// See [`crate::decode::Repetition::allowed`].
    pub repetition_allowed: usize,
}

impl Default for Draws {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 0, top_p: 0.95, min_p: 0.02, repetition_strength: 0.8, repetition_allowed: 3 }
    }
}

/// Settings that replace some of a recipe's [`Draws`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrawsOverride {
    /// See [`Draws::temperature`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// See [`Draws::top_k`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// See [`Draws::top_p`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// See [`Draws::min_p`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// See [`Draws::repetition_strength`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_strength: Option<f32>,
    /// See [`Draws::repetition_allowed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_allowed: Option<usize>,
}

impl DrawsOverride {
    /// These settings, and where they say nothing those of `under`.
    pub fn or(self, under: Self) -> Self {
        Self {
            temperature: self.temperature.or(under.temperature),
            top_k: self.top_k.or(under.top_k),
            top_p: self.top_p.or(under.top_p),
            min_p: self.min_p.or(under.min_p),
            repetition_strength: self.repetition_strength.or(under.repetition_strength),
            repetition_allowed: self.repetition_allowed.or(under.repetition_allowed),
        }
    }
}

impl Draws {
    /// These draws with `changes` in them.
    pub fn with(self, changes: DrawsOverride) -> Self {
        Self {
            temperature: changes.temperature.unwrap_or(self.temperature),
            top_k: changes.top_k.unwrap_or(self.top_k),
            top_p: changes.top_p.unwrap_or(self.top_p),
            min_p: changes.min_p.unwrap_or(self.min_p),
            repetition_strength: changes.repetition_strength.unwrap_or(self.repetition_strength),
            repetition_allowed: changes.repetition_allowed.unwrap_or(self.repetition_allowed),
        }
    }

    /// Finds what no distribution can follow; `at` is the pointer of the settings.
    ///
    /// # Errors
    /// The first fault, with the pointer to it.
    pub fn check(&self, at: &str) -> Result<(), Fault> {
        let fault = |key: &str, value: f32, remedy: &str| {
            Err(Fault::new(format!("{at}/{key}"), format!("`{key}` is {value}"), remedy))
        };
        for (key, value) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if !(0.0..=1.0).contains(&value) {
                return fault(key, value, "use a number from 0 to 1");
            }
        }
        for (key, value) in [("temperature", self.temperature), ("repetition_strength", self.repetition_strength)] {
            if !(value.is_finite() && value >= 0.0) {
                return fault(key, value, "use 0 or a positive number");
            }
        }
        Ok(())
    }
}
