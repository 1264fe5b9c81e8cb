//! Tokens that are found in a text by their spelling, which of them end a sequence, and how text
//! that spells one by accident or malice is kept from becoming one.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::{Error, Result};
use instil_grammar::vocab::TokenId;

/// A token that is matched by its spelling before anything else is done with a text.
#[derive(Clone, Debug)]
pub(super) struct Special {
    pub id: TokenId,
    pub spelling: String,
    /// Swallows white space before it.
    pub strip_left: bool,
    /// Swallows white space after it.
    pub strip_right: bool,
    /// Matches only where it is not part of a longer word.
    pub single_word: bool,
}

/// Finds special tokens in texts: leftmost first, the longest of several.
#[derive(Debug)]
pub(super) struct Matcher {
    automaton: Option<AhoCorasick>,
    specials: Vec<Special>,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// A special token.
    Token(TokenId),
    /// Text between special tokens, and the byte at which it starts.
    Text { text: &'t str, at: usize },
}

/// Tokens that end a turn or a text, in the models in use today.
///
/// `</s>` is not among them: it counts when it is a control token, and is an HTML tag otherwise.
const ENDINGS: [&str; 23] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Tokens of code models after which another file or nothing follows.
    "<|fim_pad|>",
    "<|file_sep|>",
];

/// More tokens of that kind, with the spellings of other code models.
const FILE_ENDINGS: [&str; 7] =
    ["<fim-pad>", "<fim_pad>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];

/// Tokens that steer infilling: control tokens whatever their file calls them.
const INFILL: [&str; 16] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<|code_prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<|code_suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<|code_middle|>",
    "<|message|>",
];

/// True for a spelling that is a control token in every model that has it.
pub(super) fn is_control_spelling(spelling: &str) -> bool {
    is_ending(spelling) || INFILL.contains(&spelling)
}

/// True for a spelling that ends a turn or a text.
pub(super) fn is_ending(spelling: &str) -> bool {
    ENDINGS.contains(&spelling) || FILE_ENDINGS.contains(&spelling)
}

/// Takes back endings that are none in the company of certain others.
///
/// Where a model has `<|return|>` or `<|flush|>` and `<|call|>` or `<|calls|>`, its `<|end|>` only
/// separates messages.
pub(super) fn drop_separators(end_ids: &mut Vec<TokenId>, id_of: impl Fn(&str) -> Option<TokenId>) {
    let has = |spelling: &str| id_of(spelling).is_some_and(|id| end_ids.contains(&id));
    if (has("<|return|>") && has("<|call|>")) || (has("<|flush|>") && (has("<|call|>") || has("<|calls|>"))) {
        let separator = id_of("<|end|>");
        end_ids.retain(|&id| Some(id) != separator);
    }
}

impl Special {
    /// A token without any habits.
    pub(super) fn plain(id: TokenId, spelling: impl Into<String>) -> Self {
        Self { id, spelling: spelling.into(), strip_left: false, strip_right: false, single_word: false }
    }
}

impl Matcher {
    /// Builds the automaton; tokens without a spelling are left out.
    ///
    /// # Errors
    /// When the spellings together are too long for one automaton.
    pub(super) fn new(mut specials: Vec<Special>, model: &str) -> Result<Self> {
        specials.retain(|special| !special.spelling.is_empty());
        let spellings = specials.iter().map(|special| &special.spelling);
        let automaton = (!specials.is_empty())
            .then(|| AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(spellings))
            .transpose()
            .map_err(|error| Error::model(model, format!("cannot index its special tokens: {error}"), ""))?;
        Ok(Self { automaton, specials })
    }

    /// The text in parts, in order; empty text between tokens is left out.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for (start, end, special) in self.find(text) {
            if start < from {
                // It lies in white space that the token before has swallowed.
                continue;
            }
            let start = if special.strip_left { text[..start].trim_end().len().max(from) } else { start };
            if from < start {
                pieces.push(Piece::Text { text: &text[from..start], at: from });
            }
            pieces.push(Piece::Token(special.id));
            from = if special.strip_right { text.len() - text[end..].trim_start().len() } else { end };
        }
        if from < text.len() {
            pieces.push(Piece::Text { text: &text[from..], at: from });
        }
        pieces
    }

    /// Where to cut a text so that none of its parts spells a token: after the first character of
    /// each occurrence.
    pub(super) fn cuts(&self, text: &str) -> Vec<usize> {
        let after_first = |start: usize| start + text[start..].chars().next().map_or(0, char::len_utf8);
        self.find(text).map(|(start, _, _)| after_first(start)).collect()
    }

    fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, usize, &'a Special)> {
        let found = self.automaton.iter().flat_map(move |automaton| automaton.find_iter(text));
        let found = found.map(|found| (found.start(), found.end(), &self.specials[found.pattern().as_usize()]));
        found.filter(|&(start, end, special)| {
            let in_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !special.single_word || !(in_word(text[..start].chars().next_back()) || in_word(text[end..].chars().next()))
        })
    }
}

/// Hides spellings of control tokens in messages while a template works on them.
///
/// Each spelling becomes one private-use character that occurs nowhere else, so that templates
/// can trim, split and join as they like; after the template's own control tokens have been
/// found, the characters become the spellings again, as plain text.
#[derive(Debug)]
pub(super) struct Mask<'m> {
    matcher: &'m Matcher,
    taken: BTreeSet<char>,
    hidden: Vec<(char, String)>,
}

