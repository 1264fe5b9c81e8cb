//! What is made in natural style: like what a person writes, valid, and never nothing where something is valid.
use serde_json::{Value, json};

use super::{Engine, accepts, vocab};
use crate::constraint::{Settings, Tables};
use crate::grammar::{GrammarSource, Options, Style};

/// Which of some texts a schema takes in a style.
fn takes(schema: &Value, style: Style, texts: &[&str]) -> Vec<bool> {
    let source = GrammarSource::JsonSchema(schema.clone());
    let engine = Engine::compile(&source, &Options { style }, Tables::new(vocab()), Settings::default());
    let engine = engine.unwrap_or_else(|error| panic!("{schema}: {error}"));
    texts.iter().map(|text| accepts(&engine, text)).collect()
}

/// What is like and unlike a person; all of it is valid.
fn natural(schema: Value, like: &[&str], unlike: &[&str]) {
    for (texts, expected) in [(like, true), (unlike, false)] {
        let found = takes(&schema, Style::Natural, texts);
        for (text, found) in texts.iter().zip(found) {
            assert_eq!(found, expected, "{text} under {schema}");
        }
        assert!(takes(&schema, Style::Any, texts).iter().all(|&valid| valid), "{schema} allows {texts:?}");
    }
}

#[test]
fn numbers_have_few_digits() {
    let number = |more: Value| {
        let mut schema = json!({"type": "number"});
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        schema
    };
    natural(
        number(json!({"minimum": 0, "maximum": 1})),
        &["0", "1", "0.5", "0.25", "0.8375", "0.00", "1.0"],
        &["0.123456789", "1.5e-289", "0.000000000000000", "5e-1", "0.5000"],
    );
    natural(
        number(json!({"exclusiveMinimum": 0, "exclusiveMaximum": 1})),
        &["0.5", "0.0001"],
        &["2.1e-255", "0.00000001"],
    );
    natural(
        number(json!({})),
        &["-12", "3.1416", "1500000", "19.99", "12345.67"],
        &["1.06e+94", "0.000027839193183", "12345678", "123456.789"],
    );
    natural(number(json!({"multipleOf": 0.01})), &["12.09", "0.00", "7"], &["12.0900000000000"]);
    natural(
        number(json!({"minimum": -90, "maximum": 90})),
        &["48.8566", "-0.1278", "90"],
        &["48.8566140000001", "4.8e1"],
    );
    // Bounds that ask for more get more.
    natural(number(json!({"minimum": 0.00012, "maximum": 0.00018})), &["0.00015", "0.0001534"], &["0.000153412345"]);
    natural(number(json!({"minimum": 12_345_678.5})), &["12345678.5", "99999999"], &["1e99"]);
    natural(number(json!({"minimum": 1e40})), &["1e41", "2.5e40"], &[]);
    natural(number(json!({"const": 1.5e-9})), &["1.5e-9"], &[]);
    natural(json!({"type": "integer", "multipleOf": 7}), &["0", "-14", "700"], &["70000000000000", "7000000"]);
    natural(json!({"type": "integer", "minimum": 0}), &["0", "8250000"], &["1767225600"]);
    natural(json!({"type": "integer", "minimum": 1_000_000_000_000u64}), &["1000000000000", "99999999999999"], &[]);
}

#[test]
fn dates_are_written_as_mostly() {
    natural(
        json!({"format": "date-time", "type": "string"}),
        &["\"2024-02-29T08:30:00Z\"", "\"1999-12-31T23:59:59.125+02:00\""],
        &[
            "\"8981-08-15t02:33:43z\"",
            "\"1990-12-31T23:59:60Z\"",
            "\"2024-01-01T00:00:00.12Z\"",
            "\"2024-01-01T00:00:00+08:52\"",
        ],
    );
    natural(json!({"format": "date", "type": "string"}), &["\"2024-02-29\""], &["\"0001-01-01\""]);
    natural(json!({"format": "time", "type": "string"}), &["\"08:30:00Z\""], &["\"08:30:00z\""]);
    natural(
        json!({"format": "duration", "type": "string"}),
        &["\"P3D\"", "\"PT1H30M\"", "\"P1Y2M10DT2H30M\""],
        &["\"P12345D\"", "\"PT0012S\"", "\"P315Y\""],
    );
    natural(
        json!({"anyOf": [{"format": "date", "type": "string"}, {"type": "null"}]}),
        &["\"2024-02-29\"", "null"],
        &["\"0001-01-01\""],
    );
    // What is listed, or asked for by something else, is meant.
    natural(json!({"format": "date", "enum": ["0001-01-01", "2024-02-29"]}), &["\"0001-01-01\""], &[]);
    natural(json!({"format": "date-time", "type": "string", "pattern": "^0800"}), &["\"0800-01-01t00:00:00z\""], &[]);
}

