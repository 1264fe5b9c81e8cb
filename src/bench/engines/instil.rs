//! The project's own engine under the MaskBench protocol.

use std::hint::black_box;
use std::sync::Arc;

use serde_json::Value;

use crate::bench::masks::{Engine, Matcher};
use instil_grammar::constraint::{self, Session, Settings, Tables};
use instil_grammar::grammar::{GrammarSource, Options};
use instil_grammar::vocab::{TokenId, Vocab};

/// The engine with its tables, built once a vocabulary.
pub(crate) struct Instil {
    tables: Arc<Tables>,
    options: Options,
    settings: Settings,
}

impl Instil {
    /// Builds the tables, those of strings included.
    pub(crate) fn new(vocab: &Vocab, options: Options, settings: Settings) -> Self {
        let tables = Tables::new(Arc::new(vocab.clone()));
        tables.prepare(settings.escapes);
        Self { tables, options, settings }
    }
}

impl Instil {
    /// An engine that has found out nothing yet.
    ///
    /// # Errors
    /// The reason why the schema is refused, on one line.
    pub(crate) fn engine(&self, schema: &Value) -> Result<Arc<constraint::Engine>, String> {
        let source = GrammarSource::JsonSchema(schema.clone());
        constraint::Engine::compile(&source, &self.options, self.tables.clone(), self.settings.clone())
            .map_err(|error| error.to_string())
    }
}

impl Engine for Instil {
    fn compile(&mut self, schema: &Value) -> Result<Box<dyn Matcher>, String> {
        let engine = self.engine(schema)?;
        let session = engine.start(None).map_err(|error| error.to_string())?;
        Ok(Box::new(Walker { fresh: session.clone(), session }))
    }
}

struct Walker {
    fresh: Session,
    session: Session,
}

impl Matcher for Walker {
    fn start(&mut self) {
        self.session = self.fresh.clone();
    }

    fn mask(&mut self) {
        black_box(self.session.mask());
    }

    fn step(&mut self, token: TokenId) -> bool {
        self.session.mask().contains(token) && self.session.advance(token).is_ok()
    }

    fn is_accepting(&mut self) -> bool {
        self.session.is_accepting()
    }
}
