//! From a plan to a run directory: model, progress, summary, and how the program ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::write_whole;
use crate::measure::{ModelMemory, Throughput};
use crate::plan::ModelUsed;
use crate::plan::Plan;
use crate::row::RunFiles;
use crate::run::driver::{Judge, Workshop};
use crate::run::{Event, RunDirectory, Summary};
use crate::{Error, Result};
use clap::Args;
use instil_grammar::constraint::Settings;
use instil_model::decode::Capacity;
use serde_json::{Map, Value, json};

use super::console::{Answer, Console};
use super::options::{Chat, Engine, ModelOptions, validator};
use super::run_options::RunOptions;
use super::speed::{self, Speed};
use super::wanted::{Models, Wanted};
use super::{setup, terminal};

/// Rows shown in full while they come.
const ROWS_SHOWN: u32 = 8;
/// How often the line of progress changes.
const SHOWN_EVERY: Duration = Duration::from_millis(100);
/// Rules named in it.
const RULES_SHOWN: usize = 3;
/// Cells that fell short, named where a run ends.
const CELLS_SHOWN: usize = 4;

/// Where a run goes.
#[derive(Debug, Default, Args)]
pub(crate) struct MakingOptions {
    /// The run directory; must not hold a run yet, unless --resume is given [default: runs/RECIPE-NNN].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Go on with the run in the directory; begin one where there is none.
    #[arg(long)]
    pub resume: bool,
    /// Go on with the run in the directory, and give rows that were given up as many attempts again.
    #[arg(long)]
    pub retry: bool,
    /// Constraint engine [default: instil].
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Another model that gives the scores of judging steps; both are kept in memory.
    #[arg(long, value_name = "MODEL")]
    pub judge_model: Option<String>,
}

impl MakingOptions {
    /// Whether a run that stands is gone on with.
    fn goes_on(&self) -> bool {
        self.resume || self.retry
    }

    /// What the run at `output` still wants, if the flags ask to go on with it.
    ///
    /// # Errors
    /// When its plan cannot be read.
    pub(crate) fn standing(&self, output: Option<&Path>, run: &RunOptions) -> Result<Option<Wanted>> {
        let plan = output.filter(|_| self.goes_on()).map(RunDirectory::plan).transpose()?.flatten();
        plan.map(|(plan, _)| Wanted::standing(plan, run, self)).transpose()
    }
}

