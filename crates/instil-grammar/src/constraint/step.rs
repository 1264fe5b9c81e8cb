//! One byte further: how each kind of frame moves. The heart of the engine, and the only place that
//! knows what JSON text looks like under the chosen style.

mod array;
mod object;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::classes::CLASSES;
use super::escape::{self, Escapes, PLAIN, Step};
use super::frame::{BOTTOM, Frame, Kind, StackId, Stacks, Thread};
use super::least::Least;
use super::over_language::Run;
use super::rules::{Alternative, First, NO_GUARDS, Rules};
use super::{MOST_DEPTH, Settings, Whitespace};
use crate::grammar::{DEAD, Expansion, GuardId, ItemPlan, Root, StateId, UNIVERSAL};

/// What a step meets that the bytes alone decide: uniqueness and guards.
pub(crate) trait Checks {
    /// A value has just ended; `end` bytes back from the byte being read (0: with it, 1: before it).
    fn value(&mut self, before: bool, check: Check<'_>, expansion: &mut Expansion) -> Verdict;
}

/// A question about the text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check<'a> {
    /// Do these hold for the value that has just ended?
    Guards(&'a [GuardId]),
    /// Does the item that has just ended differ from all items before it?
    UniqueItem,
    /// Does the key that has just ended differ from all keys before it?
    UniqueKey,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    No,
    /// It depends on the text; the thread is marked.
    Depends,
}

/// Answers that everything depends on the text.
pub(crate) struct Assume;

impl Checks for Assume {
    fn value(&mut self, _: bool, _: Check<'_>, _: &mut Expansion) -> Verdict {
        Verdict::Depends
    }
}

pub(crate) const LITERALS: [&[u8]; 3] = [b"null", b"false", b"true"];
/// More threads than this are united where they are in one frame.
const UNITED_ABOVE: usize = 8;
/// No completion opens a container within so many others.
pub(crate) const DEEPEST: u32 = 2 * MOST_DEPTH;

/// A grammar being run: expansion, rules and stacks, without any text.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) expansion: Expansion,
    pub(crate) rules: Rules,
    pub(crate) stacks: Stacks,
    pub(crate) whitespace: Whitespace,
    pub(crate) escapes: Escapes,
    /// Where the classes of characters lead, by state of a language.
    pub(crate) targets: FxHashMap<StateId, Arc<[StateId; CLASSES]>>,
    /// How tokens fare, by state of a language.
    pub(crate) runs: FxHashMap<StateId, Run>,
    /// Tokens that stay inside a string, by state of its language.
    pub(crate) stays: FxHashMap<StateId, Arc<[u32]>>,
    pub(crate) least: Least,
    /// Memory of the suffixes that walks have found, roughly.
    pub(crate) suffix_bytes: usize,
    /// Within so many containers, none is opened that a completion does not need.
    max_depth: u32,
    /// Items that arrays under `contains` still need, by array.
    plans: FxHashMap<u32, ItemPlan>,
}

impl Machine {
    pub(crate) fn new(expansion: Expansion, settings: &Settings) -> Self {
        Self {
            expansion,
            rules: Rules::new(settings.key_order),
            stacks: Stacks::new(),
            whitespace: settings.whitespace,
            escapes: settings.escapes,
            least: Least::default(),
            suffix_bytes: 0,
            max_depth: settings.max_depth.min(MOST_DEPTH),
            targets: FxHashMap::default(),
            runs: FxHashMap::default(),
            stays: FxHashMap::default(),
            plans: FxHashMap::default(),
        }
    }

    /// Memory held, roughly, but for sets of tokens.
    pub(crate) fn size_bytes(&self) -> usize {
        self.expansion.size_bytes()
            + self.rules.size_bytes()
            + self.stacks.size_bytes()
            + (4 * CLASSES + 48) * self.targets.len()
            + 48 * self.runs.len()
            + self.suffix_bytes
    }

    /// The threads before the first byte.
    pub(crate) fn start(&mut self) -> Vec<Thread> {
        match self.expansion.root() {
            Root::Json(node) => vec![Thread { frame: Frame::new(Kind::Value, node), stack: BOTTOM }],
            Root::Text(string) => {
                let state = self.expansion.lang_start(string.lang);
                let frame = Frame { b: state, ..Frame::new(Kind::Text, self.rules.string(&string)) };
                if state == DEAD { Vec::new() } else { vec![Thread { frame, stack: BOTTOM }] }
            }
        }
    }

