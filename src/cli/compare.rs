//! `instil bench` on its own: models and quantisations side by side, to choose one and its batch by.

use std::num::NonZeroUsize;
use std::time::Instant;

use crate::{Error, Result};
use clap::Args;
use instil_grammar::vocab::TokenId;
use serde_json::{Value, json};

use super::bench::{CUT_SHORT, Spread, measure};
use super::console::{Answer, Console};
use super::options::ModelOptions;
use super::{setup, terminal};

/// A larger batch is worth its memory when it gives this much more.
const WORTH: f64 = 1.1;

/// Models side by side.
#[derive(Debug, Args)]
pub(crate) struct Comparison {
    /// Models to compare, by name or GGUF file.
    #[arg(long, value_delimiter = ',', value_name = "MODEL")]
    models: Vec<String>,
    /// Batches to measure.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    batches: Vec<usize>,
    /// Counted runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// auto, cpu, cuda, cuda:N or metal [default: auto].
    #[arg(long)]
    device: Option<String>,
    /// Threads of the CPU's kernels [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// Prompt tokens and decoded tokens of a run.
const PROMPT: usize = 256;
const TOKENS: usize = 32;

/// Measures each model and prints its line.
pub(super) fn run(comparison: &Comparison, console: &Console) -> Result<Answer> {
    let batches = &comparison.batches;
    if batches.is_empty() || batches.contains(&0) || comparison.runs == 0 {
        return Err(Error::usage("a count is 0", "use 1 or more"));
    }
    let names = match comparison.models.as_slice() {
        [] => vec![crate::catalog::DEFAULT_MODEL.to_owned()],
        models => models.to_vec(),
    };
    let columns = batches.iter().fold(String::new(), |all, batch| all + &format!(" {:>9}", format!("batch {batch}")));
    let mut head = format!("{:<32} {:>8} {:>7} {:>9}{columns}  KV/token  best\n", "", "weights", "load s", "prompt");
    for name in names {
        if console.is_closed() {
            break;
        }
        let options = ModelOptions {
            model: Some(name),
            device: comparison.device.clone(),
            threads: comparison.threads,
            ..ModelOptions::default()
        };
        let start = Instant::now();
        let mut loaded = setup::load(&options, &console.hushed())?;
        let load_seconds = start.elapsed().as_secs_f64();
        let width = loaded.model.info().vocab_size;
        let prompt: Vec<TokenId> = (0..PROMPT).map(|at| (at * 7919 % width) as TokenId).collect();
        let bar = console.bar((batches.len() * (comparison.runs + 1)) as u64, "{wide_bar} {msg}  ETA {eta}");
        bar.set_message(loaded.used.name.clone());
        let (mut prompts, mut decodes) = (Vec::new(), Vec::new());
        for &batch in batches {
            let mut seconds = Vec::new();
            for run in 0..=comparison.runs {
                console.check_stop(CUT_SHORT)?;
                let measured = measure(&mut *loaded.model, &prompt, batch, TOKENS)?;
                // The first run is the warm-up.
                if run > 0 {
                    prompts.push(PROMPT as f64 / measured.prompt_seconds);
                    seconds.push((batch * TOKENS) as f64 / measured.decode_seconds);
                }
                bar.inc(1);
            }
            decodes.push(Spread::of(seconds).median);
        }
        bar.finish_and_clear();
        let prompt = Spread::of(prompts).median;
        let memory = loaded.model.key_value_memory();
        let token_bytes = memory.block_bytes.checked_div(memory.block_positions).unwrap_or_default();
        let best = best(batches, &decodes);
        let described = || {
            let by_batch: Vec<Value> = batches
                .iter()
                .zip(&decodes)
                .map(|(batch, tokens_per_s)| json!({ "batch": batch, "decode_tokens_per_s": tokens_per_s }))
                .collect();
            json!({
                "model": loaded.used.name,
                "weight_bytes": loaded.weight_bytes,
                "load_seconds": load_seconds,
                "prompt_tokens_per_s": prompt,
                "batches": by_batch,
                "key_value_bytes_per_token": token_bytes,
                "state_bytes_per_sequence": memory.state_bytes,
                "best_batch": best,
            })
        };
        let told = || {
            let columns = decodes.iter().fold(String::new(), |all, rate| all + &format!(" {rate:>9.0}"));
            format!(
                "{}{:<32} {:>8} {load_seconds:>7.1} {prompt:>9.0}{columns} {:>9}  --batch {best}\n",
                std::mem::take(&mut head),
                loaded.used.name,
                terminal::size(loaded.weight_bytes),
                format!("{} KB", token_bytes / 1000),
            )
        };
        console.each(told, described)?;
    }
    let told =
        format!("tokens/s; prompt of {PROMPT}, {TOKENS} tokens decoded after it, medians of {}\n", comparison.runs);
    Ok(Answer::written(told, ""))
}

/// The smallest batch after which no larger one gives much more.
fn best(batches: &[usize], rates: &[f64]) -> usize {
    let mut order: Vec<(usize, f64)> = batches.iter().copied().zip(rates.iter().copied()).collect();
    order.sort_by_key(|&(batch, _)| batch);
    let fastest = order.iter().map(|&(_, rate)| rate).fold(0.0, f64::max);
    order.iter().find(|&&(_, rate)| rate * WORTH >= fastest).map_or(1, |&(batch, _)| batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_batch_is_the_smallest_that_is_nearly_as_fast() {
        assert_eq!(best(&[1, 8, 32], &[100.0, 700.0, 720.0]), 8);
        assert_eq!(best(&[32, 1, 8], &[900.0, 100.0, 700.0]), 32);
        assert_eq!(best(&[4], &[0.0]), 4);
    }
}
