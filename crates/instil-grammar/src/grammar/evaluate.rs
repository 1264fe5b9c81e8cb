//! Exact check of a finished value against a schema: what guards ask, and what decides finite cases
//! while shapes are built. Interprets the arena as it stands; nothing is prepared before the first question.

use serde_json::Value;

use super::decimal::Decimal;
use super::expand::Expansion;
use super::language::NONE;
use super::schema::{Keyword, ObjectRules, SchemaId, TRUE, types};

/// Nesting of values and schemas that is followed; deeper values fail.
const DEPTH_LIMIT: u32 = 400;

/// Members or items that some keyword has looked at.
#[derive(Default)]
struct Marks {
    members: Vec<bool>,
    items: Vec<bool>,
}

impl Expansion {
    /// Whether the value satisfies the schema.
    pub(super) fn valid(&mut self, schema: SchemaId, value: &Value) -> bool {
        self.valid_at(schema, value, 0)
    }

    fn valid_at(&mut self, id: SchemaId, value: &Value, depth: u32) -> bool {
        if id == TRUE {
            return true;
        }
        if depth > DEPTH_LIMIT {
            return false;
        }
        let schema = self.schema(id);
        schema.keywords.iter().all(|keyword| self.keyword_holds(id, keyword, schema.strict_integer, value, depth + 1))
    }

    fn keyword_holds(&mut self, id: SchemaId, keyword: &Keyword, strict: bool, value: &Value, depth: u32) -> bool {
        match (keyword, value) {
            (Keyword::Type(bits), value) => bits & type_of(value, strict) != 0,
            (Keyword::Enum(values), value) => values.iter().any(|other| equal(other, value)),
            (Keyword::Number(range), Value::Number(number)) => range.contains(&Decimal::from_number(number)),
            (Keyword::Length(min, max), Value::String(text)) => within(text.chars().count(), *min, *max),
            (Keyword::Pattern(pattern), Value::String(text)) => {
                let language = self.pattern_language(*pattern);
                self.languages.matches(language, text)
            }
            (Keyword::Format(format), Value::String(text)) => {
                let (language, exact, extension) = self.format_language(*format);
                let in_extension = extension != NONE && self.languages.matches(extension, text);
                if in_extension {
                    format.check(text)
                } else {
                    self.languages.matches(language, text) && (exact || format.check(text))
                }
            }
            (Keyword::Object(rules), Value::Object(members)) => members.iter().all(|(key, value)| {
                self.schemas_for(rules, key).into_iter().all(|inner| self.valid_at(inner, value, depth))
            }),
            (Keyword::Required(names), Value::Object(members)) => {
                names.iter().all(|name| members.contains_key(&**name))
            }
            (Keyword::Members(min, max), Value::Object(members)) => within(members.len(), *min, *max),
            (Keyword::PropertyNames(inner), Value::Object(members)) => {
                members.keys().all(|key| self.valid_at(*inner, &Value::String(key.clone()), depth))
            }
            (Keyword::DependentRequired(entries), Value::Object(members)) => entries.iter().all(|(name, names)| {
                !members.contains_key(&**name) || names.iter().all(|name| members.contains_key(&**name))
            }),
            (Keyword::DependentSchemas(entries), Value::Object(members)) => entries
                .iter()
                .all(|(name, inner)| !members.contains_key(&**name) || self.valid_at(*inner, value, depth)),
            (Keyword::Items(prefix, rest), Value::Array(items)) => items
                .iter()
                .enumerate()
                .all(|(at, item)| self.valid_at(prefix.get(at).copied().unwrap_or(*rest), item, depth)),
            (Keyword::ItemCount(min, max), Value::Array(items)) => within(items.len(), *min, *max),
            (Keyword::Unique, Value::Array(items)) => all_unique(items),
            (Keyword::Contains(inner, min, max), Value::Array(items)) => {
                let count = items.iter().filter(|item| self.valid_at(*inner, item, depth)).count();
                within(count, *min, *max)
            }
            (Keyword::AllOf(list), value) => list.iter().all(|inner| self.valid_at(*inner, value, depth)),
            (Keyword::AnyOf(list), value) => list.iter().any(|inner| self.valid_at(*inner, value, depth)),
            (Keyword::OneOf(list), value) => {
                list.iter().filter(|inner| self.valid_at(**inner, value, depth)).take(2).count() == 1
            }
            (Keyword::Not(inner), value) => !self.valid_at(*inner, value, depth),
            (Keyword::If(condition, then, other), value) => {
                let next = if self.valid_at(*condition, value, depth) { *then } else { *other };
                self.valid_at(next, value, depth)
            }
            (Keyword::Ref(target), value) => self.valid_at(*target, value, depth),
            (Keyword::UnevaluatedProperties(inner), Value::Object(members)) => {
                let mut marks = Marks { members: vec![false; members.len()], items: Vec::new() };
                self.mark(id, value, &mut marks, depth, true);
                members
                    .values()
                    .zip(&marks.members)
                    .all(|(value, marked)| *marked || self.valid_at(*inner, value, depth))
            }
            (Keyword::UnevaluatedItems(inner), Value::Array(items)) => {
                let mut marks = Marks { members: Vec::new(), items: vec![false; items.len()] };
                self.mark(id, value, &mut marks, depth, true);
                items.iter().zip(&marks.items).all(|(value, marked)| *marked || self.valid_at(*inner, value, depth))
            }
            _ => true,
        }
    }

