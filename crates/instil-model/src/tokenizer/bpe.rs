//! Byte-pair merges for the `gpt2` vocabularies of GGUF files.
//!
//! The merges themselves are the tokenizers crate's; cutting into words comes from the table of
//! pre-tokenizers.

use tokenizers::models::bpe::{BPE, Vocab as Spellings};
use tokenizers::normalizers::NFC;
use tokenizers::{Model as _, NormalizedString, Normalizer as _};

use super::pre::{Habits, PreTokenizer};
use super::spelling::{PIECE_SPACE, to_byte_level};
use crate::error::{Error, Result};
use instil_grammar::vocab::TokenId;

/// A byte-pair engine.
#[derive(Debug)]
pub(super) struct Bpe {
    merges: BPE,
    pre: PreTokenizer,
    sentencepiece_style: bool,
    composes: bool,
}

impl Bpe {
    /// An engine over ordinary tokens (no control tokens among them) and merges like `Ġ t`.
    ///
    /// Merges whose parts or result are no tokens are left out: they could not be emitted.
    ///
    /// # Errors
    /// When the tokenizers crate refuses the merges.
    pub(super) fn new<'a>(
        tokens: impl Iterator<Item = (TokenId, &'a str)>,
        merges: &[String],
        pre: PreTokenizer,
        habits: Habits,
        model: &str,
    ) -> Result<Self> {
        let spellings: Spellings = tokens.map(|(id, spelling)| (spelling.to_owned(), id)).collect();
        let mut joined = String::new();
        let merges = merges.iter().filter_map(|merge| {
            // The first character may itself be a space.
            let space = merge.bytes().skip(1).position(|byte| byte == b' ')? + 1;
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let known = [left, right, &joined].iter().all(|part| spellings.contains_key(*part));
            known.then(|| (left.to_owned(), right.to_owned()))
        });
        let merges: Vec<_> = merges.collect();
        let merges = BPE::builder()
            .vocab_and_merges(spellings, merges)
            .ignore_merges(habits.ignore_merges)
            .byte_fallback(habits.sentencepiece_style)
            .build()
            .map_err(|error| Error::model(model, format!("cannot use its merges: {error}"), "get the file again"))?;
        Ok(Self { merges, pre, sentencepiece_style: habits.sentencepiece_style, composes: habits.composes })
    }

    /// Appends the ids of a text.
    ///
    /// # Errors
    /// As [`PreTokenizer::split`].
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>, model: &str) -> Result<()> {
        let composed = if self.composes && !text.is_ascii() { Some(compose(text, model)?) } else { None };
        let text = composed.as_deref().unwrap_or(text);
        let escaped =
            if self.sentencepiece_style { Some(text.replace(' ', PIECE_SPACE.encode_utf8(&mut [0; 4]))) } else { None };
        for word in self.pre.split(escaped.as_deref().unwrap_or(text), model)? {
            if self.sentencepiece_style {
                let line_breaks = word.bytes().all(|byte| byte == b'\n').then(|| self.merges.token_to_id(word));
                match line_breaks.flatten() {
                    Some(id) => ids.push(id),
                    None => self.merge(word, ids, model)?,
                }
            } else {
                self.merge(&to_byte_level(word), ids, model)?;
            }
        }
        Ok(())
    }

    fn merge(&self, word: &str, ids: &mut Vec<TokenId>, model: &str) -> Result<()> {
        let tokens = self
            .merges
            .tokenize(word)
            .map_err(|error| Error::model(model, format!("cannot tokenize a text: {error}"), ""))?;
        ids.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }
}

/// The text in Unicode's composed form (NFC).
fn compose(text: &str, model: &str) -> Result<String> {
    let mut text = NormalizedString::from(text);
    NFC.normalize(&mut text)
        .map_err(|error| Error::model(model, format!("cannot compose a text: {error}"), "use composed characters"))?;
    Ok(text.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many letters of the byte-level alphabet a text has, by the pre-tokenizer `name`.
    fn letters(name: &str, text: &str) -> usize {
        let (pre, habits) = PreTokenizer::named(name, "test").expect("it is known");
        // All bytes of the texts below.
        let alphabet: Vec<String> = to_byte_level("\u{e9}\u{301}e").chars().map(String::from).collect();
        let alphabet = (0..).zip(alphabet.iter().map(String::as_str));
        let mut ids = Vec::new();
        let bpe = Bpe::new(alphabet, &[], pre, habits, "test").expect("letters alone");
        bpe.encode(text, &mut ids, "test").expect("a text");
        ids.len()
    }

    #[test]
    fn texts_are_composed_where_the_model_was_trained_so() {
        for name in ["qwen2", "qwen35", "llama-bpe", "deepseek-r1-qwen"] {
            assert_eq!(letters(name, "\u{e9}"), 2, "{name}");
            assert_eq!(letters(name, "e\u{301}"), if name == "qwen2" { 2 } else { 3 }, "{name}");
        }
    }
}
