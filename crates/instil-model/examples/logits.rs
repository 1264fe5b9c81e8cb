//! The logits of a weight file: what it would say next, with probabilities; or all of them, as another program wants
//! them.
//!
//! `cargo run --release -p instil-model --example logits -- model.gguf 'The capital of France is'`
//!
//! `… --example logits -- model.gguf --ids ids.json logits.f32 [reference] [CHUNK]` reads a JSON array of tokens,
//! `CHUNK` at a time (all at once if not given), and writes the logits after each as little-endian floats.

use std::path::Path;

use instil_model::model::{self, LoadOptions, Model, Segment, checkpoint};
use instil_model::tokenizer::EncodeOptions;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(path), Some(text)) = (arguments.first(), arguments.get(1)) else {
        return Err("give a GGUF file, or a folder of safetensors, and a text".into());
    };
    let file = checkpoint::open(Path::new(path))?;
    let options = LoadOptions { reference: arguments.iter().any(|word| word == "reference"), ..LoadOptions::default() };
    let mut model = model::load(path, &*file, &candle_core::Device::Cpu, options)?;
    if text == "--ids" {
        let (Some(ids), Some(to)) = (arguments.get(2), arguments.get(3)) else {
            return Err("give a file of tokens and one to write".into());
        };
        let chunk = arguments.last().and_then(|last| last.parse().ok()).unwrap_or(usize::MAX);
        return write_all(model.as_mut(), ids, to, chunk);
    }
    let tokenizer = file.tokenizer(path)?;

    let tokens = tokenizer.encode(text, EncodeOptions { special: false, add_bos: true })?;
    let sequence = model.sequences().create();
    let logits = model.forward(&[Segment { sequence, tokens: &tokens, logits: 1 }])?;

    let row = logits.row(0)?;
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = row.iter().map(|logit| (logit - most).exp()).sum();
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    for id in order.into_iter().take(10) {
        let piece = tokenizer.decode(&[u32::try_from(id)?]);
        let share = (row[id] - most).exp() / total;
        println!("{:5.1} %  {:?}", share * 100.0, String::from_utf8_lossy(&piece));
    }
    Ok(())
}

fn write_all(model: &mut dyn Model, ids: &str, to: &str, chunk: usize) -> Outcome {
    let tokens: Vec<u32> = serde_json::from_slice(&std::fs::read(ids)?)?;
    let sequence = model.sequences().create();
    let mut bytes = Vec::new();
    for tokens in tokens.chunks(chunk.max(1)) {
        let logits = model.forward(&[Segment { sequence, tokens, logits: tokens.len() }])?;
        bytes.extend(logits.values()?.iter().flat_map(|value| value.to_le_bytes()));
    }
    std::fs::write(to, bytes)?;
    Ok(())
}
