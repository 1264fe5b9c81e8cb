//! What is computed once a vocabulary: the token trie, and which tokens stay inside or leave a free
//! JSON string. Shared by every grammar over that vocabulary.
//!
//! A token that starts inside a free string either stays in it (a bit set a number of characters) or
//! holds the closing quote; of the latter only the bytes after the quote matter, so they form a
//! second, small trie, whose values stand for groups of tokens.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::classes::Classes;
use super::escape::{self, Escapes};
use super::trie::{NONE, ROOT, Trie};
use crate::vocab::{TokenId, Vocab};

/// Longer tokens are never used: some vocabularies hold whole licence texts.
const LONGEST_TOKEN: usize = 256;

/// A function from text to its canonical tokens.
pub(crate) type Tokenise = dyn Fn(&[u8]) -> Vec<TokenId> + Send + Sync;

/// Tables over one vocabulary; build them once and share them.
pub struct Tables {
    vocab: Arc<Vocab>,
    tokenise: Option<Arc<Tokenise>>,
    pub(crate) trie: Trie,
    /// Another token with the same bytes, or [`NONE`].
    twins: Vec<TokenId>,
    strings: [OnceLock<StringSets>; 2],
    /// Longest token in bytes.
    pub(crate) longest: u32,
    /// The character whose runs are covered by fewest tokens, with the lengths of the runs that are tokens, ascending.
    pub(crate) filler: (u8, Vec<u32>),
    /// Bytes without a token of their own that every text may come to need.
    pub(crate) missing: Vec<u8>,
}

/// Tokens by what they do from inside a free JSON string, at a character boundary.
#[derive(Debug)]
pub(crate) struct StringSets {
    /// `inside[k]`: tokens that stay inside and start at most `k` characters; the last has no bound.
    inside: Vec<Arc<[u32]>>,
    /// For each token, the group (bytes after the closing quote) it belongs to, or [`NONE`].
    pub(crate) group_of: Vec<u32>,
    /// For each token, the characters it starts before the closing quote or its end.
    pub(crate) chars: Vec<u16>,
    /// Tokens that stay inside and end within a character or an escape.
    pub(crate) partial: Vec<TokenId>,
    /// Tokens of each group, ascending by characters.
    groups: Vec<Vec<TokenId>>,
    /// Bytes after the quote → group.
    pub(crate) suffixes: Trie,
    /// Trie node of a token trie → what follows a quote opened there.
    entries: rustc_hash::FxHashMap<u32, StringEntry>,
    pub(crate) classes: Classes,
}

/// Tokens below a trie node at which a free JSON string has just begun.
#[derive(Debug, Default)]
pub(crate) struct StringEntry {
    /// `(characters, token)` that stay inside, ascending.
    pub(crate) inside: Vec<(u16, TokenId)>,
    /// `(group, characters, token)` that hold the closing quote.
    pub(crate) crossing: Vec<(u32, u16, TokenId)>,
}

/// What bytes do from inside a free string.
enum Scan {
    /// Characters started, and whether the last is whole.
    Inside(u16, bool),
    Crossing(u16, usize),
    Bad,
}

impl Tables {
    /// Builds the tables. For 128,000 tokens some 0.1 s.
    pub fn new(vocab: Arc<Vocab>) -> Arc<Self> {
        Self::with_tokenizer(vocab, None)
    }

