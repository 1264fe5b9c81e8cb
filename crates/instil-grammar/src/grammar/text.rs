//! Free text: valid UTF-8 without control characters but newline and tab, within bounds.

use super::TextBounds;
use super::charset::CharSet;
use super::language::{ExprId, INFINITE, Languages};
use super::pattern::Pattern;
use super::speech::SPEECH;

/// The language of a free text. Words and sentences are those of [`super::speech`].
pub(crate) fn language(bounds: &TextBounds, pattern: Option<&Pattern>, languages: &mut Languages) -> ExprId {
    let mut controls = vec![(0, 8), (0x0B, 0x1F), (0x7F, 0x9F)];
    if !bounds.multiline {
        controls.push((0x0A, 0x0A));
    }
    let allowed = CharSet::from_ranges(controls).complement();
    let any = languages.class(allowed.clone());
    let mut parts = vec![languages.repeat(any, bounds.min_chars, bounds.max_chars.unwrap_or(INFINITE))];
    if bounds.min_words > 0 || bounds.max_words.is_some() {
        parts.push(words(bounds.min_words, bounds.max_words, &allowed, languages));
    }
    if bounds.min_sentences > 0 || bounds.max_sentences.is_some() {
        parts.push(sentences(bounds.min_sentences, bounds.max_sentences, &allowed, languages));
    }
    if let Some(pattern) = pattern {
        // Parsed and translated once already when the program was compiled.
        parts.push(pattern.language(languages).unwrap_or(super::language::NONE));
    }
    if bounds.stop.is_empty() {
        return languages.and(parts);
    }
    // Nor does the text end within a stop that its own end begins: the stop is the first one there is.
    let stop = languages.text(&bounds.stop);
    let all = languages.class(CharSet::full());
    let (all, some) = (languages.repeat(all, 0, INFINITE), languages.repeat(all, 1, INFINITE));
    let sooner = languages.sequence(&[all, stop, some]);
    let first = languages.not(sooner);
    let text = languages.and(parts);
    let stopped = languages.concat(text, stop);
    languages.and2(stopped, first)
}

/// Texts of `min` to `max` words.
fn words(min: u32, max: Option<u32>, allowed: &CharSet, languages: &mut Languages) -> ExprId {
    let speech = &*SPEECH;
    let solid = speech.word_gap.complement();
    let mut class = |set: &CharSet| languages.class(set.intersection(allowed));
    let (gap, blank) = (class(&speech.word_gap), class(&speech.word_gap.union(&speech.signs)));
    // A letter of a script without spaces begins a word, whatever stands before it.
    let (alone, first) = (class(&speech.unspaced), class(&solid.intersection(&speech.signs.complement())));
    let more = class(&solid.intersection(&speech.unspaced.complement()));
    let (blanks, more) = (languages.repeat(blank, 0, INFINITE), languages.repeat(more, 0, INFINITE));
    let word = languages.concat(first, more);
    let spaced = languages.sequence(&[gap, blanks, word]);
    let alone = languages.concat(alone, more);
    let next = languages.or2(alone, spaced);
    let most = max.map_or(INFINITE, |max| max.saturating_sub(1));
    let next = languages.repeat(next, min.saturating_sub(1), most);
    let behind = languages.concat(gap, blanks);
    let behind = languages.repeat(behind, 0, 1);
    let some = languages.sequence(&[blanks, word, next, behind]);
    match (min, max) {
        (_, Some(0)) => blanks,
        (0, _) => languages.or2(some, blanks),
        _ => some,
    }
}

