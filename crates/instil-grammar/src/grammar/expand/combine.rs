//! Whole sets of alternatives: both, either, exactly one, and those of listed values.

use std::sync::Arc;

use serde_json::Value;

use super::super::decimal::Decimal;
use super::super::evaluate::equal;
use super::super::language::{INFINITE, NONE};
use super::super::node::{Alternatives, ArrayBody, Case, Literal, NOTHING, ObjectBody, Slot};
use super::super::number::NumberSet;
use super::super::schema::{Keyword, Schema, SchemaId};
use super::super::shape::NodeId;
use super::{CASE_LIMIT, Expansion};

impl Expansion {
    pub(super) fn meet_keyword(
        &mut self,
        result: &mut Alternatives,
        other: &Alternatives,
        keyword: &Keyword,
        schema: &Schema,
    ) {
        let literal = Literal::positive(self.keyword_schema(keyword.clone(), schema));
        self.meet(result, other, literal);
    }

    /// Intersection; `check` stands for `other` where the cases would be too many.
    pub(super) fn meet(&mut self, result: &mut Alternatives, other: &Alternatives, check: Literal) {
        result.null &= other.null;
        for (mine, theirs) in result.booleans.iter_mut().zip(other.booleans) {
            *mine &= theirs;
        }
        let mut numbers: Vec<Case<NumberSet>> = Vec::new();
        for a in &result.numbers {
            for b in &other.numbers {
                let guards = a.joined_guards(b);
                let case = match a.body.intersection(&b.body) {
                    Some(body) => Case { body, guards },
                    None => {
                        let mut case = Case { body: a.body.clone(), guards };
                        case.guard(check);
                        case
                    }
                };
                if !case.body.is_none() {
                    numbers.push(case);
                }
            }
        }
        result.numbers = numbers;
        let mut strings = Vec::new();
        for a in &result.strings {
            for b in &other.strings {
                let body = self.languages.and2(a.body, b.body);
                if body != NONE {
                    strings.push(Case { body, guards: a.joined_guards(b) });
                }
            }
        }
        result.strings = strings;
        if result.arrays.len() > 1 && other.arrays.len() > 1 && result.arrays.len() * other.arrays.len() > CASE_LIMIT {
            result.arrays.iter_mut().for_each(|case| case.guard(check));
        } else {
            let mut arrays = Vec::new();
            for a in std::mem::take(&mut result.arrays) {
                for b in &other.arrays {
                    let mut body = a.body.clone();
                    if self.meet_arrays(&mut body, &b.body) {
                        arrays.push(Case { body, guards: a.joined_guards(b) });
                    }
                }
            }
            result.arrays = arrays;
        }
        self.meet_objects(&mut result.objects, &other.objects, || Some(check));
    }

    /// Union.
    pub(in crate::grammar) fn join(&mut self, result: &mut Alternatives, other: &Alternatives) {
        result.null |= other.null;
        for (mine, theirs) in result.booleans.iter_mut().zip(other.booleans) {
            *mine |= theirs;
        }
        for case in &other.numbers {
            match result.numbers.iter_mut().find(|mine| mine.guards == case.guards) {
                Some(mine) => mine.body = std::mem::replace(&mut mine.body, NumberSet::none()).union(case.body.clone()),
                None => result.numbers.push(case.clone()),
            }
        }
        for case in &other.strings {
            match result.strings.iter_mut().find(|mine| mine.guards == case.guards) {
                Some(mine) => mine.body = self.languages.or2(mine.body, case.body),
                None => result.strings.push(case.clone()),
            }
        }
        // A case that allows everything swallows the others.
        let free = |case: &Case<ObjectBody>| case.guards.is_empty() && case.body.is_free();
        if other.objects.iter().any(free) {
            result.objects = vec![Case::plain(ObjectBody::default())];
        } else if !result.objects.iter().any(free) {
            result.objects.extend_from_slice(&other.objects);
        }
        result.arrays.extend_from_slice(&other.arrays);
    }

    /// No value in both, told by types and by members that both must have.
    pub(super) fn is_plainly_disjoint(&mut self, a: &Alternatives, b: &Alternatives) -> bool {
        if (a.null && b.null)
            || (0..2).any(|at| a.booleans[at] && b.booleans[at])
            || !(a.arrays.is_empty() || b.arrays.is_empty())
        {
            return false;
        }
        for a in &a.numbers {
            for b in &b.numbers {
                if a.body.intersection(&b.body).is_none_or(|both| !both.is_none()) {
                    return false;
                }
            }
        }
        for a in &a.strings {
            for b in &b.strings {
                if self.languages.and2(a.body, b.body) != NONE {
                    return false;
                }
            }
        }
        for a in &a.objects {
            for b in &b.objects {
                let apart = a.body.slots().iter().any(|slot| {
                    b.body.find(&slot.name).is_some_and(|at| {
                        (slot.required || b.body.slots()[at].required) && {
                            let both = self.meet_nodes(slot.node, b.body.slots()[at].node);
                            self.is_surely_empty(both)
                        }
                    })
                });
                if !apart {
                    return false;
                }
            }
        }
        true
    }