    /// Builds the tables, and says how the model's tokenizer cuts a text, for [`Session::forced`](super::Session::forced).
    /// Without it the longest token is taken at each place, which is near to but not quite what byte-pair merging gives.
    pub fn with_tokenizer(vocab: Arc<Vocab>, tokenise: Option<Arc<Tokenise>>) -> Arc<Self> {
        let mut tokens: Vec<(&[u8], TokenId)> = usable(&vocab).map(|(id, bytes)| (bytes, id)).collect();
        tokens.sort_unstable();
        let mut twins = vec![NONE; vocab.len()];
        for pair in tokens.windows(2) {
            if pair[0].0 == pair[1].0 {
                twins[pair[0].1 as usize] = pair[1].1;
            }
        }
        tokens.dedup_by(|a, b| a.0 == b.0);
        let trie = Trie::new(&tokens);
        let missing = missing_bytes(&tokens, &trie);
        let longest = tokens.iter().map(|(bytes, _)| bytes.len()).max().unwrap_or(0);
        let filler = filler(&tokens);
        Arc::new(Self {
            trie,
            twins,
            strings: [OnceLock::new(), OnceLock::new()],
            longest: u32::try_from(longest).unwrap_or(u32::MAX),
            filler,
            missing,
            vocab,
            tokenise,
        })
    }

    /// The tokens of a text.
    pub(crate) fn tokenise(&self, text: &[u8]) -> Vec<TokenId> {
        if let Some(tokenise) = &self.tokenise {
            return tokenise(text);
        }
        let (mut tokens, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let (mut node, mut best) = (ROOT, None);
            for (end, &byte) in (at + 1..).zip(&text[at..]) {
                node = self.trie.child(node, byte);
                if node == NONE {
                    break;
                }
                if self.trie.node(node).value != NONE {
                    best = Some((end, self.trie.node(node).value));
                }
            }
            let Some((end, token)) = best else { break };
            tokens.push(token);
            at = end;
        }
        tokens
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }

    /// The tokens with the same bytes as the one that stands in the trie, itself included.
    pub(crate) fn twins(&self, token: TokenId) -> impl Iterator<Item = TokenId> + '_ {
        let mut next = token;
        std::iter::from_fn(move || {
            let id = (next != NONE).then_some(next)?;
            next = self.twins[id as usize];
            Some(id)
        })
    }

    /// The sets for one manner of escaping; built on first use (some 50 ms for 128,000 tokens).
    pub(crate) fn strings(&self, escapes: Escapes) -> &StringSets {
        let slot = usize::from(escapes == Escapes::Any);
        self.strings[slot].get_or_init(|| StringSets::new(&self.vocab, &self.trie, self.longest, escapes))
    }

    /// Builds what strings with these escapes need, which is else done on first use.
    pub fn prepare(&self, escapes: Escapes) {
        let _ = self.strings(escapes);
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("vocab", &self.vocab).finish_non_exhaustive()
    }
}