/// Finds the models of what is wanted, and makes its rows at `output`; where they are, and the answer, which ends in
/// an error where fewer rows came out than were asked for.
///
/// # Errors
/// When a step fails.
pub(super) fn make(
    wanted: Wanted,
    output: Option<PathBuf>,
    options: &MakingOptions,
    console: &Console,
) -> Result<(PathBuf, Answer)> {
    validator(&wanted.schema)?;
    let standing = output.as_deref().filter(|_| options.goes_on()).map(RunDirectory::plan).transpose()?.flatten();
    if options.retry && standing.is_none() {
        return Err(Error::usage("--retry is for a run that stands already", "name it with -o DIR"));
    }
    let output = output.unwrap_or_else(|| RunDirectory::next_free(&PathBuf::from("runs").join(&wanted.recipe.name)));
    let model = wanted.model.clone();
    model.check()?;
    let mut loaded = setup::load(&model, console)?;
    let compiler = setup::compiler(&loaded.tokenizer, wanted.engine, Settings::default());
    let judge = wanted.judge.clone().map(|name| {
        let chat = Chat::standing(standing.as_ref().and_then(|(plan, _)| plan.judge.as_ref()?.chat.as_ref()));
        ModelOptions { model: Some(name), chat, ..model.clone() }
    });
    let mut judge = judge.map(|judge| setup::load(&judge, console)).transpose()?;
    let scores_here = judge.is_none();
    loaded.is_asked_for(&wanted.recipe, |step| scores_here || !step.output.is_score(), console)?;
    if let Some(judge) = &mut judge {
        judge.is_asked_for(&wanted.recipe, |step| step.output.is_score(), console)?;
    }
    let weights = [Some(&loaded), judge.as_ref()].map(|model| model.map_or(0, |model| model.weight_bytes));
    // Two models share what is there for keys and values.
    let models = 1 + usize::from(judge.is_some());
    let capacity = model.capacity(&*loaded.model);
    let capacity = Capacity { key_value_bytes: (capacity.key_value_bytes / models).max(1), ..capacity };
    let (embedder, used) = setup::embedder(wanted.recipe.filters.semantic.as_ref(), console)?.unzip();
    let plan = wanted.plan(Models {
        model: loaded.used.clone(),
        judge: judge.as_ref().map(|judge| judge.used.clone()),
        embedder: used,
    });
    let plan = match &standing {
        Some((standing, is_mended)) => {
            if *is_mended {
                console.note("run.lock.json was lost or changed; it is written again from the ledger");
            }
            let plan = plan.going_on(standing, options.retry);
            if plan.has_rounds() && plan.retries > standing.retries {
                let what = "a run of several rounds is gone on with in the room that it began with: rows of later rounds \
                            were made from what stands";
                return Err(Error::usage(what, "begin another run with the room that it needs"));
            }
            plan
        }
        None => plan,
    };
    let mut directory = RunDirectory::open(&output, &plan, options.goes_on())?;
    tell_recovery(&directory, console);
    let template = "{wide_bar} {pos}/{len} rows  {msg}  ETA {eta}";
    let bar = console.bar(u64::from(plan.row_count()), template);
    let mut rejected: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut new_rows = 0u32;
    let mut shown: Option<Instant> = None;
    let mut on_event = |event: Event| match event {
        Event::Accepted { row, attempt, was_known } => {
            bar.inc(1);
            if was_known {
                // Rows that stood there already say nothing about how fast new ones come.
                bar.reset_eta();
                return;
            }
            new_rows += 1;
            if console.is_watched() && row < ROWS_SHOWN {
                bar.suspend(|| console.note_painted(&shown_row(row, &attempt.fields)));
            }
        }
        Event::Rejected { reason, .. } => *rejected.entry(reason.rule).or_default() += 1,
        Event::Requested { .. } => {}
        Event::Progress { statistics } => {
            if shown.is_some_and(|at| at.elapsed() < SHOWN_EVERY) {
                return;
            }
            shown = Some(Instant::now());
            let tokens = statistics.sampled_tokens + statistics.forced_tokens;
            bar.set_message(progress(new_rows, tokens, bar.elapsed(), &rejected));
        }
    };
    let judge = judge.as_mut().map(|judge| Judge { model: &mut *judge.model, tokenizer: judge.tokenizer.clone() });
    let workshop = Workshop {
        model: &mut *loaded.model,
        tokenizer: loaded.tokenizer.clone(),
        compiler: &compiler,
        judge,
        embedder,
        capacity,
    };
    let summary = crate::run::generate(&plan, workshop, &mut directory, console.stop(), &mut on_event);
    bar.finish_and_clear();
    let summary = match summary {
        Ok(summary) => summary,
        Err(cause) => {
            // A run that could not start must not be in the way of the next one.
            directory.discard_when_empty();
            return Err(cause);
        }
    };
    let memory = memory(&summary, &plan, weights);
    record_throughput(&summary, &memory, directory.path())?;
    if summary.decoded > 0 {
        let speed = Speed { tokens_per_s: tokens_per_second(&summary), batch: capacity.slots };
        speed::note(model.name(), speed, summary.elapsed.as_secs_f64());
    }
    let told = summary_lines(&summary, &memory, &plan, &directory);
    let answer = Answer::notes(told, &summary_json(&summary, &memory, &plan, &directory));
    Ok((directory.path().to_owned(), answer.ending(verdict(&summary, &plan, directory.path()))))
}

fn tell_recovery(directory: &RunDirectory, console: &Console) {
    let recovered = directory.recovered();
    if recovered.kept + recovered.dropped == 0 {
        return;
    }
    let dropped = match recovered.dropped {
        0 => String::new(),
        1 => "; 1 line was torn or changed, and its attempt is made again".into(),
        more => format!("; {more} lines were torn or changed, and their attempts are made again"),
    };
    console.note(&format!("going on after {} attempts{dropped}", recovered.kept));
}

/// A row as it comes, with a blank line after it.
fn shown_row(row: u32, fields: &Map<String, Value>) -> String {
    let (on, off) = if terminal::colour() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let mut told = format!("{on}row {row}{off}\n");
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (name, text) = (terminal::harmless(name), terminal::harmless(&text));
        let (first, rest) = text.split_once('\n').unwrap_or((text.as_ref(), ""));
        told += &format!("  {on}{name}{off}: {first}\n");
        rest.lines().for_each(|line| told += &format!("    {line}\n"));
    }
    told
}

