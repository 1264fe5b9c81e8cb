//! `instil bench masks`: the MaskBench protocol over schemas with valid and invalid instances.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::bench::input::{self, BenchCase, BenchFile, Spacing};
use crate::bench::masks::Engine;
use crate::bench::report::{Tally, table};
use crate::bench::supervise::{Limits, Report, serve, supervise};
use crate::bench::{cold, engines};
use crate::{Error, Result};
use clap::Args;
use instil_grammar::constraint::{Escapes, Settings};
use instil_grammar::grammar::{Options, Style};
use instil_model::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::Value;

use super::console::{Answer, Console};
use super::cost::tokenizer_of;
use super::options::{Order, Spaces};

/// Verdicts, compile times and mask times of constraint engines.
#[derive(Debug, Args)]
pub(crate) struct MasksBench {
    /// A folder of .json files, or a .jsonl(.gz) file: `name`, `schema`, `tests`. `extremes` for
    /// schemas that are hard by their size.
    data: PathBuf,
    /// A tokenizer.json file, or a GGUF file with a tokenizer in it.
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Engines: instil, outlines; llguidance in a build with the feature `peers`.
    #[arg(long, value_delimiter = ',', default_value = "instil")]
    engine: Vec<String>,
    /// Order of an object's members.
    #[arg(long, value_enum, default_value = "any")]
    order: Order,
    /// White space between the parts of a text.
    #[arg(long, value_enum, default_value = "spaced")]
    whitespace: Spaces,
    /// Spellings of numbers: as rows are written, or any that JSON allows.
    #[arg(long, value_enum, default_value = "flexible")]
    numbers: Numbers,
    /// Fail, with exit code 5, when a verdict is wrong or a file ends without one.
    #[arg(long)]
    strict: bool,
    /// Seconds a file may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    time_limit: u64,
    /// Megabytes a file may take.
    #[arg(long, value_name = "MB", default_value_t = 8000)]
    memory_limit: u64,
    /// Take every N-th file only.
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: usize,
    /// Write each instance's verdict, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
    /// Instead of the protocol: the time that this many rows of one batch take which begin together, none of whose
    /// masks is known.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// With --rows: numbers of threads to compare.
    #[arg(long, value_name = "N,M,…", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Measures one engine, file by file from standard input, for the process that supervises it.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// Spellings of numbers that texts may have.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Numbers {
    /// As people and programs write them.
    Flexible,
    /// Any of the same value.
    Any,
}

impl MasksBench {
    fn settings(&self, escapes: Escapes) -> Settings {
        let (whitespace, key_order) = (self.whitespace.into(), self.order.into());
        Settings { whitespace, key_order, escapes, ..Settings::default() }
    }
}

/// Runs the protocol.
pub(super) fn run(bench: &MasksBench, console: &Console) -> Result<Answer> {
    let spacing = match bench.whitespace {
        Spaces::Compact => Spacing::Compact,
        Spaces::Spaced => Spacing::Spaced,
        Spaces::Pretty | Spaces::Flexible => Spacing::Raw,
    };
    if let Some(engine) = &bench.worker {
        return work(bench, engine, spacing).map(|()| Answer::done());
    }
    if bench.every == 0 {
        return Err(Error::usage("--every is 0", "use 1 or more"));
    }
    let files =
        if bench.data.as_os_str() == "extremes" { crate::bench::extremes::files() } else { input::read(&bench.data)? };
    let files: Vec<_> = files.into_iter().step_by(bench.every).collect();
    if let Some(rows) = bench.rows {
        return cold_rows(bench, rows, &files, console);
    }
    let mut verdicts = match &bench.verdicts {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|cause| Error::io("create", path, cause))?;
            Some((path, std::io::BufWriter::new(file)))
        }
        None => None,
    };
    let program = std::env::current_exe().map_err(|cause| Error::io("find", "this program", cause))?;
    let limits = Limits {
        time: Duration::from_secs(bench.time_limit),
        memory_bytes: bench.memory_limit.saturating_mul(1_000_000),
    };
    let mut tallies = Vec::new();
    for engine in &bench.engine {
        let bar = console.bar(files.len() as u64, "{wide_bar} {pos}/{len} files  {msg}  ETA {eta}");
        bar.set_message(engine.clone());
        let command = || {
            let mut command = Command::new(&program);
            // One thread, as the protocol says.
            command.args(std::env::args_os().skip(1)).arg("--worker").arg(engine).env("RAYON_NUM_THREADS", "1");
            command
        };
        let mut tally = Tally::default();
        let mut failed = None;
        let each = |report: Report| {
            bar.inc(1);
            let file = &files[report.index];
            let case = file.case(spacing).unwrap_or_else(|_| BenchCase { schema: Value::Null, instances: Vec::new() });
            for line in tally.add(engine, file, &case, &report) {
                if let Some((path, out)) = &mut verdicts
                    && let Err(cause) = writeln!(out, "{line}")
                {
                    failed.get_or_insert(Error::io("write", path.as_path(), cause));
                }
            }
        };
        let startup = supervise(&files, limits, command, each)?;
        bar.finish_and_clear();
        failed.map_or(Ok(()), Err)?;
        tally.set_startup(startup);
        tallies.push((engine.clone(), tally));
    }
    if let Some((path, out)) = &mut verdicts {
        out.flush().map_err(|cause| Error::io("write", path.as_path(), cause))?;
    }
    let object = |of: &dyn Fn(&Tally) -> Value| {
        tallies.iter().map(|(name, tally)| (name.clone(), of(tally))).collect::<serde_json::Map<_, _>>()
    };
    let summary = serde_json::json!({
        "order": format!("{:?}", bench.order).to_lowercase(),
        "whitespace": format!("{:?}", bench.whitespace).to_lowercase(),
        "engines": object(&Tally::summary),
        "details": object(&Tally::details),
    });
    let verdict = match tallies.iter().find(|(_, tally)| bench.strict && !tally.is_right()) {
        Some((engine, tally)) => {
            let what = format!("{engine}: {}", tally.wrong());
            Err(Error::Unmet { what, remedy: "see --verdicts for each of them".into() })
        }
        None => Ok(()),
    };
    Ok(Answer::written(table(&tallies), format!("{summary:#}\n")).ending(verdict))
}

