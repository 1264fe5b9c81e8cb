//! The engine alone: a JSON Schema over a vocabulary of bytes, and texts drawn without a model.
//!
//! `cargo run -p instil-grammar --example engine`

use std::sync::Arc;

use instil_grammar::constraint::{Engine, Settings, Tables};
use instil_grammar::grammar::{GrammarSource, Options};
use instil_grammar::vocab::{TokenId, TokenKind, Vocab};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A model's vocabulary would stand here: id → bytes, and the ids that end a sequence.
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let end: &[u8] = b"<end>";
    let tokens = bytes.iter().map(|byte| (byte.as_slice(), TokenKind::Text)).chain([(end, TokenKind::Control)]);
    let vocab = Arc::new(Vocab::new(tokens, &[256]));

    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "city": { "enum": ["Oslo", "Lima", "Suva"] },
            "population": { "type": "integer", "minimum": 0, "maximum": 2_000_000 },
            "rivers": { "type": "array", "items": { "type": "string", "pattern": "^[A-Z][a-z]{2,8}$" }, "maxItems": 3 }
        },
        "required": ["city", "population", "rivers"],
        "additionalProperties": false
    });
    let source = GrammarSource::JsonSchema(schema);
    // Tables are made once a vocabulary, an engine once a grammar, a session once a text.
    let engine = Engine::compile(&source, &Options::default(), Tables::new(vocab), Settings::default())?;
    println!("the shortest text takes {} tokens", engine.min_tokens());

    let mut noise = 2_463_534_242_u32;
    for _ in 0..5 {
        // The text closes before the limit, whatever is drawn.
        let mut session = engine.start(Some(engine.min_tokens() + 24))?;
        while !session.is_finished() {
            let mask = session.mask();
            let mut allowed: Vec<TokenId> = Vec::with_capacity(mask.count());
            mask.for_each(|token| allowed.push(token));
            // A model's logits would decide here; xorshift does.
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let token = allowed[noise as usize % allowed.len()];
            if token == 256 {
                break;
            }
            session.advance(token)?;
        }
        println!("{}", String::from_utf8_lossy(session.text()));
    }
    Ok(())
}
