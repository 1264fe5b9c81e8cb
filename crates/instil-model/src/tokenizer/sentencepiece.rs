//! SentencePiece merges by score, for the `llama` vocabularies of GGUF files.
//!
//! Neighbouring pieces whose union is a token are joined, best score first and leftmost among
//! equals, until none is left; what is still no token becomes byte tokens. This is the
//! `bpe` algorithm of <https://github.com/google/sentencepiece> as llama.cpp runs it; it equals
//! neither the Unigram search nor byte-pair merges in order of rank.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::spelling::PIECE_SPACE;
use instil_grammar::vocab::TokenId;

/// A SentencePiece engine.
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// Token and score by spelling; ordinary tokens only.
    pieces: FxHashMap<String, (TokenId, f32)>,
    bytes: Box<[Option<TokenId>; 256]>,
    unknown: Option<TokenId>,
    add_space_prefix: bool,
}

/// A run of the text that is one piece so far.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could become one token.
#[derive(Clone, Copy, Debug)]
struct Join {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when the join was found; fewer or more now means that it is out of date.
    length: usize,
}

impl SentencePiece {
    /// An engine over ordinary tokens with their scores, byte tokens, and the token for text that
    /// has neither.
    pub(super) fn new(
        pieces: impl Iterator<Item = (String, TokenId, f32)>,
        bytes: Box<[Option<TokenId>; 256]>,
        unknown: Option<TokenId>,
        add_space_prefix: bool,
    ) -> Self {
        let pieces = pieces.map(|(spelling, id, score)| (spelling, (id, score))).collect();
        Self { pieces, bytes, unknown, add_space_prefix }
    }

    /// Appends the ids of a text, in time `n log n` in its length.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        if text.is_empty() {
            return;
        }
        let mut escaped = String::with_capacity(text.len() + 3);
        if self.add_space_prefix {
            escaped.push(PIECE_SPACE);
        }
        escaped.extend(text.chars().map(|character| if character == ' ' { PIECE_SPACE } else { character }));
        let text = escaped.as_str();

        let count = text.chars().count();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start,
                end: start + character.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1).filter(|&next| next < count),
            })
            .collect();
        let mut joins = BinaryHeap::new();
        for right in 1..count {
            joins.extend(self.join(text, &symbols, Some(right - 1), Some(right)));
        }
        while let Some(Join { left, right, length, .. }) = joins.pop() {
            let (first, second) = (symbols[left], symbols[right]);
            let gone = |symbol: Symbol| symbol.start == symbol.end;
            if gone(first) || gone(second) || second.end - first.start != length || first.end != second.start {
                continue;
            }
            symbols[left].end = second.end;
            symbols[left].next = second.next;
            symbols[right].end = second.start;
            if let Some(next) = second.next {
                symbols[next].previous = Some(left);
            }
            joins.extend(self.join(text, &symbols, first.previous, Some(left)));
            joins.extend(self.join(text, &symbols, Some(left), second.next));
        }

        let mut at = Some(0);
        while let Some(index) = at {
            let symbol = symbols[index];
            let piece = &text[symbol.start..symbol.end];
            match self.pieces.get(piece) {
                Some(&(id, _)) => ids.push(id),
                None => self.encode_bytes(piece, ids),
            }
            at = symbol.next;
        }
    }

    fn join(&self, text: &str, symbols: &[Symbol], left: Option<usize>, right: Option<usize>) -> Option<Join> {
        let (left, right) = (left?, right?);
        let (start, end) = (symbols[left].start, symbols[right].end);
        let &(_, score) = self.pieces.get(&text[start..end])?;
        Some(Join { score, left, right, length: end - start })
    }

    /// One byte token for each byte, or one unknown token where the vocabulary lacks them.
    fn encode_bytes(&self, piece: &str, ids: &mut Vec<TokenId>) {
        let bytes: Option<Vec<TokenId>> = piece.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        match bytes {
            Some(bytes) => ids.extend(bytes),
            None => ids.extend(self.unknown),
        }
    }
}

impl Ord for Join {
    /// The greatest is joined first: the best score, and the leftmost of equals.
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding zero makes the two zeros equal.
        (self.score + 0.0).total_cmp(&(other.score + 0.0)).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Join {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Join {}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(add_space_prefix: bool) -> SentencePiece {
        let pieces = [("▁", -9.0), ("a", -8.0), ("b", -8.0), ("ab", -2.0), ("▁a", -1.0), ("ba", -2.0)];
        let pieces = (10..).zip(pieces).map(|(id, (spelling, score))| (spelling.to_owned(), id, score));
        let mut bytes = Box::new([None; 256]);
        bytes[usize::from(b'\n')] = Some(1);
        SentencePiece::new(pieces, bytes, Some(0), add_space_prefix)
    }

    fn ids(text: &str, add_space_prefix: bool) -> Vec<TokenId> {
        let mut ids = Vec::new();
        engine(add_space_prefix).encode(text, &mut ids);
        ids
    }

    #[test]
    fn joins_by_score_then_from_the_left() {
        assert_eq!(ids("aba", false), [13, 11]);
        assert_eq!(ids("aba", true), [14, 15]);
        assert_eq!(ids(" aba", false), [14, 15]);
        assert!(ids("", true).is_empty());
    }

    #[test]
    fn falls_back_to_bytes_and_then_to_unknown() {
        assert_eq!(ids("a\nz", false), [11, 1, 0]);
    }
}
