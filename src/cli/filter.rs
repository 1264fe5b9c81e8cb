//! `instil filter`: rules over the rows of any JSON Lines file.

use std::path::PathBuf;

use crate::filter::Filters;
use crate::filter::decontaminate::Decontaminate;
use crate::filter::distinct::ExactFields;
use crate::filter::empty::Empty;
use crate::filter::file::{Progress, Summary, Task, check_fields, filter, text_fields};
use crate::filter::language::LanguageOf;
use crate::filter::leak::PromptLeak;
use crate::filter::length::Length;
use crate::filter::loops::Loops;
use crate::filter::near::Near;
use crate::filter::pii::{self, Pii};
use crate::filter::refusal::Refusal;
use crate::filter::rouge::RougeL;
use crate::filter::semantic::Semantic;
use crate::filter::sentence_end::SentenceEnd;
use crate::measure::Sources;
use crate::{Error, Result};
use clap::Args;
use serde_json::json;

use super::console::{Answer, Console};
use super::setup;

/// Lines that could not be read which are shown to a person.
const BAD_LINES_SHOWN: usize = 3;

const EXAMPLES: &str = "\
Examples:
  instil filter rows.jsonl -o clean.jsonl --exact --minhash
  instil filter rows.jsonl -o clean.jsonl --rejects out.jsonl --field instruction --rouge-l --refusal
  instil filter rows.jsonl -o clean.jsonl --pii mask --decontaminate gsm8k.jsonl
  instil filter rows.jsonl -o clean.jsonl --field instruction --semantic --best-by meta.scores.quality.expected
  instil filter rows.jsonl -o clean.jsonl --config filters.yaml --json

--config takes what stands under `filters:` in a recipe; flags add to it. A field can be a path
(meta.topic), a conversation (messages), or the messages of one role in it (messages.assistant).";

/// Turn rows of a JSON Lines file down by rules, and write the others.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FilterArguments {
    /// A run directory, or rows, one JSON object a line.
    input: PathBuf,
    /// Where the rows that stay go.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where the others go, each with its reason under `meta.reason`.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// A field that the flags below look at; repeat for more [default: the text fields of the first row].
    #[arg(long, value_name = "NAME")]
    field: Vec<String>,
    /// A file of rules.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A line that is not a JSON object is an error, not a reject.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    single: SingleRows,
    #[command(flatten)]
    compared: ComparedRows,
}

/// Rules about one row.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules about a row")]
struct SingleRows {
    /// Each field holds a word.
    #[arg(long)]
    empty: bool,
    /// Words of each field, both ends allowed.
    #[arg(long, value_name = "MIN..MAX", value_parser = bounds)]
    words: Option<(usize, usize)>,
    /// Characters of each field, both ends allowed.
    #[arg(long, value_name = "MIN..MAX", value_parser = bounds)]
    chars: Option<(usize, usize)>,
    /// Each field ends as a sentence ends.
    #[arg(long)]
    sentence_end: bool,
    /// No field repeats a line or the same run of words.
    #[arg(long)]
    loops: bool,
    /// No field refuses the task.
    #[arg(long)]
    refusal: bool,
    /// No field speaks of the prompt that it was made with.
    #[arg(long)]
    prompt_leak: bool,
    /// Each field is in this language (en, de, zh, …).
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// What to do with e-mail addresses, phone, card and account numbers, IP addresses and access keys.
    #[arg(long, value_name = "ACTION")]
    pii: Option<PiiAction>,
    /// A benchmark file whose items no row may hold; repeat for more.
    #[arg(long, value_name = "FILE")]
    decontaminate: Vec<PathBuf>,
}

