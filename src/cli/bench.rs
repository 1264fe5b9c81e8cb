//! `instil bench`: what this machine does with a model. Medians of several runs, after a warm-up.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::recipe::Draws;
use crate::validator::Validator;
use crate::{Error, Result};
use clap::{Args, Subcommand};
use instil_grammar::constraint::Settings;
use instil_grammar::grammar::{GrammarSource, Style};
use instil_grammar::vocab::TokenId;
use instil_model::decode::{Capacity, Completion, Finish, Request, Sampling, Scheduler, Statistics, StreamKey};
use instil_model::model::kernels::Isa;
use instil_model::model::kernels::ceiling::{bytes_read_per_second, multiply_adds_per_second};
use instil_model::model::kernels::team::Team;
use instil_model::model::profile::PARTS;
use instil_model::model::{Model, Segment};
use instil_model::tokenizer::EncodeOptions;
use serde::Deserialize;
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::options::{Engine, ModelOptions, read_text};
use super::setup;

const EXAMPLES: &str = "\
Examples:
  instil bench                                      models and batches side by side, to choose by
  instil bench --models small.gguf,large.gguf --batches 1,16,64
  instil bench decode                               prompt and decode speed by batch
  instil bench decode --batches 1,8 --json
  instil bench decode --batches 32 --profile        where the time of a step goes
  instil bench machine                              what the processor can do at most
  instil bench rows rows.json --rows 64             valid rows a minute under a schema
  instil bench masks maskbench.jsonl.gz --tokenizer tokenizer.json --json
  instil bench pipeline                             what a row costs outside the model";

/// Measure decoding on this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    comparison: super::compare::Comparison,
}

#[derive(Debug, Subcommand)]
enum What {
    Decode(DecodeBench),
    Rows(RowsBench),
    Machine(MachineBench),
    Masks(super::masks::MasksBench),
    Pipeline(super::pipeline::PipelineBench),
}

/// Prompt and decode tokens a second, by batch.
#[derive(Debug, Args)]
struct DecodeBench {
    /// Batches to measure.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    batches: Vec<usize>,
    /// Prompt tokens.
    #[arg(long, default_value_t = 128)]
    prompt: usize,
    /// Decoded tokens of each sequence.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Counted runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Also measure where the time of a decode step goes.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    model: ModelOptions,
}

/// What this processor can do at most: reading memory, and multiplying small integers.
#[derive(Debug, Args)]
struct MachineBench {
    /// Threads [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Counted runs.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Valid rows a minute: prompts and schema from a file with `prompt`, `topics` and `schema`.
#[derive(Debug, Args)]
struct RowsBench {
    /// JSON with `prompt` (holding {topic} and {i}), `topics` and `schema`.
    file: PathBuf,
    /// Rows a run.
    #[arg(long, default_value_t = 64)]
    rows: u32,
    /// Most tokens of a row.
    #[arg(long, default_value_t = 192)]
    max_tokens: usize,
    /// Counted runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How strongly, in nats at the token limit, ends are preferred as the limit comes near; 0 turns it off.
    #[arg(long, value_name = "NATS", default_value_t = Draws::default().landing)]
    landing: f32,
    /// Decode free, without the schema.
    #[arg(long)]
    free: bool,
    /// Constraint engine.
    #[arg(long, value_enum, default_value = "instil")]
    engine: Engine,
    #[command(flatten)]
    model: ModelOptions,
}

/// Runs a bench.
pub(super) fn run(arguments: &BenchArguments, console: &Console) -> Result<Answer> {
    match &arguments.what {
        None => super::compare::run(&arguments.comparison, console),
        Some(What::Decode(bench)) => decode(bench, console),
        Some(What::Rows(bench)) => rows(bench, console),
        Some(What::Machine(bench)) => machine(bench),
        Some(What::Masks(bench)) => super::masks::run(bench, console),
        Some(What::Pipeline(bench)) => super::pipeline::run(bench, console),
    }
}

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Default)]
pub(super) struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(&least), Some(&greatest)) => Self { median: values[values.len() / 2], least, greatest },
            _ => Self::default(),
        }
    }
}

/// What an interrupted bench leaves.
pub(crate) const CUT_SHORT: &str = "nothing was measured to the end";

