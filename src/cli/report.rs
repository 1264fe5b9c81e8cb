//! `instil report`: balance, diversity, lengths and rejects of a run or of any file of rows.

use std::path::PathBuf;

use crate::Result;
use crate::disk::write_whole;
use crate::filter::semantic::Semantic;
use crate::measure::table::table;
use crate::measure::{Sources, measure};
use clap::Args;

use super::console::{Answer, Console};
use super::input::Input;
use super::setup;

const EXAMPLES: &str = "\
Examples:
  instil report runs/instruction-response-001
  instil report rows.jsonl --field instruction --json | jq .fields[0].self_bleu

A run directory also gets report.json. Distinct n-grams are counted on 10,000 words, self-BLEU on at
most 1,000 texts, the Vendi score on at most 500; the samples are drawn with --seed.";

/// Measure a run, or any file of rows.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArguments {
    /// A run directory, or rows in any container; `-` for stdin.
    path: PathBuf,
    /// A field of text to measure; repeat for more [default: every text field].
    #[arg(long, value_name = "NAME")]
    field: Vec<String>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Take the Vendi score of sentence embeddings by this model, rather than of words [default: all-minilm-l6-v2].
    #[arg(long, value_name = "MODEL", num_args = 0..=1, require_equals = true,
        default_missing_value = crate::catalog::DEFAULT_EMBEDDER)]
    embedder: Option<String>,
}

/// Measures and shows.
pub(super) fn run(arguments: &ReportArguments, console: &Console) -> Result<Answer> {
    let input = Input::of(&arguments.path)?;
    let sources = Sources::of(input.path())?;
    let rule = arguments.embedder.as_ref().map(|model| Semantic { model: model.clone(), ..Semantic::new(Vec::new()) });
    let embedder = setup::embedder(rule.as_ref(), console)?.map(|(embedder, _)| embedder);
    let bar = console.bar(0, "{wide_bar} {percent} %  ETA {eta}");
    let mut on_progress = |read, of| {
        bar.set_length(of);
        bar.set_position(read);
    };
    let report = measure(&sources, &arguments.field, arguments.seed, embedder.as_deref(), &mut on_progress);
    bar.finish_and_clear();
    let report = report?;
    let json = serde_json::to_string_pretty(&report).expect("a report is plain data") + "\n";
    let answer = Answer::written(table(&report), json.clone());
    // A report is read here; the copy in the run's directory is for later, and not worth an error.
    let kept = sources.run.as_ref().map_or(Ok(()), |files| write_whole(&files.report, json.as_bytes()));
    Ok(match kept {
        Ok(()) => answer,
        Err(cause) => answer.and_note(format!("no report.json is kept: {cause}")),
    })
}
