//! Bodies of objects and arrays: their members by name, and where two bodies meet.

use std::sync::Arc;

use super::super::node::{ArrayBody, Case, NOTHING, ObjectBody, Signed, Slot, min_bound};
use super::super::shape::NodeId;
use super::{CASE_LIMIT, Expansion};

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

    fn slot(&mut self, body: &mut ObjectBody, name: &Arc<str>) -> usize {
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

    fn meet_object_bodies(&mut self, a: &ObjectBody, b: &ObjectBody) -> Option<ObjectBody> {
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
        body.speaks_of_others = a.speaks_of_others || b.speaks_of_others;
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
    pub(in crate::grammar) fn meet_objects(
        &mut self,
        cases: &mut Vec<Case<ObjectBody>>,
        others: &[Case<ObjectBody>],
        fallback: impl FnOnce() -> Option<Signed>,
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

    pub(in crate::grammar) fn meet_arrays(&mut self, a: &mut ArrayBody, b: &ArrayBody) -> bool {
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