/// Rules that compare rows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rules that compare rows")]
struct ComparedRows {
    /// No two rows have the same words.
    #[arg(long)]
    exact: bool,
    /// No two rows have this Jaccard similarity or more, by runs of one to three words.
    #[arg(long, value_name = "SIMILARITY", num_args = 0..=1, require_equals = true, default_missing_value = "0.7")]
    minhash: Option<f64>,
    /// No two rows have a ROUGE-L F1 above this.
    #[arg(long, value_name = "F1", num_args = 0..=1, require_equals = true, default_missing_value = "0.7")]
    rouge_l: Option<f64>,
    /// No two rows have a cosine of their sentence embeddings above this.
    #[arg(long, value_name = "COSINE", num_args = 0..=1, require_equals = true, default_missing_value = "0.9")]
    semantic: Option<f64>,
    /// The sentence embedder of --semantic [default: all-minilm-l6-v2].
    #[arg(long, value_name = "MODEL", requires = "semantic")]
    embedder: Option<String>,
    /// Rows that must not be repeated either.
    #[arg(long, value_name = "FILE")]
    seeds: Option<PathBuf>,
    /// A number field: of rows alike the one with the most stays [default: the first stays].
    #[arg(long, value_name = "NAME")]
    best_by: Option<String>,
    /// A text field that names what a row descends from; rows of one lineage may be near.
    #[arg(long, value_name = "NAME")]
    lineage: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PiiAction {
    /// Turn the row down.
    Reject,
    /// Replace it by a placeholder such as [EMAIL].
    Mask,
}

fn bounds(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("`{text}` is not MIN..MAX, as in 5..400");
    let (least, most) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str, open: usize| if text.is_empty() { Ok(open) } else { text.parse().map_err(|_| wrong()) };
    let bounds = (number(least, 0)?, number(most, usize::MAX)?);
    if bounds.0 > bounds.1 { Err(wrong()) } else { Ok(bounds) }
}

/// Filters the file.
pub(super) fn run(arguments: &FilterArguments, console: &Console) -> Result<Answer> {
    let filters = filters(arguments)?;
    let mut task = Task {
        input: Sources::of(&arguments.input)?.records,
        output: arguments.output.clone(),
        rejects: arguments.rejects.clone(),
        seeds: arguments.compared.seeds.clone(),
        best_by: arguments.compared.best_by.clone(),
        lineage: arguments.compared.lineage.clone(),
        strict: arguments.strict,
        embedder: None,
    };
    if task.rejects.as_ref() == Some(&task.output) {
        return Err(Error::usage("-o and --rejects are the same file", "give two files"));
    }
    task.embedder = setup::embedder(filters.semantic.as_ref(), console)?.map(|(embedder, _)| embedder);
    let bar = console.bar(0, "{wide_bar} {percent} %  {msg}  ETA {eta}");
    let mut on_progress = |progress: Progress| {
        bar.set_length(progress.of);
        bar.set_position(progress.bytes);
        let rows = (progress.kept + progress.rejected) as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{} kept, {} rejected, {rows:.0} rows/s", progress.kept, progress.rejected));
    };
    let start = std::time::Instant::now();
    let summary = filter(&task, &filters, console.stop(), &mut on_progress);
    bar.finish_and_clear();
    let summary = summary?;
    let seconds = start.elapsed().as_secs_f64();
    let mut report = json!(summary);
    report["seconds"] = json!(seconds);
    Ok(Answer::notes(told(&summary, seconds, arguments), &report))
}

fn told(summary: &Summary, seconds: f64, arguments: &FilterArguments) -> Vec<String> {
    let rejected = summary.rows - summary.kept;
    let mut lines = vec![format!("{} of {} rows kept in {seconds:.1} s", summary.kept, summary.rows)];
    for (rule, count) in &summary.rejected {
        let share = *count as f64 / summary.rows.max(1) as f64 * 100.0;
        lines.push(format!("  {rule:18} {count:>10}  {share:5.1} %"));
    }
    if summary.masked > 0 {
        lines.push(format!("{} places were masked", summary.masked));
    }
    for (line, what) in summary.bad_lines.iter().take(BAD_LINES_SHOWN) {
        lines.push(format!("line {line} is unreadable: {what}"));
    }
    if rejected > 0 && arguments.rejects.is_none() {
        lines.push("--rejects FILE keeps the others with their reasons".into());
    }
    lines
}

/// The fields that flags look at: those named, or the text fields of the first row. Read when a flag first asks.
struct Fields<'a> {
    arguments: &'a FilterArguments,
    read: Option<Vec<String>>,
}

impl Fields<'_> {
    fn get(&mut self) -> Result<Vec<String>> {
        if self.read.is_none() {
            let records = Sources::of(&self.arguments.input)?.records;
            self.read = Some(match self.arguments.field.as_slice() {
                [] => text_fields(&records)?,
                named => {
                    check_fields(&records, named)?;
                    named.to_vec()
                }
            });
        }
        Ok(self.read.clone().unwrap_or_default())
    }

    /// A rule a field.
    fn each<R>(&mut self, rule: impl Fn(String) -> R) -> Result<Vec<R>> {
        Ok(self.get()?.into_iter().map(rule).collect())
    }
}

/// The rules that the flags and the file name.
fn filters(arguments: &FilterArguments) -> Result<Filters> {
    let mut filters = arguments.config.as_deref().map_or_else(|| Ok(Filters::default()), Filters::read)?;
    let (single, compared) = (&arguments.single, &arguments.compared);
    let mut fields = Fields { arguments, read: None };
    if single.empty {
        filters.empty = fields.each(|field| Empty { field })?;
    }
    if single.sentence_end {
        filters.sentence_end = fields.each(SentenceEnd::of)?;
    }
    if single.loops {
        filters.loops = fields.each(|field| Loops { field })?;
    }
    if single.refusal {
        filters.refusal = fields.each(|field| Refusal { field })?;
    }
    if compared.exact {
        filters.exact = ExactFields { fields: fields.get()? };
    }
    if single.words.is_some() || single.chars.is_some() {
        filters.length.extend(fields.each(|field| Length { field, words: single.words, chars: single.chars })?);
    }
    if single.prompt_leak {
        filters.prompt_leak = Some(PromptLeak::new(fields.get()?));
    }
    if let Some(code) = &single.language {
        let rules: Result<Vec<_>, String> = fields.each(|field| LanguageOf::new(&field, code))?.into_iter().collect();
        filters.language = rules.map_err(|what| Error::usage(format!("--language: {what}"), ""))?;
    }
    if let Some(action) = single.pii {
        let action = match action {
            PiiAction::Reject => pii::Action::Reject,
            PiiAction::Mask => pii::Action::Mask,
        };
        filters.pii = Some(Pii::new(fields.get()?, action));
    }
    if !single.decontaminate.is_empty() {
        filters.decontaminate = Some(Decontaminate::new(fields.get()?, single.decontaminate.clone()));
    }
    if let Some(threshold) = compared.minhash {
        filters.near = Some(Near { threshold, ..Near::new(fields.get()?) });
    }
    if let Some(threshold) = compared.rouge_l {
        filters.rouge_l = Some(RougeL { threshold, ..RougeL::new(fields.get()?) });
    }
    if let Some(threshold) = compared.semantic {
        let rule = Semantic { threshold, ..Semantic::new(fields.get()?) };
        filters.semantic = Some(match &compared.embedder {
            Some(model) => Semantic { model: model.clone(), ..rule },
            None => rule,
        });
    }
    if filters == Filters::default() {
        return Err(Error::usage("no rule is named", "add one, such as --exact or --minhash, or a --config"));
    }
    match filters.problem() {
        Some(problem) => Err(Error::usage(problem.what, "change the flag or the rule")),
        None => Ok(filters),
    }
}
