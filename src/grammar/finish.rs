//! Alternatives → shapes, and which nodes are empty.

use std::sync::Arc;

use serde_json::Value;

use super::NumberStyle;
use super::expand::Expansion;
use super::language::{ANY, ExprId, INFINITE, NONE};
use super::node::{ANYTHING, ArrayBody, Case, Literal, NOTHING, ObjectBody};
use super::number::NumberSet;
use super::schema::{Keyword, SchemaId, types};
use super::shape::{ArrayShape, Contains, GuardId, Member, NodeId, ObjectShape, Shape, ShapeKind, StringShape};

/// Nesting of required values that is followed when looking for an empty node.
const DEPTH_LIMIT: usize = 24;
/// Further keys that are turned into named members.
const NAME_LIMIT: usize = 128;
/// Counted conditions on items, and counts, that an automaton carries.
const COUNTED_LIMIT: usize = 4;
const COUNT_LIMIT: u32 = 65_535;
/// Listed values that are tried one by one.
const FINITE_LIMIT: usize = 64;
/// Objects that one existence condition may be spread over.
const SPREAD_LIMIT: usize = 64;

impl Expansion {
    // ---- emptiness ----------------------------------------------------------------------------

    /// Empty for certain; values that are still being worked out count as inhabited.
    pub(super) fn is_surely_empty(&mut self, node: NodeId) -> bool {
        match node {
            ANYTHING => return false,
            NOTHING => return true,
            _ => {}
        }
        if let Some(&empty) = self.emptiness.get(&node) {
            return empty;
        }
        if self.is_plainly_inhabited(node) {
            self.emptiness.insert(node, false);
            return false;
        }
        if let Some(empty) = self.finite_emptiness(node) {
            self.emptiness.insert(node, empty);
            return empty;
        }
        if self.is_in_progress(node) || self.emptiness_path.contains(&node) || self.emptiness_path.len() >= DEPTH_LIMIT
        {
            return false;
        }
        self.emptiness_path.push(node);
        let alternatives = self.alternatives(node);
        let empty = !alternatives.null
            && alternatives.booleans == [false; 2]
            && !alternatives.strings.iter().any(|case| !self.languages.is_empty(case.body))
            && !alternatives.numbers.iter().any(|case| self.number_language(&case.body).is_none_or(|e| e != NONE))
            && !alternatives.arrays.iter().any(|case| !self.is_empty_array(&case.body))
            && !alternatives.objects.iter().any(|case| !self.is_empty_object(&case.body));
        self.emptiness_path.pop();
        // An answer found under an assumption still holds: it assumed more values than there are.
        if empty || self.emptiness_path.is_empty() {
            self.emptiness.insert(node, empty);
        }
        empty
    }

    /// Where a literal lists its values, trying them tells.
    fn finite_emptiness(&mut self, node: NodeId) -> Option<bool> {
        let literals = self.literals(node);
        let values = literals.iter().filter(|literal| !literal.is_negative()).find_map(|literal| {
            self.schema(literal.schema()).keywords.iter().find_map(|keyword| match keyword {
                Keyword::Enum(values) if values.len() <= FINITE_LIMIT => Some(values.clone()),
                _ => None,
            })
        })?;
        let fits = |this: &mut Self, value: &Value| {
            literals.iter().all(|literal| this.valid(literal.schema(), value) != literal.is_negative())
        };
        Some(!values.iter().any(|value| fits(self, value)))
    }

    fn is_empty_array(&mut self, body: &ArrayBody) -> bool {
        if body.max.is_some_and(|max| body.min > max) {
            return true;
        }
        let needed = (body.min as usize).min(body.prefix.len() + 1);
        (0..needed).any(|at| self.is_surely_empty(body.item(at)))
            || body
                .contains
                .iter()
                .any(|&(node, min, _)| min > 0 && (body.max.is_some_and(|max| max < min) || self.is_surely_empty(node)))
    }

    fn is_empty_object(&mut self, body: &ObjectBody) -> bool {
        let required = body.slots().iter().filter(|slot| slot.required).count();
        if body.max.is_some_and(|max| (max as usize) < required) {
            return true;
        }
        if body.others.is_empty() && (body.min as usize) > required {
            let possible = body.slots().iter().filter(|slot| slot.node != NOTHING).count();
            if possible < body.min as usize {
                return true;
            }
        }
        if body.slots().iter().any(|slot| slot.required && self.is_surely_empty(slot.node)) {
            return true;
        }
        body.some.iter().any(|exists| {
            exists.keys == NONE
                || self.is_surely_empty(exists.value)
                || (body.others.is_empty()
                    && !body
                        .slots()
                        .iter()
                        .any(|slot| slot.node != NOTHING && self.languages.matches(exists.keys, &slot.name)))
        })
    }

