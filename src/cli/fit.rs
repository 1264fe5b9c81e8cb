//! `instil models fit`: what a model will take on this machine, before anything of it is fetched.

use std::fmt::Write as _;

use crate::Result;
use crate::catalog::hub_name::Choice;
use crate::catalog::manifest::{Kind, Manifest};
use crate::catalog::source::{self, FetchOptions, Freshness, Places, Presence, locate};
use crate::catalog::variant::Variant;
use crate::catalog::{Catalog, Named};
use clap::Args;
use instil_model::model::checkpoint;
use instil_model::model::needs::Needs;
use serde_json::{Value, json};

use super::console::{Answer, Console};
use super::machine::{self, Gpu, Memory};
use super::{download, terminal};

/// Tokens of a text, with its prompt, where nobody says how many.
pub(super) const USUAL_TOKENS: usize = 1024;
/// Texts at once on a CPU.
pub(super) const USUAL_BATCH: usize = 32;

const EXAMPLES: &str = "\
Examples:
  instil models fit owner/name                     what its quantisations take, and which fit here
  instil models fit owner/name:Q8_0 --batch 256 --tokens 4096
  instil models fit ./model.gguf --json

Of a model on the hub a few megabytes are read: the head of its file.";

/// Tell what a model will take, and whether it fits here.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FitArguments {
    /// Name of a model, here or on the hub, a file of weights, or a manifest.
    #[arg(default_value = crate::catalog::DEFAULT_MODEL)]
    model: String,
    /// Texts decoded at once.
    #[arg(long, value_name = "N", default_value_t = USUAL_BATCH)]
    batch: usize,
    /// Tokens of each text, with its prompt; what prompts share lies in memory once.
    #[arg(long, value_name = "N", default_value_t = USUAL_TOKENS)]
    tokens: usize,
}

/// Whether what is needed is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    /// If other programs make room.
    Tight,
    No,
}

impl Fit {
    /// How `needed` bytes stand to what there is.
    pub(super) fn of(needed: u64, memory: Memory) -> Self {
        match needed {
            needed if needed <= memory.available => Self::Yes,
            needed if needed <= memory.total => Self::Tight,
            _ => Self::No,
        }
    }

    /// One word for a table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Tight => "tight",
            Self::No => "no",
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::Yes => "fits",
            Self::Tight => "fits once other programs make room",
            Self::No => "does not fit",
        }
    }
}

/// What a model takes with so many texts of so many tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    weights: u64,
    gpu_weights: u64,
    keys_and_values: u64,
    logits: u64,
}

impl Estimate {
    pub(super) fn of(needs: &Needs, batch: usize, tokens: usize) -> Self {
        Self {
            weights: needs.weight_bytes,
            gpu_weights: needs.gpu_weight_bytes,
            keys_and_values: needs.key_value_bytes(batch, tokens.min(needs.context_length)),
            logits: (batch * needs.vocab_size * size_of::<f32>()) as u64,
        }
    }

    /// All of it on the CPU.
    pub(super) fn on_cpu(&self) -> u64 {
        self.weights + self.keys_and_values + self.logits
    }

    /// All of it on a GPU.
    pub(super) fn on_gpu(&self) -> u64 {
        self.gpu_weights + self.keys_and_values + self.logits
    }
}

/// What a model needs whose files are here.
pub(super) fn needs_here(manifest: &Manifest, presence: &Presence) -> Option<Result<Needs>> {
    let Presence::Present(located) = presence else { return None };
    if manifest.kind != Kind::Candle {
        return None;
    }
    let weights = located.weights()?;
    Some(checkpoint::open(&weights.path).and_then(|file| Needs::of(&manifest.name, &*file)).map_err(Into::into))
}