/// Texts of `min` to `max` sentences, each of them ended.
fn sentences(min: u32, max: Option<u32>, allowed: &CharSet, languages: &mut Languages) -> ExprId {
    let speech = &*SPEECH;
    let newline = CharSet::one('\n').intersection(allowed);
    let marks = speech.ends.union(&speech.wide_ends);
    let mut class = |set: &CharSet| languages.class(set.intersection(allowed));
    let (any, visible) = (class(&CharSet::full()), class(&speech.between.union(&marks).complement()));
    let (gap, between) = (class(&speech.gap), class(&speech.between));
    let wide_tail = marks.union(&speech.closers);
    let (closer, tail, after_wide) = (class(&speech.closers), class(&wide_tail), class(&wide_tail.complement()));
    let (end, wide_end, greek_end) = (class(&speech.ends), class(&speech.wide_ends), class(&speech.greek_ends));
    let (greek, unmarked, digit) = (class(&speech.greek), class(&speech.unmarked), class(&speech.digits));
    // Marks alone are no sentence.
    let core = class(&wide_tail.union(&speech.between).complement());
    let aside = class(&speech.gap.union(&speech.closers));
    let newline = languages.class(newline);
    let mut many = |one: ExprId| languages.repeat(one, 0, INFINITE);
    let (any, asides, between) = (many(any), many(aside), many(between));
    let (closers, tail) = (many(closer), many(tail));
    // `1.` and `12.` are list markers, not ends; a number that ends the text behind words of its line is an end.
    let marker = languages.repeat(digit, 1, 2);
    let listed = languages.sequence(&[any, aside, marker]);
    let listed = languages.or2(listed, marker);
    let unlisted = languages.not(listed);
    let unlisted = languages.and2(unlisted, any);
    let marked = languages.sequence(&[any, newline, asides, marker]);
    let first = languages.concat(asides, marker);
    let marked = languages.or2(marked, first);
    let unmarked_line = languages.not(marked);
    let unmarked_line = languages.and2(unmarked_line, any);
    let in_greek = languages.concat(any, greek);
    // A sentence that ends within another.
    let inner = [
        languages.sequence(&[unlisted, end, closers, gap, any]),
        languages.sequence(&[in_greek, greek_end, closers, gap, any]),
        languages.sequence(&[any, wide_end, tail, after_wide, any]),
    ];
    let inner = languages.or(inner.to_vec());
    let whole = languages.not(inner);
    let begun = languages.concat(visible, any);
    let said = languages.sequence(&[any, core, any]);
    let mut ended = |before: ExprId, mark: ExprId, behind: ExprId| {
        let ended = languages.sequence(&[before, mark, behind]);
        let said = languages.sequence(&[said, mark, behind]);
        languages.and(vec![begun, said, ended, whole])
    };
    let (spaced, greek, wide) =
        (ended(unlisted, end, closers), ended(in_greek, greek_end, closers), ended(any, wide_end, tail));
    let last = ended(unmarked_line, end, closers);
    let unended = languages.sequence(&[any, unmarked, closers]);
    let unended = languages.and(vec![begun, unended, whole]);
    let some_gap = languages.concat(gap, between);
    let spaced = languages.or2(spaced, greek);
    let spaced = languages.concat(spaced, some_gap);
    let last = languages.or(vec![last, greek, wide, unended]);
    let wide = languages.concat(wide, between);
    let next = languages.or2(spaced, wide);
    let max = max.unwrap_or(INFINITE);
    let before = if max == INFINITE { INFINITE } else { max.saturating_sub(1) };
    let before = languages.repeat(next, min.saturating_sub(1), before);
    let some = languages.sequence(&[between, before, last, between]);
    match (min, max) {
        (_, 0) => between,
        (0, _) => languages.or2(some, between),
        _ => some,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::speech::{sentences as counted, word_count};
    use super::*;

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
            assert_eq!(counted(text), Some(count), "{text}");
            assert!(accepts(&sentences_of(count, Some(count)), text), "{text}");
            assert!(!accepts(&sentences_of(count + 1, None), text), "{text}");
            assert!(!accepts(&sentences_of(1, Some(count - 1)), text), "{text}");
        }
        assert!(!accepts(&sentences_of(1, None), "It stops in the") && !accepts(&sentences_of(1, None), " "));
        assert!(accepts(&sentences_of(0, Some(2)), " \n") && accepts(&sentences_of(0, Some(0)), ""));
        assert!(!accepts(&sentences_of(0, Some(0)), "No.") && !accepts(&sentences_of(1, None), "No. . ."));
    }

    #[test]
    fn a_stop_ends_the_text_where_it_first_stands() {
        let bounds = TextBounds { stop: "\n##".into(), min_words: 2, multiline: true, ..TextBounds::default() };
        for (text, good) in
            [("a b\n##", true), ("a b", false), ("a\n##", false), ("a b\n##\n##", false), ("a\n# b\n##", true)]
        {
            assert_eq!(accepts(&bounds, text), good, "{text:?}");
        }
        let line = TextBounds { stop: "\n".into(), min_sentences: 1, ..TextBounds::default() };
        assert!(accepts(&line, "It is so.\n") && !accepts(&line, "It is so\n") && !accepts(&line, "It.\nIs.\n"));
    }

    proptest! {
        /// The grammar and whoever judges finished texts have the same sentences and words, in every script.
        #[test]
        fn every_script_ends_alike(
            text in "[a1*\u{928}\u{9762}\u{e01}\u{e35}\u{3b1}.?;\u{964}\u{3002}\u{ff1f}\u{61f} \n\")\u{bb}\u{300d}\u{1f44d}\u{200d}\u{a0}-]{0,14}",
            min in 1u32..4, more in prop::option::of(0u32..3), least in 0u32..5, most in prop::option::of(0u32..5),
        ) {
            let max = more.map(|more| min + more);
            let within = counted(&text).is_some_and(|count| count >= min && max.is_none_or(|max| count <= max));
            prop_assert_eq!(accepts(&sentences_of(min, max), &text), within, "{:?}", counted(&text));
            let max = most.map(|more| least + more);
            let words = TextBounds { min_words: least, max_words: max, multiline: true, ..TextBounds::default() };
            let found = word_count(&text) as u32;
            prop_assert_eq!(accepts(&words, &text), found >= least && max.is_none_or(|max| found <= max), "{}", found);
        }

        #[test]
        fn bounds_hold_exactly(
            text in "[a1.!? \n\")*]{0,24}|[a.!? \n\")*\u{3002}]{0,24}", min in 0u32..5, more in prop::option::of(0u32..4), words in 0u32..4,
        ) {
            let max = more.map(|more| min + more);
            let count = counted(&text);
            let within = count.is_some_and(|count| count >= min && max.is_none_or(|max| count <= max));
            let bounded = min > 0 || max.is_some();
            prop_assert_eq!(accepts(&sentences_of(min, max), &text), within || !bounded, "{:?}", count);
            let both = TextBounds { min_words: words, ..sentences_of(min, max) };
            let enough = word_count(&text) >= words as usize;
            prop_assert_eq!(accepts(&both, &text), (within || !bounded) && enough);
        }
    }
}
