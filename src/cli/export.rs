//! `instil export`: a run, or any file of rows, in the form that a trainer reads.

use std::path::PathBuf;

use crate::export::form::Pair;
use crate::export::read::Options;
use crate::export::split::Split;
use crate::export::write;
use crate::export::{Form, Task, export};
use crate::{Error, Result};
use clap::Args;
use serde_json::json;

use super::console::{Answer, Console};
use super::flags::flag;
use super::input::Input;

const EXAMPLES: &str = "\
Examples:
  instil export runs/instruction-response-001 --format messages -o data
  instil export run --format alpaca --split 0.1 --split-by meta.attributes.topic -o data
  instil export chats.parquet --format sharegpt -o data
  instil export run --format messages --file parquet --keep meta.attributes.topic -o data

The directory gets train.jsonl (and test.jsonl), README.md, the data set's card, and dataset_info.json, by
which LLaMA-Factory reads it (dataset_dir: data); with Hugging Face `datasets`: load_dataset(\"data\"). The
input may be a run directory, a file or a directory of files: JSON Lines, a JSON list, a table separated by
commas, semicolons or tabs (any of these packed with gzip or zstd), Parquet, Arrow as `datasets` saves it;
with rows in any of these forms.";

/// Write a data set in the form that a trainer reads.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArguments {
    /// A run directory, rows in any container, or a directory of such files; `-` for stdin.
    path: PathBuf,
    /// The form of the rows; csv and parquet are plain rows in such a file.
    #[arg(long, value_enum)]
    format: Format,
    /// The directory that gets the files.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The kind of file [default: jsonl, or what --format says].
    #[arg(long, value_enum, value_name = "KIND")]
    file: Option<Container>,
    /// Share of the rows for test.jsonl, as in 0.1.
    #[arg(long, value_name = "SHARE")]
    split: Option<f64>,
    /// Rows with the same text here stay on one side of the split [default: the prompt].
    #[arg(long, value_name = "FIELD", requires = "split")]
    split_by: Option<String>,
    /// Seed of the split.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A field to keep beside those of the form, as in meta.attributes.topic; repeat for more.
    #[arg(long, value_name = "FIELD")]
    keep: Vec<String>,
    /// The field that is the prompt, where the names do not say it.
    #[arg(long, value_name = "FIELD", requires = "response_field")]
    prompt_field: Option<String>,
    /// The field that is the answer.
    #[arg(long, value_name = "FIELD", requires = "prompt_field")]
    response_field: Option<String>,
    /// A row that cannot be read is an error.
    #[arg(long)]
    strict: bool,
    /// Put ' before cells of CSV that a spreadsheet would run as formulas.
    #[arg(long)]
    csv_safe: bool,
    /// Replace files that no export wrote, the input among them.
    #[arg(long)]
    force: bool,
    /// Name of the data set on its card [default: the name of the output directory].
    #[arg(long)]
    name: Option<String>,
    /// Licence of the data set on its card, as the hub names it (cc-by-4.0).
    #[arg(long)]
    licence: Option<String>,
    /// Language of the data set on its card.
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// instruction, input, output.
    Alpaca,
    /// conversations of from and value.
    Sharegpt,
    /// messages of role and content.
    Messages,
    /// prompt and completion.
    PromptCompletion,
    /// prompt, chosen and rejected, as texts.
    Preference,
    /// prompt, chosen and rejected, as messages of role and content.
    PreferenceMessages,
    /// The fields as they are.
    Jsonl,
    /// The fields as they are, in CSV.
    Csv,
    /// The fields as they are, in Parquet.
    Parquet,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Container {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values; conversations as JSON in a cell.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl From<Container> for write::Container {
    fn from(container: Container) -> Self {
        match container {
            Container::Jsonl => Self::Jsonl,
            Container::Csv => Self::Csv,
            Container::Parquet => Self::Parquet,
        }
    }
}

/// Exports the data set.
pub(super) fn run(arguments: &ExportArguments, _: &Console) -> Result<Answer> {
    let input = Input::of(&arguments.path)?;
    let task = task(arguments, &input)?;
    let exported = export(&task)?;
    let (mut notes, mut report) = (exported.found.notes(), json!(exported));
    if !exported.found.unused.is_empty() {
        notes.push("--keep FIELD keeps a field beside those of the form".into());
    }
    if let Some((line, why)) = &exported.first_left_out {
        let why = why.told(&flag);
        notes.push(format!("{} rows were left out; line {line}: {why}", exported.left_out));
        report["first_left_out"] = json!([line, why]);
    }
    if exported.formulas > 0 && !arguments.csv_safe {
        let formulas = exported.formulas;
        notes.push(format!("{formulas} cells begin as formulas of spreadsheets do; --csv-safe puts ' before them"));
    }
    if !exported.removed.is_empty() {
        notes.push(format!("removed of the export before: {}", exported.removed.join(", ")));
    }
    let test = if exported.test > 0 { format!(", {} for testing", exported.test) } else { String::new() };
    let output = arguments.output.display();
    notes.push(format!("{} rows for training{test}: {output}/{}", exported.train, exported.files.join(", ")));
    Ok(Answer::notes(notes, &report))
}

fn task(arguments: &ExportArguments, input: &Input) -> Result<Task> {
    if let Some(share) = arguments.split
        && !(share > 0.0 && share < 1.0)
    {
        return Err(Error::usage(format!("--split is {share}"), "use a share between 0 and 1, such as 0.1"));
    }
    let (form, usual) = match arguments.format {
        Format::Alpaca => (Form::Alpaca, Container::Jsonl),
        Format::Sharegpt => (Form::Sharegpt, Container::Jsonl),
        Format::Messages => (Form::Messages, Container::Jsonl),
        Format::PromptCompletion => (Form::PromptCompletion, Container::Jsonl),
        Format::Preference => (Form::Preference, Container::Jsonl),
        Format::PreferenceMessages => (Form::PreferenceMessages, Container::Jsonl),
        Format::Jsonl => (Form::Plain, Container::Jsonl),
        Format::Csv => (Form::Plain, Container::Csv),
        Format::Parquet => (Form::Plain, Container::Parquet),
    };
    let named = arguments.output.file_name().map(|name| name.to_string_lossy().into_owned());
    let pair = Pair { prompt: arguments.prompt_field.clone(), response: arguments.response_field.clone() };
    Ok(Task {
        input: input.path().to_owned(),
        output: arguments.output.clone(),
        form,
        container: arguments.file.unwrap_or(usual).into(),
        split: arguments.split.map(|share| Split { share, by: arguments.split_by.clone(), seed: arguments.seed }),
        keep: arguments.keep.clone(),
        options: Options { strict: arguments.strict, pair },
        name: arguments.name.clone().or(named).unwrap_or_else(|| "data set".into()),
        licence: arguments.licence.clone(),
        language: arguments.language.clone(),
        csv_safe: arguments.csv_safe,
        force: arguments.force,
    })
}
