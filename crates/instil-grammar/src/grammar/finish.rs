//! Alternatives → shapes.

use std::sync::Arc;

use serde_json::Value;

use super::Style;
use super::expand::Expansion;
use super::items::{COUNTED_LIMIT, ItemPlace, ItemPlan};
use super::language::{ANY, ExprId, INFINITE, NONE};
use super::node::{ANYTHING, ArrayBody, Case, NOTHING, ObjectBody, Signed, Slot};
use super::number::NumberSet;
use super::schema::Schema;
use super::shape::{ArrayShape, Contains, GuardId, NodeId, ObjectShape, Shape, ShapeKind, StringShape};

/// Further keys that are turned into named members.
const NAME_LIMIT: usize = 128;
/// Values that the items of a unique array are chosen from, and kept apart by the automaton.
const VALUE_LIMIT: usize = 64;
/// Counts of items that an automaton carries.
const COUNT_LIMIT: u32 = 65_535;
/// Existence conditions that a shape keeps account of.
const WITNESS_LIMIT: usize = 4;
/// Objects that one existence condition may be spread over.
const SPREAD_LIMIT: usize = 64;

impl Expansion {
    /// The alternatives of a node, each satisfiable (as far as the automaton knows); none when the
    /// node is empty. Memoised, cheap to clone.
    pub(crate) fn shapes(&mut self, node: NodeId) -> Arc<[Shape]> {
        if let Some(shapes) = self.shapes.get(&node) {
            return shapes.clone();
        }
        let alternatives = self.alternatives(node);
        let mut shapes = Vec::new();
        if alternatives.null {
            shapes.push(Shape { kind: ShapeKind::Null, guards: Vec::new() });
        }
        for (value, allowed) in [false, true].into_iter().zip(alternatives.booleans) {
            if allowed {
                shapes.push(Shape { kind: ShapeKind::Bool(value), guards: Vec::new() });
            }
        }
        for case in &alternatives.numbers {
            let mut guards = case.guards.clone();
            let language = match self.number_language(&case.body) {
                Some(language) => language,
                None => {
                    // No automaton for it: any number, checked when complete.
                    guards.extend(self.conjuncts(node).iter());
                    self.number_language(&NumberSet::all()).unwrap_or(ANY)
                }
            };
            if language != NONE && !self.languages.is_empty(language) {
                let guards = self.guard_ids(&guards);
                shapes.push(Shape { kind: ShapeKind::Number(language), guards });
            }
        }
        if self.program.inner.options.style == Style::Any
            && !alternatives.numbers.is_empty()
            && alternatives.numbers[0].body != NumberSet::all()
        {
            // Exponents of any form: what they mean is checked when the number is complete.
            let language = super::literal::exponent_literals(&mut self.languages);
            let guards = self.conjuncts(node).to_vec();
            let guards = self.guard_ids(&guards);
            shapes.push(Shape { kind: ShapeKind::Number(language), guards });
        }
        for case in &alternatives.strings {
            if !self.languages.is_empty(case.body) {
                let guards = self.guard_ids(&case.guards);
                let natural = self.natural_strings(case.body);
                shapes.push(Shape { kind: ShapeKind::String(self.string_shape(natural)), guards });
            }
        }
        for case in &alternatives.arrays {
            let mut case = case.clone();
            let counts = |&(_, min, max): &(NodeId, u32, Option<u32>)| min.max(max.unwrap_or(0)) > COUNT_LIMIT;
            if case.body.contains.len() > COUNTED_LIMIT || case.body.contains.iter().any(counts) {
                case.body.contains.clear();
                self.conjuncts(node).iter().for_each(|&signed| case.guard(signed));
            }
            if let Some(shape) = self.array_shape(&case.body) {
                let guards = self.guard_ids(&case.guards);
                shapes.push(Shape { kind: ShapeKind::Array(shape), guards });
            }
        }
        for case in &alternatives.objects {
            self.object_shapes(case, &mut shapes);
        }
        let shapes: Arc<[Shape]> = shapes.into();
        self.shapes.insert(node, shapes.clone());
        shapes
    }

