//! `instil generate`: the main job. Rows into a run directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use instil::recipe::{Attribute, Recipe, builtin};
use instil::run::driver::Workshop;
use instil::run::plan::Plan;
use instil::run::{Event, RunDirectory, Summary};
use instil::{Error, Result};
use serde_json::{Map, Value, json};

use super::options::{Engine, ModelOptions, SamplingOptions, read_schema, read_text, validator};
use super::{setup, terminal};

/// Rows shown in full while they come.
const ROWS_SHOWN: u32 = 8;

const EXAMPLES: &str = "\
Examples:
  instil generate
  instil generate -n 200 --seed 1 -o out --topic astronomy --topic cooking
  instil generate -n 50 --schema product.schema.json --model ./model.gguf
  instil generate -n 20 --recipe my-recipe.yaml --json

A run directory holds records.jsonl (accepted rows), rejects.jsonl (what was turned down, and why)
and run.lock.json (everything that decided the rows).";

/// Write rows of training data into a run directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArguments {
    /// How many rows.
    #[arg(short = 'n', long, default_value_t = 8)]
    rows: u32,
    /// The run directory; must not hold a run yet [default: runs/RECIPE-NNN].
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// A JSON Schema: each row is a JSON object under it.
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
    schema: Option<PathBuf>,
    /// A recipe file, or the name of a built-in recipe.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// A topic to write about; repeat for more [default: the recipe's].
    #[arg(long, value_name = "TEXT")]
    topic: Vec<String>,
    /// Most tokens of one text [default: the recipe's].
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Constraint engine.
    #[arg(long, value_enum, default_value = "instil")]
    engine: Engine,
    /// Print a summary as JSON on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
}

/// Makes the rows.
pub fn run(arguments: &GenerateArguments, quiet: bool, stop: &Arc<AtomicBool>) -> Result<()> {
    if arguments.rows == 0 {
        return Err(Error::usage("-n is 0", "ask for 1 row or more"));
    }
    arguments.sampling.check()?;
    let slots = arguments.model.slots()?;
    let recipe = recipe(arguments)?;
    let schema = match &arguments.schema {
        Some(path) => read_schema(path)?,
        None => serde_json::from_str(builtin::grammar(&recipe.schema)?).expect("bundled grammars are JSON"),
    };
    validator(&schema)?;
    let output = match &arguments.output {
        Some(path) => path.clone(),
        None => RunDirectory::next_free(&PathBuf::from("runs").join(&recipe.name)),
    };
    let mut loaded = setup::load(&arguments.model, quiet, stop)?;
    let compiler = setup::compiler(&loaded.tokenizer, arguments.engine);
    let plan = Plan {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rows: arguments.rows,
        seed: arguments.sampling.seed,
        model: loaded.used.clone(),
        engine: format!("{:?}", arguments.engine).to_lowercase(),
        schema,
        recipe,
    };
    let mut directory = RunDirectory::create(&output, &plan)?;
    let template = "{wide_bar} {pos}/{len} rows  {msg}  ETA {eta}";
    let bar = terminal::bar(u64::from(plan.rows), template, quiet);
    let mut turned_down = 0;
    let mut last_rule = "";
    let mut on_event = |event: Event| match event {
        Event::Accepted { row, fields } => {
            bar.set_position(u64::from(row) + 1);
            if !quiet && !arguments.json && row < ROWS_SHOWN {
                bar.suspend(|| show_row(row, fields));
            }
        }
        Event::Rejected { reason, .. } => {
            turned_down += 1;
            last_rule = reason.rule;
        }
        Event::Progress { statistics, .. } => {
            let tokens = statistics.sampled_tokens + statistics.forced_tokens;
            let seconds = bar.elapsed().as_secs_f64().max(1e-3);
            let rejects =
                if turned_down == 0 { String::new() } else { format!(", {turned_down} rejected (last: {last_rule})") };
            bar.set_message(format!("{:.0} tokens/s{rejects}", tokens as f64 / seconds));
        }
    };
    let workshop =
        Workshop { model: &mut *loaded.model, tokenizer: loaded.tokenizer.clone(), compiler: &compiler, slots };
    let summary = instil::run::generate(&plan, workshop, &mut directory, stop, &mut on_event);
    bar.finish_and_clear();
    let summary = match summary {
        Ok(summary) => summary,
        Err(cause) => {
            // A run that could not start must not be in the way of the next one.
            directory.discard_when_empty();
            return Err(cause);
        }
    };
    if arguments.json {
        terminal::print(&format!("{}\n", summary_json(&summary, &plan, &directory)))?;
    } else if !quiet {
        show_summary(&summary, &plan, &directory);
    }
    verdict(&summary, &plan, &directory)
}