    /// The text may end here.
    pub(crate) fn accepts(&self, thread: &Thread) -> bool {
        let frame = thread.frame;
        match frame.kind {
            Kind::Done => true,
            Kind::Number => thread.stack == BOTTOM && self.expansion.lang_accepts(frame.a),
            Kind::Text => {
                let bounds = &self.rules.strings[frame.a as usize];
                self.expansion.lang_accepts(frame.b)
                    && frame.c >= bounds.min_chars
                    && bounds.max_chars.is_none_or(|max| frame.c <= max)
            }
            _ => false,
        }
    }

    /// The text may end here after a number, once its guards are asked.
    pub(crate) fn ends(&mut self, thread: &Thread, checks: &mut dyn Checks) -> bool {
        thread.frame.kind == Kind::Number
            && self.stacks.depth(thread.stack) == 0
            && self.expansion.lang_accepts(thread.frame.a)
            && {
                let mut after = Vec::new();
                self.finish(thread.frame, thread.stack, true, checks, &mut after);
                !after.is_empty()
            }
    }

    /// Appends to `out` what a thread becomes after a byte.
    pub(crate) fn step(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        match frame.kind {
            Kind::Done => {
                if self.is_blank(byte) {
                    out.push(thread);
                }
            }
            Kind::Value => self.value(thread, byte, out),
            Kind::Literal => {
                let literal = LITERALS[frame.a as usize];
                let pos = frame.pos as usize;
                if literal[pos] == byte {
                    if pos + 1 == literal.len() {
                        self.finish(frame, stack, false, checks, out);
                    } else {
                        out.push(Thread { frame: Frame { pos: frame.pos + 1, ..frame }, stack });
                    }
                }
            }
            Kind::Number => {
                let next = self.expansion.lang_next(frame.a, byte);
                if next != DEAD {
                    out.push(Thread { frame: Frame { a: next, ..frame }, stack });
                }
                // A number ends at the byte after it.
                if !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                    && self.expansion.lang_accepts(frame.a)
                {
                    let mut after = Vec::new();
                    self.finish(frame, stack, true, checks, &mut after);
                    for parent in after {
                        self.step(parent, byte, out, checks);
                    }
                }
            }
            Kind::String => self.string(thread, byte, out, checks),
            Kind::Text => {
                let starts = byte & 0xc0 != 0x80;
                let bounds = &self.rules.strings[frame.a as usize];
                if starts && bounds.max_chars.is_some_and(|max| frame.c >= max) {
                    return;
                }
                let cap = bounds.max_chars.unwrap_or(bounds.min_chars);
                let next = self.expansion.lang_next(frame.b, byte);
                if next != DEAD {
                    let c = (frame.c + u32::from(starts)).min(cap);
                    out.push(Thread { frame: Frame { b: next, c, ..frame }, stack });
                }
            }
            Kind::ObjectOpen | Kind::ObjectComma => self.object_start(thread, byte, out, checks),
            Kind::MemberKey => self.member_key(thread, byte, out),
            Kind::AnyKey => self.any_key(thread, byte, out, checks),
            Kind::OtherKey => self.other_key(thread, byte, out, checks),
            Kind::Colon => self.colon(thread, byte, out),
            Kind::ObjectAfter => self.object_after(thread, byte, out, checks),
            Kind::ObjectClose | Kind::ArrayClose => {
                let close = if frame.kind == Kind::ObjectClose { b'}' } else { b']' };
                let width = self.indent(stack, 0);
                if frame.pos < width {
                    self.blank(thread, byte, out);
                } else if byte == close {
                    self.finish(frame, stack, false, checks, out);
                }
            }
            Kind::ArrayOpen | Kind::ArrayComma => self.array_start(thread, byte, out, checks),
            Kind::ArrayAfter => self.array_after(thread, byte, out, checks),
            Kind::ObjectKey | Kind::Guard | Kind::Union => {}
        }
    }

    /// A container on this stack is one of those at the greatest depth, which hold only what a completion needs.
    #[inline]
    fn is_deep(&self, stack: StackId) -> bool {
        self.stacks.depth(stack) >= self.max_depth
    }