/// Rows and tokens a second, and what was turned down, most first.
fn progress(rows: u32, tokens: usize, elapsed: Duration, rejected: &BTreeMap<&str, u32>) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let mut text = format!("{:.1} rows/s, {:.0} tokens/s", f64::from(rows) / seconds, tokens as f64 / seconds);
    let mut rules: Vec<_> = rejected.iter().collect();
    rules.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named: Vec<String> = rules.iter().take(RULES_SHOWN).map(|(rule, count)| format!("{rule} {count}")).collect();
    if !named.is_empty() {
        let more = if rules.len() > RULES_SHOWN { ", …" } else { "" };
        text += &format!("; {} rejected ({}{more})", rejected.values().sum::<u32>(), named.join(", "));
    }
    text
}

/// What the models of this session took.
fn memory(summary: &Summary, plan: &Plan, weights: [u64; 2]) -> Vec<ModelMemory> {
    let judging = summary.judging.map_or(0, |judging| judging.key_value_bytes);
    let keys_and_values = [summary.statistics.key_value_bytes - judging, judging];
    let models = [Some(&plan.model), plan.judge.as_ref()].into_iter().flatten();
    let of = |(model, (weights, keys_and_values)): (&ModelUsed, (u64, usize))| ModelMemory {
        model: model.name.clone(),
        weight_bytes: weights,
        key_value_bytes: keys_and_values as u64,
    };
    models.zip(weights.into_iter().zip(keys_and_values)).map(of).collect()
}

/// Keeps what the clock said of this session for the report.
fn record_throughput(summary: &Summary, memory: &[ModelMemory], path: &Path) -> Result<()> {
    if summary.decoded == 0 {
        return Ok(());
    }
    let statistics = &summary.statistics;
    let seconds = summary.elapsed.as_secs_f64();
    let rows = u64::from(summary.accepted - summary.known);
    let session = Throughput {
        rows,
        attempts: summary.decoded.into(),
        seconds,
        model_seconds: statistics.model_time.as_secs_f64(),
        tokens: (statistics.sampled_tokens + statistics.forced_tokens) as u64,
        prompt_tokens: statistics.prompt_tokens as u64,
        tokens_per_s: tokens_per_second(summary),
        rows_per_s: rows as f64 / seconds.max(1e-9),
        prompt_tokens_shared: statistics.prompt_tokens_shared as u64,
        memory: memory.to_vec(),
    };
    let text = serde_json::to_string_pretty(&session).expect("plain data") + "\n";
    write_whole(&RunFiles::of(path).throughput, text.as_bytes())
}

fn tokens_per_second(summary: &Summary) -> f64 {
    let tokens = summary.statistics.sampled_tokens + summary.statistics.forced_tokens;
    tokens as f64 / summary.elapsed.as_secs_f64().max(1e-9)
}

fn summary_lines(summary: &Summary, memory: &[ModelMemory], plan: &Plan, directory: &RunDirectory) -> Vec<String> {
    let statistics = &summary.statistics;
    let rejected: u32 = summary.rejected.values().sum();
    let reasons: Vec<String> = summary.rejected.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let mut lines = vec![format!(
        "{} of {} rows in {:.1} s, {rejected} attempts rejected{reasons}",
        summary.accepted,
        plan.row_count(),
        summary.elapsed.as_secs_f64()
    )];
    if summary.unfit > 0 {
        lines
            .push(format!("{} rows were not tried: no value of an attribute applies to them (`needs`)", summary.unfit));
    }
    lines.push(format!(
        "{:.0} tokens/s: {} drawn, {} forced by the grammar; {} prompt tokens read, {} shared",
        tokens_per_second(summary),
        statistics.sampled_tokens,
        statistics.forced_tokens,
        statistics.prompt_tokens,
        statistics.prompt_tokens_shared
    ));
    if memory.len() > 1 {
        let told = |memory: &ModelMemory| {
            let (weights, keys) = (terminal::size(memory.weight_bytes), terminal::size(memory.key_value_bytes));
            format!("{} {weights} of weights, {keys} of keys and values", memory.model)
        };
        lines.push(format!("memory: {}", memory.iter().map(told).collect::<Vec<_>>().join("; judge ")));
    }
    lines.push(directory.path().join("records.jsonl").display().to_string());
    lines
}

