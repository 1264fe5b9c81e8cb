//! Shapes as the engine runs them: values by first byte, and objects by the members read so far with what may follow.
//! Taken from the expansion when a node is first entered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::KeyOrder;
use super::expansion::SharedExpansion;
use super::frame::ObjectId;
use super::shared::{Cells, List, Map};
use crate::grammar::{ArrayShape, GuardId, NodeId, ObjectShape, Shape, ShapeKind, StateId, StringShape, least_cover};

/// First bytes of values fall into these classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Null,
    False,
    True,
    Number,
    String,
    Array,
    Object,
}

impl First {
    /// The class of a byte.
    pub(crate) fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'n' => Self::Null,
            b'f' => Self::False,
            b't' => Self::True,
            b'-' | b'0'..=b'9' => Self::Number,
            b'"' => Self::String,
            b'[' => Self::Array,
            b'{' => Self::Object,
            _ => return None,
        })
    }
}

impl First {
    /// All classes.
    pub(crate) const ALL: [Self; 7] =
        [Self::Null, Self::False, Self::True, Self::Number, Self::String, Self::Array, Self::Object];

    /// The bytes of the class.
    pub(crate) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Null => b"n",
            Self::False => b"f",
            Self::True => b"t",
            Self::Number => b"-0123456789",
            Self::String => b"\"",
            Self::Array => b"[",
            Self::Object => b"{",
        }
    }
}

/// One shape of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(crate) start: Start,
    /// List of guards, where there are any.
    pub(crate) guards: Option<u32>,
}

/// How a shape begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Constant(Constant),
    /// The first state of its literals.
    Number(StateId),
    /// Index of its bounds.
    String(u32),
    /// Index of it.
    Array(u32),
    /// Index of it.
    Object(u32),
}

/// A value with one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Constant {
    Null,
    False,
    True,
}

impl Constant {
    /// How it is spelt.
    #[inline]
    pub(crate) fn spelling(self) -> &'static [u8] {
        match self {
            Self::Null => b"null",
            Self::False => b"false",
            Self::True => b"true",
        }
    }
}

impl Start {
    /// The class of the first byte.
    pub(crate) fn first(self) -> First {
        match self {
            Self::Constant(Constant::Null) => First::Null,
            Self::Constant(Constant::False) => First::False,
            Self::Constant(Constant::True) => First::True,
            Self::Number(_) => First::Number,
            Self::String(_) => First::String,
            Self::Array(_) => First::Array,
            Self::Object(_) => First::Object,
        }
    }
}

/// How far an object has come, with what may follow. Interned.
#[derive(Debug)]
pub(crate) struct ObjectState {
    pub(crate) object: u32,
    key: ObjectKey,
    /// Members whose key may follow.
    allowed: Bits,
    /// Some member's key may follow.
    pub(crate) members: bool,
    /// Another key may follow.
    pub(crate) others: bool,
    /// The kind of other key that leads to the end with fewest members.
    pub(crate) nearest_other: u32,
    /// The nearest way to the end goes on with a member, not with another key.
    pub(crate) members_first: bool,
    /// By kind of other key: it may follow (empty: all may).
    other_allowed: Vec<bool>,
    /// The object may end here.
    pub(crate) closable: bool,
    /// Another key has been read: further ones must differ from it.
    pub(crate) has_others: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ObjectKey {
    used: Bits,
    /// Schema order: the first position that may follow.
    next: u32,
    /// Members read, saturating where no bound needs them.
    count: u32,
    has_others: bool,
    /// Obligations met, as bits.
    met: u32,
}

/// A set of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bits {
    Few(u64),
    Many(Box<[u64]>),
}

impl Bits {
    fn new(len: usize) -> Self {
        if len <= 64 { Self::Few(0) } else { Self::Many(vec![0; len.div_ceil(64)].into()) }
    }

    fn has(&self, at: u32) -> bool {
        match self {
            Self::Few(bits) => bits >> at & 1 == 1,
            Self::Many(words) => words[at as usize / 64] >> (at % 64) & 1 == 1,
        }
    }

    fn set(&mut self, at: u32) {
        match self {
            Self::Few(bits) => *bits |= 1 << at,
            Self::Many(words) => words[at as usize / 64] |= 1 << (at % 64),
        }
    }