    /// A container may be opened.
    fn may_nest(&mut self, thread: Thread, alternative: Alternative) -> bool {
        self.stacks.depth(thread.stack) < DEEPEST && self.least_alternative(thread.frame.a) == Some(alternative)
    }

    /// Free white space may stand here.
    #[inline]
    fn is_blank(&self, byte: u8) -> bool {
        self.whitespace == Whitespace::Flexible && matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
    }

    /// White space before an element, or (`extra` 0) before the closing bracket, of the container
    /// whose frame stands on `stack`.
    fn indent(&self, stack: StackId, extra: u32) -> u16 {
        match self.whitespace {
            Whitespace::Pretty => u16::try_from(1 + 2 * (self.stacks.depth(stack) + extra)).unwrap_or(u16::MAX),
            _ => 0,
        }
    }

    /// White space between a comma and the next element.
    fn comma_width(&self, stack: StackId) -> u16 {
        match self.whitespace {
            Whitespace::Compact | Whitespace::Flexible => 0,
            Whitespace::Spaced => 1,
            Whitespace::Pretty => self.indent(stack, 1),
        }
    }

    /// Writes what is left of the fixed white space before an element.
    pub(crate) fn blank_before_element(&self, frame: Frame, stack: StackId, out: &mut Vec<u8>) {
        let open = matches!(frame.kind, Kind::ObjectOpen | Kind::ArrayOpen);
        let width = if open { self.indent(stack, 1) } else { self.comma_width(stack) };
        self.write_blank(frame.pos, width, out);
    }

    /// Writes what is left of the fixed white space before a closing bracket.
    pub(crate) fn blank_before_close(&self, frame: Frame, stack: StackId, out: &mut Vec<u8>) {
        self.write_blank(frame.pos, self.indent(stack, 0), out);
    }

    fn write_blank(&self, from: u16, width: u16, out: &mut Vec<u8>) {
        for pos in from..width {
            out.push(if self.whitespace == Whitespace::Pretty && pos == 0 { b'\n' } else { b' ' });
        }
    }

    /// Reads one byte of fixed white space.
    fn blank(&self, thread: Thread, byte: u8, out: &mut Vec<Thread>) {
        let frame = thread.frame;
        let expected = if self.whitespace == Whitespace::Pretty && frame.pos == 0 { b'\n' } else { b' ' };
        if byte == expected {
            out.push(Thread { frame: Frame { pos: frame.pos + 1, ..frame }, ..thread });
        }
    }

    /// Appends to `out` what a thread becomes when a value has ended: guards are asked, and the enclosing place, or
    /// each of them, comes to the top.
    fn finish(&mut self, from: Frame, stack: StackId, before: bool, checks: &mut dyn Checks, out: &mut Vec<Thread>) {
        let mut conditional = from.conditional;
        let (mut frame, mut parent) = self.stacks.pop(stack);
        let mut here = stack;
        while frame.kind == Kind::Guard {
            let guards = &self.rules.guards[frame.a as usize];
            match checks.value(before, Check::Guards(guards), &mut self.expansion) {
                Verdict::Yes => {}
                Verdict::No => return,
                Verdict::Depends => conditional = true,
            }
            here = parent;
            (frame, parent) = self.stacks.pop(parent);
        }
        if let Some(members) = self.stacks.members(here) {
            for &member in members.iter() {
                self.finish(Frame { conditional, ..from }, member, before, checks, out);
            }
            return;
        }
        let array = (frame.kind == Kind::ArrayAfter && frame.b > 1).then(|| self.rules.array(frame.a));
        if array.is_some_and(|array| array.unique && array.values.is_empty()) {
            match checks.value(before, Check::UniqueItem, &mut self.expansion) {
                Verdict::Yes => {}
                Verdict::No => return,
                Verdict::Depends => conditional = true,
            }
        }
        out.push(Thread { frame: Frame { conditional, ..frame }, stack: parent });
    }

