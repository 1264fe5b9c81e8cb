//! The longest token that fits, over a bare vocabulary: for scripted models and tests.

use rustc_hash::FxHashMap;

use super::special::{Matcher, Special};
use super::spelling::Token;
use super::{Engine, Parts};
use crate::error::Result;
use instil_grammar::vocab::{TokenId, TokenKind, Vocab};

/// Text tokens by their bytes.
#[derive(Debug)]
pub(super) struct LongestMatch {
    ids: FxHashMap<Vec<u8>, TokenId>,
    longest_bytes: usize,
}

/// A tokenizer's parts from a vocabulary alone.
pub(super) fn load(vocab: &Vocab, model: &str) -> Result<Parts> {
    let all = (0..).take(vocab.len());
    let spelling = |id: TokenId| String::from_utf8_lossy(vocab.bytes(id)).into_owned();
    let tokens =
        all.clone().map(|id| Token { spelling: spelling(id), bytes: vocab.bytes(id).to_vec(), kind: vocab.kind(id) });
    let control = all.filter(|&id| vocab.kind(id) == TokenKind::Control).map(|id| Special::plain(id, spelling(id)));
    Ok(Parts {
        engine: Engine::LongestMatch(LongestMatch::new(vocab)),
        tokens: tokens.collect(),
        control: Matcher::new(control.collect(), model)?,
        added: Matcher::new(Vec::new(), model)?,
        bos: None,
        eos: vocab.eos().first().copied(),
        end_ids: vocab.eos().to_vec(),
        adds_bos: false,
        chat_source: None,
        notes: Vec::new(),
    })
}

impl LongestMatch {
    /// Indexes the text tokens; of equal ones the first counts.
    pub(super) fn new(vocab: &Vocab) -> Self {
        let mut ids = FxHashMap::default();
        let mut longest_bytes = 0;
        for (id, bytes) in vocab.text_tokens() {
            longest_bytes = longest_bytes.max(bytes.len());
            ids.entry(bytes.to_vec()).or_insert(id);
        }
        Self { ids, longest_bytes }
    }

    /// The longest token that the bytes start with.
    pub(super) fn first(&self, bytes: &[u8]) -> Option<TokenId> {
        (1..=bytes.len().min(self.longest_bytes)).rev().find_map(|length| self.ids.get(&bytes[..length]).copied())
    }

    /// Appends the ids of a text; bytes that no token starts with are left out.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (id, length) = (1..=rest.len().min(self.longest_bytes))
                .rev()
                .find_map(|length| self.ids.get(&rest[..length]).map(|&id| (Some(id), length)))
                .unwrap_or((None, 1));
            ids.extend(id);
            rest = &rest[length..];
        }
    }
}
