//! Grammars of steps: what a step asks for, as a constraint, compiled once for all rows that share it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::recipe::prompt::Templates;
use crate::recipe::{self, Output, Step};
use instil_grammar::constraint::{Compiler, Constraint};
use instil_grammar::grammar::{GrammarSource, TextBounds};

/// Constraints kept compiled; beyond that the ones not in use are forgotten.
const KEPT: usize = 1024;

/// The grammars of a plan's steps.
pub(super) struct Grammars<'a> {
    plan: &'a Plan,
    compiler: &'a Compiler,
    compiled: HashMap<(GrammarSource, recipe::Style), Arc<dyn Constraint>>,
    /// Those of steps whose grammar is the same for every row.
    fixed: HashMap<usize, Arc<dyn Constraint>>,
}

impl<'a> Grammars<'a> {
    /// None of them compiled yet.
    pub(super) fn new(plan: &'a Plan, compiler: &'a Compiler) -> Self {
        Self { plan, compiler, compiled: HashMap::new(), fixed: HashMap::new() }
    }

    /// The constraint of the step at `index`, for a row with `values`.
    ///
    /// # Errors
    /// When a template fails, the grammar cannot be enforced, or its shortest text exceeds the step's limit.
    pub(super) fn of_step(
        &mut self,
        index: usize,
        templates: &Templates,
        values: &Map<String, Value>,
    ) -> Result<Arc<dyn Constraint>> {
        if let Some(constraint) = self.fixed.get(&index) {
            return Ok(constraint.clone());
        }
        let step = &self.plan.recipe.steps[index];
        let place = format!("recipe {}, step {}, output", self.plan.recipe.name, step.field);
        let source = self.source(step, templates, values, &place)?;
        let constraint = self.compile(source, step, &place)?;
        if !step.output.varies() {
            self.fixed.insert(index, constraint.clone());
        }
        Ok(constraint)
    }

    fn source(
        &self,
        step: &Step,
        templates: &Templates,
        values: &Map<String, Value>,
        place: &str,
    ) -> Result<GrammarSource> {
        Ok(match &step.output {
            Output::Regex(pattern) => {
                let pattern = templates.render(pattern.trim_end(), values, place)?;
                GrammarSource::Regex(format!("(?:{pattern}){}", regex_syntax::escape(&step.stop)))
            }
            Output::Choice(texts) => {
                let one = |text: &String| -> Result<String> { Ok(templates.render(text, values, place)? + &step.stop) };
                GrammarSource::Choice(texts.iter().map(one).collect::<Result<_>>()?)
            }
            Output::Text(text) => {
                let no_number = |key: &str, text: &str| {
                    let what = format!("{place}: {key} is `{text}`, which is no number");
                    Error::usage(what, "check the attribute's values")
                };
                let bounds = text.bounds(|template| templates.render(template, values, place), no_number)?;
                GrammarSource::Text(TextBounds { stop: step.stop.clone(), ..bounds })
            }
            Output::Schema => GrammarSource::JsonSchema(self.plan.schema.clone()),
            Output::Template(_) | Output::Score(_) | Output::Likelihood(_) | Output::Number(_) => {
                unreachable!("nothing is decoded for them")
            }
        })
    }

    fn compile(&mut self, source: GrammarSource, step: &Step, place: &str) -> Result<Arc<dyn Constraint>> {
        let source = (source, step.style);
        if let Some(known) = self.compiled.get(&source) {
            return Ok(known.clone());
        }
        let constraint = self.compiler.compile(&source.0, step.style.into())?;
        constraint.check_limit(step.max_tokens).map_err(|error| Error::from(error).within(place))?;
        if self.compiled.len() >= KEPT {
            self.compiled.retain(|_, constraint| Arc::strong_count(constraint) > 1);
        }
        self.compiled.insert(source, constraint.clone());
        Ok(constraint)
    }
}
