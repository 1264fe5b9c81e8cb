//! The vocabulary: token id ↔ raw bytes, end-of-sequence ids.
//!
//! Token bytes are the only currency between tokenizers, grammars and masks: nothing past this
//! file knows byte-level alphabets, `▁` or `<0x0A>` spellings.

use std::fmt;

/// Index of a token, as wide as the logits.
pub type TokenId = u32;

/// What a token is for; only `Text` tokens can be produced under a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Stands for its bytes.
    Text,
    /// Steers the model (`<|im_start|>`, end of sequence); its bytes are a spelling, not text.
    Control,
    /// A slot without a meaning: padding of the embedding matrix, reserved, unknown.
    Unused,
}

/// All tokens of a model, by id.
#[derive(Clone)]
pub struct Vocab {
    bytes: Vec<u8>,
    /// `offsets[id]..offsets[id + 1]` in `bytes`; length `len() + 1`.
    offsets: Vec<u32>,
    kinds: Vec<TokenKind>,
    eos: Vec<TokenId>,
}

impl Vocab {
    /// Builds a vocabulary from `(bytes, kind)` in id order and every id that ends a sequence.
    ///
    /// An empty `Text` token is kept as `Unused`: it would let a sequence grow without text.
    pub fn new<'a>(tokens: impl IntoIterator<Item = (&'a [u8], TokenKind)>, eos: &[TokenId]) -> Self {
        let (mut bytes, mut offsets, mut kinds) = (Vec::new(), vec![0], Vec::new());
        for (token, kind) in tokens {
            bytes.extend_from_slice(token);
            offsets.push(u32::try_from(bytes.len()).expect("a vocabulary holds less than 4 GiB of text"));
            kinds.push(if token.is_empty() && kind == TokenKind::Text { TokenKind::Unused } else { kind });
        }
        let mut eos = eos.to_vec();
        eos.sort_unstable();
        eos.dedup();
        eos.retain(|&id| (id as usize) < kinds.len());
        for id in &eos {
            kinds[*id as usize] = TokenKind::Control;
        }
        Self { bytes, offsets, kinds, eos }
    }

    /// Number of ids, unused ones included.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// True when there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The bytes of a token; empty for an id out of range.
    pub fn bytes(&self, id: TokenId) -> &[u8] {
        let id = id as usize;
        if id >= self.len() {
            return &[];
        }
        &self.bytes[self.offsets[id] as usize..self.offsets[id + 1] as usize]
    }

    /// What the token is for; `Unused` for an id out of range.
    pub fn kind(&self, id: TokenId) -> TokenKind {
        self.kinds.get(id as usize).copied().unwrap_or(TokenKind::Unused)
    }

    /// Every id that ends a sequence, ascending.
    pub fn eos(&self) -> &[TokenId] {
        &self.eos
    }

    /// True when the id ends a sequence.
    pub fn is_eos(&self, id: TokenId) -> bool {
        self.eos.binary_search(&id).is_ok()
    }

    /// Every `(id, bytes)` that stands for text, in id order.
    pub fn text_tokens(&self) -> impl Iterator<Item = (TokenId, &[u8])> + '_ {
        (0..).zip(&self.kinds).filter(|(_, kind)| **kind == TokenKind::Text).map(|(id, _)| (id, self.bytes(id)))
    }

    /// The bytes of text tokens, joined; control and unused tokens add nothing.
    pub fn decode(&self, ids: &[TokenId]) -> Vec<u8> {
        ids.iter().filter(|&&id| self.kind(id) == TokenKind::Text).flat_map(|&id| self.bytes(id)).copied().collect()
    }
}

impl fmt::Debug for Vocab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vocab({} tokens)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_text_tokens_only() {
        let tokens: [(&[u8], TokenKind); 4] = [
            (b"ab", TokenKind::Text),
            (b"<s>", TokenKind::Control),
            (b"", TokenKind::Text),
            (b"\xc3", TokenKind::Text),
        ];
        let vocab = Vocab::new(tokens, &[1, 9]);
        assert_eq!(vocab.decode(&[0, 1, 2, 3, 77]), b"ab\xc3");
        assert_eq!(vocab.eos(), [1]);
        assert_eq!(vocab.kind(2), TokenKind::Unused);
    }
}
