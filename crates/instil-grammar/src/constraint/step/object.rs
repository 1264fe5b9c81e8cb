//! How the places inside an object move: keys by name and by language, colons, members.

use super::super::Whitespace;
use super::super::escape::{self, Escapes, PLAIN, Step};
use super::super::frame::{Frame, Kind, Thread};
use super::super::rules::{REST, other};
use super::{Check, Checks, Machine, Verdict};
use crate::grammar::{DEAD, NodeId, UNIVERSAL};

impl Machine {
    pub(super) fn object_start(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
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

    pub(super) fn member_key(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>) {
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
    pub(super) fn narrow(&self, frame: Frame, bytes: &[u8]) -> Option<Frame> {
        let frame = self.narrow_all(frame, bytes)?;
        self.rules.state(frame.a).any_allowed(frame.b, frame.c).then_some(frame)
    }

    /// The names that go on with these bytes, if any.
    pub(super) fn narrow_all(&self, mut frame: Frame, bytes: &[u8]) -> Option<Frame> {
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
    pub(super) fn controls_ahead(&self, frame: Frame, open: u32) -> bool {
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

    pub(super) fn other_key(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
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

    pub(super) fn colon(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>) {
        let Thread { frame, stack } = thread;
        let spaced = matches!(self.whitespace, Whitespace::Spaced | Whitespace::Pretty);
        match (frame.pos, byte) {
            (0, b':') if spaced => out.push(Thread { frame: Frame { pos: 1, ..frame }, stack }),
            (0, b':') | (1, b' ') => out.push(Thread { frame: frame.turn(Kind::Value), stack }),
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    pub(super) fn object_after(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
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
}