    /// A quick look at a single schema; false when it takes more than that.
    fn is_plainly_inhabited(&mut self, node: NodeId) -> bool {
        match self.literals(node)[..] {
            [literal] if !literal.is_negative() => self.schema_inhabited(literal.schema(), 0),
            _ => false,
        }
    }

    fn schema_inhabited(&self, id: SchemaId, depth: u32) -> bool {
        if depth > 8 {
            return false;
        }
        let schema = self.schema(id);
        // Types that are allowed and about which no other keyword says anything.
        let mut open = 0x7F;
        for keyword in &schema.keywords {
            open &= match keyword {
                Keyword::Type(bits) => *bits,
                Keyword::Enum(values) if schema.keywords.len() == 1 => return !values.is_empty(),
                Keyword::Number(_) => !(types::NUMBER | types::INTEGER),
                Keyword::Length(min, max) if max.is_none_or(|max| *min <= max) && !has_language(&schema.keywords) => {
                    0x7F
                }
                Keyword::Length(..) | Keyword::Pattern(_) | Keyword::Format(_) => !types::STRING,
                Keyword::Object(_) | Keyword::PropertyNames(_) | Keyword::DependentRequired(_) => 0x7F,
                Keyword::Members(0, _) | Keyword::ItemCount(0, _) | Keyword::Unique | Keyword::Items(..) => 0x7F,
                Keyword::Required(_)
                | Keyword::Members(..)
                | Keyword::UnevaluatedProperties(_)
                | Keyword::DependentSchemas(_) => !types::OBJECT,
                Keyword::ItemCount(..) | Keyword::Contains(..) | Keyword::UnevaluatedItems(_) => !types::ARRAY,
                Keyword::Ref(target) if schema.keywords.len() == 1 => return self.schema_inhabited(*target, depth + 1),
                Keyword::AnyOf(list) if schema.keywords.len() == 1 => {
                    return list.iter().any(|&inner| self.schema_inhabited(inner, depth + 1));
                }
                Keyword::Enum(_)
                | Keyword::AllOf(_)
                | Keyword::AnyOf(_)
                | Keyword::OneOf(_)
                | Keyword::Not(_)
                | Keyword::If(..)
                | Keyword::Ref(_) => return false,
            };
        }
        open != 0
    }

    // ---- shapes -------------------------------------------------------------------------------