    /// The literals of a set of numbers; `None` where an automaton cannot hold them.
    pub(super) fn number_language(&mut self, set: &NumberSet) -> Option<ExprId> {
        if let Some(&found) = self.number_languages.get(set) {
            return found;
        }
        let style = self.program.inner.options.style;
        let found = set.language(&mut self.languages, style);
        let found = found.map(|e| if self.languages.is_empty(e) { NONE } else { e });
        self.number_languages.insert(set.clone(), found);
        found
    }

    pub(super) fn string_shape(&self, language: ExprId) -> StringShape {
        match self.languages.as_length(language) {
            Some((min, max)) => StringShape { lang: ANY, min_chars: min, max_chars: (max != INFINITE).then_some(max) },
            None => StringShape { lang: language, min_chars: 0, max_chars: None },
        }
    }

    fn guard_ids(&mut self, conjuncts: &[Signed]) -> Vec<GuardId> {
        if conjuncts.is_empty() {
            return Vec::new();
        }
        let key: Arc<[Signed]> = conjuncts.into();
        if let Some(&id) = self.guard_index.get(&key) {
            return vec![id];
        }
        let id = u32::try_from(self.guards.len()).expect("fewer guards than nodes");
        self.guards.push(key.clone());
        self.guard_index.insert(key, id);
        vec![id]
    }

    /// Checks a finished value.
    pub(crate) fn guard_check(&mut self, guard: GuardId, value: &Value) -> bool {
        let conjuncts = self.guards[guard as usize].clone();
        conjuncts.iter().all(|signed| self.valid(signed.schema(), value) != signed.is_negative())
    }

    /// The shape of an array; none when nothing finite has it.
    pub(super) fn array_shape(&mut self, body: &ArrayBody) -> Option<ArrayShape> {
        let mut shape = ArrayShape {
            prefix: body.prefix.clone(),
            items: body.items,
            min_items: body.min,
            max_items: body.max,
            contains: Vec::new(),
            unique: body.unique,
            values: Vec::new(),
        };
        for at in 0..shape.prefix.len() {
            if self.is_surely_empty(shape.prefix[at]) {
                shape.prefix.truncate(at);
                shape.items = NOTHING;
                break;
            }
        }
        if let Some(max) = shape.max_items {
            shape.prefix.truncate(max as usize);
        }
        let length = u32::try_from(shape.prefix.len()).unwrap_or(INFINITE);
        if shape.max_items.is_some_and(|max| max <= length) || self.is_surely_empty(shape.items) {
            shape.items = NOTHING;
            shape.max_items = Some(shape.max_items.map_or(length, |max| max.min(length)));
        }
        if body.unique
            && shape.prefix.is_empty()
            && body.contains.is_empty()
            && let Some(values) = self.few_values(shape.items)
        {
            let count = u32::try_from(values.len()).unwrap_or(INFINITE);
            shape.max_items = Some(shape.max_items.map_or(count, |max| max.min(count)));
            shape.values = values;
        }
        let mut needed = 0u32;
        for &(node, min, max) in &body.contains {
            let other = if max.is_some() { self.complement_node(node) } else { ANYTHING };
            needed = needed.max(min);
            shape.contains.push(Contains { node, other, min, max });
        }
        shape.min_items = shape.min_items.max(needed);
        if shape.max_items.is_some_and(|max| shape.min_items > max) {
            return None;
        }
        let closes = shape.contains.is_empty()
            || self.items_needed(&shape, ItemPlace::default(), &mut ItemPlan::default()).is_some();
        closes.then_some(shape)
    }