    /// Some member of `low..high` is in the set.
    fn any(&self, low: u32, high: u32) -> bool {
        if low >= high {
            return false;
        }
        match self {
            Self::Few(bits) => {
                let upto = if high == 64 { u64::MAX } else { (1 << high) - 1 };
                bits & upto >> low << low != 0
            }
            Self::Many(words) => {
                let (first, last) = (low as usize / 64, (high - 1) as usize / 64);
                (first..=last).any(|word| {
                    let mut bits = words[word];
                    if word == first {
                        bits &= u64::MAX << (low % 64);
                    }
                    if word == last {
                        bits &= u64::MAX >> (63 - (high - 1) % 64);
                    }
                    bits != 0
                })
            }
        }
    }
}

impl ObjectState {
    /// A kind of other key may follow.
    pub(crate) fn other_allowed(&self, which: u32) -> bool {
        self.others && self.other_allowed.get(which as usize).copied().unwrap_or(true)
    }

    /// Some name of `low..high` may follow.
    #[inline]
    pub(crate) fn any_allowed(&self, low: u32, high: u32) -> bool {
        self.allowed.any(low, high)
    }
}

impl ObjectShape {
    /// The value of a member that may come.
    pub(crate) fn node(&self, member: u32) -> NodeId {
        self.nodes[member as usize].expect("a member that may come has a value")
    }

    /// The value of a key that is not a member's: [`REST`] or one of the others.
    pub(crate) fn other_node(&self, which: u32) -> NodeId {
        match self.rest {
            Some(node) if which == REST => node,
            _ => self.others[which as usize].1,
        }
    }

    fn is_forbidden(&self, member: u32) -> bool {
        self.nodes[member as usize].is_none()
    }

    /// Keys that are not members' may come.
    fn is_open(&self) -> bool {
        self.rest.is_some() || !self.others.is_empty()
    }

    fn len(&self) -> u32 {
        u32::try_from(self.names.len()).expect("an object has fewer than 2^32 members")
    }

    /// Members that may come at or after a position.
    fn possible_from(&self, position: u32) -> usize {
        if self.min_members == 0 {
            return 0;
        }
        self.order[position as usize..].iter().filter(|&&member| !self.is_forbidden(member)).count()
    }

    /// The greatest count that matters.
    fn count_cap(&self) -> u32 {
        self.max_members.unwrap_or(0).max(self.min_members)
    }

    /// Members that are missing although required, or needed by one that is there.
    fn missing(&self, used: &Bits) -> Vec<u32> {
        let mut missing: Vec<u32> = (0..self.len()).filter(|&m| self.required[m as usize] && !used.has(m)).collect();
        if !self.implies.is_empty() {
            loop {
                let before = missing.len();
                for &(a, b) in &self.implies {
                    if (used.has(a) || missing.contains(&a)) && !used.has(b) && !missing.contains(&b) {
                        missing.push(b);
                    }
                }
                if missing.len() == before {
                    break;
                }
            }
        }
        missing
    }

