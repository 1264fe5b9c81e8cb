//! Free text: valid UTF-8 without control characters but newline and tab, within bounds.

use super::TextBounds;
use super::charset::CharSet;
use super::language::{ExprId, INFINITE, Languages};
use super::pattern::Pattern;

/// The language of a free text. A word is a maximal run
/// of characters that are not white space.
pub(crate) fn language(bounds: &TextBounds, pattern: Option<&Pattern>, languages: &mut Languages) -> ExprId {
    let mut controls = vec![(0, 8), (0x0B, 0x1F), (0x7F, 0x9F)];
    if !bounds.multiline {
        controls.push((0x0A, 0x0A));
    }
    let allowed = CharSet::from_ranges(controls).complement();
    let any = languages.class(allowed.clone());
    let mut parts = vec![languages.repeat(any, bounds.min_chars, bounds.max_chars.unwrap_or(INFINITE))];
    if bounds.min_words > 0 || bounds.max_words.is_some() {
        let space = CharSet::white_space();
        let mark = languages.class(space.complement().intersection(&allowed));
        let gap = languages.class(space.intersection(&allowed));
        let word = languages.repeat(mark, 1, INFINITE);
        let some_gap = languages.repeat(gap, 1, INFINITE);
        let any_gap = languages.repeat(gap, 0, INFINITE);
        let max = bounds.max_words.unwrap_or(INFINITE);
        let next = languages.concat(some_gap, word);
        let rest = if max == INFINITE { INFINITE } else { max.saturating_sub(1) };
        let more = languages.repeat(next, bounds.min_words.saturating_sub(1), rest);
        let mut words = languages.sequence(&[any_gap, word, more, any_gap]);
        if max == 0 {
            words = any_gap;
        } else if bounds.min_words == 0 {
            words = languages.or2(words, any_gap);
        }
        parts.push(words);
    }
    if bounds.min_sentences > 0 || bounds.max_sentences.is_some() {
        parts.push(sentences(bounds.min_sentences, bounds.max_sentences, &allowed, languages));
    }
    if let Some(pattern) = pattern {
        // Parsed and translated once already when the program was compiled.
        parts.push(pattern.language(languages).unwrap_or(super::language::NONE));
    }
    languages.and(parts)
}

/// Marks that end a sentence where white space or the end of the text follows.
const END_MARKS: &str = ".!?\u{2026}";
/// Marks that end a sentence in scripts that are written without spaces.
const WIDE_END_MARKS: &str = "\u{3002}\u{ff01}\u{ff1f}";
/// What may stand between such a mark and the end of its sentence.
const CLOSERS: &str = "\"')]}*`\u{201d}\u{2019}\u{bb}\u{300d}\u{300f}\u{ff09}";

fn one_of(chars: &str) -> CharSet {
    CharSet::from_ranges(chars.chars().map(|c| (c.into(), c.into())).collect())
}

