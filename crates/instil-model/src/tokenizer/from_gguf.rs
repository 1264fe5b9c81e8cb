//! A tokenizer from the metadata of a GGUF file (`tokenizer.ggml.*`).
//!
//! Keys, defaults and the treatment of special tokens follow llama.cpp, whose ids users compare
//! with; where it would let the text of a user become a control token, this does not.

use rustc_hash::{FxHashMap, FxHashSet};

use super::bpe::Bpe;
use super::pre::PreTokenizer;
use super::sentencepiece::SentencePiece;
use super::special::{self, Matcher, Special};
use super::spelling::{Style, Token, byte_token, bytes_of, is_filler};
use super::wordpiece::WordPiece;
use super::{Engine, Parts};
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use instil_grammar::vocab::{TokenId, TokenKind};

/// What the file says that a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Normal,
    Unknown,
    Control,
    Added,
    Unused,
    Byte,
}

/// The vocabulary lists of a file, checked for length.
struct Lists<'m> {
    spellings: &'m [String],
    attributes: Vec<Attribute>,
    ids: FxHashMap<&'m str, TokenId>,
}

/// Reads the tokenizer.
pub(super) fn load(metadata: &Metadata, model: &str) -> Result<Parts> {
    let kind = metadata.str("tokenizer.ggml.model")?;
    if !["gpt2", "gemma4", "llama", "bert"].contains(&kind) {
        let what = format!("its tokenizer is of the kind `{kind}` (tokenizer.ggml.model), which is not supported");
        return Err(Error::model(model, what, "use a model with one of: gpt2, llama, bert, gemma4"));
    }
    let mut lists = Lists::read(metadata, model)?;
    lists.correct();
    let (default_bos, default_eos) = match kind {
        "llama" => (Some(1), Some(2)),
        "bert" => (lists.id(metadata, "cls_token_id")?.or(Some(101)), None),
        _ => (None, None),
    };
    let bos = lists.id(metadata, "bos_token_id")?.or(default_bos);
    let eos = lists.id(metadata, "eos_token_id")?.or(default_eos);
    let unknown = lists.id(metadata, "unknown_token_id")?;
    let end_ids = lists.end_ids(metadata, eos)?;
    lists.steer(end_ids.iter().copied().chain(bos));

    let mut notes = lists.ids_outside(metadata)?;
    let (engine, style, adds_bos) = match kind {
        "llama" => (sentencepiece(metadata, &lists, unknown, model)?, Style::Pieces, true),
        "bert" => (wordpiece(metadata, &lists, unknown, model)?, Style::Pieces, true),
        _ => {
            let fallback = if kind == "gemma4" { "gemma4" } else { "default" };
            let name = metadata.opt_str("tokenizer.ggml.pre")?.filter(|name| !name.is_empty()).unwrap_or(fallback);
            if name == "default" {
                notes.push(
                    "the file does not say how its tokenizer cuts words (tokenizer.ggml.pre): tokens may be wrong; use a \
                     file of a newer converter"
                        .to_owned(),
                );
            }
            let (pre, habits) = PreTokenizer::named(name, model)?;
            let ordinary = lists.of(&[Attribute::Normal, Attribute::Byte, Attribute::Added]);
            let merges = metadata.strings("tokenizer.ggml.merges")?;
            let engine = Engine::Bpe(Bpe::new(ordinary, merges, pre, habits, model)?);
            let style = if habits.sentencepiece_style { Style::Pieces } else { Style::ByteLevel };
            (engine, style, habits.add_bos)
        }
    };
    let (control, added) = lists.matchers(metadata, model)?;
    Ok(Parts {
        engine,
        tokens: lists.tokens(style),
        control,
        added,
        bos,
        eos,
        end_ids,
        adds_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos),
        chat_source: metadata.opt_str("tokenizer.chat_template")?.map(str::to_owned),
        notes,
    })
}

