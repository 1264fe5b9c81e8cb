//! A tokenizer from a `tokenizer.json` file and the settings beside it.
//!
//! The tokenizers crate reads and runs the pipeline; special tokens are found by this room, so
//! that the text of a user never becomes one.

use std::path::Path;

use serde_json::Value;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{Model as _, ModelWrapper, OffsetReferential, OffsetType, PreTokenizer as _};

use super::special::{self, Matcher, Special};
use super::spelling::{Style, Token, byte_token, bytes_of, is_filler};
use super::{Engine, Parts};
use crate::error::{Error, Result};
use instil_grammar::vocab::{TokenId, TokenKind};

/// Ids above this are taken for damage: no vocabulary has so many tokens.
const MAX_ID: TokenId = 1 << 24;

/// The pipeline of a `tokenizer.json`.
#[derive(Debug)]
pub(super) struct Pipeline {
    tokenizer: tokenizers::Tokenizer,
    /// The pre-tokenizer for text that does not begin the input.
    inner: Option<PreTokenizerWrapper>,
}

/// Reads the file and its neighbours.
pub(super) fn load(path: &Path) -> Result<Parts> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| {
        let what = format!("is not a tokenizer.json that can be read: {}", one_line(&error.to_string()));
        Error::input(path, what, "get the file again, or use the model's GGUF file")
    })?;
    tokenizer.set_encode_special_tokens(true);
    let beside = |name: &str| path.with_file_name(name);
    let config = read_json(&beside("tokenizer_config.json"))?.unwrap_or_default();
    let model = path.display().to_string();

    let added = tokenizer.get_added_tokens_decoder();
    let mut tokens = spellings(&tokenizer, path)?;
    let style = style(&tokenizer);
    let unknown = unknown(&tokenizer, &config);
    let byte_fallback = has_type(&component(tokenizer.get_decoder()), "ByteFallback");
    let mut control = Vec::new();
    for (id, token) in (0..).zip(&mut tokens) {
        let spelling = token.spelling.as_str();
        if let Some(added) = added.get(&id) {
            token.bytes = spelling.into();
            token.kind = if added.special || special::is_control_spelling(spelling) {
                let mut special = Special::plain(id, spelling);
                (special.strip_left, special.strip_right) = (added.lstrip, added.rstrip);
                special.single_word = added.single_word;
                control.push(special);
                if unknown.as_deref() == Some(spelling) { TokenKind::Unused } else { TokenKind::Control }
            } else if is_filler(spelling) {
                TokenKind::Unused
            } else {
                if style == Style::Pieces {
                    token.bytes = bytes_of(&token.spelling, style);
                }
                TokenKind::Text
            };
        } else if let Some(byte) = byte_token(spelling).filter(|_| byte_fallback) {
            (token.bytes, token.kind) = (vec![byte], TokenKind::Text);
        } else if !spelling.is_empty() {
            (token.bytes, token.kind) = (bytes_of(spelling, style), TokenKind::Text);
        }
    }

    let id_of = |spelling: &str| tokenizer.token_to_id(spelling);
    let named = |name: &str| spelled(&config, name).and_then(id_of);
    let first = first_special(&tokenizer);
    let bos = named("bos_token").or(first);
    let adds_bos = match config.get("add_bos_token").and_then(Value::as_bool) {
        Some(adds) => adds && bos.is_some(),
        None => bos.is_some() && first == bos,
    };
    let generation = read_json(&beside("generation_config.json"))?.unwrap_or_default();
    let general = read_json(&beside("config.json"))?.unwrap_or_default();
    let mut end_ids: Vec<TokenId> = named("eos_token").into_iter().collect();
    let listed: Vec<TokenId> =
        [&generation, &general].into_iter().flat_map(|file| ids(&file["eos_token_id"])).collect();
    let eos = named("eos_token").or(listed.first().copied());
    end_ids.extend(listed);
    let is_end = |special: &&Special| special::is_ending(&special.spelling) || special.spelling == "</s>";
    end_ids.extend(control.iter().filter(is_end).map(|special| special.id));
    special::drop_separators(&mut end_ids, id_of);

    let inner = tokenizer.get_pre_tokenizer().map(|whole| continuing(whole.clone()));
    Ok(Parts {
        control: Matcher::new(control, &model)?,
        added: Matcher::new(Vec::new(), &model)?,
        engine: Engine::Pipeline(Box::new(Pipeline { tokenizer, inner })),
        tokens,
        bos,
        eos,
        end_ids,
        adds_bos,
        chat_source: chat_source(&config, &beside("chat_template.jinja"))?,
        notes: Vec::new(),
    })
}

impl Pipeline {
    /// Appends the ids of a text in which special tokens have no meaning.
    ///
    /// # Errors
    /// When the pipeline fails, for instance for want of an unknown token.
    pub(super) fn encode(&self, text: &str, first: bool, ids: &mut Vec<TokenId>, model: &str) -> Result<()> {
        self.try_encode(text, first, ids).map_err(|error| {
            let what = format!("cannot tokenize a text: {}", one_line(&error.to_string()));
            Error::model(model, what, "use the model's GGUF file")
        })
    }

