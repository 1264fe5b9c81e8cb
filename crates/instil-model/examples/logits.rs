//! The logits of a weight file: what it would say next, with probabilities.
//!
//! `cargo run --release -p instil-model --example logits -- model.gguf 'The capital of France is'`

use instil_model::gguf::Gguf;
use instil_model::model::{self, LoadOptions, Segment};
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("give a GGUF file and a text".into());
    };
    let file = Gguf::open(&path)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata(), &path)?;
    let mut model = model::load(&path, &file, &candle_core::Device::Cpu, LoadOptions::default())?;

    let tokens = tokenizer.encode(&text, EncodeOptions { special: false, add_bos: true })?;
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
