//! Keywords that hold other schemas against the same value: `allOf`, `anyOf`, `oneOf`, `not`, `if`, `$ref`.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::value::Enum;
use super::{Assertion, Keyword, Site};
use crate::Result;
use crate::grammar::evaluate::{Marks, equal};
use crate::grammar::expand::{CASE_LIMIT, Expansion};
use crate::grammar::node::{Alternatives, Signed};
use crate::grammar::schema::{Draft, SchemaId, Scope, TRUE};
use crate::grammar::shape::NodeId;

/// Branches of a `oneOf` that are negated pair by pair; past this, the finished value is checked.
const PAIRED_LIMIT: usize = 6;

/// `allOf`.
#[derive(Clone, Debug)]
pub(crate) struct AllOf(pub Vec<SchemaId>);

/// `anyOf`.
#[derive(Clone, Debug)]
pub(crate) struct AnyOf(pub Vec<SchemaId>);

/// `oneOf`.
#[derive(Clone, Debug)]
pub(crate) struct OneOf(pub Vec<SchemaId>);

/// `not`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Not(pub SchemaId);

/// `if`, `then`, `else`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct If {
    /// `if`
    pub condition: SchemaId,
    /// `then`
    pub then: SchemaId,
    /// `else`
    pub other: SchemaId,
}

/// `$ref` and its kin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ref(pub SchemaId);

/// The condition, whose branches are read last.
#[derive(Default)]
pub(super) struct Reading {
    condition: Option<SchemaId>,
}

