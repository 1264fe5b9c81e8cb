//! `instil validate`: whether a run can begin, and what it will be, without a model's weights.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::Result;
use crate::catalog::Catalog;
use crate::catalog::manifest::Kind;
use crate::catalog::source::{Places, Presence, locate};
use crate::plan::Plan;
use crate::run::Estimate;
use crate::run::seeds::Seeds;
use crate::run::steps::{Reader, Steps};
use clap::Args;
use instil_grammar::constraint::Settings;
use instil_model::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::making::MakingOptions;
use super::options::{Engine, ModelOptions, validator};
use super::run_options::{RunOptions, ShapeOptions};
use super::setup;
use super::speed::{self, Speed};
use super::wanted::{Models, Wanted};

/// Cells listed for a person.
const CELLS_SHOWN: usize = 12;

const EXAMPLES: &str = "\
Examples:
  instil validate -c run.yaml
  instil validate --recipe my-recipe.yaml -n 1000 --json | jq .cells";

/// Check a run file without generating: schema, cells, quotas, limits, an estimate of tokens and time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateArguments {
    #[command(flatten)]
    shape: ShapeOptions,
    #[command(flatten)]
    run: RunOptions,
}

/// Checks it all and tells what was found.
pub(super) fn run(arguments: &ValidateArguments, console: &Console) -> Result<Answer> {
    let source = arguments.run.source(&arguments.shape, None)?;
    let wanted = Wanted::planned(&arguments.run, &MakingOptions::default(), &source)?;
    let model = wanted.model.clone();
    // No weights are read, so nothing is found of the models.
    let mut plan = wanted.plan(Models::default());
    validator(&plan.schema)?;
    instil_grammar::constraint::enforcement(&plan.schema, Engine::Instil.into())?;
    if let Some(rule) = &plan.recipe.filters.semantic {
        setup::embedder_manifest(rule)?;
    }
    let tokenizer = tokenizer(&model)?;
    if let Some(tokenizer) = &tokenizer {
        plan.model.chat = setup::chat_of(tokenizer, &model.chat, &plan.recipe, |_| true)?.0;
    }
    let estimate = match &tokenizer {
        None => None,
        Some(tokenizer) => {
            let compiler = setup::compiler(tokenizer, Engine::Instil, Settings::default());
            let seeds = if plan.recipe.seeds.is_some() { Seeds::stand_in() } else { Seeds::default() };
            let reader = Reader { tokenizer: tokenizer.clone(), context_length: usize::MAX };
            let mut steps = Steps::new(&plan, &seeds, reader, None, &compiler)?;
            Some(Estimate::of(&plan, &seeds, &mut steps)?)
        }
    };
    let assignments = plan.recipe.assignments(plan.seed).map_err(|fault| fault.into_usage(&plan.recipe.name))?;
    let cells: Vec<(Value, f64)> =
        assignments.shares().filter(|(_, share)| *share > 0.0).map(|(cell, share)| (json!(cell), share)).collect();
    let speed = speed::known(model.name());
    let shares: Vec<Value> = cells
        .iter()
        .map(|(cell, share)| json!({ "attributes": cell, "share": share, "rows": share * f64::from(plan.rows) }))
        .collect();
    let found = json!({
        "recipe": plan.recipe.name, "rows": plan.rows, "seed": plan.seed, "model": model.name(),
        "cells": shares, "estimate": estimate, "seconds": estimate.as_ref().and_then(|estimate| {
            let (least, most) = seconds(estimate, plan.rows, speed?);
            Some(json!({ "least": least, "most": most, "tokens_per_s": speed?.tokens_per_s }))
        }),
    });
    if !console.is_json() && estimate.is_none() {
        let name = model.name();
        console
            .note(&format!("{name} is not on this machine, so tokens are not estimated; `instil models pull {name}`"));
    }
    let mut text = describe(&plan, &cells, estimate.as_ref());
    if let Some(estimate) = &estimate {
        text += &match speed {
            Some(speed) => {
                let (least, most) = seconds(estimate, plan.rows, speed);
                let Speed { tokens_per_s, batch } = speed;
                let (least, most) = (speed::time(least), speed::time(most));
                let last = format!("{tokens_per_s:.0} tokens/s of the last run with this model here, batch {batch}");
                format!("{least} to {most} for that, at the {last}\n")
            }
            None => "how long that takes is told once a run with this model has ended here\n".to_owned(),
        };
    }
    Ok(Answer::data(text, &found))
}

/// Shortest and longest time of a run whose first attempts are all accepted.
fn seconds(estimate: &Estimate, rows: u32, speed: Speed) -> (f64, f64) {
    let (least, most) = estimate.tokens(rows);
    (least / speed.tokens_per_s, most / speed.tokens_per_s)
}

/// The tokenizer of a model that is on this machine already.
fn tokenizer(options: &ModelOptions) -> Result<Option<Arc<Tokenizer>>> {
    let places = Places::from_environment();
    let Some(manifest) = Catalog::load(&places)?.known(options.name(), &places)? else { return Ok(None) };
    if manifest.kind == Kind::Scripted {
        return setup::scripted(&manifest, &options.chat).map(|(_, tokenizer)| Some(tokenizer));
    }
    let Presence::Present(located) = locate(&manifest, &places)? else { return Ok(None) };
    setup::tokenizer(&manifest, &located, &options.chat).map(Some)
}

fn describe(plan: &Plan, cells: &[(Value, f64)], estimate: Option<&Estimate>) -> String {
    let mut text = String::new();
    let rows = plan.rows;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{rows} rows of recipe {}, seed {}", plan.recipe.name, plan.seed);
    for attribute in &plan.recipe.attributes {
        let count = attribute.all_values().count();
        let apart = if attribute.apart { ", apart from the cells" } else { "" };
        let what = if attribute.is_continuous() { "a range".to_owned() } else { format!("{count} values{apart}") };
        let _ = writeln!(text, "  {}: {what}", attribute.name);
    }
    if cells.len() > 1 {
        let least = cells.iter().map(|(_, share)| share * f64::from(rows)).fold(f64::INFINITY, f64::min);
        let most = cells.iter().map(|(_, share)| share * f64::from(rows)).fold(0.0, f64::max);
        let _ = writeln!(text, "{} cells of {:.0} to {:.0} rows each", cells.len(), least.floor(), most.ceil());
        for (cell, share) in cells.iter().take(if cells.len() > CELLS_SHOWN { 0 } else { CELLS_SHOWN }) {
            let _ = writeln!(text, "  {:>6.1} rows  {cell}", share * f64::from(rows));
        }
    }
    if let Some(estimate) = estimate {
        for step in estimate.steps.iter().filter(|step| step.texts > 0.0) {
            let (field, least, most) = (&step.field, step.min_tokens, step.max_tokens);
            let _ = writeln!(text, "step {field}: {least} to {most} tokens");
        }
        let (least, most) = estimate.tokens(rows);
        let prompt = estimate.prompt_tokens * f64::from(rows) + estimate.shared_prompt_tokens as f64;
        let from = if plan.recipe.seeds.is_some() { " for rows of usual length" } else { "" };
        let _ = writeln!(
            text,
            "about {prompt:.0} prompt tokens{from}, and {least:.0} to {most:.0} decoded, if every first attempt is accepted"
        );
    }
    text
}
