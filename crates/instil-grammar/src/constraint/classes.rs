//! Tokens by the kinds of characters they hold, for strings over a language.
//!
//! From a state of a language most characters do one of two things: they all lead to one next state, or
//! they end in the dead one. Tokens made only of the former pass together, tokens with one of the latter
//! and none besides fall together, and what is left, tokens with characters whose class is divided, is tried.

use super::escape::{self, Escapes, Spelt};
use super::trie::{NONE, ROOT, Trie};
use crate::vocab::{TokenId, Vocab};

/// Which letters a token has, where it is a set of classes that is too coarse: an ASCII character each, but for the
/// first three, which stand for all other control characters, [`WIDE`] and [`SEPARATORS`].
pub(crate) type Letters = u128;

/// The classes that the first letters stand for.
pub(crate) const FIRST_LETTERS: [usize; 3] = [7, WIDE, SEPARATORS];

/// Number of classes of characters.
pub(crate) const CLASSES: usize = 44;
/// Every character above ASCII but white space.
pub(crate) const WIDE: usize = 9;
/// White space above ASCII, which `\S` leaves out, and of which `.` leaves out U+2028 and U+2029.
pub(crate) const SEPARATORS: usize = 10;

/// The class of an ASCII character.
pub(crate) fn class_of(byte: u8) -> usize {
    match byte {
        b'a'..=b'f' => 0,
        b'g'..=b'z' => 1,
        b'A'..=b'F' => 2,
        b'G'..=b'Z' => 3,
        b'0'..=b'9' => 4,
        b'\n' => 5,
        b'\t' => 6,
        0..0x20 => 7,
        0x7f => 8,
        0x20..0x30 => 11 + usize::from(byte - 0x20),
        0x3a..0x41 => 27 + usize::from(byte - 0x3a),
        0x5b..0x61 => 34 + usize::from(byte - 0x5b),
        0x7b..0x7f => 40 + usize::from(byte - 0x7b),
        _ => WIDE,
    }
}

/// The last byte makes a character of [`SEPARATORS`], given those before it.
pub(crate) fn is_separator(prefix: u16, byte: u8) -> bool {
    matches!(
        (prefix, byte),
        (0xc2, 0xa0)
            | (0xe19a | 0xe380, 0x80)
            | (0xe280, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf)
            | (0xe281, 0x9f)
            | (0xefbb, 0xbf)
    )
}

/// Some character of [`SEPARATORS`] begins with these bytes, and ends with the next.
pub(crate) fn may_separate(prefix: u16) -> bool {
    matches!(prefix, 0xc2 | 0xe19a | 0xe280 | 0xe281 | 0xe380 | 0xefbb | 0xe1 | 0xe2 | 0xe3 | 0xef)
}

/// The beginning of a character is one of a separator's too.
fn begins_separator(bytes: &[u8]) -> bool {
    match *bytes {
        [lead] => may_separate(lead.into()),
        [lead, second] => may_separate(u16::from(lead) << 8 | u16::from(second)),
        _ => false,
    }
}

/// Tokens with the same set of classes.
#[derive(Debug)]
pub(crate) struct Group {
    /// The classes, a bit each.
    pub(crate) signature: u64,
    /// Ascending by characters.
    pub(crate) tokens: Box<[TokenId]>,
    /// The same as bits, where they are many.
    pub(crate) bits: Option<Box<[u32]>>,
}

/// Tokens of groups at or below a node of the token trie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Below {
    /// Their classes.
    pub(crate) signature: u64,
    /// The classes of their characters after the node, where it is at a character boundary of them all.
    pub(crate) rest: u64,
    /// Where they stand in the order of the trie.
    pub(crate) first: u32,
    pub(crate) end: u32,
    /// Most bytes that may still come.
    pub(crate) height: u32,
}