    /// The values of a node of scalars, where they are few.
    fn few_scalars(&mut self, node: NodeId) -> Option<Vec<Value>> {
        let alternatives = self.alternatives(node);
        if !alternatives.arrays.is_empty() || !alternatives.objects.is_empty() {
            return None;
        }
        let mut values = Vec::new();
        if alternatives.null {
            values.push(Value::Null);
        }
        values.extend([false, true].into_iter().filter(|&b| alternatives.booleans[usize::from(b)]).map(Value::Bool));
        for case in &alternatives.numbers {
            let integers = if case.guards.is_empty() { case.body.few_integers(VALUE_LIMIT) } else { None };
            values.extend(integers?.into_iter().map(Value::from));
        }
        for case in &alternatives.strings {
            let words = if case.guards.is_empty() { self.languages.finite(case.body, VALUE_LIMIT) } else { None };
            values.extend(words?.into_iter().map(Value::String));
        }
        Some(values)
    }

    /// The values of a node that lists them, or has few, each as a node.
    fn few_values(&mut self, node: NodeId) -> Option<Vec<NodeId>> {
        let listed = self.listed_values(node).or_else(|| self.few_scalars(node));
        let values = listed.filter(|values| values.len() <= VALUE_LIMIT)?;
        let mut distinct: Vec<Value> = Vec::with_capacity(values.len());
        for value in values {
            if !distinct.iter().any(|other| super::evaluate::equal(other, &value)) {
                distinct.push(value);
            }
        }
        let mut nodes = Vec::with_capacity(distinct.len());
        for value in &distinct {
            let single = self.value_node(value, &Schema::default());
            nodes.push(self.meet_nodes(node, single));
        }
        Some(nodes)
    }

    /// Adds the shapes of an object: one, but for existence conditions, which are spread over the members that may
    /// meet them.
    fn object_shapes(&mut self, case: &Case<ObjectBody>, shapes: &mut Vec<Shape>) {
        let mut work = vec![case.clone()];
        while let Some(mut case) = work.pop() {
            self.name_few_keys(&mut case.body);
            let Some(exists) = case.body.some.pop() else {
                if let Some(shape) = self.object_shape(&case.body) {
                    let guards = self.guard_ids(&case.guards);
                    shapes.push(Shape { kind: ShapeKind::Object(shape.into()), guards });
                }
                continue;
            };
            let spread = case.body.slots().len();
            if spread > SPREAD_LIMIT || work.len() > SPREAD_LIMIT {
                case.guard(exists.check);
                work.push(case);
                continue;
            }
            for at in 0..spread {
                let slot = case.body.slots()[at].clone();
                if slot.node == NOTHING || !self.languages.matches(exists.keys, &slot.name) {
                    continue;
                }
                let node = self.meet_nodes(slot.node, exists.value);
                if !self.is_surely_empty(node) {
                    let mut with = case.clone();
                    with.body.slots_mut()[at].node = node;
                    with.body.slots_mut()[at].required = true;
                    work.push(with);
                }
            }
            // A key without a name of its own: an obligation of the shape, as long as they are few.
            let others = case.body.others.clone();
            let named = self.languages.words(case.body.slots().iter().map(|slot| &*slot.name));
            let unnamed = self.languages.not(named);
            let open = others.into_iter().any(|(keys, value)| {
                let keys = self.languages.and(vec![keys, exists.keys, unnamed]);
                let value = self.meet_nodes(value, exists.value);
                !self.languages.is_empty(keys) && !self.is_surely_empty(value)
            });
            if open {
                if case.body.witnesses.len() < WITNESS_LIMIT {
                    case.body.witnesses.push(exists);
                } else {
                    case.guard(exists.check);
                }
                work.push(case);
            }
        }
    }