fn machine(bench: &MachineBench) -> Result<Answer> {
    if bench.runs == 0 {
        return Err(Error::usage("--runs is 0", "use 1 or more"));
    }
    let threads = bench.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let (isa, mut team) = (Isa::detect(), Team::new(threads));
    let (mut reads, mut products) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        reads.push(bytes_read_per_second(isa, &mut team) / 1e9);
        products.push(multiply_adds_per_second(isa, &mut team) / 1e9);
    }
    let (reads, products) = (Spread::of(reads), Spread::of(products));
    let instructions = format!("{isa:?}").to_lowercase();
    let line = |name: &str, figure: Spread, unit: &str| {
        format!("{name:>28} {:>10.1} {unit} ({:.1}–{:.1})\n", figure.median, figure.least, figure.greatest)
    };
    let text = format!("{:>28} {instructions:>10}\n{:>28} {threads:>10}\n", "instructions", "threads")
        + &line("memory read", reads, "GB/s")
        + &line("4-bit × 8-bit products", products, "G multiply-adds/s");
    let figures = json!({
        "instructions": instructions,
        "threads": threads,
        "runs": bench.runs,
        "read_gb_per_s": reads.median,
        "read_min": reads.least,
        "read_max": reads.greatest,
        "multiply_adds_g_per_s": products.median,
        "multiply_adds_min": products.least,
        "multiply_adds_max": products.greatest,
    });
    Ok(Answer::data(text, &figures))
}

fn decode(bench: &DecodeBench, console: &Console) -> Result<Answer> {
    if bench.batches.contains(&0) || bench.prompt == 0 || bench.tokens == 0 || bench.runs == 0 {
        return Err(Error::usage("a count is 0", "use 1 or more"));
    }
    let mut loaded = setup::load(&bench.model, console)?;
    let width = loaded.model.info().vocab_size;
    // Any text will do: the work does not depend on which tokens are read.
    let prompt: Vec<TokenId> = (0..bench.prompt).map(|at| (at * 7919 % width) as TokenId).collect();
    let total = bench.batches.len() as u64 * (bench.runs as u64 + 1);
    let bar = console.bar(total, "{wide_bar} {pos}/{len}  ETA {eta}");
    let mut results = Vec::new();
    let mut profiles = Vec::new();
    for &batch in &bench.batches {
        let mut runs = Vec::new();
        for run in 0..=bench.runs {
            console.check_stop(CUT_SHORT)?;
            let measured = measure(&mut *loaded.model, &prompt, batch, bench.tokens)?;
            // The first run is the warm-up.
            if run > 0 {
                runs.push(measured);
            }
            bar.inc(1);
        }
        let prompts = Spread::of(runs.iter().map(|run| prompt.len() as f64 / run.prompt_seconds));
        let decodes = Spread::of(runs.iter().map(|run| (batch * bench.tokens) as f64 / run.decode_seconds));
        let key_value_bytes = runs.last().map_or(0, |run| run.key_value_bytes);
        if bench.profile
            && let Some(last) = runs.pop()
        {
            profiles.push((batch, shares(&last, bench.tokens)));
        }
        results.push((batch, prompts, decodes, key_value_bytes));
    }
    bar.finish_and_clear();
    let figures: Vec<Value> = results
        .iter()
        .map(|(batch, prompts, decodes, key_value_bytes)| {
            json!({
                "batch": batch,
                "prompt_tokens_per_s": prompts.median,
                "prompt_min": prompts.least,
                "prompt_max": prompts.greatest,
                "decode_tokens_per_s": decodes.median,
                "decode_min": decodes.least,
                "decode_max": decodes.greatest,
                "key_value_bytes": key_value_bytes,
            })
        })
        .collect();
    let steps: Vec<Value> = profiles
        .iter()
        .map(|(batch, shares)| {
            let parts: Vec<Value> =
                shares.iter().map(|(name, ms, share)| json!({ "part": name, "ms": ms, "share": share })).collect();
            json!({ "batch": batch, "step": parts })
        })
        .collect();
    let peak = peak_memory_bytes();
    let report = json!({
        "engine": "instil",
        "model": loaded.used.name,
        "prompt": bench.prompt,
        "tokens": bench.tokens,
        "runs": bench.runs,
        "results": figures,
        "profiles": steps,
        "peak_memory_bytes": peak,
    });
    let mut text =
        format!("{:>6} {:>14} {:>18} {:>14} {:>18}\n", "batch", "prompt tok/s", "spread", "decode tok/s", "spread");
    for (batch, prompts, decodes, _) in &results {
        let spread = |figure: &Spread| format!("{:.1}–{:.1}", figure.least, figure.greatest);
        text += &format!(
            "{batch:>6} {:>14.1} {:>18} {:>14.1} {:>18}\n",
            prompts.median,
            spread(prompts),
            decodes.median,
            spread(decodes)
        );
    }
    if let Some(bytes) = peak {
        let most = results.iter().map(|result| result.3).max().unwrap_or_default();
        text += &format!("peak memory {} MB, keys and values {} MB of it\n", bytes / 1_000_000, most / 1_000_000);
    }
    for (batch, shares) in &profiles {
        text += &format!("\nOne step at batch {batch}:\n");
        for (name, ms, share) in shares {
            text += &format!("{name:>18} {ms:>9.3} ms {:>6.1} %\n", share * 100.0);
        }
    }
    Ok(Answer::data(text, &report))
}

