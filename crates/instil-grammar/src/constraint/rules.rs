//! Shapes as the engine runs them: values by first byte, objects with sorted names, arrays with
//! bounded counters. Built from the expansion when a node is first entered.

use rustc_hash::FxHashMap;

use super::KeyOrder;
use crate::grammar::{
    ArrayShape, Expansion, GuardId, LangId, NodeId, ObjectShape, Shape, ShapeKind, StringShape, least_cover,
};

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

/// Number of [`First`] classes.
pub(crate) const FIRSTS: usize = 7;

/// One shape of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(crate) first: First,
    /// Number: start state. String: index of its bounds. Array, object: index of it.
    pub(crate) index: u32,
    /// List of guards, or [`NO_GUARDS`].
    pub(crate) guards: u32,
}

/// No guard at all.
pub(crate) const NO_GUARDS: u32 = u32::MAX;

/// An object as it is run; names are sorted by bytes, and members are numbered so.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) names: Vec<Box<[u8]>>,
    pub(crate) nodes: Vec<NodeId>,
    /// Position in the schema's order, by member.
    position: Vec<u32>,
    /// Member at each position.
    order: Vec<u32>,
    required: Vec<bool>,
    /// Required members at or after each position.
    required_from: Vec<u32>,
    pub(crate) others: Vec<(LangId, NodeId)>,
    /// By entry of `others`: the obligations that it meets, as bits.
    serves: Vec<u32>,
    /// All obligations, as bits.
    obligations: u32,
    /// Value of every key that is none of `names`.
    pub(crate) rest: Option<NodeId>,
    /// Names that are not members.
    forbidden: Vec<bool>,
    min: u32,
    max: Option<u32>,
    /// `(a, b)` by member: `a` needs `b`.
    implies: Vec<(u32, u32)>,
    counted: bool,
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

impl Object {
    fn new(shape: &ObjectShape, expansion: &mut Expansion) -> Self {
        // Members in the schema's order; names that may not come have no node.
        let mut entries: Vec<(&str, Option<NodeId>, bool)> = Vec::new();
        for member in &shape.members {
            let node = (!expansion.is_empty(member.node)).then_some(member.node);
            entries.push((&member.name, node, member.required));
        }
        // A member that needs a forbidden one is forbidden itself.
        while let Some(&(a, _)) =
            shape.implies.iter().find(|(a, b)| entries[*b as usize].1.is_none() && entries[*a as usize].1.is_some())
        {
            entries[a as usize].1 = None;
        }
        entries.extend(shape.forbidden.iter().map(|name| (name.as_str(), None, false)));
        let mut order: Vec<u32> = (0..).take(entries.len()).collect();
        order.sort_by(|&a, &b| entries[a as usize].0.as_bytes().cmp(entries[b as usize].0.as_bytes()));
        let mut sorted = vec![0; entries.len()];
        for (index, &entry) in (0..).zip(&order) {
            sorted[entry as usize] = index;
        }
        let entry = |index: &u32| entries[*index as usize];
        let mut required_from = vec![0; entries.len() + 1];
        for at in (0..entries.len()).rev() {
            required_from[at] = required_from[at + 1] + u32::from(entries[at].2);
        }
        let implies = shape.implies.iter().filter(|(a, b)| a != b && entries[*a as usize].1.is_some());
        Self {
            required_from,
            names: order.iter().map(|i| entry(i).0.as_bytes().into()).collect(),
            nodes: order.iter().map(|i| entry(i).1.unwrap_or(NodeId::MAX)).collect(),
            forbidden: order.iter().map(|i| entry(i).1.is_none()).collect(),
            required: order.iter().map(|i| entry(i).2).collect(),
            others: shape.others.clone(),
            serves: shape.serves.clone(),
            obligations: (1 << shape.obligations) - 1,
            rest: shape.rest,
            min: shape.min_members,
            max: shape.max_members,
            counted: shape.min_members > 0 || shape.max_members.is_some(),
            implies: implies.map(|&(a, b)| (sorted[a as usize], sorted[b as usize])).collect(),
            position: order,
            order: sorted,
        }
    }

    /// The value of a key that is not a member's: [`REST`] or one of the others.
    pub(crate) fn other_node(&self, which: u32) -> NodeId {
        match self.rest {
            Some(node) if which == REST => node,
            _ => self.others[which as usize].1,
        }
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
        if self.min == 0 {
            return 0;
        }
        self.order[position as usize..].iter().filter(|&&member| !self.forbidden[member as usize]).count()
    }