impl StringSets {
    fn new(vocab: &Vocab, trie: &Trie, longest: u32, escapes: Escapes) -> Self {
        let words = vocab.len().div_ceil(32);
        let mut by_chars: Vec<Vec<TokenId>> = vec![Vec::new(); longest as usize + 1];
        let mut chars = vec![0; vocab.len()];
        let (mut partial, mut odd) = (Vec::new(), Vec::new());
        let mut crossing: Vec<(&[u8], u16, TokenId)> = Vec::new();
        let mut entries: rustc_hash::FxHashMap<u32, StringEntry> = rustc_hash::FxHashMap::default();
        let mut entry_crossing: Vec<(u32, &[u8], u16, TokenId)> = Vec::new();
        for (id, bytes) in usable(vocab) {
            match scan(bytes, escapes) {
                Scan::Inside(count, whole) => {
                    if !whole {
                        partial.push(id);
                    }
                    chars[id as usize] = count;
                    by_chars[usize::from(count)].push(id);
                }
                Scan::Crossing(count, after) => {
                    chars[id as usize] = count;
                    crossing.push((&bytes[after..], count, id));
                }
                Scan::Bad if escapes == Escapes::Canonical && matches!(scan(bytes, Escapes::Any), Scan::Inside(..)) => {
                    odd.push(id);
                }
                Scan::Bad => {}
            }
            for quote in (0..bytes.len()).filter(|&at| bytes[at] == b'"') {
                let node = trie.find(&bytes[..=quote]);
                let rest = &bytes[quote + 1..];
                match scan(rest, escapes) {
                    Scan::Inside(count, _) if !rest.is_empty() => {
                        entries.entry(node).or_default().inside.push((count, id));
                    }
                    Scan::Crossing(count, after) => entry_crossing.push((node, &rest[after..], count, id)),
                    Scan::Inside(..) | Scan::Bad => {
                        entries.entry(node).or_default();
                    }
                }
            }
        }
        let mut inside: Vec<Arc<[u32]>> = Vec::with_capacity(by_chars.len());
        let mut bits = vec![0u32; words];
        for ids in &by_chars {
            for &id in ids {
                bits[id as usize / 32] |= 1 << (id % 32);
            }
            match inside.last() {
                Some(last) if ids.is_empty() => inside.push(last.clone()),
                _ => inside.push(Arc::from(bits.as_slice())),
            }
        }
        let mut suffixes: Vec<&[u8]> = crossing.iter().map(|c| c.0).chain(entry_crossing.iter().map(|c| c.1)).collect();
        suffixes.sort_unstable();
        suffixes.dedup();
        let group = |suffix: &[u8]| {
            let at = suffixes.binary_search(&suffix).expect("every suffix was collected");
            u32::try_from(at).expect("fewer suffixes than tokens")
        };
        let mut groups = vec![Vec::new(); suffixes.len()];
        let mut group_of = vec![NONE; vocab.len()];
        crossing.sort_unstable_by_key(|&(_, count, id)| (count, id));
        for &(suffix, _, id) in &crossing {
            groups[group(suffix) as usize].push(id);
            group_of[id as usize] = group(suffix);
        }
        for &(node, suffix, count, id) in &entry_crossing {
            entries.entry(node).or_default().crossing.push((group(suffix), count, id));
        }
        for entry in entries.values_mut() {
            entry.inside.sort_unstable();
            entry.crossing.sort_unstable();
        }
        let stay: Vec<TokenId> = by_chars.into_iter().flatten().collect();
        let leave: Vec<(TokenId, usize)> =
            crossing.iter().map(|&(suffix, _, id)| (id, vocab.bytes(id).len() - suffix.len() - 1)).collect();
        let classes = Classes::new(vocab, trie, &chars, &stay, odd, &leave, escapes);
        let numbered: Vec<(&[u8], u32)> = suffixes.iter().copied().zip(0..).collect();
        Self { inside, group_of, chars, partial, groups, suffixes: Trie::new(&numbered), entries, classes }
    }

    /// Tokens that stay inside and start at most so many characters (`None`: no bound).
    pub(crate) fn inside(&self, max_chars: Option<u32>) -> &Arc<[u32]> {
        let last = self.inside.len() - 1;
        &self.inside[max_chars.map_or(last, |max| last.min(max as usize))]
    }

    /// Tokens of a group, ascending by characters before the quote.
    pub(crate) fn group(&self, group: u32) -> &[TokenId] {
        &self.groups[group as usize]
    }

    /// What follows when a free string opens at a trie node.
    pub(crate) fn entry(&self, node: u32) -> Option<&StringEntry> {
        self.entries.get(&node)
    }
}

/// Bytes that lack a token: of ASCII those that texts are written with; above it, where some token ends within a
/// character, those that continue one, since only bytes can then complete it. A byte that begins characters may be
/// missing (many vocabularies lack those of planes without characters): what cannot begin is never left open.
fn missing_bytes(tokens: &[(&[u8], TokenId)], trie: &Trie) -> Vec<u8> {
    let splits = tokens.iter().any(|(bytes, _)| std::str::from_utf8(bytes).is_err());
    let wide = (0x80..=0xbfu8).filter(|_| splits);
    let has_token = |byte: u8| {
        let node = trie.find(&[byte]);
        node != NONE && trie.node(node).value != NONE
    };
    (b' '..=b'~').chain(wide).filter(|&byte| !has_token(byte)).collect()
}