/// The most memory that this process has held so far, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// One run: seconds of the prompt and of all decode steps, and where the latter went.
pub(crate) struct Measured {
    pub prompt_seconds: f64,
    pub decode_seconds: f64,
    /// Memory of keys and values at the end.
    key_value_bytes: usize,
    parts: Vec<(String, f64)>,
}

/// Reads a prompt once, then decodes `batch` sequences that share it.
pub(super) fn measure(model: &mut dyn Model, prompt: &[TokenId], batch: usize, tokens: usize) -> Result<Measured> {
    let first = model.sequences().create();
    let start = Instant::now();
    model.forward(&[Segment { sequence: first, tokens: prompt, logits: 1 }])?;
    let prompt_seconds = start.elapsed().as_secs_f64();
    let mut sequences = vec![first];
    for _ in 1..batch {
        sequences.push(model.sequences().fork(first, prompt.len())?);
    }
    if let Some(profile) = model.profile() {
        profile.reset();
    }
    let start = Instant::now();
    for step in 0..tokens {
        let token = [prompt[step % prompt.len()]];
        let segments: Vec<Segment> =
            sequences.iter().map(|&sequence| Segment { sequence, tokens: &token, logits: 1 }).collect();
        let logits = model.forward(&segments)?;
        model.recycle(logits);
    }
    let decode_seconds = start.elapsed().as_secs_f64();
    let parts = model
        .profile()
        .map(|profile| PARTS.iter().map(|&part| (format!("{part:?}"), profile.spent(part).as_secs_f64())).collect());
    let key_value_bytes = model.key_value_memory().used_bytes;
    sequences.into_iter().for_each(|sequence| model.sequences().free(sequence));
    Ok(Measured { prompt_seconds, decode_seconds, key_value_bytes, parts: parts.unwrap_or_default() })
}

/// Milliseconds a step and share of it, by part; what no part accounts for comes last.
fn shares(measured: &Measured, steps: usize) -> Vec<(String, f64, f64)> {
    let whole = measured.decode_seconds;
    let told: f64 = measured.parts.iter().map(|(_, seconds)| seconds).sum();
    let rest = [("(unaccounted)".to_owned(), whole - told)];
    let all = measured.parts.iter().chain(&rest);
    all.map(|(name, seconds)| (name.clone(), seconds / steps as f64 * 1e3, seconds / whole)).collect()
}

#[derive(Deserialize)]
struct RowsFile {
    prompt: String,
    topics: Vec<String>,
    schema: Value,
}

