//! The command line: flags become plain values here, and nothing below knows a flag; [`flags`] puts them into what
//! errors name.
//!
//! One file a command. stdout carries data only; progress, notes and errors go to stderr.

mod answer;
mod bench;
mod check;
mod compare;
mod completions;
mod console;
mod cost;
mod decode;
mod download;
mod evolve;
mod exit;
mod export;
mod filter;
mod fit;
mod flags;
mod from_seeds;
mod generate;
mod init;
mod input;
mod judge;
mod label;
mod logits;
mod machine;
mod making;
mod masks;
mod merge;
mod models;
mod options;
mod person;
mod pipeline;
mod preview;
mod quantize;
mod report;
mod review;
mod run_options;
mod setup;
mod speed;
mod terminal;
mod tokenize;
mod tree;
mod validate;
mod wanted;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::{Error, Result};
use console::{Answer, Console};
use exit::Exit;

const EXAMPLES: &str = "\
Examples:
  instil generate                                  8 instruction-response rows with the default model
  instil generate -n 200 --seed 1 -o out           200 rows into the directory `out`
  instil decode --regex '[0-9]{4}-[0-9]{2}' -n 5   five texts in a strict format, on stdout
  instil check schema.json rows.jsonl              how a schema is enforced; which rows break it

Exit codes: 0 done, 2 flags, 3 input or model, 4 out of reach or refused by the system,
5 fewer rows than asked for, 130 interrupted, 1 anything else.";

/// Make instruction-tuning datasets on your own machine.
#[derive(Debug, Parser)]
#[command(name = "instil", version, about, after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr (repeat for more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say nothing on stderr but errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print data as JSON on stdout: one object, or one a line where there are several.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArguments),
    Validate(validate::ValidateArguments),
    Preview(preview::PreviewArguments),
    Generate(generate::GenerateArguments),
    Evolve(evolve::EvolveArguments),
    Answer(answer::AnswerArguments),
    Judge(judge::JudgeArguments),
    Label(label::LabelArguments),
    Merge(merge::MergeArguments),
    Decode(decode::DecodeArguments),
    Check(check::CheckArguments),
    Filter(filter::FilterArguments),
    Review(review::ReviewArguments),
    Report(report::ReportArguments),
    Tree(tree::TreeArguments),
    Export(export::ExportArguments),
    Models(models::ModelsArguments),
    Bench(bench::BenchArguments),
    Completions(completions::CompletionsArguments),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help, the version, or what is wrong with the arguments.
        Err(told) => return ExitCode::from(console::give_told(&told) as u8),
    };
    terminal::start_logging(arguments.verbose, arguments.quiet);
    let console = Console::new(arguments.quiet, arguments.json);
    watch_interrupts(&console);
    match start_threads().and_then(|()| run(arguments.command, &console)).and_then(|answer| console.give(answer)) {
        Ok(()) => ExitCode::from(Exit::Success as u8),
        Err(error) => {
            let exit = Exit::from(&error);
            console::tell(&error.calling(&flags::flag));
            ExitCode::from(exit as u8)
        }
    }
}

fn run(command: Command, console: &Console) -> Result<Answer> {
    match command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments, console),
        Command::Preview(arguments) => preview::run(&arguments, console),
        Command::Generate(arguments) => generate::run(&arguments, console),
        Command::Answer(arguments) => answer::run(&arguments, console),
        Command::Judge(arguments) => judge::run(&arguments, console),
        Command::Label(arguments) => label::run(&arguments, console),
        Command::Evolve(arguments) => evolve::run(&arguments, console),
        Command::Merge(arguments) => merge::run(&arguments, console),
        Command::Decode(arguments) => decode::run(&arguments, console),
        Command::Check(arguments) => check::run(&arguments, console),
        Command::Filter(arguments) => filter::run(&arguments, console),
        Command::Review(arguments) => review::run(&arguments, console),
        Command::Report(arguments) => report::run(&arguments, console),
        Command::Tree(arguments) => tree::run(&arguments, console),
        Command::Export(arguments) => export::run(&arguments, console),
        Command::Models(arguments) => models::run(&arguments, console),
        Command::Bench(arguments) => bench::run(&arguments, console),
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
    }
}

/// Memory without which there is no beginning: the threads' stacks and what every command reads.
const LEAST_ADDRESSES: u64 = 64 << 20;
/// Threads that `--threads` may ask for: more than any machine has processors for.
const MOST_THREADS: usize = 1024;

/// Starts the threads that work on rows and candidates: one a processor, or as many as `RAYON_NUM_THREADS` says.
fn start_threads() -> Result<()> {
    // An allocation that the system refuses ends the process: better said before there is anything to lose.
    if let Some(left) = machine::address_space().filter(|left| *left < LEAST_ADDRESSES) {
        let what =
            format!("the process may take {} MB more memory, and needs {} MB", left >> 20, LEAST_ADDRESSES >> 20);
        return Err(Error::unavailable(what, "lift the limit (ulimit -v)"));
    }
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.trim().parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // Threads without work look for some, and hundreds of them on a few processors do nothing else.
    let count = asked.filter(|count| *count > 0).unwrap_or(processors).min(4 * processors);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
    // One thread is the one that is there.
    let pool = if count == 1 { pool.use_current_thread() } else { pool };
    pool.build_global().map_err(|cause| {
        let remedy = "set RAYON_NUM_THREADS=1, or lift the limit on memory or processes (ulimit -v, -u)";
        Error::unavailable(format!("{count} threads cannot be started: {cause}"), remedy)
    })
}

/// How long a command that looks whether it is to stop may take until it looks, and one that does not.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_millis(500)];

/// The first Ctrl-C asks the command to end well, a second one ends the program at once. A command that does not hear
/// it, because it computes something long, is ended: whatever was written stands, as after a second Ctrl-C.
fn watch_interrupts(console: &Console) {
    let console = console.clone();
    let handler = move || {
        if console.ask_to_stop() {
            std::process::exit(Exit::Interrupted as i32);
        }
        console::say("stopping; press Ctrl-C again to leave at once");
        let patience = PATIENCE[usize::from(!console.is_heeded())];
        std::thread::spawn(move || {
            std::thread::sleep(patience);
            std::process::exit(Exit::Interrupted as i32);
        });
    };
    // Without a handler Ctrl-C still ends the program; it only ends it less well.
    if let Err(cause) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C cannot be caught: {cause}");
    }
}
