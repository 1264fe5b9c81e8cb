//! Keywords of arrays: `items` and its kin, `minItems` to `uniqueItems`, `contains`, `unevaluatedItems`.

use serde_json::Value;

use super::{Assertion, Count, Keyword, Site};
use crate::Result;
use crate::grammar::evaluate::{Marks, all_unique};
use crate::grammar::expand::Expansion;
use crate::grammar::language::INFINITE;
use crate::grammar::node::{ANYTHING, Alternatives, ArrayBody, Case, Signed, min_bound};
use crate::grammar::schema::{Draft, SchemaId, Scope, TRUE};

/// `prefixItems` and `items`, or `items` and `additionalItems`.
#[derive(Clone, Debug)]
pub struct Items {
    /// Of the first items, one by one.
    pub prefix: Vec<SchemaId>,
    /// Of all further ones.
    pub rest: SchemaId,
}

/// `minItems`, `maxItems`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItemCount(pub Count);

/// `uniqueItems`.
#[derive(Clone, Copy, Debug)]
pub struct Unique;

/// `contains`, `minContains`, `maxContains`.
#[derive(Clone, Copy, Debug)]
pub struct Contains {
    /// What is counted.
    pub schema: SchemaId,
    /// How many there must be.
    pub count: Count,
}

/// `unevaluatedItems`.
#[derive(Clone, Copy, Debug)]
pub struct UnevaluatedItems(pub SchemaId);

/// What has been read of the keywords that belong together.
#[derive(Default)]
pub(super) struct Reading {
    count: ItemCount,
    prefix: Vec<SchemaId>,
    items: Option<SchemaId>,
    additional: Option<SchemaId>,
    /// `items` lists schemas, so that `additionalItems` speaks of the others.
    items_is_array: bool,
}

