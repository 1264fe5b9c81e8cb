//! Where a grammar stands in a text: frames, threads, and the interned stacks below them.
//!
//! A *frame* is a place inside one value (in a string, after a comma, …), a *thread* a frame on a
//! stack of enclosing places, a *configuration* a set of threads. Stacks are parent-pointer trees,
//! so that threads share what they have in common; where many threads are in one frame, their stacks
//! become one *union*, which parts again when the frame ends. So the threads of nested ambiguous values are
//! as many as the alternatives of one level, not their product.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::rules::Constant;
use super::shared::{List, Map};
use crate::grammar::{NodeId, StateId};

/// Index of a stack in [`Stacks`].
pub(crate) type StackId = u32;

/// The empty stack.
pub(crate) const BOTTOM: StackId = 0;

/// A place inside one value. The order of kinds and of their fields is the order in which threads are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Frame {
    /// The text is complete.
    Done,
    /// Before a value.
    Value { node: NodeId },
    /// In `null`, `true` or `false`, so many bytes of which have been read.
    Constant { read: u16, which: Constant },
    /// In a number.
    Number { state: StateId },
    /// In a string.
    String(StringPlace),
    /// In a raw text.
    Text(StringPlace),
    /// After `{` and so many bytes of fixed white space.
    ObjectOpen { blank: u16, object: ObjectId },
    /// After a comma in an object, likewise.
    ObjectComma { blank: u16, object: ObjectId },
    /// Below a key: the object without it.
    ObjectKey { object: ObjectId },
    /// In a key that is a member's name, so many bytes of which have been read.
    MemberKey { read: u16, names: NamePlace },
    /// In a key that is a member's name, or any other. The range holds all names, also those that may not come.
    AnyKey { read: u16, names: NamePlace },
    /// In a key that is no member's name.
    OtherKey(OtherPlace),
    /// After a key: before the colon, or between it and the space after it.
    Colon { colon: bool, node: NodeId },
    /// Below or after a member's value: the object with the member.
    ObjectAfter { object: ObjectId },
    /// In the white space before `}`.
    ObjectClose { blank: u16, object: ObjectId },
    /// After `[` and so many bytes of fixed white space.
    ArrayOpen { blank: u16, items: ItemsPlace },
    /// After a comma in an array, likewise.
    ArrayComma { blank: u16, items: ItemsPlace },
    /// Below or after an item, which is counted.
    ArrayAfter { items: ItemsPlace },
    /// In the white space before `]`.
    ArrayClose { blank: u16, items: ItemsPlace },
    /// Below a guarded value: a list of guards.
    Guard { guards: u32 },
    /// Several stacks in one place: which.
    Union { union: u32 },
}

/// Frames are copied and hashed with every byte that is tried.
const _: () = assert!(size_of::<Frame>() <= 20);

/// How far an object has come: index of a state of an object in the rules.
pub(crate) type ObjectId = u32;

/// In a string, or in a raw text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StringPlace {
    /// Index of its bounds.
    pub(crate) bounds: u32,
    /// State of its language.
    pub(crate) state: StateId,
    /// Characters begun, no further than matters.
    pub(crate) chars: u32,
    /// Open escape.
    pub(crate) open: u32,
}

/// Among the names of an object's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamePlace {
    pub(crate) object: ObjectId,
    /// First of the names that match what has been read.
    pub(crate) low: u32,
    /// End of them.
    pub(crate) high: u32,
    /// Open escape.
    pub(crate) open: u32,
}

/// In a key over a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OtherPlace {
    /// Which of the object's other keys.
    pub(crate) which: u32,
    /// State of its language.
    pub(crate) state: StateId,
    /// The object in the rules, however far it has come.
    pub(crate) rules: u32,
    /// Open escape.
    pub(crate) open: u32,
}

/// Among the items of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ItemsPlace {
    pub(crate) array: u32,
    /// Items read, no further than matters.
    pub(crate) read: u32,
    pub(crate) counted: Counted,
}

/// What is remembered of an array's items: how often each `contains` was met, or which of few values have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Counted([u32; 2]);

impl Counted {
    /// Counters of `contains`.
    pub(crate) fn of_contains(counts: [u16; 4]) -> Self {
        let word = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        Self([word(counts[0], counts[1]), word(counts[2], counts[3])])
    }

    /// The counters of `contains`.
    pub(crate) fn contains(self) -> [u16; 4] {
        let [first, second] = self.0;
        [first as u16, (first >> 16) as u16, second as u16, (second >> 16) as u16]
    }

    /// One of the values has been.
    pub(crate) fn has_value(self, at: u32) -> bool {
        self.0[at as usize / 32] >> (at % 32) & 1 == 1
    }

    /// With one more value.
    pub(crate) fn with_value(mut self, at: u32) -> Self {
        self.0[at as usize / 32] |= 1 << (at % 32);
        self
    }
}

impl Frame {
    /// The same place after one more byte of white space.
    #[inline]
    pub(crate) fn after_blank(mut self) -> Self {
        if let Self::ObjectOpen { blank, .. }
        | Self::ObjectComma { blank, .. }
        | Self::ObjectClose { blank, .. }
        | Self::ArrayOpen { blank, .. }
        | Self::ArrayComma { blank, .. }
        | Self::ArrayClose { blank, .. } = &mut self
        {
            *blank += 1;
        }
        self
    }

