//! In a string, in a raw text, and in the content of a key over a language.

use super::least::{ENDLESS, LeastShape};
use super::{Bytes, Checks, LONGEST_COMPLETION, Machine, Piece};
use crate::constraint::escape::{self, Escapes, PLAIN, Spelt};
use crate::constraint::frame::{Frame, StringPlace, Thread};
use crate::grammar::{DEAD, StateId, UNIVERSAL};

/// Longest completion of one frame over a language, where each byte may take a state of its own.
const LONGEST_SPELT: u32 = 1 << 15;
/// Of more bytes than this there is no hint.
const MOST_HINTED: usize = 48;
/// The bytes that escapes are made of.
const ESCAPE: &[u8] = b"\"\\/bfnrtu0123456789abcdefABCDEF";

impl Machine {
    /// Before the first character.
    pub(super) fn string_start(&self, bounds: u32) -> StringPlace {
        let state = self.expansion.lang_start(self.rules.bounds(bounds).lang);
        StringPlace { bounds, state, chars: 0, open: PLAIN }
    }

    pub(super) fn string(
        &self,
        thread: Thread,
        place: StringPlace,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        let bounds = self.rules.bounds(place.bounds);
        let (min, max) = (bounds.min_chars, bounds.max_chars);
        if place.open == PLAIN && byte == b'"' {
            if place.chars >= min && self.expansion.lang_accepts(place.state) {
                self.finish(thread, false, checks, out);
            }
            return;
        }
        let starts = place.open == PLAIN && byte & 0xc0 != 0x80;
        if starts && max.is_some_and(|max| place.chars >= max) {
            return;
        }
        if let Some((state, open)) = self.content(place.state, place.open, byte) {
            let chars = (place.chars + u32::from(starts)).min(max.unwrap_or(min));
            out.push(thread.at(Frame::String(StringPlace { state, chars, open, ..place })));
        }
    }

    pub(super) fn text(&self, thread: Thread, place: StringPlace, byte: u8, out: &mut Vec<Thread>) {
        let bounds = self.rules.bounds(place.bounds);
        let (min, max) = (bounds.min_chars, bounds.max_chars);
        let starts = byte & 0xc0 != 0x80;
        if starts && max.is_some_and(|max| place.chars >= max) {
            return;
        }
        let state = self.expansion.lang_next(place.state, byte);
        if state != DEAD {
            let chars = (place.chars + u32::from(starts)).min(max.unwrap_or(min));
            out.push(thread.at(Frame::Text(StringPlace { state, chars, ..place })));
        }
    }

    pub(super) fn text_may_end(&self, place: StringPlace) -> bool {
        let bounds = self.rules.bounds(place.bounds);
        self.expansion.lang_accepts(place.state)
            && place.chars >= bounds.min_chars
            && bounds.max_chars.is_none_or(|max| place.chars <= max)
    }

    /// One byte inside a string over a language: state and open escape after it.
    #[inline]
    pub(crate) fn content(&self, state: StateId, open: u32, byte: u8) -> Option<(StateId, u32)> {
        if open == PLAIN {
            return match byte {
                b'"' | 0..0x20 => None,
                b'\\' => self.can_escape(state).then_some((state, escape::BACKSLASH)),
                _ => match self.expansion.lang_next(state, byte) {
                    DEAD => None,
                    next => Some((next, PLAIN)),
                },
            };
        }
        match escape::step(open, byte, self.escapes) {
            Spelt::Bad => None,
            Spelt::Open(next) => {
                let live = self.escapes == Escapes::Any || state != UNIVERSAL && self.can_escape_hex(state, next);
                live.then_some((state, next))
            }
            Spelt::Char(c) => {
                if self.escapes == Escapes::Canonical && state == UNIVERSAL && !matches!(c, '"' | '\\' | '\n' | '\t') {
                    return None;
                }
                let mut next = state;
                for &byte in c.encode_utf8(&mut [0; 4]).as_bytes() {
                    next = self.expansion.lang_next(next, byte);
                }
                (next != DEAD).then_some((next, PLAIN))
            }
        }
    }

