//! What a run will cost, from its first rows: prompts as they will be read, and the bounds of what is decoded.

use serde::Serialize;
use serde_json::json;

use super::seeds::Seeds;
use super::steps::{Decoding, Next, Steps};
use crate::error::Result;
use crate::plan::Plan;
use instil_model::decode::StreamKey;

/// Rows that are tried; their mean stands for the others.
const ROWS_TRIED: u32 = 48;

/// Tokens of a row, in the mean over the rows tried, one attempt each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Estimate {
    /// Fields with their bounds, in the order of the steps.
    pub steps: Vec<StepEstimate>,
    /// Prompt tokens that many rows share, read once each.
    pub shared_prompt_tokens: usize,
    /// Prompt tokens of a row alone.
    pub prompt_tokens: f64,
}

/// What one step decodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct StepEstimate {
    /// Its field.
    pub field: String,
    /// Tokens of the shortest text, the greatest such number over the rows tried.
    pub min_tokens: usize,
    /// The step's limit, and what it may think before.
    pub max_tokens: usize,
    /// Texts of it that a row takes: those that compete, and none in rows that pass it over.
    pub texts: f64,
}

impl Estimate {
    /// Estimates the rows of `plan`, made from `seeds` if there are any; what is wrong with a template, a pattern or a
    /// limit comes out here too.
    ///
    /// # Errors
    /// When a step cannot be set up.
    pub(crate) fn of(plan: &Plan, seeds: &Seeds, steps: &mut Steps) -> Result<Self> {
        let mut estimate = Self {
            steps: plan
                .recipe
                .steps
                .iter()
                .map(|step| StepEstimate {
                    field: step.field.clone(),
                    max_tokens: step.max_tokens,
                    ..StepEstimate::default()
                })
                .collect(),
            ..Self::default()
        };
        let mut shared: Vec<(usize, u32)> = Vec::new();
        let mut prompt_tokens = 0;
        let assignments = plan.recipe.assignments(plan.seed).map_err(|fault| fault.into_usage(&plan.recipe.name))?;
        let rows = plan.rows.min(ROWS_TRIED);
        for (row, attributes) in (0..rows).zip(assignments) {
            let set = plan.recipe.example_set_of(plan.seed, row);
            let key = StreamKey { seed: plan.seed, row, step: 0, attempt: 0 };
            let origin = (!seeds.is_empty()).then(|| seeds.origin(row, None));
            let mut attempt = Decoding::new(key, attributes, set, origin).supposed();
            let mut next = steps.begin(&mut attempt)?;
            while let Next::Request(request) = next {
                let index = usize::from(request.key.step);
                let step = &mut estimate.steps[index];
                if !shared.contains(&(index, set)) {
                    shared.push((index, set));
                    estimate.shared_prompt_tokens += request.prefix.len();
                }
                prompt_tokens += request.prompt.len();
                step.max_tokens = step.max_tokens.max(request.room());
                if let Some(constraint) = request.constraint {
                    step.min_tokens = step.min_tokens.max(constraint.min_tokens());
                    let competing = plan.recipe.steps[index].best_of.as_ref().map_or(1, |best_of| best_of.count);
                    step.texts += f64::from(competing);
                }
                next = steps.suppose(&mut attempt, json!("(what the model writes here)"))?;
            }
        }
        let tried = f64::from(rows.max(1));
        estimate.steps.iter_mut().for_each(|step| step.texts /= tried);
        estimate.prompt_tokens = prompt_tokens as f64 / tried;
        Ok(estimate)
    }

    /// Fewest and most tokens that one attempt at each of `rows` rows decodes.
    pub(crate) fn tokens(&self, rows: u32) -> (f64, f64) {
        let sum =
            |of: fn(&StepEstimate) -> usize| self.steps.iter().map(|step| of(step) as f64 * step.texts).sum::<f64>();
        (sum(|step| step.min_tokens) * f64::from(rows), sum(|step| step.max_tokens) * f64::from(rows))
    }
}
