//! `instil judge`: scores for the rows of a data set.

use crate::Result;
use crate::disk::Lines;
use crate::row::{self, Meta, RunFiles, Score};
use clap::Args;
use serde_json::{Map, Value};

use super::console::{Answer, Console};
use super::from_seeds::{Change, FromSeeds};

/// Rows that are named as the least sure.
const LEAST_SURE: usize = 3;

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
pub(crate) struct JudgeArguments {
    #[command(flatten)]
    from: FromSeeds,
}

/// Reads the rows, and shows what was found.
pub(super) fn run(arguments: &JudgeArguments, console: &Console) -> Result<Answer> {
    let (output, answer) = arguments.from.make("judge", &Change { is_asked: false, make: &|_| Ok(()) }, console)?;
    if !(console.is_watched() && answer.is_good()) {
        return Ok(answer);
    }
    let mut found = Found::default();
    let mut lines = Lines::open(&RunFiles::of(&output).records)?;
    let mut line = Vec::new();
    while lines.next(&mut line)?.is_some() {
        if let Ok(row) = serde_json::from_slice(&line) {
            found.add(&row);
        }
    }
    Ok(found.lines().into_iter().fold(answer, Answer::and_note))
}

/// The scores of a run, summed up.
#[derive(Default)]
struct Found {
    scores: Vec<(String, Sums)>,
    /// The least sure rows, the least first: entropy, id, and what it is of.
    least_sure: Vec<(f64, String, String)>,
}

/// Sums over the rows that have a score.
#[derive(Default)]
struct Sums {
    rows: u32,
    expected: f64,
    squares: f64,
    with_entropy: u32,
    entropy: f64,
}

impl Found {
    fn add(&mut self, row: &Map<String, Value>) {
        for (name, score) in &Meta::of(row).scores {
            let score = Score::of(score);
            let Some(expected) = score.expected else { continue };
            let at = self.scores.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                self.scores.push((name.clone(), Sums::default()));
                self.scores.len() - 1
            });
            let sums = &mut self.scores[at].1;
            sums.rows += 1;
            sums.expected += expected;
            sums.squares += expected * expected;
            let Some(entropy) = score.entropy else { continue };
            sums.with_entropy += 1;
            sums.entropy += entropy;
            let id = row::id_of(row).unwrap_or_default();
            self.least_sure.push((entropy, id, format!("{name} {expected:.2}")));
        }
        self.least_sure.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.least_sure.truncate(LEAST_SURE);
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:16} {:>6} {:>9} {:>9} {:>9}", "score", "rows", "mean", "deviation", "entropy")];
        for (name, sums) in &self.scores {
            let rows = f64::from(sums.rows);
            let mean = sums.expected / rows;
            let deviation = (sums.squares / rows - mean * mean).max(0.0).sqrt();
            let entropy = match sums.with_entropy {
                0 => "-".to_owned(),
                with => format!("{:.2}", sums.entropy / f64::from(with)),
            };
            lines.push(format!("{name:16} {:>6} {mean:>9.3} {deviation:>9.3} {entropy:>9}", sums.rows));
        }
        let told = |(entropy, id, score): &(f64, String, String)| format!("{id} ({score}, entropy {entropy:.2})");
        if !self.least_sure.is_empty() {
            lines.push(format!("least sure: {}", self.least_sure.iter().map(told).collect::<Vec<_>>().join(", ")));
        }
        lines
    }
}