    /// State and open escape in a string, a raw text, or a key over a language.
    #[inline]
    pub(crate) fn content(&self) -> Option<(StateId, u32)> {
        match self {
            Self::String(place) | Self::Text(place) => Some((place.state, place.open)),
            Self::OtherKey(place) => Some((place.state, place.open)),
            _ => None,
        }
    }

    /// The same place in a string or key with another state of its language.
    #[must_use]
    pub(crate) fn with_state(mut self, to: StateId) -> Self {
        match &mut self {
            Self::String(place) | Self::Text(place) => place.state = to,
            Self::OtherKey(place) => place.state = to,
            _ => {}
        }
        self
    }

    /// In a key.
    pub(crate) fn is_key(&self) -> bool {
        matches!(self, Self::MemberKey { .. } | Self::AnyKey { .. } | Self::OtherKey(_))
    }
}

/// A frame on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Thread {
    pub(crate) frame: Frame,
    /// Passed a check that depends on the text (only while a mask is computed).
    pub(crate) conditional: bool,
    pub(crate) stack: StackId,
}

impl Thread {
    /// A thread that no check has seen.
    pub(crate) fn new(frame: Frame, stack: StackId) -> Self {
        Self { frame, conditional: false, stack }
    }

    /// The same thread in another frame.
    #[inline]
    pub(crate) fn at(self, frame: Frame) -> Self {
        Self { frame, ..self }
    }
}

/// One frame below others.
#[derive(Clone, Copy, Debug)]
struct Entry {
    frame: Frame,
    parent: StackId,
    depth: u32,
    /// What follows can depend on the text.
    by_text: bool,
}

/// All stacks of one grammar. Any thread may add to them.
#[derive(Debug)]
pub(crate) struct Stacks {
    entries: List<Entry>,
    index: Map<(Frame, StackId), StackId>,
    unions: List<Arc<[StackId]>>,
    union_index: Map<Arc<[StackId]>, StackId>,
    /// Members of all unions.
    united: AtomicUsize,
}

impl Stacks {
    pub(crate) fn new() -> Self {
        let entries = List::default();
        entries.push(Entry { frame: Frame::Done, parent: BOTTOM, depth: 0, by_text: false });
        Self {
            entries,
            index: Map::default(),
            unions: List::default(),
            union_index: Map::default(),
            united: AtomicUsize::new(0),
        }
    }

    /// The stack with one more frame, of which `by_text` says whether what follows it can depend on the text.
    pub(crate) fn push(&self, frame: Frame, parent: StackId, by_text: impl FnOnce() -> bool) -> StackId {
        if let Some(known) = self.index.get(&(frame, parent)) {
            return known;
        }
        let below = self.entries.get(parent);
        let depth = below.depth + u32::from(!matches!(frame, Frame::Guard { .. }));
        let by_text = below.by_text || by_text();
        self.index.get_or((frame, parent), || self.entries.push(Entry { frame, parent, depth, by_text }))
    }

    /// The top frame and what lies below it. The bottom yields [`Frame::Done`] forever.
    #[inline]
    pub(crate) fn pop(&self, stack: StackId) -> (Frame, StackId) {
        let entry = self.entries.get(stack);
        (entry.frame, entry.parent)
    }

    /// The union of stacks of equal depth.
    pub(crate) fn unite(&self, stacks: &[Thread]) -> StackId {
        let mut members: Vec<StackId> = Vec::with_capacity(stacks.len());
        for thread in stacks {
            match self.members(thread.stack) {
                Some(inner) => members.extend(inner.iter()),
                None => members.push(thread.stack),
            }
        }
        members.sort_unstable();
        members.dedup();
        if let Some(known) = self.union_index.get(members.as_slice()) {
            return known;
        }
        let members: Arc<[StackId]> = members.into();
        let depth = self.depth(members[0]);
        debug_assert!(members.iter().all(|&member| self.depth(member) == depth), "a place has one depth");
        let by_text = members.iter().any(|&member| self.is_by_text(member));
        self.union_index.get_or(members.clone(), || {
            self.united.fetch_add(members.len(), Ordering::Relaxed);
            let parent = members[0];
            let union = self.unions.push(members);
            self.entries.push(Entry { frame: Frame::Union { union }, parent, depth, by_text })
        })
    }

    /// The stacks of a union, none of which is one; none for other stacks.
    pub(crate) fn members(&self, stack: StackId) -> Option<&Arc<[StackId]>> {
        match self.entries.get(stack).frame {
            Frame::Union { union } => Some(self.unions.get(union)),
            _ => None,
        }
    }

    /// Number of containers on the stack.
    #[inline]
    pub(crate) fn depth(&self, stack: StackId) -> u32 {
        self.entries.get(stack).depth
    }

    /// What follows can depend on the text.
    #[inline]
    pub(crate) fn is_by_text(&self, stack: StackId) -> bool {
        self.entries.get(stack).by_text
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let entry = 2 * size_of::<Entry>() + 8;
        entry * self.entries.len() + 48 * self.unions.len() + 4 * self.united.load(Ordering::Relaxed)
    }

    /// Number of stacks.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
