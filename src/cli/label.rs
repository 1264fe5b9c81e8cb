//! `instil label`: observe attributes of any data set, by the probabilities of their values.

use std::path::PathBuf;

use crate::plan::Plan;
use crate::recipe::label::{Observed, label, read_examples};
use crate::recipe::{Attribute, Recipe};
use crate::row::RunFiles;
use crate::run::file::{RecipeChoice, Source};
use crate::run::observed::agreement;
use crate::{Error, Result};
use clap::Args;
use serde_json::json;

use super::console::{Answer, Console};
use super::from_seeds::{Change, FromSeeds};

const EXAMPLES: &str = "\
Examples:
  instil label rows.jsonl --attribute tone=formal,casual,urgent
  instil label rows.jsonl --attribute level=easy,hard --examples labelled.jsonl -o labels
  instil label runs/instruction-response-001/records.jsonl -c run.yaml --of both
  instil generate -c run.yaml --fill labels/records.jsonl      fill the gaps that were found

Nothing is drawn: each row is read once for each attribute, and the values' probabilities, divided by those
for a text without content, are in meta.scores of its record. Where rows say what was planned (a run's, or
a field with the attribute's name) the confusion matrix, accuracy and calibration are shown. A few labelled
examples (--examples) help small models more than anything else.";

/// Observe attributes of the rows of a data set.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LabelArguments {
    /// An attribute and its values, as tone=formal,casual; repeat for more [default: those of the run file, or of
    /// the run that made the rows].
    #[arg(long, value_name = "NAME=VALUES", value_parser = parse_attribute)]
    attribute: Vec<Attribute>,
    /// Which text of a row is looked at.
    #[arg(long, value_enum, default_value = "instruction")]
    of: Of,
    /// Labelled rows to show the model: JSON Lines of {"text": …, "tone": "formal"}.
    #[arg(long, value_name = "FILE")]
    examples: Option<PathBuf>,
    #[command(flatten)]
    from: FromSeeds,
}

/// Which text of a row is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// What is asked, with its input.
    Instruction,
    /// The answer.
    Response,
    /// Both.
    Both,
}

fn parse_attribute(text: &str) -> std::result::Result<Attribute, String> {
    let (name, values) = text.split_once('=').ok_or("write it as tone=formal,casual")?;
    let values = values.split(',').map(str::trim).filter(|value| !value.is_empty());
    let values = values.map(|value| value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number)));
    Ok(Attribute::of(name.trim(), values.collect()))
}

/// Reads the rows and shows what was found.
pub(super) fn run(arguments: &LabelArguments, console: &Console) -> Result<Answer> {
    let observed = match arguments.of {
        Of::Instruction => Observed::Instruction,
        Of::Response => Observed::Response,
        Of::Both => Observed::Both,
    };
    let observe = |source: &mut Source| {
        let attributes = match arguments.attribute.as_slice() {
            [] if !source.file.attributes.is_empty() => std::mem::take(&mut source.file.attributes),
            [] => planned(arguments.from.data.as_ref())?,
            given => given.to_vec(),
        };
        let examples = match &arguments.examples {
            Some(path) => read_examples(path, &attributes)?,
            None => Vec::new(),
        };
        source.file.attributes.clear();
        source.file.recipe = Some(RecipeChoice::Here(Box::new(label(&attributes, observed, examples)?)));
        Ok(())
    };
    let named = !arguments.attribute.is_empty() || arguments.examples.is_some();
    let change = Change { is_asked: named || arguments.of != Of::Instruction, make: &observe };
    let (output, answer) = arguments.from.make("any", &change, console)?;
    if answer.is_good() { Ok(show(&output)?.into_iter().fold(answer, Answer::and_note)) } else { Ok(answer) }
}

/// The attributes of the run whose records are read.
fn planned(data: Option<&PathBuf>) -> Result<Vec<Attribute>> {
    let folder = data.and_then(|path| path.parent()).unwrap_or(std::path::Path::new(""));
    if !RunFiles::of(folder).plan.exists() {
        return Err(Error::usage("no attribute is named", "add --attribute tone=formal,casual, or -c run.yaml"));
    }
    let plan = Plan::read(folder)?;
    let is_text = |attribute: &Attribute| {
        !attribute.is_continuous() && !attribute.apart && attribute.all_values().all(|value| !value.is_object())
    };
    Ok(plan.recipe.attributes.into_iter().filter(is_text).collect())
}

/// Notes beside the run what was observed, and tells a person.
fn show(output: &std::path::Path) -> Result<Vec<String>> {
    let recipe: Recipe = Plan::read(output)?.recipe;
    let found = agreement(&RunFiles::of(output).records, &recipe)?;
    let text = serde_json::to_string_pretty(&found).expect("counts are plain data") + "\n";
    crate::disk::write_whole(&output.join("labels.json"), text.as_bytes())?;
    let mut lines = Vec::new();
    for attribute in &found {
        let counts: Vec<String> = attribute.observed.iter().map(|(value, rows)| format!("{value} {rows}")).collect();
        lines.push(format!("{}: {}", attribute.attribute, counts.join(", ")));
        if let (Some(confusion), Some(accuracy)) = (&attribute.confusion, &attribute.accuracy) {
            lines.push(confusion.table().trim_end().to_owned());
            let (low, high) = accuracy.interval;
            let kappa = attribute.kappa.map_or(String::new(), |kappa| format!(", kappa {kappa:.2}"));
            let error = attribute.calibration.as_ref().map_or(0.0, |calibration| calibration.error);
            lines.push(format!(
                "accuracy {:.2} ({low:.2} to {high:.2}){kappa}, calibration error {error:.2}",
                accuracy.value
            ));
        }
    }
    Ok(lines)
}
