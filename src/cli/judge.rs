//! `instil judge`: scores for the rows of a data set.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use instil::Result;

use super::from_seeds::FromSeeds;

const EXAMPLES: &str = "\
Examples:
  instil judge rows.jsonl -o judged
  instil judge rows.jsonl --judge-model ./larger.gguf -o judged
  jq -c '[.id, .meta.scores.quality.expected]' judged/records.jsonl

Each row is kept as it is; meta.scores of its record has, by name: the expected value, the entropy (0 sure, 1
knows nothing) and the probabilities of the rubric's marks; for relevance and ifd the answer's likelihoods.";

/// Score the rows of a data set.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct JudgeArguments {
    #[command(flatten)]
    from: FromSeeds,
}

/// Reads the rows.
pub fn run(arguments: &JudgeArguments, quiet: bool, stop: &Arc<AtomicBool>) -> Result<()> {
    arguments.from.make("judge", &|_| Ok(()), quiet, stop).map(|_| ())
}