/// Tokens that each row may write beyond what its grammar needs.
const SPARE_TOKENS: usize = 64;
/// Batches of each file and number of threads, the fastest of which counts.
const COLD_RUNS: usize = 3;

/// Rows of one batch that begin together, by number of threads.
fn cold_rows(bench: &MasksBench, rows: usize, files: &[BenchFile], console: &Console) -> Result<Answer> {
    if bench.threads.contains(&0) || rows == 0 {
        return Err(Error::usage("there is nothing to measure", "give --rows and --threads of 1 or more"));
    }
    let tokenizer = tokenizer_of(&bench.tokenizer)?;
    let instil = engines::instil::Instil::new(
        tokenizer.vocab(),
        Options { style: Style::Canonical },
        bench.settings(Escapes::Canonical),
    );
    let bar = console.bar(files.len() as u64, "{wide_bar} {pos}/{len} files  ETA {eta}");
    let mut totals = vec![Duration::ZERO; bench.threads.len()];
    let (mut measured, mut tokens) = (0, 0);
    for file in files {
        bar.inc(1);
        let Ok(case) = file.case(Spacing::Raw) else { continue };
        let mut texts = None;
        let mut times = vec![Duration::MAX; bench.threads.len()];
        for _ in 0..COLD_RUNS {
            for (time, &threads) in times.iter_mut().zip(&bench.threads) {
                let batch =
                    instil.engine(&case.schema).ok().map(|engine| cold::run(&engine, rows, threads, SPARE_TOKENS));
                let Some(Ok(batch)) = batch else { continue };
                *time = batch.time.min(*time);
                tokens += batch.tokens;
                if *texts.get_or_insert(batch.texts) != batch.texts {
                    let what = "rows wrote other texts than they did on another number of threads";
                    return Err(Error::input(&bench.data, format!("{}: {what}", file.name), "report this"));
                }
            }
        }
        if texts.is_some() {
            measured += 1;
            totals.iter_mut().zip(times).for_each(|(total, time)| *total += time);
        }
    }
    bar.finish_and_clear();
    let each = || bench.threads.iter().zip(&totals);
    let seconds: Vec<Value> = each()
        .map(|(threads, total)| serde_json::json!({ "threads": threads, "seconds": total.as_secs_f64() }))
        .collect();
    let figures = serde_json::json!({ "files": measured, "rows": rows, "tokens": tokens, "cold": seconds });
    let mut text = format!("{measured} files, {rows} rows each, the fastest of {COLD_RUNS} batches\n");
    for (threads, total) in each() {
        text += &format!("{threads:>4} threads {:>10.3} s\n", total.as_secs_f64());
    }
    Ok(Answer::data(text, &figures))
}

fn work(bench: &MasksBench, engine: &str, spacing: Spacing) -> Result<()> {
    let tokenizer = tokenizer_of(&bench.tokenizer)?;
    let encode = |text: &str| tokenizer.encode(text, EncodeOptions::default()).unwrap_or_default();
    let make = || make(bench, engine, &tokenizer);
    serve(make, &encode, spacing, &mut std::io::stdin().lock(), &mut std::io::stdout().lock())
}

/// Builds an engine; its cost is what is computed once a vocabulary.
fn make(bench: &MasksBench, engine: &str, tokenizer: &Tokenizer) -> Result<Box<dyn Engine>> {
    let vocab = tokenizer.vocab();
    match engine {
        "instil" => {
            let numbers = match bench.numbers {
                Numbers::Flexible => Style::Flexible,
                Numbers::Any => Style::Any,
            };
            let options = Options { style: numbers };
            Ok(Box::new(engines::instil::Instil::new(vocab, options, bench.settings(Escapes::Any))))
        }
        "outlines" => Ok(Box::new(engines::outlines::Outlines::new(vocab)?)),
        #[cfg(feature = "peers")]
        "llguidance" => Ok(Box::new(engines::llguidance::Llguidance::new(vocab)?)),
        other => Err(Error::usage(
            format!("unknown engine `{other}`"),
            "use instil or outlines; llguidance is there in a build with --features peers",
        )),
    }
}
