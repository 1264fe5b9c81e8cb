//! `instil bench`: what this machine does with a model. Medians of several runs, after a warm-up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, Subcommand};
use instil::decode::{Finish, Request, Sampling, Scheduler, StreamKey};
use instil::grammar::GrammarSource;
use instil::grammar::validator::Validator;
use instil::model::{Model, Segment};
use instil::tokenizer::EncodeOptions;
use instil::vocab::TokenId;
use instil::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::options::{Engine, ModelOptions, read_text};
use super::{setup, terminal};

const EXAMPLES: &str = "\
Examples:
  instil bench decode                               prompt and decode speed by batch
  instil bench decode --batches 1,8 --json
  instil bench rows rows.json --rows 32             valid rows a minute under a schema
  instil bench masks maskbench.jsonl.gz --tokenizer tokenizer.json --json";

/// Measure decoding on this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Decode(DecodeBench),
    Rows(RowsBench),
    Masks(super::masks::MasksBench),
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
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
}

/// Valid rows a minute: prompts and schema from a file with `prompt`, `topics` and `schema`.
#[derive(Debug, Args)]
struct RowsBench {
    /// JSON with `prompt` (holding {topic} and {i}), `topics` and `schema`.
    file: PathBuf,
    /// Rows a run.
    #[arg(long, default_value_t = 32)]
    rows: u32,
    /// Most tokens of a row.
    #[arg(long, default_value_t = 192)]
    max_tokens: usize,
    /// Counted runs.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Decode free, without the schema.
    #[arg(long)]
    free: bool,
    /// Constraint engine.
    #[arg(long, value_enum, default_value = "instil")]
    engine: Engine,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
}

/// Runs a bench.
pub fn run(arguments: &BenchArguments, quiet: bool, stop: &Arc<AtomicBool>) -> Result<()> {
    match &arguments.what {
        What::Decode(bench) => decode(bench, quiet, stop),
        What::Rows(bench) => rows(bench, quiet, stop),
        What::Masks(bench) => super::masks::run(bench, quiet),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    if values.is_empty() { 0.0 } else { values[values.len() / 2] }
}

fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted { what: "nothing was measured to the end".into() });
    }
    Ok(())
}

fn decode(bench: &DecodeBench, quiet: bool, stop: &Arc<AtomicBool>) -> Result<()> {
    if bench.batches.contains(&0) || bench.prompt == 0 || bench.tokens == 0 || bench.runs == 0 {
        return Err(Error::usage("a count is 0", "use 1 or more"));
    }
    let mut loaded = setup::load(&bench.model, quiet, stop)?;
    let width = loaded.model.info().vocab_size;
    // Any text will do: the work does not depend on which tokens are read.
    let prompt: Vec<TokenId> = (0..bench.prompt).map(|at| (at * 7919 % width) as TokenId).collect();
    let total = bench.batches.len() as u64 * (bench.runs as u64 + 1);
    let bar = terminal::bar(total, "{wide_bar} {pos}/{len}  ETA {eta}", quiet);
    let mut results = Vec::new();
    for &batch in &bench.batches {
        let (mut prompt_rates, mut decode_rates) = (Vec::new(), Vec::new());
        for run in 0..=bench.runs {
            check_stop(stop)?;
            let (prompt_rate, decode_rate) = measure(&mut *loaded.model, &prompt, batch, bench.tokens)?;
            // The first run is the warm-up.
            if run > 0 {
                prompt_rates.push(prompt_rate);
                decode_rates.push(decode_rate);
            }
            bar.inc(1);
        }
        let spread = |rates: &[f64]| {
            (rates.iter().copied().fold(f64::INFINITY, f64::min), rates.iter().copied().fold(0.0, f64::max))
        };
        let (low, high) = spread(&decode_rates);
        results.push(json!({
            "batch": batch,
            "prompt_tokens_per_s": median(&mut prompt_rates),
            "decode_tokens_per_s": median(&mut decode_rates),
            "decode_min": low,
            "decode_max": high,
        }));
    }
    bar.finish_and_clear();
    if bench.json {
        println!(
            "{}",
            json!({ "model": loaded.used.name, "prompt": bench.prompt, "tokens": bench.tokens, "runs": bench.runs, "results": results })
        );
    } else {
        println!("{:>6} {:>14} {:>14}   spread", "batch", "prompt tok/s", "decode tok/s");
        for result in &results {
            let number = |key: &str| result[key].as_f64().unwrap_or_default();
            println!(
                "{:>6} {:>14.1} {:>14.1}   {:.1}–{:.1}",
                result["batch"],
                number("prompt_tokens_per_s"),
                number("decode_tokens_per_s"),
                number("decode_min"),
                number("decode_max")
            );
        }
    }
    Ok(())
}