    /// Some escape leads on from a state.
    fn can_escape(&self, state: StateId) -> bool {
        if state == UNIVERSAL {
            return true;
        }
        let row = self.expansion.lang_row(state);
        match self.escapes {
            // A character boundary is enough: `\u` spells everything.
            Escapes::Any => row.live().any(|byte| matches!(byte, 0..0x80 | 0xc2..0xf5)),
            Escapes::Canonical => row.live().any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')),
        }
    }

    /// Some control character that begins with the open hexadecimal digits leads on from a state.
    fn can_escape_hex(&self, state: StateId, open: u32) -> bool {
        let row = self.expansion.lang_row(state);
        (0..0x20u8).any(|byte| row[byte] != DEAD && escape::is_control_ahead(byte, open))
    }

    pub(super) fn hint_content(&self, state: StateId, open: u32, bytes: &mut Bytes) -> bool {
        if open != PLAIN {
            bytes.add_all(ESCAPE);
            return true;
        }
        let row = self.expansion.lang_row(state);
        let live = row.live();
        if live.clone().count() > MOST_HINTED {
            return false;
        }
        live.for_each(|byte| bytes.add(byte));
        bytes.add_all(b"\"\\");
        true
    }

    pub(super) fn complete_string(&self, thread: Thread, place: StringPlace, filler: u8, out: &mut Vec<u8>) -> Piece {
        let missing = self.rules.bounds(place.bounds).min_chars.saturating_sub(place.chars);
        if self.close_content(place.state, place.open, missing, filler, out) {
            Piece::Ended(thread.stack)
        } else {
            Piece::Stuck
        }
    }

    pub(super) fn complete_text(&self, thread: Thread, place: StringPlace, filler: u8, out: &mut Vec<u8>) -> Piece {
        let missing = self.rules.bounds(place.bounds).min_chars.saturating_sub(place.chars);
        let before = out.len();
        // The front end leaves bounds beside a language only where every character is free.
        let mut state = place.state;
        for _ in 0..missing {
            state = self.expansion.lang_next(state, filler);
            out.push(filler);
        }
        if missing > 0 && state == DEAD {
            out.truncate(before);
            return Piece::Stuck;
        }
        if self.write_shortest(state, out) { Piece::Ended(thread.stack) } else { Piece::Stuck }
    }

    /// Writes the shortest way from a state of a language to a word, byte by byte.
    pub(super) fn write_shortest(&self, mut state: StateId, out: &mut Vec<u8>) -> bool {
        let mut left = self.expansion.lang_min_bytes(state);
        if left > LONGEST_SPELT {
            return false;
        }
        while left > 0 {
            let row = self.expansion.lang_row(state);
            let found = (0u8..=255).find(|&byte| {
                let next = row[byte];
                next != DEAD && self.expansion.lang_min_bytes(next) == left - 1
            });
            let Some(byte) = found else { return false };
            out.push(byte);
            state = row[byte];
            left -= 1;
        }
        true
    }

    /// Writes the shortest rest of a string or key that lacks so many characters, and its closing quote.
    pub(super) fn close_content(
        &self,
        mut state: StateId,
        open: u32,
        missing: u32,
        filler: u8,
        out: &mut Vec<u8>,
    ) -> bool {
        if open != PLAIN {
            match self.close_escape(state, open, out) {
                Some(next) => state = next,
                None => return false,
            }
        }
        for _ in 0..missing {
            // Bounds beside a language mean that every character is free, but a character may be half read.
            let mut left = self.expansion.lang_min_json_bytes(state);
            while left > 0 {
                let row = self.expansion.lang_row(state);
                let Some(byte) = (0x80..0xc0).find(|&byte: &u8| row[byte] != DEAD) else { break };
                out.push(byte);
                state = row[byte];
                left -= 1;
            }
            state = self.expansion.lang_next(state, filler);
            out.push(filler);
        }
        if state == DEAD || out.len() > LONGEST_COMPLETION {
            return false;
        }
        loop {
            let left = self.expansion.lang_min_json_bytes(state);
            if left == 0 {
                break;
            }
            if left > LONGEST_SPELT {
                return false;
            }
            let row = self.expansion.lang_row(state);
            let mut spelt = Vec::new();
            let found = std::iter::once(filler).chain(0u8..=255).find(|&byte| {
                let next = row[byte];
                next != DEAD && {
                    spelt.clear();
                    escape::write_canonical(&[byte], &mut spelt);
                    let rest = self.expansion.lang_min_json_bytes(next);
                    rest.saturating_add(u32::try_from(spelt.len()).unwrap_or(ENDLESS)) == left
                }
            });
            let Some(byte) = found else { return false };
            out.extend_from_slice(&spelt);
            state = row[byte];
        }
        out.push(b'"');
        true
    }

