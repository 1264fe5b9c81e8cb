//! Decoding alone: several texts at once from a weight file, each under a JSON Schema.
//!
//! `cargo run --release -p instil-model --example decode -- model.gguf 'A person:'`

use std::sync::Arc;

use instil_grammar::constraint::{Backend, Compiler, Settings};
use instil_grammar::grammar::{GrammarSource, Style};
use instil_model::decode::{Capacity, Request, Sampling, Scheduler, StreamKey};
use instil_model::gguf::Gguf;
use instil_model::model::{self, LoadOptions};
use instil_model::tokenizer::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("give a GGUF file and a prompt".into());
    };
    let file = Gguf::open(&path)?;
    let tokenizer = Tokenizer::from_gguf(file.metadata(), &path)?;
    let mut model = model::load(&path, &file, &candle_core::Device::Cpu, LoadOptions::default())?;

    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 3, "maxLength": 24 },
            "age": { "type": "integer", "minimum": 18, "maximum": 90 }
        },
        "required": ["name", "age"],
        "additionalProperties": false
    });
    let vocab = tokenizer.vocab().clone();
    let compiler = Compiler::new(vocab.clone(), Backend::Instil, Settings::default(), None);
    let constraint = compiler.compile(&GrammarSource::JsonSchema(schema), Style::Natural)?;
    constraint.check_limit(64)?;

    // What the texts have in common is read once.
    let prefix: Arc<[u32]> = tokenizer.encode(&prompt, EncodeOptions { special: false, add_bos: true })?.into();
    let mut scheduler = Scheduler::new(model.as_mut(), vocab, Capacity::slots(8));
    for row in 0..8 {
        scheduler.submit(Request {
            key: StreamKey { seed: 1, row, step: 0, attempt: 0 },
            prefix: prefix.clone(),
            prompt: tokenizer.encode(" ", EncodeOptions::default())?,
            constraint: Some(constraint.clone()),
            max_tokens: 64,
            sampling: Sampling { temperature: 0.8, ..Sampling::default() },
            thought: None,
            measure: None,
        });
    }
    // Texts come as they end; each is the same whatever is decoded beside it.
    while let Some(completion) = scheduler.next_completion()? {
        println!("{} {}", completion.key.row, String::from_utf8_lossy(&completion.text));
    }
    Ok(())
}
