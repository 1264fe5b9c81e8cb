//! Free text: valid UTF-8 without control characters but newline and tab, within bounds.

use super::TextBounds;
use super::charset::CharSet;
use super::language::{ExprId, INFINITE, Languages};
use super::pattern::Pattern;

/// The language of a free text. A word is a maximal run
/// of characters that are not white space.
pub fn language(bounds: &TextBounds, pattern: Option<&Pattern>, languages: &mut Languages) -> ExprId {
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
    if let Some(pattern) = pattern {
        // Parsed and translated once already when the program was compiled.
        parts.push(pattern.language(languages).unwrap_or(super::language::NONE));
    }
    languages.and(parts)
}