impl Reading {
    pub fn read<'a>(
        &mut self,
        key: &str,
        value: &'a Value,
        scope: &mut Scope<'_, 'a>,
        out: &mut Vec<Keyword>,
    ) -> Result<bool> {
        let draft = scope.draft();
        match key {
            "minItems" => self.count.0.read_min(key, value, scope)?,
            "maxItems" => self.count.0.read_max(key, value, scope)?,
            "prefixItems" if draft >= Draft::Draft2020 => self.prefix = scope.list(key, value)?,
            "items" if value.is_array() => {
                self.items_is_array = true;
                self.prefix = scope.list(key, value)?;
            }
            "items" => self.items = Some(scope.child(value, &[key])),
            "additionalItems" if draft < Draft::Draft2020 => self.additional = Some(scope.child(value, &[key])),
            "uniqueItems" => out.extend((*value == Value::Bool(true)).then_some(Keyword::Unique(Unique))),
            "contains" if draft >= Draft::Draft6 => out.push(Keyword::Contains(Contains::read(key, value, scope)?)),
            // Read with `contains`.
            "minContains" | "maxContains" => {}
            "unevaluatedItems" if draft >= Draft::Draft2019 => {
                out.push(Keyword::UnevaluatedItems(UnevaluatedItems(scope.child(value, &[key]))));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The schema of all further items, where one is given.
    pub fn items(&self) -> Option<SchemaId> {
        if self.items_is_array { self.additional } else { self.items }
    }

    pub fn finish(self, out: &mut Vec<Keyword>) {
        if !self.count.0.is_any() {
            out.push(Keyword::ItemCount(self.count));
        }
        let rest = self.items().unwrap_or(TRUE);
        if !self.prefix.is_empty() || rest != TRUE {
            out.push(Keyword::Items(Items { prefix: self.prefix, rest }));
        }
    }
}

impl Items {
    fn item(&self, at: usize) -> SchemaId {
        self.prefix.get(at).copied().unwrap_or(self.rest)
    }
}

impl Assertion for Items {
    fn names(&self) -> &'static [&'static str] {
        &["items", "prefixItems", "additionalItems"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        let body = ArrayBody {
            prefix: self.prefix.iter().map(|&inner| expansion.schema_node(inner)).collect(),
            items: expansion.schema_node(self.rest),
            ..ArrayBody::default()
        };
        result.arrays.retain_mut(|case| expansion.meet_arrays(&mut case.body, &body));
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let mut result = Alternatives::none();
        for (at, &inner) in (0u32..).zip(&self.prefix).filter(|&(_, &inner)| inner != TRUE) {
            let violated = expansion.node(vec![Signed::negative(inner)]);
            let mut prefix = vec![ANYTHING; at as usize];
            prefix.push(violated);
            result.arrays.push(Case::plain(ArrayBody { prefix, min: at + 1, ..ArrayBody::default() }));
        }
        if self.rest == TRUE {
            return result;
        }
        if self.prefix.is_empty() {
            let violated = expansion.node(vec![Signed::negative(self.rest)]);
            let contains = vec![(violated, 1, None)];
            result.arrays.push(Case::plain(ArrayBody { contains, min: 1, ..ArrayBody::default() }));
        } else {
            let check = Signed::negative(expansion.alone(site));
            let min = u32::try_from(self.prefix.len() + 1).unwrap_or(INFINITE);
            let mut case = Case::plain(ArrayBody { min, ..ArrayBody::default() });
            case.guard(check);
            result.arrays.push(case);
        }
        result
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        let Value::Array(items) = value else { return true };
        items.iter().enumerate().all(|(at, item)| expansion.valid_at(self.item(at), item, depth))
    }

    fn mark(&self, _: &mut Expansion, _: &Value, marks: &mut Marks, _: u32) {
        marks.items.iter_mut().take(self.prefix.len()).for_each(|mark| *mark = true);
    }
}

impl Assertion for ItemCount {
    fn names(&self) -> &'static [&'static str] {
        &["minItems", "maxItems"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        result.arrays.retain_mut(|Case { body, .. }| {
            body.min = body.min.max(self.0.min);
            body.max = min_bound(body.max, self.0.max);
            body.max.is_none_or(|max| body.min <= max)
        });
    }

    fn forbid(&self, _: &mut Expansion, _: Site<'_>) -> Alternatives {
        let fewer = self.0.min.checked_sub(1).map(|max| ArrayBody { max: Some(max), ..ArrayBody::default() });
        let more = self.0.max.map(|max| ArrayBody { min: max + 1, ..ArrayBody::default() });
        Alternatives { arrays: fewer.into_iter().chain(more).map(Case::plain).collect(), ..Alternatives::none() }
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        value.as_array().is_none_or(|items| self.0.holds(items.len()))
    }
}

impl Assertion for Unique {
    fn names(&self) -> &'static [&'static str] {
        &["uniqueItems"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        result.arrays.iter_mut().for_each(|case| case.body.unique = true);
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let mut case = Case::plain(ArrayBody { min: 2, ..ArrayBody::default() });
        case.guard(Signed::negative(expansion.alone(site)));
        Alternatives { arrays: vec![case], ..Alternatives::none() }
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        value.as_array().is_none_or(|items| all_unique(items))
    }
}

impl Contains {
    fn read<'a>(key: &str, value: &'a Value, scope: &mut Scope<'_, 'a>) -> Result<Self> {
        let schema = scope.child(value, &[key]);
        let mut count = Count { min: 1, max: None };
        if scope.draft() >= Draft::Draft2019 {
            if let Some(value) = scope.members.get("minContains") {
                count.read_min("minContains", value, scope)?;
            }
            if let Some(value) = scope.members.get("maxContains") {
                count.read_max("maxContains", value, scope)?;
            }
        }
        Ok(Self { schema, count })
    }
}

impl Assertion for Contains {
    fn names(&self) -> &'static [&'static str] {
        &["contains", "minContains", "maxContains"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, _: Site<'_>) {
        let node = expansion.schema_node(self.schema);
        if !self.count.is_possible() {
            result.arrays.clear();
        } else if !self.count.is_any() {
            let Count { min, max } = self.count;
            result.arrays.iter_mut().for_each(|case| case.body.contains.push((node, min, max)));
        }
    }

    fn forbid(&self, expansion: &mut Expansion, _: Site<'_>) -> Alternatives {
        let node = expansion.schema_node(self.schema);
        let fewer = self.count.min.checked_sub(1);
        let fewer = fewer.map(|max| ArrayBody { contains: vec![(node, 0, Some(max))], ..ArrayBody::default() });
        let more = self.count.max.map(|max| ArrayBody {
            contains: vec![(node, max + 1, None)],
            min: max + 1,
            ..ArrayBody::default()
        });
        Alternatives { arrays: fewer.into_iter().chain(more).map(Case::plain).collect(), ..Alternatives::none() }
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, _: Site<'_>, depth: u32) -> bool {
        let Value::Array(items) = value else { return true };
        self.count.holds(items.iter().filter(|item| expansion.valid_at(self.schema, item, depth)).count())
    }

    fn mark(&self, expansion: &mut Expansion, value: &Value, marks: &mut Marks, depth: u32) {
        let Value::Array(items) = value else { return };
        for (mark, item) in marks.items.iter_mut().zip(items) {
            *mark |= expansion.valid_at(self.schema, item, depth);
        }
    }
}

impl Assertion for UnevaluatedItems {
    fn names(&self) -> &'static [&'static str] {
        &["unevaluatedItems"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        result.arrays.iter_mut().for_each(|case| case.guard(Signed::positive(site.id)));
    }

    /// Whole schemas with it are negated by a check; see `negate`.
    fn forbid(&self, _: &mut Expansion, _: Site<'_>) -> Alternatives {
        Alternatives::none()
    }

    fn holds(&self, expansion: &mut Expansion, value: &Value, site: Site<'_>, depth: u32) -> bool {
        let Value::Array(items) = value else { return true };
        let mut marks = Marks { members: Vec::new(), items: vec![false; items.len()] };
        expansion.mark(site.id, value, &mut marks, depth, true);
        items.iter().zip(&marks.items).all(|(item, marked)| *marked || expansion.valid_at(self.0, item, depth))
    }

    fn mark(&self, _: &mut Expansion, _: &Value, marks: &mut Marks, _: u32) {
        marks.items.fill(true);
    }
}
