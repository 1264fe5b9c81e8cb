//! What rules read of a row: the text of a field, its words, and hashes of them.
//!
//! The hashes are written here so that a decision does not change with a library's version: a run
//! that is resumed by a later build decides as before.

use std::borrow::Cow;

use instil_grammar::grammar::speech::is_unspaced;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The text of a field; empty when it is absent or holds no text.
///
/// A name with dots reaches into objects (`meta.topic`). A field that holds a conversation (a list of
/// messages with `content` or `value`) is the messages' texts, a line each; `messages.assistant`
/// takes those of one role.
pub(crate) fn text<'a>(row: &'a Map<String, Value>, field: &str) -> Cow<'a, str> {
    if let Some(value) = row.get(field) {
        return text_of(value, None).unwrap_or_default();
    }
    let Some((first, rest)) = field.split_once('.') else { return Cow::Borrowed("") };
    match row.get(first) {
        Some(Value::Object(inner)) => text(inner, rest),
        Some(value @ Value::Array(_)) => text_of(value, Some(rest)).unwrap_or_default(),
        _ => Cow::Borrowed(""),
    }
}

/// The texts of several fields, a line each.
pub(crate) fn joined<'a>(row: &'a Map<String, Value>, fields: &[String]) -> Cow<'a, str> {
    match fields {
        [one] => text(row, one),
        several => Cow::Owned(several.iter().map(|field| text(row, field)).collect::<Vec<_>>().join("\n")),
    }
}

/// The text that a value holds, if it is a text or a conversation; `role` keeps the messages of one role.
pub(crate) fn text_of<'a>(value: &'a Value, role: Option<&str>) -> Option<Cow<'a, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Array(messages) if !messages.is_empty() => {
            let texts: Option<Vec<&str>> = messages
                .iter()
                .filter(|message| role.is_none_or(|role| role_of(message) == Some(role)))
                .map(|message| message.get("content").or_else(|| message.get("value"))?.as_str())
                .collect();
            texts.map(|texts| Cow::Owned(texts.join("\n")))
        }
        _ => None,
    }
}

/// A message's role under the names that the chat forms agree on: `user`, `assistant`, `system`, `tool`.
fn role_of(message: &Value) -> Option<&str> {
    let role = message.get("role").or_else(|| message.get("from"))?.as_str()?;
    Some(match role {
        "human" => "user",
        "gpt" => "assistant",
        other => other,
    })
}

/// Lower-cased runs of letters and digits, with their accents and marks: what two texts are compared by.
///
/// Spellings of the same characters (NFC and NFD, full and half width) have the same words, and what cannot be seen does
/// not count. In scripts that are written without spaces every letter is a word of its own.
pub fn words(text: &str) -> Vec<String> {
    if text.is_ascii() {
        // Most texts are, and need no tables of letters.
        let runs = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|run| !run.is_empty());
        return runs.map(str::to_ascii_lowercase).collect();
    }
    words_of_any_script(text)
}

fn words_of_any_script(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in plain_form(text).chars() {
        let mark = is_combining_mark(c) || c == '\u{30fc}';
        let alone = is_unspaced(c);
        if mark {
            // A mark belongs to its letter, and is nothing without one.
            if !word.is_empty() {
                word.push(c);
            }
            continue;
        }
        let apart = alone || !c.is_alphanumeric() || word.chars().next().is_some_and(is_unspaced);
        if apart && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A text in compatibility composition (NFKC), without characters that cannot be seen: equal for texts that look alike.
pub(crate) fn plain_form(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let unseen = |c: char| {
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
    };
    Cow::Owned(text.chars().filter(|c| !unseen(*c)).nfkc().collect())
}

/// Hashes of the words of a text, in order.
pub(crate) fn word_hashes(text: &str) -> Vec<u64> {
    words(text).iter().map(|word| hash(word.as_bytes())).collect()
}

/// FNV-1a with the finaliser of SplitMix64.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let state = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(state)
}

/// The hash of a run of words, from their hashes.
pub(crate) fn hash_run(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64, |state, word| mix(state.rotate_left(23) ^ word))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_the_script() {
        assert_eq!(words("Don't  STOP_it, 3rd!"), ["don", "t", "stop", "it", "3rd"]);
        assert_eq!(words("用 Rust写代码。"), ["用", "rust", "写", "代", "码"]);
        assert_eq!(words("Ünïcode ÉTÉ"), ["ünïcode", "été"]);
        assert_eq!(words("नमस्ते दुनिया।"), ["नमस्ते", "दुनिया"]);
        assert_eq!(words("ที่นี่"), ["ที่", "นี่"]);
        assert!(words(" ,.;\n").is_empty());
    }

    #[test]
    fn texts_that_look_alike_have_the_same_words() {
        for (one, other) in [
            ("Café", "Cafe\u{301}"),
            ("ＡＢＣ １２", "ABC 12"),
            ("ｶﾞ", "ガ"),
            ("zero\u{200b}width", "zerowidth"),
            ("می\u{200c}روم", "میروم"),
            ("한글", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"),
        ] {
            assert_eq!(words(one), words(other), "{one}");
            assert!(!words(one).is_empty());
        }
    }

    #[test]
    fn plain_texts_have_the_same_words_by_either_way() {
        let plain: String = (0..128u8).map(char::from).collect();
        for text in [&plain, "", "a", "A b", "x1-Y2", " end", "The CAT sat; 3 times!\n\"No\""] {
            assert_eq!(words(text), words_of_any_script(text), "{text:?}");
        }
    }

    #[test]
    fn fields_are_found_by_name_path_and_role() {
        let row = serde_json::json!({
            "a": "one", "b.c": "dotted", "meta": {"topic": "bread"}, "n": 3,
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}],
            "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}],
        });
        let row = row.as_object().expect("an object");
        let cases = [
            ("a", "one"),
            ("b.c", "dotted"),
            ("meta.topic", "bread"),
            ("n", ""),
            ("none", ""),
            ("messages", "q\nr"),
            ("messages.assistant", "r"),
            ("conversations.user", "q"),
        ];
        for (field, expected) in cases {
            assert_eq!(text(row, field), expected, "{field}");
        }
        assert_eq!(joined(row, &["a".into(), "meta.topic".into()]), "one\nbread");
    }

    #[test]
    fn runs_hash_by_order_and_length() {
        let words = word_hashes("a b c");
        assert_ne!(hash_run(&words[..2]), hash_run(&words[1..]));
        assert_ne!(hash_run(&[words[0], words[1]]), hash_run(&[words[1], words[0]]));
        assert_ne!(hash_run(&words[..1]), words[0]);
    }
}
