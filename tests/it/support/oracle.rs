//! The second opinion: the `jsonschema` crate in the schema's own dialect, formats asserted.
//!
//! Two releases of it: the current one, and the last that can be had with exact numbers. A text that the engine made
//! has to please both; tables are held against the current one.

use serde_json::{Value, json};

/// The dialects that the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Draft4,
    Draft6,
    Draft7,
    Draft201909,
    Draft202012,
}

/// Formats that the crate takes for annotations in the older drafts; here a format asserts in every dialect.
const YOUNGER_FORMATS: [&str; 8] = [
    "duration",
    "iri",
    "iri-reference",
    "json-pointer",
    "relative-json-pointer",
    "uri-reference",
    "uri-template",
    "uuid",
];

macro_rules! validator {
    ($name:ident, $release:ident) => {
        /// A validator for the schema, or why there is none.
        pub fn $name(schema: &Value) -> Result<$release::Validator, String> {
            let draft = match dialect(schema) {
                Dialect::Draft4 => $release::Draft::Draft4,
                Dialect::Draft6 => $release::Draft::Draft6,
                Dialect::Draft7 => $release::Draft::Draft7,
                Dialect::Draft201909 => $release::Draft::Draft201909,
                Dialect::Draft202012 => $release::Draft::Draft202012,
            };
            let mut options = $release::options()
                .with_draft(draft)
                .should_validate_formats(true)
                .should_ignore_unknown_formats(true);
            for format in YOUNGER_FORMATS {
                let newest = $release::options().should_validate_formats(true);
                let check = newest.build(&json!({ "format": format })).map_err(|error| error.to_string())?;
                options = options.with_format(format, move |text: &str| check.is_valid(&Value::from(text)));
            }
            options.build(schema).map_err(|error| error.to_string())
        }
    };
}

validator!(current, jsonschema);
validator!(exact, jsonschema_exact);

/// `$schema` says it; else the spelling does; else 2020-12.
pub fn dialect(schema: &Value) -> Dialect {
    if let Some(name) = schema.get("$schema").and_then(Value::as_str) {
        let has = |part: &str| name.contains(part);
        if has("draft-03") || has("draft-04") {
            return Dialect::Draft4;
        } else if has("draft-06") {
            return Dialect::Draft6;
        } else if has("draft-07") {
            return Dialect::Draft7;
        } else if has("2019-09") {
            return Dialect::Draft201909;
        }
        return Dialect::Draft202012;
    }
    if spelt(schema, &|key, value| key.starts_with("exclusive") && value.is_boolean()) {
        Dialect::Draft4
    } else if spelt(schema, &|key, value| key == "items" && value.is_array()) {
        Dialect::Draft201909
    } else {
        Dialect::Draft202012
    }
}

/// The schema with `\<` and `\>` in its patterns spelt plainly: to ECMA-262 they are the characters themselves, to the
/// crate's regex engine the ends of words.
pub fn without_word_escapes(schema: &Value) -> Value {
    let plain = |pattern: &str| pattern.replace("\\<", "<").replace("\\>", ">");
    match schema {
        Value::Object(members) => {
            let one = |(key, value): (&String, &Value)| match (key.as_str(), value) {
                ("pattern", Value::String(pattern)) => (key.clone(), Value::String(plain(pattern))),
                ("patternProperties", Value::Object(patterns)) => {
                    let inner = patterns.iter().map(|(key, value)| (plain(key), without_word_escapes(value)));
                    (key.clone(), Value::Object(inner.collect()))
                }
                _ => (key.clone(), without_word_escapes(value)),
            };
            Value::Object(members.iter().map(one).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_word_escapes).collect()),
        other => other.clone(),
    }
}

fn spelt(schema: &Value, test: &dyn Fn(&str, &Value) -> bool) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, value)| test(key, value) || spelt(value, test)),
        Value::Array(items) => items.iter().any(|item| spelt(item, test)),
        _ => false,
    }
}
