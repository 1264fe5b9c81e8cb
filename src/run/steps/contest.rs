//! The best of several texts of a step: what each was found worth, and which of them stays.

use serde_json::{Map, Value};

use crate::filter::condition::fits;
use crate::recipe::{BestOf, Recipe};
use crate::row::{Attempt, Reason, Score};

/// Texts of one step that compete.
#[derive(Debug)]
pub(super) struct Contest {
    /// The step whose texts compete.
    step: usize,
    /// The attempt before that step.
    before: Attempt,
    /// Each text so far: its expected score and the attempt with it, or why it was turned down.
    texts: Vec<Result<(f64, Attempt), (Attempt, Reason)>>,
}

impl Contest {
    /// A contest of texts of `step`, before which `attempt` stood.
    pub(super) fn new(step: usize, attempt: &Attempt) -> Self {
        Self { step, before: attempt.clone(), texts: Vec::new() }
    }

    /// Texts of `step` that have entered.
    pub(super) fn entries_of(&self, step: usize) -> u16 {
        if self.step == step { self.texts.len() as u16 } else { 0 }
    }

    fn rule<'r>(&self, recipe: &'r Recipe) -> &'r BestOf {
        recipe.steps[self.step].best_of.as_ref().expect("only such a step begins a contest")
    }

    /// Takes the attempt's text in, once it is turned down or has its score; `false` before.
    pub(super) fn enter(&mut self, recipe: &Recipe, attempt: &mut Attempt, reason: Option<Reason>) -> bool {
        let score = attempt.scores.get(&self.rule(recipe).by).map(Score::of);
        let text = match (reason, score) {
            (Some(reason), _) => Err((std::mem::take(attempt), reason)),
            // A score that could not be read ranks last.
            (None, Some(score)) => Ok((score.expected.unwrap_or(f64::NEG_INFINITY), std::mem::take(attempt))),
            (None, None) => return false,
        };
        self.texts.push(text);
        true
    }

    /// Whether more texts are to enter.
    pub(super) fn is_open(&self, recipe: &Recipe) -> bool {
        self.texts.len() < usize::from(self.rule(recipe).count)
    }

    /// Where the next text begins: the attempt before its step, and the step.
    pub(super) fn next_round(&self) -> (Attempt, usize) {
        (self.before.clone(), self.step)
    }

    /// The step that judges the texts of a row with these attributes.
    pub(super) fn judged_at(&self, recipe: &Recipe, attributes: &Map<String, Value>) -> Option<usize> {
        let by = &self.rule(recipe).by;
        (self.step..recipe.steps.len()).find(|&at| {
            let step = &recipe.steps[at];
            step.field == *by && fits(&step.when, attributes)
        })
    }

    /// The attempt with the highest score, of equals the first; where all texts were turned down, the first with its
    /// reason.
    pub(super) fn best(self) -> Result<Attempt, Box<(Attempt, Reason)>> {
        let mut best: Option<(f64, Attempt)> = None;
        let mut first_failure = None;
        for text in self.texts {
            match text {
                Ok((score, attempt)) if best.as_ref().is_none_or(|(most, _)| score > *most) => {
                    best = Some((score, attempt));
                }
                Ok(_) => {}
                Err(failure) => {
                    first_failure.get_or_insert(failure);
                }
            }
        }
        match (best, first_failure) {
            (Some((_, attempt)), _) => Ok(attempt),
            (None, Some(failure)) => Err(Box::new(failure)),
            (None, None) => unreachable!("a contest has at least one text"),
        }
    }
}
