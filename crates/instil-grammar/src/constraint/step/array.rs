//! In an array: its items, and what is counted of them.

use std::sync::PoisonError;

use super::least::LeastShape;
use super::object::LONGEST_LEAST;
use super::{Bytes, Checks, Machine, Piece};
use crate::constraint::frame::{Counted, Frame, ItemsPlace, Thread};
use crate::constraint::rules::First;
use crate::grammar::{ItemPlace, NodeId};

impl ItemsPlace {
    /// Before the first item.
    pub(super) fn first(array: u32) -> Self {
        Self { array, read: 0, counted: Counted::default() }
    }
}

impl Machine {
    pub(super) fn array_open(
        &self,
        thread: Thread,
        blank: u16,
        items: ItemsPlace,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        let closable = self.array_closable(items);
        if blank == 0 && byte == b']' {
            if closable {
                self.finish(thread, false, checks, out);
            }
            return;
        }
        if closable && self.is_deep(thread.stack) {
            return;
        }
        let width = self.indent(thread.stack, 1);
        if blank < width {
            if self.takes_item(items) {
                self.blank(thread, blank, byte, out);
            }
        } else {
            self.before_item(thread, items, byte, out);
        }
    }

    pub(super) fn array_comma(&self, thread: Thread, blank: u16, items: ItemsPlace, byte: u8, out: &mut Vec<Thread>) {
        if blank < self.comma_width(thread.stack) {
            self.blank(thread, blank, byte, out);
        } else {
            self.before_item(thread, items, byte, out);
        }
    }

    /// Before an item, its fixed white space having been read.
    fn before_item(&self, thread: Thread, items: ItemsPlace, byte: u8, out: &mut Vec<Thread>) {
        if self.is_blank(byte) {
            out.push(thread);
            return;
        }
        let most = if self.is_deep(thread.stack) { 1 } else { usize::MAX };
        for (node, after) in self.items(items).into_iter().take(most) {
            let stack = self.push(Frame::ArrayAfter { items: after }, thread.stack);
            self.value(Thread { stack, ..thread.at(Frame::Value { node }) }, node, byte, out);
        }
    }

    pub(super) fn array_after(
        &self,
        thread: Thread,
        items: ItemsPlace,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        match byte {
            b',' if self.takes_item(items) && !(self.is_deep(thread.stack) && self.array_closable(items)) => {
                out.push(thread.at(Frame::ArrayComma { blank: 0, items }));
            }
            b']' if !self.is_pretty() && self.array_closable(items) => self.finish(thread, false, checks, out),
            b'\n' if self.is_pretty() && self.array_closable(items) => {
                out.push(thread.at(Frame::ArrayClose { blank: 1, items }));
            }
            _ if self.is_blank(byte) => out.push(thread),
            _ => {}
        }
    }

    pub(super) fn array_close(
        &self,
        thread: Thread,
        blank: u16,
        byte: u8,
        out: &mut Vec<Thread>,
        checks: &mut dyn Checks,
    ) {
        if blank < self.indent(thread.stack, 0) {
            self.blank(thread, blank, byte, out);
        } else if byte == b']' {
            self.finish(thread, false, checks, out);
        }
    }

    /// The item that has just ended must be compared with those before it.
    pub(super) fn is_unique_item(&self, after: Frame) -> bool {
        match after {
            Frame::ArrayAfter { items } if items.read > 1 => {
                let array = self.rules.array(items.array);
                array.unique && array.values.is_empty()
            }
            _ => false,
        }
    }

    /// The array may end here.
    pub(super) fn array_closable(&self, items: ItemsPlace) -> bool {
        let array = self.rules.array(items.array);
        let counts = items.counted.contains();
        items.read >= array.min_items
            && array.contains.iter().zip(counts).all(|(contains, count)| u32::from(count) >= contains.min)
    }

    /// One more item may follow.
    fn takes_item(&self, items: ItemsPlace) -> bool {
        let array = self.rules.array(items.array);
        if array.max_items.is_some_and(|max| items.read >= max) {
            return false;
        }
        if array.contains.is_empty() {
            let node = array.prefix.get(items.read as usize).copied().unwrap_or(array.items);
            return !self.expansion.is_empty(node);
        }
        !self.items(items).is_empty()
    }

