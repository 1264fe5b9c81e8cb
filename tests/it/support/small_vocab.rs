//! A vocabulary of a few hundred tokens with every trap of a large one: each byte, tokens across the parts of a JSON
//! text, broken characters, twins, an empty token, control tokens, two ends of sequence.

use instil_grammar::vocab::{TokenId, TokenKind, Vocab};

/// The vocabulary.
pub fn small_vocab() -> Vocab {
    let mut tokens: Vec<(Vec<u8>, TokenKind)> = (0..=255_u8).map(|byte| (vec![byte], TokenKind::Text)).collect();
    let texts = [
        "\": ",
        "\", \"",
        "{\"",
        "\"}",
        "\"}, {\"",
        "}, ",
        "], [",
        "[]",
        "{}",
        "[{\"",
        "\"]",
        "\": \"",
        "\": {\"",
        "\": [",
        "}}",
        "]]",
        "}]",
        "]}",
        ", ",
        ": ",
        "\"\"",
        "\\\"",
        "\\n",
        "\\\\",
        "\\u",
        "\\u00",
        "\\ud83d",
        "true",
        "false",
        "null",
        "tr",
        "nul",
        "alse",
        "al",
        "00",
        "10",
        "12",
        "99",
        "0.",
        ".5",
        "1e",
        "e+",
        "-1",
        "e-0",
        "0e",
        "20",
        "2024",
        "-01",
        "T0",
        ":00",
        "the",
        " the",
        "a",
        "ab",
        "abc",
        "b\"",
        "aa",
        "name",
        "id",
        "type",
        "value",
        "\"a",
        "\"a\"",
        "\"a\": ",
        "key",
        "x-",
        "é",
        "日",
        "日本",
        "😀",
        " ",
        "  ",
        "\n",
        "\t",
        "foo",
        "bar",
        "foo\": ",
        "circle",
        "kind",
        "example",
        ".com",
        "http",
        "://",
        "@",
        "a@b",
        "::",
        "1.2",
        "ff",
        "deadbeef",
        "aaaaaaaa",
        "0000",
        "1234567890",
    ];
    tokens.extend(texts.iter().map(|text| (text.as_bytes().to_vec(), TokenKind::Text)));
    for broken in [&b"\xc3"[..], b"\xa9\"", b"\xf0\x9f", b"\x98\x80", b"\xe6\x97", b"\xa5", b"a\xc3", b"\"\xff"] {
        tokens.push((broken.to_vec(), TokenKind::Text));
    }
    tokens.push((Vec::new(), TokenKind::Text));
    tokens.push((b"<unused>".to_vec(), TokenKind::Unused));
    tokens.push((b"{\"a\": 1}".to_vec(), TokenKind::Control));
    let end = TokenId::try_from(tokens.len()).expect("a few hundred tokens");
    tokens.push((b"<end>".to_vec(), TokenKind::Control));
    tokens.push((b"<stop>".to_vec(), TokenKind::Control));
    Vocab::new(tokens.iter().map(|(bytes, kind)| (bytes.as_slice(), *kind)), &[end, end + 1])
}

/// The longest token at each place.
pub fn greedy(vocab: &Vocab, text: &str) -> Vec<TokenId> {
    let mut rest = text.as_bytes();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let (id, length) = vocab
            .text_tokens()
            .filter(|(_, bytes)| rest.starts_with(bytes))
            .map(|(id, bytes)| (id, bytes.len()))
            .max_by_key(|&(id, length)| (length, std::cmp::Reverse(id)))
            .expect("every byte is a token");
        tokens.push(id);
        rest = &rest[length..];
    }
    tokens
}
