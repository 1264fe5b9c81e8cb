//! `instil models quantize`: a model as one GGUF file, its matrices of floats in another type.

use std::path::PathBuf;

use crate::catalog::source::{Freshness, Places};
use crate::disk::WholeFile;
use crate::{Error, Result};
use clap::Args;
use indicatif::DecimalBytes;
use instil_model::model::checkpoint;
use instil_model::model::quantise::Quantisation;
use instil_model::model::rewrite::Plan;
use serde_json::json;

use super::console::{Answer, Console};
use super::download;

/// Write a model as a GGUF file, its floats quantised.
#[derive(Debug, Args)]
pub(crate) struct QuantizeArguments {
    /// Name of a model, here or on the hub, a GGUF file, or a folder of safetensors.
    model: String,
    /// The GGUF file to write.
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
    /// What matrices of floats become: q8_0, q4_0, q4_k, f16, bf16 or f32. What is quantised already stays.
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0")]
    kind: String,
    /// Replace a file of this name.
    #[arg(long)]
    force: bool,
}

/// Writes the file.
pub(super) fn run(arguments: &QuantizeArguments, places: &Places, console: &Console) -> Result<Answer> {
    let to = Quantisation::of_file(&arguments.kind)?;
    // Whether the place can be written is known before anything is fetched.
    let mut out = WholeFile::create_new(&arguments.output, arguments.force)?;
    let manifest = download::resolve(&arguments.model, places, Freshness::Kept, console)?;
    let located = download::fetch(&manifest, places, None, console)?;
    let weights = located.weights().ok_or_else(|| {
        Error::model(&manifest.name, "is scripted, so it has no weights", "name a model with weights")
    })?;
    let file = checkpoint::open(&weights.path)?;
    let plan = Plan::new(&manifest.name, &*file, to)?;
    if plan.changed == 0 && !plan.converts {
        let what = format!("{} holds no floats that {} would change", manifest.name, to.name());
        return Err(Error::usage(what, "take a file in F32, F16 or BF16, or another --type"));
    }
    let bar = console.bar(plan.size_bytes, "{wide_bar} {bytes}/{total_bytes}  ETA {eta}");
    let written = plan.write(&arguments.output, &mut out, &mut |bytes| {
        bar.set_position(bytes);
        !console.is_stopped()
    });
    bar.finish_and_clear();
    if !written? {
        console.check_stop("nothing was written")?;
    }
    out.finish()?;
    let found = json!({
        "path": arguments.output,
        "type": to.name(),
        "changed": plan.changed,
        "size_bytes": plan.size_bytes,
    });
    let size = DecimalBytes(plan.size_bytes);
    let changed = plan.changed;
    let told = format!("{} ({size}): {changed} tensors changed, to {}", arguments.output.display(), to.name());
    Ok(Answer::notes(vec![told], &found))
}
