//! Whether the engine takes a text: fed to a session token by token, over the small vocabulary, every spelling of
//! strings and any order of members allowed.

use std::sync::Arc;

use instil_grammar::Result;
use instil_grammar::constraint::{Engine, Escapes, KeyOrder, Settings, Tables, Whitespace};
use instil_grammar::grammar::{GrammarSource, Options, Style};
use instil_grammar::vocab::{TokenId, Vocab};
use serde_json::Value;

use super::small_vocab;

/// Engines over one vocabulary.
pub struct Engines {
    vocab: Arc<Vocab>,
    tables: Arc<Tables>,
}

impl Engines {
    /// Over the small vocabulary.
    pub fn new() -> Self {
        let vocab = Arc::new(small_vocab::small_vocab());
        Self { tables: Tables::new(vocab.clone()), vocab }
    }

    /// The engine of a schema, or why it is refused.
    pub fn of(&self, schema: &Value, numbers: Style, whitespace: Whitespace) -> Result<Arc<Engine>> {
        let settings = Settings { whitespace, key_order: KeyOrder::Any, escapes: Escapes::Any, ..Settings::default() };
        let source = GrammarSource::JsonSchema(schema.clone());
        Engine::compile(&source, &Options { style: numbers }, self.tables.clone(), settings)
    }

    /// The tokens of a text: the longest at each place.
    pub fn tokens(&self, text: &str) -> Vec<TokenId> {
        small_vocab::greedy(&self.vocab, text)
    }

    /// Whether every token passes and the text may end after them.
    pub fn takes(&self, engine: &Arc<Engine>, text: &str) -> bool {
        let mut session = engine.start(None).expect("no limit, so none is too low");
        self.tokens(text).into_iter().all(|token| session.advance(token).is_ok()) && session.is_accepting()
    }
}
