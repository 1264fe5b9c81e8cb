//! Before a value, and in `null`, `true` and `false`.

use super::{Bytes, Checks, DEEPEST, Machine, Piece};
use crate::constraint::frame::{Frame, ItemsPlace, Thread};
use crate::constraint::rules::{Alternative, Constant, First, Start};
use crate::grammar::{DEAD, NodeId};

impl Machine {
    pub(super) fn value(&self, thread: Thread, node: NodeId, byte: u8, out: &mut Vec<Thread>) {
        let Some(first) = First::of(byte) else {
            if self.is_blank(byte) {
                out.push(thread);
            }
            return;
        };
        for &alternative in &self.rules.alternatives(node, &self.expansion)[first as usize] {
            self.begin(thread, node, alternative, byte, out);
        }
    }

    fn begin(&self, thread: Thread, node: NodeId, alternative: Alternative, byte: u8, out: &mut Vec<Thread>) {
        let frame = match alternative.start {
            Start::Constant(which) => Frame::Constant { read: 1, which },
            Start::Number(state) => match self.expansion.lang_next(state, byte) {
                DEAD => return,
                state => Frame::Number { state },
            },
            Start::String(bounds) => Frame::String(self.string_start(bounds)),
            Start::Array(_) | Start::Object(_)
                if self.is_deep(thread.stack) && !self.may_nest(thread, node, alternative) =>
            {
                return;
            }
            Start::Array(array) => Frame::ArrayOpen { blank: 0, items: ItemsPlace::first(array) },
            Start::Object(object) => Frame::ObjectOpen { blank: 0, object: self.rules.open(object) },
        };
        out.push(self.under_guards(thread.at(frame), alternative));
    }

    /// The thread with the guards of its shape below it.
    fn under_guards(&self, mut thread: Thread, alternative: Alternative) -> Thread {
        if let Some(guards) = alternative.guards {
            thread.stack = self.push(Frame::Guard { guards }, thread.stack);
        }
        thread
    }

    /// A container may be opened although containers nest as deep as is set.
    fn may_nest(&self, thread: Thread, node: NodeId, alternative: Alternative) -> bool {
        self.stacks.depth(thread.stack) < DEEPEST && self.least_alternative(node) == Some(alternative)
    }

    pub(super) fn hint_value(&self, node: NodeId, bytes: &mut Bytes) -> bool {
        for (first, alternatives) in First::ALL.iter().zip(self.rules.alternatives(node, &self.expansion)) {
            if !alternatives.is_empty() {
                bytes.add_all(first.bytes());
            }
        }
        true
    }

    /// Begins the least value of a node.
    pub(super) fn complete_value(&self, thread: Thread, node: NodeId, out: &mut Vec<u8>) -> Piece {
        let Some(chosen) = self.least_alternative(node) else { return Piece::Stuck };
        let frame = match chosen.start {
            Start::Constant(which) => Frame::Constant { read: 0, which },
            Start::Number(state) => Frame::Number { state },
            Start::String(bounds) => {
                out.extend_from_slice(First::String.bytes());
                Frame::String(self.string_start(bounds))
            }
            Start::Array(_) | Start::Object(_) if self.stacks.depth(thread.stack) >= DEEPEST => return Piece::Stuck,
            Start::Array(array) => {
                out.extend_from_slice(First::Array.bytes());
                Frame::ArrayOpen { blank: 0, items: ItemsPlace::first(array) }
            }
            Start::Object(object) => {
                out.extend_from_slice(First::Object.bytes());
                Frame::ObjectOpen { blank: 0, object: self.rules.open(object) }
            }
        };
        Piece::Next(self.under_guards(thread.at(frame), chosen))
    }

    pub(super) fn constant(
        &self,
        thread: Thread,
        read: u16,
        which: Constant,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        let spelling = which.spelling();
        if spelling[usize::from(read)] != byte {
            return;
        }
        let read = read + 1;
        if usize::from(read) == spelling.len() {
            self.finish(thread, false, checks, out);
        } else {
            out.push(thread.at(Frame::Constant { read, which }));
        }
    }
}

pub(super) fn hint_constant(bytes: &mut Bytes) -> bool {
    for which in [Constant::Null, Constant::False, Constant::True] {
        bytes.add_all(which.spelling());
    }
    true
}

pub(super) fn complete_constant(thread: Thread, read: u16, which: Constant, out: &mut Vec<u8>) -> Piece {
    out.extend_from_slice(&which.spelling()[usize::from(read)..]);
    Piece::Ended(thread.stack)
}
