//! Which places in a schema are schemas: what stands under a keyword that holds some, or where a reference leads. What
//! stands elsewhere (`enum`, `example`, `x-…`) looks like a schema at most.

use rustc_hash::FxHashSet;
use serde_json::Value;

use super::pointer_step;
use super::resolve::percent_decode;

/// A schema inside another one.
pub(super) struct Place<'a> {
    /// From the root, as a JSON pointer.
    pub pointer: String,
    /// What stands there.
    pub schema: &'a Value,
    /// Which of the places before it holds it; the root holds itself.
    pub parent: usize,
}

/// Shows every schema of a document, in no order. Keywords of all drafts count: one that this draft does not have holds
/// schemas for references at most.
pub(super) fn visit<'a>(document: &'a Value, show: &mut dyn FnMut(&'a Value)) {
    let mut left = vec![document];
    let mut referred: FxHashSet<&str> = FxHashSet::default();
    while let Some(schema) = left.pop() {
        show(schema);
        let Value::Object(members) = schema else { continue };
        for (key, value) in members {
            below(key, value, &mut |_, inner| left.push(inner));
        }
        // Where no keyword leads, as `#/components/schemas/…`.
        if let Some(pointer) = reference(schema)
            && !is_under_keywords(pointer)
            && referred.insert(pointer)
        {
            left.extend(document.pointer(&percent_decode(pointer)));
        }
    }
}

/// All schemas of a document with their places, each behind the one that it stands in; those that only references find
/// come last, as the root's.
pub(super) fn schemas(document: &Value) -> Vec<Place<'_>> {
    let mut places = vec![Place { pointer: String::new(), schema: document, parent: 0 }];
    let mut referred: FxHashSet<&str> = FxHashSet::default();
    let mut others: Vec<&str> = Vec::new();
    let mut at = 0;
    loop {
        while let Some(&Place { ref pointer, schema, .. }) = places.get(at) {
            let mut found = Vec::new();
            for (key, value) in schema.as_object().into_iter().flatten() {
                below(key, value, &mut |step, inner| {
                    let pointer = format!("{pointer}/{}", pointer_step(key));
                    let pointer =
                        if let Some(step) = step { format!("{pointer}/{}", pointer_step(step)) } else { pointer };
                    found.push(Place { pointer, schema: inner, parent: at });
                });
            }
            others.extend(reference(schema).filter(|pointer| !is_under_keywords(pointer) && referred.insert(pointer)));
            places.extend(found);
            at += 1;
        }
        let Some(pointer) = others.pop() else { return places };
        let pointer = percent_decode(pointer);
        places.extend(document.pointer(&pointer).map(|schema| Place { pointer: pointer.clone(), schema, parent: 0 }));
    }
}

/// The pointer of a reference into the document at hand.
fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix('#').filter(|pointer| pointer.starts_with('/'))
}

/// Whether a pointer leads from the root through keywords alone.
fn is_under_keywords(pointer: &str) -> bool {
    let mut steps = pointer.split('/').skip(1);
    while let Some(step) = steps.next() {
        let is_index = |step: &str| step.bytes().all(|byte| byte.is_ascii_digit());
        let leads = match step {
            _ if MAPS.contains(&step) => steps.next().is_some(),
            "items" => steps.clone().next().is_none_or(|next| !is_index(next) || steps.next().is_some()),
            _ if LISTS.contains(&step) => steps.next().is_some_and(is_index),
            _ => SINGLE.contains(&step),
        };
        if !leads {
            return false;
        }
    }
    true
}

const MAPS: &[&str] = &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
const LISTS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const SINGLE: &[&str] = &[
    "items",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "contentSchema",
    "not",
    "if",
    "then",
    "else",
];

/// The schemas that `value` holds under the keyword `key`, with the step below it that leads to each.
fn below<'a>(key: &str, value: &'a Value, found: &mut dyn FnMut(Option<&str>, &'a Value)) {
    match value {
        Value::Object(members) if MAPS.contains(&key) => {
            // A list among `dependencies` names members.
            members.iter().filter(|(_, inner)| !inner.is_array()).for_each(|(name, inner)| found(Some(name), inner));
        }
        Value::Array(list) if LISTS.contains(&key) => {
            list.iter().enumerate().for_each(|(at, inner)| found(Some(&at.to_string()), inner));
        }
        Value::Object(_) | Value::Bool(_) if SINGLE.contains(&key) => found(None, value),
        _ => {}
    }
}
