//! `instil merge`: shards of one plan into one run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plan::Plan;
use crate::run::Event;
use crate::{Error, Result};
use clap::Args;
use instil_model::model::embedder::Embedder;
use serde_json::json;

use super::console::{Answer, Console};
use super::setup;

const EXAMPLES: &str = "\
Example:
  instil generate -c run.yaml -n 1000 --shard 1/2 -o one      (on one machine)
  instil generate -c run.yaml -n 1000 --shard 2/2 -o two      (on another)
  instil merge one two -o whole
  instil generate --resume -o whole                           makes what is missing

Rows that look alike may have been made in different shards; the later one is turned down when they are
merged, and the last command makes another. The result is what one run would have written. What people decided
on the rows of the parts (`instil review`) comes along.";

/// Join runs of one plan: shards, or what several machines made of it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MergeArguments {
    /// Run directories of the same plan.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The new run directory.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// The sentence embedder of a run's plan, to the sum.
fn embedder(run: &Path, console: &Console) -> Result<Option<Arc<Embedder>>> {
    let plan = Plan::read(run)?;
    let Some((embedder, used)) = setup::embedder(plan.recipe.filters.semantic.as_ref(), console)? else {
        return Ok(None);
    };
    if plan.embedder.as_ref().is_some_and(|planned| planned.sha256 != used.sha256) {
        let what = format!("was planned with other files of {} than are here", used.name);
        return Err(Error::input(run, what, "restore the embedder's manifest and files"));
    }
    Ok(Some(embedder))
}

/// Joins them.
pub(super) fn run(arguments: &MergeArguments, console: &Console) -> Result<Answer> {
    let embedder = match arguments.runs.first() {
        Some(first) => embedder(first, console)?,
        None => None,
    };
    let bar = console.bar(0, "{spinner} {pos} rows");
    let mut on_event = |event: Event| {
        if matches!(event, Event::Accepted { .. }) {
            bar.inc(1);
        }
    };
    let merged = crate::run::merge(&arguments.output, &arguments.runs, embedder, &mut on_event)?;
    bar.finish_and_clear();
    let (accepted, rows) = (merged.summary.accepted, merged.plan.rows);
    let missing = rows - accepted - merged.summary.given_up;
    let summary = json!({
        "directory": arguments.output,
        "rows": rows,
        "accepted": accepted,
        "given_up": merged.summary.given_up,
        "undecided": missing,
        "rejected": merged.summary.rejected,
        "decided": merged.decided,
        "parts": merged.parts.iter().map(|part| json!({ "attempts": part.kept, "dropped_lines": part.dropped }))
            .collect::<Vec<_>>(),
    });
    let output = arguments.output.display();
    let mut notes = vec![format!("{accepted} of {rows} rows are in {output}")];
    if merged.decided > 0 {
        notes.push(format!("people's decisions on {} rows came along", merged.decided));
    }
    if missing > 0 {
        let wait = "the next row wants an attempt that no part holds";
        notes.push(format!("{wait}; `instil generate --resume -o {output}` makes the other {missing}"));
    }
    Ok(Answer::notes(notes, &summary))
}
