//! A grammar being run: how each kind of place moves by a byte, which bytes it may take, and how it is completed.
//!
//! Each kind of value has a file of its own below, which holds all that is known of its places, and alone knows what
//! its part of a JSON text looks like; white space is in `layout`. Here the kinds are told apart.

mod array;
mod key;
mod layout;
mod least;
mod number;
mod object;
mod string;
mod value;

use std::sync::Mutex;

use rustc_hash::FxHashMap;

pub(crate) use self::least::ENDLESS;
use self::least::Least;
use super::escape::Escapes;
use super::expansion::SharedExpansion;
use super::frame::{BOTTOM, Frame, ObjectId, StackId, Stacks, StringPlace, Thread};
use super::rules::Rules;
use super::{MOST_DEPTH, Settings, Whitespace};
use crate::grammar::{DEAD, Expansion, GuardId, ItemPlan, Root};

/// What a step meets that the bytes alone do not decide: uniqueness and guards.
pub(crate) trait Checks {
    /// A value has just ended; `end` bytes back from the byte being read (0: with it, 1: before it).
    fn value(&mut self, before: bool, check: Check<'_>, expansion: &SharedExpansion) -> Verdict;
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
    fn value(&mut self, _: bool, _: Check<'_>, _: &SharedExpansion) -> Verdict {
        Verdict::Depends
    }
}

/// Bytes that may come next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bytes([u64; 4]);

impl Bytes {
    fn add(&mut self, byte: u8) {
        self.0[byte as usize / 64] |= 1 << (byte % 64);
    }

    fn add_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.add(byte));
    }

    /// The bytes, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0u8..).zip(self.0).flat_map(|(word, bits)| {
            let mut left = bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as u8)?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        })
    }
}

/// What a piece of a completion leads to.
pub(crate) enum Piece {
    Next(Thread),
    /// The frame on this stack has ended.
    Ended(StackId),
    Stuck,
}

/// More threads than this are united where they are in one frame.
const UNITED_ABOVE: usize = 8;
/// No completion opens a container within so many others.
pub(crate) const DEEPEST: u32 = 2 * MOST_DEPTH;
/// Longest completion of one frame, in bytes.
pub(crate) const LONGEST_COMPLETION: usize = 1 << 22;

/// A grammar being run: expansion, rules and stacks, without any text. Any number of threads may run it; what they find
/// out is there for all of them.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) expansion: SharedExpansion,
    pub(crate) rules: Rules,
    pub(crate) stacks: Stacks,
    pub(crate) escapes: Escapes,
    whitespace: Whitespace,
    /// Within so many containers, none is opened that a completion does not need.
    max_depth: u32,
    least: Least,
    /// Items that arrays under `contains` still need, by array.
    plans: Mutex<FxHashMap<u32, ItemPlan>>,
}

impl Machine {
    pub(crate) fn new(expansion: Expansion, settings: &Settings) -> Self {
        Self {
            expansion: SharedExpansion::new(expansion),
            rules: Rules::new(settings.key_order),
            stacks: Stacks::new(),
            escapes: settings.escapes,
            whitespace: settings.whitespace,
            max_depth: settings.max_depth.min(MOST_DEPTH),
            least: Least::default(),
            plans: Mutex::default(),
        }
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.expansion.size_bytes() + self.rules.size_bytes() + self.stacks.size_bytes()
    }

    /// The threads before the first byte.
    pub(crate) fn start(&self) -> Vec<Thread> {
        match self.expansion.root() {
            Root::Json(node) => vec![Thread::new(Frame::Value { node }, BOTTOM)],
            Root::Text(string) => {
                let bounds = self.rules.string(&string);
                let place = self.string_start(bounds);
                if place.state == DEAD { Vec::new() } else { vec![Thread::new(Frame::Text(place), BOTTOM)] }
            }
        }
    }

    /// The text may end here.
    pub(crate) fn accepts(&self, thread: &Thread) -> bool {
        match thread.frame {
            Frame::Done => true,
            Frame::Number { state } => thread.stack == BOTTOM && self.expansion.lang_accepts(state),
            Frame::Text(place) => self.text_may_end(place),
            _ => false,
        }
    }

    /// The text may end here after a number, once its guards are asked.
    pub(crate) fn ends(&self, thread: &Thread, checks: &mut dyn Checks) -> bool {
        match thread.frame {
            Frame::Number { state } => {
                let mut after = Vec::new();
                if self.stacks.depth(thread.stack) == 0 && self.expansion.lang_accepts(state) {
                    self.finish(*thread, true, checks, &mut after);
                }
                !after.is_empty()
            }
            _ => false,
        }
    }

