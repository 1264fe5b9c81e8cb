//! Small random schemas and values over the same few names, so that keywords meet and values hit them.

use serde_json::{Map, Value, json};

/// Where choices come from: a seeded generator, or a fuzzer's bytes.
pub trait Choices {
    /// A number below `n`, which is not zero.
    fn below(&mut self, n: usize) -> usize;
}

impl Choices for super::walk::Rng {
    fn below(&mut self, n: usize) -> usize {
        super::walk::Rng::below(self, n)
    }
}

const NAMES: [&str; 6] = ["a", "b", "ab", "x-a", "é", "c\"d"];
const STRINGS: [&str; 10] = ["", "a", "b", "ab", "abc", "é", "12", "2024-02-29", "a\"b", "x-a"];
const NUMBERS: [&str; 16] =
    ["0", "1", "2", "3", "5", "10", "-1", "-2", "1.5", "0.5", "2.0", "0.01", "0.25", "100", "1e2", "-0.75"];
const PATTERNS: [&str; 12] =
    ["^a", "b$", "^[ab]*$", "a|12", "^.{2}$", "[0-9]", "^x-", "^(a|ab)(c|bc)?$", "^$", "é", "^(?!a)", "^\\w+$"];
const FORMATS: [&str; 6] = ["date", "ipv4", "uuid", "email", "uri", "unknown"];
const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];

fn number(text: &str) -> Value {
    serde_json::from_str(text).expect("a number")
}

/// Which references a subschema may make without looping in one place of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The root's own place: to definitions.
    Root,
    /// A definition's own place: none.
    Definition,
    /// Further inside: to anything.
    Inner,
}

/// A schema of at most `depth` nested subschemas.
pub fn schema(c: &mut impl Choices, depth: usize) -> Value {
    let mut root = subschema(c, depth, Place::Root);
    if let Value::Object(members) = &mut root {
        let mut definitions = Map::new();
        for name in ["d", "e"] {
            if c.below(3) == 0 {
                definitions.insert(name.to_owned(), subschema(c, depth.min(2), Place::Definition));
            } else {
                definitions.insert(name.to_owned(), Value::Bool(true));
            }
        }
        members.insert("$defs".to_owned(), Value::Object(definitions.clone()));
        match c.below(12) {
            0 => {
                members.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
            }
            1 => {
                members.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2019-09/schema"));
            }
            2 => {
                members.insert("$schema".to_owned(), json!("http://json-schema.org/draft-06/schema#"));
            }
            _ => {}
        }
    }
    root
}

fn subschema(c: &mut impl Choices, depth: usize, place: Place) -> Value {
    match c.below(16) {
        0 => return Value::Bool(c.below(4) != 0),
        1 if place == Place::Root => return json!({ "$ref": (["#/$defs/d", "#/$defs/e"][c.below(2)]) }),
        1 if place == Place::Inner => return json!({ "$ref": (["#/$defs/d", "#/$defs/e", "#"][c.below(3)]) }),
        _ => {}
    }
    let mut members = Map::new();
    if c.below(3) != 0 {
        let kind = if c.below(4) == 0 {
            json!([TYPES[c.below(7)], TYPES[c.below(7)]])
        } else {
            json!(TYPES[[0, 0, 1, 2, 3, 4, 5, 6][c.below(8)]])
        };
        if kind.as_array().is_none_or(|kinds| kinds[0] != kinds[1]) {
            members.insert("type".to_owned(), kind);
        }
    }
    for _ in 0..=c.below(3) {
        keyword(c, depth, place, &mut members);
    }
    Value::Object(members)
}