/// Texts of `min` to `max` sentences, each of them ended.
fn sentences(min: u32, max: Option<u32>, allowed: &CharSet, languages: &mut Languages) -> ExprId {
    let space = CharSet::white_space();
    let any = languages.class(allowed.clone());
    let any = languages.repeat(any, 0, INFINITE);
    let visible = languages.class(space.complement().intersection(allowed));
    let gap = languages.class(space.intersection(allowed));
    let (some_gap, any_gap) = (languages.repeat(gap, 1, INFINITE), languages.repeat(gap, 0, INFINITE));
    let closer = languages.class(one_of(CLOSERS));
    let closers = languages.repeat(closer, 0, INFINITE);
    let after_wide = languages.class(one_of(CLOSERS).complement().intersection(allowed));
    let end_mark = languages.class(one_of(END_MARKS));
    let wide_mark = languages.class(one_of(WIDE_END_MARKS));
    // `1.` and `12.` are list markers, not ends.
    let digit = languages.class(CharSet::range('0'.into(), '9'.into()));
    let marker = languages.repeat(digit, 1, 2);
    let spaced_any = languages.concat(any, gap);
    let listed = languages.concat(spaced_any, marker);
    let listed = languages.or2(listed, marker);
    let unlisted = languages.not(listed);
    let unlisted = languages.and2(unlisted, any);
    // A sentence that ends within another.
    let inner = [
        languages.sequence(&[unlisted, end_mark, closers, gap, any]),
        languages.sequence(&[any, wide_mark, closers, after_wide, any]),
    ];
    let inner = languages.or(inner.to_vec());
    let whole = languages.not(inner);
    // Marks alone are no sentence.
    let marks = one_of(END_MARKS).union(&one_of(WIDE_END_MARKS)).union(&one_of(CLOSERS)).union(&space);
    let core = languages.class(marks.complement().intersection(allowed));
    let begun = languages.concat(visible, any);
    let said = languages.sequence(&[any, core, any]);
    let mut ended = |before: ExprId, mark: ExprId| {
        let ended = languages.sequence(&[before, mark, closers]);
        let said = languages.concat(said, mark);
        let said = languages.concat(said, closers);
        languages.and(vec![begun, said, ended, whole])
    };
    let (spaced, wide) = (ended(unlisted, end_mark), ended(any, wide_mark));
    let spaced_on = languages.concat(spaced, some_gap);
    let wide_on = languages.concat(wide, any_gap);
    let next = languages.or2(spaced_on, wide_on);
    let last = languages.or2(spaced, wide);
    let max = max.unwrap_or(INFINITE);
    let before = if max == INFINITE { INFINITE } else { max.saturating_sub(1) };
    let before = languages.repeat(next, min.saturating_sub(1), before);
    let some = languages.sequence(&[any_gap, before, last, any_gap]);
    match (min, max) {
        (_, 0) => any_gap,
        (0, _) => languages.or2(some, any_gap),
        _ => some,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sentences of a text, told character by character; none when the last one has no end.
    fn count(text: &str) -> Option<u32> {
        let chars: Vec<char> = text.chars().collect();
        let (mut sentences, mut open, mut said) = (0, false, false);
        let (mut at, mut begin) = (0, 0);
        while at < chars.len() {
            let (narrow, wide) = (END_MARKS.contains(chars[at]), WIDE_END_MARKS.contains(chars[at]));
            open |= !chars[at].is_whitespace();
            said |= open && !narrow && !wide && !chars[at].is_whitespace() && !CLOSERS.contains(chars[at]);
            at += 1;
            if narrow || wide {
                let word = chars[begin..at - 1].rsplit(|c| c.is_whitespace()).next().unwrap_or_default();
                if narrow && (1..=2).contains(&word.len()) && word.iter().all(char::is_ascii_digit) {
                    continue;
                }
                let after = (at..chars.len()).find(|at| !CLOSERS.contains(chars[*at])).unwrap_or(chars.len());
                if wide || after == chars.len() || chars[after].is_whitespace() {
                    if !said {
                        return None;
                    }
                    (sentences, open, said, at, begin) = (sentences + 1, false, false, after, after);
                }
            }
        }
        (!open).then_some(sentences)
    }

    fn accepts(bounds: &TextBounds, text: &str) -> bool {
        let mut languages = Languages::new();
        let language = language(bounds, None, &mut languages);
        languages.matches(language, text)
    }

    fn sentences_of(min_sentences: u32, max_sentences: Option<u32>) -> TextBounds {
        TextBounds { min_sentences, max_sentences, multiline: true, ..TextBounds::default() }
    }

    #[test]
    fn sentences_end_where_readers_say_so() {
        for (text, count) in [
            ("It rains. Take a coat!", 2),
            ("Pi is 3.14, says example.org.", 1),
            ("He said \"stop.\" Nobody did (why?)", 2),
            ("Wait... What?!", 2),
            ("\u{4eca}\u{5929}\u{3002}\u{660e}\u{5929}\u{ff01}", 2),
            ("Two things: 1. Bread. 12. Salt from 1996.", 2),
            ("One line.\n\nAnother.\n", 2),
        ] {
            assert_eq!(super::tests::count(text), Some(count), "{text}");
            assert!(accepts(&sentences_of(count, Some(count)), text), "{text}");
            assert!(!accepts(&sentences_of(count + 1, None), text), "{text}");
            assert!(!accepts(&sentences_of(1, Some(count - 1)), text), "{text}");
        }
        assert!(!accepts(&sentences_of(1, None), "It stops in the") && !accepts(&sentences_of(1, None), " "));
        assert!(accepts(&sentences_of(0, Some(2)), " \n") && accepts(&sentences_of(0, Some(0)), ""));
        assert!(!accepts(&sentences_of(0, Some(0)), "No.") && !accepts(&sentences_of(1, None), "No. . ."));
    }

    proptest! {
        #[test]
        fn bounds_hold_exactly(
            text in "[a1.!? \n\")]{0,24}|[a.!? \n\")\u{3002}]{0,24}", min in 0u32..5, more in prop::option::of(0u32..4), words in 0u32..4,
        ) {
            let max = more.map(|more| min + more);
            let count = count(&text);
            let within = count.is_some_and(|count| count >= min && max.is_none_or(|max| count <= max));
            let bounded = min > 0 || max.is_some();
            prop_assert_eq!(accepts(&sentences_of(min, max), &text), within || !bounded, "{:?}", count);
            let both = TextBounds { min_words: words, ..sentences_of(min, max) };
            let enough = text.split_whitespace().count() >= words as usize;
            prop_assert_eq!(accepts(&both, &text), (within || !bounded) && enough);
        }
    }
}