    /// What the next item may be, with the place after it: one entry for each choice of the `contains`
    /// obligations that it counts for. The first leads to the end with fewest items.
    fn items(&self, items: ItemsPlace) -> Vec<(NodeId, ItemsPlace)> {
        let array = self.rules.array(items.array);
        if array.max_items.is_some_and(|max| items.read >= max) {
            return Vec::new();
        }
        let fixed = u32::try_from(array.prefix.len()).unwrap_or(u32::MAX);
        let cap = fixed.max(array.min_items).max(array.max_items.unwrap_or(0)).max(2);
        let after = ItemsPlace { read: (items.read + 1).min(cap), ..items };
        if !array.values.is_empty() {
            let unused = (0..).zip(&array.values).filter(|(at, _)| !items.counted.has_value(*at));
            let taken = |at: u32| ItemsPlace { counted: items.counted.with_value(at), ..after };
            return unused.map(|(at, &node)| (node, taken(at))).collect();
        }
        if array.contains.is_empty() {
            let node = array.prefix.get(items.read as usize).copied().unwrap_or(array.items);
            return vec![(node, after)];
        }
        let place = ItemPlace { items: items.read, counts: items.counted.contains() };
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plans.entry(items.array).or_default();
        let choices = self.expansion.ask(|expansion| {
            let mut choices = expansion.item_choices(array, place);
            let mut needed = |place| expansion.items_needed(array, place, plan);
            choices.retain(|&(_, place)| needed(place).is_some());
            // The nearest to the end comes first, and of those what counts for least.
            choices.reverse();
            choices.sort_by_cached_key(|&(_, place)| needed(place));
            choices
        });
        let counted = |place: ItemPlace| ItemsPlace { counted: Counted::of_contains(place.counts), ..after };
        choices.into_iter().map(|(node, place)| (node, counted(place))).collect()
    }

    pub(super) fn complete_array_open(
        &self,
        thread: Thread,
        blank: u16,
        items: ItemsPlace,
        out: &mut Vec<u8>,
    ) -> Piece {
        if blank == 0 && self.array_closable(items) {
            out.push(b']');
            return Piece::Ended(thread.stack);
        }
        self.write_blank(blank, self.indent(thread.stack, 1), out);
        self.complete_item(thread, items)
    }

    pub(super) fn complete_array_comma(
        &self,
        thread: Thread,
        blank: u16,
        items: ItemsPlace,
        out: &mut Vec<u8>,
    ) -> Piece {
        self.write_blank(blank, self.comma_width(thread.stack), out);
        self.complete_item(thread, items)
    }

    fn complete_item(&self, thread: Thread, items: ItemsPlace) -> Piece {
        match self.items(items).first() {
            Some(&(node, after)) => {
                let stack = self.push(Frame::ArrayAfter { items: after }, thread.stack);
                Piece::Next(Thread::new(Frame::Value { node }, stack))
            }
            None => Piece::Stuck,
        }
    }

    pub(super) fn complete_array_after(&self, thread: Thread, items: ItemsPlace, out: &mut Vec<u8>) -> Piece {
        if self.array_closable(items) {
            return Piece::Next(thread.at(Frame::ArrayClose { blank: 0, items }));
        }
        out.push(b',');
        Piece::Next(thread.at(Frame::ArrayComma { blank: 0, items }))
    }

    pub(super) fn complete_array_close(&self, thread: Thread, blank: u16, out: &mut Vec<u8>) -> Piece {
        self.write_blank(blank, self.indent(thread.stack, 0), out);
        out.push(b']');
        Piece::Ended(thread.stack)
    }

    pub(super) fn least_array(&self, array: u32) -> LeastShape {
        let mut items = ItemsPlace::first(array);
        // The brackets; then for each item a comma and white space.
        let mut least = LeastShape::of_bytes(2);
        while !self.array_closable(items) {
            let Some(&(node, after)) = self.items(items).first() else { return LeastShape::endless() };
            least.add(node);
            items = after;
            least.fixed += 2;
            if least.fixed > LONGEST_LEAST {
                return LeastShape::endless();
            }
        }
        least
    }
}

/// Adds the bytes that values begin with.
fn hint_item(bytes: &mut Bytes) {
    First::ALL.iter().for_each(|first| bytes.add_all(first.bytes()));
}

pub(super) fn hint_open(bytes: &mut Bytes) -> bool {
    bytes.add(b']');
    hint_item(bytes);
    true
}

pub(super) fn hint_comma(bytes: &mut Bytes) -> bool {
    hint_item(bytes);
    true
}

pub(super) fn hint_after(bytes: &mut Bytes) -> bool {
    bytes.add_all(b",]");
    true
}
