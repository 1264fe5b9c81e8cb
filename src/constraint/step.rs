//! One byte further: how each kind of frame moves. The heart of the engine, and the only place that
//! knows what JSON text looks like under the chosen style.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::classes::CLASSES;
use super::escape::{self, Escapes, PLAIN, Step};
use super::frame::{BOTTOM, Frame, Kind, StackId, Stacks, Thread};
use super::least::Least;
use super::over_language::Run;
use super::rules::{Alternative, First, NO_GUARDS, REST, Rules, other};
use super::{MOST_DEPTH, Settings, Whitespace};
use crate::grammar::{Contains, DEAD, Expansion, GuardId, ItemPlace, ItemPlan, NodeId, Root, StateId, UNIVERSAL};

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

    fn object_start(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        let state = self.rules.state(frame.a);
        let open = frame.kind == Kind::ObjectOpen;
        if open && frame.pos == 0 && byte == b'}' {
            if state.closable {
                self.finish(frame, stack, false, checks, out);
            }
            return;
        }
        if !state.members && !state.others || state.closable && self.is_deep(stack) {
            if open && self.is_blank(byte) {
                out.push(thread);
            }
            return;
        }
        let width = if open { self.indent(stack, 1) } else { self.comma_width(stack) };
        if frame.pos < width {
            self.blank(thread, byte, out);
        } else if byte == b'"' {
            let low = out.len();
            self.open_key(thread, out);
            if self.is_deep(stack) {
                self.keep_least_key(frame.a, out, low);
            }
        } else if self.is_blank(byte) {
            out.push(thread);
        }
    }

    pub(crate) fn open_key(&mut self, thread: Thread, out: &mut Vec<Thread>) {
        let Thread { frame, stack } = thread;
        let below = self.stacks.push(frame.turn(Kind::ObjectKey), stack);
        let state = self.rules.state(frame.a);
        let (object, members, others) = (state.object, state.members, state.others);
        let conditional = frame.conditional;
        let rules = &self.rules.objects[object as usize];
        let end = u32::try_from(rules.names.len()).unwrap_or(u32::MAX);
        if others && rules.rest.is_some() {
            let key = if end == 0 {
                Frame { b: UNIVERSAL, c: object, ..Frame::new(Kind::OtherKey, REST) }
            } else {
                Frame { c: end, ..Frame::new(Kind::AnyKey, frame.a) }
            };
            out.push(Thread { frame: Frame { conditional, ..key }, stack: below });
            return;
        }
        if members {
            let key = Frame { conditional, c: end, ..Frame::new(Kind::MemberKey, frame.a) };
            out.push(Thread { frame: key, stack: below });
        }
        if others {
            for at in 0..self.rules.objects[object as usize].others.len() {
                let (lang, _) = self.rules.objects[object as usize].others[at];
                let start = self.expansion.lang_start(lang);
                let which = u32::try_from(at).unwrap_or(u32::MAX);
                if start != DEAD && self.rules.state(frame.a).other_allowed(which) {
                    let key = Frame { conditional, b: start, c: object, ..Frame::new(Kind::OtherKey, which) };
                    out.push(Thread { frame: key, stack: below });
                }
            }
        }
    }

    fn member_key(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>) {
        let Thread { frame, stack } = thread;
        let next = if frame.d == PLAIN {
            match byte {
                b'"' => {
                    let rules = self.rules.object_of(frame.a);
                    let (member, node) = (frame.b, rules.nodes[frame.b as usize]);
                    let whole = rules.names[member as usize].len() == frame.pos as usize;
                    if whole && self.rules.state(frame.a).any_allowed(member, member + 1) {
                        self.close_key(thread, frame.a, member, node, out);
                    }
                    return;
                }
                b'\\' => {
                    let escapable = self.escapes == Escapes::Any
                        || (0..0x20).chain([b'"', b'\\']).any(|c| self.narrow(frame, &[c]).is_some());
                    escapable.then_some(Frame { d: escape::BACKSLASH, ..frame })
                }
                0..0x20 => None,
                _ => self.narrow(frame, &[byte]),
            }
        } else {
            match escape::step(frame.d, byte, self.escapes) {
                Step::Bad => None,
                Step::Open(d) => Some(Frame { d, ..frame }),
                Step::Char(c) => self.narrow(Frame { d: PLAIN, ..frame }, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        };
        if let Some(frame) = next {
            out.push(Thread { frame, stack });
        }
    }

    /// The names that go on with these bytes, when one of them may follow.
    fn narrow(&self, frame: Frame, bytes: &[u8]) -> Option<Frame> {
        let frame = self.narrow_all(frame, bytes)?;
        self.rules.state(frame.a).any_allowed(frame.b, frame.c).then_some(frame)
    }

    /// The names that go on with these bytes, if any.
    fn narrow_all(&self, mut frame: Frame, bytes: &[u8]) -> Option<Frame> {
        let names = &self.rules.object_of(frame.a).names;
        for &byte in bytes {
            let at = frame.pos as usize;
            let range = &names[frame.b as usize..frame.c as usize];
            if let [name] = range {
                if name.get(at) != Some(&byte) {
                    return None;
                }
            } else {
                let low = range.partition_point(|name| name.get(at).is_none_or(|&b| b < byte));
                let high = low + range[low..].partition_point(|name| name.get(at) == Some(&byte));
                frame.c = frame.b + u32::try_from(high).ok()?;
                frame.b += u32::try_from(low).ok()?;
            }
            frame.pos = frame.pos.checked_add(1)?;
        }
        (frame.b < frame.c).then_some(frame)
    }

    pub(crate) fn any_key(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        let mut spelt = [0; 4];
        let (bytes, frame): (&[u8], Frame) = if frame.d == PLAIN {
            match byte {
                b'"' => {
                    let rules = self.rules.object_of(frame.a);
                    if rules.names[frame.b as usize].len() == frame.pos as usize {
                        let (member, node) = (frame.b, rules.nodes[frame.b as usize]);
                        if self.rules.state(frame.a).any_allowed(member, member + 1) {
                            self.close_key(thread, frame.a, member, node, out);
                        }
                    } else {
                        let other = self.diverged(frame, &[]);
                        self.other_key(Thread { frame: other, stack }, byte, out, checks);
                    }
                    return;
                }
                b'\\' => {
                    // Not within a character: the bytes read end one.
                    if self.diverged(frame, &[]).b == UNIVERSAL {
                        out.push(Thread { frame: Frame { d: escape::BACKSLASH, ..frame }, stack });
                    }
                    return;
                }
                0..0x20 => return,
                _ => (&[byte], frame),
            }
        } else {
            match escape::step(frame.d, byte, self.escapes) {
                Step::Bad => return,
                Step::Open(d) => {
                    // Canonical hexadecimal escapes are for controls, which free keys do not hold.
                    let live = self.escapes == Escapes::Any || self.controls_ahead(frame, d);
                    if live {
                        out.push(Thread { frame: Frame { d, ..frame }, stack });
                    }
                    return;
                }
                Step::Char(c) => {
                    let frame = Frame { d: PLAIN, ..frame };
                    let bytes = c.encode_utf8(&mut spelt).as_bytes();
                    let usual = matches!(c, '"' | '\\' | '\n' | '\t') || self.escapes == Escapes::Any;
                    if !usual && self.narrow(frame, bytes).is_none() {
                        return;
                    }
                    (bytes, frame)
                }
            }
        };
        let next = match self.narrow_all(frame, bytes) {
            Some(next) => next,
            None => self.diverged(frame, bytes),
        };
        if next.kind == Kind::AnyKey || next.b != DEAD {
            out.push(Thread { frame: next, stack });
        }
    }

    /// Some name that may follow goes on with a control character spelt by these open digits.
    fn controls_ahead(&self, frame: Frame, open: u32) -> bool {
        let plain = Frame { d: PLAIN, ..frame };
        (0..0x20u8).any(|byte| self.narrow(plain, &[byte]).is_some() && escape::is_control_ahead(byte, open))
    }

    /// The key as one that is no name, after the bytes that a name shares and some more.
    pub(crate) fn diverged(&mut self, frame: Frame, bytes: &[u8]) -> Frame {
        let rules = self.rules.object_of(frame.a);
        let name = &rules.names[frame.b as usize];
        let shared = &name[..(frame.pos as usize).min(name.len())];
        // The bytes since the last character that is whole.
        let start = shared.iter().rposition(|&byte| byte & 0xc0 != 0x80).unwrap_or(0);
        let tail: [u8; 4] = std::array::from_fn(|at| shared.get(start + at).copied().unwrap_or(0));
        let len = (shared.len() - start).min(4);
        let mut state = UNIVERSAL;
        for &byte in tail[..len].iter().chain(bytes) {
            state = self.expansion.lang_next(state, byte);
        }
        let object = self.rules.state(frame.a).object;
        Frame { conditional: frame.conditional, b: state, c: object, d: frame.d, ..Frame::new(Kind::OtherKey, REST) }
    }

    fn other_key(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        if frame.d == PLAIN && byte == b'"' {
            if !self.expansion.lang_accepts(frame.b) {
                return;
            }
            let mut thread = thread;
            let (key, _) = self.stacks.pop(stack);
            if self.rules.state(key.a).has_others {
                match checks.value(false, Check::UniqueKey, &mut self.expansion) {
                    Verdict::Yes => {}
                    Verdict::No => return,
                    Verdict::Depends => thread.frame.conditional = true,
                }
            }
            let node = self.rules.objects[frame.c as usize].other_node(frame.a);
            self.close_key(thread, key.a, other(frame.a), node, out);
        } else if let Some((b, d)) = self.content(frame.b, frame.d, byte) {
            out.push(Thread { frame: Frame { b, d, ..frame }, stack });
        }
    }

    /// After the closing quote of a key.
    pub(crate) fn close_key(&mut self, thread: Thread, state: u32, member: u32, node: NodeId, out: &mut Vec<Thread>) {
        let (_, below) = self.stacks.pop(thread.stack);
        let after = self.rules.with_member(state, member);
        let stack = self.stacks.push(Frame::new(Kind::ObjectAfter, after), below);
        let frame = Frame { conditional: thread.frame.conditional, ..Frame::new(Kind::Colon, node) };
        out.push(Thread { frame, stack });
    }

    fn colon(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>) {
        let Thread { frame, stack } = thread;
        let spaced = matches!(self.whitespace, Whitespace::Spaced | Whitespace::Pretty);
        match (frame.pos, byte) {
            (0, b':') if spaced => out.push(Thread { frame: Frame { pos: 1, ..frame }, stack }),
            (0, b':') | (1, b' ') => out.push(Thread { frame: frame.turn(Kind::Value), stack }),
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    fn object_after(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        let state = self.rules.state(frame.a);
        match byte {
            b',' if (state.members || state.others) && !(state.closable && self.is_deep(stack)) => {
                out.push(Thread { frame: frame.turn(Kind::ObjectComma), stack });
            }
            b'}' if state.closable && self.whitespace != Whitespace::Pretty => {
                self.finish(frame, stack, false, checks, out);
            }
            b'\n' if state.closable && self.whitespace == Whitespace::Pretty => {
                out.push(Thread { frame: Frame { kind: Kind::ObjectClose, pos: 1, ..frame }, stack });
            }
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    fn array_start(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        let open = frame.kind == Kind::ArrayOpen;
        if open && frame.pos == 0 && byte == b']' {
            if self.array_closable(frame) {
                self.finish(frame, stack, false, checks, out);
            }
            return;
        }
        let deep = self.is_deep(stack);
        if open && deep && self.array_closable(frame) {
            return;
        }
        let width = if open { self.indent(stack, 1) } else { self.comma_width(stack) };
        if frame.pos < width {
            if !open || self.array_open(frame) {
                self.blank(thread, byte, out);
            }
        } else if self.is_blank(byte) {
            out.push(thread);
        } else {
            let items = self.items(frame);
            for (node, after) in items.into_iter().take(if deep { 1 } else { usize::MAX }) {
                let stack = self.stacks.push(after, stack);
                let frame = Frame { conditional: frame.conditional, ..Frame::new(Kind::Value, node) };
                self.value(Thread { frame, stack }, byte, out);
            }
        }
    }

    fn array_after(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        let Thread { frame, stack } = thread;
        match byte {
            b',' if self.array_open(frame) && !(self.is_deep(stack) && self.array_closable(frame)) => {
                out.push(Thread { frame: frame.turn(Kind::ArrayComma), stack });
            }
            b']' if self.whitespace != Whitespace::Pretty && self.array_closable(frame) => {
                self.finish(frame, stack, false, checks, out);
            }
            b'\n' if self.whitespace == Whitespace::Pretty && self.array_closable(frame) => {
                out.push(Thread { frame: Frame { kind: Kind::ArrayClose, pos: 1, ..frame }, stack });
            }
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    /// The counter of one `contains` in an array's frame.
    fn counter(frame: Frame, which: usize) -> u32 {
        let word = if which < 2 { frame.c } else { frame.d };
        word >> (16 * (which % 2)) & 0xffff
    }

    /// The array may end here.
    pub(crate) fn array_closable(&self, frame: Frame) -> bool {
        let array = self.rules.array(frame.a);
        let counted = |(at, contains): (usize, &Contains)| Self::counter(frame, at) >= contains.min;
        frame.b >= array.min_items && array.contains.iter().enumerate().all(counted)
    }

    /// One more item may follow.
    fn array_open(&mut self, frame: Frame) -> bool {
        let array = self.rules.array(frame.a);
        if array.max_items.is_some_and(|max| frame.b >= max) {
            return false;
        }
        if array.contains.is_empty() {
            let node = array.prefix.get(frame.b as usize).copied().unwrap_or(array.items);
            return !self.expansion.is_empty(node);
        }
        !self.items(frame).is_empty()
    }

    /// What the next item may be, with the place after it: one entry for each choice of the `contains`
    /// obligations that it counts for. The first leads to the end with fewest items.
    pub(crate) fn items(&mut self, frame: Frame) -> Vec<(NodeId, Frame)> {
        let array = self.rules.array(frame.a);
        if array.max_items.is_some_and(|max| frame.b >= max) {
            return Vec::new();
        }
        let fixed = u32::try_from(array.prefix.len()).unwrap_or(u32::MAX);
        let cap = fixed.max(array.min_items).max(array.max_items.unwrap_or(0)).max(2);
        let after = Frame { conditional: false, b: (frame.b + 1).min(cap), ..frame.turn(Kind::ArrayAfter) };
        if !array.values.is_empty() {
            let used = u64::from(frame.c) | u64::from(frame.d) << 32;
            let unused = (0..).zip(&array.values).filter(|(at, _)| used >> at & 1 == 0);
            let taken = |at: u32| {
                let used = used | 1 << at;
                Frame { c: used as u32, d: (used >> 32) as u32, ..after }
            };
            return unused.map(|(at, &node)| (node, taken(at))).collect();
        }
        if array.contains.is_empty() {
            let node = array.prefix.get(frame.b as usize).copied().unwrap_or(array.items);
            return vec![(node, after)];
        }
        let array = array.clone();
        let mut choices = self.expansion.item_choices(&array, Self::place(frame));
        let plan = self.plans.entry(frame.a).or_default();
        let mut needed = |place| self.expansion.items_needed(&array, place, plan);
        choices.retain(|&(_, place)| needed(place).is_some());
        // The nearest to the end comes first, and of those what counts for least.
        choices.reverse();
        choices.sort_by_cached_key(|&(_, place)| needed(place));
        let word = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let frame = |place: ItemPlace| {
            let [c0, c1, d0, d1] = place.counts;
            Frame { c: word(c0, c1), d: word(d0, d1), ..after }
        };
        choices.into_iter().map(|(node, place)| (node, frame(place))).collect()
    }

    /// Where an array's frame stands.
    fn place(frame: Frame) -> ItemPlace {
        let counts = [0, 1, 2, 3].map(|which| u16::try_from(Self::counter(frame, which)).unwrap_or(u16::MAX));
        ItemPlace { items: frame.b, counts }
    }
}
