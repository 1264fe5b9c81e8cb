//! outlines-core as a peer: its schema compiler, and its `Index` over the vocabulary's bytes.

use outlines_core::json_schema;
use outlines_core::prelude::{Index, Vocabulary};
use serde_json::Value;

use crate::bench::masks::{Engine, Matcher};
use crate::error::{Error, Result};
use instil_grammar::vocab::{TokenId, Vocab};

/// What its regexes put where JSON may have whitespace: one optional blank, enough for both fixed styles.
const WHITESPACE: &str = "[ ]?";

/// outlines-core with a vocabulary of raw bytes.
pub(crate) struct Outlines {
    vocabulary: Vocabulary,
    width: usize,
}

impl Outlines {
    /// Copies the text tokens.
    ///
    /// # Errors
    /// When the vocabulary has no end-of-sequence token.
    pub(crate) fn new(vocab: &Vocab) -> Result<Self> {
        let eos = *vocab
            .eos()
            .first()
            .ok_or_else(|| Error::model("outlines", "the vocabulary has no end-of-sequence token", ""))?;
        let mut vocabulary = Vocabulary::new(eos);
        for (id, bytes) in vocab.text_tokens() {
            vocabulary
                .try_insert(bytes.to_vec(), id)
                .map_err(|error| Error::model("outlines", error.to_string(), ""))?;
        }
        Ok(Self { vocabulary, width: vocab.len() })
    }
}

impl Engine for Outlines {
    fn compile(&mut self, schema: &Value) -> Result<Box<dyn Matcher>, String> {
        let line = |error: outlines_core::Error| error.to_string().lines().next().unwrap_or("refused").to_owned();
        let regex = json_schema::regex_from_value(schema, Some(WHITESPACE), None).map_err(line)?;
        let index = Index::new(&regex, &self.vocabulary).map_err(line)?;
        let state = index.initial_state();
        Ok(Box::new(Walker { index, state, width: self.width }))
    }
}

struct Walker {
    index: Index,
    state: u32,
    width: usize,
}

impl Matcher for Walker {
    fn start(&mut self) {
        self.state = self.index.initial_state();
    }

    fn mask(&mut self) {
        let mut bits = vec![0_u32; self.width.div_ceil(32)];
        if let Some(tokens) = self.index.allowed_tokens_iter(&self.state) {
            for &token in tokens {
                bits[token as usize / 32] |= 1 << (token % 32);
            }
        }
        std::hint::black_box(&bits);
    }

    fn step(&mut self, token: TokenId) -> bool {
        self.mask();
        match self.index.next_state(&self.state, &token) {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }

    fn is_accepting(&mut self) -> bool {
        self.index.is_final_state(&self.state)
    }
}
