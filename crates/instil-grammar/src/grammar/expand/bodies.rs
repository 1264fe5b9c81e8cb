//! Bodies of objects and arrays: what one keyword says of members or items, and where two bodies meet.

use std::sync::Arc;

use super::super::language::{ANY, ExprId};
use super::super::node::{ANYTHING, Alternatives, ArrayBody, Case, Literal, NOTHING, ObjectBody, Slot, min_bound};
use super::super::schema::{Keyword, ObjectRules, Schema, SchemaId, TRUE, types};
use super::super::shape::NodeId;
use super::{CASE_LIMIT, Expansion, KEY_LIMIT};

impl Expansion {
    /// The value that a key without a slot of its own may have.
    pub(super) fn other_value(&mut self, body: &ObjectBody, name: &str) -> NodeId {
        for &(keys, node) in &body.others {
            if self.languages.matches(keys, name) {
                return node;
            }
        }
        NOTHING
    }

    pub(in crate::grammar) fn member_value(&mut self, body: &ObjectBody, name: &str) -> NodeId {
        match body.find(name) {
            Some(at) => body.slots()[at].node,
            None => self.other_value(body, name),
        }
    }

    pub(super) fn slot(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> usize {
        if let Some(at) = body.find(name) {
            return at;
        }
        let node = self.other_value(body, name);
        body.push(Slot { name: name.clone(), node, required: false });
        body.slots().len() - 1
    }

    /// The member must be there; false when it cannot.
    pub(in crate::grammar) fn require(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> bool {
        let at = self.slot(body, name);
        body.slots_mut()[at].required = true;
        body.slots()[at].node != NOTHING
    }

    /// The member must not be there; false when it must.
    pub(in crate::grammar) fn forbid(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> bool {
        let at = self.slot(body, name);
        body.slots_mut()[at].node = NOTHING;
        !body.slots()[at].required
    }

    pub(super) fn rules_body(&mut self, rules: &ObjectRules, keyword: &Keyword, schema: &Schema) -> Case<ObjectBody> {
        let mut body = ObjectBody::default();
        let mut guard = None;
        let mut patterns = Vec::with_capacity(rules.patterns.len());
        for &(pattern, inner) in &rules.patterns {
            patterns.push((self.pattern_language(pattern), inner));
        }
        for (name, inner) in &rules.properties {
            let mut node = self.schema_node(*inner);
            for &(language, other) in &patterns {
                if self.languages.matches(language, name) {
                    let other = self.schema_node(other);
                    node = self.meet_nodes(node, other);
                }
            }
            match body.find(name) {
                Some(at) => body.slots_mut()[at].node = node,
                None => body.push(Slot { name: name.clone(), node, required: false }),
            }
        }
        // Keys by the set of patterns that they match.
        let mut keys: Vec<(ExprId, NodeId, bool)> = vec![(ANY, ANYTHING, false)];
        for &(language, inner) in &patterns {
            let node = self.schema_node(inner);
            let outside = self.languages.not(language);
            let mut split = Vec::with_capacity(keys.len() + 1);
            for (keys, value, matched) in keys {
                let inside = self.languages.and2(keys, language);
                if !self.languages.is_empty(inside) {
                    split.push((inside, self.meet_nodes(value, node), true));
                }
                let rest = self.languages.and2(keys, outside);
                if !self.languages.is_empty(rest) {
                    split.push((rest, value, matched));
                }
            }
            keys = split;
            if keys.len() > KEY_LIMIT {
                guard = Some(Literal::positive(self.keyword_schema(keyword.clone(), schema)));
                keys = vec![(ANY, ANYTHING, true)];
                break;
            }
        }
        let additional = self.schema_node(rules.additional);
        body.others.clear();
        for (keys, value, matched) in keys {
            let value = if matched { value } else { additional };
            if value != NOTHING {
                body.others.push((keys, value));
            }
        }
        let mut case = Case::plain(body);
        if let Some(guard) = guard {
            case.guard(guard);
        }
        case
    }

    pub(super) fn apply_property_names(
        &mut self,
        result: &mut Alternatives,
        inner: SchemaId,
        keyword: &Keyword,
        schema: &Schema,
    ) {
        if result.objects.is_empty() {
            return;
        }
        // Keys are strings: what the schema says of other values would only lead astray.
        let strings_only = Literal::positive(self.keyword_schema(Keyword::Type(types::STRING), schema));
        let node = self.node(vec![Literal::positive(inner), strings_only]);
        let strings = self.alternatives(node);
        let names = strings.strings.iter().map(|case| case.body).collect();
        let names = self.languages.or(names);
        let guard = strings
            .strings
            .iter()
            .any(|case| !case.guards.is_empty())
            .then(|| Literal::positive(self.keyword_schema(keyword.clone(), schema)));
        self.retain_objects(result, |this, body| {
            for at in 0..body.slots().len() {
                let slot = &body.slots()[at];
                if slot.node != NOTHING && !this.languages.matches(names, &slot.name.clone()) {
                    if body.slots()[at].required {
                        return false;
                    }
                    body.slots_mut()[at].node = NOTHING;
                }
            }
            let others = std::mem::take(&mut body.others);
            for (keys, value) in others {
                let keys = this.languages.and2(keys, names);
                if !this.languages.is_empty(keys) {
                    body.others.push((keys, value));
                }
            }
            true
        });
        if let Some(guard) = guard {
            result.objects.iter_mut().for_each(|case| case.guard(guard));
        }
    }

    pub(super) fn apply_dependent_schema(
        &mut self,
        result: &mut Alternatives,
        name: &Arc<str>,
        inner: SchemaId,
        schema: &Schema,
    ) {
        if result.objects.is_empty() || inner == TRUE {
            return;
        }
        let node = self.schema_node(inner);
        let other = self.alternatives(node);
        let entry = Keyword::DependentSchemas(vec![(name.clone(), inner)]);
        if result.objects.len() * (1 + other.objects.len()) > CASE_LIMIT {
            let check = Literal::positive(self.keyword_schema(entry, schema));
            result.objects.iter_mut().for_each(|case| case.guard(check));
            return;
        }
        let mut without = result.objects.clone();
        without.retain_mut(|case| self.forbid(&mut case.body, name));
        let mut with = std::mem::take(&mut result.objects);
        with.retain_mut(|case| self.require(&mut case.body, name));
        self.meet_objects(&mut with, &other.objects, || None);
        without.extend(with);
        result.objects = without;
    }

    pub(super) fn meet_object_bodies(&mut self, a: &ObjectBody, b: &ObjectBody) -> Option<ObjectBody> {
        if a.is_free() {
            return Some(b.clone());
        }
        if b.is_free() {
            return Some(a.clone());
        }
        // Contradictions between members that must be there come first: most pairs of variants end here.
        for slot in a.slots() {
            if slot.required
                && let Some(at) = b.find(&slot.name)
            {
                let node = self.meet_nodes(slot.node, b.slots()[at].node);
                if self.is_surely_empty(node) {
                    return None;
                }
            }
        }
        let mut body = ObjectBody { others: Vec::new(), ..ObjectBody::default() };
        for slot in a.slots() {
            let (node, required) = match b.find(&slot.name) {
                Some(at) => (b.slots()[at].node, b.slots()[at].required),
                None => (self.other_value(b, &slot.name), false),
            };
            body.push(Slot {
                name: slot.name.clone(),
                node: self.meet_nodes(slot.node, node),
                required: slot.required || required,
            });
        }
        for slot in b.slots() {
            if a.find(&slot.name).is_none() {
                let node = self.other_value(a, &slot.name);
                body.push(Slot {
                    name: slot.name.clone(),
                    node: self.meet_nodes(slot.node, node),
                    required: slot.required,
                });
            }
        }
        for slot in body.slots() {
            if slot.required && self.is_surely_empty(slot.node) {
                return None;
            }
        }
        for &(keys, value) in &a.others {
            for &(other_keys, other_value) in &b.others {
                let value = self.meet_nodes(value, other_value);
                let keys = self.languages.and2(keys, other_keys);
                if value != NOTHING && !self.languages.is_empty(keys) {
                    body.others.push((keys, value));
                }
            }
        }
        body.min = a.min.max(b.min);
        body.max = min_bound(a.max, b.max);
        if body.max.is_some_and(|max| body.min > max) {
            return None;
        }
        body.implies = a.implies.iter().chain(&b.implies).cloned().collect();
        body.implies.sort_unstable();
        body.implies.dedup();
        body.some = a.some.iter().chain(&b.some).cloned().collect();
        Some(body)
    }

    /// Intersects unions of objects. Past the limit `fallback` gives the check that stands for `others`.
    pub(super) fn meet_objects(
        &mut self,
        cases: &mut Vec<Case<ObjectBody>>,
        others: &[Case<ObjectBody>],
        fallback: impl FnOnce() -> Option<Literal>,
    ) {
        if cases.len() > 1
            && others.len() > 1
            && cases.len() * others.len() > CASE_LIMIT
            && let Some(check) = fallback()
        {
            cases.iter_mut().for_each(|case| case.guard(check));
            return;
        }
        let mut result = Vec::with_capacity(cases.len() * others.len());
        for case in &*cases {
            for other in others {
                if let Some(body) = self.meet_object_bodies(&case.body, &other.body) {
                    result.push(Case { body, guards: case.joined_guards(other) });
                }
            }
        }
        *cases = result;
    }

    pub(super) fn meet_arrays(&mut self, a: &mut ArrayBody, b: &ArrayBody) -> bool {
        let length = a.prefix.len().max(b.prefix.len());
        a.prefix = (0..length).map(|at| self.meet_nodes(a.item(at), b.item(at))).collect();
        a.items = self.meet_nodes(a.items, b.items);
        a.min = a.min.max(b.min);
        a.max = min_bound(a.max, b.max);
        for entry in &b.contains {
            if !a.contains.contains(entry) {
                a.contains.push(*entry);
            }
        }
        a.unique |= b.unique;
        if a.max.is_some_and(|max| a.min > max) {
            return false;
        }
        let needed = (a.min as usize).min(a.prefix.len() + 1);
        !(0..needed).any(|at| self.is_surely_empty(a.item(at)))
    }
}
