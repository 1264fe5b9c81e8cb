//! A `tokenizer.json` as vocabulary and tokenizer, for benches and tests. The program's own loader is elsewhere.

use std::collections::HashMap;
use std::path::Path;

use instil::vocab::{TokenId, TokenKind, Vocab};
use tokenizers::Tokenizer;

/// Spellings of tokens that end a sequence, over the common families.
const END_OF_SEQUENCE: [&str; 9] = [
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|im_end|>",
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "<EOS>",
];

/// A tokenizer with its vocabulary as bytes.
pub struct TokenizerFile {
    tokenizer: Tokenizer,
    /// Every token by id.
    pub vocab: Vocab,
}

impl TokenizerFile {
    /// Reads a `tokenizer.json` of the byte-level or the byte-fallback kind.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let tokenizer: Tokenizer = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        let is_byte_level = text.contains("\"ByteLevel\"");
        let alphabet = byte_alphabet();
        let added = tokenizer.get_added_tokens_decoder();
        let size = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id + 1);
        let (mut tokens, mut eos) = (vec![(Vec::new(), TokenKind::Unused); size as usize], Vec::new());
        for (spelling, id) in tokenizer.get_vocab(true) {
            let kind = match added.get(&id) {
                Some(token) if token.special => TokenKind::Control,
                _ => TokenKind::Text,
            };
            let bytes = if added.contains_key(&id) {
                spelling.clone().into_bytes()
            } else if is_byte_level {
                match spelling.chars().map(|ch| alphabet.get(&ch).copied()).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => bytes,
                    None => continue,
                }
            } else if let Some(byte) = hex_byte(&spelling) {
                vec![byte]
            } else {
                spelling.replace('▁', " ").into_bytes()
            };
            if END_OF_SEQUENCE.contains(&spelling.as_str()) {
                eos.push(id);
            }
            tokens[id as usize] = (bytes, kind);
        }
        let vocab = Vocab::new(tokens.iter().map(|(bytes, kind)| (bytes.as_slice(), *kind)), &eos);
        Ok(Self { tokenizer, vocab })
    }

    /// The tokens of a text, without any that a model's template would add.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        self.tokenizer.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }
}

/// `<0x0A>` as a byte.
fn hex_byte(spelling: &str) -> Option<u8> {
    u8::from_str_radix(spelling.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest from U+0100 upwards.
fn byte_alphabet() -> HashMap<char, u8> {
    let mut next = 256;
    (0..=255_u8)
        .map(|byte| {
            if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
                return (char::from(byte), byte);
            }
            let ch = char::from_u32(next).expect("the stand-ins lie below the surrogates");
            next += 1;
            (ch, byte)
        })
        .collect()
}
