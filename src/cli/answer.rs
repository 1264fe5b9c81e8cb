//! `instil answer`: answers to the instructions of a data set.

use crate::recipe::BestOf;
use crate::run::file::Source;
use crate::{Error, Result};
use clap::Args;

use super::console::{Answer, Console};
use super::from_seeds::{Change, FromSeeds};

const EXAMPLES: &str = "\
Examples:
  instil answer questions.jsonl -o answered
  instil answer questions.csv --best-of 4 --judge-model ./larger.gguf -o answered
  instil answer rows.jsonl --recipe preference -o pairs     a worse answer beside each one, for DPO";

/// Answer the instructions of a data set.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AnswerArguments {
    /// Write so many answers to each instruction, and keep the one that the recipe's judge scores highest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    best_of: Option<u8>,
    #[command(flatten)]
    from: FromSeeds,
}

/// Writes the answers.
pub(super) fn run(arguments: &AnswerArguments, console: &Console) -> Result<Answer> {
    let compete = |source: &mut Source| {
        let Some(count) = arguments.best_of.filter(|count| *count > 1) else { return Ok(()) };
        source.edit_recipe(&|recipe| {
            let score = recipe.steps.iter().rev().find(|step| step.output.is_score()).map(|step| step.field.clone());
            let step = recipe.steps.iter_mut().find(|step| step.field == "response" && step.output.is_decoded());
            let (Some(by), Some(step)) = (score, step) else {
                let what = format!("the recipe {} has no response that is scored", recipe.name);
                return Err(Error::usage(what, "leave --best-of out, or add a step whose output is `score`"));
            };
            step.best_of = Some(BestOf { count, by });
            Ok(())
        })
    };
    let change = Change { is_asked: arguments.best_of.is_some(), make: &compete };
    arguments.from.make("answer", &change, console).map(|(_, answer)| answer)
}
