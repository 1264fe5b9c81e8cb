//! What a node allows, type by type: a union of cases, closed under intersection.
//!
//! Numbers and strings are closed under everything and need one case each, but for guards; arrays
//! and objects are unions of bodies. Bodies name their parts by node, so that nothing below them is
//! looked at until it is needed.
//!
//! The words of it: a [`Case`] is one alternative, with the signed schemas that a finished value of it is checked
//! against. An object knows members by name ([`Slot`]) and all further ones by the language of their keys (`others`). That
//! *some* member has such a key and such a value is an [`Exists`]: those in `some` are still open; `finish` spreads each
//! over the slots that may meet it, one object a slot, and over the keys without a slot, where it moves to `witnesses`.
//! Each of the witnesses is an *obligation* of the shape, a bit by its place; the shape's `serves` says of each entry of
//! its further keys which obligations a member of it meets, and the object may close when every bit has been met.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::language::ExprId;
use super::number::NumberSet;
use super::schema::SchemaId;
use super::shape::NodeId;

/// The node that everything belongs to.
pub(crate) const ANYTHING: NodeId = 0;
/// The node that nothing belongs to.
pub(crate) const NOTHING: NodeId = 1;

/// A schema or its negation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Signed(u32);

impl Signed {
    /// The schema itself.
    pub(super) fn positive(schema: SchemaId) -> Self {
        Self(schema << 1)
    }

    /// All that the schema does not allow.
    pub(super) fn negative(schema: SchemaId) -> Self {
        Self(schema << 1 | 1)
    }

    /// Which schema.
    pub(super) fn schema(self) -> SchemaId {
        self.0 >> 1
    }

    /// True for a negation.
    pub(crate) fn is_negative(self) -> bool {
        self.0 & 1 == 1
    }