    /// Adds to the further keys those that meet obligations, each set of these for itself; the bits of all entries.
    fn serving(&mut self, body: &ObjectBody, names: &[Arc<str>], others: &mut Vec<(ExprId, NodeId)>) -> Vec<u32> {
        let mut serves = vec![0; others.len()];
        if body.witnesses.is_empty() {
            return serves;
        }
        let named = self.languages.words(names.iter().map(|name| &**name));
        let unnamed = self.languages.not(named);
        for bits in 1u32..1 << body.witnesses.len() {
            for &(keys, value) in &body.others {
                let (mut keys, mut value) = (self.languages.and2(keys, unnamed), value);
                for (_, exists) in (0..).zip(&body.witnesses).filter(|(at, _)| bits >> at & 1 == 1) {
                    keys = self.languages.and2(keys, exists.keys);
                    value = self.meet_nodes(value, exists.value);
                }
                if !self.languages.is_empty(keys) && !self.is_surely_empty(value) {
                    others.push((keys, value));
                    serves.push(bits);
                }
            }
        }
        serves
    }

    /// Gives members to the keys of existence conditions that are few: then one of those can be asked for.
    fn name_few_keys(&mut self, body: &mut ObjectBody) {
        let wanted: Vec<ExprId> = body.some.iter().map(|exists| exists.keys).collect();
        for keys in wanted {
            for (others, node) in body.others.clone() {
                let both = self.languages.and2(others, keys);
                for name in self.languages.finite(both, SPREAD_LIMIT).unwrap_or_default() {
                    if body.find(&name).is_none() {
                        body.push(Slot { name: name.into(), node, required: false });
                    }
                }
            }
        }
    }

