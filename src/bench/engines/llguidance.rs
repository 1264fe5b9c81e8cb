//! llguidance as a peer: its `Matcher` under its default limits and its default (flexible) whitespace.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{JsonCompileOptions, ParserFactory};
use serde_json::Value;

use crate::bench::masks::{Engine, Matcher};
use crate::error::{Error, Result};
use instil_grammar::vocab::{TokenId, TokenKind, Vocab};

/// llguidance with its token trie and slices, built once a vocabulary.
pub(crate) struct Llguidance {
    factory: ParserFactory,
    options: Option<JsonCompileOptions>,
}

impl Llguidance {
    /// Builds the trie and the slices.
    ///
    /// # Errors
    /// When llguidance refuses the vocabulary.
    pub fn new(vocab: &Vocab) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::model("llguidance", error.to_string(), "");
        let eos = *vocab.eos().first().ok_or_else(|| failed(&"the vocabulary has no end-of-sequence token"))?;
        let size = TokenId::try_from(vocab.len()).expect("token ids are 32 bits wide");
        let words: Vec<Vec<u8>> = (0..size)
            .map(|id| match vocab.kind(id) {
                TokenKind::Text => vocab.bytes(id).to_vec(),
                TokenKind::Control => [&[TokTrie::SPECIAL_TOKEN_MARKER], vocab.bytes(id)].concat(),
                TokenKind::Unused => Vec::new(),
            })
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, eos), &words).with_eos_tokens(vocab.eos());
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| failed(&error))?;
        factory.quiet();
        Ok(Self { factory, options: None })
    }

    /// The same engine with one fixed separator style instead of flexible whitespace.
    #[must_use]
    pub(crate) fn with_separators(mut self, item: &str, key: &str) -> Self {
        self.options = Some(JsonCompileOptions {
            item_separator: item.to_owned(),
            key_separator: key.to_owned(),
            whitespace_flexible: false,
            ..JsonCompileOptions::default()
        });
        self
    }

    /// Compiles to llguidance's own matcher.
    ///
    /// # Errors
    /// llguidance's reason for refusing the schema.
    pub(crate) fn matcher(&self, schema: &Value) -> Result<llguidance::Matcher, String> {
        let mut schema = schema.clone();
        if let (Some(options), true) = (&self.options, schema.is_object()) {
            options.apply_to(&mut schema);
        }
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        let matcher = llguidance::Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(error.lines().next().unwrap_or("refused").to_owned()),
            None => Ok(matcher),
        }
    }
}

impl Engine for Llguidance {
    fn compile(&mut self, schema: &Value) -> Result<Box<dyn Matcher>, String> {
        let fresh = self.matcher(schema)?;
        Ok(Box::new(Walker { matcher: fresh.clone(), fresh }))
    }
}

/// A clone of the fresh matcher shares its lexer's cache, so that a second instance finds it warm.
struct Walker {
    fresh: llguidance::Matcher,
    matcher: llguidance::Matcher,
}

impl Matcher for Walker {
    fn start(&mut self) {
        self.matcher = self.fresh.clone();
    }

    fn mask(&mut self) {
        // A mask that cannot be computed shows in the walk.
        let _ = self.matcher.compute_mask_or_eos();
    }

    fn step(&mut self, token: TokenId) -> bool {
        match self.matcher.compute_mask_or_eos() {
            Ok(mask) => mask.is_allowed(token) && self.matcher.consume_token(token).is_ok(),
            Err(_) => false,
        }
    }

    fn is_accepting(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }
}