fn summary_json(summary: &Summary, memory: &[ModelMemory], plan: &Plan, directory: &RunDirectory) -> Value {
    let statistics = &summary.statistics;
    json!({
        "directory": directory.path(),
        "rows": plan.row_count(),
        "accepted": summary.accepted,
        "rejected": summary.rejected,
        "given_up": summary.given_up,
        "lacking": summary.lacking.iter().map(|(cell, (rows, rules))| {
            json!({"cell": cell, "rows": rows, "by": rules})
        }).collect::<Vec<_>>(),
        "unfit": summary.unfit,
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
        "memory": memory,
        "stepping_seconds": summary.stepping.as_secs_f64(),
    })
}

/// How a run that ended short of its rows ends the program; also for `instil merge`.
pub(crate) fn verdict(summary: &Summary, plan: &Plan, path: &Path) -> Result<()> {
    let (path, rows) = (path.display(), plan.row_count());
    if summary.interrupted {
        let what = format!("{} of {rows} rows are in {path}; go on with --resume -o {path}", summary.accepted);
        return Err(Error::Interrupted { what });
    }
    if summary.accepted == rows || (plan.tries && summary.accepted > 0) {
        return Ok(());
    }
    if summary.unfit > 0 && summary.unfit == summary.given_up && summary.rejected.is_empty() {
        return Err(Error::Unmet {
            what: format!(
                "{} of {rows} rows are in {path}; nothing that was planned applies to others",
                summary.accepted
            ),
            remedy: "plan more values (--operators), or give other rows".into(),
        });
    }
    let most = summary.rejected.iter().max_by_key(|(_, count)| **count);
    let again = if plan.has_rounds() {
        "begin another run with more attempts (--set max_attempts=N)".to_owned()
    } else {
        format!("give them more attempts with --retry -o {path}")
    };
    let wider = if plan.has_rounds() {
        "begin another run with a greater --max-tokens".to_owned()
    } else {
        format!("go on with a greater --max-tokens and --resume -o {path}")
    };
    let (rule, advice) = match most.map(|(rule, _)| rule.as_str()) {
        Some(rule @ ("token_limit" | "closed_by_budget")) => (rule, wider),
        Some(rule @ ("impossible" | "too_long")) => {
            (rule, format!("see {path}/rejects.jsonl; {wider} where texts are too long for it, or correct the recipe"))
        }
        Some(rule @ ("duplicate" | "near_duplicate" | "rouge_l" | "semantic_duplicate")) => {
            (rule, format!("{again}, or begin another run with more topics or a higher --temperature"))
        }
        Some(rule) => (rule, format!("{again}, or begin another run with a larger model")),
        None => ("none", again),
    };
    Err(Error::Unmet {
        what: format!(
            "only {} of {rows} rows were accepted into {path}; most attempts failed by {rule}{}{}",
            summary.accepted,
            summary
                .cause
                .as_ref()
                .filter(|_| rule == "impossible")
                .map(|cause| format!(" ({cause})"))
                .unwrap_or_default(),
            lacking(summary)
        ),
        remedy: advice.into(),
    })
}

/// The cells that fell short, most first, each with the rule that turned down the most of its last attempts.
fn lacking(summary: &Summary) -> String {
    let mut cells: Vec<_> = summary.lacking.iter().filter(|(cell, _)| !cell.is_empty()).collect();
    cells.sort_by_key(|(_, (rows, _))| std::cmp::Reverse(*rows));
    let told: Vec<String> = cells
        .iter()
        .take(CELLS_SHOWN)
        .map(|(cell, (rows, rules))| {
            let rule = rules.iter().max_by_key(|(_, count)| **count).map_or("none", |(rule, _)| rule);
            format!("{rows} of {cell} by {rule}")
        })
        .collect();
    let more = cells.len().saturating_sub(CELLS_SHOWN);
    match told.len() {
        0 => String::new(),
        _ if more > 0 => format!("; short are {}, and {more} more cells", told.join("; ")),
        _ => format!("; short are {}", told.join("; ")),
    }
}
