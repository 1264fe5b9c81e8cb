//! A `tokenizer.json` in GGUF's words (`tokenizer.ggml.*`), as llama.cpp's converter writes them.
//!
//! GGUF names how text is cut where `tokenizer.json` spells it out. So the name is found by trying: it must give the
//! same ids for texts in which all of the known ways differ, and where none does the tokenizer is refused.

use std::path::Path;

use serde_json::Value as Json;
use tokenizers::ModelWrapper;

use super::from_json::{component, has_type, read_json, style, unknown};
use super::spelling::{Style, byte_token};
use super::{EncodeOptions, Tokenizer, pre, special};
use crate::error::{Error, Result};
use crate::gguf::{Array, Metadata, Value};

/// Texts in which ways of cutting differ: numbers, contractions, spaces, lines, marks, scripts, punctuation.
const TEXTS: [&str; 16] = [
    "Hello, world! It's 3 o'clock; WE'LL see, they'Ve gone, I'd say, don't you?",
    "1 12 123 1234 12345 123456 1234567 3.14159 1,000,000 x86 a1b22c333 v2.0-rc1 0x1F \u{bd} \u{664}\u{665}\u{666}\u{667}",
    "a  b   c    d\t\te \t f\n\n\ng\r\nh \n i\n  j   \n\n",
    " leading and trailing   ",
    "fn main() {\n    let x = vec![1, 2, 3];\n\tprintln!(\"{:?}\", x); // done!\n}\n\n\n",
    "https://example.org/a/b?c=d&e=f#g user@example.org C:\\path\\file.txt /usr/bin/",
    "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{3002} \u{3053}\u{3093}\u{306b}\u{3061}\u{306f} \u{30ab}\u{30bf}\u{30ab}\u{30ca} \u{c548}\u{b155}\u{d558}\u{c138}\u{c694} 2024\u{5e74}1\u{6708}",
    "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}! \u{393}\u{3b5}\u{3b9}\u{3ac} \u{645}\u{631}\u{62d}\u{628}\u{627} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947} \u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35}",
    "caf\u{e9} na\u{ef}ve \u{c5}ngstr\u{f6}m \u{df}ei\u{df} \u{1f469}\u{200d}\u{1f680}\u{1f44d}\u{1f3fd} \u{2603}\u{fe0f} \u{20ac}100 \u{a9}\u{2122} \u{2192}\u{2211}\u{222b}",
    "camelCaseWord HTTPServer XMLHttpRequest iPhone McDonald's JSON_value snake_case SCREAMING_CASE",
    "!!! ??? ... --- *** ((())) [[]] {{}} <<>> \"quoted\" 'single' `ticks` ~~~ $$$ ^^^ |||",
    "end.\n\nStart (again):\n- one\n- two/\n\n\n* three!\n\n    code",
    "\u{201c}quotes\u{201d} \u{2018}x\u{2019} \u{2026} \u{2013} \u{2014} \u{3010}a\u{3011}\u{3001}b\u{ff01}",
    "= == === + ++ <= >= != && || := -> => ::",
    "\u{a0}nbsp\u{2003}em\u{3000}wide",
    "x",
];

