//! `instil evolve`: harder and rarer instructions from those that are there, and answers to them.

use crate::run::file::Source;
use crate::{Error, Result};
use clap::Args;

use super::console::{Answer, Console};
use super::from_seeds::{Change, FromSeeds, weigh};

const EXAMPLES: &str = "\
Examples:
  instil evolve seeds.jsonl
  instil evolve seeds.jsonl --rounds 2 --seed 1 -o evolved
  instil evolve seeds.jsonl --operators constraints=2,breadth=1 -n 500 -o evolved
  instil evolve seeds.csv --recipe vary -o varied     paraphrases, other styles, other inputs
  instil evolve --resume -o evolved                   go on after a stop
  instil tree evolved                                 families: what became of each seed

Evol-Instruct (arXiv 2304.12244): each round makes one child of each seed's latest descendant by one of six
operators; a child that fails (no gain, a leak of the prompt, words outside of the operator's bounds, …) is
tried again a few times, and then its parent goes back into the pool. What is kept is answered. Without -n
every seed is tried once a round; with -n rows are made until that many are kept.";

/// Evolve the instructions of a data set, and answer them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvolveArguments {
    /// How often each seed is evolved, each time from what the round before made of it [default: the recipe's, 2].
    #[arg(long, value_name = "N")]
    rounds: Option<u16>,
    /// The operators to use, with their weights, as constraints=2,deepen=1 [default: all alike].
    #[arg(long, value_name = "LIST")]
    operators: Option<String>,
    #[command(flatten)]
    from: FromSeeds,
}

/// Makes the children.
pub(super) fn run(arguments: &EvolveArguments, console: &Console) -> Result<Answer> {
    let steer = |source: &mut Source| {
        source.edit_recipe(&|recipe| {
            if let (Some(rounds), Some(seeds)) = (arguments.rounds, &mut recipe.seeds) {
                seeds.rounds = rounds;
            }
            let Some(operators) = &arguments.operators else { return Ok(()) };
            let attribute = recipe.attributes.iter_mut().find(|attribute| attribute.name == "operator");
            let attribute = attribute.ok_or_else(|| {
                let what = format!("the recipe {} has no attribute `operator`", recipe.name);
                Error::usage(what, "leave --operators out")
            })?;
            weigh(attribute, operators, "--operators")
        })
    };
    let change = Change { is_asked: arguments.rounds.is_some() || arguments.operators.is_some(), make: &steer };
    arguments.from.make("evolve", &change, console).map(|(_, answer)| answer)
}
