//! `instil preview`: a few real rows with the prompts that they come from, kept nowhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::export::form::Pair;
use crate::row::{Attempt, Reason};
use crate::run::driver::Workshop;
use crate::run::seeds::Seeds;
use crate::run::{Event, RunDirectory};
use crate::{Error, Result};
use clap::Args;
use instil_grammar::constraint::Settings;
use serde_json::{Map, Value, json};

use super::console::{Answer, Console};
use super::making::{MakingOptions, verdict};
use super::options::{Engine, validator};
use super::run_options::{RunOptions, ShapeOptions};
use super::setup;
use super::wanted::{Models, Wanted};

/// Rows shown when nothing says how many.
const ROWS: u32 = 5;

const EXAMPLES: &str = "\
Examples:
  instil preview
  instil preview -c run.yaml -n 2
  instil preview --recipe evolve seeds.jsonl -n 3
  instil preview --recipe my-recipe.yaml --json | jq -r .prompts.response";

/// Show a few rows with their prompts, without writing a run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PreviewArguments {
    /// The data set, for a recipe that makes rows from rows (evolve, vary, answer, preference, judge).
    data: Option<PathBuf>,
    #[command(flatten)]
    shape: ShapeOptions,
    #[command(flatten)]
    run: RunOptions,
}

/// A row as it comes: its prompts by field, of the latest attempt, and what the last one that was turned down came to.
#[derive(Default)]
struct Shown {
    attempt: u16,
    prompts: Map<String, Value>,
    turned_down: Option<(Attempt, Reason)>,
}

impl Shown {
    /// The row for a program.
    fn json(&self, row: u32, attempt: &Attempt) -> Value {
        let mut json = json!({ "row": row, "prompts": self.prompts, "fields": attempt.fields });
        if !attempt.reasoning.is_empty() {
            json["reasoning"] = Value::Object(attempt.reasoning.clone());
        }
        json
    }
}