    fn try_encode(&self, text: &str, first: bool, ids: &mut Vec<TokenId>) -> tokenizers::Result<()> {
        let added = self.tokenizer.get_added_vocabulary();
        let mut words = added.extract_and_normalize(self.tokenizer.get_normalizer(), text);
        let pre_tokenizer = if first { self.tokenizer.get_pre_tokenizer() } else { self.inner.as_ref() };
        if let Some(pre_tokenizer) = pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut words)?;
        }
        let model = self.tokenizer.get_model();
        words.tokenize(|word| model.tokenize(word.get()))?;
        for (_, _, tokens) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(tokens.iter().flatten().map(|token| token.id));
        }
        Ok(())
    }
}

/// The same pre-tokenizer where it does not add a space to the very first word.
fn continuing(whole: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match whole {
        PreTokenizerWrapper::Metaspace(mut space) if space.get_prepend_scheme() == PrependScheme::First => {
            space.set_prepend_scheme(PrependScheme::Never);
            PreTokenizerWrapper::Metaspace(space)
        }
        PreTokenizerWrapper::Sequence(parts) => {
            let parts: Vec<_> = parts.as_ref().iter().cloned().map(continuing).collect();
            PreTokenizerWrapper::Sequence(Sequence::new(parts))
        }
        other => other,
    }
}

/// Every token by id; ids without one stay unused.
fn spellings(tokenizer: &tokenizers::Tokenizer, path: &Path) -> Result<Vec<Token>> {
    let vocab = tokenizer.get_vocab(true);
    let largest = vocab.values().copied().max().unwrap_or(0);
    if vocab.is_empty() || largest > MAX_ID {
        let what = if vocab.is_empty() { "has no tokens".into() } else { format!("has a token with id {largest}") };
        return Err(Error::input(path, what, "the file is damaged; get it again"));
    }
    let empty = Token { spelling: String::new(), bytes: Vec::new(), kind: TokenKind::Unused };
    let mut tokens = vec![empty; largest as usize + 1];
    for (spelling, id) in vocab {
        tokens[id as usize].spelling = spelling;
    }
    Ok(tokens)
}

/// The token for text that the model has no token for.
pub(super) fn unknown(tokenizer: &tokenizers::Tokenizer, config: &Value) -> Option<String> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.get_unk_token().clone(),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        ModelWrapper::Unigram(_) => spelled(config, "unk_token").map(str::to_owned),
    }
}

/// How the model spells bytes, judged by the parts of its pipeline.
pub(super) fn style(tokenizer: &tokenizers::Tokenizer) -> Style {
    let decoder = component(tokenizer.get_decoder());
    let pre_tokenizer = component(tokenizer.get_pre_tokenizer());
    if has_type(&decoder, "ByteLevel") || has_type(&pre_tokenizer, "ByteLevel") {
        Style::ByteLevel
    } else if matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)) {
        Style::WordPiece
    } else if ["Metaspace", "Replace", "ByteFallback"].iter().any(|kind| has_type(&decoder, kind)) {
        Style::Pieces
    } else {
        Style::Literal
    }
}

pub(super) fn component(part: Option<&impl serde::Serialize>) -> Value {
    part.and_then(|part| serde_json::to_value(part).ok()).unwrap_or_default()
}

/// True when the component, or one within it, is of that type.
pub(super) fn has_type(component: &Value, kind: &str) -> bool {
    match component {
        Value::Object(fields) => {
            fields.get("type").is_some_and(|found| found == kind) || fields.values().any(|value| has_type(value, kind))
        }
        Value::Array(items) => items.iter().any(|item| has_type(item, kind)),
        _ => false,
    }
}

/// The special token that the pipeline puts before an empty text, which is where models that want
/// one say so.
fn first_special(tokenizer: &tokenizers::Tokenizer) -> Option<TokenId> {
    let empty = tokenizer.encode("", true).ok()?;
    let (&id, &special) = empty.get_ids().first().zip(empty.get_special_tokens_mask().first())?;
    (special == 1).then_some(id)
}

/// A token in `tokenizer_config.json`: its spelling, or an object that holds it.
fn spelled<'c>(config: &'c Value, name: &str) -> Option<&'c str> {
    let token = config.get(name)?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// One id or a list of ids.
fn ids(value: &Value) -> Vec<TokenId> {
    let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    match value {
        Value::Array(items) => items.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

/// The template beside the file, the one in the configuration, or its variant named `default`.
fn chat_source(config: &Value, file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(source) => return Ok(Some(source)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::io("read", file, source)),
    }
    let template = &config["chat_template"];
    let variants = template.as_array().into_iter().flatten();
    let default =
        variants.filter(|variant| variant["name"] == "default").find_map(|variant| variant["template"].as_str());
    Ok(template.as_str().or(default).map(str::to_owned))
}

/// A JSON file; `None` when there is none.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        Error::input(path, format!("line {}: is not JSON: {error}", error.line()), "get the file again")
    })?;
    Ok(Some(value))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