/// Estimates and tells.
pub(super) fn run(arguments: &FitArguments, places: &Places, console: &Console) -> Result<Answer> {
    let mut others = Vec::new();
    let manifest = match Catalog::load(places)?.named(&arguments.model)? {
        Named::Here(manifest) => *manifest,
        Named::Hub(name) => {
            let listing = download::list(&name, places, Freshness::Known, console)?;
            if name.choice == Choice::Usual {
                others = listing.variants();
            }
            listing.manifest(&name)?
        }
    };
    let presence = locate(&manifest, places)?;
    let needs = match needs_here(&manifest, &presence) {
        Some(needs) => needs,
        None if manifest.kind != Kind::Candle || manifest.sources.is_empty() => {
            let what = format!("is of kind {}, which takes little", manifest.kind);
            return Err(crate::Error::model(&manifest.name, what, "name a model with weights"));
        }
        None => {
            let options = FetchOptions { stop: console.stop().clone(), ..FetchOptions::from_environment() };
            source::head(&manifest, &options, &mut |event| {
                if let source::FetchEvent::Note { text } = event {
                    console.note(text);
                }
            })
            .and_then(|head| Ok(Needs::of(&manifest.name, &head)?))
        }
    };
    let found = Found { manifest, needs, others, memory: machine::memory(), gpus: machine::gpus() };
    found.answer(arguments)
}

/// Everything that is told.
struct Found {
    manifest: Manifest,
    /// Or why it is not known.
    needs: Result<Needs>,
    /// The models of its repository.
    others: Vec<Variant>,
    memory: Option<Memory>,
    gpus: Vec<Gpu>,
}

