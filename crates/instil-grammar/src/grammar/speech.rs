//! Where sentences end and words begin, in the scripts of the world: one table for grammars and for whoever judges
//! finished texts.
//!
//! [`sentences`] and [`word_count`] read a finished text; [`super::text`] makes languages of the same table, and a test
//! there holds both to the same texts. No dictionary: what needs one (words of Thai or Chinese) is counted by letters.

use std::sync::LazyLock;

use super::charset::CharSet;

/// Marks that end a sentence where a gap or the end of the text follows.
const ENDS: &str = ".!?\u{2026}\u{203c}\u{203d}\u{2047}\u{2048}\u{2049}\u{2e2e}";
/// Marks that end a sentence whatever follows: Armenian, Arabic and Urdu, danda, Myanmar, Ethiopic, Mongolian, Khmer,
/// Tibetan, Ol Chiki, Meetei Mayek, Chinese and Japanese.
const WIDE_ENDS: &str = "\u{589}\u{61f}\u{6d4}\u{964}\u{965}\u{104b}\u{1362}\u{1367}\u{1803}\u{1809}\u{17d4}\u{17d5}\
    \u{f0d}\u{f0e}\u{1c7e}\u{1c7f}\u{abeb}\u{3002}\u{fe12}\u{ff01}\u{ff0e}\u{ff1f}\u{ff61}";
/// Marks that end a sentence behind a Greek letter: Greek's question mark, which NFC writes as a semicolon.
const GREEK_ENDS: &str = ";\u{37e}";
/// Greek letters.
const GREEK: [(u32, u32); 4] = [(0x370, 0x373), (0x376, 0x377), (0x37B, 0x3FF), (0x1F00, 0x1FFF)];
/// Thai and Lao, which have no mark for the end of a sentence: a text may end behind any of their letters.
const UNMARKED: [(u32, u32); 2] = [(0xE01, 0xE5B), (0xE81, 0xEDF)];
/// Closing quotes and brackets in ASCII.
const CLOSERS: &str = "\"')]}";
/// Marks of emphasis: they close right behind a sentence, and begin one elsewhere.
const EMPHASIS: &str = "*`_~";
/// Closing quotes and brackets of all languages.
const WIDE_CLOSERS: &str = "\u{bb}\u{ab}\u{203a}\u{2039}\u{201d}\u{201c}\u{2019}\u{2018}\u{2033}\u{275c}\u{275e}\
    \u{27e9}\u{27e7}\u{2e29}\u{3009}\u{300b}\u{300d}\u{300f}\u{3011}\u{3015}\u{3017}\u{3019}\u{301b}\u{301e}\u{301f}\
    \u{fd3e}\u{fd3f}\u{ff02}\u{ff07}\u{ff09}\u{ff3d}\u{ff5d}\u{ff60}\u{ff63}";
/// Emoji with their modifiers and joiners, and what cannot be seen: they stand between sentences like white space.
const UNSPOKEN: [(u32, u32); 14] = [
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x2069),
    (0x231A, 0x231B),
    (0x23E9, 0x23FA),
    (0x2600, 0x2767),
    (0x2776, 0x27BF),
    (0x2B05, 0x2B07),
    (0x2B1B, 0x2B55),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0x1F000, 0x1FAFF),
    (0xE0020, 0xE007F),
];
/// Digits that number the items of lists.
const DIGITS: [(u32, u32); 6] =
    [(0x30, 0x39), (0x660, 0x669), (0x6F0, 0x6F9), (0x966, 0x96F), (0x9E6, 0x9EF), (0xFF10, 0xFF19)];
/// Letters of scripts that are written without spaces (Thai, Lao, Myanmar, Khmer, Hiragana, Katakana, Bopomofo, Han),
/// without their marks and digits: each begins a word.
const UNSPACED: [(u32, u32); 24] = [
    (0xE01, 0xE30),
    (0xE32, 0xE33),
    (0xE40, 0xE45),
    (0xE81, 0xEB0),
    (0xEB2, 0xEB3),
    (0xEBD, 0xEC4),
    (0xEDC, 0xEDF),
    (0x1000, 0x102A),
    (0x103F, 0x103F),
    (0x1050, 0x1055),
    (0x105A, 0x105D),
    (0x1061, 0x1061),
    (0x1065, 0x1066),
    (0x106E, 0x1070),
    (0x1075, 0x1081),
    (0x1780, 0x17B3),
    (0x3041, 0x3096),
    (0x30A1, 0x30FA),
    (0x3105, 0x312F),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),
    (0x20000, 0x3FFFF),
];
/// What parts words beside white space: the word spaces of Tibetan and Ethiopic.
const WORD_GAPS: [(u32, u32); 2] = [(0xF0B, 0xF0E), (0x1361, 0x1362)];
/// Punctuation and signs: no word consists of them alone.
const SIGNS: [(u32, u32); 27] = [
    (0x21, 0x2F),
    (0x3A, 0x40),
    (0x5B, 0x60),
    (0x7B, 0x7E),
    (0xA1, 0xA9),
    (0xAB, 0xB1),
    (0xB4, 0xB4),
    (0xB6, 0xB8),
    (0xBB, 0xBB),
    (0xBF, 0xBF),
    (0xD7, 0xD7),
    (0xF7, 0xF7),
    (0x37E, 0x37E),
    (0x387, 0x387),
    (0x589, 0x58A),
    (0x60C, 0x60D),
    (0x61B, 0x61F),
    (0x66A, 0x66D),
    (0x6D4, 0x6D4),
    (0x964, 0x965),
    (0x104A, 0x104F),
    (0x1360, 0x1368),
    (0x17D4, 0x17DA),
    (0x2010, 0x206F),
    (0x2190, 0x2BFF),
    (0x3001, 0x3004),
    (0x3008, 0x3020),
];
/// More of them: full-width forms, joiners.
const WIDE_SIGNS: [(u32, u32); 8] = [
    (0x3030, 0x3030),
    (0x30FB, 0x30FB),
    (0xFE00, 0xFE6F),
    (0xFF01, 0xFF0F),
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF65),
    (0x1F000, 0x1FAFF),
];