/// Makes the rows and shows them.
pub(super) fn run(arguments: &PreviewArguments, console: &Console) -> Result<Answer> {
    let source = arguments.run.source(&arguments.shape, None)?;
    let wanted = Wanted::planned(&arguments.run, &MakingOptions::default(), &source)?;
    let wanted = from_data(wanted, arguments)?;
    validator(&wanted.schema)?;
    let model = wanted.model.clone();
    let mut loaded = setup::load(&model, console)?;
    let compiler = setup::compiler(&loaded.tokenizer, Engine::Instil, Settings::default());
    let (embedder, used) = setup::embedder(wanted.recipe.filters.semantic.as_ref(), console)?.unzip();
    loaded.is_asked_for(&wanted.recipe, |_| true, console)?;
    let models = Models { model: loaded.used.clone(), embedder: used, ..Models::default() };
    let plan = wanted.plan(models);
    let folder = tempfile::tempdir().map_err(|cause| Error::io("create", std::env::temp_dir(), cause))?;
    let mut directory = RunDirectory::open(folder.path(), &plan, false)?;
    let vocab = loaded.tokenizer.vocab().clone();
    let mut rows: BTreeMap<u32, Shown> = BTreeMap::new();
    let mut printed = Ok(());
    let mut on_event = |event: Event| match event {
        Event::Requested { key, field, prefix, prompt } => {
            // Control tokens are shown as they are spelled: they are sent too.
            let text: Vec<u8> = prefix.iter().chain(prompt).flat_map(|&token| vocab.bytes(token)).copied().collect();
            let shown = rows.entry(key.row).or_default();
            if key.attempt != shown.attempt {
                *shown = Shown { attempt: key.attempt, ..Shown::default() };
            }
            shown.prompts.insert(field.to_owned(), json!(String::from_utf8_lossy(&text)));
        }
        Event::Accepted { row, attempt, .. } => {
            let shown = rows.remove(&row).unwrap_or_default();
            if printed.is_ok() {
                printed = console.each(|| describe(row, &shown, attempt, None), || shown.json(row, attempt));
            }
            if console.is_closed() {
                // Nobody sees the rows to come.
                console.stop().store(true, Ordering::Relaxed);
            }
        }
        Event::Rejected { row, attempt, reason } => {
            rows.entry(row).or_default().turned_down = Some((attempt.clone(), reason.clone()));
        }
        Event::Progress { .. } => {}
    };
    let capacity = model.capacity(&*loaded.model);
    let workshop = Workshop {
        model: &mut *loaded.model,
        tokenizer: loaded.tokenizer.clone(),
        compiler: &compiler,
        judge: None,
        embedder,
        capacity,
    };
    let summary = crate::run::generate(&plan, workshop, &mut directory, console.stop(), &mut on_event)?;
    printed?;
    if console.is_closed() {
        return Ok(Answer::done());
    }
    for (row, shown) in &rows {
        // Those that came to nothing show why.
        let Some((attempt, reason)) = &shown.turned_down else { continue };
        let json = || {
            let mut json = shown.json(*row, attempt);
            json["reason"] = json!(reason);
            json
        };
        console.each(|| describe(*row, shown, attempt, Some(reason)), json)?;
    }
    let rejected: u32 = summary.rejected.values().sum();
    if rejected > 0 {
        let reasons: Vec<String> = summary.rejected.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        console.note(&format!("{rejected} attempts rejected ({})", reasons.join(", ")));
    }
    let (accepted, count) = (summary.accepted, plan.row_count());
    let verdict = match verdict(&summary, &plan, folder.path()) {
        Err(Error::Unmet { .. }) => Err(Error::Unmet {
            what: format!("{accepted} of {count} rows were accepted"),
            remedy: "see what the others were turned down for; preview more rows, or change recipe, rules or model"
                .into(),
        }),
        Err(Error::Interrupted { .. }) => {
            Err(Error::Interrupted { what: format!("{accepted} of {count} rows were accepted") })
        }
        verdict => verdict,
    };
    Ok(Answer::done().ending(verdict))
}

/// With the number of rows to show, and the data set that they are made from where the recipe asks for one.
fn from_data(wanted: Wanted, arguments: &PreviewArguments) -> Result<Wanted> {
    let rows = arguments.run.rows().unwrap_or(ROWS);
    let Some(data) = &arguments.data else {
        wanted.check_seeds().map_err(|error| match error {
            Error::Usage { what, .. } => Error::usage(what, "name one: `instil preview --recipe … DATA`"),
            other => other,
        })?;
        return Ok(Wanted { rows, ..wanted });
    };
    let Some(from) = wanted.recipe.seeds else {
        let what = format!("the recipe {} makes its rows from nothing", wanted.recipe.name);
        return Err(Error::usage(what, "leave the data set out, or add a `seeds:` key to the recipe"));
    };
    let (seeds, used, _) = Seeds::read(data, &Pair::default(), false)?;
    let rows = rows.min(seeds.len().saturating_mul(from.rounds.into()));
    Ok(Wanted { rows, tries: true, seeds: Some(used), ..wanted })
}

fn describe(row: u32, shown: &Shown, attempt: &Attempt, reason: Option<&Reason>) -> String {
    let mut text = match reason {
        Some(reason) => format!("row {row}, turned down by {}: {}\n", reason.rule, reason.detail),
        None => format!("row {row}\n"),
    };
    for (name, prompt) in &shown.prompts {
        text += &format!("  prompt of {name}:\n");
        for line in prompt.as_str().unwrap_or_default().lines() {
            text += &format!("    | {line}\n");
        }
    }
    for (name, thought) in &attempt.reasoning {
        text += &format!("  thought of {name}: {}\n", thought.as_str().unwrap_or_default());
    }
    for (name, value) in &attempt.fields {
        text += &format!("  {name}: {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    text + "\n"
}
