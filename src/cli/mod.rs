//! The command line: flags become plain values here, and nothing below knows a flag.
//!
//! One file a command. stdout carries data only; progress, notes and errors go to stderr.

mod answer;
mod bench;
mod check;
mod compare;
mod completions;
mod cost;
mod decode;
mod download;
mod evolve;
mod exit;
mod export;
mod filter;
mod from_seeds;
mod generate;
mod init;
mod judge;
mod label;
mod making;
mod masks;
mod merge;
mod models;
mod options;
mod pipeline;
mod preview;
mod report;
mod review;
mod run_options;
mod setup;
mod speed;
mod terminal;
mod tree;
mod validate;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

use exit::Exit;
use instil::Result;

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
    // clap prints its own help and errors, and exits with 2 on the latter.
    let arguments = Arguments::parse();
    terminal::start_logging(arguments.verbose, arguments.quiet);
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupts(&stop);
    match run(arguments, &stop) {
        Ok(()) => ExitCode::from(Exit::Success as u8),
        Err(error) => {
            terminal::print_error(&error);
            ExitCode::from(Exit::from(&error) as u8)
        }
    }
}

fn run(arguments: Arguments, stop: &Arc<AtomicBool>) -> Result<()> {
    let quiet = arguments.quiet;
    match arguments.command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments, quiet),
        Command::Preview(arguments) => preview::run(&arguments, quiet, stop),
        Command::Generate(arguments) => generate::run(&arguments, quiet, stop),
        Command::Answer(arguments) => answer::run(&arguments, quiet, stop),
        Command::Judge(arguments) => judge::run(&arguments, quiet, stop),
        Command::Label(arguments) => label::run(&arguments, quiet, stop),
        Command::Evolve(arguments) => evolve::run(&arguments, quiet, stop),
        Command::Merge(arguments) => merge::run(&arguments, quiet, stop),
        Command::Decode(arguments) => decode::run(&arguments, quiet, stop),
        Command::Check(arguments) => check::run(&arguments),
        Command::Filter(arguments) => filter::run(&arguments, quiet, stop),
        Command::Review(arguments) => review::run(&arguments, quiet, stop),
        Command::Report(arguments) => report::run(&arguments, quiet, stop),
        Command::Tree(arguments) => tree::run(&arguments, quiet),
        Command::Export(arguments) => export::run(&arguments, quiet),
        Command::Models(arguments) => models::run(&arguments, quiet, stop),
        Command::Bench(arguments) => bench::run(&arguments, quiet, stop),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

/// The first Ctrl-C asks the command to end well, a second one ends the program at once.
fn watch_interrupts(stop: &Arc<AtomicBool>) {
    let stop = stop.clone();
    let handler = move || {
        if stop.swap(true, Ordering::SeqCst) {
            std::process::exit(Exit::Interrupted as i32);
        }
        terminal::note("stopping; press Ctrl-C again to leave at once");
    };
    // Without a handler Ctrl-C still ends the program; it only ends it less well.
    if let Err(cause) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C cannot be caught: {cause}");
    }
}