    /// Appends to `out` what a thread becomes after a byte.
    pub(crate) fn step(&self, thread: Thread, byte: u8, out: &mut Vec<Thread>, checks: &mut dyn Checks) {
        match thread.frame {
            Frame::Done => {
                if self.is_blank(byte) {
                    out.push(thread);
                }
            }
            Frame::Value { node } => self.value(thread, node, byte, out),
            Frame::Constant { read, which } => self.constant(thread, read, which, byte, out, checks),
            Frame::Number { state } => self.number(thread, state, byte, out, checks),
            Frame::String(place) => self.string(thread, place, byte, out, checks),
            Frame::Text(place) => self.text(thread, place, byte, out),
            Frame::ObjectOpen { blank, object } => self.object_open(thread, blank, object, byte, out, checks),
            Frame::ObjectComma { blank, object } => self.object_comma(thread, blank, object, byte, out),
            Frame::MemberKey { read, names } => self.member_key(thread, read, names, byte, out),
            Frame::AnyKey { read, names } => self.any_key(thread, read, names, byte, out, checks),
            Frame::OtherKey(place) => self.other_key(thread, place, byte, out, checks),
            Frame::Colon { colon, node } => self.colon(thread, colon, node, byte, out),
            Frame::ObjectAfter { object } => self.object_after(thread, object, byte, out, checks),
            Frame::ObjectClose { blank, .. } => self.object_close(thread, blank, byte, out, checks),
            Frame::ArrayOpen { blank, items } => self.array_open(thread, blank, items, byte, out, checks),
            Frame::ArrayComma { blank, items } => self.array_comma(thread, blank, items, byte, out),
            Frame::ArrayAfter { items } => self.array_after(thread, items, byte, out, checks),
            Frame::ArrayClose { blank, .. } => self.array_close(thread, blank, byte, out, checks),
            Frame::ObjectKey { .. } | Frame::Guard { .. } | Frame::Union { .. } => {}
        }
    }

    /// Adds the bytes that a thread may take, so that walks over a trie look at no others; false when they are many.
    pub(crate) fn hint(&self, thread: Thread, bytes: &mut Bytes) -> bool {
        self.hint_blank(bytes);
        match thread.frame {
            Frame::Done | Frame::ObjectKey { .. } | Frame::Guard { .. } | Frame::Union { .. } => true,
            Frame::Value { node } => self.hint_value(node, bytes),
            Frame::Constant { .. } => value::hint_constant(bytes),
            Frame::Number { state } => self.hint_number(state, bytes),
            Frame::String(StringPlace { state, open, .. }) | Frame::Text(StringPlace { state, open, .. }) => {
                self.hint_content(state, open, bytes)
            }
            Frame::OtherKey(place) => self.hint_content(place.state, place.open, bytes),
            Frame::MemberKey { read, names } => self.hint_member_key(read, names, bytes),
            Frame::AnyKey { .. } => false,
            Frame::ObjectOpen { .. } | Frame::ObjectComma { .. } => object::hint_before_key(bytes),
            Frame::Colon { .. } => object::hint_colon(bytes),
            Frame::ObjectAfter { .. } | Frame::ObjectClose { .. } => object::hint_after(bytes),
            Frame::ArrayOpen { .. } => array::hint_open(bytes),
            Frame::ArrayComma { .. } => array::hint_comma(bytes),
            Frame::ArrayAfter { .. } | Frame::ArrayClose { .. } => array::hint_after(bytes),
        }
    }

    /// Writes the next piece of the completion of a thread: the one way from it that leads to the end. `filler` is the
    /// character that strings which need more are filled with.
    pub(crate) fn complete(&self, thread: Thread, filler: u8, out: &mut Vec<u8>) -> Piece {
        match thread.frame {
            Frame::Done => Piece::Ended(thread.stack),
            Frame::Value { node } => self.complete_value(thread, node, out),
            Frame::Constant { read, which } => value::complete_constant(thread, read, which, out),
            Frame::Number { state } => self.complete_number(thread, state, out),
            Frame::String(place) => self.complete_string(thread, place, filler, out),
            Frame::Text(place) => self.complete_text(thread, place, filler, out),
            Frame::ObjectOpen { blank, object } => self.complete_object_open(thread, blank, object, out),
            Frame::ObjectComma { blank, object } => self.complete_object_comma(thread, blank, object, out),
            Frame::MemberKey { read, names } => self.complete_member_key(thread, read, names, out),
            Frame::AnyKey { read, names } => self.complete_any_key(thread, read, names, filler, out),
            Frame::OtherKey(place) => self.complete_other_key(thread, place, filler, out),
            Frame::Colon { colon, node } => self.complete_colon(thread, colon, node, out),
            Frame::ObjectAfter { object } => self.complete_object_after(thread, object, out),
            Frame::ObjectClose { blank, .. } => self.complete_object_close(thread, blank, out),
            Frame::ArrayOpen { blank, items } => self.complete_array_open(thread, blank, items, out),
            Frame::ArrayComma { blank, items } => self.complete_array_comma(thread, blank, items, out),
            Frame::ArrayAfter { items } => self.complete_array_after(thread, items, out),
            Frame::ArrayClose { blank, .. } => self.complete_array_close(thread, blank, out),
            Frame::ObjectKey { .. } | Frame::Guard { .. } | Frame::Union { .. } => Piece::Stuck,
        }
    }