    /// Writes the rest of a half-read escape, so that what follows is shortest; the state after it.
    fn close_escape(&self, state: StateId, open: u32, out: &mut Vec<u8>) -> Option<StateId> {
        let row = self.expansion.lang_row(state);
        let mut best: Option<(u32, Vec<u8>, StateId)> = None;
        let free = self.escapes == Escapes::Canonical && state == UNIVERSAL;
        for byte in b"\"\\\n\t".iter().copied().chain(0..0x20).chain(b'a'..=b'z') {
            let next = row[byte];
            if next == DEAD || free && !matches!(byte, b'"' | b'\\' | b'\n' | b'\t') {
                continue;
            }
            for rest in escape::rests(char::from(byte), open, self.escapes) {
                let total = self.expansion.lang_min_json_bytes(next).saturating_add(u32::try_from(rest.len()).ok()?);
                if best.as_ref().is_none_or(|(least, _, _)| total < *least) {
                    best = Some((total, rest, next));
                }
            }
        }
        if best.is_none() && self.escapes == Escapes::Any {
            // Some digits of a code point are fixed already: any end that the language takes.
            best = self.any_escape(state, open, &mut Vec::new());
        }
        let (_, rest, next) = best?;
        out.extend_from_slice(&rest);
        Some(next)
    }

    /// A rest of an escape in any of JSON's spellings, first found.
    fn any_escape(&self, state: StateId, open: u32, spelt: &mut Vec<u8>) -> Option<(u32, Vec<u8>, StateId)> {
        for &byte in b"0123456789abcdef\\u" {
            spelt.push(byte);
            match escape::step(open, byte, self.escapes) {
                Spelt::Bad => {}
                Spelt::Open(next) => {
                    if let Some(found) = self.any_escape(state, next, spelt) {
                        return Some(found);
                    }
                }
                Spelt::Char(c) => {
                    let mut next = state;
                    for &byte in c.encode_utf8(&mut [0; 4]).as_bytes() {
                        next = self.expansion.lang_next(next, byte);
                    }
                    if next != DEAD {
                        return Some((0, spelt.clone(), next));
                    }
                }
            }
            spelt.pop();
        }
        None
    }

    pub(super) fn saturate_string(&self, mut place: StringPlace, longest: u32) -> StringPlace {
        let bounds = self.rules.bounds(place.bounds);
        let (min, max) = (bounds.min_chars, bounds.max_chars.unwrap_or(u32::MAX));
        if place.chars < min && min - place.chars > longest {
            place.chars = 0;
        } else if place.chars >= min && max.saturating_sub(place.chars) > longest {
            place.chars = min;
        }
        place.state = self.expansion.lang_horizon(place.state, longest);
        place
    }

    pub(super) fn least_string(&self, bounds: u32) -> LeastShape {
        let (lang, min) = {
            let bounds = self.rules.bounds(bounds);
            (bounds.lang, bounds.min_chars)
        };
        let start = self.expansion.lang_start(lang);
        LeastShape::of_bytes(self.expansion.lang_min_json_bytes(start).max(min).saturating_add(2))
    }
}