/// The table as sets.
pub(crate) struct Speech {
    pub ends: CharSet,
    pub wide_ends: CharSet,
    pub greek_ends: CharSet,
    pub greek: CharSet,
    pub unmarked: CharSet,
    /// All closers.
    pub closers: CharSet,
    /// What must follow a mark: white space, or what is not spoken.
    pub gap: CharSet,
    /// What may stand between sentences: gaps, quotes and brackets.
    pub between: CharSet,
    pub digits: CharSet,
    pub unspaced: CharSet,
    /// What parts words.
    pub word_gap: CharSet,
    /// Neither in a word by itself nor between words.
    pub signs: CharSet,
}

fn of(chars: &str) -> CharSet {
    CharSet::from_ranges(chars.chars().map(|c| (c.into(), c.into())).collect())
}

/// The table as sets.
pub(crate) static SPEECH: LazyLock<Speech> = LazyLock::new(|| {
    let ranges = |ranges: &[(u32, u32)]| CharSet::from_ranges(ranges.to_vec());
    let gap = CharSet::white_space().union(&ranges(&UNSPOKEN));
    let word_gap = CharSet::white_space().union(&ranges(&WORD_GAPS));
    let signs = ranges(&[&SIGNS[..], &WIDE_SIGNS].concat());
    let brackets = of(CLOSERS).union(&of(WIDE_CLOSERS));
    Speech {
        ends: of(ENDS),
        wide_ends: of(WIDE_ENDS),
        greek_ends: of(GREEK_ENDS),
        greek: ranges(&GREEK),
        unmarked: ranges(&UNMARKED),
        closers: brackets.union(&of(EMPHASIS)),
        between: gap.union(&brackets),
        gap,
        digits: ranges(&DIGITS),
        unspaced: ranges(&UNSPACED),
        signs: signs.intersection(&word_gap.complement()),
        word_gap,
    }
});

/// Whether a letter is of a script that is written without spaces, and so is a word of its own.
pub fn is_unspaced(c: char) -> bool {
    !c.is_ascii() && SPEECH.unspaced.contains(c.into())
}

/// Number of words in a text, as bounds on words count them: a word begins at the first letter or digit behind white
/// space, and at every letter of a script that is written without spaces.
pub fn word_count(text: &str) -> usize {
    let speech = &*SPEECH;
    let (mut count, mut begun) = (0, false);
    for c in text.chars() {
        let c = u32::from(c);
        if speech.word_gap.contains(c) {
            begun = false;
        } else if speech.unspaced.contains(c) || !(begun || speech.signs.contains(c)) {
            (count, begun) = (count + 1, true);
        }
    }
    count
}

