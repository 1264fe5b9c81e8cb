//! From a plan to a run directory: model, progress, summary, and how the program ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use instil::constraint::Settings;
use instil::model::Arithmetic;
use instil::run::driver::{Judge, Workshop};
use instil::run::{Event, Plan, RunDirectory, Summary, directory};
use instil::{Error, Result};
use serde_json::{Map, Value, json};

use super::options::{Engine, ModelOptions, validator};
use super::run_options::RunOptions;
use super::{setup, terminal};

/// Rows shown in full while they come.
const ROWS_SHOWN: u32 = 8;

/// Where a run goes.
#[derive(Debug, Args)]
pub struct MakingOptions {
    /// The run directory; must not hold a run yet, unless --resume is given [default: runs/RECIPE-NNN].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Go on with the run in the directory; begin one where there is none.
    #[arg(long)]
    pub resume: bool,
    /// Constraint engine [default: instil].
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Another model that gives the scores of judging steps; both are kept in memory.
    #[arg(long, value_name = "MODEL")]
    pub judge_model: Option<String>,
    /// Print a summary as JSON on stdout.
    #[arg(long)]
    pub json: bool,
}

impl MakingOptions {
    /// The plan of the run that is to be gone on with, if the flags ask for that. It goes on in its own engine
    /// and arithmetic; flags that name others make it another plan, which is refused.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn standing(&self, output: Option<&Path>, run: &RunOptions) -> Result<Option<(Plan, ModelOptions)>> {
        let Some(path) = output.filter(|path| self.resume && path.join(directory::PLAN).exists()) else {
            return Ok(None);
        };
        let mut plan = directory::read_plan(path)?;
        if let Some(rows) = run.rows() {
            (plan.rows, plan.tries) = (rows, false);
        }
        if let Some(engine) = self.engine {
            engine.name().clone_into(&mut plan.engine);
        }
        let flags = run.model_flags().clone();
        let model = ModelOptions {
            model: Some(plan.model.reference().into_owned()),
            reference: flags.reference || plan.model.arithmetic == Arithmetic::F32Cpu,
            ..flags
        };
        Ok(Some((plan, model)))
    }
}

/// Makes the rows of `plan`, whose model is yet to be found, at `output`; where they are.
///
/// # Errors
/// When a step fails, or fewer rows came out than were asked for.
pub fn make(
    mut plan: Plan,
    model: &ModelOptions,
    output: Option<PathBuf>,
    options: &MakingOptions,
    quiet: bool,
    stop: &Arc<AtomicBool>,
) -> Result<PathBuf> {
    validator(&plan.schema)?;
    let output = output.unwrap_or_else(|| RunDirectory::next_free(&PathBuf::from("runs").join(&plan.recipe.name)));
    let capacity = model.capacity()?;
    let mut loaded = setup::load(model, quiet, stop)?;
    let engine = Engine::named(&plan.engine)?;
    let compiler = setup::compiler(&loaded.tokenizer, engine, Settings::default());
    plan.model = loaded.used.clone();
    let judge = options.judge_model.clone().or_else(|| Some(plan.judge.as_ref()?.reference().into_owned()));
    let mut judge = match judge {
        Some(name) => Some(setup::load(&ModelOptions { model: Some(name), ..model.clone() }, quiet, stop)?),
        None => None,
    };
    plan.judge = judge.as_ref().map(|judge| judge.used.clone());
    let mut directory = RunDirectory::open(&output, &plan, options.resume)?;
    tell_recovery(&directory, quiet);
    let template = "{wide_bar} {pos}/{len} rows  {msg}  ETA {eta}";
    let bar = terminal::bar(u64::from(plan.row_count()), template, quiet);
    let mut turned_down = 0;
    let mut last_rule = String::new();
    let mut on_event = |event: Event| match event {
        Event::Accepted { row, fields, was_known } => {
            bar.inc(1);
            if was_known {
                // Rows that stood there already say nothing about how fast new ones come.
                bar.reset_eta();
            } else if !quiet && !options.json && row < ROWS_SHOWN {
                bar.suspend(|| show_row(row, fields));
            }
        }
        Event::Rejected { reason, .. } => {
            turned_down += 1;
            last_rule = reason.rule.to_string();
        }
        Event::Requested { .. } => {}
        Event::Progress { statistics, .. } => {
            let tokens = statistics.sampled_tokens + statistics.forced_tokens;
            let seconds = bar.elapsed().as_secs_f64().max(1e-3);
            let rejects =
                if turned_down == 0 { String::new() } else { format!(", {turned_down} rejected (last: {last_rule})") };
            bar.set_message(format!("{:.0} tokens/s{rejects}", tokens as f64 / seconds));
        }
    };
    let judge = judge.as_mut().map(|judge| Judge { model: &mut *judge.model, tokenizer: judge.tokenizer.clone() });
    let workshop = Workshop {
        model: &mut *loaded.model,
        tokenizer: loaded.tokenizer.clone(),
        compiler: &compiler,
        judge,
        capacity,
    };
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
    if options.json {
        terminal::print(&format!("{}\n", summary_json(&summary, &plan, &directory)))?;
    } else if !quiet {
        show_summary(&summary, &plan, &directory);
    }
    verdict(&summary, &plan, directory.path())?;
    Ok(directory.path().to_owned())
}

fn tell_recovery(directory: &RunDirectory, quiet: bool) {
    let recovered = directory.recovered();
    if quiet || recovered.kept + recovered.dropped == 0 {
        return;
    }
    let dropped = match recovered.dropped {
        0 => String::new(),
        1 => "; 1 line was torn or changed, and its attempt is made again".into(),
        more => format!("; {more} lines were torn or changed, and their attempts are made again"),
    };
    terminal::note(&format!("going on after {} attempts{dropped}", recovered.kept));
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
        plan.row_count(),
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
    json!({
        "directory": directory.path(),
        "rows": plan.row_count(),
        "accepted": summary.accepted,
        "rejected": summary.rejected,
        "given_up": summary.given_up,
        "decoded": summary.decoded,
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

/// How a run that ended short of its rows ends the program; also for `instil merge`.
pub fn verdict(summary: &Summary, plan: &Plan, path: &Path) -> Result<()> {
    let (path, rows) = (path.display(), plan.row_count());
    if summary.interrupted {
        let what = format!("{} of {rows} rows are in {path}; go on with --resume -o {path}", summary.accepted);
        return Err(Error::Interrupted { what });
    }
    if summary.accepted == rows || (plan.tries && summary.accepted > 0) {
        return Ok(());
    }
    let most = summary.rejected.iter().max_by_key(|(_, count)| **count);
    let (rule, advice) = match most.map(|(rule, _)| rule.as_str()) {
        Some(rule @ ("token_limit" | "closed_by_budget")) => (rule, "raise --max-tokens"),
        Some(rule @ ("duplicate" | "near_duplicate" | "rouge_l")) => {
            (rule, "give more topics, or a higher --temperature")
        }
        Some(rule) => (rule, "raise max_attempts, or use a larger model"),
        None => ("none", "raise max_attempts"),
    };
    Err(Error::Unmet {
        what: format!(
            "only {} of {rows} rows were accepted into {path}; most attempts failed by {rule}",
            summary.accepted
        ),
        remedy: advice.to_owned(),
    })
}
