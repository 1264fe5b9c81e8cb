//! From the spelling of a token in a model's files to its raw bytes.

use instil_grammar::vocab::TokenKind;

/// A token as a loader found it.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// As the file spells it.
    pub spelling: String,
    /// What it stands for.
    pub bytes: Vec<u8>,
    /// What it is for.
    pub kind: TokenKind,
}

/// How a vocabulary spells bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// GPT-2's alphabet: one printable character for each byte.
    ByteLevel,
    /// SentencePiece: `▁` for the space; `<0x0A>` for a byte that has no character.
    Pieces,
    /// WordPiece: `##` before a token that continues a word.
    WordPiece,
    /// The spelling is the text.
    Literal,
}

/// The space of SentencePiece vocabularies.
pub(super) const PIECE_SPACE: char = '\u{2581}';

/// The bytes that an ordinary token stands for.
pub(super) fn bytes_of(spelling: &str, style: Style) -> Vec<u8> {
    match style {
        Style::ByteLevel => {
            let bytes: Option<Vec<u8>> = spelling.chars().map(byte_of).collect();
            bytes.unwrap_or_else(|| spelling.into())
        }
        Style::Pieces => spelling.replace(PIECE_SPACE, " ").into_bytes(),
        Style::WordPiece => match spelling.strip_prefix("##") {
            Some(continuation) => continuation.into(),
            None => format!(" {spelling}").into_bytes(),
        },
        Style::Literal => spelling.into(),
    }
}

/// The byte that a SentencePiece byte token names: `<0x0A>`.
pub(super) fn byte_token(spelling: &str) -> Option<u8> {
    let digits = spelling.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// The text in the byte-level alphabet.
pub(super) fn to_byte_level(text: &str) -> String {
    text.bytes().map(char_of).collect()
}

/// True for tokens that only fill up an embedding matrix: `[PAD151700]`, `<unused12>`.
pub(super) fn is_filler(spelling: &str) -> bool {
    let inner = spelling.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.or_else(|| spelling.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')));
    let inner = inner.map(|inner| inner.strip_prefix('|').and_then(|rest| rest.strip_suffix('|')).unwrap_or(inner));
    let number = inner.and_then(|inner| {
        ["PAD", "unused", "unused_", "extra_id_", "reserved_special_token_"]
            .iter()
            .find_map(|word| inner.strip_prefix(word).filter(|rest| !rest.starts_with('_')))
    });
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards.
fn char_of(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=0x20 => shifted(u32::from(byte)),
        0x7f..=0xa0 => shifted(u32::from(byte) - 0x7f + 0x21),
        0xad => shifted(0x43),
    }
}

fn shifted(place: u32) -> char {
    char::from_u32(0x100 + place).expect("the 68 places after U+0100 are characters")
}

fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!(to_byte_level(" é"), "ĠÃ©");
        assert_eq!(byte_of('▁'), None);
    }

    #[test]
    fn spellings_become_bytes() {
        assert_eq!(bytes_of("ĠCafÃ©", Style::ByteLevel), " Café".as_bytes());
        assert_eq!(bytes_of("Ã", Style::ByteLevel), [0xc3]);
        assert_eq!(bytes_of("▁a▁", Style::Pieces), b" a ");
        assert_eq!(bytes_of("##ing", Style::WordPiece), b"ing");
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0x0>"), None);
    }

    #[test]
    fn fillers_are_recognised() {
        for filler in ["[PAD151646]", "<unused12>", "[unused3]", "<|reserved_special_token_7|>"] {
            assert!(is_filler(filler), "{filler}");
        }
        for token in ["[PAD]", "<unused>", "unused12", "<think>", "<a12>"] {
            assert!(!is_filler(token), "{token}");
        }
    }
}
