//! WordPiece, for the `bert` vocabularies of GGUF files.
//!
//! GGUF spells the vocabulary the other way round: `▁word` begins a word and `ing` continues one.

use tokenizers::models::wordpiece::WordPiece as Words;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    Model as _, NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _,
};

use super::spelling::PIECE_SPACE;
use crate::error::{Error, Result};
use instil_grammar::vocab::TokenId;

/// A WordPiece engine.
#[derive(Debug)]
pub(super) struct WordPiece {
    words: Words,
    normalizer: BertNormalizer,
}

impl WordPiece {
    /// An engine over tokens as GGUF spells them.
    ///
    /// # Errors
    /// When the tokenizers crate refuses the vocabulary.
    pub(super) fn new<'a>(
        tokens: impl Iterator<Item = (TokenId, &'a str)>,
        unknown: &str,
        lowercase: bool,
        strip_accents: bool,
        model: &str,
    ) -> Result<Self> {
        let vocab = tokens.map(|(id, spelling)| {
            let spelling = match spelling.strip_prefix(PIECE_SPACE) {
                Some(word) => word.to_owned(),
                None if spelling == unknown => spelling.to_owned(),
                None => format!("##{spelling}"),
            };
            (spelling, id)
        });
        let words = Words::builder()
            .vocab(vocab.collect::<tokenizers::models::bpe::Vocab>())
            .unk_token(unknown.to_owned())
            .build()
            .map_err(|error| Error::model(model, format!("cannot use its vocabulary: {error}"), ""))?;
        Ok(Self { words, normalizer: BertNormalizer::new(true, true, Some(strip_accents), lowercase) })
    }

    /// Appends the ids of a text.
    ///
    /// # Errors
    /// When the vocabulary has no token for unknown words and the text has one.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>, model: &str) -> Result<()> {
        self.try_encode(text, ids).map_err(|error| Error::model(model, format!("cannot tokenize a text: {error}"), ""))
    }

    fn try_encode(&self, text: &str, ids: &mut Vec<TokenId>) -> tokenizers::Result<()> {
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(self.words.tokenize(word)?.iter().map(|token| token.id));
        }
        Ok(())
    }
}
