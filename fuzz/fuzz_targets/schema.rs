//! Any JSON as a schema: compiling, expanding and a short walk must neither panic nor take long.
#![no_main]

use std::sync::{Arc, LazyLock};

use instil_grammar::constraint::{Engine, Settings, Tables};
use instil_grammar::grammar::{GrammarSource, Options};
use instil_grammar::vocab::{TokenKind, Vocab};
use libfuzzer_sys::fuzz_target;

/// Each byte is a token; the last token ends a sequence.
static TABLES: LazyLock<Arc<Tables>> = LazyLock::new(|| {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let tokens = bytes.iter().map(|byte| (byte.as_slice(), TokenKind::Text));
    let end: &[u8] = b"<end>";
    Tables::new(Arc::new(Vocab::new(tokens.chain([(end, TokenKind::Control)]), &[256])))
});

fuzz_target!(|data: &[u8]| {
    // The first byte steers the walk, the rest is the schema.
    let Some((&steer, text)) = data.split_first() else { return };
    let Ok(schema) = serde_json::from_slice(text) else { return };
    let source = GrammarSource::JsonSchema(schema);
    let Ok(engine) = Engine::compile(&source, &Options::default(), TABLES.clone(), Settings::default()) else { return };
    let least = engine.min_tokens();
    let limit = (least < 2_000).then_some(least + 8);
    let Ok(mut session) = engine.start(limit) else { return };
    for step in 0..32_usize {
        let mask = session.mask();
        let mut ids = Vec::new();
        mask.for_each(|id| ids.push(id));
        if ids.is_empty() {
            break;
        }
        let id = ids[(steer as usize * 31 + step * 7) % ids.len()];
        session.advance(id).expect("a token of the mask may come next");
        if session.is_finished() {
            break;
        }
    }
});
