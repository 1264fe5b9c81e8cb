//! How the places inside an array move: items, and what is counted of them.

use super::super::Whitespace;
use super::super::frame::{Frame, Kind, Thread};
use super::{Checks, Machine};
use crate::grammar::{Contains, ItemPlace, NodeId};

impl Machine {
    pub(super) fn array_start(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
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

    pub(super) fn array_after(&mut self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
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
    pub(super) fn counter(frame: Frame, which: usize) -> u32 {
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
    pub(super) fn array_open(&mut self, frame: Frame) -> bool {
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
    pub(super) fn place(frame: Frame) -> ItemPlace {
        let counts = [0, 1, 2, 3].map(|which| u16::try_from(Self::counter(frame, which)).unwrap_or(u16::MAX));
        ItemPlace { items: frame.b, counts }
    }
}
