//! In a number: a language of literals, which ends at the byte after it.

use super::least::LeastShape;
use super::{Bytes, Checks, Machine, Piece};
use crate::constraint::frame::{Frame, Thread};
use crate::grammar::{DEAD, StateId};

/// The bytes that numbers are made of.
const LITERAL: &[u8] = b"+-.0123456789eE";
/// What may follow a number within a container, white space apart.
const AFTER: &[u8] = b",]}";

impl Machine {
    pub(super) fn number(
        &self,
        thread: Thread,
        state: StateId,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        let next = self.expansion.lang_next(state, byte);
        if next != DEAD {
            out.push(thread.at(Frame::Number { state: next }));
        }
        if !LITERAL.contains(&byte) && self.expansion.lang_accepts(state) {
            let mut after = Vec::new();
            self.finish(thread, true, checks, &mut after);
            for parent in after {
                self.step(parent, byte, out, checks);
            }
        }
    }

    pub(super) fn hint_number(&self, state: StateId, bytes: &mut Bytes) -> bool {
        let row = self.expansion.lang_row(state);
        LITERAL.iter().filter(|&&byte| row[byte] != DEAD).for_each(|&byte| bytes.add(byte));
        if self.expansion.lang_accepts(state) {
            bytes.add_all(AFTER);
        }
        true
    }

    pub(super) fn complete_number(&self, thread: Thread, state: StateId, out: &mut Vec<u8>) -> Piece {
        if self.write_shortest(state, out) { Piece::Ended(thread.stack) } else { Piece::Stuck }
    }

    pub(super) fn least_number(&self, state: StateId) -> LeastShape {
        LeastShape::of_bytes(self.expansion.lang_min_bytes(state))
    }
}
