//! Schemas that are hard on engines by their size alone, with instances, as benchmark files.

use serde_json::{Map, Value, json};

use super::input::BenchFile;

/// One file for each extreme: a long string, many optional members, a large enum, deep recursion, a pattern whose
/// deterministic automaton has 2^14 states.
pub(crate) fn files() -> Vec<BenchFile> {
    let long =
        |length: usize| Value::from("lorem ipsum dolor sit amet, ".chars().cycle().take(length).collect::<String>());
    let integers = |names: &mut dyn Iterator<Item = usize>| {
        Value::from(names.map(|i| (format!("member{i}"), json!(i))).collect::<Map<String, Value>>())
    };
    let optional: Map<String, Value> = (0..400).map(|i| (format!("member{i}"), json!({ "type": "integer" }))).collect();
    let choices: Vec<String> =
        (0..10_000_u32).map(|i| format!("choice-{:05}-{i}", i.wrapping_mul(7919) % 100_003)).collect();
    let nested = |depth: usize, leaf: Value| {
        (0..depth).fold(leaf, |inner, level| json!({ "name": format!("level {level}"), "children": [inner] }))
    };
    let node = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "children": { "type": "array", "items": { "$ref": "#/$defs/node" } },
        },
        "required": ["name"],
        "additionalProperties": false,
    });
    vec![
        file(
            "maxLength 100000",
            &json!({ "type": "string", "maxLength": 100_000 }),
            &[(true, json!("")), (true, long(2_000)), (true, long(100_000)), (false, long(100_001))],
        ),
        file(
            "400 optional members",
            &json!({ "type": "object", "properties": optional, "additionalProperties": false }),
            &[
                (true, json!({})),
                (true, integers(&mut (0..400))),
                (true, integers(&mut (0..400).step_by(3))),
                (false, integers(&mut (0..401))),
                (false, json!({ "member1": 1, "member399": "1" })),
            ],
        ),
        file(
            "enum of 10,000",
            &json!({ "type": "array", "items": { "enum": choices } }),
            &[
                (true, json!(choices[..200])),
                (true, json!([choices[9_999], choices[0]])),
                (false, json!(["choice-00000-1"])),
            ],
        ),
        file(
            "recursion of depth 64",
            &json!({ "$ref": "#/$defs/node", "$defs": { "node": node } }),
            &[
                (true, nested(64, json!({ "name": "leaf" }))),
                (false, nested(64, json!({ "children": [] }))),
                (false, nested(64, json!({ "name": 1 }))),
            ],
        ),
        file(
            "[ab]*a[ab]{13}",
            &json!({ "type": "string", "pattern": "^[ab]*a[ab]{13}$" }),
            &[
                (true, json!("abbabaabbabbaababbaabababbabbbabaabaabbaabbababab")),
                (true, json!("aaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
                (false, json!("bbbbbbbbbbbbbbbbbbbb")),
            ],
        ),
    ]
}

fn file(name: &str, schema: &Value, tests: &[(bool, Value)]) -> BenchFile {
    let tests: Vec<Value> = tests.iter().map(|(valid, data)| json!({ "valid": valid, "data": data })).collect();
    BenchFile { name: name.to_owned(), text: json!({ "name": name, "schema": schema, "tests": tests }).to_string() }
}