/// The tokens that stay inside a string, by their characters; and the beginnings of those that leave it.
#[derive(Debug)]
pub(crate) struct Classes {
    pub(crate) groups: Vec<Group>,
    /// For each node of the token trie, what lies at or below it.
    pub(crate) below: Vec<Below>,
    /// The tokens of `groups`, in the order of the trie.
    pub(crate) order: Vec<TokenId>,
    /// The letters of each.
    pub(crate) letters: Vec<Letters>,
    /// Tokens that end within an escape, or hold one that free text does not: few, tried one by one.
    pub(crate) loose: Vec<TokenId>,
    /// Tokens of many characters, with the class of the first; in no group.
    pub(crate) long: Vec<(usize, TokenId)>,
    /// What stands before the closing quote in the tokens that leave a string, numbered.
    pub(crate) contents: Trie,
    /// For each token that leaves a string, the number of its content.
    pub(crate) content_of: Vec<u32>,
    /// How many contents there are.
    pub(crate) content_count: usize,
}

/// A token with more characters than this is long.
pub(crate) const LONG: u16 = 24;
/// A group with more tokens than this has bits.
const MANY: usize = 256;

impl Classes {
    /// `inside` are the tokens that stay inside a free string; `crossing` those that leave it, with the number of
    /// bytes before the closing quote.
    pub(crate) fn new(
        vocab: &Vocab,
        trie: &Trie,
        chars: &[u16],
        inside: &[TokenId],
        odd: Vec<TokenId>,
        crossing: &[(TokenId, usize)],
        escapes: Escapes,
    ) -> Self {
        let mut loose = odd;
        let mut long = Vec::new();
        let mut by_signature: rustc_hash::FxHashMap<u64, Vec<TokenId>> = rustc_hash::FxHashMap::default();
        let mut below = vec![Below::default(); trie.len()];
        let mut in_order: Vec<(&[u8], TokenId)> = Vec::new();
        let mut ends: Vec<(usize, usize)> = Vec::new();
        for &id in inside {
            let bytes = vocab.bytes(id);
            match signature(bytes, escapes) {
                Some(_) if chars[id as usize] > LONG => {
                    // Escaped characters are rare in long tokens: their class is taken for unknown.
                    long.push((if bytes[0] == b'\\' { CLASSES } else { class_of(bytes[0]) }, id));
                }
                Some(signature) => {
                    by_signature.entry(signature).or_default().push(id);
                    below[trie.find(bytes) as usize].signature |= signature;
                    in_order.push((bytes, id));
                    ends.clear();
                    each_class(bytes, escapes, |end, class| ends.push((end, class)));
                    let (mut node, mut at) = (ROOT, 0);
                    for (index, &(end, _)) in ends.iter().enumerate() {
                        for &byte in &bytes[at..end] {
                            node = trie.child(node, byte);
                        }
                        at = end;
                        let rest = ends[index + 1..].iter().fold(0, |rest, &(_, class)| rest | 1 << class);
                        below[node as usize].rest |= rest;
                    }
                }
                None => loose.push(id),
            }
        }
        in_order.sort_unstable();
        for (at, (bytes, _)) in (0..).zip(&in_order) {
            let here = &mut below[trie.find(bytes) as usize];
            if here.end == 0 {
                here.first = at;
            }
            here.end = at + 1;
        }
        for node in (1..trie.len()).rev() {
            let at = u32::try_from(node).expect("trie nodes are numbered in 32 bits");
            let here = below[node];
            let parent = &mut below[trie.node(at).parent as usize];
            parent.signature |= here.signature;
            parent.height = parent.height.max(here.height + 1);
            if here.end > 0 {
                parent.first = if parent.end == 0 { here.first } else { parent.first.min(here.first) };
                parent.end = parent.end.max(here.end);
            }
        }
        let letters = in_order.iter().map(|(bytes, _)| letters(bytes, escapes)).collect();
        let order = in_order.into_iter().map(|(_, id)| id).collect();
        let mut groups: Vec<Group> = by_signature
            .into_iter()
            .map(|(signature, mut tokens)| {
                tokens.sort_unstable_by_key(|&id| (chars[id as usize], id));
                let bits = (tokens.len() > MANY).then(|| {
                    let mut bits = vec![0u32; vocab.len().div_ceil(32)];
                    for &id in &tokens {
                        bits[id as usize / 32] |= 1 << (id % 32);
                    }
                    bits.into_boxed_slice()
                });
                Group { signature, tokens: tokens.into(), bits }
            })
            .collect();
        groups.sort_unstable_by_key(|group| group.signature);
        let mut contents: Vec<&[u8]> = crossing.iter().map(|&(id, end)| &vocab.bytes(id)[..end]).collect();
        contents.sort_unstable();
        contents.dedup();
        let mut content_of = vec![NONE; vocab.len()];
        for &(id, end) in crossing {
            let at = contents.binary_search(&&vocab.bytes(id)[..end]).expect("every content was collected");
            content_of[id as usize] = u32::try_from(at).expect("fewer contents than tokens");
        }
        let numbered: Vec<(&[u8], u32)> = contents.iter().copied().zip(0..).collect();
        Self {
            groups,
            below,
            order,
            letters,
            loose,
            long,
            content_count: contents.len(),
            contents: Trie::new(&numbered),
            content_of,
        }
    }
}