    fn state(&self, object: u32, key: ObjectKey, order: KeyOrder) -> ObjectState {
        let mut allowed = Bits::new(self.names.len());
        let len = self.len();
        let endless = self.is_open();
        let (others, closable, lacking);
        let unmet = self.obligations & !key.met;
        let cover = least_cover(&self.serves, unmet);
        let after = |which: usize| least_cover(&self.serves, unmet & !self.serves.get(which).unwrap_or(&0));
        let room =
            |taken: u32, needed: usize| self.max_members.is_none_or(|max| taken as usize + needed <= max as usize);
        match order {
            KeyOrder::Any => {
                let missing = self.missing(&key.used);
                for member in (0..len).filter(|&m| !key.used.has(m) && !self.is_forbidden(m)) {
                    let fits = self.max_members.is_none() || {
                        let mut used = key.used.clone();
                        used.set(member);
                        room(key.count + 1, self.missing(&used).len() + cover as usize)
                    };
                    if fits {
                        allowed.set(member);
                    }
                }
                others = endless && room(key.count + 1, missing.len() + (cover as usize).saturating_sub(1));
                lacking = missing.len();
                closable = missing.is_empty() && unmet == 0 && key.count >= self.min_members;
            }
            KeyOrder::Schema => {
                // `used` holds every member read where some implication needs it.
                let track = !self.implies.is_empty();
                let missing_from = |used: &Bits, next: u32| -> Option<usize> {
                    if track {
                        let missing = self.missing(used);
                        let lost = |&m: &u32| self.position[m as usize] < next;
                        // A member before `next` that is needed and not there can no longer come; required ones
                        // were never skipped.
                        (!missing.iter().any(lost)).then_some(missing.len())
                    } else {
                        Some(self.required_from[(next as usize).min(self.order.len())] as usize)
                    }
                };
                let missing = missing_from(&key.used, key.next);
                let needed_now = if track { self.missing(&key.used) } else { Vec::new() };
                for position in key.next..len {
                    let member = self.order[position as usize];
                    let mut used = key.used.clone();
                    if track {
                        used.set(member);
                    }
                    let after = missing_from(&used, position + 1);
                    let left = self.possible_from(position + 1);
                    let enough = endless || key.count as usize + 1 + left >= self.min_members as usize;
                    if enough
                        && !self.is_forbidden(member)
                        && after.is_some_and(|needed| room(key.count + 1, needed + cover as usize))
                    {
                        allowed.set(member);
                    }
                    if self.required[member as usize] || needed_now.contains(&member) {
                        break;
                    }
                }
                others = endless && missing == Some(0) && room(key.count + 1, (cover as usize).saturating_sub(1));
                lacking = missing.unwrap_or(0);
                closable = missing == Some(0) && unmet == 0 && key.count >= self.min_members;
            }
        }
        let members = allowed.any(0, len);
        let mut other_allowed = Vec::new();
        let mut nearest_other = if self.rest.is_some() { REST } else { 0 };
        if self.obligations != 0 {
            let fits = |which: usize| others && room(key.count + 1, lacking + after(which) as usize);
            other_allowed = (0..self.others.len()).map(fits).collect();
            let nearest =
                (0..self.others.len()).filter(|&which| other_allowed[which]).min_by_key(|&which| after(which));
            nearest_other = nearest.map_or(0, |which| u32::try_from(which).unwrap_or(u32::MAX));
        }
        let members_first = members && !(others && unmet != 0 && lacking == 0);
        let has_others = key.has_others;
        ObjectState {
            object,
            key,
            allowed,
            members,
            others,
            nearest_other,
            members_first,
            other_allowed,
            closable,
            has_others,
        }
    }
}

/// The shapes of a node, by the class of their first byte.
pub(crate) type Alternatives = [Box<[Alternative]>; First::ALL.len()];

/// Interned rules of one grammar. Any thread may add to them.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    alternatives: Cells<Alternatives>,
    objects: List<Arc<ObjectShape>>,
    states: List<ObjectState>,
    state_index: Map<(u32, ObjectKey), ObjectId>,
    state_next: Map<(ObjectId, u32), ObjectId>,
    arrays: List<ArrayShape>,
    strings: List<StringShape>,
    guards: List<Vec<GuardId>>,
    // Equal shapes are one, so that threads over them meet.
    object_index: Map<Arc<ObjectShape>, u32>,
    array_index: Map<ArrayShape, u32>,
    string_index: Map<StringShape, u32>,
    guard_index: Map<Vec<GuardId>, u32>,
    /// Names of the object that has most of them.
    widest: AtomicUsize,
    order: KeyOrder,
}

/// Which of the others: the rest of all keys.
pub(crate) const REST: u32 = u32::MAX;

/// The member "another key" in [`Rules::with_member`]: this, and which of the others.
const OTHER: u32 = 1 << 31;

/// The member that a key of the others is.
pub(crate) fn other(which: u32) -> u32 {
    OTHER | which
}

impl Rules {
    pub(crate) fn new(order: KeyOrder) -> Self {
        Self { order, ..Self::default() }
    }