/// The keys, of a tokenizer for so many rows of embeddings; `pieces` is the kind of those that merge characters rather
/// than bytes.
///
/// # Errors
/// When the file cannot be read, or GGUF has no name for its way.
pub(crate) fn entries(path: &Path, rows: usize, pieces: &str) -> Result<Vec<(String, Value)>> {
    let refused = |what: &str| Error::input(path, what, "use a GGUF file that the model's makers wrote");
    let json = read_json(path)?.ok_or_else(|| refused("is missing"))?;
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    let parsed = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|_| refused("is not a tokenizer.json"))?;
    let theirs = Tokenizer::from_file(path)?;
    if !matches!(parsed.get_model(), ModelWrapper::BPE(_)) {
        return Err(refused("holds a tokenizer without byte-pair merges, which is not written to GGUF"));
    }
    let style = style(&parsed);
    if !matches!(style, Style::ByteLevel | Style::Pieces) {
        return Err(refused("holds a tokenizer over neither bytes nor pieces, which is not written to GGUF"));
    }
    let merges = merges(&json["model"]["merges"]).ok_or_else(|| refused("has merges that are no pairs"))?;

    let (added, vocab) = (parsed.get_added_tokens_decoder(), parsed.get_vocab(true));
    if let Some(id) = vocab.values().find(|&&id| id as usize >= rows) {
        return Err(refused(&format!("has a token {id}, and the model has embeddings for {rows}")));
    }
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![5i64; rows];
    let unknown = unknown(&parsed, &Json::Null);
    let has_bytes = has_type(&component(parsed.get_decoder()), "ByteFallback");
    for (spelling, id) in vocab {
        let added = added.get(&id);
        types[id as usize] = match added {
            _ if unknown.as_deref() == Some(spelling.as_str()) => 2,
            Some(token) if token.special || special::is_control_spelling(&spelling) => 3,
            Some(_) => 4,
            None if has_bytes && byte_token(&spelling).is_some() => 6,
            None => 1,
        };
        let is_word = added.is_some() && types[id as usize] == 4 && style == Style::Pieces;
        tokens[id as usize] = if is_word { spelling.replace('\u{2581}', " ") } else { spelling };
    }

    let mut common = vec![("tokenizer.ggml.token_type".to_owned(), Value::Array(Array::Signed(types)))];
    let mut id = |key: &str, id: Option<u32>| {
        let entry = id.map(|id| (format!("tokenizer.ggml.{key}"), Value::Unsigned(u64::from(id))));
        common.extend(entry);
    };
    id("bos_token_id", theirs.bos);
    id("eos_token_id", theirs.eos);
    // Another end, of those that a model's makers list.
    id("eot_token_id", theirs.vocab.eos().iter().copied().find(|&end| Some(end) != theirs.eos));
    common.push(("tokenizer.ggml.add_bos_token".into(), Value::Bool(theirs.adds_bos)));
    if let Some(template) = &theirs.chat_source {
        common.push(("tokenizer.chat_template".into(), Value::String(template.clone())));
    }

    let text = |key: &str, value: &str| (format!("tokenizer.ggml.{key}"), Value::String(value.into()));
    let merged = || ("tokenizer.ggml.merges".to_owned(), Value::Array(Array::String(merges.clone())));
    let mut ways: Vec<Vec<(String, Value)>> = Vec::new();
    if style == Style::ByteLevel {
        let takes_whole = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
        let fits = |habits: pre::Habits| !habits.sentencepiece_style && habits.ignore_merges == takes_whole;
        let mut names: Vec<_> = pre::names().filter(|&(_, _, habits)| fits(habits)).collect();
        // Where several would do, the one that cuts in the same words; digits that no merge joins tell nothing.
        let spelled = json["pre_tokenizer"].to_string();
        let is_spelled = |pattern: &&str| spelled.contains(&Json::from(*pattern).to_string());
        names.sort_by_key(|(_, patterns, _)| !patterns.iter().all(is_spelled));
        ways.extend(names.into_iter().map(|(name, ..)| vec![text("model", "gpt2"), text("pre", name), merged()]));
    } else if pieces == "gemma4" {
        let prefix = ("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(false));
        ways.push(vec![text("model", pieces), text("pre", pieces), merged(), prefix]);
    } else {
        let scores = ("tokenizer.ggml.scores".to_owned(), Value::Array(Array::Float(scores(&tokens, &merges))));
        for prefix in [false, true] {
            let prefix = ("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(prefix));
            ways.push(vec![text("model", pieces), text("pre", "default"), scores.clone(), prefix]);
        }
    }
    let tokens = ("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::String(tokens)));
    for way in ways {
        let entries: Vec<(String, Value)> = way.into_iter().chain([tokens.clone()]).chain(common.clone()).collect();
        if is_same(path, &entries, &theirs)? {
            return Ok(entries);
        }
    }
    Err(refused("cuts texts in a way that GGUF has no name for"))
}

/// Whether these keys make a tokenizer that gives the same ids.
fn is_same(path: &Path, entries: &[(String, Value)], theirs: &Tokenizer) -> Result<bool> {
    let mut metadata = Metadata::new(path);
    for (key, value) in entries {
        metadata.insert(key.clone(), value.clone());
    }
    let ours = Tokenizer::from_gguf(&metadata, &path.display().to_string())?;
    let options = EncodeOptions::default();
    for text in TEXTS {
        if ours.encode(text, options)? != theirs.encode(text, options)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Pairs, a space between: `tokenizer.json` has them so, or as lists of two.
fn merges(listed: &Json) -> Option<Vec<String>> {
    let pair = |pair: &Json| match pair {
        Json::String(pair) => Some(pair.clone()),
        Json::Array(pair) => match pair.as_slice() {
            [Json::String(left), Json::String(right)] => Some(format!("{left} {right}")),
            _ => None,
        },
        _ => None,
    };
    listed.as_array()?.iter().map(pair).collect()
}

/// How early a piece is merged, as SentencePiece scores it: the first merge has the greatest score.
fn scores(tokens: &[String], merges: &[String]) -> Vec<f32> {
    let mut ranks = rustc_hash::FxHashMap::default();
    for (rank, merge) in merges.iter().enumerate() {
        // The space is between the two, for pieces hold none.
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    let score = |(id, token): (usize, &String)| -(ranks.get(token).copied().unwrap_or(id) as f32);
    tokens.iter().enumerate().map(score).collect()
}