    /// The greatest count that matters.
    fn count_cap(&self) -> u32 {
        if self.counted { self.max.unwrap_or(self.min).max(self.min) } else { 0 }
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
        let room = |taken: u32, needed: usize| self.max.is_none_or(|max| taken as usize + needed <= max as usize);
        match order {
            KeyOrder::Any => {
                let missing = self.missing(&key.used);
                for member in (0..len).filter(|&m| !key.used.has(m) && !self.forbidden[m as usize]) {
                    let fits = self.max.is_none() || {
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
                closable = missing.is_empty() && unmet == 0 && key.count >= self.min;
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
                    let enough = endless || key.count as usize + 1 + left >= self.min as usize;
                    if enough
                        && !self.forbidden[member as usize]
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
                closable = missing == Some(0) && unmet == 0 && key.count >= self.min;
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
            nearest_other = nearest.map_or(0, index);
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

/// Interned rules of one grammar.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    nodes: FxHashMap<NodeId, u32>,
    alternatives: Vec<[Box<[Alternative]>; FIRSTS]>,
    pub(crate) objects: Vec<Object>,
    states: Vec<ObjectState>,
    state_index: FxHashMap<(u32, ObjectKey), u32>,
    state_next: FxHashMap<(u32, u32), u32>,
    arrays: Vec<ArrayShape>,
    pub(crate) strings: Vec<StringShape>,
    pub(crate) guards: Vec<Vec<GuardId>>,
    // Equal shapes are one, so that threads over them meet.
    object_index: FxHashMap<ObjectShape, u32>,
    array_index: FxHashMap<ArrayShape, u32>,
    string_index: FxHashMap<StringShape, u32>,
    guard_index: FxHashMap<Vec<GuardId>, u32>,
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
        let widest = self.objects.iter().map(|object| object.names.len()).max().unwrap_or(0);
        let state = 2 * size_of::<ObjectState>() + 3 * widest / 8;
        state * self.states.len() + 16 * self.state_next.len()
    }

    /// The shapes of a node that begin with a class of bytes.
    pub(crate) fn alternatives(&mut self, node: NodeId, expansion: &mut Expansion) -> u32 {
        if let Some(&index) = self.nodes.get(&node) {
            return index;
        }
        let mut lists: [Vec<Alternative>; FIRSTS] = Default::default();
        for shape in expansion.shapes(node).iter() {
            let alternative = self.alternative(shape, expansion);
            let list = &mut lists[alternative.first as usize];
            if !list.contains(&alternative) {
                list.push(alternative);
            }
        }
        let index = u32::try_from(self.alternatives.len()).expect("fewer nodes than 2^32");
        self.alternatives.push(lists.map(Vec::into_boxed_slice));
        self.nodes.insert(node, index);
        index
    }

    /// One list of [`Self::alternatives`].
    #[inline]
    pub(crate) fn list(&self, index: u32, first: usize) -> &[Alternative] {
        &self.alternatives[index as usize][first]
    }

    fn alternative(&mut self, shape: &Shape, expansion: &mut Expansion) -> Alternative {
        let guards = match &shape.guards {
            none if none.is_empty() => NO_GUARDS,
            guards => *self.guard_index.entry(guards.clone()).or_insert_with(|| {
                self.guards.push(guards.clone());
                index(self.guards.len() - 1)
            }),
        };
        let (first, index) = match &shape.kind {
            ShapeKind::Null => (First::Null, 0),
            ShapeKind::Bool(false) => (First::False, 0),
            ShapeKind::Bool(true) => (First::True, 0),
            ShapeKind::Number(lang) => (First::Number, expansion.lang_start(*lang)),
            ShapeKind::String(string) => (First::String, self.string(string)),
            ShapeKind::Array(array) => {
                let arrays = &mut self.arrays;
                let index = *self.array_index.entry(array.clone()).or_insert_with(|| {
                    arrays.push(array.clone());
                    index(arrays.len() - 1)
                });
                (First::Array, index)
            }
            ShapeKind::Object(object) => {
                let objects = &mut self.objects;
                let index = *self.object_index.entry(object.clone()).or_insert_with(|| {
                    objects.push(Object::new(object, expansion));
                    index(objects.len() - 1)
                });
                (First::Object, index)
            }
        };
        Alternative { first, index, guards }
    }

    /// The index of a string's bounds.
    pub(crate) fn string(&mut self, string: &StringShape) -> u32 {
        let strings = &mut self.strings;
        *self.string_index.entry(string.clone()).or_insert_with(|| {
            strings.push(string.clone());
            index(strings.len() - 1)
        })
    }

    /// An array.
    #[inline]
    pub(crate) fn array(&self, array: u32) -> &ArrayShape {
        &self.arrays[array as usize]
    }

    /// An object's state.
    #[inline]
    pub(crate) fn state(&self, state: u32) -> &ObjectState {
        &self.states[state as usize]
    }

    /// The object of a state.
    #[inline]
    pub(crate) fn object_of(&self, state: u32) -> &Object {
        &self.objects[self.states[state as usize].object as usize]
    }

    /// The state of an object before its first member.
    pub(crate) fn open(&mut self, object: u32) -> u32 {
        let used = Bits::new(self.objects[object as usize].names.len());
        self.intern(object, ObjectKey { used, next: 0, count: 0, has_others: false, met: 0 })
    }

    /// The state after one more member ([`other`]: one that has no name).
    pub(crate) fn with_member(&mut self, state: u32, member: u32) -> u32 {
        if let Some(&next) = self.state_next.get(&(state, member)) {
            return next;
        }
        let from = &self.states[state as usize];
        let (object, mut key) = (from.object, from.key.clone());
        let rules = &self.objects[object as usize];
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
        let next = self.intern(object, key);
        self.state_next.insert((state, member), next);
        next
    }

    /// The member that an object needs next, in the schema's order.
    pub(crate) fn next_required(&self, state: u32) -> Option<u32> {
        let key = &self.states[state as usize].key;
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

    fn intern(&mut self, object: u32, key: ObjectKey) -> u32 {
        let at = (object, key);
        if let Some(&state) = self.state_index.get(&at) {
            return state;
        }
        let state = self.objects[object as usize].state(object, at.1.clone(), self.order);
        self.states.push(state);
        let state = index(self.states.len() - 1);
        self.state_index.insert(at, state);
        state
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("memory ends before 2^32 rules")
}