    /// The other sign.
    #[must_use]
    pub(crate) fn flipped(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// One alternative and what must be checked when a value of it is complete.
#[derive(Clone, Debug)]
pub(super) struct Case<T> {
    /// What the value looks like.
    pub body: T,
    /// All must hold; sorted.
    pub guards: Vec<Signed>,
}

impl<T> Case<T> {
    /// Without guards.
    pub(super) fn plain(body: T) -> Self {
        Self { body, guards: Vec::new() }
    }

    /// Adds a guard.
    pub(super) fn guard(&mut self, signed: Signed) {
        if let Err(at) = self.guards.binary_search(&signed) {
            self.guards.insert(at, signed);
        }
    }

    /// The guards of both.
    pub(crate) fn joined_guards<U>(&self, other: &Case<U>) -> Vec<Signed> {
        let mut guards = self.guards.clone();
        guards.extend(&other.guards);
        guards.sort_unstable();
        guards.dedup();
        guards
    }
}

/// What a node allows.
#[derive(Clone, Debug)]
pub(crate) struct Alternatives {
    /// `null`
    pub null: bool,
    /// `false`, `true`
    pub booleans: [bool; 2],
    /// Numbers.
    pub numbers: Vec<Case<NumberSet>>,
    /// Strings, by the language of their content.
    pub strings: Vec<Case<ExprId>>,
    /// Arrays.
    pub arrays: Vec<Case<ArrayBody>>,
    /// Objects.
    pub objects: Vec<Case<ObjectBody>>,
}

impl Alternatives {
    /// Nothing.
    pub(super) fn none() -> Self {
        Self {
            null: false,
            booleans: [false; 2],
            numbers: Vec::new(),
            strings: Vec::new(),
            arrays: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// Every value.
    pub(super) fn all() -> Self {
        Self {
            null: true,
            booleans: [true; 2],
            numbers: vec![Case::plain(NumberSet::all())],
            strings: vec![Case::plain(super::language::ANY)],
            arrays: vec![Case::plain(ArrayBody::default())],
            objects: vec![Case::plain(ObjectBody::default())],
        }
    }

    /// True when no alternative is left.
    pub(super) fn is_none(&self) -> bool {
        !self.null
            && self.booleans == [false; 2]
            && self.numbers.is_empty()
            && self.strings.is_empty()
            && self.arrays.is_empty()
            && self.objects.is_empty()
    }
}

/// An array.
#[derive(Clone, Debug)]
pub(crate) struct ArrayBody {
    /// Nodes of the first items.
    pub prefix: Vec<NodeId>,
    /// Node of the further items.
    pub items: NodeId,
    /// Least number of items.
    pub min: u32,
    /// Greatest number.
    pub max: Option<u32>,
    /// Items counted: their node, least and greatest number.
    pub contains: Vec<(NodeId, u32, Option<u32>)>,
    /// No two items are equal.
    pub unique: bool,
}

impl Default for ArrayBody {
    fn default() -> Self {
        Self { prefix: Vec::new(), items: ANYTHING, min: 0, max: None, contains: Vec::new(), unique: false }
    }
}

impl ArrayBody {
    /// The node of an item.
    pub(super) fn item(&self, at: usize) -> NodeId {
        self.prefix.get(at).copied().unwrap_or(self.items)
    }
}

/// The least of two upper bounds.
pub(crate) fn min_bound(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A named member of an object.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The key.
    pub name: Arc<str>,
    /// Its value; [`NOTHING`]: must not be there.
    pub node: NodeId,
    /// Must be there.
    pub required: bool,
}

/// At least one member with such a key has such a value.
#[derive(Clone, Debug)]
pub(crate) struct Exists {
    /// Language of the key.
    pub keys: ExprId,
    /// The value.
    pub value: NodeId,
    /// The same as a check of the finished object.
    pub check: Signed,
}

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct ObjectBody {
    pub(super) slots: Vec<Slot>,
    pub(super) index: FxHashMap<Arc<str>, u32>,
    /// Other keys, by disjoint languages (in which slot names may still occur), with their values. A key in none
    /// of them must not be there.
    pub others: Vec<(ExprId, NodeId)>,
    /// A keyword says which other keys there may be.
    pub speaks_of_others: bool,
    /// Least number of members.
    pub min: u32,
    /// Greatest number.
    pub max: Option<u32>,
    /// When the first is there, the second must be.
    pub implies: Vec<(Arc<str>, Arc<str>)>,
    /// Existence of further members.
    pub some: Vec<Exists>,
    /// The same, to be met by members that have no slot.
    pub witnesses: Vec<Exists>,
}

/// Slots up to which a scan beats a hash.
const SCAN_LIMIT: usize = 8;

impl Default for ObjectBody {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            index: FxHashMap::default(),
            others: vec![(super::language::ANY, ANYTHING)],
            speaks_of_others: false,
            min: 0,
            max: None,
            implies: Vec::new(),
            some: Vec::new(),
            witnesses: Vec::new(),
        }
    }
}

impl ObjectBody {
    /// Named members in order.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Named members in order, to be changed (not in name).
    pub(crate) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }

    /// Place of a named member.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        if self.slots.len() <= SCAN_LIMIT {
            return self.slots.iter().position(|slot| *slot.name == *name);
        }
        self.index.get(name).map(|&at| at as usize)
    }

    /// Adds a named member that is not there yet.
    pub(super) fn push(&mut self, slot: Slot) {
        self.slots.push(slot);
        let at = self.slots.len();
        if at == SCAN_LIMIT + 1 {
            self.index = (0..).zip(&self.slots).map(|(at, slot)| (slot.name.clone(), at)).collect();
        } else if at > SCAN_LIMIT {
            self.index.insert(self.slots[at - 1].name.clone(), at as u32 - 1);
        }
    }

    /// Nothing said yet.
    pub(crate) fn is_free(&self) -> bool {
        self.slots.is_empty()
            && self.others[..] == [(super::language::ANY, ANYTHING)]
            && !self.speaks_of_others
            && self.min == 0
            && self.max.is_none()
            && self.implies.is_empty()
            && self.some.is_empty()
    }
}