fn rows(bench: &RowsBench, console: &Console) -> Result<Answer> {
    let file: RowsFile = serde_json::from_str(&read_text(&bench.file)?)
        .map_err(|cause| Error::input(&bench.file, cause.to_string(), "it needs `prompt`, `topics` and `schema`"))?;
    if file.topics.is_empty() || bench.rows == 0 || bench.runs == 0 {
        return Err(Error::usage("there is nothing to measure", "give topics, rows and runs"));
    }
    bench.model.check()?;
    let validator = Validator::new(&file.schema)?;
    let mut loaded = setup::load(&bench.model, console)?;
    let capacity = bench.model.capacity(&*loaded.model);
    let tokenizer = loaded.tokenizer.clone();
    let compiler = setup::compiler(&loaded.tokenizer, bench.engine, Settings::default());
    let start = Instant::now();
    let constraint = if bench.free {
        None
    } else {
        Some(compiler.compile(&GrammarSource::JsonSchema(file.schema.clone()), Style::default())?)
    };
    let compile_seconds = start.elapsed().as_secs_f64();
    let (head, tail) = file.prompt.split_once("{topic}").unwrap_or((&file.prompt, ""));
    let encode = |text: &str| tokenizer.encode(text, EncodeOptions { special: true, add_bos: false });
    let prefix: Arc<[TokenId]> = encode(head)?.into();
    let request = |row: u32| -> Result<Request> {
        let topic = &file.topics[row as usize % file.topics.len()];
        Ok(Request {
            key: StreamKey { seed: 0, row, step: 0, attempt: 0 },
            prefix: prefix.clone(),
            prompt: encode(&format!("{topic}{}", tail.replace("{i}", &row.to_string())))?,
            constraint: constraint.clone(),
            max_tokens: bench.max_tokens,
            sampling: Sampling { temperature: 0.8, top_p: 0.95, landing: bench.landing, ..Sampling::default() },
            thought: None,
            measure: None,
        })
    };
    let bar = console.bar(bench.runs as u64 + 1, "{wide_bar} {pos}/{len}  ETA {eta}");
    let mut runs: Vec<Rows> = Vec::new();
    for run in 0..=bench.runs {
        // The first run is the warm-up: one batch.
        let count = if run == 0 { bench.rows.min(capacity.slots as u32) } else { bench.rows };
        let mut rows = Rows::default();
        let mut scheduler = Scheduler::new(&mut *loaded.model, tokenizer.vocab().clone(), capacity);
        let start = Instant::now();
        (0..count).try_for_each(|row| {
            scheduler.submit(request(row)?);
            Ok::<_, Error>(())
        })?;
        while let Some(completion) = scheduler.next_completion()? {
            console.check_stop(CUT_SHORT)?;
            rows.count(&completion, &validator);
        }
        rows.seconds = start.elapsed().as_secs_f64();
        rows.statistics = scheduler.statistics();
        if run > 0 {
            runs.push(rows);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rates = Spread::of(runs.iter().map(Rows::valid_per_minute));
    runs.sort_by(|a, b| a.valid_per_minute().total_cmp(&b.valid_per_minute()));
    let run = &runs[runs.len() / 2];
    let report = run.report(bench, capacity, rates, compile_seconds);
    let number = |key: &str| report[key].as_f64().unwrap_or_default();
    let lines = [
        format!("{:>26} {:>10.1}   ({:.1}–{:.1})", "valid rows/min", rates.median, rates.least, rates.greatest),
        format!("{:>26} {:>10}   of {}", "valid rows", run.valid, bench.rows),
        format!("{:>26} {:>10.1}", "tokens/s", number("tokens_per_s")),
        format!("{:>26} {:>10}", "sampled tokens", run.statistics.sampled_tokens),
        format!("{:>26} {:>10}", "forced tokens", run.statistics.forced_tokens),
        format!("{:>26} {:>10.1}", "mean response characters", number("mean_response_chars")),
        format!("{:>26} {:>10.1} %", "closed by budget", number("closed_by_budget_share") * 100.0),
        format!("{:>26} {:>10}", "rows leant to their end", run.leant),
        format!("{:>26} {:>10.1} %", "time outside the model", number("time_outside_model_share") * 100.0),
    ];
    Ok(Answer::data(lines.join("\n") + "\n", &report))
}

/// What one run made.
#[derive(Default)]
struct Rows {
    seconds: f64,
    tokens: usize,
    valid: u32,
    response_chars: usize,
    closed_by_budget: u32,
    leant: u32,
    statistics: Statistics,
}

impl Rows {
    fn count(&mut self, completion: &Completion, validator: &Validator) {
        self.tokens += completion.tokens.len();
        self.closed_by_budget += u32::from(completion.closed_by_budget);
        self.leant += u32::from(completion.leant > 0);
        let ended = !matches!(completion.finish, Finish::Limit { accepting: false } | Finish::DeadEnd);
        let value: Option<Value> = serde_json::from_slice(&completion.text).ok().filter(|_| ended);
        if let Some(value) = value.filter(|value| validator.is_valid(value)) {
            self.valid += 1;
            let response = value.get("response").and_then(Value::as_str);
            self.response_chars += response.map_or(0, |text| text.chars().count());
        }
    }

    fn valid_per_minute(&self) -> f64 {
        f64::from(self.valid) / self.seconds * 60.0
    }

    /// The keys that the bench of llama-server prints, and ours.
    fn report(&self, bench: &RowsBench, capacity: Capacity, rates: Spread, compile_seconds: f64) -> Value {
        json!({
            "engine": "instil",
            "constrained": !bench.free,
            "rows": bench.rows,
            "slots": capacity.slots,
            "max_tokens": bench.max_tokens,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_s": self.tokens as f64 / self.seconds,
            "valid": self.valid,
            "valid_rows_per_min": rates.median,
            "valid_rows_per_min_min": rates.least,
            "valid_rows_per_min_max": rates.greatest,
            "mean_response_chars": self.response_chars as f64 / f64::from(self.valid.max(1)),
            "runs": bench.runs,
            "sampled_tokens": self.statistics.sampled_tokens,
            "sampled_tokens_per_s": self.statistics.sampled_tokens as f64 / self.seconds,
            "forced_tokens": self.statistics.forced_tokens,
            "forced_tokens_per_s": self.statistics.forced_tokens as f64 / self.seconds,
            "closed_by_budget": self.closed_by_budget,
            "closed_by_budget_share": f64::from(self.closed_by_budget) / f64::from(bench.rows),
            "leant_to_end": self.leant,
            "prompt_tokens": self.statistics.prompt_tokens,
            "prompt_tokens_shared": self.statistics.prompt_tokens_shared,
            "passes": self.statistics.passes,
            "model_seconds": self.statistics.model_time.as_secs_f64(),
            "sampling_seconds": self.statistics.sampling_time.as_secs_f64(),
            "time_outside_model_share": 1.0 - self.statistics.model_time.as_secs_f64() / self.seconds,
            "compile_seconds": compile_seconds,
            "peak_memory_bytes": peak_memory_bytes(),
        })
    }
}
