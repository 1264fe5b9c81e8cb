//! Keywords of any value: `type`, `enum`, `const`; and the alternatives of listed values.

use std::sync::Arc;

use serde_json::Value;

use super::{Assertion, Keyword, Site};
use crate::Result;
use crate::grammar::decimal::Decimal;
use crate::grammar::evaluate::{equal, type_of};
use crate::grammar::expand::Expansion;
use crate::grammar::language::INFINITE;
use crate::grammar::node::{Alternatives, ArrayBody, Case, NOTHING, ObjectBody, Signed, Slot};
use crate::grammar::number::{NumberSet, Range};
use crate::grammar::schema::{Draft, Schema, Scope, types};
use crate::grammar::shape::NodeId;

/// `type`: bits of [`types`].
#[derive(Clone, Copy, Debug)]
pub struct Type(pub u8);

/// `enum`, `const`.
#[derive(Clone, Debug)]
pub struct Enum(pub Arc<[Value]>);

pub(super) fn read(key: &str, value: &Value, scope: &Scope<'_, '_>, out: &mut Vec<Keyword>) -> Result<bool> {
    match key {
        "type" => {
            let bits = Type::bits(value).ok_or_else(|| scope.malformed("type", "a type or an array of types"))?;
            out.insert(0, Keyword::Type(Type(bits)));
        }
        "enum" => {
            let Value::Array(values) = value else { return Err(scope.malformed("enum", "an array")) };
            out.push(Keyword::Enum(Enum(values.as_slice().into())));
        }
        "const" if scope.draft() >= Draft::Draft6 => out.push(Keyword::Enum(Enum(Arc::from([value.clone()])))),
        _ => return Ok(false),
    }
    Ok(true)
}

impl Type {
    fn bits(value: &Value) -> Option<u8> {
        let one = |value: &Value| {
            Some(match value.as_str()? {
                "null" => types::NULL,
                "boolean" => types::BOOLEAN,
                "integer" => types::INTEGER,
                "number" => types::NUMBER | types::INTEGER,
                "string" => types::STRING,
                "array" => types::ARRAY,
                "object" => types::OBJECT,
                _ => return None,
            })
        };
        match value {
            Value::Array(names) => names.iter().map(one).try_fold(0, |bits, bit| Some(bits | bit?)),
            value => one(value),
        }
    }

    /// Leaves the values of these types.
    fn keep(self, result: &mut Alternatives, schema: &Schema) {
        let Self(bits) = self;
        result.null &= bits & types::NULL != 0;
        if bits & types::BOOLEAN == 0 {
            result.booleans = [false; 2];
        }
        if bits & (types::NUMBER | types::INTEGER) == 0 {
            result.numbers.clear();
        } else if bits & types::NUMBER == 0 {
            let whole = Range { integer: Some(true), strict: schema.strict_integer, ..Range::default() };
            let whole = NumberSet::Ranges(vec![whole]);
            result.numbers.retain_mut(|case| {
                case.body = case.body.intersection(&whole).unwrap_or_else(NumberSet::none);
                !case.body.is_none()
            });
        }
        if bits & types::STRING == 0 {
            result.strings.clear();
        }
        if bits & types::ARRAY == 0 {
            result.arrays.clear();
        }
        if bits & types::OBJECT == 0 {
            result.objects.clear();
        }
    }
}

impl Assertion for Type {
    fn names(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn allow(&self, _: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        self.keep(result, site.schema);
    }

    fn forbid(&self, _: &mut Expansion, site: Site<'_>) -> Alternatives {
        let Self(bits) = *self;
        let mut inverse = !bits & 0x7F;
        if bits & types::NUMBER != 0 {
            inverse &= !types::INTEGER;
        }
        let mut result = Alternatives::all();
        Self(inverse).keep(&mut result, site.schema);
        if inverse & types::NUMBER != 0 && bits & types::INTEGER != 0 {
            let fractions = Range { integer: Some(false), strict: site.schema.strict_integer, ..Range::default() };
            result.numbers = vec![Case::plain(NumberSet::Ranges(vec![fractions]))];
        }
        result
    }

    fn holds(&self, _: &mut Expansion, value: &Value, site: Site<'_>, _: u32) -> bool {
        self.0 & type_of(value, site.schema.strict_integer) != 0
    }
}

impl Assertion for Enum {
    fn names(&self) -> &'static [&'static str] {
        &["enum", "const"]
    }

    fn allow(&self, expansion: &mut Expansion, result: &mut Alternatives, site: Site<'_>) {
        let listed = expansion.enumeration(&self.0, site.schema);
        let check = Signed::positive(expansion.alone(site));
        expansion.meet(result, &listed, check);
    }

    fn forbid(&self, expansion: &mut Expansion, site: Site<'_>) -> Alternatives {
        let mut result = Alternatives::all();
        let inside = expansion.enumeration(&self.0, site.schema);
        result.null = !inside.null;
        result.booleans = inside.booleans.map(|inside| !inside);
        if let Some(case) = inside.numbers.first() {
            match case.body.complement() {
                Some(outside) => result.numbers[0].body = outside,
                None => result.numbers[0].guard(Signed::negative(expansion.alone(site))),
            }
        }
        if let Some(case) = inside.strings.first() {
            result.strings[0].body = expansion.languages.not(case.body);
        }
        if !inside.arrays.is_empty() || !inside.objects.is_empty() {
            let check = Signed::negative(expansion.alone(site));
            if !inside.arrays.is_empty() {
                result.arrays[0].guard(check);
            }
            if !inside.objects.is_empty() {
                result.objects[0].guard(check);
            }
        }
        result
    }

    fn holds(&self, _: &mut Expansion, value: &Value, _: Site<'_>, _: u32) -> bool {
        self.0.iter().any(|other| equal(other, value))
    }
}

impl Expansion {
    /// The alternatives of listed values.
    pub(super) fn enumeration(&mut self, values: &[Value], schema: &Schema) -> Alternatives {
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

    /// The node of one value.
    pub(in crate::grammar) fn value_node(&mut self, value: &Value, schema: &Schema) -> NodeId {
        let id = self.keyword_schema(Keyword::Enum(Enum(Arc::from([value.clone()]))), schema);
        self.node(vec![Signed::positive(id)])
    }
}