impl Found {
    fn answer(self, arguments: &FitArguments) -> Result<Answer> {
        let (batch, tokens) = (arguments.batch, arguments.tokens);
        let size_bytes = self.manifest.size_bytes();
        let needs = match &self.needs {
            Ok(needs) => needs,
            // Without the head there is the size of the files, if that.
            Err(error) if size_bytes == 0 || matches!(error, crate::Error::Interrupted { .. }) => {
                return self.needs.map(|_| Answer::done());
            }
            Err(error) => return Ok(self.by_size(size_bytes, error)),
        };
        let estimate = Estimate::of(needs, batch, tokens);
        let parameters = needs.parameters as f64 / 1e9;
        let mut text = format!("{}: {}, {parameters:.2} billion weights\n", self.manifest.name, needs.family);
        let mut line = |key: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {key:16} {value}");
        };
        let per_token = needs.block_bytes / needs.block_positions as u64;
        let held = tokens.min(needs.context_length);
        line("weights", size(estimate.weights));
        line(
            "keys and values",
            format!(
                "{:>9}  {batch} texts of {held} tokens, {} kB a token",
                terminal::size(estimate.keys_and_values),
                per_token / 1000
            ),
        );
        line("logits", size(estimate.logits));
        let on_cpu = |memory: Memory| {
            let fit = Fit::of(estimate.on_cpu(), memory);
            format!("{} of {} are free: {}", terminal::size(memory.available), terminal::size(memory.total), fit.told())
        };
        let here = self.memory.map_or("how much there is here is not known".into(), on_cpu);
        line("on the CPU", format!("{:>9}  {here}", terminal::size(estimate.on_cpu())));
        let build = if cfg!(feature = "cuda") { "" } else { "; this build does not use it" };
        for gpu in &self.gpus {
            let fit = Fit::of(estimate.on_gpu(), gpu.memory).told();
            let free = terminal::size(gpu.memory.available);
            let told = format!(
                "{:>9}  in f16; {}: {free} are free: {fit}{build}",
                terminal::size(estimate.on_gpu()),
                gpu.name
            );
            line("on a GPU", told);
        }
        if self.gpus.is_empty() {
            line("on a GPU", format!("{:>9}  in f16; there is none here", terminal::size(estimate.on_gpu())));
        }
        let others = self.others(&estimate, size_bytes);
        if others.len() > 1 {
            let width = others.iter().map(|other| other.label.len()).max().unwrap_or(0);
            let _ = writeln!(text, "\nquantisations of this repository, on the CPU:");
            for other in &others {
                let needed = other.needed.map_or("-".into(), terminal::size);
                let fit = other.fit.map_or("", Fit::told);
                let _ = writeln!(text, "  {:width$}  {needed:>9}  {fit}", other.label);
            }
        }
        let found = json!({
            "name": self.manifest.name,
            "architecture": needs.family,
            "parameters": needs.parameters,
            "context_length": needs.context_length,
            "batch": batch,
            "tokens": held,
            "file_bytes": size_bytes,
            "key_value_bytes_per_token": per_token,
            "key_value_bytes": estimate.keys_and_values,
            "logits_bytes": estimate.logits,
            "cpu": {
                "weight_bytes": estimate.weights,
                "needed_bytes": estimate.on_cpu(),
                "total_bytes": self.memory.map(|memory| memory.total),
                "available_bytes": self.memory.map(|memory| memory.available),
                "fits": self.memory.map(|memory| Fit::of(estimate.on_cpu(), memory).word()),
            },
            "gpu_weight_bytes": estimate.gpu_weights,
            "gpu_needed_bytes": estimate.on_gpu(),
            "gpus": self.gpus.iter().map(|gpu| json!({
                "name": gpu.name,
                "total_bytes": gpu.memory.total,
                "available_bytes": gpu.memory.available,
                "fits": Fit::of(estimate.on_gpu(), gpu.memory).word(),
            })).collect::<Vec<Value>>(),
            "quantisations": others.iter().map(|other| json!({
                "quantisation": other.label,
                "file_bytes": other.size_bytes,
                "needed_bytes": other.needed,
                "fits": other.fit.map(Fit::word),
            })).collect::<Vec<Value>>(),
        });
        Ok(Answer::written(text, format!("{found:#}\n")))
    }

    /// The models of the repository: weights take about what their files do, as those of the one that was looked into.
    fn others(&self, estimate: &Estimate, size_bytes: u64) -> Vec<Other> {
        let other = |variant: &Variant| {
            let size = variant.size_bytes();
            let beside = estimate.on_cpu() - estimate.weights;
            let needed = size.map(|size| if size == size_bytes { estimate.weights } else { size } + beside);
            let fit = needed.zip(self.memory).map(|(needed, memory)| Fit::of(needed, memory));
            Other { label: variant.label.clone(), size_bytes: size, needed, fit }
        };
        self.others.iter().map(other).collect()
    }

    /// What can be told by the size of the files alone.
    fn by_size(&self, size_bytes: u64, why: &crate::Error) -> Answer {
        let fit = self.memory.map(|memory| Fit::of(size_bytes, memory));
        let told = fit.map_or("how much there is here is not known", Fit::told);
        let text = format!(
            "{}\n  weights          {}  {told}, by the size of the files alone\n",
            self.manifest.name,
            size(size_bytes)
        );
        let found = json!({
            "name": self.manifest.name,
            "file_bytes": size_bytes,
            "cpu": {
                "total_bytes": self.memory.map(|memory| memory.total),
                "available_bytes": self.memory.map(|memory| memory.available),
                "fits": fit.map(Fit::word),
            },
            "unknown": why.to_string(),
        });
        Answer::written(text, format!("{found:#}\n")).and_note(why.to_string())
    }
}

/// A model of the same repository.
struct Other {
    label: String,
    size_bytes: Option<u64>,
    needed: Option<u64>,
    fit: Option<Fit>,
}

fn size(bytes: u64) -> String {
    format!("{:>9}", terminal::size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_what_is_free() {
        let memory = Memory { total: 10, available: 4 };
        for (needed, expected) in [(4, Fit::Yes), (5, Fit::Tight), (10, Fit::Tight), (11, Fit::No)] {
            assert_eq!(Fit::of(needed, memory), expected);
        }
    }
}