/// The tokens that can be produced.
fn usable(vocab: &Vocab) -> impl Iterator<Item = (TokenId, &[u8])> {
    vocab.text_tokens().filter(|(_, bytes)| bytes.len() <= LONGEST_TOKEN)
}

/// What bytes do from inside a free string, at a character boundary.
fn scan(bytes: &[u8], escapes: Escapes) -> Scan {
    let mut count = 0u16;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Scan::Crossing(count, at + 1),
            b'\\' => {
                count = count.saturating_add(1);
                let mut open = escape::BACKSLASH;
                loop {
                    at += 1;
                    let Some(&byte) = bytes.get(at) else { return Scan::Inside(count, false) };
                    if escapes == Escapes::Canonical
                        && open == escape::BACKSLASH
                        && !matches!(byte, b'"' | b'\\' | b'n' | b't')
                    {
                        return Scan::Bad;
                    }
                    match escape::step(open, byte, escapes) {
                        escape::Spelt::Open(next) => open = next,
                        escape::Spelt::Char(_) => break,
                        escape::Spelt::Bad => return Scan::Bad,
                    }
                }
                at += 1;
            }
            0..0x20 => return Scan::Bad,
            _ => {
                count = count.saturating_add(1);
                match std::str::from_utf8(&bytes[at..bytes.len().min(at + 4)]) {
                    Ok(text) => at += text.chars().next().map_or(1, char::len_utf8),
                    Err(error) if error.valid_up_to() > 0 => {
                        let head = std::str::from_utf8(&bytes[at..at + error.valid_up_to()]).expect("checked");
                        at += head.chars().next().map_or(1, char::len_utf8);
                    }
                    Err(error) if error.error_len().is_none() => return Scan::Inside(count, false),
                    Err(_) => return Scan::Bad,
                }
            }
        }
    }
    Scan::Inside(count, true)
}

/// The plain character whose longest run is one token, and all lengths of its runs.
fn filler(tokens: &[(&[u8], TokenId)]) -> (u8, Vec<u32>) {
    let mut runs: Vec<Vec<u32>> = vec![Vec::new(); 128];
    for (bytes, _) in tokens {
        let first = bytes[0];
        if (0x20..0x7f).contains(&first) && !matches!(first, b'"' | b'\\') && bytes.iter().all(|&b| b == first) {
            runs[first as usize].push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
    }
    let best = (0x20..0x7f).max_by_key(|&byte| (runs[byte].iter().max().copied().unwrap_or(0), byte == 0x20));
    let best = best.unwrap_or(0x20);
    let mut lengths = std::mem::take(&mut runs[best]);
    lengths.sort_unstable();
    lengths.dedup();
    (u8::try_from(best).expect("ASCII"), lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::TokenKind;

    #[test]
    fn tokens_are_sorted_by_what_they_do_in_a_string() {
        let texts = ["a", "\"", "ab\"", "x\", \"", "\n", "\\", "\\u00", "é", "\"ab", "\\/"];
        let vocab = Vocab::new(texts.iter().map(|t| (t.as_bytes(), TokenKind::Text)), &[]);
        let tables = Tables::new(Arc::new(vocab));
        let sets = tables.strings(Escapes::Canonical);
        let inside: Vec<u32> = (0..10).filter(|id| sets.inside(None)[0] >> id & 1 == 1).collect();
        assert_eq!(inside, [0, 5, 7]);
        assert_eq!(sets.group_of[2], sets.group_of[1]);
        assert_ne!(sets.group_of[3], NONE);
        assert_eq!(sets.chars[2], 2);
        let any = tables.strings(Escapes::Any);
        assert_eq!(any.inside(None)[0] >> 6 & 1, 1);
        assert_eq!(any.inside(Some(0))[0], 0);
        let entry = sets.entry(tables.trie.find(b"\"")).expect("a string opens there");
        assert_eq!(entry.inside, [(2, 8)]);
    }
}
