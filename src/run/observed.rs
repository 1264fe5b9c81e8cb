//! What labelling found, beside what was planned or is known: agreement, and how far probabilities can be trusted.

use std::path::Path;

use serde::Serialize;

use crate::disk::Lines;
use crate::error::Result;
use crate::measure::accuracy::{Accuracy, accuracy};
use crate::measure::calibration::{Calibration, calibration};
use crate::measure::confusion::Confusion;
use crate::recipe::label::plain;
use crate::recipe::{Output, Recipe};
use crate::row::{self, Meta};

/// One attribute as it was observed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Agreement {
    /// The attribute.
    pub attribute: String,
    /// Rows by observed value, in the order of the values.
    pub observed: Vec<(String, u64)>,
    /// Planned (or known) by observed value; only where rows say what was planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// Share of rows whose observed value is the planned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// Agreement beyond chance: Cohen's kappa.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kappa: Option<f64>,
    /// How far the probabilities lie from the truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// The agreement of each attribute that `recipe` observes, over the records of a run.
///
/// What was planned stands in a row's `meta.before.attributes`, or in a field with the attribute's name.
///
/// # Errors
/// When the records cannot be read.
pub(crate) fn agreement(records: &Path, recipe: &Recipe) -> Result<Vec<Agreement>> {
    struct Seen {
        attribute: String,
        values: Vec<String>,
        counts: Vec<u64>,
        planned: Vec<usize>,
        observed: Vec<usize>,
        probabilities: Vec<Vec<f64>>,
    }
    let mut all: Vec<Seen> = Vec::new();
    for step in &recipe.steps {
        let Output::Score(scale) = &step.output else { continue };
        let values: Vec<String> = scale.choices.iter().map(|choice| choice.trim().to_owned()).collect();
        all.push(Seen {
            attribute: step.field.clone(),
            counts: vec![0; values.len()],
            values,
            planned: Vec::new(),
            observed: Vec::new(),
            probabilities: Vec::new(),
        });
    }
    let mut lines = Lines::open(records)?;
    let mut line = Vec::new();
    while lines.next(&mut line)?.is_some() {
        let Ok(row) = row::parse(&line) else { continue };
        let meta = Meta::of(&row);
        let of_seed = meta.of_seed();
        for seen in &mut all {
            let place = |value: &str| seen.values.iter().position(|known| known == value);
            let Some(score) = meta.score(&seen.attribute) else { continue };
            let Some(observed) = score.choice.as_deref().and_then(place) else { continue };
            seen.counts[observed] += 1;
            let planned = of_seed.attribute(&seen.attribute).or_else(|| row.get(&seen.attribute));
            if let Some(planned) = planned.and_then(|value| place(&plain(value))) {
                seen.planned.push(planned);
                seen.observed.push(observed);
                seen.probabilities.push(score.probabilities);
            }
        }
    }
    Ok(all
        .into_iter()
        .map(|seen| {
            let right: Vec<bool> = seen.planned.iter().zip(&seen.observed).map(|(a, b)| a == b).collect();
            let confusion =
                (!right.is_empty()).then(|| Confusion::new(seen.values.clone(), &seen.planned, &seen.observed));
            Agreement {
                observed: seen.values.into_iter().zip(seen.counts).collect(),
                kappa: confusion.as_ref().and_then(Confusion::kappa),
                accuracy: accuracy(&right),
                calibration: calibration(&seen.probabilities, &seen.planned),
                attribute: seen.attribute,
                confusion,
            }
        })
        .collect())
}