/// The recipe with what the flags change in it.
fn recipe(arguments: &GenerateArguments) -> Result<Recipe> {
    let mut recipe = match (&arguments.recipe, &arguments.schema) {
        (None, None) => builtin::recipe("instruction-response")?,
        (None, Some(_)) => builtin::recipe("json-row")?,
        (Some(path), _) if path.exists() || path.extension().is_some() => Recipe::parse(&read_text(path)?, path)?,
        (Some(name), _) => builtin::recipe(&name.to_string_lossy())?,
    };
    if !arguments.topic.is_empty() {
        if arguments.topic.iter().any(|topic| topic.trim().is_empty()) {
            return Err(Error::usage("a --topic is empty", "name what the rows should be about"));
        }
        let values = arguments.topic.iter().map(|topic| json!(topic.trim())).collect();
        match recipe.attributes.iter_mut().find(|attribute| attribute.name == "topic") {
            Some(attribute) => attribute.values = values,
            None => recipe.attributes.push(Attribute { name: "topic".into(), values }),
        }
    }
    if let Some(limit) = arguments.max_tokens {
        if limit == 0 {
            return Err(Error::usage("--max-tokens is 0", "use 1 or more"));
        }
        recipe.steps.iter_mut().for_each(|step| step.max_tokens = limit);
    }
    let draws = &mut recipe.sampling;
    draws.temperature = arguments.sampling.temperature.unwrap_or(draws.temperature);
    draws.top_k = arguments.sampling.top_k.unwrap_or(draws.top_k);
    draws.top_p = arguments.sampling.top_p.unwrap_or(draws.top_p);
    draws.min_p = arguments.sampling.min_p.unwrap_or(draws.min_p);
    Ok(recipe)
}

fn show_row(row: u32, fields: &Map<String, Value>) {
    let (on, off) = if terminal::colour() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!("{on}row {row}{off}");
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        eprintln!("  {on}{name}{off}: {first}");
        rest.lines().for_each(|line| eprintln!("    {line}"));
    }
    eprintln!();
}

fn tokens_per_second(summary: &Summary) -> f64 {
    let tokens = summary.statistics.sampled_tokens + summary.statistics.forced_tokens;
    tokens as f64 / summary.elapsed.as_secs_f64().max(1e-9)
}

fn show_summary(summary: &Summary, plan: &Plan, directory: &RunDirectory) {
    let statistics = &summary.statistics;
    let rejected: u32 = summary.rejected.values().sum();
    let reasons: Vec<String> = summary.rejected.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    eprintln!(
        "{} of {} rows in {:.1} s, {rejected} attempts rejected{reasons}",
        summary.accepted,
        plan.rows,
        summary.elapsed.as_secs_f64()
    );
    eprintln!(
        "{:.0} tokens/s: {} drawn, {} forced by the grammar; {} prompt tokens read, {} shared",
        tokens_per_second(summary),
        statistics.sampled_tokens,
        statistics.forced_tokens,
        statistics.prompt_tokens,
        statistics.prompt_tokens_shared
    );
    eprintln!("{}", directory.path().join("records.jsonl").display());
}

fn summary_json(summary: &Summary, plan: &Plan, directory: &RunDirectory) -> Value {
    let statistics = &summary.statistics;
    let rejected: BTreeMap<&str, u32> = summary.rejected.clone();
    json!({
        "directory": directory.path(),
        "rows": plan.rows,
        "accepted": summary.accepted,
        "rejected": rejected,
        "given_up": summary.given_up,
        "interrupted": summary.interrupted,
        "seconds": summary.elapsed.as_secs_f64(),
        "tokens_per_s": tokens_per_second(summary),
        "sampled_tokens": statistics.sampled_tokens,
        "forced_tokens": statistics.forced_tokens,
        "prompt_tokens": statistics.prompt_tokens,
        "prompt_tokens_shared": statistics.prompt_tokens_shared,
        "model_seconds": statistics.model_time.as_secs_f64(),
        "sampling_seconds": statistics.sampling_time.as_secs_f64(),
    })
}

fn verdict(summary: &Summary, plan: &Plan, directory: &RunDirectory) -> Result<()> {
    let path = directory.path().display();
    if summary.interrupted {
        let what = format!("{} of {} rows are in {path}", summary.accepted, plan.rows);
        return Err(Error::Interrupted { what });
    }
    if summary.accepted == plan.rows {
        return Ok(());
    }
    let most = summary.rejected.iter().max_by_key(|(_, count)| **count);
    let (rule, advice) = match most.map(|(rule, _)| *rule) {
        Some(rule @ ("token_limit" | "closed_by_budget")) => (rule, "raise --max-tokens"),
        Some(rule @ "duplicate") => (rule, "give more topics, or a higher --temperature"),
        Some(rule) => (rule, "raise max_attempts in the recipe, or use a larger model"),
        None => ("none", "raise max_attempts in the recipe"),
    };
    Err(Error::Unmet {
        what: format!(
            "only {} of {} rows were accepted into {path}; most attempts failed by {rule}",
            summary.accepted, plan.rows
        ),
        remedy: advice.to_owned(),
    })
}