#[test]
fn objects_that_name_members_are_closed() {
    let named = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    natural(named.clone(), &["{\"a\": 1}"], &["{\"a\": 1, \"b\": 2}"]);
    let with = |more: Value| {
        let mut schema = named.clone();
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        schema
    };
    for more in [
        json!({"additionalProperties": true}),
        json!({"additionalProperties": {"type": "integer"}}),
        json!({"patternProperties": {"^b": {}}}),
        json!({"propertyNames": {"maxLength": 3}}),
        json!({"unevaluatedProperties": true}),
        json!({"minProperties": 2}),
    ] {
        natural(with(more), &["{\"a\": 1, \"b\": 2}"], &[]);
    }
    natural(json!({"type": "object"}), &["{}", "{\"b\": 2}"], &[]);
    natural(with(json!({"required": ["a", "c"]})), &["{\"a\": 1, \"c\": 2}"], &["{\"a\": 1, \"c\": 2, \"d\": 2}"]);
    // One part of a schema closes none of the others, and says for all of them that more may come.
    let inherited = json!({
        "$defs": {"base": {"type": "object", "properties": {"thought": {"type": "integer"}}}},
        "allOf": [{"$ref": "#/$defs/base"}],
        "properties": {"answer": {"type": "integer"}}
    });
    natural(inherited.clone(), &["{\"thought\": 1, \"answer\": 2}"], &["{\"thought\": 1, \"b\": 2}"]);
    let mut spoken = inherited;
    spoken["allOf"][0] = json!({"properties": {"thought": {}}, "additionalProperties": true});
    natural(spoken, &["{\"thought\": 1, \"b\": 2}"], &[]);
    let closed = json!({
        "allOf": [{"properties": {"a": {"type": "integer"}}}], "properties": {"b": {"type": "integer"}},
        "unevaluatedProperties": false
    });
    natural(closed, &["{\"a\": 1, \"b\": 2}"], &[]);
}

#[test]
fn further_members_do_not_begin_like_named_ones() {
    let named = |more: Value| {
        let mut schema =
            json!({"type": "object", "properties": {"age": {"type": "integer"}, "name": {"type": "integer"}}});
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        schema
    };
    natural(
        named(json!({"additionalProperties": {"type": "integer"}})),
        &["{\"name\": 1, \"town\": 2}", "{\"age\": 1, \"name\": 1, \"nam\": 2}"],
        &["{\"name\": 1, \"age12\": 2}", "{\"nameThon\": 1}"],
    );
    // Where none other may come, those are meant.
    let alike = json!({"patternProperties": {"^age": {"type": "integer"}}, "additionalProperties": false});
    natural(named(alike), &["{\"age\": 1, \"age12\": 2}"], &[]);
    natural(
        named(json!({"additionalProperties": true, "minProperties": 2, "maxProperties": 2})),
        &["{\"age\": 1, \"age12\": 2}"],
        &[],
    );
}

#[test]
fn inherited_members_come_first() {
    let schema = json!({
        "properties": {"answer": {"type": "integer"}},
        "allOf": [{"properties": {"thought": {"type": "integer"}}, "required": ["thought"]}],
        "required": ["answer"]
    });
    let texts = ["{\"thought\": 1, \"answer\": 2}", "{\"answer\": 2, \"thought\": 1}"];
    assert_eq!(takes(&schema, Style::Natural, &texts), [true, false]);
}