impl Reading {
    pub(super) fn read<'a>(
        &mut self,
        key: &str,
        value: &'a Value,
        scope: &mut Scope<'_, 'a>,
        out: &mut Vec<Keyword>,
    ) -> Result<bool> {
        let draft = scope.draft();
        match key {
            "allOf" => out.push(Keyword::AllOf(AllOf(scope.list(key, value)?))),
            "anyOf" => out.push(Keyword::AnyOf(AnyOf(scope.list(key, value)?))),
            "oneOf" => out.push(Keyword::OneOf(OneOf(scope.list(key, value)?))),
            "not" => out.push(Keyword::Not(Not(scope.child(value, &[key])))),
            "if" if draft >= Draft::Draft7 => {
                // By itself it says nothing but what it looks at.
                if scope.members.contains_key("then") || scope.members.contains_key("else") || scope.has_unevaluated() {
                    self.condition = Some(scope.child(value, &[key]));
                }
            }
            // Read with `if`.
            "then" | "else" => {}
            "$ref" if value.is_string() => out.push(Keyword::Ref(Ref(scope.reference(key, value)?))),
            "$dynamicRef" | "$recursiveRef" if draft >= Draft::Draft2019 => {
                out.push(Keyword::Ref(Ref(scope.dynamic_reference(key, value)?)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn finish(self, scope: &mut Scope<'_, '_>, out: &mut Vec<Keyword>) {
        let Some(condition) = self.condition else { return };
        let members = scope.members;
        let mut branch = |key: &str| members.get(key).map_or(TRUE, |value| scope.child(value, &[key]));
        out.push(Keyword::If(If { condition, then: branch("then"), other: branch("else") }));
    }
}

impl Expansion {
    /// What any of the nodes allows.
    fn any_of(&mut self, nodes: impl IntoIterator<Item = NodeId>) -> Alternatives {
        let mut result = Alternatives::none();
        for node in nodes {
            let part = self.alternatives(node);
            self.join(&mut result, &part);
        }
        result
    }
}

impl Assertion for AllOf {
    fn names(&self) -> &'static [&'static str] {
        &["allOf"]
    }

    /// Taken in before keywords are looked at; see [`Expansion::alternatives`].
    fn allow(&self, _: &mut Expansion, _: &mut Alternatives, _: Site<'_>) {}

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let mut result = Alternatives::none();
        for &inner in &self.0 {
            let node = expansion.node(vec![Signed::negative(inner)]);
            let part = expansion.alternatives(node);
            expansion.join(&mut result, &part);
        }
        result
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        self.0.iter().all(|inner| expansion.valid_at(*inner, value, depth))
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        self.0.iter().for_each(|&inner| expansion.mark_if_valid(inner, value, marks, depth));
    }
}

impl Assertion for AnyOf {
    fn names(&self) -> &'static [&'static str] {
        &["anyOf"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        let mut any = Alternatives::none();
        for &inner in &self.0 {
            let node = expansion.schema_node(inner);
            let part = expansion.alternatives(node);
            expansion.join(&mut any, &part);
        }
        let check = Signed::positive(expansion.alone(site));
        expansion.meet(result, &any, check);
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let node = expansion.node(self.0.iter().map(|&inner| Signed::negative(inner)).collect());
        (*expansion.alternatives(node)).clone()
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        self.0.iter().any(|inner| expansion.valid_at(*inner, value, depth))
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        self.0.iter().for_each(|&inner| expansion.mark_if_valid(inner, value, marks, depth));
    }
}

impl OneOf {
    /// The values of which exactly one of the schemas holds, where each of these lists its own.
    fn values(&self, expansion: &mut Expansion) -> Option<Vec<Value>> {
        let mut values: Vec<Value> = Vec::new();
        for &inner in &self.0 {
            for value in values_listed(expansion, inner)?.iter() {
                if !values.iter().any(|other| equal(other, value)) {
                    values.push(value.clone());
                }
            }
        }
        values.retain(|value| self.0.iter().filter(|&&inner| expansion.valid(inner, value)).count() == 1);
        Some(values)
    }

    /// Each branch, cut out of what is allowed so far, without the other branches that it overlaps there.
    fn cut(&self, expansion: &mut Expansion, result: &Alternatives) -> Alternatives {
        let list = &self.0;
        let mut parts = Vec::with_capacity(list.len());
        for &inner in list {
            let node = expansion.schema_node(inner);
            let alone = expansion.alternatives(node);
            let mut part = result.clone();
            expansion.meet(&mut part, &alone, Signed::positive(inner));
            parts.push((part, alone));
        }
        let mut joined = Alternatives::none();
        for i in 0..parts.len() {
            let mut part = parts[i].0.clone();
            for j in (0..parts.len()).filter(|&j| j != i) {
                if part.is_none() {
                    break;
                }
                if parts[j].0.is_none() || expansion.is_plainly_disjoint(&part, &parts[j].1) {
                    continue;
                }
                let (node, other) = (expansion.schema_node(list[i]), expansion.schema_node(list[j]));
                let both = expansion.meet_nodes(node, other);
                if expansion.is_surely_empty(both) {
                    continue;
                }
                let outside = Signed::negative(list[j]);
                let node = expansion.node(vec![outside]);
                let alternatives = expansion.alternatives(node);
                expansion.meet(&mut part, &alternatives, outside);
            }
            expansion.join(&mut joined, &part);
        }
        joined
    }
}

/// A list that holds all values of a schema.
fn values_listed(expansion: &Expansion, schema: SchemaId) -> Option<Arc<[Value]>> {
    let mut schemas = Vec::new();
    expansion.gather(schema, &mut schemas, &mut FxHashSet::default());
    schemas.iter().flat_map(|(_, schema)| &schema.keywords).find_map(|keyword| match keyword {
        Keyword::Enum(Enum(values)) if values.len() <= CASE_LIMIT => Some(values.clone()),
        _ => None,
    })
}

impl Assertion for OneOf {
    fn names(&self) -> &'static [&'static str] {
        &["oneOf"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        let Some(values) = self.values(expansion) else {
            *result = self.cut(expansion, result);
            return;
        };
        let listed = expansion.enumeration(&values, site.schema);
        let check = Signed::positive(expansion.alone(site));
        expansion.meet(result, &listed, check);
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let list = &self.0;
        if list.len() > PAIRED_LIMIT {
            let id = expansion.alone(site);
            return expansion.unless(id);
        }
        // None of them, or two of them.
        let none = list.iter().map(|&inner| Signed::negative(inner)).collect();
        let mut nodes = vec![expansion.node(none)];
        for i in 0..list.len() {
            for j in i + 1..list.len() {
                nodes.push(expansion.node(vec![Signed::positive(list[i]), Signed::positive(list[j])]));
            }
        }
        expansion.any_of(nodes)
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        self.0.iter().filter(|inner| expansion.valid_at(**inner, value, depth)).take(2).count() == 1
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        self.0.iter().for_each(|&inner| expansion.mark_if_valid(inner, value, marks, depth));
    }
}

impl Assertion for Not {
    fn names(&self) -> &'static [&'static str] {
        &["not"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        let outside = Signed::negative(self.0);
        let node = expansion.node(vec![outside]);
        let alternatives = expansion.alternatives(node);
        expansion.meet(result, &alternatives, outside);
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let node = expansion.node(vec![Signed::positive(self.0)]);
        (*expansion.alternatives(node)).clone()
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        !expansion.valid_at(self.0, value, depth)
    }
}

impl Assertion for If {
    fn names(&self) -> &'static [&'static str] {
        &["if", "then", "else"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        if self.then == TRUE && self.other == TRUE {
            return;
        }
        let yes = expansion.node(vec![Signed::positive(self.condition), Signed::positive(self.then)]);
        let no = expansion.node(vec![Signed::negative(self.condition), Signed::positive(self.other)]);
        let either = expansion.any_of([yes, no]);
        let check = Signed::positive(expansion.alone(site));
        expansion.meet(result, &either, check);
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let yes = expansion.node(vec![Signed::positive(self.condition), Signed::negative(self.then)]);
        let no = expansion.node(vec![Signed::negative(self.condition), Signed::negative(self.other)]);
        expansion.any_of([yes, no])
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        let next = if expansion.valid_at(self.condition, value, depth) { self.then } else { self.other };
        expansion.valid_at(next, value, depth)
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        if expansion.valid_at(self.condition, value, depth) {
            expansion.mark(self.condition, value, marks, depth, false);
            expansion.mark_if_valid(self.then, value, marks, depth);
        } else {
            expansion.mark_if_valid(self.other, value, marks, depth);
        }
    }
}

impl Assertion for Ref {
    fn names(&self) -> &'static [&'static str] {
        &["$ref", "$dynamicRef", "$recursiveRef"]
    }

    /// Taken in before keywords are looked at; see [`Expansion::alternatives`].
    fn allow(&self, _: &mut Expansion, _: &mut Alternatives, _: Site<'_>) {}

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let node = expansion.node(vec![Signed::negative(self.0)]);
        (*expansion.alternatives(node)).clone()
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        expansion.valid_at(self.0, value, depth)
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        expansion.mark_if_valid(self.0, value, marks, depth);
    }
}