    /// The alternatives of a node, each satisfiable (as far as the automaton knows); none when the
    /// node is empty. Memoised, cheap to clone.
    pub fn shapes(&mut self, node: NodeId) -> Arc<[Shape]> {
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
                    guards.extend(self.literals(node).iter());
                    self.number_language(&NumberSet::all()).unwrap_or(ANY)
                }
            };
            if language != NONE && !self.languages.is_empty(language) {
                let guards = self.guard_ids(&guards);
                shapes.push(Shape { kind: ShapeKind::Number(language), guards });
            }
        }
        if self.program.inner.options.numbers == NumberStyle::Any
            && !alternatives.numbers.is_empty()
            && alternatives.numbers[0].body != NumberSet::all()
        {
            // Exponents of any form: what they mean is checked when the number is complete.
            let language = super::number::exponent_literals(&mut self.languages);
            let guards = self.literals(node).to_vec();
            let guards = self.guard_ids(&guards);
            shapes.push(Shape { kind: ShapeKind::Number(language), guards });
        }
        for case in &alternatives.strings {
            if !self.languages.is_empty(case.body) {
                let guards = self.guard_ids(&case.guards);
                shapes.push(Shape { kind: ShapeKind::String(self.string_shape(case.body)), guards });
            }
        }
        for case in &alternatives.arrays {
            let mut case = case.clone();
            let counts = |&(_, min, max): &(NodeId, u32, Option<u32>)| min.max(max.unwrap_or(0)) > COUNT_LIMIT;
            if case.body.contains.len() > COUNTED_LIMIT || case.body.contains.iter().any(counts) {
                case.body.contains.clear();
                self.literals(node).iter().for_each(|&literal| case.guard(literal));
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
        let style = self.program.inner.options.numbers;
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

    fn guard_ids(&mut self, literals: &[Literal]) -> Vec<GuardId> {
        if literals.is_empty() {
            return Vec::new();
        }
        let key: Arc<[Literal]> = literals.into();
        if let Some(&id) = self.guard_index.get(&key) {
            return vec![id];
        }
        let id = u32::try_from(self.guards.len()).expect("fewer guards than nodes");
        self.guards.push(key.clone());
        self.guard_index.insert(key, id);
        vec![id]
    }

    /// Number of different guards so far.
    pub fn guard_count(&self) -> usize {
        self.guards.len()
    }

    /// Checks a finished value.
    pub fn guard_check(&mut self, guard: GuardId, value: &Value) -> bool {
        let literals = self.guards[guard as usize].clone();
        literals.iter().all(|literal| self.valid(literal.schema(), value) != literal.is_negative())
    }

    fn array_shape(&mut self, body: &ArrayBody) -> Option<ArrayShape> {
        if self.is_empty_array(body) {
            return None;
        }
        let mut shape = ArrayShape {
            prefix: body.prefix.clone(),
            items: body.items,
            min_items: body.min,
            max_items: body.max,
            contains: Vec::new(),
            unique: body.unique,
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
        let mut needed = 0u32;
        for &(node, min, max) in &body.contains {
            let other = if max.is_some() { self.complement_node(node) } else { ANYTHING };
            needed = needed.max(min);
            shape.contains.push(Contains { node, other, min, max });
        }
        shape.min_items = shape.min_items.max(needed);
        shape.max_items.is_none_or(|max| shape.min_items <= max).then_some(shape)
    }

    /// Adds the shapes of an object: one, but for existence conditions, which are spread over the members that may
    /// meet them.
    fn object_shapes(&mut self, case: &Case<ObjectBody>, shapes: &mut Vec<Shape>) {
        let mut work = vec![case.clone()];
        while let Some(mut case) = work.pop() {
            let Some(exists) = case.body.some.pop() else {
                if let Some(shape) = self.object_shape(&case.body) {
                    let guards = self.guard_ids(&case.guards);
                    shapes.push(Shape { kind: ShapeKind::Object(shape), guards });
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
            // A key without a name of its own: any such member may do, so the whole is checked.
            let others = case.body.others.clone();
            let open = others.into_iter().any(|(keys, value)| {
                let keys = self.languages.and2(keys, exists.keys);
                let value = self.meet_nodes(value, exists.value);
                !self.languages.is_empty(keys) && !self.is_surely_empty(value)
            });
            if open {
                case.guard(exists.check);
                work.push(case);
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
                body.push(super::node::Slot { name, node, required: false });
            }
        }
        for (name, _) in body.implies.clone() {
            if body.find(&name).is_none() {
                let node = self.member_value(&body, &name);
                body.push(super::node::Slot { name, node, required: false });
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
        let names: Vec<Arc<str>> = body.slots().iter().map(|slot| slot.name.clone()).collect();
        let (mut others, mut named_others) = (Vec::with_capacity(body.others.len()), Vec::new());
        let mut rest = None;
        let mut forbidden = Vec::new();
        if body.max == Some(0) {
            // No member at all.
        } else if let [(ANY, value)] = body.others[..] {
            rest = (!self.is_surely_empty(value)).then_some(value);
            let slots = body.slots().iter().filter(|slot| slot.node == NOTHING && rest.is_some());
            forbidden = slots.map(|slot| slot.name.to_string()).collect();
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
                    Some(names) => named_others.extend(names.into_iter().map(|name| (name, value))),
                    None => others.push((keys, value)),
                }
            }
        }
        for (name, node) in named_others {
            body.push(super::node::Slot { name: name.into(), node, required: false });
        }
        let mut place = vec![u32::MAX; body.slots().len()];
        let mut members = Vec::with_capacity(body.slots().len());
        for (at, slot) in body.slots().iter().enumerate() {
            if slot.node != NOTHING {
                place[at] = u32::try_from(members.len()).unwrap_or(u32::MAX);
                members.push(Member { name: slot.name.to_string(), node: slot.node, required: slot.required });
            }
        }
        let required = u32::try_from(members.iter().filter(|member| member.required).count()).unwrap_or(INFINITE);
        let possible = u32::try_from(members.len()).unwrap_or(INFINITE);
        let endless = !others.is_empty() || rest.is_some();
        let min_members = if body.min <= required { 0 } else { body.min };
        let max_members = body.max.filter(|&max| endless || max < possible);
        if max_members.is_some_and(|max| max < required) || (!endless && min_members > possible) {
            return None;
        }
        let implies = links
            .into_iter()
            .filter(|&(a, b)| place[a] != u32::MAX && place[b] != u32::MAX && !body.slots()[b].required)
            .map(|(a, b)| (place[a], place[b]))
            .collect();
        Some(ObjectShape { members, others, rest, forbidden, min_members, max_members, implies })
    }
}

fn has_language(keywords: &[Keyword]) -> bool {
    keywords.iter().any(|keyword| matches!(keyword, Keyword::Pattern(_) | Keyword::Format(_)))
}
