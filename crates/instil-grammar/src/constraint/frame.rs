//! Where a grammar stands in a text: frames, threads, and the interned stacks below them.
//!
//! A *frame* is a place inside one value (in a string, after a comma, …), a *thread* a frame on a
//! stack of enclosing places, a *configuration* a set of threads. Stacks are parent-pointer trees,
//! so that threads share what they have in common; where many threads are in one frame, their stacks
//! become one *union*, which parts again when the frame ends. So the threads of nested ambiguous values are
//! as many as the alternatives of one level, not their product.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Index of a stack in [`Stacks`].
pub(crate) type StackId = u32;

/// The empty stack.
pub(crate) const BOTTOM: StackId = 0;

/// What a frame is; the meaning of the fields `a` to `d` is beside each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The text is complete.
    Done,
    /// Before a value. `a`: node; `pos`: bytes of white space read.
    Value,
    /// In `null`, `true`, `false`. `a`: which; `pos`: bytes read.
    Literal,
    /// In a number. `a`: state.
    Number,
    /// In a string. `a`: string bounds; `b`: state; `c`: characters; `d`: open escape.
    String,
    /// In a raw text. Fields as for a string.
    Text,
    /// After `{`. `a`: object state; `pos`: white space read.
    ObjectOpen,
    /// After a comma in an object. Likewise.
    ObjectComma,
    /// Below a key. `a`: object state without the key.
    ObjectKey,
    /// In a key that is a member's name. `a`: object state; `b`, `c`: first and end of the names that
    /// match; `pos`: bytes matched; `d`: open escape.
    MemberKey,
    /// In a key that is a member's name, or any other. Likewise; the range holds all names, also those that may
    /// not come.
    AnyKey,
    /// In another key. `a`: which of the others; `b`: state; `c`: object; `d`: open escape.
    OtherKey,
    /// After a key. `a`: node of the value; `pos`: bytes read of the separator.
    Colon,
    /// Below or after a member's value. `a`: object state with the member.
    ObjectAfter,
    /// In the white space before `}`. `a`: object state; `pos`: bytes read.
    ObjectClose,
    /// After `[`. `a`: array; `b`: items read; `c`, `d`: counters of `contains`, or which of few values have been.
    ArrayOpen,
    /// After a comma in an array. Likewise.
    ArrayComma,
    /// Below or after an item. Likewise, the item counted.
    ArrayAfter,
    /// In the white space before `]`. Likewise.
    ArrayClose,
    /// Below a guarded value. `a`: list of guards.
    Guard,
    /// Several stacks in one place. `a`: which.
    Union,
}

/// See [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Passed a check that depends on the text (only while a mask is computed).
    pub(crate) conditional: bool,
    pub(crate) pos: u16,
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) c: u32,
    pub(crate) d: u32,
}

impl Frame {
    /// A frame with only `a` set.
    #[inline]
    pub(crate) fn new(kind: Kind, a: u32) -> Self {
        Self { kind, conditional: false, pos: 0, a, b: 0, c: 0, d: 0 }
    }

    /// The same place as another kind, white space unread.
    #[inline]
    pub(crate) fn turn(self, kind: Kind) -> Self {
        Self { kind, pos: 0, ..self }
    }
}

impl Hash for Frame {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let head = u64::from(self.kind as u8) | u64::from(self.conditional) << 8 | u64::from(self.pos) << 16;
        state.write_u64(head | u64::from(self.a) << 32);
        state.write_u64(u64::from(self.b) | u64::from(self.c) << 32);
        state.write_u32(self.d);
    }
}

/// A frame on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Thread {
    pub(crate) frame: Frame,
    pub(crate) stack: StackId,
}

/// One frame below others.
#[derive(Clone, Copy, Debug)]
struct Entry {
    frame: Frame,
    parent: StackId,
    depth: u32,
}

/// All stacks of one grammar.
#[derive(Debug)]
pub(crate) struct Stacks {
    entries: Vec<Entry>,
    index: FxHashMap<(Frame, StackId), StackId>,
    unions: Vec<Arc<[StackId]>>,
    union_index: FxHashMap<Arc<[StackId]>, StackId>,
    /// Members of all unions.
    united: usize,
}

impl Stacks {
    pub(crate) fn new() -> Self {
        let bottom = Entry { frame: Frame::new(Kind::Done, 0), parent: BOTTOM, depth: 0 };
        Self {
            entries: vec![bottom],
            index: FxHashMap::default(),
            unions: Vec::new(),
            union_index: FxHashMap::default(),
            united: 0,
        }
    }

    /// The stack with one more frame.
    pub(crate) fn push(&mut self, mut frame: Frame, parent: StackId) -> StackId {
        frame.conditional = false;
        let entries = &mut self.entries;
        *self.index.entry((frame, parent)).or_insert_with(|| {
            let open = !matches!(frame.kind, Kind::Guard);
            let depth = entries[parent as usize].depth + u32::from(open);
            entries.push(Entry { frame, parent, depth });
            u32::try_from(entries.len() - 1).expect("memory ends before 2^32 stacks")
        })
    }

    /// The top frame and what lies below it. The bottom yields [`Kind::Done`] forever.
    #[inline]
    pub(crate) fn pop(&self, stack: StackId) -> (Frame, StackId) {
        let entry = &self.entries[stack as usize];
        (entry.frame, entry.parent)
    }

    /// The union of stacks of equal depth.
    pub(crate) fn unite(&mut self, stacks: &[Thread]) -> StackId {
        let mut members: Vec<StackId> = Vec::with_capacity(stacks.len());
        for thread in stacks {
            match self.members(thread.stack) {
                Some(inner) => members.extend(inner.iter()),
                None => members.push(thread.stack),
            }
        }
        members.sort_unstable();
        members.dedup();
        if let Some(&known) = self.union_index.get(members.as_slice()) {
            return known;
        }
        let members: Arc<[StackId]> = members.into();
        let at = u32::try_from(self.unions.len()).expect("memory ends before 2^32 stacks");
        let depth = self.depth(members[0]);
        debug_assert!(members.iter().all(|&member| self.depth(member) == depth), "a place has one depth");
        self.united += members.len();
        self.unions.push(members.clone());
        self.entries.push(Entry { frame: Frame::new(Kind::Union, at), parent: members[0], depth });
        let stack = u32::try_from(self.entries.len() - 1).expect("memory ends before 2^32 stacks");
        self.union_index.insert(members, stack);
        stack
    }

    /// The stacks of a union, none of which is one; none for other stacks.
    pub(crate) fn members(&self, stack: StackId) -> Option<Arc<[StackId]>> {
        let frame = self.entries[stack as usize].frame;
        (frame.kind == Kind::Union).then(|| self.unions[frame.a as usize].clone())
    }

    /// Number of containers on the stack.
    #[inline]
    pub(crate) fn depth(&self, stack: StackId) -> u32 {
        self.entries[stack as usize].depth
    }

    /// Memory held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let entry = 2 * size_of::<Entry>() + 8;
        entry * self.entries.len() + 48 * self.unions.len() + 4 * self.united
    }

    /// Number of stacks.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
