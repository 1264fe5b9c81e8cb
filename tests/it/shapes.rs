//! The engine's verdicts against the `jsonschema` crate over random small schemas; sources that are hard by their form;
//! what is refused, and where.

use crate::support::oracle;
use crate::support::schema_gen;
use crate::support::session;
use crate::support::walk;

use instil_grammar::constraint::Whitespace;
use instil_grammar::grammar::automaton::{Automaton, DEAD};
use instil_grammar::grammar::language::Languages;
use instil_grammar::grammar::pattern::{Dialect, Pattern};
use instil_grammar::grammar::{GrammarSource, Options, Program, Style};
use serde_json::Value;
use session::Engines;

fn options() -> Options {
    Options { style: Style::Any }
}

/// Whether the engine takes each value as text; `None` when it refuses the schema.
fn verdicts(engines: &Engines, schema: &Value, values: &[Value]) -> Option<Vec<bool>> {
    let engine = engines.of(schema, Style::Any, Whitespace::Compact).ok()?;
    Some(values.iter().map(|value| engines.takes(&engine, &value.to_string())).collect())
}

#[test]
fn sessions_agree_with_the_oracle_on_random_schemas() {
    let engines = Engines::new();
    let count: u64 = std::env::var("INSTIL_SCHEMAS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000);
    let mut wrong = Vec::new();
    for seed in 0..count {
        let mut random = walk::Rng::new(seed);
        let schema = schema_gen::schema(&mut random, 3);
        let Ok(validator) = oracle::current(&schema) else { continue };
        let values: Vec<Value> = (0..16).map(|_| schema_gen::value(&mut random, 3)).collect();
        let found = verdicts(&engines, &schema, &values).unwrap_or_else(|| vec![false; values.len()]);
        for (value, found) in values.iter().zip(found) {
            if validator.is_valid(value) != found {
                wrong.push(format!("seed {seed}: {schema}\n    {value} should be valid: {}", !found));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
}

#[test]
fn hostile_sources_end_soon() {
    let start = std::time::Instant::now();
    for regex in [
        "(a{1000}){1000}",
        "((a{0,1000}){0,1000}){0,1000}",
        "[ab]*a[ab]{13}",
        "(x+x+)+y",
        "(a|aa)+$",
        "((((a*)*)*)*)*b",
        "^(?=.*a)(?=.*b)(?=.*c)(?=.*d)(?=.*[0-9]).{8,64}$",
        "(a?){200}a{200}",
        "\\p{L}{1,5000}",
        "^(?=.*[A-Z])(?=.*[0-9]).{5666,}$",
        "b|(?=(a{71})+$)(?=(a{67})+$)(?!(a{4757})+$)a*",
    ] {
        let mut languages = Languages::new();
        let pattern = Pattern::parse(regex, Dialect::Own).expect(regex);
        let language = pattern.language(&mut languages).expect(regex);
        let mut automaton = Automaton::new();
        let first = automaton.state(&mut languages, language);
        let mut state = first;
        for byte in b"aabbaabbaabbaabbcd0000000000".iter().cycle().take(400) {
            state = match automaton.row(&mut languages, state)[usize::from(*byte)] {
                DEAD => first,
                next => next,
            };
        }
        assert!(start.elapsed().as_secs() < 20, "{regex}");
    }
    let engines = Engines::new();
    let mut deep = serde_json::json!({"type": "integer"});
    for _ in 0..100 {
        deep = serde_json::json!({"properties": {"a": deep}, "required": ["a"]});
    }
    let many: serde_json::Map<String, Value> =
        (0..400).map(|at| (format!("property{at}"), serde_json::json!({"type": "string"}))).collect();
    let words: Vec<String> = (0..10_000).map(|at| format!("word number {at}")).collect();
    for schema in [
        deep,
        serde_json::json!({"properties": many}),
        serde_json::json!({"enum": words}),
        serde_json::json!({"maxLength": 100_000, "pattern": "^[a-z]*$"}),
        serde_json::json!({"items": {"$ref": "#"}, "maxItems": 3}),
        serde_json::json!({"oneOf": (0..60).map(|at| serde_json::json!({"required": [format!("k{at}")]})).collect::<Vec<_>>()}),
        serde_json::json!({"allOf": (0..24).map(|at| serde_json::json!({
            "if": {"properties": {format!("k{at}"): {"const": at}}}, "then": {"required": [format!("r{at}")]}
        })).collect::<Vec<_>>()}),
        serde_json::json!({"allOf": (0..24).map(|at| serde_json::json!({
            "anyOf": [{"required": [format!("a{at}")]}, {"required": [format!("b{at}")]}]
        })).collect::<Vec<_>>()}),
    ] {
        let start = std::time::Instant::now();
        let found = verdicts(&engines, &schema, &[serde_json::json!({}), serde_json::json!("word number 77")]);
        assert!(found.is_some());
        assert!(start.elapsed().as_secs() < 5, "{}", &schema.to_string()[..80]);
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (schema, pointer) in [
        (serde_json::json!({"properties": {"a": {"$ref": "https://example.com/x.json"}}}), "/properties/a/$ref"),
        (serde_json::json!({"$ref": "#/nowhere"}), "/$ref"),
        (serde_json::json!({"items": {"pattern": "(a)\\1"}}), "/items/pattern"),
        (serde_json::json!({"items": {"minLength": "x"}}), "/items/minLength"),
        (serde_json::json!({"anyOf": [{"$ref": "#"}]}), ""),
        (serde_json::json!({"type": "string", "minLength": 3, "maxLength": 2}), ""),
        (serde_json::json!({"type": "object", "required": ["a"], "properties": {"a": {"enum": []}}}), "/properties/a"),
    ] {
        let error = Program::compile(&GrammarSource::JsonSchema(schema.clone()), &options()).expect_err("refused");
        match error {
            instil_grammar::Error::Grammar { pointer: found, .. } => assert_eq!(found, pointer, "{schema}"),
            other => panic!("{other}"),
        }
    }
}