    /// The schemas that apply to a member.
    fn schemas_for(&mut self, rules: &ObjectRules, key: &str) -> Vec<SchemaId> {
        let mut found: Vec<SchemaId> =
            rules.properties.iter().filter(|(name, _)| **name == *key).map(|(_, inner)| *inner).collect();
        for &(pattern, inner) in &rules.patterns {
            let language = self.pattern_language(pattern);
            if self.languages.matches(language, key) {
                found.push(inner);
            }
        }
        if found.is_empty() {
            found.push(rules.additional);
        }
        found
    }

    /// Marks the members or items that keywords of a schema that the value satisfies look at.
    /// `outer`: the schema whose own `unevaluated…` keyword is asking.
    fn mark(&mut self, id: SchemaId, value: &Value, marks: &mut Marks, depth: u32, outer: bool) {
        if depth > DEPTH_LIMIT {
            return;
        }
        let schema = self.schema(id);
        if schema.evaluates_additional {
            marks.members.fill(true);
        }
        if schema.evaluates_items {
            marks.items.fill(true);
        }
        for keyword in &schema.keywords {
            match (keyword, value) {
                (Keyword::Object(rules), Value::Object(members)) => {
                    for (at, key) in members.keys().enumerate() {
                        if at < marks.members.len() && self.is_named(rules, key) {
                            marks.members[at] = true;
                        }
                    }
                }
                (Keyword::UnevaluatedProperties(_), Value::Object(_)) if !outer => marks.members.fill(true),
                (Keyword::UnevaluatedItems(_), Value::Array(_)) if !outer => marks.items.fill(true),
                (Keyword::Items(prefix, _), Value::Array(_)) => {
                    for mark in marks.items.iter_mut().take(prefix.len()) {
                        *mark = true;
                    }
                }
                (Keyword::Contains(inner, ..), Value::Array(items)) => {
                    for (at, item) in items.iter().enumerate() {
                        if at < marks.items.len() && self.valid_at(*inner, item, depth + 1) {
                            marks.items[at] = true;
                        }
                    }
                }
                (Keyword::AllOf(list) | Keyword::AnyOf(list) | Keyword::OneOf(list), _) => {
                    for &inner in list {
                        self.mark_if_valid(inner, value, marks, depth + 1);
                    }
                }
                (Keyword::If(condition, then, other), _) => {
                    if self.valid_at(*condition, value, depth + 1) {
                        self.mark(*condition, value, marks, depth + 1, false);
                        self.mark_if_valid(*then, value, marks, depth + 1);
                    } else {
                        self.mark_if_valid(*other, value, marks, depth + 1);
                    }
                }
                (Keyword::DependentSchemas(entries), Value::Object(members)) => {
                    for (name, inner) in entries {
                        if members.contains_key(&**name) {
                            self.mark_if_valid(*inner, value, marks, depth + 1);
                        }
                    }
                }
                (Keyword::Ref(target), _) => self.mark_if_valid(*target, value, marks, depth + 1),
                _ => {}
            }
        }
    }

    fn mark_if_valid(&mut self, id: SchemaId, value: &Value, marks: &mut Marks, depth: u32) {
        if self.valid_at(id, value, depth) {
            self.mark(id, value, marks, depth, false);
        }
    }

    fn is_named(&mut self, rules: &ObjectRules, key: &str) -> bool {
        rules.properties.iter().any(|(name, _)| **name == *key)
            || rules.patterns.iter().any(|&(pattern, _)| {
                let language = self.pattern_language(pattern);
                self.languages.matches(language, key)
            })
    }
}

fn within(count: usize, min: u32, max: Option<u32>) -> bool {
    count >= min as usize && max.is_none_or(|max| count <= max as usize)
}

/// The type of a value, as bits of [`types`].
pub(super) fn type_of(value: &Value, strict_integer: bool) -> u8 {
    match value {
        Value::Null => types::NULL,
        Value::Bool(_) => types::BOOLEAN,
        Value::String(_) => types::STRING,
        Value::Array(_) => types::ARRAY,
        Value::Object(_) => types::OBJECT,
        Value::Number(number) => {
            let whole = if strict_integer {
                !number.as_str().contains(['.', 'e', 'E'])
            } else {
                Decimal::from_number(number).is_integer()
            };
            if whole { types::INTEGER | types::NUMBER } else { types::NUMBER }
        }
    }
}

/// Equality of JSON values: numbers by value, objects in any order.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_str() == b.as_str() || Decimal::from_number(a) == Decimal::from_number(b)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

pub(super) fn all_unique(items: &[Value]) -> bool {
    if items.len() <= 24 {
        return items.iter().enumerate().all(|(at, a)| !items[..at].iter().any(|b| equal(a, b)));
    }
    let mut seen = rustc_hash::FxHashSet::default();
    items.iter().all(|item| {
        let mut key = String::new();
        write_key(item, &mut key);
        seen.insert(key)
    })
}

/// One text for all equal values.
fn write_key(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => {
            let decimal = Decimal::from_number(number);
            let (digits, exponent) = decimal.scientific();
            out.push(if decimal.is_negative() { '-' } else { '+' });
            out.extend(digits.iter().map(|&digit| char::from(b'0' + digit)));
            out.push('e');
            out.push_str(&if decimal.is_zero() { 0 } else { exponent }.to_string());
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_key(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for key in keys {
                out.push_str(&Value::String(key.clone()).to_string());
                write_key(&members[key], out);
                out.push(',');
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}
