//! Exact check of a finished value against a schema: what guards ask, and what decides finite cases
//! while shapes are built. Interprets the arena as it stands; nothing is prepared before the first question. What each
//! keyword asks stands in `keyword`.

use serde_json::Value;

use super::decimal::Decimal;
use super::expand::Expansion;
use super::keyword::Site;
use super::schema::{SchemaId, TRUE, types};

/// Nesting of values and schemas that is followed; deeper values fail.
const DEPTH_LIMIT: u32 = 400;

/// Members or items that some keyword has looked at.
pub(super) struct Marks {
    pub members: Vec<bool>,
    pub items: Vec<bool>,
}

impl Expansion {
    /// Whether the value satisfies the schema.
    pub(super) fn valid(&mut self, schema: SchemaId, value: &Value) -> bool {
        self.valid_at(schema, value, 0)
    }

    pub(super) fn valid_at(&mut self, id: SchemaId, value: &Value, depth: u32) -> bool {
        if id == TRUE {
            return true;
        }
        if depth > DEPTH_LIMIT {
            return false;
        }
        let schema = self.schema(id);
        let mut keywords = schema.keywords.iter();
        keywords.all(|keyword| keyword.assertion().holds(self, value, Site { keyword, schema: &schema, id }, depth + 1))
    }

    /// Marks the members or items that keywords of a schema that the value satisfies look at.
    /// `outer`: the schema whose own `unevaluated…` keyword is asking.
    pub(super) fn mark(&mut self, id: SchemaId, value: &Value, marks: &mut Marks, depth: u32, outer: bool) {
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
        for keyword in schema.keywords.iter().filter(|keyword| !(outer && keyword.is_unevaluated())) {
            keyword.assertion().mark(self, value, marks, depth + 1);
        }
    }

    pub(super) fn mark_if_valid(&mut self, id: SchemaId, value: &Value, marks: &mut Marks, depth: u32) {
        if self.valid_at(id, value, depth) {
            self.mark(id, value, marks, depth, false);
        }
    }
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
        write_normal(item, &mut key);
        seen.insert(key)
    })
}

/// Writes a value so that those and only those that are [`equal`] to it are written alike.
pub(crate) fn write_normal(value: &Value, out: &mut String) {
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
                write_normal(item, out);
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
                write_normal(&members[key], out);
                out.push(',');
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_and_no_others_are_written_alike() {
        let texts = [
            "1",
            "1.0",
            "10e-1",
            "100",
            "1e2",
            "-0.0",
            "0",
            "0.1",
            "0.01",
            "-1",
            "\"1\"",
            "1e400",
            "10e399",
            "null",
            "[]",
            "[1]",
            "[1.0]",
            r#"{"a": [1], "b": 2}"#,
            r#"{"b": 20e-1, "a": [1.00]}"#,
            r#"{"a": [1]}"#,
            r#"{"a": [1], "b": 3}"#,
        ];
        let values: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
        let normal = |value: &Value| {
            let mut out = String::new();
            write_normal(value, &mut out);
            out
        };
        for a in &values {
            for b in &values {
                assert_eq!(equal(a, b), normal(a) == normal(b), "{a} and {b}");
            }
        }
        assert!(equal(&values[0], &values[2]) && equal(&values[17], &values[18]) && !equal(&values[7], &values[8]));
    }
}