    /// A thread with the same mask, its counters cut to what one token of so many bytes can reach.
    pub(crate) fn saturate(&self, thread: Thread, longest: u32) -> Thread {
        thread.at(match thread.frame {
            Frame::String(place) => Frame::String(self.saturate_string(place, longest)),
            Frame::Text(place) => Frame::Text(self.saturate_string(place, longest)),
            Frame::OtherKey(place) => thread.frame.with_state(self.expansion.lang_horizon(place.state, longest)),
            Frame::Number { state } => Frame::Number { state: self.expansion.lang_horizon(state, longest) },
            other => other,
        })
    }

    /// What follows a thread can depend on the text, not on the thread alone.
    pub(crate) fn depends_on_text(&self, thread: &Thread) -> bool {
        self.stacks.is_by_text(thread.stack) || self.frame_depends_on_text(thread.frame)
    }

    /// The stack with one more frame.
    fn push(&self, frame: Frame, parent: StackId) -> StackId {
        self.stacks.push(frame, parent, || self.frame_depends_on_text(frame))
    }

    fn frame_depends_on_text(&self, frame: Frame) -> bool {
        match frame {
            Frame::Guard { .. } | Frame::AnyKey { .. } | Frame::OtherKey(_) => true,
            Frame::ObjectOpen { object, .. }
            | Frame::ObjectComma { object, .. }
            | Frame::ObjectKey { object }
            | Frame::ObjectAfter { object }
            | Frame::ObjectClose { object, .. } => self.rules.state(object).has_others,
            Frame::ArrayOpen { items, .. }
            | Frame::ArrayComma { items, .. }
            | Frame::ArrayAfter { items }
            | Frame::ArrayClose { items, .. } => self.rules.array(items.array).unique,
            _ => false,
        }
    }

    /// The thread is in a key that must differ from others that were read before it.
    pub(crate) fn is_among_other_keys(&self, thread: &Thread) -> bool {
        matches!(thread.frame, Frame::OtherKey(_) | Frame::AnyKey { .. })
            && self.rules.state(self.object_below(thread.stack)).has_others
    }

    /// The object on top of whose stack a key is read.
    #[inline]
    pub(crate) fn object_below(&self, stack: StackId) -> ObjectId {
        match self.stacks.pop(stack).0 {
            Frame::ObjectKey { object } => object,
            other => unreachable!("a key lies on its object, not on {other:?}"),
        }
    }

    /// Appends to `out` what a thread becomes when its value has ended: guards are asked, and the enclosing place, or
    /// each of them, comes to the top. `before`: it had ended before the byte that is read.
    fn finish(&self, mut from: Thread, before: bool, checks: &mut dyn Checks, out: &mut Vec<Thread>) {
        let (mut frame, mut parent) = self.stacks.pop(from.stack);
        while let Frame::Guard { guards } = frame {
            let guards = self.rules.guards(guards);
            match checks.value(before, Check::Guards(guards), &self.expansion) {
                Verdict::Yes => {}
                Verdict::No => return,
                Verdict::Depends => from.conditional = true,
            }
            from.stack = parent;
            (frame, parent) = self.stacks.pop(parent);
        }
        if let Some(members) = self.stacks.members(from.stack) {
            for &stack in members.iter() {
                self.finish(Thread { stack, ..from }, before, checks, out);
            }
            return;
        }
        if self.is_unique_item(frame) {
            match checks.value(before, Check::UniqueItem, &self.expansion) {
                Verdict::Yes => {}
                Verdict::No => return,
                Verdict::Depends => from.conditional = true,
            }
        }
        out.push(Thread { frame, stack: parent, ..from });
    }

    /// Sorts the threads from `low` on and drops repeats; where they are many, those in one frame become one.
    pub(crate) fn unify(&self, threads: &mut Vec<Thread>, low: usize) {
        threads[low..].sort_unstable();
        let many = threads.len() - low > UNITED_ABOVE;
        let place = |thread: &Thread| (thread.frame, thread.conditional);
        let (mut kept, mut at) = (low, low);
        while at < threads.len() {
            let thread = threads[at];
            let same = threads[at..].partition_point(|other| place(other) <= place(&thread));
            let group = at..at + same;
            if many && !thread.frame.is_key() && threads[group.end - 1].stack != thread.stack {
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
}
