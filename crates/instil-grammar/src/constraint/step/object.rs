//! In an object: before its keys, between a key and its value, after a value. Keys themselves are in `key`.

use super::least::{LeastBytes, LeastShape};
use super::{Bytes, Checks, ENDLESS, Machine, Piece};
use crate::constraint::escape::PLAIN;
use crate::constraint::frame::{Frame, NamePlace, ObjectId, Thread};
use crate::constraint::rules::other;
use crate::grammar::NodeId;

/// Least values longer than this are not looked for.
pub(super) const LONGEST_LEAST: u32 = 1 << 20;

impl Machine {
    pub(super) fn object_open(
        &self,
        thread: Thread,
        blank: u16,
        object: ObjectId,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        if blank == 0 && byte == b'}' {
            if self.rules.state(object).closable {
                self.finish(thread, false, checks, out);
            }
        } else if self.takes_key(thread, object) {
            self.before_key(thread, (blank, self.indent(thread.stack, 1)), object, byte, out);
        } else if self.is_blank(byte) {
            out.push(thread);
        }
    }

    pub(super) fn object_comma(&self, thread: Thread, blank: u16, object: ObjectId, byte: u8, out: &mut Vec<Thread>) {
        if self.takes_key(thread, object) {
            self.before_key(thread, (blank, self.comma_width(thread.stack)), object, byte, out);
        }
    }

    /// One more key may come, be it in the schema, be it for how deep the object is.
    fn takes_key(&self, thread: Thread, object: ObjectId) -> bool {
        let state = self.rules.state(object);
        (state.members || state.others) && !(state.closable && self.is_deep(thread.stack))
    }

    /// Before a key, `blank` bytes of its fixed white space having been read.
    fn before_key(
        &self,
        thread: Thread,
        (blank, width): (u16, u16),
        object: ObjectId,
        byte: u8,
        out: &mut Vec<Thread>,
    ) {
        if blank < width {
            self.blank(thread, blank, byte, out);
        } else if byte == b'"' {
            let low = out.len();
            self.open_key(thread, object, out);
            if self.is_deep(thread.stack) {
                self.keep_least_key(object, out, low);
            }
        } else if self.is_blank(byte) {
            out.push(thread);
        }
    }

    pub(super) fn colon(&self, thread: Thread, colon: bool, node: NodeId, byte: u8, out: &mut Vec<Thread>) {
        match (colon, byte) {
            (false, b':') if self.is_spaced() => out.push(thread.at(Frame::Colon { colon: true, node })),
            (false, b':') | (true, b' ') => out.push(thread.at(Frame::Value { node })),
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    pub(super) fn object_after(
        &self,
        thread: Thread,
        object: ObjectId,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        match byte {
            b',' if self.takes_key(thread, object) => out.push(thread.at(Frame::ObjectComma { blank: 0, object })),
            b'}' if self.rules.state(object).closable && !self.is_pretty() => self.finish(thread, false, checks, out),
            b'\n' if self.rules.state(object).closable && self.is_pretty() => {
                out.push(thread.at(Frame::ObjectClose { blank: 1, object }));
            }
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    pub(super) fn object_close(
        &self,
        thread: Thread,
        blank: u16,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        if blank < self.indent(thread.stack, 0) {
            self.blank(thread, blank, byte, out);
        } else if byte == b'}' {
            self.finish(thread, false, checks, out);
        }
    }

    pub(super) fn complete_object_open(
        &self,
        thread: Thread,
        blank: u16,
        object: ObjectId,
        out: &mut Vec<u8>,
    ) -> Piece {
        if blank == 0 && self.rules.state(object).closable {
            out.push(b'}');
            return Piece::Ended(thread.stack);
        }
        self.write_blank(blank, self.indent(thread.stack, 1), out);
        self.complete_to_key(thread, object, out)
    }

    pub(super) fn complete_object_comma(
        &self,
        thread: Thread,
        blank: u16,
        object: ObjectId,
        out: &mut Vec<u8>,
    ) -> Piece {
        self.write_blank(blank, self.comma_width(thread.stack), out);
        self.complete_to_key(thread, object, out)
    }

    /// Opens the key that is nearest to the end.
    fn complete_to_key(&self, thread: Thread, object: ObjectId, out: &mut Vec<u8>) -> Piece {
        out.push(b'"');
        let mut opened = Vec::new();
        self.open_key(thread, object, &mut opened);
        let state = self.rules.state(object);
        let (named, nearest) = (state.members_first, state.nearest_other);
        let fallback = opened.first().copied();
        let chosen = opened.into_iter().find(|thread| match thread.frame {
            Frame::OtherKey(place) => !named && place.which == nearest,
            _ => named,
        });
        chosen.or(fallback).map_or(Piece::Stuck, Piece::Next)
    }

    pub(super) fn complete_colon(&self, thread: Thread, colon: bool, node: NodeId, out: &mut Vec<u8>) -> Piece {
        if !colon {
            out.push(b':');
        }
        if self.is_spaced() {
            out.push(b' ');
        }
        Piece::Next(thread.at(Frame::Value { node }))
    }

    pub(super) fn complete_object_after(&self, thread: Thread, object: ObjectId, out: &mut Vec<u8>) -> Piece {
        if self.rules.state(object).closable {
            return Piece::Next(thread.at(Frame::ObjectClose { blank: 0, object }));
        }
        out.push(b',');
        Piece::Next(thread.at(Frame::ObjectComma { blank: 0, object }))
    }

    pub(super) fn complete_object_close(&self, thread: Thread, blank: u16, out: &mut Vec<u8>) -> Piece {
        self.write_blank(blank, self.indent(thread.stack, 0), out);
        out.push(b'}');
        Piece::Ended(thread.stack)
    }

    pub(super) fn least_object(&self, object: u32, known: &LeastBytes) -> LeastShape {
        let mut state = self.rules.open(object);
        // The brackets; then for each member two quotes, a colon, a comma, and white space.
        let mut least = LeastShape::of_bytes(2);
        while !self.rules.state(state).closable {
            let rules = self.rules.state(state);
            let member = if rules.members_first {
                let high = u32::try_from(self.rules.object_of(state).names.len()).unwrap_or(u32::MAX);
                let names = NamePlace { object: state, low: 0, high, open: PLAIN };
                let candidates = self.candidates(names);
                let Some(member) = self.least_of(names, &candidates, known) else { return LeastShape::endless() };
                let object = self.rules.object_of(state);
                if candidates.len() > 1 {
                    least.candidates.extend(candidates.iter().map(|&member| object.node(member)));
                }
                least.add(object.node(member));
                let name = u32::try_from(object.names[member as usize].len()).unwrap_or(ENDLESS);
                least.fixed = least.fixed.saturating_add(name);
                member
            } else if rules.others {
                let which = rules.nearest_other;
                least.add(self.rules.object_of(state).other_node(which));
                other(which)
            } else {
                return LeastShape::endless();
            };
            least.fixed = least.fixed.saturating_add(6);
            let next = self.rules.with_member(state, member);
            if next == state && least.fixed > LONGEST_LEAST {
                return LeastShape::endless();
            }
            state = next;
        }
        least
    }
}

pub(super) fn hint_before_key(bytes: &mut Bytes) -> bool {
    bytes.add_all(b"}\"");
    true
}

pub(super) fn hint_colon(bytes: &mut Bytes) -> bool {
    bytes.add(b':');
    true
}

pub(super) fn hint_after(bytes: &mut Bytes) -> bool {
    bytes.add_all(b",}");
    true
}