    /// Memory of the states, which grow with the texts, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let state = 2 * size_of::<ObjectState>() + 3 * self.widest.load(Ordering::Relaxed) / 8;
        state * self.states.len() + 16 * self.state_next.len()
    }

    /// The shapes of a node.
    #[inline]
    pub(crate) fn alternatives(&self, node: NodeId, expansion: &SharedExpansion) -> &Alternatives {
        self.alternatives.get_or(node, || {
            let mut lists: [Vec<Alternative>; First::ALL.len()] = Default::default();
            for shape in expansion.ask(|expansion| expansion.shapes(node)).iter() {
                let alternative = self.alternative(shape, expansion);
                let list = &mut lists[alternative.start.first() as usize];
                if !list.contains(&alternative) {
                    list.push(alternative);
                }
            }
            lists.map(Vec::into_boxed_slice)
        })
    }

    fn alternative(&self, shape: &Shape, expansion: &SharedExpansion) -> Alternative {
        let guards = match &shape.guards {
            none if none.is_empty() => None,
            guards => Some(self.guard_index.get_or(guards.clone(), || self.guards.push(guards.clone()))),
        };
        let start = match &shape.kind {
            ShapeKind::Null => Start::Constant(Constant::Null),
            ShapeKind::Bool(false) => Start::Constant(Constant::False),
            ShapeKind::Bool(true) => Start::Constant(Constant::True),
            ShapeKind::Number(lang) => Start::Number(expansion.lang_start(*lang)),
            ShapeKind::String(string) => Start::String(self.string(string)),
            ShapeKind::Array(array) => {
                Start::Array(self.array_index.get_or(array.clone(), || self.arrays.push(array.clone())))
            }
            ShapeKind::Object(object) => Start::Object(self.object_index.get_or(object.clone(), || {
                self.widest.fetch_max(object.names.len(), Ordering::Relaxed);
                self.objects.push(object.clone())
            })),
        };
        Alternative { start, guards }
    }

    /// The index of a string's bounds.
    pub(crate) fn string(&self, string: &StringShape) -> u32 {
        self.string_index.get_or(string.clone(), || self.strings.push(string.clone()))
    }

    /// A string's bounds.
    #[inline]
    pub(crate) fn bounds(&self, bounds: u32) -> &StringShape {
        self.strings.get(bounds)
    }

    /// A list of guards.
    #[inline]
    pub(crate) fn guards(&self, guards: u32) -> &[GuardId] {
        self.guards.get(guards)
    }

    /// An array.
    #[inline]
    pub(crate) fn array(&self, array: u32) -> &ArrayShape {
        self.arrays.get(array)
    }

    /// An object, however far it has come.
    #[inline]
    pub(crate) fn object(&self, object: u32) -> &ObjectShape {
        self.objects.get(object)
    }

    /// An object's state.
    #[inline]
    pub(crate) fn state(&self, state: ObjectId) -> &ObjectState {
        self.states.get(state)
    }

    /// The object of a state.
    #[inline]
    pub(crate) fn object_of(&self, state: ObjectId) -> &ObjectShape {
        self.objects.get(self.state(state).object)
    }

    /// The state of an object before its first member.
    pub(crate) fn open(&self, object: u32) -> ObjectId {
        let used = Bits::new(self.object(object).names.len());
        self.intern(object, ObjectKey { used, next: 0, count: 0, has_others: false, met: 0 })
    }

    /// The state after one more member ([`other`]: one that has no name).
    pub(crate) fn with_member(&self, state: ObjectId, member: u32) -> ObjectId {
        if let Some(next) = self.state_next.get(&(state, member)) {
            return next;
        }
        let from = self.state(state);
        let (object, mut key) = (from.object, from.key.clone());
        let rules = self.object(object);
        key.count = (key.count + 1).min(rules.count_cap());
        if member >= OTHER {
            key.met |= rules.serves.get((member & !OTHER) as usize).copied().unwrap_or(0);
            key.has_others = true;
            key.next = rules.len();
        } else {
            if self.order == KeyOrder::Any || !rules.implies.is_empty() {
                key.used.set(member);
            }
            key.next = rules.position[member as usize] + 1;
        }
        if self.order == KeyOrder::Any {
            key.next = 0;
        }
        self.state_next.insert((state, member), self.intern(object, key))
    }

    /// The member that an object needs next, in the schema's order.
    pub(crate) fn next_required(&self, state: ObjectId) -> Option<u32> {
        let key = &self.state(state).key;
        let object = self.object_of(state);
        let missing = match (self.order, object.implies.is_empty()) {
            (KeyOrder::Schema, true) => {
                let rest = object.order.get(key.next as usize..).unwrap_or_default();
                return rest.iter().copied().find(|&member| object.required[member as usize]);
            }
            _ => object.missing(&key.used),
        };
        missing.into_iter().min_by_key(|&member| object.position[member as usize])
    }

    fn intern(&self, object: u32, key: ObjectKey) -> ObjectId {
        let at = (object, key);
        match self.state_index.get(&at) {
            Some(known) => known,
            None => {
                let state = self.object(object).state(object, at.1.clone(), self.order);
                self.state_index.get_or(at, || self.states.push(state))
            }
        }
    }
}