/// The classes of a token's characters; none where it ends within an escape, or within a character that may yet be one
/// of the separators or another.
fn signature(bytes: &[u8], escapes: Escapes) -> Option<u64> {
    let mut signature = 0;
    each_class(bytes, escapes, |_, class| signature |= 1 << class).then_some(signature)
}

/// Calls `visit` with the end and the class of each character of a token; false where there is no [`signature`].
fn each_class(bytes: &[u8], escapes: Escapes, mut visit: impl FnMut(usize, usize)) -> bool {
    each_char(bytes, escapes, |end, c| visit(end, c.map_or(WIDE, class_of_char)))
}

/// The letters of a token that has a [`signature`].
fn letters(bytes: &[u8], escapes: Escapes) -> Letters {
    let mut letters = 0;
    each_char(bytes, escapes, |_, c| {
        let class = c.map_or(WIDE, class_of_char);
        let first = FIRST_LETTERS.iter().position(|&first| first == class);
        letters |= 1 << first.unwrap_or(c.map_or(0, |c| c as usize));
    });
    letters
}

/// Calls `visit` with the end of each character of a token and the character, or none for the beginning of one that is
/// no separator; false where there is no [`signature`].
fn each_char(bytes: &[u8], escapes: Escapes, mut visit: impl FnMut(usize, Option<char>)) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        let c = if bytes[at] == b'\\' {
            let mut open = escape::BACKSLASH;
            loop {
                at += 1;
                let Some(&byte) = bytes.get(at) else { return false };
                match escape::step(open, byte, escapes) {
                    Spelt::Open(next) => open = next,
                    Spelt::Char(c) => break c,
                    Spelt::Bad => return false,
                }
            }
        } else {
            let end = bytes.len().min(at + 4);
            let valid = std::str::from_utf8(&bytes[at..end]).map_or_else(|error| error.valid_up_to(), |_| end - at);
            match std::str::from_utf8(&bytes[at..at + valid]).ok().and_then(|text| text.chars().next()) {
                Some(c) => {
                    at += c.len_utf8() - 1;
                    c
                }
                None if begins_separator(&bytes[at..]) => return false,
                None => {
                    visit(bytes.len(), None);
                    return true;
                }
            }
        };
        at += 1;
        visit(at, Some(c));
    }
    true
}

/// The class of a character.
pub(crate) fn class_of_char(c: char) -> usize {
    match c {
        c if c.is_ascii() => class_of(c as u8),
        '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{3000}'
        | '\u{feff}' => SEPARATORS,
        _ => WIDE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_divide_ascii() {
        let mut seen = [0u32; CLASSES];
        for byte in 0..128u8 {
            seen[class_of(byte)] += 1;
        }
        assert_eq!(seen[WIDE] + seen[SEPARATORS], 0);
        assert!(seen.iter().enumerate().all(|(at, &n)| n > 0 || at == WIDE || at == SEPARATORS));
        assert_eq!(seen[11..].iter().sum::<u32>(), 33);
        assert_eq!(signature("aZ\\n".as_bytes(), Escapes::Any), Some(1 | 1 << 3 | 1 << 5));
        assert_eq!(signature(b"a\\", Escapes::Any), None);
        assert_eq!(signature(b"\xe6\x97", Escapes::Any), Some(1 << WIDE));
    }
}