    fn object_shape(&mut self, body: &ObjectBody) -> Option<ObjectShape> {
        if self.is_empty_object(body) {
            return None;
        }
        let mut body = body.clone();
        for (_, name) in body.implies.clone() {
            if body.find(&name).is_none() {
                let node = self.member_value(&body, &name);
                body.push(Slot { name, node, required: false });
            }
        }
        for (name, _) in body.implies.clone() {
            if body.find(&name).is_none() {
                let node = self.member_value(&body, &name);
                body.push(Slot { name, node, required: false });
            }
        }
        for at in 0..body.slots().len() {
            if self.is_surely_empty(body.slots()[at].node) {
                body.slots_mut()[at].node = NOTHING;
            }
        }
        // What a member asks for, it asks for at once; what it cannot have forbids it.
        let links: Vec<(usize, usize)> =
            body.implies.iter().filter_map(|(a, b)| Some((body.find(a)?, body.find(b)?))).collect();
        loop {
            let mut changed = false;
            for &(a, b) in &links {
                let slots = body.slots_mut();
                if slots[a].required && !slots[b].required {
                    slots[b].required = true;
                    changed = true;
                }
                if slots[b].node == NOTHING && slots[a].node != NOTHING {
                    slots[a].node = NOTHING;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        if body.slots().iter().any(|slot| slot.required && slot.node == NOTHING) {
            return None;
        }
        self.close_naturally(&mut body);
        self.leave_names_alone(&mut body);
        let names: Vec<Arc<str>> = body.slots().iter().map(|slot| slot.name.clone()).collect();
        let (mut others, mut named_others) = (Vec::with_capacity(body.others.len()), Vec::new());
        let mut rest = None;
        if body.max == Some(0) {
            // No member at all.
        } else if let [(ANY, value)] = body.others[..]
            && body.witnesses.is_empty()
        {
            rest = (!self.is_surely_empty(value)).then_some(value);
        } else if !body.others.is_empty() {
            let named = self.languages.words(names.iter().map(|name| &**name));
            let unnamed = self.languages.not(named);
            for &(keys, value) in &body.others {
                let keys = self.languages.and2(keys, unnamed);
                if self.languages.is_empty(keys) || self.is_surely_empty(value) {
                    continue;
                }
                match self.languages.finite(keys, NAME_LIMIT) {
                    // Few enough to name: then each can be used up.
                    Some(names) if body.witnesses.is_empty() => {
                        named_others.extend(names.into_iter().map(|name| (name, value)));
                    }
                    _ => others.push((keys, value)),
                }
            }
        }
        let serves = self.serving(&body, &names, &mut others);
        let obligations = u32::try_from(body.witnesses.len()).unwrap_or(INFINITE);
        if serves.iter().fold(0, |all, bits| all | bits) != (1u32 << obligations) - 1 {
            return None;
        }
        for (name, node) in named_others {
            body.push(Slot { name: name.into(), node, required: false });
        }
        // In the schema's order: the members, then the names that the rest does not cover.
        let is_member = |slot: &&Slot| slot.node != NOTHING;
        let members: Vec<&Slot> = body.slots().iter().filter(is_member).collect();
        let required = u32::try_from(members.iter().filter(|slot| slot.required).count()).unwrap_or(INFINITE);
        let possible = u32::try_from(members.len()).unwrap_or(INFINITE);
        let endless = !others.is_empty() || rest.is_some();
        let min_members = if body.min <= required { 0 } else { body.min };
        let max_members = body.max.filter(|&max| endless || max < possible);
        let obligations = (1 << obligations) - 1;
        let witnesses = least_cover(&serves, obligations);
        if max_members.is_some_and(|max| max < required.saturating_add(witnesses))
            || (!endless && min_members > possible)
        {
            return None;
        }
        let forbidden = body.slots().iter().filter(|slot| slot.node == NOTHING && rest.is_some());
        let listed: Vec<&Slot> = members.into_iter().chain(forbidden).collect();
        let bytes = |at: &u32| listed[*at as usize].name.as_bytes();
        let mut position: Vec<u32> = (0..).take(listed.len()).collect();
        position.sort_by(|a, b| bytes(a).cmp(bytes(b)));
        let sorted = || position.iter().map(|&at| listed[at as usize]);
        let mut order = vec![0; listed.len()];
        (0..).zip(&position).for_each(|(name, &at)| order[at as usize] = name);
        let mut required_from = vec![0; listed.len() + 1];
        for at in (0..listed.len()).rev() {
            required_from[at] = required_from[at + 1] + u32::from(listed[at].required);
        }
        let names: Vec<Box<[u8]>> = sorted().map(|slot| slot.name.as_bytes().into()).collect();
        let number = |at: usize| {
            let found = names.binary_search_by(|name| (**name).cmp(body.slots()[at].name.as_bytes()));
            found.ok().and_then(|name| u32::try_from(name).ok())
        };
        let live = |at: usize| body.slots()[at].node != NOTHING;
        let implies = links
            .into_iter()
            .filter(|&(a, b)| a != b && live(a) && live(b) && !body.slots()[b].required)
            .filter_map(|(a, b)| Some((number(a)?, number(b)?)))
            .collect();
        Some(ObjectShape {
            nodes: sorted().map(|slot| (slot.node != NOTHING).then_some(slot.node)).collect(),
            required: sorted().map(|slot| slot.required).collect(),
            names,
            position,
            order,
            required_from,
            others,
            serves,
            obligations,
            rest,
            min_members,
            max_members,
            implies,
        })
    }
}

/// Fewest entries that together meet the obligations.
pub(crate) fn least_cover(serves: &[u32], unmet: u32) -> u32 {
    if unmet == 0 {
        return 0;
    }
    // Breadth first over what is left; there are few obligations.
    let (mut seen, mut now) = (vec![unmet], vec![unmet]);
    for count in 1.. {
        let mut next = Vec::new();
        for left in now {
            for bits in serves.iter().filter(|&&bits| bits & left != 0) {
                let left = left & !bits;
                if left == 0 {
                    return count;
                }
                if !seen.contains(&left) {
                    seen.push(left);
                    next.push(left);
                }
            }
        }
        if next.is_empty() {
            break;
        }
        now = next;
    }
    u32::MAX
}