fn sentencepiece(metadata: &Metadata, lists: &Lists<'_>, unknown: Option<TokenId>, model: &str) -> Result<Engine> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata.opt_floats(key)?.unwrap_or_else(|| vec![0.0; lists.spellings.len()]);
    check_length(key, scores.len(), lists.spellings.len(), model)?;
    let mut bytes = Box::new([None; 256]);
    for (id, spelling) in lists.of(&[Attribute::Byte]) {
        if let Some(byte) = byte_token(spelling) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    for byte in 0..=255_u8 {
        // Vocabularies without byte tokens may still have the character.
        let character = char::from(byte);
        if byte.is_ascii() && bytes[usize::from(byte)].is_none() {
            bytes[usize::from(byte)] = lists.ids.get(&*character.to_string()).copied();
        }
    }
    let ordinary = lists.of(&[Attribute::Normal, Attribute::Added, Attribute::Unused]);
    let pieces = ordinary.map(|(id, spelling)| (spelling.to_owned(), id, scores[id as usize]));
    let add_space_prefix = metadata.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let unknown = unknown.or(Some(0));
    Ok(Engine::SentencePiece(SentencePiece::new(pieces, bytes, unknown, add_space_prefix)))
}

fn wordpiece(metadata: &Metadata, lists: &Lists<'_>, unknown: Option<TokenId>, model: &str) -> Result<Engine> {
    let unknown = unknown.unwrap_or(100) as usize;
    let unknown = lists.spellings.get(unknown).ok_or_else(|| {
        Error::model(model, "has no token for unknown words (tokenizer.ggml.unknown_token_id)", "get the file again")
    })?;
    let lowercase = metadata.opt_bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let strip_accents = metadata.opt_bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
    let all = (0..).zip(lists.spellings).map(|(id, spelling)| (id, spelling.as_str()));
    // Control tokens are no words: only the unknown one can come out of the engine.
    let words = all.filter(|(_, word)| *word == unknown || lists.is_word(word));
    Ok(Engine::WordPiece(WordPiece::new(words, unknown, lowercase, strip_accents, model)?))
}

impl<'m> Lists<'m> {
    fn read(metadata: &'m Metadata, model: &str) -> Result<Self> {
        let spellings = metadata.strings("tokenizer.ggml.tokens")?;
        if spellings.is_empty() {
            return Err(Error::model(model, "its vocabulary (tokenizer.ggml.tokens) is empty", "get the file again"));
        }
        let key = "tokenizer.ggml.token_type";
        let types = metadata.opt_integers(key)?.unwrap_or_else(|| vec![1; spellings.len()]);
        check_length(key, types.len(), spellings.len(), model)?;
        let attributes = types.iter().map(|number| match number {
            1 => Attribute::Normal,
            2 => Attribute::Unknown,
            3 => Attribute::Control,
            4 => Attribute::Added,
            6 => Attribute::Byte,
            _ => Attribute::Unused,
        });
        let attributes = attributes.take(spellings.len()).collect();
        let ids = (0..).zip(spellings).map(|(id, spelling)| (spelling.as_str(), id)).collect();
        Ok(Self { spellings, attributes, ids })
    }

    /// Mends what converters are known to get wrong.
    fn correct(&mut self) {
        for (spelling, attribute) in self.spellings.iter().zip(&mut self.attributes) {
            match attribute {
                Attribute::Normal | Attribute::Added if special::is_control_spelling(spelling) => {
                    *attribute = Attribute::Control;
                }
                Attribute::Added if is_filler(spelling) => *attribute = Attribute::Unused,
                _ if spelling.is_empty() => *attribute = Attribute::Unused,
                _ => {}
            }
        }
    }

    /// Tokens with one of these attributes, in id order.
    fn of(&self, wanted: &[Attribute]) -> impl Iterator<Item = (TokenId, &'m str)> {
        let all = (0..).zip(self.spellings).zip(&self.attributes);
        let some = all.filter(move |(_, attribute)| wanted.contains(attribute));
        some.map(|((id, spelling), _)| (id, spelling.as_str()))
    }

    fn is_word(&self, spelling: &str) -> bool {
        let attribute = self.ids.get(spelling).map(|&id| self.attributes[id as usize]);
        attribute == Some(Attribute::Normal)
    }

    /// The id under a key, unless it lies outside the vocabulary.
    fn id(&self, metadata: &Metadata, key: &str) -> Result<Option<TokenId>> {
        let id = metadata.opt_u32(&format!("tokenizer.ggml.{key}"))?;
        Ok(id.filter(|&id| (id as usize) < self.spellings.len()))
    }

    /// A note for each token that is named but is not there.
    fn ids_outside(&self, metadata: &Metadata) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for key in ["bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            if let Some(id) = metadata.opt_u32(&key)?.filter(|&id| id as usize >= self.spellings.len()) {
                notes.push(format!(
                    "`{key}` is {id}, and there are {} tokens: it is passed over, ends are known by their spelling alone",
                    self.spellings.len()
                ));
            }
        }
        Ok(notes)
    }

    /// Tokens that begin or end a sequence are control tokens, whatever their list says.
    fn steer(&mut self, ids: impl Iterator<Item = TokenId>) {
        for id in ids {
            if let Some(attribute @ (Attribute::Normal | Attribute::Added)) = self.attributes.get_mut(id as usize) {
                *attribute = Attribute::Control;
            }
        }
    }

    /// Every id after which generation stops, as llama.cpp gathers them.
    fn end_ids(&self, metadata: &Metadata, eos: Option<TokenId>) -> Result<Vec<TokenId>> {
        let mut ids: Vec<TokenId> = eos.into_iter().collect();
        for key in ["eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"] {
            ids.extend(self.id(metadata, key)?);
        }
        let by_spelling = self.of(&[Attribute::Control]).filter(|(_, spelling)| {
            special::is_ending(spelling) || (*spelling == "</s>" && !self.ids.contains_key("<|plamo:eos|>"))
        });
        ids.extend(by_spelling.map(|(id, _)| id));
        special::drop_separators(&mut ids, |spelling| self.ids.get(spelling).copied());
        Ok(ids)
    }

    /// What is matched in texts: control and unknown tokens, and added ones.
    fn matchers(&self, metadata: &Metadata, model: &str) -> Result<(Matcher, Matcher)> {
        // Phi-3's tokens swallow the white space after them; files do not say so.
        let name = metadata.opt_str("general.name")?.unwrap_or_default().to_lowercase();
        let phi3 = name.contains("phi-3") || name.contains("phi3");
        let keeps_space: FxHashSet<&str> = ["<unk>", "<s>", "<|endoftext|>"].into_iter().collect();
        let specials = |wanted: &[Attribute]| {
            let specials = self.of(wanted).map(|(id, spelling)| Special {
                strip_right: phi3 && !keeps_space.contains(spelling),
                ..Special::plain(id, spelling)
            });
            Matcher::new(specials.collect(), model)
        };
        Ok((specials(&[Attribute::Control, Attribute::Unknown])?, specials(&[Attribute::Added])?))
    }

    fn tokens(&self, style: Style) -> Vec<Token> {
        let token = |(spelling, attribute): (&String, &Attribute)| {
            let (bytes, kind) = match attribute {
                Attribute::Normal => (bytes_of(spelling, style), TokenKind::Text),
                Attribute::Byte => match byte_token(spelling) {
                    Some(byte) => (vec![byte], TokenKind::Text),
                    None => (spelling.clone().into_bytes(), TokenKind::Unused),
                },
                Attribute::Added if style == Style::Pieces => (bytes_of(spelling, style), TokenKind::Text),
                Attribute::Added => (spelling.clone().into_bytes(), TokenKind::Text),
                Attribute::Control => (spelling.clone().into_bytes(), TokenKind::Control),
                Attribute::Unknown | Attribute::Unused => (spelling.clone().into_bytes(), TokenKind::Unused),
            };
            Token { spelling: spelling.clone(), bytes, kind }
        };
        self.spellings.iter().zip(&self.attributes).map(token).collect()
    }
}

fn check_length(key: &str, found: usize, tokens: usize, model: &str) -> Result<()> {
    if found >= tokens {
        return Ok(());
    }
    let what = format!("`{key}` has {found} entries for {tokens} tokens");
    Err(Error::model(model, what, "the file is damaged; get it again"))
}