/// Prompt and decode tokens a second of `batch` sequences.
fn measure(model: &mut dyn Model, prompt: &[TokenId], batch: usize, tokens: usize) -> Result<(f64, f64)> {
    let first = model.create();
    let start = Instant::now();
    model.forward(&[Segment { sequence: first, tokens: prompt, logits: true }])?;
    let prompt_rate = prompt.len() as f64 / start.elapsed().as_secs_f64();
    let mut sequences = vec![first];
    for _ in 1..batch {
        sequences.push(model.fork(first, prompt.len())?);
    }
    let start = Instant::now();
    for step in 0..tokens {
        let token = [prompt[step % prompt.len()]];
        let segments: Vec<Segment> =
            sequences.iter().map(|&sequence| Segment { sequence, tokens: &token, logits: true }).collect();
        model.forward(&segments)?;
    }
    let decode_rate = (batch * tokens) as f64 / start.elapsed().as_secs_f64();
    sequences.into_iter().for_each(|sequence| model.free(sequence));
    Ok((prompt_rate, decode_rate))
}

#[derive(Deserialize)]
struct RowsFile {
    prompt: String,
    topics: Vec<String>,
    schema: Value,
}

fn rows(bench: &RowsBench, quiet: bool, stop: &Arc<AtomicBool>) -> Result<()> {
    let file: RowsFile = serde_json::from_str(&read_text(&bench.file)?)
        .map_err(|cause| Error::input(&bench.file, cause.to_string(), "it needs `prompt`, `topics` and `schema`"))?;
    if file.topics.is_empty() || bench.rows == 0 || bench.runs == 0 {
        return Err(Error::usage("there is nothing to measure", "give topics, rows and runs"));
    }
    let slots = bench.model.slots()?;
    let validator = Validator::new(&file.schema)?;
    let mut loaded = setup::load(&bench.model, quiet, stop)?;
    let tokenizer = loaded.tokenizer.clone();
    let compiler = setup::compiler(&loaded.tokenizer, bench.engine);
    let start = Instant::now();
    let constraint =
        if bench.free { None } else { Some(compiler.compile(&GrammarSource::JsonSchema(file.schema.clone()))?) };
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
            sampling: Sampling { temperature: 0.8, top_p: 0.95, ..Sampling::default() },
        })
    };
    let mut reports = Vec::new();
    for run in 0..=bench.runs {
        let warm_up = run == 0;
        let count = if warm_up { 1 } else { bench.rows };
        let mut scheduler = Scheduler::new(&mut *loaded.model, tokenizer.vocab().clone(), slots);
        let start = Instant::now();
        (0..count).try_for_each(|row| {
            scheduler.submit(request(row)?);
            Ok::<_, Error>(())
        })?;
        let (mut valid, mut tokens, mut chars, mut by_budget) = (0u32, 0usize, 0usize, 0u32);
        while let Some(completion) = scheduler.next_completion()? {
            check_stop(stop)?;
            tokens += completion.tokens.len();
            by_budget += u32::from(completion.closed_by_budget);
            let ended = !matches!(completion.finish, Finish::Limit { accepting: false } | Finish::DeadEnd);
            let value: Option<Value> = serde_json::from_slice(&completion.text).ok().filter(|_| ended);
            if let Some(value) = value.filter(|value| validator.is_valid(value)) {
                valid += 1;
                chars += value.get("response").and_then(Value::as_str).map_or(0, |text| text.chars().count());
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let statistics = scheduler.statistics();
        if !warm_up {
            reports.push(json!({
                "engine": "instil",
                "constrained": !bench.free,
                "rows": bench.rows,
                "slots": slots,
                "max_tokens": bench.max_tokens,
                "tokens": tokens,
                "seconds": seconds,
                "tokens_per_s": tokens as f64 / seconds,
                "sampled_tokens": statistics.sampled_tokens,
                "forced_tokens": statistics.forced_tokens,
                "valid": valid,
                "valid_rows_per_min": f64::from(valid) / seconds * 60.0,
                "mean_response_chars": chars as f64 / f64::from(valid.max(1)),
                "closed_by_budget": by_budget,
                "compile_seconds": compile_seconds,
            }));
        }
    }
    reports.sort_by(|a, b| {
        let rate = |report: &Value| report["valid_rows_per_min"].as_f64().unwrap_or_default();
        rate(a).total_cmp(&rate(b))
    });
    let report = &reports[reports.len() / 2];
    if bench.json {
        println!("{report}");
    } else {
        println!(
            "{} of {} rows valid, {:.1} valid rows/min, {:.1} tokens/s (median of {} runs)",
            report["valid"],
            report["rows"],
            report["valid_rows_per_min"].as_f64().unwrap_or_default(),
            report["tokens_per_s"].as_f64().unwrap_or_default(),
            bench.runs
        );
    }
    Ok(())
}
