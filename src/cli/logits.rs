//! `instil models logits`: what a model says after each token of a text, for comparing it with other programs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::disk::WholeFile;
use crate::{Error, Result};
use clap::Args;
use instil_grammar::vocab::TokenId;
use instil_model::model::Segment;
use serde_json::json;

use super::console::{Answer, Console};
use super::options::{ModelOptions, read_text};
use super::setup;

/// Tokens of a pass: the logits of a pass are held whole, half a megabyte a token for a large vocabulary.
const USUAL_CHUNK: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// Write the logits after each of some tokens.
#[derive(Debug, Args)]
pub(crate) struct LogitsArguments {
    /// Name of a model, here or on the hub, a file of weights, or a manifest.
    model: String,
    /// A JSON list of token ids; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// Where to write: 32-bit little-endian floats, one row a position and one column a token of the vocabulary.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Compute with the f32 reference instead of the CPU's quantised kernels.
    #[arg(long)]
    reference: bool,
    /// Most tokens of a pass.
    #[arg(long, value_name = "N", default_value_t = USUAL_CHUNK)]
    chunk: NonZeroUsize,
    /// auto, cpu, cuda, cuda:N or metal [default: auto].
    #[arg(long)]
    device: Option<String>,
    /// Threads of the CPU's kernels [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Quantise weights of 16 and 32 bits as they are loaded: q8_0, q4_0 or q4_k.
    #[arg(long, value_name = "TYPE")]
    quantize: Option<String>,
}

/// Computes the logits and writes them.
pub(super) fn run(arguments: &LogitsArguments, console: &Console) -> Result<Answer> {
    let text = read_text(&arguments.ids)?;
    let ids: Vec<TokenId> = serde_json::from_str(&text).map_err(|cause| {
        let what = format!("is no list of token ids: {cause}");
        Error::input(&arguments.ids, what, "write numbers, as in [1, 450, 7483]")
    })?;
    if ids.is_empty() {
        return Err(Error::input(&arguments.ids, "lists no token", "write numbers, as in [1, 450, 7483]"));
    }
    let options = ModelOptions {
        model: Some(arguments.model.clone()),
        device: arguments.device.clone(),
        threads: arguments.threads,
        reference: arguments.reference,
        quantize: arguments.quantize.clone(),
        ..ModelOptions::default()
    };
    // Whether the place can be written is known before the model is loaded.
    let mut file = WholeFile::create(&arguments.output)?;
    let mut loaded = setup::load(&options, console)?;
    let model = &mut *loaded.model;
    let sequence = model.sequences().create();
    let width = model.info().vocab_size;
    for tokens in ids.chunks(arguments.chunk.get()) {
        console.check_stop("nothing was written")?;
        let logits = model.forward(&[Segment { sequence, tokens, logits: tokens.len() }])?;
        let bytes: Vec<u8> = logits.values()?.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.append(&bytes)?;
        model.recycle(logits);
    }
    file.finish()?;
    let found = json!({ "n": ids.len(), "width": width });
    Ok(Answer::notes(vec![format!("{} rows of {width} logits in {}", ids.len(), arguments.output.display())], &found))
}