impl<'m> Mask<'m> {
    /// A mask for the tokens of a matcher.
    pub(super) fn new(matcher: &'m Matcher) -> Self {
        let mut mask = Self { matcher, taken: BTreeSet::new(), hidden: Vec::new() };
        for special in &matcher.specials {
            mask.avoid(&special.spelling);
        }
        mask
    }

    /// Keeps the characters of a text from being used as a mask; call it for every message first.
    pub(super) fn avoid(&mut self, text: &str) {
        self.taken.extend(text.chars().filter(|&character| character >= FIRST_PRIVATE));
    }

    /// The text with spellings hidden, also one that the end of the text only begins.
    pub(super) fn hide(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        let matcher = self.matcher;
        for (start, end, _) in matcher.find(text) {
            out.push_str(&text[from..start]);
            out.push(self.stand_in(&text[start..end]));
            from = end;
        }
        out.push_str(&text[from..]);
        let body = out.trim_end().len();
        if let Some(start) = self.begun_at(&out[..body]) {
            let begun = out[start..body].to_owned();
            let stand_in = self.stand_in(&begun);
            out.replace_range(start..body, stand_in.encode_utf8(&mut [0; 4]));
        }
        out
    }

    /// The text with spellings back.
    pub(super) fn reveal(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            match self.hidden.iter().find(|(stand_in, _)| *stand_in == character) {
                Some((_, spelling)) => out.push_str(spelling),
                None => out.push(character),
            }
        }
        out
    }

    /// Where the longest ending of the text starts that is the beginning of a control token.
    fn begun_at(&self, text: &str) -> Option<usize> {
        let starts = self.matcher.specials.iter().filter_map(|special| {
            let longest = special.spelling.len().saturating_sub(1).min(text.len());
            (1..=longest)
                .rev()
                .filter(|&length| special.spelling.is_char_boundary(length))
                .find(|&length| text.ends_with(&special.spelling[..length]))
                .map(|length| text.len() - length)
        });
        starts.min()
    }

    fn stand_in(&mut self, spelling: &str) -> char {
        if let Some((stand_in, _)) = self.hidden.iter().find(|(_, hidden)| hidden == spelling) {
            return *stand_in;
        }
        let free = (FIRST_PRIVATE..=LAST_PRIVATE).find(|character| !self.taken.contains(character));
        // 131,068 characters are there for at most a few thousand spellings; a text that uses
        // them all gets a character that no tokenizer can turn into a control token either.
        let stand_in = free.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.taken.insert(stand_in);
        self.hidden.push((stand_in, spelling.to_owned()));
        stand_in
    }
}

const FIRST_PRIVATE: char = '\u{F0000}';
const LAST_PRIVATE: char = '\u{10FFFD}';

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher() -> Matcher {
        let mut specials: Vec<Special> =
            (0..).zip(["<|end|>", "<|endoftext|>", "<s>"]).map(|(id, text)| Special::plain(id, text)).collect();
        specials.push(Special { strip_left: true, strip_right: true, ..Special::plain(3, "<mask>") });
        specials.push(Special { single_word: true, ..Special::plain(4, "word") });
        Matcher::new(specials, "test").unwrap()
    }

    #[test]
    fn splits_leftmost_longest_with_habits() {
        let matcher = matcher();
        let text = "a<|endoftext|><s> b <mask>\n c words word";
        let pieces = matcher.split(text);
        let expected = [
            Piece::Text { text: "a", at: 0 },
            Piece::Token(1),
            Piece::Token(2),
            Piece::Text { text: " b", at: 17 },
            Piece::Token(3),
            Piece::Text { text: "c words ", at: 28 },
            Piece::Token(4),
        ];
        assert_eq!(pieces, expected);
        assert!(matcher.split("").is_empty());
    }

    #[test]
    fn cuts_fall_inside_every_spelling() {
        assert_eq!(matcher().cuts("a<s>b<s>"), [2, 6]);
    }

    #[test]
    fn masks_hide_spellings_and_give_them_back() {
        let matcher = matcher();
        let mut mask = Mask::new(&matcher);
        let text = "a<s>\u{F0000}<|end|> b <|endof \n";
        mask.avoid(text);
        let hidden = mask.hide(text);
        assert!(matcher.split(&format!("{}text|>", hidden.trim())).iter().all(|p| matches!(p, Piece::Text { .. })));
        assert_eq!(mask.reveal(&hidden), text);
        assert!(hidden.ends_with(" \n") && hidden.contains('\u{F0000}'));
    }

    #[test]
    fn an_end_that_separates_is_not_an_ending() {
        let ids = |spelling: &str| ["<|return|>", "<|call|>", "<|end|>"].iter().position(|s| *s == spelling);
        let mut end_ids = vec![0, 1, 2];
        drop_separators(&mut end_ids, |spelling| ids(spelling).map(|id| id as TokenId));
        assert_eq!(end_ids, [0, 1]);
        let mut end_ids = vec![2];
        drop_separators(&mut end_ids, |spelling| ids(spelling).map(|id| id as TokenId));
        assert_eq!(end_ids, [2]);
    }
}