/// Number of sentences in a text; none when the last one has no end, or a mark stands where a sentence should begin.
///
/// A sentence ends with `.`, `!`, `?` or `…` and closing quotes and brackets before white space, emoji or the end; with
/// the marks of other scripts (`。`, `।`, `؟`, …) wherever they stand; in Greek with `;`; in Thai and Lao, which have no
/// marks, where the text ends. A number of one or two digits before a mark is taken for a list marker (`1.`), unless it
/// ends the text behind other words of its line.
pub fn sentences(text: &str) -> Option<u32> {
    let speech = &*SPEECH;
    let chars: Vec<u32> = text.chars().map(u32::from).collect();
    let find = |from: usize, passed: &dyn Fn(u32) -> bool| {
        (from..chars.len()).find(|&at| !passed(chars[at])).unwrap_or(chars.len())
    };
    let is_mark = |c: u32| speech.ends.contains(c) || speech.wide_ends.contains(c);
    let closes = |c: u32| speech.closers.contains(c);
    let (mut count, mut said, mut at) = (0, false, 0);
    // Where the sentence begins that is not ended yet.
    let mut begin = None;
    while at < chars.len() {
        let c = chars[at];
        if begin.is_none() && !speech.between.contains(c) {
            if is_mark(c) {
                return None;
            }
            begin = Some(at);
        }
        let Some(start) = begin else {
            at += 1;
            continue;
        };
        said |= !is_mark(c) && !closes(c) && !speech.between.contains(c);
        at += 1;
        let before = &chars[start..at - 1];
        let (after, ends) = if speech.wide_ends.contains(c) {
            (find(at, &|c| closes(c) || is_mark(c)), true)
        } else if speech.ends.contains(c) {
            let after = find(at, &closes);
            let line = &before[before.iter().rposition(|&c| c == u32::from('\n')).map_or(0, |newline| newline + 1)..];
            let gapped = after == chars.len() || speech.gap.contains(chars[after]);
            let is_marker =
                |text: &[u32]| (1..=2).contains(&text.len()) && text.iter().all(|c| speech.digits.contains(*c));
            let aside = |c: u32| speech.gap.contains(c) || closes(c);
            let word = line.rsplit(|c| aside(*c)).next().unwrap_or_default();
            let first = line.iter().position(|c| !aside(*c)).unwrap_or(line.len());
            let is_last = || find(after, &|c| speech.between.contains(c)) == chars.len();
            (after, gapped && (!is_marker(word) || !is_marker(&line[first..]) && is_last()))
        } else if speech.greek_ends.contains(c) && before.last().is_some_and(|c| speech.greek.contains(*c)) {
            let after = find(at, &closes);
            (after, after == chars.len() || speech.gap.contains(chars[after]))
        } else {
            continue;
        };
        if ends {
            if !said {
                return None;
            }
            (count, said, begin, at) = (count + 1, false, None, after);
        }
    }
    let Some(start) = begin else { return Some(count) };
    let rest = &chars[start..];
    let spoken = rest.iter().rposition(|c| !speech.between.contains(*c)).map_or(0, |last| last + 1);
    let last = rest[..spoken].iter().rfind(|c| !closes(**c)).filter(|c| speech.unmarked.contains(**c));
    last.map(|_| count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_behind_spaces_and_with_letters_of_scripts_without_them() {
        for (text, count) in [
            ("Don't stop - it's 3.14!", 4),
            ("\u{ab} Bonjour \u{bb}, dit-il.", 2),
            ("\u{9762}\u{5305}\u{9700}\u{8981}\u{9762}\u{7c89}\u{3001}\u{6c34}\u{3002}", 7),
            ("\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947} \u{926}\u{941}\u{928}\u{93f}\u{92f}\u{93e}\u{964}", 2),
            ("\u{e17}\u{e35}\u{e48}\u{e19}\u{e35}\u{e48}", 2),
            ("\u{1230}\u{120b}\u{121d}\u{1361}\u{1208}\u{12d3}\u{1208}\u{121d}\u{1362}", 2),
            ("\u{7528}Rust \u{5199}", 2),
            ("", 0),
            (" \u{1f44d} ... \u{3002}", 0),
        ] {
            assert_eq!(word_count(text), count, "{text}");
        }
    }

    #[test]
    fn sentences_end_with_the_marks_of_every_script() {
        for good in [
            "It is so.",
            "He said \u{201c}no.\u{201d}",
            "Das ist \u{bb}gut.\u{ab}",
            "Il a dit : \u{ab} Non. \u{bb}",
            "Sie sind schwer. \u{1f44d}\u{1f3fd}",
            "Eine Familie.\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "It is so.\u{a0}",
            "**It is so.**",
            "**It is.** *So it is.*",
            "The answer is 42.",
            "\u{6a}\u{61}\u{3002}\u{300d}\u{ff09}",
            "\u{771f}\u{7684}\u{ff1f}\u{ff01}",
            "\u{647}\u{644} \u{647}\u{630}\u{627} \u{635}\u{62d}\u{64a}\u{62d}\u{61f}",
            "\u{6cc}\u{6c1} \u{6c1}\u{6d2}\u{6d4}",
            "\u{92f}\u{939} \u{938}\u{91a} \u{939}\u{948}\u{964}",
            "\u{1019}\u{103c}\u{1014}\u{103a}\u{1019}\u{102c}\u{104b}",
            "\u{1230}\u{120b}\u{121d}\u{1362}",
            "\u{3a4}\u{3b9} \u{3b5}\u{3af}\u{3bd}\u{3b1}\u{3b9};",
            "\u{531}\u{575}\u{578}\u{589}",
            "\u{1781}\u{17d2}\u{1798}\u{17c2}\u{179a}\u{17d4}",
            "\u{e09}\u{e31}\u{e19}\u{e23}\u{e31}\u{e01}",
        ] {
            assert!(sentences(good).is_some_and(|count| count > 0), "{good}");
        }
        for bad in [
            "It is so",
            "It is so;",
            "It is,",
            "It is so.\n *\n ***",
            "It is so. _",
            "One.\n2.",
            "Sie sind schwer \u{1f44d}",
            "\u{92f}\u{939} \u{938}\u{91a}",
            "\u{9762}\u{5305}\u{3001}",
            "\u{6cc}\u{6c1} \u{6c1}\u{60c}",
            "...",
            "\u{3002}",
        ] {
            assert!(sentences(bad).is_none(), "{bad}");
        }
        assert_eq!((sentences(""), sentences(" \u{1f44d}")), (Some(0), Some(0)));
    }
}