    /// Each branch, cut out of what is allowed so far, without the other branches that it overlaps there.
    /// The values of which exactly one of some schemas holds, where each of these lists its own.
    pub(super) fn values_of_one(&mut self, list: &[SchemaId]) -> Option<Vec<Value>> {
        let mut values: Vec<Value> = Vec::new();
        for &inner in list {
            for value in self.values_listed(inner)?.iter() {
                if !values.iter().any(|other| equal(other, value)) {
                    values.push(value.clone());
                }
            }
        }
        values.retain(|value| list.iter().filter(|&&inner| self.valid(inner, value)).count() == 1);
        Some(values)
    }

    /// A list that holds all values of a schema.
    fn values_listed(&self, schema: SchemaId) -> Option<Arc<[Value]>> {
        let mut schemas = Vec::new();
        self.gather(schema, &mut schemas, &mut Vec::new());
        schemas.iter().flat_map(|(_, schema)| &schema.keywords).find_map(|keyword| match keyword {
            Keyword::Enum(values) if values.len() <= CASE_LIMIT => Some(values.clone()),
            _ => None,
        })
    }

    pub(super) fn apply_one_of(&mut self, result: &mut Alternatives, list: &[SchemaId]) {
        let mut parts = Vec::with_capacity(list.len());
        for &inner in list {
            let node = self.schema_node(inner);
            let alone = self.alternatives(node);
            let mut part = result.clone();
            self.meet(&mut part, &alone, Literal::positive(inner));
            parts.push((part, alone));
        }
        let mut joined = Alternatives::none();
        for i in 0..parts.len() {
            let mut part = parts[i].0.clone();
            for j in (0..parts.len()).filter(|&j| j != i) {
                if part.is_none() {
                    break;
                }
                if parts[j].0.is_none() || self.is_plainly_disjoint(&part, &parts[j].1) {
                    continue;
                }
                let (node, other) = (self.schema_node(list[i]), self.schema_node(list[j]));
                let both = self.meet_nodes(node, other);
                if self.is_surely_empty(both) {
                    continue;
                }
                let literal = Literal::negative(list[j]);
                let outside = self.node(vec![literal]);
                let outside = self.alternatives(outside);
                self.meet(&mut part, &outside, literal);
            }
            self.join(&mut joined, &part);
        }
        *result = joined;
    }

    pub(in crate::grammar) fn enumeration(&mut self, values: &[Value], schema: &Schema) -> Alternatives {
        let mut result = Alternatives::none();
        let (mut points, mut words) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                Value::Null => result.null = true,
                Value::Bool(value) => result.booleans[usize::from(*value)] = true,
                Value::Number(number) => points.push(Decimal::from_number(number)),
                Value::String(text) => words.push(text.as_str()),
                Value::Array(items) => {
                    let prefix: Vec<NodeId> = items.iter().map(|item| self.value_node(item, schema)).collect();
                    let count = u32::try_from(items.len()).unwrap_or(INFINITE - 1);
                    let body =
                        ArrayBody { prefix, items: NOTHING, min: count, max: Some(count), ..ArrayBody::default() };
                    result.arrays.push(Case::plain(body));
                }
                Value::Object(members) => {
                    let mut body = ObjectBody { others: Vec::new(), ..ObjectBody::default() };
                    for (key, value) in members {
                        let node = self.value_node(value, schema);
                        body.push(Slot { name: Arc::from(key.as_str()), node, required: true });
                    }
                    result.objects.push(Case::plain(body));
                }
            }
        }
        if !points.is_empty() {
            points.sort_unstable();
            points.dedup();
            result.numbers.push(Case::plain(NumberSet::Points(points)));
        }
        if !words.is_empty() {
            result.strings.push(Case::plain(self.languages.words(words)));
        }
        result
    }

    pub(in crate::grammar) fn value_node(&mut self, value: &Value, schema: &Schema) -> NodeId {
        let id = self.keyword_schema(Keyword::Enum(Arc::from([value.clone()])), schema);
        self.node(vec![Literal::positive(id)])
    }
}