fn keyword(c: &mut impl Choices, depth: usize, place: Place, members: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };
    let scalar = c.below(if depth == 0 { 17 } else { 44 });
    match scalar {
        0 => put("enum", Value::Array((0..=c.below(4)).map(|_| value(c, 1)).collect::<Vec<_>>())),
        1 => {
            let constant = value(c, 1);
            put("const", constant);
        }
        2 => put("minimum", number(NUMBERS[c.below(16)])),
        3 => put("maximum", number(NUMBERS[c.below(16)])),
        4 => put("exclusiveMinimum", number(NUMBERS[c.below(16)])),
        5 => put("exclusiveMaximum", number(NUMBERS[c.below(16)])),
        6 => put("multipleOf", number(["2", "3", "0.5", "0.01", "1.5", "1"][c.below(6)])),
        7 => put("minLength", json!(c.below(4))),
        8 => put("maxLength", json!(c.below(4))),
        9 => put("pattern", json!(PATTERNS[c.below(12)])),
        10 => put("format", json!(FORMATS[c.below(6)])),
        11 => put("minItems", json!(c.below(3))),
        12 => put("maxItems", json!(c.below(4))),
        13 => put("uniqueItems", json!(c.below(4) != 0)),
        14 => put("minProperties", json!(c.below(3))),
        15 => put("maxProperties", json!(c.below(4))),
        16 | 17 => {
            let (first, second) = (c.below(6), c.below(6));
            put("required", if first == second { json!([NAMES[first]]) } else { json!([NAMES[first], NAMES[second]]) });
        }
        18..=22 => {
            let inner: Map<String, Value> = (0..=c.below(3))
                .map(|_| (NAMES[c.below(6)].to_owned(), subschema(c, depth - 1, Place::Inner)))
                .collect();
            put("properties", Value::Object(inner));
        }
        23 | 24 => put(
            "additionalProperties",
            if c.below(2) == 0 { json!(false) } else { subschema(c, depth - 1, Place::Inner) },
        ),
        25 => {
            let inner: Map<String, Value> = (0..=c.below(2))
                .map(|_| (PATTERNS[c.below(12)].to_owned(), subschema(c, depth - 1, Place::Inner)))
                .collect();
            put("patternProperties", Value::Object(inner));
        }
        26 => put("propertyNames", subschema(c, depth - 1, Place::Definition)),
        27 => put("dependentRequired", json!({ NAMES[c.below(6)]: [NAMES[c.below(6)]] })),
        28 => {
            let inner = subschema(c, depth - 1, place);
            put("dependentSchemas", json!({ NAMES[c.below(6)]: inner }));
        }
        29 | 30 => put("items", subschema(c, depth - 1, Place::Inner)),
        31 => {
            put("prefixItems", Value::Array((0..=c.below(2)).map(|_| subschema(c, depth - 1, Place::Inner)).collect()));
        }
        32 => {
            let inner = subschema(c, depth - 1, Place::Inner);
            put("contains", inner);
            let bound = match (c.below(3), c.below(3)) {
                (0, _) => Some("minContains"),
                (_, 0) => Some("maxContains"),
                _ => None,
            };
            if let Some(bound) = bound {
                members.insert(bound.to_owned(), json!(c.below(3)));
            }
        }
        33 | 34 => put("allOf", branches(c, depth, place)),
        35 | 36 => put("anyOf", branches(c, depth, place)),
        37 | 38 => put("oneOf", branches(c, depth, place)),
        39 | 40 => put("not", subschema(c, depth - 1, place)),
        41 => {
            let condition = subschema(c, depth - 1, place);
            put("if", condition);
            if c.below(4) != 0 {
                members.insert("then".to_owned(), subschema(c, depth - 1, place));
            }
            if c.below(2) == 0 {
                members.insert("else".to_owned(), subschema(c, depth - 1, place));
            }
        }
        42 => put(
            "unevaluatedProperties",
            if c.below(2) == 0 { json!(false) } else { subschema(c, depth - 1, Place::Inner) },
        ),
        _ => {
            put("unevaluatedItems", if c.below(2) == 0 { json!(false) } else { subschema(c, depth - 1, Place::Inner) });
        }
    }
}

fn branches(c: &mut impl Choices, depth: usize, place: Place) -> Value {
    Value::Array((0..=c.below(3)).map(|_| subschema(c, depth - 1, place)).collect())
}

/// A value of at most `depth` nested containers.
pub fn value(c: &mut impl Choices, depth: usize) -> Value {
    match c.below(if depth == 0 { 8 } else { 14 }) {
        0 => Value::Null,
        1 => Value::Bool(c.below(2) == 0),
        2..=4 => number(NUMBERS[c.below(16)]),
        5..=7 => json!(STRINGS[c.below(10)]),
        8..=10 => Value::Array((0..c.below(4)).map(|_| value(c, depth - 1)).collect()),
        _ => Value::Object((0..c.below(4)).map(|_| (NAMES[c.below(6)].to_owned(), value(c, depth - 1))).collect()),
    }
}