    /// Sorts the threads from `low` on and drops repeats; where they are many, those in one frame become one.
    pub(crate) fn unify(&mut self, threads: &mut Vec<Thread>, low: usize) {
        threads[low..].sort_unstable();
        let many = threads.len() - low > UNITED_ABOVE;
        let (mut kept, mut at) = (low, low);
        while at < threads.len() {
            let thread = threads[at];
            let same = threads[at..].partition_point(|other| other.frame <= thread.frame);
            let group = at..at + same;
            let is_key = matches!(thread.frame.kind, Kind::MemberKey | Kind::AnyKey | Kind::OtherKey);
            if many && !is_key && threads[group.end - 1].stack != thread.stack {
                let stack = self.stacks.unite(&threads[group.clone()]);
                threads[kept] = Thread { stack, ..thread };
                kept += 1;
            } else {
                for index in group.clone() {
                    if index == at || threads[index] != threads[kept - 1] {
                        threads[kept] = threads[index];
                        kept += 1;
                    }
                }
            }
            at = group.end;
        }
        threads.truncate(kept);
    }

    fn value(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>) {
        let Some(first) = First::of(byte) else {
            if self.is_blank(byte) {
                out.push(thread);
            }
            return;
        };
        let list = self.rules.alternatives(thread.frame.a, &mut self.expansion);
        let count = self.rules.list(list, first as usize).len();
        for at in 0..count {
            let alternative = self.rules.list(list, first as usize)[at];
            self.begin(thread, alternative, byte, out);
        }
    }

    fn begin(&mut self, thread: Thread, alternative: Alternative, byte: u8, out: &mut Vec<Thread>) {
        let conditional = thread.frame.conditional;
        let index = alternative.index;
        let frame = match alternative.first {
            First::Null | First::False | First::True => {
                Frame { pos: 1, ..Frame::new(Kind::Literal, alternative.first as u32) }
            }
            First::Number => match self.expansion.lang_next(index, byte) {
                DEAD => return,
                next => Frame::new(Kind::Number, next),
            },
            First::String => {
                let start = self.expansion.lang_start(self.rules.strings[index as usize].lang);
                Frame { b: start, ..Frame::new(Kind::String, index) }
            }
            First::Array | First::Object if self.is_deep(thread.stack) && !self.may_nest(thread, alternative) => return,
            First::Array => Frame::new(Kind::ArrayOpen, index),
            First::Object => Frame::new(Kind::ObjectOpen, self.rules.open(index)),
        };
        let stack = match alternative.guards {
            NO_GUARDS => thread.stack,
            guards => self.stacks.push(Frame::new(Kind::Guard, guards), thread.stack),
        };
        out.push(Thread { frame: Frame { conditional, ..frame }, stack });
    }

    fn string(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        let bounds = &self.rules.strings[frame.a as usize];
        let (min, max) = (bounds.min_chars, bounds.max_chars);
        if frame.d == PLAIN && byte == b'"' {
            if frame.c >= min && self.expansion.lang_accepts(frame.b) {
                self.finish(frame, stack, false, checks, out);
            }
            return;
        }
        let starts = frame.d == PLAIN && byte & 0xc0 != 0x80;
        if starts && max.is_some_and(|max| frame.c >= max) {
            return;
        }
        if let Some((b, d)) = self.content(frame.b, frame.d, byte) {
            let c = (frame.c + u32::from(starts)).min(max.unwrap_or(min));
            out.push(Thread { frame: Frame { b, c, d, ..frame }, stack });
        }
    }

    /// One byte inside a string over a language: state and open escape after it.
    #[inline]
    pub(crate) fn content(&mut self, state: StateId, open: u32, byte: u8) -> Option<(StateId, u32)> {
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
            Step::Bad => None,
            Step::Open(next) => {
                let live = self.escapes == Escapes::Any || state != UNIVERSAL && self.can_escape_hex(state, next);
                live.then_some((state, next))
            }
            Step::Char(c) => {
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
    fn can_escape(&mut self, state: StateId) -> bool {
        if state == UNIVERSAL {
            return true;
        }
        let row = self.expansion.lang_row(state);
        match self.escapes {
            // A character boundary is enough: `\u` spells everything.
            Escapes::Any => (0..0x80).chain(0xc2..0xf5).any(|byte| row[byte] != DEAD),
            Escapes::Canonical => (0..0x20).any(|byte| row[byte] != DEAD) || row[0x22] != DEAD || row[0x5c] != DEAD,
        }
    }

    /// Some control character that begins with the open hexadecimal digits leads on from a state.
    fn can_escape_hex(&mut self, state: StateId, open: u32) -> bool {
        let row = *self.expansion.lang_row(state);
        (0..0x20u8).any(|byte| row[byte as usize] != DEAD && escape::is_control_ahead(byte, open))
    }
}
